//! The mean of a headline's word vectors.

#![allow(
    clippy::inline_always,
    clippy::needless_range_loop,
    reason = "see simd.rs: an iterator's closure may not be inlined"
)]

use crate::linear::vector;
use crate::simd::{LANES, Vector, Work, dispatch};

/// Vectors of sums that stay in registers during a pass over the rows.
const AT_ONCE: usize = 5;

/// Writes the mean of the `rows` (each as long as `out`) into `out`; without rows, `out` becomes
/// all zeros.
///
/// Sums in f32 from first to last and divides once, as numpy's `sum(vectors) / len(vectors)` does,
/// so that the features have the same bits as in the Python answers.
pub fn mean_into(rows: &[&[f32]], out: &mut [f32]) {
    dispatch(Mean { rows, out });
}

struct Mean<'m> {
    rows: &'m [&'m [f32]],
    out: &'m mut [f32],
}

impl Work for Mean<'_> {
    type Out = ();
    #[inline(always)]
    #[expect(clippy::indexing_slicing, reason = "constant indices")]
    fn run<V: Vector>(self) {
        let Self { rows, out } = self;
        let (one, count) = (V::all(1.0), V::all(rows.len().max(1) as f32));
        for (number, out) in out.chunks_mut(AT_ONCE * LANES).enumerate() {
            let mut sums = [V::zero(); AT_ONCE];
            for row in rows {
                for n in 0..AT_ONCE {
                    sums[n] = vector::<V>(row, number * AT_ONCE + n).mul_add(one, sums[n]);
                }
            }
            for (sum, out) in sums.into_iter().zip(out.chunks_mut(LANES)) {
                let mut mean = [0.0; LANES];
                sum.div(count).store(&mut mean);
                for (out, mean) in out.iter_mut().zip(mean) {
                    *out = mean;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::on_every_kind;
    use proptest::prelude::*;

    #[test]
    fn the_mean_is_numpy_s() {
        // numpy 2: (np.float32([0.1, 1e8]) + np.float32([0.2, 1]) + np.float32([0.4, -1e8])) / 3
        let rows: [&[f32]; 3] = [&[0.1, 1e8], &[0.2, 1.0], &[0.4, -1e8]];
        let mut out = [0.0; 2];
        mean_into(&rows, &mut out);
        assert_eq!(out.map(f32::to_bits), [0.233_333_35_f32.to_bits(), 0.0_f32.to_bits()]);
    }

    #[test]
    fn no_vector_gives_zeros() {
        let mut out = [7.0; 3];
        mean_into(&[], &mut out);
        assert_eq!(out, [0.0; 3]);
    }

    proptest! {
        #[test]
        fn every_kind_of_register_sums_one_row_after_the_other(
            rows in (1_usize..200).prop_flat_map(|d| prop::collection::vec(prop::collection::vec(-1e3_f32..1e3, d), 1..9))
        ) {
            struct Bits<'b>(&'b [&'b [f32]]);
            impl Work for Bits<'_> {
                type Out = Vec<f32>;
                #[inline(always)]
                fn run<V: Vector>(self) -> Vec<f32> {
                    let mut out = vec![f32::NAN; self.0[0].len()];
                    Mean { rows: self.0, out: &mut out }.run::<V>();
                    out
                }
            }
            let all: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
            let want: Vec<f32> = (0..rows[0].len()).map(|j| {
                let mut sum = 0.0;
                for row in &rows {
                    sum += row[j];
                }
                sum / rows.len() as f32
            }).collect();
            for one in on_every_kind(|| Bits(&all)) {
                prop_assert_eq!(&one, &want);
            }
        }
    }
}
