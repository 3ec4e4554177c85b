//! The figure that shows whether a net's probabilities fit: the accuracy of its predictions by their
//! probability. Points on the diagonal fit; those below it are too sure.

use curves::{Area, DrawError, FIRST, INK};
use plotters::element::DashedPathElement;
use plotters::prelude::*;

use super::style::mesh;
use comparison::Calibration;

/// Width and height, in pixels.
pub const SIZE: (u32, u32) = (420, 320);

/// Draws a dot for each bin, the larger the more predictions it has.
#[expect(clippy::cast_possible_truncation, reason = "a few pixels")]
pub fn draw(area: &Area<'_>, calibration: &Calibration, ja: bool) -> Result<(), DrawError> {
    let lowest = calibration.bins.iter().map(|bin| bin.low).fold(1.0, f64::min);
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        .margin_right(24)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(lowest..1.0, 0.0..1.0)?;
    mesh(&mut chart)
        .x_desc(if ja { "予測確率" } else { "probability" })
        .y_desc(if ja { "正解率" } else { "accuracy" })
        .x_labels(6)
        .y_labels(6)
        .x_label_formatter(&|x| format!("{x:.2}"))
        .y_label_formatter(&|y| format!("{:.0} %", y * 100.0))
        .draw()?;
    let ends = [(lowest, lowest), (1.0, 1.0)];
    chart.draw_series([DashedPathElement::new(ends, 5, 4, INK.stroke_width(1))])?;
    let points = || calibration.bins.iter().map(|bin| (bin.probability, bin.accuracy));
    chart.draw_series(LineSeries::new(points(), FIRST.stroke_width(2)))?;
    let most = calibration.bins.iter().map(|bin| bin.n).max().unwrap_or(1) as f64;
    chart.draw_series(calibration.bins.iter().map(|bin| {
        let radius = 2.0 + 6.0 * (bin.n as f64 / most).sqrt();
        Circle::new((bin.probability, bin.accuracy), radius.round() as i32, FIRST.filled())
    }))?;
    Ok(())
}
