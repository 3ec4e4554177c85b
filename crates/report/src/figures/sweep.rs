//! The seconds per epoch by batch size.

use curves::{Area, DrawError, FIRST, GRID, INK, PAPER, SECOND};
use plotters::element::DashedPathElement;
use plotters::prelude::*;

use super::style::{font, mesh};
use crate::facts::Facts;
use crate::runs::Sweep;

/// How a series of the sweep is drawn: line and marker distinguish the series without colour.
#[derive(Clone, Copy)]
enum Look {
    /// A solid line with dots.
    Dots,
    /// A dashed line with triangles.
    Triangles,
    /// A line of long dashes with squares.
    Squares,
    /// A line of short dashes with crosses.
    Crosses,
    /// A dotted line with open circles.
    Circles,
}

type Series = (String, Look, Vec<(f64, f64)>);

/// Draws the seconds per epoch, evaluation included as in the published times, by batch size; both
/// axes are logarithmic.
pub fn draw(area: &Area<'_>, facts: &Facts, sweep: &Sweep, ja: bool) -> Result<(), DrawError> {
    let mut series: Vec<Series> = Vec::new();
    for (device, look) in
        sweep.devices.iter().zip([Look::Dots, Look::Triangles, Look::Squares].into_iter().cycle())
    {
        let times = sweep.times.iter().filter(|t| t.device == *device);
        let points =
            times.map(|t| (t.batch_size as f64, t.seconds + t.seconds_evaluation)).collect();
        let device = device.replace("cpu", "CPU").replace("cuda", "GPU");
        series.push((
            if ja { format!("本実装 {device}") } else { format!("knockline, {device}") },
            look,
            points,
        ));
    }
    if let Some(published) = &facts.published {
        let times = |of: fn(&(u64, f64, f64)) -> f64| {
            published.sweep.iter().map(|t| (t.0 as f64, of(t))).collect()
        };
        let name = |device: &str| {
            if ja { format!("公開解答 {device}") } else { format!("published, {device}") }
        };
        series.push((name("CPU"), Look::Crosses, times(|t| t.1)));
        series.push((name("GPU"), Look::Circles, times(|t| t.2)));
    }

    let range = |of: fn(&(f64, f64)) -> f64| {
        let values = series.iter().flat_map(|s| &s.2).map(of);
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)))
    };
    let (x, y) = (range(|p| p.0), range(|p| p.1));
    // The range begins a little below a power of ten, so that the power has its tick, and ends well
    // above the next one: that gives at least two ticks, and room for the legend.
    let decade = |value: f64| 10.0_f64.powf(value.log10().floor());
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .margin_right(24)
        .x_label_area_size(44)
        .y_label_area_size(70)
        .build_cartesian_2d(
            (x.0..x.1.max(2.0 * x.0)).log_scale().base(2.0),
            (decade(y.0) * 0.8..decade(y.1) * 30.0).log_scale(),
        )?;
    mesh(&mut chart)
        .x_desc(if ja { "バッチサイズ" } else { "batch size" })
        .y_desc(if ja {
            "1エポックの秒数（評価を含む）"
        } else {
            "seconds per epoch, with evaluation"
        })
        .x_labels(12)
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_labels(6)
        .y_label_formatter(&|y| format!("{y}"))
        .draw()?;
    for (name, look, points) in series {
        let style = match look {
            Look::Dots => FIRST.stroke_width(2),
            Look::Triangles | Look::Squares => SECOND.stroke_width(2),
            Look::Crosses | Look::Circles => INK.stroke_width(1),
        };
        let (on, off) = look.dashes();
        let line = if off == 0 {
            chart.draw_series(LineSeries::new(points.iter().copied(), style))?
        } else {
            chart.draw_series(DashedLineSeries::new(points.iter().copied(), on, off, style))?
        };
        line.label(name).legend(move |(x, y)| {
            EmptyElement::at((x, y))
                + DashedPathElement::new([(0, 0), (32, 0)], on, off, style)
                + look.mark((16, 0), style)
        });
        chart.draw_series(
            points.into_iter().map(|at| EmptyElement::at(at) + look.mark((0, 0), style)),
        )?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .legend_area_size(40)
        .background_style(PAPER)
        .border_style(GRID)
        .label_font(font(14))
        .draw()?;
    Ok(())
}

impl Look {
    /// Lengths of the dashes and of the gaps, in pixels.
    fn dashes(self) -> (u32, u32) {
        match self {
            Self::Dots => (32, 0),
            Self::Triangles => (8, 4),
            Self::Squares => (14, 5),
            Self::Crosses => (4, 4),
            Self::Circles => (1, 3),
        }
    }

    /// The marker, centred on a point in pixels.
    fn mark<'b>(
        self,
        (x, y): (i32, i32),
        style: ShapeStyle,
    ) -> DynElement<'static, SVGBackend<'b>, (i32, i32)> {
        const R: i32 = 4;
        let path = |points: &[(i32, i32)]| {
            PathElement::new(
                points.iter().map(|(a, b)| (x + a, y + b)).collect::<Vec<_>>(),
                style.stroke_width(2),
            )
            .into_dyn()
        };
        match self {
            Self::Dots => Circle::new((x, y), R, style.filled()).into_dyn(),
            Self::Triangles => path(&[(-R, R), (R, R), (0, -R), (-R, R)]),
            Self::Squares => path(&[(-R, R), (R, R), (R, -R), (-R, -R), (-R, R)]),
            Self::Crosses => path(&[(-R, -R), (R, R), (0, 0), (R, -R), (-R, R)]),
            Self::Circles => Circle::new((x, y), R, style.stroke_width(1)).into_dyn(),
        }
    }
}
