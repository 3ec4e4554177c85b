//! The arithmetic of an epoch of the single-layer net, on vector registers.
//!
//! At batch size 1, each row needs the weights that the row before has left, so a step would wait
//! for its softmax: dot products, exponentials and a division, one after the other, while the
//! registers have nothing to do. But the next row's logits need not wait for those weights. With W'
//! = W − η e xᵀ,
//!
//! W' x' = W x' − η e (xᵀ x').
//!
//! So the pass over the weights that multiplies them with the next row runs while the softmax of
//! this row is still being computed, and the effect of the step, four numbers, is added afterwards.
//! One pass does the step of the row before and the products with the row after.
//!
//! In larger batches, several rows share each load of a weight.
//!
//! This file has the epoch for two to four classes, whose weights and sums fit into registers side
//! by side; `many.rs` has it for more.

#![allow(
    clippy::inline_always,
    clippy::needless_range_loop,
    reason = "see kernels::simd: an iterator's closure may not be inlined"
)]

mod many;

use kernels::linear::{GROUP, Group, Matrix, dots, packed, unpack, vector};
use kernels::simd::{LANES, Vector, Work, dispatch};
use kernels::softmax::softmax;

use many::ManyClassesEpoch;

/// How many rows ahead memory is prefetched: the order is known, but jumps.
const AHEAD: usize = 4;

/// One epoch on the weights `w` \[classes, d\]; see [`crate::single::SgdEpoch`]. The error is the first batch, counted from 1, whose
/// loss is not finite; the caller has to check the weights after the last step.
pub fn epoch(
    w: &mut [f32],
    classes: usize,
    x: &[f32],
    y: &[u32],
    order: &[u32],
    batch_size: usize,
    lr: f32,
) -> Result<(), usize> {
    let problem = Problem { x, y, classes, d: w.len() / classes, order, batch_size, lr };
    let mut matrix = packed(w, classes);
    // Each in a function of its own: together, the compiler has fewer registers for each.
    let done = match classes {
        2 => dispatch(FewClassesEpoch::<2>(&mut matrix, &problem)),
        3 => dispatch(FewClassesEpoch::<3>(&mut matrix, &problem)),
        GROUP => dispatch(FewClassesEpoch::<GROUP>(&mut matrix, &problem)),
        _ => dispatch(ManyClassesEpoch { w: &mut matrix, problem: &problem }),
    };
    unpack(&matrix, w, classes);
    done
}

struct Problem<'p> {
    x: &'p [f32],
    y: &'p [u32],
    classes: usize,
    d: usize,
    order: &'p [u32],
    batch_size: usize,
    lr: f32,
}

impl Problem<'_> {
    /// The row at position `i` of the order; beyond its end, the last row.
    #[inline(always)]
    #[expect(clippy::indexing_slicing, reason = "sizes are checked by the op, and the loop is hot")]
    fn row(&self, i: usize) -> &[f32] {
        &self.x[self.order[i.min(self.order.len() - 1)] as usize * self.d..][..self.d]
    }
}

/// The whole epoch for `K` classes.
struct FewClassesEpoch<'e, const K: usize>(&'e mut Matrix, &'e Problem<'e>);

impl<const K: usize> Work for FewClassesEpoch<'_, K> {
    type Out = Result<(), usize>;
    #[inline(always)]
    fn run<V: Vector>(self) -> Self::Out {
        let Self(w, problem) = self;
        if problem.batch_size == 1 {
            one_by_one::<V, K>(w, problem)
        } else {
            in_batches::<V, K>(w, problem)
        }
    }
}

#[inline(always)]
#[expect(
    clippy::indexing_slicing,
    reason = "sizes are checked by the op, the indices are constant, and an iterator's closure would not be inlined"
)]
fn one_by_one<V: Vector, const K: usize>(
    w: &mut Matrix,
    problem: &Problem<'_>,
) -> Result<(), usize> {
    let &Problem { y, order, lr, .. } = problem;
    if order.is_empty() {
        return Ok(());
    }
    // Row i's logits by the weights after the step of row i − 1, and that step's factors.
    let mut logits = dots::<V, 1, K>(w, [problem.row(0)])[0];
    let mut factors = [V::zero(); GROUP];
    for i in 0..order.len() {
        let rows = [problem.row(i.saturating_sub(1)), problem.row(i), problem.row(i + 1)];
        let mut pass = WeightPass::<V, K>::new(factors, rows, problem.row(i + AHEAD).as_ptr());
        // A processor looks some hundreds of instructions ahead. With its softmax in the middle, it
        // finds work on both sides of it.
        let middle = w.len() / 3;
        let (first, second) = w.split_at_mut(middle);
        pass.go(first, 0);
        let Some(p) = softmax::<K>(logits) else { return Err(i + 1) };
        let label = y[order[i] as usize] as usize;
        let mut errors = [0.0; GROUP];
        for k in 0..K {
            // Without a separate store at the label: the load of all four would wait for it.
            errors[k] = -lr * (p[k] - if k == label { 1.0 } else { 0.0 });
        }
        for k in 0..K {
            factors[k] = V::all(errors[k]);
        }
        pass.go(second, middle);
        logits = pass.end(factors);
    }
    let last = problem.row(order.len() - 1);
    WeightPass::<V, K>::new(factors, [last; 3], last.as_ptr()).go(w, 0);
    Ok(())
}

