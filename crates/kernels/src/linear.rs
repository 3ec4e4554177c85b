//! The linear map from a row of features to the logits of any number of classes.
//!
//! A row is split into vectors of sixteen, the last one padded with zeros. Several rows share each
//! load of a weight, and four classes share each load of a row.

#![allow(
    clippy::inline_always,
    clippy::needless_range_loop,
    reason = "see simd.rs: an iterator's closure may not be inlined"
)]

use crate::simd::{LANES, Vector, Work, dispatch};

/// How many classes stand side by side.
pub const GROUP: usize = 4;

/// The weights, or a gradient. The classes are taken four at a time, the last ones filled up with
/// zeros; for each four, there is a group for every sixteen features.
pub type Matrix = Vec<Group>;

/// The weights of sixteen features, by class. Aligned to cache lines, since a load or a store that
/// touches two takes twice as long.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub struct Group(pub [[f32; LANES]; GROUP]);

impl Group {
    /// All zeros.
    pub const ZERO: Self = Self([[0.0; LANES]; GROUP]);
}

/// Packs the weights `w` \[classes, d\] into a matrix.
pub fn packed(w: &[f32], classes: usize) -> Matrix {
    let (d, vectors) = sizes(w, classes);
    let mut matrix = vec![Group::ZERO; classes.div_ceil(GROUP) * vectors];
    let four = matrix.chunks_exact_mut(vectors.max(1));
    for (groups, rows) in four.zip(w.chunks((GROUP * d).max(1))) {
        for (class, row) in rows.chunks_exact(d).enumerate() {
            for (group, part) in groups.iter_mut().zip(row.chunks(LANES)) {
                if let Some(to) = group.0.get_mut(class).and_then(|v| v.get_mut(..part.len())) {
                    to.copy_from_slice(part);
                }
            }
        }
    }
    matrix
}

/// Unpacks a matrix into the weights `w` \[classes, d\].
pub fn unpack(matrix: &Matrix, w: &mut [f32], classes: usize) {
    let (d, vectors) = sizes(w, classes);
    let four = matrix.chunks_exact(vectors.max(1));
    for (groups, rows) in four.zip(w.chunks_mut((GROUP * d).max(1))) {
        for (class, row) in rows.chunks_exact_mut(d).enumerate() {
            for (group, part) in groups.iter().zip(row.chunks_mut(LANES)) {
                if let Some(from) = group.0.get(class).and_then(|v| v.get(..part.len())) {
                    part.copy_from_slice(from);
                }
            }
        }
    }
}

/// The number of features, and of vectors that hold them.
fn sizes(w: &[f32], classes: usize) -> (usize, usize) {
    let d = w.len() / classes.max(1);
    (d, d.div_ceil(LANES))
}

/// Appends the logits of every row of `x`, each of `d` features, to `logits`.
///
/// # Panics
/// If `d` is 0, or if the matrix is not for so many classes and features.
pub fn logits(matrix: &Matrix, classes: usize, x: &[f32], d: usize, logits: &mut Vec<f32>) {
    assert!(d > 0 && matrix.len() == classes.div_ceil(GROUP) * d.div_ceil(LANES));
    dispatch(Logits { matrix, classes, x, d, logits });
}

struct Logits<'l> {
    matrix: &'l Matrix,
    classes: usize,
    x: &'l [f32],
    d: usize,
    logits: &'l mut Vec<f32>,
}

/// Rows that meet all classes before the next ones: they stay in the second-level cache, and four
/// classes' weights in the first.
const ROWS: usize = 64;

impl Work for Logits<'_> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vector>(self) {
        let Self { matrix, classes, x, d, logits } = self;
        if classes == GROUP {
            four_classes::<V>(matrix, x, d, logits);
            return;
        }
        for x in x.chunks(ROWS * d) {
            let start = logits.len();
            logits.resize(start + x.len() / d * classes, 0.0);
            let of = logits.get_mut(start..).unwrap_or_default();
            for (number, four) in matrix.chunks_exact(d.div_ceil(LANES)).enumerate() {
                let first = number * GROUP;
                let width = GROUP.min(classes - first);
                each::<V>(four, x, d, |row, z| {
                    if let Some(to) =
                        of.get_mut(row * classes + first..).and_then(|z| z.get_mut(..width))
                    {
                        to.copy_from_slice(z.get(..width).unwrap_or_default());
                    }
                });
            }
        }
    }
}

