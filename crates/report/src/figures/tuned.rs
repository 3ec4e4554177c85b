//! How the accuracy of a tuning's trials depends on an option.

use curves::{Area, DrawError, FIRST};
use plotters::prelude::*;
use schema::Range;

use super::style::{diamond, mesh, short};
use crate::tuned::Tuned;

/// Width and height, in pixels.
pub const SIZE: (u32, u32) = (400, 280);
/// The most values of a list that have a name on the axis.
const NAMED: usize = 6;

/// Draws a point for each trial: the fuller, the more folds it was scored on. The best one is a
/// diamond.
pub fn draw(
    area: &Area<'_>,
    tuned: &Tuned,
    option: &str,
    at: usize,
    ja: bool,
) -> Result<(), DrawError> {
    let Some(range) = tuned.ranges.get(option) else { return Ok(()) };
    // Values of a list stand side by side, at 0, 1, 2 …
    let place = |value: &serde_json::Value| match range {
        Range::Choices(values) => values.iter().position(|of| of == value).map(|at| at as f64),
        Range::Between { log: true, .. } => value.as_f64().filter(|x| *x > 0.0).map(f64::log10),
        Range::Between { .. } => value.as_f64(),
    };
    let ends = match range {
        Range::Choices(values) => -0.5..values.len() as f64 - 0.5,
        Range::Between { min, max, log, .. } => {
            let [low, high] = if *log { [min.log10(), max.log10()] } else { [*min, *max] };
            let room = (high - low) * 0.04;
            low - room..high + room
        }
    };
    let most = tuned.rows.first().map_or(1, |row| row.folds).max(1);
    let mut points: Vec<(f64, f64, f64, bool)> = tuned
        .rows
        .iter()
        .filter(|row| row.folds > 0)
        .filter_map(|row| {
            let x = place(row.values.get(at)?.as_ref()?)?;
            Some((x, row.accuracy, row.folds as f64 / most as f64, row.is_best))
        })
        .collect();
    // The configured value may lie outside of the range.
    let ends =
        points.iter().fold(ends, |ends, point| ends.start.min(point.0)..ends.end.max(point.0));
    // The fullest are drawn last.
    points.reverse();
    let (low, high) = points
        .iter()
        .fold((1.0_f64, 0.0_f64), |(low, high), point| (low.min(point.1), high.max(point.1)));
    if low > high {
        return Ok(());
    }
    let room = ((high - low) * 0.08).max(0.001);
    let decimals = usize::from(high - low < 0.02);
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .margin_right(20)
        .x_label_area_size(44)
        .y_label_area_size(76)
        .build_cartesian_2d(ends, low - room..high + room)?;
    let label = |x: &f64| match range {
        Range::Choices(values) => {
            let near = values.iter().enumerate().find(|(at, _)| (*at as f64 - x).abs() < 1e-6);
            let name = |value: &serde_json::Value| {
                value.as_str().map_or_else(|| value.to_string(), str::to_owned)
            };
            near.map_or_else(String::new, |(_, value)| name(value))
        }
        Range::Between { log: true, .. } => short(10.0_f64.powf(*x)),
        Range::Between { .. } => short(*x),
    };
    // Names stand under their values only if the axis has a mark at each whole number.
    let marks = match range {
        Range::Choices(values) => 2 * values.len().min(NAMED) + 1,
        Range::Between { .. } => 6,
    };
    mesh(&mut chart)
        .x_desc(option)
        .y_desc(if ja { "正解率" } else { "accuracy" })
        .x_labels(marks)
        .x_label_formatter(&label)
        .y_labels(5)
        .y_label_formatter(&|y| format!("{:.decimals$} %", y * 100.0))
        .draw()?;
    for (x, y, share, is_best) in points {
        let place = chart.backend_coord(&(x, y));
        if is_best {
            area.draw(&diamond(place))?;
        }
        area.draw(&Circle::new(place, 4, FIRST.mix(0.2 + 0.8 * share).filled()))?;
    }
    Ok(())
}
