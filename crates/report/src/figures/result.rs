//! The first figure: the accuracy of the nets that the report is about.

use curves::{Area, DrawError, FIRST, INK, SECOND};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::style::{diamond, font, rows_mesh};
use crate::facts::Facts;
use crate::runs::RunFacts;

/// The longest bar of the first figure that has no room for its number.
const SHORT: f64 = 0.25;
/// Height of the legend of the first figure, in pixels.
const LEGEND: u32 = 24;

/// A net of the figure.
struct Shown<'s> {
    english: &'s str,
    japanese: &'s str,
    run: &'s RunFacts,
    published: Option<f64>,
}

/// The nets that the report is about.
fn shown(facts: &Facts) -> Vec<Shown<'_>> {
    let net =
        |run, english, japanese, published| Some(Shown { english, japanese, run: run?, published });
    if let Some(sequences) = facts.sequences.as_ref().filter(|_| facts.is_newer()) {
        let best = sequences.best_architecture();
        let name = best.map_or("", |run| &run.node);
        let all = [
            net(sequences.run("train.mean"), "mean of embeddings", "埋め込みの平均", None),
            net(sequences.run("train.finetuned"), "fine-tuned", "ファインチューニング", None),
            net(best, name, name, None),
        ];
        return all.into_iter().flatten().collect();
    }
    let published = facts.published.as_ref();
    let (slp, mlp) = (published.map(|p| p.slp[1]), published.map(|p| p.mlp[1]));
    let all = [
        net(facts.slp.as_ref(), "single-layer net", "単層ニューラルネットワーク", slp),
        net(facts.mlp.as_ref(), "multi-layer net", "多層ニューラルネットワーク", mlp),
        net(facts.best.as_ref(), "train.best", "train.best", None),
    ];
    all.into_iter().flatten().collect()
}

/// How many bars the figure has room for.
pub fn count(facts: &Facts) -> usize {
    // Two nets have their places in any case.
    1 + shown(facts).len().max(2)
}

/// Draws a bar for each net, its 95 % interval as a line, and a published figure as a diamond.
pub fn draw(area: &Area<'_>, facts: &Facts, ja: bool) -> Result<(), DrawError> {
    let interval = |run: &RunFacts| run.intervals.get(facts.part).copied();
    let published = facts.published.as_ref();
    let mut bars = vec![(facts.majority, None, None)];
    let mut names = vec![if ja { "常に最頻カテゴリ" } else { "most frequent category" }];
    for Shown { english, japanese, run, published } in shown(facts) {
        names.push(if ja { japanese } else { english });
        bars.push((run.accuracy(facts.part), interval(run), published));
    }
    let last = bars.len() - 1;
    // The legend is below the chart, where it covers no bar.
    let (above, legend) = area.split_vertically(area.dim_in_pixel().1.saturating_sub(LEGEND));
    let mut chart = ChartBuilder::on(&above)
        .margin(8)
        .margin_right(56)
        .x_label_area_size(48)
        .y_label_area_size(206)
        .build_cartesian_2d(0.0..1.0, (0..last).into_segmented())?;
    let title = match (facts.part, ja) {
        ("test", false) => "accuracy on test",
        ("test", true) => "評価データの正解率",
        (_, false) => "accuracy on valid",
        (_, true) => "検証データの正解率",
    };
    rows_mesh(&mut chart, &names, title, &|x| format!("{:.0} %", x * 100.0))?;
    for (i, (value, interval, published)) in bars.into_iter().enumerate() {
        let mut bar = Rectangle::new(
            [(0.0, SegmentValue::Exact(i)), (value, SegmentValue::Exact(i + 1))],
            FIRST.mix(0.35).filled(),
        );
        bar.set_margin(9, 9, 0, 0);
        chart.draw_series([bar])?;
        let middle = SegmentValue::CenterOf(i);
        let percent = |value: f64| format!("{:.1} %", value * 100.0);
        let left = interval.map_or(value, |(low, _)| low);
        if let Some((low, high)) = interval {
            chart.draw_series([PathElement::new(
                [(low, middle.clone()), (high, middle.clone())],
                INK.stroke_width(3),
            )])?;
        }
        if let Some(published) = published {
            let text = Text::new(
                percent(published),
                (12, -8),
                ("sans-serif", 15).into_font().color(&SECOND),
            );
            chart.draw_series([EmptyElement::at((published, middle.clone()))
                + diamond((0, 0))
                + text])?;
        }
        // The number is inside the bar, so that it is not taken for the published figure; a bar that
        // is too short for it has it beside its interval.
        let inside = left > SHORT;
        let (at, offset, align) = if inside {
            (left, -10, HPos::Right)
        } else {
            (interval.map_or(value, |(_, high)| high), 8, HPos::Left)
        };
        let style = font(16).pos(Pos::new(align, VPos::Center));
        chart.draw_series([
            EmptyElement::at((at, middle)) + Text::new(percent(value), (offset, 0), style)
        ])?;
    }
    let centred = font(14).pos(Pos::new(HPos::Left, VPos::Center));
    let y = 10;
    legend.draw(&PathElement::new([(216, y), (238, y)], INK.stroke_width(3)))?;
    legend.draw(&Text::new(
        if ja { "95 %信頼区間" } else { "95 % interval" },
        (246, y),
        centred.clone(),
    ))?;
    if published.is_some() {
        legend.draw(&diamond((372, y)))?;
        legend.draw(&Text::new(if ja { "公開解答" } else { "published" }, (384, y), centred))?;
    }
    Ok(())
}
