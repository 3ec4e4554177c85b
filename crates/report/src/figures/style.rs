//! The text style and the marker that several figures use.

use curves::{DrawError, GRID, INK, SECOND};
use plotters::chart::MeshStyle;
use plotters::coord::ranged1d::{SegmentedCoord, ValueFormatter};
use plotters::coord::types::{RangedCoordf64, RangedCoordusize};
use plotters::prelude::*;

/// A chart with a row for each name, and shares on the horizontal axis.
pub type RowChart<'c, 'a> =
    ChartContext<'c, SVGBackend<'a>, Cartesian2d<RangedCoordf64, SegmentedCoord<RangedCoordusize>>>;

/// The mesh of a chart in the report's style; its titles and labels are still to be set.
pub fn mesh<'c, 'm, 'a, X, Y>(
    chart: &'m mut ChartContext<'c, SVGBackend<'a>, Cartesian2d<X, Y>>,
) -> MeshStyle<'c, 'm, X, Y, SVGBackend<'a>>
where
    X: Ranged + ValueFormatter<X::ValueType>,
    Y: Ranged + ValueFormatter<Y::ValueType>,
{
    let mut mesh = chart.configure_mesh();
    mesh.light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(INK)
        .label_style(font(14))
        .axis_desc_style(font(14));
    mesh
}

/// Draws the names of the rows, and the `title`d axis with its numbers as `shown`.
pub fn rows_mesh(
    chart: &mut RowChart<'_, '_>,
    names: &[impl AsRef<str>],
    title: &str,
    shown: &impl Fn(&f64) -> String,
) -> Result<(), DrawError> {
    mesh(chart)
        .disable_y_mesh()
        .x_desc(title)
        .x_labels(6)
        .x_label_formatter(shown)
        .y_labels(names.len())
        .y_label_formatter(&|y| match y {
            SegmentValue::CenterOf(i) => {
                names.get(*i).map(|name| name.as_ref().to_owned()).unwrap_or_default()
            }
            _ => String::new(),
        })
        .draw()?;
    Ok(())
}

/// Text of this size, in pixels.
pub fn font(size: u32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&INK)
}

/// A number for an axis, with two digits.
pub fn short(x: f64) -> String {
    format!("{x:.1e}").parse().unwrap_or(x).to_string()
}

/// An open diamond, centred on a point in pixels.
pub fn diamond((x, y): (i32, i32)) -> PathElement<(i32, i32)> {
    const R: i32 = 6;
    PathElement::new(
        [(x - R, y), (x, y - R), (x + R, y), (x, y + R), (x - R, y)],
        SECOND.stroke_width(2),
    )
}
