//! Learning curves by the number of training rows.

use curves::{Area, DrawError, FIRST, SECOND};
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::style::{font, mesh, short};
use crate::evaluated::LearningCurve;

/// Width and height, in pixels.
pub const SIZE: (u32, u32) = (560, 340);

/// Draws the curve of a run for each kind of split, with a standard deviation up and down. The curve
/// of whole stories is dashed.
///
/// The axes are those of `all` curves, so that figures can be compared.
pub fn draw(
    area: &Area<'_>,
    curves: &[&LearningCurve],
    all: &[LearningCurve],
    ja: bool,
) -> Result<(), DrawError> {
    let points = || all.iter().flat_map(|curve| &curve.points);
    let log = |rows: usize| (rows.max(1) as f64).log10();
    let (left, right) = points()
        .map(|point| log(point.0))
        .fold((f64::INFINITY, 0.0_f64), |(low, high), x| (low.min(x), high.max(x)));
    let ends = points()
        .flat_map(|(_, of)| [of.mean - of.deviation, of.mean + of.deviation])
        .fold((1.0_f64, 0.0_f64), |(low, high), y| (low.min(y), high.max(y)));
    if left > right || ends.0 > ends.1 {
        return Ok(());
    }
    let room = ((ends.1 - ends.0) * 0.08).max(0.002);
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .margin_right(28)
        .x_label_area_size(46)
        .y_label_area_size(76)
        .build_cartesian_2d(left - 0.05..right + 0.05, ends.0 - room..ends.1 + room)?;
    let rows = |x: &f64| short(10.0_f64.powf(*x));
    mesh(&mut chart)
        .x_desc(if ja { "学習データの件数" } else { "headlines of train" })
        .y_desc(if ja { "正解率" } else { "accuracy" })
        .x_labels(6)
        .x_label_formatter(&rows)
        .y_labels(6)
        .y_label_formatter(&|y| format!("{:.0} %", y * 100.0))
        .draw()?;
    for (number, curve) in curves.iter().enumerate() {
        let color = if number == 0 { FIRST } else { SECOND };
        let line: Vec<(f64, f64)> =
            curve.points.iter().map(|(rows, of)| (log(*rows), of.mean)).collect();
        if number == 0 {
            chart.draw_series(LineSeries::new(line.clone(), color.stroke_width(2)))?;
        } else {
            let dashed = DashedPathElement::new(line.clone(), 6, 4, color.stroke_width(2));
            chart.draw_series([dashed])?;
        }
        for ((x, y), (_, of)) in line.iter().zip(&curve.points) {
            let [low, high] =
                [y - of.deviation, y + of.deviation].map(|y| chart.backend_coord(&(*x, y)));
            area.draw(&PathElement::new([low, high], color.stroke_width(1)))?;
            area.draw(&Circle::new(chart.backend_coord(&(*x, *y)), 4, color.filled()))?;
        }
        let (x, y) = (110, 24 + 20 * i32::try_from(number).unwrap_or(0));
        area.draw(&Circle::new((x, y), 4, color.filled()))?;
        let name = match (curve.split.as_str(), ja) {
            ("random", false) => "random splits",
            ("random", true) => "無作為な分割",
            (_, false) => "whole stories",
            (_, true) => "ストーリー単位の分割",
        };
        let text = font(14).pos(Pos::new(HPos::Left, VPos::Center));
        area.draw(&Text::new(name, (x + 12, y), text))?;
    }
    Ok(())
}