/// A pass over the weights: adds `factors` times the first row to them, and multiplies them with
/// the third row, and the second row with the third.
struct WeightPass<'r, V, const K: usize> {
    factors: [V; GROUP],
    rows: [&'r [f32]; 3],
    ahead: *const f32,
    sums: [V; GROUP],
    gram: V,
}

impl<'r, V: Vector, const K: usize> WeightPass<'r, V, K> {
    #[inline(always)]
    fn new(factors: [V; GROUP], rows: [&'r [f32]; 3], ahead: *const f32) -> Self {
        Self { factors, rows, ahead, sums: [V::zero(); GROUP], gram: V::zero() }
    }

    /// Passes over some of the weights, beginning with those of the `from`th group of sixteen
    /// features.
    #[inline(always)]
    fn go(&mut self, w: &mut [Group], from: usize) {
        let skip =
            |row: &'r [f32]| row.get(from * LANES..).unwrap_or_default().as_chunks::<LANES>();
        let [(a, a_rest), (b, b_rest), (c, c_rest)] =
            [skip(self.rows[0]), skip(self.rows[1]), skip(self.rows[2])];
        let (whole, rest) = w.split_at_mut(a.len().min(w.len()));
        for (j, (((w, a), b), c)) in whole.iter_mut().zip(a).zip(b).zip(c).enumerate() {
            V::prefetch(self.ahead.wrapping_add((from + j) * LANES));
            self.update(w, [V::load(a), V::load(b), V::load(c)]);
        }
        if let Some(w) = rest.first_mut() {
            self.update(w, [V::load_part(a_rest), V::load_part(b_rest), V::load_part(c_rest)]);
        }
    }

    #[inline(always)]
    #[expect(clippy::indexing_slicing, reason = "constant indices")]
    fn update(&mut self, w: &mut Group, [a, b, c]: [V; 3]) {
        self.gram = b.mul_add(c, self.gram);
        for k in 0..K {
            let new = a.mul_add(self.factors[k], V::load(&w.0[k]));
            new.store(&mut w.0[k]);
            self.sums[k] = new.mul_add(c, self.sums[k]);
        }
    }

    /// The weights' products with the third row, as after the second row's step with `factors`.
    #[inline(always)]
    #[expect(clippy::indexing_slicing, reason = "constant indices")]
    fn end(mut self, factors: [V; GROUP]) -> [f32; GROUP] {
        for k in 0..K {
            self.sums[k] = self.gram.mul_add(factors[k], self.sums[k]);
        }
        V::sums(self.sums)
    }
}

#[inline(always)]
#[expect(
    clippy::indexing_slicing,
    reason = "constant indices; an iterator's closure would not be inlined"
)]
fn in_batches<V: Vector, const K: usize>(
    w: &mut Matrix,
    problem: &Problem<'_>,
) -> Result<(), usize> {
    let mut gradient: Matrix = vec![Group::ZERO; w.len()];
    for (number, batch) in problem.order.chunks(problem.batch_size).enumerate() {
        let start = number * problem.batch_size;
        let few = match batch.len() {
            1 => Some(few::<V, 1, K>(w, problem, start)),
            2 => Some(few::<V, 2, K>(w, problem, start)),
            3 => Some(few::<V, 3, K>(w, problem, start)),
            4 => Some(few::<V, 4, K>(w, problem, start)),
            _ => None,
        };
        match few {
            Some(true) => continue,
            Some(false) => return Err(number + 1),
            None => {}
        }
        let mut rest = batch;
        while !rest.is_empty() {
            let at = start + batch.len() - rest.len();
            let done = match rest.len() {
                4.. if V::IS_WIDE => rows::<V, 4, K>(w, &mut gradient, problem, at),
                2.. if V::IS_WIDE => rows::<V, 2, K>(w, &mut gradient, problem, at),
                _ => rows::<V, 1, K>(w, &mut gradient, problem, at),
            };
            let Some(done) = done else { return Err(number + 1) };
            rest = rest.get(done..).unwrap_or_default();
        }
        let rate = V::all(-problem.lr / batch.len() as f32);
        for (w, g) in w.iter_mut().zip(gradient.iter_mut()) {
            for k in 0..K {
                V::load(&g.0[k]).mul_add(rate, V::load(&w.0[k])).store(&mut w.0[k]);
                V::zero().store(&mut g.0[k]);
            }
        }
    }
    Ok(())
}

