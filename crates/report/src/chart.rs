//! Learning curves as SVG.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::element::DashedPathElement;
use plotters::prelude::*;

use crate::facts::Epoch;

type Fail = Box<dyn std::error::Error>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const SIZE: (u32, u32) = (450, 330);
const INK: RGBColor = RGBColor(0x24, 0x29, 0x2f);
const GRID: RGBColor = RGBColor(0xd8, 0xde, 0xe4);
const TRAIN: RGBColor = RGBColor(0x0b, 0x5c, 0xad);
const VALID: RGBColor = RGBColor(0xb3, 0x4a, 0x00);
const PAPER: RGBColor = RGBColor(0xff, 0xff, 0xff);

/// What a figure shows.
#[derive(Clone, Copy)]
pub enum Curve {
    /// Mean cross-entropy.
    Loss,
    /// Share of right predictions.
    Accuracy,
}

impl Curve {
    /// Both, in the order of the page.
    pub const ALL: [Self; 2] = [Self::Loss, Self::Accuracy];

    /// For file names.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::Accuracy => "accuracy",
        }
    }
}

/// A learning curve of train and valid. Train is drawn solid and valid dashed, so that they are
/// told apart without colour. Each curve is a figure of its own, so that a phone can stack them.
pub fn draw(history: &[Epoch], curve: Curve) -> Result<String, Fail> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&PAPER)?;
        match curve {
            Curve::Loss => {
                panel(&area, "loss (mean cross-entropy)", history, |e| e.loss_train, |e| e.loss_valid, &SeriesLabelPosition::UpperRight)?;
            }
            Curve::Accuracy => {
                panel(&area, "accuracy", history, |e| e.accuracy_train, |e| e.accuracy_valid, &SeriesLabelPosition::LowerRight)?;
            }
        }
        area.present()?;
    }
    Ok(svg)
}

/// The figure for a page: its colours follow the page's, light or dark, and its size the screen.
pub fn inline(svg: &str, run: &str, curve: Curve) -> String {
    let label = format!("role=\"img\" aria-label=\"{run}: {} of train and valid after each epoch\" ", curve.name());
    let mut out = svg.to_owned();
    for (colour, variable) in [(INK, "--ink"), (GRID, "--grid"), (TRAIN, "--train"), (VALID, "--valid"), (PAPER, "--paper")] {
        out = out.replace(&format!("\"#{:02X}{:02X}{:02X}\"", colour.0, colour.1, colour.2), &format!("\"var({variable})\""));
    }
    out.replacen(&format!("width=\"{}\" height=\"{}\" ", SIZE.0, SIZE.1), &label, 1)
}

fn panel(
    area: &Area<'_>,
    title: &str,
    history: &[Epoch],
    train: fn(&Epoch) -> f64,
    valid: fn(&Epoch) -> f64,
    legend: &SeriesLabelPosition,
) -> Result<(), Fail> {
    let last = history.last().map_or(1, |e| e.epoch);
    let values = || history.iter().flat_map(|e| [train(e), valid(e)]);
    let y = range(values(), legend);
    let font = ("sans-serif", 14).into_font().color(&INK);
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .caption(title, ("sans-serif", 16).into_font().color(&INK))
        .x_label_area_size(40)
        .y_label_area_size(52)
        .build_cartesian_2d(f64::from(1.min(last))..f64::from(last.max(2)), y)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(INK)
        .label_style(font.clone())
        .axis_desc_style(font.clone())
        .x_desc("epoch")
        .x_labels(8)
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_labels(6)
        .y_label_formatter(&|y| format!("{y:.2}"))
        .draw()?;
    let points = |value: fn(&Epoch) -> f64| history.iter().map(move |e| (f64::from(e.epoch), value(e)));
    let (solid, dashed) = (TRAIN.stroke_width(2), VALID.stroke_width(2));
    chart
        .draw_series(LineSeries::new(points(train), solid))?
        .label("train")
        .legend(move |(x, y)| PathElement::new([(x, y), (x + 28, y)], solid));
    chart
        .draw_series(DashedLineSeries::new(points(valid), 6, 4, dashed))?
        .label("valid")
        .legend(move |(x, y)| DashedPathElement::new([(x, y), (x + 28, y)], 6, 4, dashed));
    chart
        .configure_series_labels()
        .position(legend.clone())
        .legend_area_size(36)
        .background_style(PAPER)
        .border_style(GRID)
        .label_font(font)
        .draw()?;
    Ok(())
}

/// A little more than the values' own range, and room for the legend, which stands where a
/// learning curve ends up last: above a falling loss, below a rising accuracy.
fn range(values: impl Iterator<Item = f64>, legend: &SeriesLabelPosition) -> Range<f64> {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    let room = ((high - low) * 0.05).max(1e-3);
    match legend {
        SeriesLabelPosition::LowerRight => low - 4.0 * room..high + room,
        _ => low - room..high + 4.0 * room,
    }
}