/// Appends the logits of four classes.
#[inline(always)]
#[expect(clippy::indexing_slicing, reason = "indices below the number of rows")]
fn four_classes<V: Vector>(matrix: &[Group], x: &[f32], d: usize, logits: &mut Vec<f32>) {
    let rows = x.len() / d;
    let row = |i: usize| &x[i * d..][..d];
    let mut i = 0;
    while V::IS_WIDE && i + 4 <= rows {
        let four = [row(i), row(i + 1), row(i + 2), row(i + 3)];
        logits.extend_from_slice(dots::<V, 4, GROUP>(matrix, four).as_flattened());
        i += 4;
    }
    while i < rows {
        logits.extend_from_slice(&dots::<V, 1, GROUP>(matrix, [row(i)])[0]);
        i += 1;
    }
}

/// Calls `take` with the number of each row of `x` and its logits of four classes.
#[inline(always)]
#[expect(clippy::indexing_slicing, reason = "indices below the number of rows")]
fn each<V: Vector>(four: &[Group], x: &[f32], d: usize, mut take: impl FnMut(usize, &[f32])) {
    let rows = x.len() / d;
    let row = |i: usize| &x[i * d..][..d];
    let mut i = 0;
    while V::IS_WIDE && i + 4 <= rows {
        let z = dots::<V, 4, GROUP>(four, [row(i), row(i + 1), row(i + 2), row(i + 3)]);
        for r in 0..4 {
            take(i + r, &z[r]);
        }
        i += 4;
    }
    while i < rows {
        take(i, &dots::<V, 1, GROUP>(four, [row(i)])[0]);
        i += 1;
    }
}

/// The dot products of rows with the weights of the first `K` of four classes.
#[inline(always)]
#[expect(
    clippy::indexing_slicing,
    reason = "constant indices; an iterator's closure would not be inlined"
)]
pub fn dots<V: Vector, const R: usize, const K: usize>(
    w: &[Group],
    rows: [&[f32]; R],
) -> [[f32; GROUP]; R] {
    let mut sums = [[V::zero(); GROUP]; R];
    for (j, w) in w.iter().enumerate() {
        let mut x = [V::zero(); R];
        for r in 0..R {
            x[r] = vector(rows[r], j);
        }
        for k in 0..K {
            let w = V::load(&w.0[k]);
            for r in 0..R {
                sums[r][k] = w.mul_add(x[r], sums[r][k]);
            }
        }
    }
    let mut out = [[0.0; GROUP]; R];
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

    struct All<'a>(&'a Matrix, usize, &'a [f32], usize);
    impl Work for All<'_> {
        type Out = Vec<f32>;
        #[inline(always)]
        fn run<V: Vector>(self) -> Self::Out {
            let mut logits = Vec::new();
            let Self(matrix, classes, x, d) = self;
            Logits { matrix, classes, x, d, logits: &mut logits }.run::<V>();
            logits
        }
    }

    proptest! {
        #[test]
        fn logits_are_dot_products_and_the_same_on_every_kind(
            (classes, d, w, x) in (prop_oneof![2_usize..22, Just(4_usize)], 1_usize..40).prop_flat_map(|(k, d)| (Just(k), Just(d), prop::collection::vec(-4.0_f32..4.0, k * d), prop::collection::vec(-1.0_f32..1.0, 70 * d)))
        ) {
            let matrix = packed(&w, classes);
            let mut back = vec![0.0; w.len()];
            unpack(&matrix, &mut back, classes);
            prop_assert_eq!(&back, &w);
            let all = on_every_kind(|| All(&matrix, classes, &x, d));
            prop_assert_eq!(all[0].len(), 70 * classes);
            for (row, logits) in x.chunks_exact(d).zip(all[0].chunks_exact(classes)) {
                for (w, logit) in w.chunks_exact(d).zip(logits) {
                    let want: f64 = w.iter().zip(row).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
                    prop_assert!((f64::from(*logit) - want).abs() < 1e-4);
                }
            }
            prop_assert!(all.iter().all(|one| one == &all[0]));
            // A row has the same logits wherever it stands.
            let mut last = Vec::new();
            logits(&matrix, classes, &x[69 * d..], d, &mut last);
            prop_assert_eq!(&last[..], &all[0][69 * classes..]);
        }
    }
}
