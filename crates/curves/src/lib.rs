//! Learning curves: figures of a run's history.
//!
//! `train` redraws them while it runs, and `report` shows them when all is done.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use schema::HistoryRow;

/// Why nothing could be drawn.
pub type DrawError = Box<dyn std::error::Error>;

/// A place to draw into.
pub type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Width and height of a figure, in pixels.
pub const SIZE: (u32, u32) = (450, 330);
/// Text and axes.
pub const INK: RGBColor = RGBColor(0x24, 0x29, 0x2f);
/// Lines of the mesh.
pub const GRID: RGBColor = RGBColor(0xd8, 0xde, 0xe4);
/// The first series.
pub const FIRST: RGBColor = RGBColor(0x0b, 0x5c, 0xad);
/// The second series.
pub const SECOND: RGBColor = RGBColor(0xb3, 0x4a, 0x00);
/// The background.
pub const PAPER: RGBColor = RGBColor(0xff, 0xff, 0xff);

/// What a figure shows.
#[derive(Clone, Copy)]
pub enum Curve {
    /// Mean cross-entropy.
    Loss,
    /// Share of right predictions.
    Accuracy,
}

impl Curve {
    /// Both curves, in the order in which a page shows them.
    pub const ALL: [Self; 2] = [Self::Loss, Self::Accuracy];

    /// The name in file names.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::Accuracy => "accuracy",
        }
    }
}

/// The words in a figure.
pub struct FigureWords {
    /// The label of the loss's axis.
    pub loss: &'static str,
    /// The label of the accuracy's axis.
    pub accuracy: &'static str,
    /// The label of the horizontal axis.
    pub epoch: &'static str,
    /// The legend of the training data's curve.
    pub train: &'static str,
    /// The legend of the validation data's curve.
    pub valid: &'static str,
}

/// The words in English.
pub const ENGLISH: FigureWords = FigureWords {
    loss: "loss (mean cross-entropy)",
    accuracy: "accuracy",
    epoch: "epoch",
    train: "train",
    valid: "valid",
};

/// Draws an SVG of `size`.
pub fn svg(
    size: (u32, u32),
    paint: impl FnOnce(&Area<'_>) -> Result<(), DrawError>,
) -> Result<String, DrawError> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        area.fill(&PAPER)?;
        paint(&area)?;
        area.present()?;
    }
    Ok(svg)
}

/// Draws a learning curve of train and valid. Train is solid and valid dashed, so that they can be
/// told apart without colour.
pub fn draw(
    history: &[HistoryRow],
    curve: Curve,
    words: &FigureWords,
) -> Result<String, DrawError> {
    svg(SIZE, |area| panel(area, history, curve, words))
}

/// Draws both curves, side by side in one figure.
pub fn draw_both(history: &[HistoryRow]) -> Result<String, DrawError> {
    svg((2 * SIZE.0, SIZE.1), |area| {
        let halves = area.split_evenly((1, 2));
        halves
            .iter()
            .zip(Curve::ALL)
            .try_for_each(|(half, curve)| panel(half, history, curve, &ENGLISH))
    })
}

fn panel(
    area: &Area<'_>,
    history: &[HistoryRow],
    curve: Curve,
    words: &FigureWords,
) -> Result<(), DrawError> {
    type Value = fn(&HistoryRow) -> f64;
    let (title, train, valid, legend): (_, Value, Value, _) = match curve {
        Curve::Loss => {
            (words.loss, |r| r.loss_train, |r| r.loss_valid, SeriesLabelPosition::UpperRight)
        }
        Curve::Accuracy => (
            words.accuracy,
            |r| r.accuracy_train,
            |r| r.accuracy_valid,
            SeriesLabelPosition::LowerRight,
        ),
    };
    let last = history.last().map_or(1, |r| r.epoch);
    let values = || history.iter().flat_map(|r| [train(r), valid(r)]);
    let y = range(values(), curve);
    let font = ("sans-serif", 14).into_font().color(&INK);
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .x_label_area_size(42)
        .y_label_area_size(66)
        .build_cartesian_2d(1.0..f64::from(last.max(2)), y)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(INK)
        .label_style(font.clone())
        .axis_desc_style(font.clone())
        .x_desc(words.epoch)
        .y_desc(title)
        .x_labels(8)
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_labels(6)
        .y_label_formatter(&|y| format!("{y:.2}"))
        .draw()?;
    let points = |value: Value| history.iter().map(move |r| (f64::from(r.epoch), value(r)));
    let (solid, dashed) = (FIRST.stroke_width(2), SECOND.stroke_width(2));
    chart
        .draw_series(LineSeries::new(points(train), solid))?
        .label(words.train)
        .legend(move |(x, y)| PathElement::new([(x, y), (x + 28, y)], solid));
    chart
        .draw_series(DashedLineSeries::new(points(valid), 6, 4, dashed))?
        .label(words.valid)
        .legend(move |(x, y)| DashedPathElement::new([(x, y), (x + 28, y)], 6, 4, dashed));
    if let [only] = history {
        // One epoch is a point, which a line does not show.
        let at = |y| (f64::from(only.epoch), y);
        chart.draw_series([Circle::new(at(train(only)), 4, FIRST.filled())])?;
        chart.draw_series([Circle::new(at(valid(only)), 4, SECOND.stroke_width(2))])?;
    }
    chart
        .configure_series_labels()
        .position(legend)
        .legend_area_size(36)
        .background_style(PAPER)
        .border_style(GRID)
        .label_font(font)
        .draw()?;
    Ok(())
}

/// The range of the values and a little more, with room for the legend, which is above a falling
/// loss and below a rising accuracy.
fn range(values: impl Iterator<Item = f64>, curve: Curve) -> Range<f64> {
    let (low, high) =
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    if low > high {
        return 0.0..1.0;
    }
    let room = ((high - low) * 0.05).max(1e-3);
    match curve {
        Curve::Accuracy => low - 4.0 * room..high + room,
        Curve::Loss => low - room..high + 4.0 * room,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(epoch: u32, loss: f64) -> HistoryRow {
        HistoryRow {
            epoch,
            lr: 0.1,
            loss_train: loss,
            accuracy_train: 0.5,
            loss_valid: loss,
            accuracy_valid: 0.5,
        }
    }

    #[test]
    fn a_figure_has_its_axes_its_legend_and_a_point_an_epoch() {
        let history: Vec<HistoryRow> = (1..=5).map(|e| row(e, 1.0 / f64::from(e))).collect();
        let svg = draw_both(&history).expect("draws");
        for text in ["loss (mean cross-entropy)", "accuracy", "epoch", "train", "valid"] {
            assert!(svg.contains(&format!("\n{text}\n")), "no `{text}`");
        }
        // The solid line of each panel, and no other, has a point for each of the five epochs.
        let points = |line: &str| {
            line.split("points=\"")
                .nth(1)
                .map_or(0, |l| l.split('"').next().unwrap_or("").split_whitespace().count())
        };
        assert_eq!(svg.split("<polyline").filter(|line| points(line) == 5).count(), 2);
    }

    #[test]
    fn one_epoch_and_equal_values_are_drawn_too() {
        assert!(draw(&[row(1, 0.5)], Curve::Loss, &ENGLISH).expect("draws").contains("</svg>"));
        assert!(
            draw(&[row(1, 0.5), row(2, 0.5)], Curve::Accuracy, &ENGLISH)
                .expect("draws")
                .contains("</svg>")
        );
        assert!(draw(&[], Curve::Loss, &ENGLISH).expect("draws").contains("</svg>"));
    }
}
