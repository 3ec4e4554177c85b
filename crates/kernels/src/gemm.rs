//! Products of small matrices, such as a batch's, on vector registers.
//!
//! The rows of the right factor and of the result are contiguous and padded to whole vectors. The
//! left factor's elements are at fixed strides, so that a transposed matrix needs no copy. Each
//! element of the result is one chain of fused multiply-adds in the order of the inner dimension,
//! so it has the same bits on every processor.

#![allow(
    clippy::inline_always,
    clippy::needless_range_loop,
    reason = "see simd.rs: an iterator's closure may not be inlined"
)]

use crate::simd::{LANES, Vector};

/// A left factor of `rows` × `inner` elements, with element (i, k) in `at[i · down + k · right]`.
#[derive(Clone, Copy)]
pub struct Left<'m> {
    /// Its elements.
    pub at: &'m [f32],
    /// How many rows there are.
    pub rows: usize,
    /// How many columns there are, and rows in the right factor.
    pub inner: usize,
    /// The distance from an element to the one below it.
    pub down: usize,
    /// The distance from an element to the next in its row.
    pub right: usize,
}

/// What a product is added to.
#[derive(Clone, Copy)]
pub enum Initial<'s> {
    /// Nothing.
    Zero,
    /// The same values in every row.
    Bias(&'s [f32]),
    /// What `result` holds. A product that is computed in pieces of the inner dimension has the
    /// same bits as one that is computed at once.
    Result,
}

/// `result` ← `start` + `left` × `right`. `result` and `right` have rows of `width` elements, a
/// multiple of sixteen.
///
/// # Panics
/// If a slice is too short for these sizes, or if `width` is not such a multiple.
#[inline(always)]
pub fn gemm<V: Vector>(
    result: &mut [f32],
    width: usize,
    left: Left<'_>,
    right: &[f32],
    start: Initial<'_>,
) {
    let Left { at, rows, inner, down, right: step } = left;
    assert!(
        width.is_multiple_of(LANES) && result.len() >= rows * width && right.len() >= inner * width
    );
    assert!(rows == 0 || inner == 0 || at.len() > (rows - 1) * down + (inner - 1) * step);
    let (bias, accumulate) = match start {
        Initial::Zero => (std::ptr::null(), false),
        Initial::Bias(bias) => {
            assert!(bias.len() >= width);
            (bias.as_ptr(), false)
        }
        Initial::Result => (std::ptr::null(), true),
    };
    let mut column = 0;
    while column < width {
        let vectors = (width - column) / LANES;
        let tile = Tile {
            result: result.as_mut_ptr(),
            width,
            at: at.as_ptr(),
            inner,
            down,
            step,
            right: right.as_ptr(),
            bias,
            accumulate,
            column,
        };
        // SAFETY: the sizes were just checked.
        unsafe {
            // About two dozen sums at a time, with as many columns as possible: each load of a left
            // element serves them all.
            if V::IS_WIDE && (vectors == 4 || vectors == 7) {
                tile.down::<V, 6, 4>(rows);
                column += 4 * LANES;
            } else if V::IS_WIDE && vectors >= 3 {
                tile.down::<V, 8, 3>(rows);
                column += 3 * LANES;
            } else if V::IS_WIDE && vectors == 2 {
                tile.down::<V, 12, 2>(rows);
                column += 2 * LANES;
            } else if V::IS_WIDE {
                tile.down::<V, 16, 1>(rows);
                column += LANES;
            } else {
                tile.down::<V, 4, 1>(rows);
                column += LANES;
            }
        }
    }
}

/// Some columns of a product.
struct Tile {
    result: *mut f32,
    width: usize,
    at: *const f32,
    inner: usize,
    down: usize,
    step: usize,
    right: *const f32,
    bias: *const f32,
    accumulate: bool,
    column: usize,
}

impl Tile {
    /// Computes all rows, `R` at a time.
    #[inline(always)]
    unsafe fn down<V: Vector, const R: usize, const N: usize>(&self, rows: usize) {
        let mut row = 0;
        // SAFETY: the caller guarantees that all `rows` exist.
        unsafe {
            while row + R <= rows {
                self.product::<V, R, N>(row);
                row += R;
            }
            if row + 4 <= rows {
                self.product::<V, 4, N>(row);
                row += 4;
            }
            while row < rows {
                self.product::<V, 1, N>(row);
                row += 1;
            }
        }
    }

