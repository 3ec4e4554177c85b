//! The features of a convolution: the largest sums over windows.

#![allow(clippy::inline_always, reason = "see kernels::simd")]

use kernels::relu;
use kernels::simd::{Vector, Work, dispatch};

use crate::Batch;

/// The sequences of a batch from `first` on, of which there are as many as rows of `features`.
pub struct Maxima<'m> {
    pub batch: &'m Batch,
    pub first: usize,
    /// The products of the batch's tokens with the block of each width and place.
    pub z: &'m [Vec<f32>],
    pub bias: &'m [f32],
    pub widths: &'m [usize],
    /// Columns of a block.
    pub columns: usize,
    /// The maxima, after a ReLU.
    pub features: &'m mut [f32],
    /// Where the windows with the maxima start.
    pub starts: &'m mut [u32],
}

/// Computes the maxima of some sequences.
pub fn forward(maxima: Maxima<'_>) {
    dispatch(maxima);
}

impl Work for Maxima<'_> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vector>(self) {
        let Self { batch, first, z, bias, widths, columns, features, starts } = self;
        let size = widths.len() * columns;
        let mut sums = vec![0.0_f32; columns];
        let rows = features.chunks_exact_mut(size).zip(starts.chunks_exact_mut(size));
        for (number, (features, starts)) in rows.enumerate() {
            let places = batch.row(first + number);
            let mut block = 0;
            let of_widths = features
                .chunks_exact_mut(columns)
                .zip(starts.chunks_exact_mut(columns))
                .zip(bias.chunks_exact(columns));
            for (((best, starts), bias), &width) in of_widths.zip(widths) {
                best.fill(f32::NEG_INFINITY);
                // A sequence that is shorter than the window fills it up with zeros.
                let windows = (places.len() + 1).saturating_sub(width).max(1);
                for start in 0..windows {
                    sums.fill(0.0);
                    let tokens = places.get(start..).unwrap_or_default().iter().take(width);
                    for (z, &place) in z.get(block..).unwrap_or_default().iter().zip(tokens) {
                        let at = place as usize * columns;
                        let values = z.get(at..at + columns).unwrap_or_default();
                        for (sum, value) in sums.iter_mut().zip(values) {
                            *sum += value;
                        }
                    }
                    #[expect(clippy::cast_possible_truncation, reason = "fewer tokens than 2³²")]
                    let start = start as u32;
                    for ((best, at), sum) in best.iter_mut().zip(starts.iter_mut()).zip(&sums) {
                        // NaN counts as larger: a net that has diverged must not look sound.
                        #[expect(clippy::neg_cmp_op_on_partial_ord, reason = "NaN")]
                        let is_larger = !(*sum <= *best);
                        *best = if is_larger { *sum } else { *best };
                        *at = if is_larger { start } else { *at };
                    }
                }
                for (best, bias) in best.iter_mut().zip(bias) {
                    *best = relu(*best + bias);
                }
                block += width;
            }
        }
    }
}

/// The gradients of the products with one block, from those of the features, which are 0 where the
/// ReLU was.
pub struct ByBlock<'b> {
    pub batch: &'b Batch,
    /// Gradients of a row's features, and where their windows start.
    pub by_features: &'b [f32],
    pub starts: &'b [u32],
    /// Features of a row, and the first of the block's width.
    pub size: usize,
    pub first: usize,
    /// The block's place in the window.
    pub place: usize,
    pub columns: usize,
    pub by_z: &'b mut [f32],
}

/// Adds up the gradients of a block's products.
pub fn by_block(of: ByBlock<'_>) {
    let ByBlock { batch, by_features, starts, size, first, place, columns, by_z } = of;
    let part = first..first + columns;
    let rows = by_features.chunks_exact(size).zip(starts.chunks_exact(size));
    for (number, (by_features, starts)) in rows.enumerate() {
        let places = batch.row(number);
        let by_features = by_features.get(part.clone()).unwrap_or_default();
        let starts = starts.get(part.clone()).unwrap_or_default();
        for (column, (&gradient, &start)) in by_features.iter().zip(starts).enumerate() {
            if gradient == 0.0 {
                continue;
            }
            let Some(&token) = places.get(start as usize + place) else { continue };
            if let Some(to) = by_z.get_mut(token as usize * columns + column) {
                *to += gradient;
            }
        }
    }
}
