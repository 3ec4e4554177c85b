//! The products of a batch's embeddings with the blocks of the projection.

#![allow(clippy::inline_always, reason = "see kernels::simd")]

use kernels::gemm::{Initial, Left, gemm};
use kernels::simd::{Vector, Work, dispatch};

/// A row for each different token of a batch, with so many components.
#[derive(Clone, Copy)]
pub struct Rows<'r> {
    pub values: &'r [f32],
    pub count: usize,
    pub columns: usize,
}

/// `to` ← X W, for a block W.
pub fn forward(to: &mut Vec<f32>, x: Rows<'_>, block: &[f32], width: usize) {
    to.resize(x.count * width, 0.0);
    let left = Left { at: x.values, rows: x.count, inner: x.columns, down: x.columns, right: 1 };
    dispatch(Product { to, width, left, right: block, start: Initial::Zero });
}

/// `to` ← Xᵀ Z: the gradient of a block, from those of its products.
pub fn by_block(to: &mut [f32], x: Rows<'_>, by_z: &[f32], width: usize) {
    let left = Left { at: x.values, rows: x.columns, inner: x.count, down: 1, right: x.columns };
    dispatch(Product { to, width, left, right: by_z, start: Initial::Zero });
}

/// `to` ← `to` + Z Wᵀ, for some of the tokens. `transposed` is Wᵀ.
pub fn by_x(to: &mut [f32], columns: usize, by_z: &[f32], width: usize, transposed: &[f32]) {
    let rows = by_z.len() / width.max(1);
    let left = Left { at: by_z, rows, inner: width, down: width, right: 1 };
    dispatch(Product { to, width: columns, left, right: transposed, start: Initial::Result });
}

pub struct Product<'p> {
    pub to: &'p mut [f32],
    pub width: usize,
    pub left: Left<'p>,
    pub right: &'p [f32],
    pub start: Initial<'p>,
}

impl Work for Product<'_> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vector>(self) {
        let Self { to, width, left, right, start } = self;
        gemm::<V>(to, width, left, right, start);
    }
}

/// `to` \[columns of `from`\]\[`rows` padded to `width`\] ← the transpose of `from`, which has rows of
/// `columns` elements.
pub fn transpose(to: &mut Vec<f32>, from: &[f32], columns: usize, width: usize) {
    const TILE: usize = 16;
    let rows = from.len() / columns.max(1);
    to.clear();
    to.resize(columns * width, 0.0);
    // By tiles, so that neither side jumps over memory for long.
    for first_row in (0..rows).step_by(TILE) {
        for first_column in (0..columns).step_by(TILE) {
            for row in first_row..rows.min(first_row + TILE) {
                let start = row * columns;
                let end = start + columns.min(first_column + TILE);
                let values = from.get(start + first_column..end).unwrap_or_default();
                let to = to.get_mut(first_column * width + row..).unwrap_or_default();
                for (to, value) in to.iter_mut().step_by(width).zip(values) {
                    *to = *value;
                }
            }
        }
    }
}
