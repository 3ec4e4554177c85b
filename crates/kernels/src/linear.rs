//! The linear map from a row of features to four logits.
//!
//! A row is split into vectors of sixteen, the last one padded with zeros. Several rows share each
//! load of a weight.

#![allow(
    clippy::inline_always,
    clippy::needless_range_loop,
    reason = "see simd.rs: an iterator's closure may not be inlined"
)]

use crate::simd::{LANES, Vector, Work, dispatch};
use crate::softmax::CLASSES;

/// The weights, or a gradient: for each sixteen features, the values of the four classes side by
/// side.
pub type Matrix = Vec<Group>;

/// The weights of sixteen features, by class. Aligned to cache lines, since a load or a store that
/// touches two takes twice as long.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub struct Group(pub [[f32; LANES]; CLASSES]);

impl Group {
    /// All zeros.
    pub const ZERO: Self = Self([[0.0; LANES]; CLASSES]);
}

/// Packs the weights `w` \[4, d\] into a matrix.
pub fn packed(w: &[f32]) -> Matrix {
    let d = w.len() / CLASSES;
    let mut matrix = vec![Group::ZERO; d.div_ceil(LANES)];
    for (class, row) in w.chunks_exact(d.max(1)).enumerate() {
        for (vectors, part) in matrix.iter_mut().zip(row.chunks(LANES)) {
            if let Some(to) = vectors.0.get_mut(class).and_then(|v| v.get_mut(..part.len())) {
                to.copy_from_slice(part);
            }
        }
    }
    matrix
}

/// Unpacks a matrix into the weights `w` \[4, d\].
pub fn unpack(matrix: &Matrix, w: &mut [f32]) {
    let d = w.len() / CLASSES;
    for (class, row) in w.chunks_exact_mut(d.max(1)).enumerate() {
        for (vectors, part) in matrix.iter().zip(row.chunks_mut(LANES)) {
            if let Some(from) = vectors.0.get(class).and_then(|v| v.get(..part.len())) {
                part.copy_from_slice(from);
            }
        }
    }
}

/// Appends the logits of every row of `x`, each of `d` features, to `logits`.
///
/// # Panics
/// If `d` is 0, or if the matrix is not for `d` features.
pub fn logits(matrix: &Matrix, x: &[f32], d: usize, logits: &mut Vec<[f32; CLASSES]>) {
    assert!(d > 0 && matrix.len() == d.div_ceil(LANES));
    dispatch(Logits { matrix, x, d, logits });
}

struct Logits<'l> {
    matrix: &'l Matrix,
    x: &'l [f32],
    d: usize,
    logits: &'l mut Vec<[f32; CLASSES]>,
}

impl Work for Logits<'_> {
    type Out = ();
    #[inline(always)]
    #[expect(clippy::indexing_slicing, reason = "indices below the number of rows")]
    fn run<V: Vector>(self) {
        let Self { matrix, x, d, logits } = self;
        let rows = x.len() / d;
        let row = |i: usize| &x[i * d..][..d];
        let mut i = 0;
        while V::IS_WIDE && i + 4 <= rows {
            logits.extend_from_slice(&dots::<V, 4>(
                matrix,
                [row(i), row(i + 1), row(i + 2), row(i + 3)],
            ));
            i += 4;
        }
        while i < rows {
            logits.extend_from_slice(&dots::<V, 1>(matrix, [row(i)]));
            i += 1;
        }
    }
}

/// The dot products of rows with the weights of each class.
#[inline(always)]
#[expect(
    clippy::indexing_slicing,
    reason = "constant indices; an iterator's closure would not be inlined"
)]
pub fn dots<V: Vector, const R: usize>(w: &Matrix, rows: [&[f32]; R]) -> [[f32; CLASSES]; R] {
    let mut sums = [[V::zero(); CLASSES]; R];
    for (j, w) in w.iter().enumerate() {
        let mut x = [V::zero(); R];
        for r in 0..R {
            x[r] = vector(rows[r], j);
        }
        for k in 0..CLASSES {
            let w = V::load(&w.0[k]);
            for r in 0..R {
                sums[r][k] = w.mul_add(x[r], sums[r][k]);
            }
        }
    }
    let mut out = [[0.0; CLASSES]; R];
    for r in 0..R {
        out[r] = V::sums(sums[r]);
    }
    out
}

/// The `j`th vector of a row, with zeros beyond the row's end.
#[inline(always)]
pub fn vector<V: Vector>(row: &[f32], j: usize) -> V {
    let rest = row.get(j * LANES..).unwrap_or_default();
    match rest.first_chunk() {
        Some(whole) => V::load(whole),
        None => V::load_part(rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::on_every_kind;
    use proptest::prelude::*;

    struct All<'a>(&'a Matrix, &'a [f32], usize);
    impl Work for All<'_> {
        type Out = Vec<[f32; CLASSES]>;
        #[inline(always)]
        fn run<V: Vector>(self) -> Self::Out {
            let mut logits = Vec::new();
            Logits { matrix: self.0, x: self.1, d: self.2, logits: &mut logits }.run::<V>();
            logits
        }
    }

    proptest! {
        #[test]
        fn logits_are_dot_products_and_the_same_on_every_kind(
            (d, w, x) in (1_usize..40).prop_flat_map(|d| (Just(d), prop::collection::vec(-4.0_f32..4.0, 4 * d), prop::collection::vec(-1.0_f32..1.0, 9 * d)))
        ) {
            let matrix = packed(&w);
            let mut back = vec![0.0; w.len()];
            unpack(&matrix, &mut back);
            prop_assert_eq!(&back, &w);
            let all = on_every_kind(|| All(&matrix, &x, d));
            for (row, logits) in x.chunks_exact(d).zip(&all[0]) {
                for (w, logit) in w.chunks_exact(d).zip(logits) {
                    let want: f64 = w.iter().zip(row).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
                    prop_assert!((f64::from(*logit) - want).abs() < 1e-4);
                }
            }
            prop_assert!(all.iter().all(|one| one == &all[0]) && all[0].len() == 9);
            // A row has the same logits wherever it stands.
            let mut last = Vec::new();
            logits(&matrix, &x[8 * d..], d, &mut last);
            prop_assert_eq!(last[0], all[0][8]);
        }
    }
}
