//! The figure that compares runs: each run's accuracy with its interval, the best on valid on top.

use curves::{Area, DrawError, FIRST, SECOND};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::style::{diamond, font, rows_mesh};
use crate::runs::ComparedRun;

/// The figure shows at most this many runs, to stay readable; the table has all of them.
pub const MOST: usize = 30;
/// Pixels of a run, of the axis below the runs, and of the legend below the axis.
const ROW: u32 = 34;
const AXIS: u32 = 66;
const LEGEND: u32 = 26;
const WIDTH: u32 = 640;
/// The room for names has this many letters.
const LETTERS: usize = 36;

/// Width and height of the figure for `runs` runs, in pixels.
pub fn size(runs: usize) -> (u32, u32) {
    (WIDTH, u32::try_from(runs.clamp(1, MOST)).unwrap_or(1) * ROW + AXIS + LEGEND)
}

/// A name that fits: of a longer one the end, where the runs of a matrix differ.
fn shortened(name: &str) -> String {
    let too_many = name.chars().count().saturating_sub(LETTERS);
    if too_many == 0 {
        return name.to_owned();
    }
    format!("…{}", name.chars().skip(too_many + 1).collect::<String>())
}

/// Draws a dot for valid and a diamond for test, each on its 95 % interval.
pub fn draw(area: &Area<'_>, runs: &[ComparedRun], ja: bool) -> Result<(), DrawError> {
    let shown: Vec<&ComparedRun> = runs.iter().take(MOST).collect();
    if shown.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = shown
        .iter()
        .rev()
        .map(|run| shortened(run.node.strip_prefix("train.").unwrap_or(&run.node)))
        .collect();
    let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let label = u32::try_from(longest).unwrap_or(u32::MAX).saturating_mul(8).clamp(60, 300);
    let ends =
        shown.iter().flat_map(|run| run.intervals.values()).flat_map(|(low, high)| [*low, *high]);
    let (low, high) = ends.fold((1.0_f64, 0.0_f64), |(low, high), x| (low.min(x), high.max(x)));
    let room = ((high - low) * 0.06).max(0.005);
    let (above, legend) = area.split_vertically(area.dim_in_pixel().1.saturating_sub(LEGEND));
    let mut chart = ChartBuilder::on(&above)
        .margin(8)
        .margin_right(24)
        .x_label_area_size(46)
        .y_label_area_size(label)
        .build_cartesian_2d(low - room..high + room, (0..shown.len() - 1).into_segmented())?;
    let title = if ja { "正解率" } else { "accuracy" };
    rows_mesh(&mut chart, &names, title, &|x| format!("{:.1} %", x * 100.0))?;
    for (i, run) in shown.iter().rev().enumerate() {
        let middle = SegmentValue::CenterOf(i);
        for (part, offset) in [("valid", -6), ("test", 6)] {
            let (Some(&(low, high)), Some(score)) = (run.intervals.get(part), run.scores.get(part))
            else {
                continue;
            };
            let [left, right, value] =
                [low, high, score.accuracy].map(|x| chart.backend_coord(&(x, middle.clone())));
            let style =
                if part == "valid" { FIRST.stroke_width(2) } else { SECOND.stroke_width(2) };
            let place = |(x, y): (i32, i32)| (x, y + offset);
            above.draw(&PathElement::new([place(left), place(right)], style))?;
            if part == "valid" {
                above.draw(&Circle::new(place(value), 5, FIRST.filled()))?;
            } else {
                above.draw(&diamond(place(value)))?;
            }
        }
    }
    let text = font(14).pos(Pos::new(HPos::Left, VPos::Center));
    let (x, y) = (i32::try_from(label).unwrap_or(0) + 8, 10);
    legend.draw(&PathElement::new([(x, y), (x + 28, y)], FIRST.stroke_width(2)))?;
    legend.draw(&Circle::new((x + 14, y), 5, FIRST.filled()))?;
    legend.draw(&Text::new(if ja { "検証データ" } else { "valid" }, (x + 36, y), text.clone()))?;
    let x = x + 130;
    legend.draw(&PathElement::new([(x, y), (x + 28, y)], SECOND.stroke_width(2)))?;
    legend.draw(&diamond((x + 14, y)))?;
    legend.draw(&Text::new(if ja { "評価データ" } else { "test" }, (x + 36, y), text))?;
    Ok(())
}