/// A step on `R` rows from position `at` of the order on, few enough that their gradient need not
/// be stored. Returns `false` if a logit is not finite.
#[inline(always)]
#[expect(
    clippy::indexing_slicing,
    reason = "sizes are checked by the op, the indices are constant, and an iterator's closure would not be inlined"
)]
fn few<V: Vector, const R: usize, const K: usize>(
    w: &mut Matrix,
    problem: &Problem<'_>,
    at: usize,
) -> bool {
    let &Problem { y, order, lr, .. } = problem;
    let mut these = [problem.row(at); R];
    let mut ahead = [std::ptr::null(); R];
    for r in 0..R {
        these[r] = problem.row(at + r);
        ahead[r] = problem.row(at + R + r).as_ptr();
    }
    let mut logits = [[0.0; GROUP]; R];
    if V::IS_WIDE {
        logits = dots::<V, R, K>(w, these);
    } else {
        for r in 0..R {
            logits[r] = dots::<V, 1, K>(w, [these[r]])[0];
        }
    }
    let rate = -lr / R as f32;
    let mut factors = [[V::zero(); GROUP]; R];
    for r in 0..R {
        let Some(p) = softmax::<K>(logits[r]) else { return false };
        let label = y[order[at + r] as usize] as usize;
        for k in 0..K {
            factors[r][k] = V::all(rate * (p[k] - if k == label { 1.0 } else { 0.0 }));
        }
    }
    for (j, w) in w.iter_mut().enumerate() {
        let mut x = [V::zero(); R];
        for r in 0..R {
            x[r] = vector(these[r], j);
            V::prefetch(ahead[r].wrapping_add(j * LANES));
        }
        for k in 0..K {
            let mut new = V::load(&w.0[k]);
            for r in 0..R {
                new = x[r].mul_add(factors[r][k], new);
            }
            new.store(&mut w.0[k]);
        }
    }
    true
}

/// Adds the gradient of `R` rows from position `at` of the order on. Returns `R`, or `None` if a
/// logit is not finite.
#[inline(always)]
#[expect(
    clippy::indexing_slicing,
    clippy::question_mark,
    reason = "sizes are checked by the op, the indices are constant, and an iterator's closure would not be inlined"
)]
fn rows<V: Vector, const R: usize, const K: usize>(
    w: &Matrix,
    gradient: &mut Matrix,
    problem: &Problem<'_>,
    at: usize,
) -> Option<usize> {
    let &Problem { y, order, .. } = problem;
    let mut these = [problem.row(at); R];
    let mut ahead = [std::ptr::null(); R];
    for r in 0..R {
        these[r] = problem.row(at + r);
        ahead[r] = problem.row(at + R + r).as_ptr();
    }
    let logits = dots::<V, R, K>(w, these);
    let mut factors = [[V::zero(); GROUP]; R];
    for r in 0..R {
        let Some(p) = softmax::<K>(logits[r]) else { return None };
        let label = y[order[at + r] as usize] as usize;
        for k in 0..K {
            factors[r][k] = V::all(p[k] - if k == label { 1.0 } else { 0.0 });
        }
    }
    for (j, g) in gradient.iter_mut().enumerate() {
        let mut x = [V::zero(); R];
        for r in 0..R {
            x[r] = vector(these[r], j);
            V::prefetch(ahead[r].wrapping_add(j * LANES));
        }
        for k in 0..K {
            let mut sum = V::load(&g.0[k]);
            for r in 0..R {
                sum = x[r].mul_add(factors[r][k], sum);
            }
            sum.store(&mut g.0[k]);
        }
    }
    Some(R)
}

#[cfg(test)]
mod tests;
