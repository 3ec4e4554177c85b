//! What a linear run goes by, and how its descent went.

use std::cmp::Reverse;

use curves::{Area, DrawError, FIRST};
use plotters::prelude::*;
use schema::StrongFeature;

use super::style::{mesh, rows_mesh};
use crate::facts::Facts;
use crate::runs::RunFacts;

/// Width and height of a category's figure, in pixels.
pub const SIZE: (u32, u32) = (400, 330);
/// Those of the figure of the passes.
pub const PASSES: (u32, u32) = (500, 260);
/// The most categories that have a figure, those with the most headlines.
const CATEGORIES: usize = 6;
/// How many features a figure shows.
const SHOWN: usize = 10;
/// A name is not longer than this.
const LETTERS: usize = 20;

/// The categories to show, in label order, with their strongest features: words, or n-grams of
/// characters where there are no words.
pub fn shown(facts: &Facts, run: &RunFacts) -> Vec<(usize, Vec<StrongFeature>)> {
    let rows = facts.rows_of_train();
    let mut labels: Vec<usize> = (0..run.strongest.len()).collect();
    labels.sort_by_key(|&label| Reverse(rows.get(label).copied().unwrap_or(0)));
    labels.truncate(CATEGORIES);
    labels.sort_unstable();
    let of = |label: usize| {
        let all = run.strongest.get(label)?;
        let block = &all.first()?.block;
        Some((label, all.iter().filter(|of| of.block == *block).take(SHOWN).cloned().collect()))
    };
    labels.into_iter().filter_map(of).collect()
}

/// Draws a bar for each feature of a category.
pub fn draw(
    area: &Area<'_>,
    category: &str,
    features: &[StrongFeature],
    ja: bool,
) -> Result<(), DrawError> {
    if features.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = features.iter().map(|feature| name(&feature.ngram)).collect();
    let most = features.iter().map(|feature| f64::from(feature.contribution)).fold(0.0, f64::max);
    // The strongest is on top.
    let names: Vec<String> = names.into_iter().rev().collect();
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .margin_right(20)
        .x_label_area_size(44)
        .y_label_area_size(150)
        .build_cartesian_2d(0.0..most * 1.05, (0..features.len() - 1).into_segmented())?;
    let title = if ja {
        format!("{category} のマージンへの寄与")
    } else {
        format!("contribution to the margin of {category}")
    };
    rows_mesh(&mut chart, &names, &title, &|x| format!("{x:.3}"))?;
    for (i, feature) in features.iter().rev().enumerate() {
        let mut bar = Rectangle::new(
            [
                (0.0, SegmentValue::Exact(i)),
                (f64::from(feature.contribution), SegmentValue::Exact(i + 1)),
            ],
            FIRST.mix(0.35).filled(),
        );
        bar.set_margin(4, 4, 0, 0);
        chart.draw_series([bar])?;
    }
    Ok(())
}

/// An n-gram as a name: spaces at its ends are shown, and a long one is cut.
fn name(ngram: &str) -> String {
    let shown = |c: char| if c.is_control() { ' ' } else { c };
    let mut text: String = ngram.chars().take(LETTERS).map(shown).collect();
    if ngram.chars().count() > LETTERS {
        text.push('…');
    }
    if text.starts_with(' ') || text.ends_with(' ') {
        text = text.replace(' ', "␣");
    }
    text
}

/// Draws the largest violation of each pass, on a logarithmic axis.
pub fn passes(area: &Area<'_>, run: &RunFacts, ja: bool) -> Result<(), DrawError> {
    let points: Vec<(f64, f64)> = run
        .passes
        .iter()
        .filter(|pass| pass.violation > 0.0 && pass.violation.is_finite())
        .map(|pass| (f64::from(pass.epoch), pass.violation))
        .collect();
    let Some(&(last, _)) = points.last() else { return Ok(()) };
    let (low, high) = points
        .iter()
        .fold((f64::INFINITY, 0.0_f64), |(low, high), (_, y)| (low.min(*y), high.max(*y)));
    let decade = |value: f64| 10.0_f64.powf(value.log10().floor());
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .margin_right(24)
        .x_label_area_size(44)
        .y_label_area_size(70)
        .build_cartesian_2d(1.0..last.max(2.0), (decade(low)..decade(high) * 10.0).log_scale())?;
    mesh(&mut chart)
        .x_desc(if ja { "パス" } else { "pass" })
        .y_desc(if ja { "最大の違反量" } else { "largest violation" })
        .x_labels(8)
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_labels(4)
        .y_label_formatter(&|y| format!("{y}"))
        .draw()?;
    chart.draw_series(LineSeries::new(points, FIRST.stroke_width(2)))?;
    Ok(())
}
