//! The epoch of the single-layer net for more than four classes: four classes at a time, so that
//! their weights stay in the first-level cache while several rows use them.

#![allow(
    clippy::inline_always,
    clippy::indexing_slicing,
    clippy::needless_range_loop,
    reason = "sizes are checked by the op, and see kernels::simd: an iterator's closure may not be inlined"
)]

use kernels::linear::{GROUP, Group, Matrix, dots, vector};
use kernels::simd::{LANES, Vector, Work};
use kernels::softmax::softmax_in_place;

use super::{AHEAD, Problem};

/// Rows of a batch that use four classes' weights before the next four: with up to 512 features,
/// they fit into the second-level cache beside them.
const ROWS: usize = 32;

/// The whole epoch.
pub struct ManyClassesEpoch<'e> {
    pub w: &'e mut Matrix,
    pub problem: &'e Problem<'e>,
}

impl Work for ManyClassesEpoch<'_> {
    type Out = Result<(), usize>;
    #[inline(always)]
    fn run<V: Vector>(self) -> Self::Out {
        if self.problem.batch_size == 1 { self.one_by_one::<V>() } else { self.in_batches::<V>() }
    }
}

impl ManyClassesEpoch<'_> {
    /// A step on each row. A pass over the weights does the step and multiplies the new weights
    /// with the next row.
    #[inline(always)]
    fn one_by_one<V: Vector>(self) -> Result<(), usize> {
        let Self { w, problem } = self;
        let &Problem { order, classes, d, lr, .. } = problem;
        let vectors = d.div_ceil(LANES);
        let mut z = vec![0.0; classes.next_multiple_of(GROUP)];
        for (z, four) in z.as_chunks_mut::<GROUP>().0.iter_mut().zip(w.chunks_exact(vectors)) {
            *z = dots::<V, 1, GROUP>(four, [problem.row(0)])[0];
        }
        for i in 0..order.len() {
            if !errors(&mut z, problem, i, -lr) {
                return Err(i + 1);
            }
            let (row, next) = (problem.row(i), problem.row(i + 1));
            let ahead = problem.row(i + AHEAD).as_ptr();
            for j in 0..vectors {
                V::prefetch(ahead.wrapping_add(j * LANES));
            }
            for (z, four) in
                z.as_chunks_mut::<GROUP>().0.iter_mut().zip(w.chunks_exact_mut(vectors))
            {
                let mut factors = [V::zero(); GROUP];
                for k in 0..GROUP {
                    factors[k] = V::all(z[k]);
                }
                let mut sums = [V::zero(); GROUP];
                for (j, w) in four.iter_mut().enumerate() {
                    let (a, b) = (vector::<V>(row, j), vector::<V>(next, j));
                    for k in 0..GROUP {
                        let new = a.mul_add(factors[k], V::load(&w.0[k]));
                        new.store(&mut w.0[k]);
                        sums[k] = new.mul_add(b, sums[k]);
                    }
                }
                *z = V::sums(sums);
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn in_batches<V: Vector>(self) -> Result<(), usize> {
        let Self { w, problem } = self;
        let &Problem { order, classes, d, batch_size, lr, .. } = problem;
        let (vectors, width) = (d.div_ceil(LANES), classes.next_multiple_of(GROUP));
        let mut gradient: Matrix = vec![Group::ZERO; w.len()];
        let mut z = vec![0.0; ROWS.min(batch_size) * width];
        for (number, batch) in order.chunks(batch_size).enumerate() {
            for (part, rows) in batch.chunks(ROWS).enumerate() {
                let at = number * batch_size + part * ROWS;
                for (group, four) in w.chunks_exact(vectors).enumerate() {
                    let mut r = 0;
                    while r < rows.len() {
                        let z = &mut z[r * width + group * GROUP..];
                        r += if V::IS_WIDE && r + 4 <= rows.len() {
                            logits::<V, 4>(four, problem, at + r, z, width)
                        } else {
                            logits::<V, 1>(four, problem, at + r, z, width)
                        };
                    }
                }
                for (r, z) in z.chunks_exact_mut(width).take(rows.len()).enumerate() {
                    if !errors(z, problem, at + r, 1.0) {
                        return Err(number + 1);
                    }
                }
                for (group, four) in gradient.chunks_exact_mut(vectors).enumerate() {
                    let mut r = 0;
                    while r < rows.len() {
                        let errors = &z[r * width + group * GROUP..];
                        r += if V::IS_WIDE && r + 4 <= rows.len() {
                            add::<V, 4>(four, problem, at + r, errors, width)
                        } else {
                            add::<V, 1>(four, problem, at + r, errors, width)
                        };
                    }
                }
            }
            let rate = V::all(-lr / batch.len() as f32);
            for (w, g) in w.iter_mut().zip(gradient.iter_mut()) {
                for k in 0..GROUP {
                    V::load(&g.0[k]).mul_add(rate, V::load(&w.0[k])).store(&mut w.0[k]);
                    V::zero().store(&mut g.0[k]);
                }
            }
        }
        Ok(())
    }
}

/// Computes the logits of four classes for `R` rows from position `at` of the order on. A row's
/// logits are `width` after those of the row before. Returns `R`.
#[inline(always)]
fn logits<V: Vector, const R: usize>(
    four: &[Group],
    problem: &Problem<'_>,
    at: usize,
    z: &mut [f32],
    width: usize,
) -> usize {
    let mut rows = [problem.row(at); R];
    for r in 0..R {
        rows[r] = problem.row(at + r);
    }
    let all = dots::<V, R, GROUP>(four, rows);
    for r in 0..R {
        z[r * width..][..GROUP].copy_from_slice(&all[r]);
    }
    R
}

/// Adds the rows, each times its errors of four classes, to these classes' gradient. Returns `R`.
#[inline(always)]
fn add<V: Vector, const R: usize>(
    four: &mut [Group],
    problem: &Problem<'_>,
    at: usize,
    errors: &[f32],
    width: usize,
) -> usize {
    let mut rows = [problem.row(at); R];
    let mut factors = [[V::zero(); GROUP]; R];
    for r in 0..R {
        rows[r] = problem.row(at + r);
        for k in 0..GROUP {
            factors[r][k] = V::all(errors[r * width + k]);
        }
    }
    for (j, g) in four.iter_mut().enumerate() {
        let mut x = [V::zero(); R];
        for r in 0..R {
            x[r] = vector(rows[r], j);
        }
        for k in 0..GROUP {
            let mut sum = V::load(&g.0[k]);
            for r in 0..R {
                sum = x[r].mul_add(factors[r][k], sum);
            }
            sum.store(&mut g.0[k]);
        }
    }
    R
}

/// Turns the logits of the row at a position of the order into their errors, times a factor.
/// Returns `false` if a logit is not finite.
#[inline(always)]
fn errors(z: &mut [f32], problem: &Problem<'_>, at: usize, factor: f32) -> bool {
    let (z, filling) = z.split_at_mut(problem.classes);
    filling.fill(0.0);
    if !softmax_in_place(z) {
        return false;
    }
    z[problem.y[problem.order[at] as usize] as usize] -= 1.0;
    for z in z {
        *z *= factor;
    }
    true
}