    /// Computes `R` rows and `N` vectors of columns, with the sums in registers.
    #[inline(always)]
    #[expect(
        clippy::indexing_slicing,
        reason = "constant indices; an iterator's closure would not be inlined"
    )]
    unsafe fn product<V: Vector, const R: usize, const N: usize>(&self, row: usize) {
        let mut sums = [[V::zero(); N]; R];
        // SAFETY: the caller guarantees that all of these elements exist.
        unsafe {
            if !self.bias.is_null() {
                for n in 0..N {
                    let bias = V::load(&*self.bias.add(self.column + n * LANES).cast());
                    for r in 0..R {
                        sums[r][n] = bias;
                    }
                }
            }
            if self.accumulate {
                for r in 0..R {
                    for n in 0..N {
                        sums[r][n] = V::load(
                            &*self
                                .result
                                .add((row + r) * self.width + self.column + n * LANES)
                                .cast(),
                        );
                    }
                }
            }
            // With an inner dimension of 0, there is nothing to point to.
            let mut left = self.at.wrapping_add(row * self.down);
            let mut right = self.right.wrapping_add(self.column);
            for _ in 0..self.inner {
                let mut b = [V::zero(); N];
                for n in 0..N {
                    b[n] = V::load(&*right.add(n * LANES).cast());
                }
                for r in 0..R {
                    let a = V::all(*left.add(r * self.down));
                    for n in 0..N {
                        sums[r][n] = a.mul_add(b[n], sums[r][n]);
                    }
                }
                left = left.wrapping_add(self.step);
                right = right.wrapping_add(self.width);
            }
            for r in 0..R {
                for n in 0..N {
                    sums[r][n].store(
                        &mut *self
                            .result
                            .add((row + r) * self.width + self.column + n * LANES)
                            .cast(),
                    );
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Work, on_every_kind};
    use proptest::prelude::*;

    struct Product<'p> {
        left: Left<'p>,
        right: &'p [f32],
        bias: Option<&'p [f32]>,
        /// Where the inner dimension is cut in two.
        cut: usize,
        width: usize,
    }

    impl Work for Product<'_> {
        type Out = Vec<f32>;
        #[inline(always)]
        fn run<V: Vector>(self) -> Vec<f32> {
            let mut result = vec![f32::NAN; self.left.rows * self.width];
            let Left { at, inner, right, .. } = self.left;
            let (first, rest) = self.right.split_at(self.cut * self.width);
            let start = self.bias.map_or(Initial::Zero, Initial::Bias);
            gemm::<V>(&mut result, self.width, Left { inner: self.cut, ..self.left }, first, start);
            let left = Left {
                at: at.get(self.cut * right..).unwrap_or_default(),
                inner: inner - self.cut,
                ..self.left
            };
            gemm::<V>(&mut result, self.width, left, rest, Initial::Result);
            result
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_product_is_the_sum_of_products_on_every_kind_of_register(
            rows in 0_usize..40, inner in 1_usize..12, cut in 0_usize..12, vectors in 1_usize..8, transposed: bool, with_bias: bool, seed: u64
        ) {
            let mut random = seed;
            let mut draw = |n: usize| -> Vec<f32> {
                // Knuth's generator, "The Art of Computer Programming", volume 2, section 3.3.4,
                // line 26.
                let mut next = || {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (random >> 40) as f32 / 8_388_608.0 - 1.0
                };
                (0..n).map(|_| next()).collect()
            };
            let width = vectors * LANES;
            let (a, b, bias) = (draw(rows * inner), draw(inner * width), draw(width));
            let (down, right) = if transposed { (1, rows) } else { (inner, 1) };
            let left = Left { at: &a, rows, inner, down, right };
            let all = on_every_kind(|| Product { left, right: &b, bias: with_bias.then_some(&bias[..]), cut: cut.min(inner), width });
            for i in 0..rows * width {
                let (r, c) = (i / width, i % width);
                let start = if with_bias { f64::from(bias[c]) } else { 0.0 };
                let want: f64 = start + (0..inner).map(|k| f64::from(a[r * down + k * right]) * f64::from(b[k * width + c])).sum::<f64>();
                prop_assert!((f64::from(all[0][i]) - want).abs() < 1e-4, "{} {}", all[0][i], want);
            }
            let whole = on_every_kind(|| Product { left, right: &b, bias: with_bias.then_some(&bias[..]), cut: inner, width });
            let bits = |v: &Vec<f32>| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            prop_assert!(all.iter().chain(&whole).all(|one| bits(one) == bits(&all[0])));
        }
    }
}
