//! What the figures have in common.

use curves::{INK, SECOND};
use plotters::prelude::*;

/// Text of this size, in pixels.
pub fn font(size: u32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&INK)
}

/// An open diamond around a place in pixels.
pub fn diamond((x, y): (i32, i32)) -> PathElement<(i32, i32)> {
    const R: i32 = 6;
    PathElement::new(
        [(x - R, y), (x, y - R), (x + R, y), (x, y + R), (x - R, y)],
        SECOND.stroke_width(2),
    )
}
