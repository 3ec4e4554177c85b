//! The arithmetic of an epoch of the single-layer net, on vector registers.
//!
//! A row of features is taken in vectors of sixteen, the last one filled up with zeros.
//!
//! At batch 1 each row needs the weights that the row before has left. So a step's update and the next row's dot
//! products are one pass over the weights: a weight is loaded, changed, stored, and multiplied while it is at hand.
//! In larger batches several rows share each load of a weight.

#![allow(clippy::inline_always, reason = "a function that is not inlined into one that may use the registers cannot use them")]

use features::Category;

use crate::simd::{LANES, Vector, Work, dispatch};

pub const CLASSES: usize = Category::COUNT;
/// How many rows ahead memory is asked for: the order is known, and jumps.
const AHEAD: usize = 4;

/// The weights, or a gradient, as vectors: for each sixteen features the four classes' side by side.
type Matrix = Vec<[[f32; LANES]; CLASSES]>;

/// One epoch; see [`crate::fused::SgdEpoch`]. The error is the first batch, from 1, whose loss is no finite number.
pub fn epoch(w: &mut [f32], x: &[f32], y: &[u32], order: &[u32], batch_size: usize, lr: f32) -> Result<(), usize> {
    let problem = Problem { x, y, d: w.len() / CLASSES, order, batch_size, lr };
    let mut matrix = packed(w, problem.d);
    let done = dispatch(Epoch(&mut matrix, &problem));
    unpack(&matrix, w, problem.d);
    done
}

struct Problem<'p> {
    x: &'p [f32],
    y: &'p [u32],
    d: usize,
    order: &'p [u32],
    batch_size: usize,
    lr: f32,
}

impl Problem<'_> {
    /// The row at a place of the order; behind its end, the last one.
    #[inline(always)]
    #[expect(clippy::indexing_slicing, reason = "sizes are checked by the op, and the loop is hot")]
    fn row(&self, i: usize) -> &[f32] {
        &self.x[self.order[i.min(self.order.len() - 1)] as usize * self.d..][..self.d]
    }
}

fn packed(w: &[f32], d: usize) -> Matrix {
    let mut matrix = vec![[[0.0; LANES]; CLASSES]; d.div_ceil(LANES)];
    for (class, row) in w.chunks_exact(d).enumerate() {
        for (vectors, part) in matrix.iter_mut().zip(row.chunks(LANES)) {
            if let Some(to) = vectors.get_mut(class).and_then(|v| v.get_mut(..part.len())) {
                to.copy_from_slice(part);
            }
        }
    }
    matrix
}

fn unpack(matrix: &Matrix, w: &mut [f32], d: usize) {
    for (class, row) in w.chunks_exact_mut(d).enumerate() {
        for (vectors, part) in matrix.iter().zip(row.chunks_mut(LANES)) {
            if let Some(from) = vectors.get(class).and_then(|v| v.get(..part.len())) {
                part.copy_from_slice(from);
            }
        }
    }
}

/// The whole epoch.
struct Epoch<'e>(&'e mut Matrix, &'e Problem<'e>);

impl Work for Epoch<'_> {
    type Out = Result<(), usize>;
    #[inline(always)]
    fn run<V: Vector>(self) -> Self::Out {
        let Self(w, problem) = self;
        if problem.batch_size == 1 { one_by_one::<V>(w, problem) } else { in_batches::<V>(w, problem) }
    }
}

#[inline(always)]
#[expect(
    clippy::indexing_slicing,
    reason = "sizes are checked by the op, the places are constant, and an iterator's closure would not be inlined"
)]
fn one_by_one<V: Vector>(w: &mut Matrix, problem: &Problem<'_>) -> Result<(), usize> {
    let &Problem { y, order, lr, .. } = problem;
    if order.is_empty() {
        return Ok(());
    }
    let mut logits = dots::<V, 1>(w, [problem.row(0)])[0];
    for i in 0..order.len() {
        let Some(mut errors) = probabilities(logits) else { return Err(i + 1) };
        errors[y[order[i] as usize] as usize] -= 1.0;
        let mut factors = [V::zero(); CLASSES];
        for k in 0..CLASSES {
            factors[k] = V::all(-lr * errors[k]);
        }
        let (this, this_rest) = problem.row(i).as_chunks::<LANES>();
        let (next, next_rest) = problem.row(i + 1).as_chunks::<LANES>();
        let ahead = problem.row(i + AHEAD).as_ptr();
        let mut sums = [V::zero(); CLASSES];
        let (whole, rest) = w.split_at_mut(this.len());
        for (j, ((w, this), next)) in whole.iter_mut().zip(this).zip(next).enumerate() {
            V::prefetch(ahead.wrapping_add(j * LANES));
            update(w, factors, V::load(this), V::load(next), &mut sums);
        }
        if let Some(w) = rest.first_mut() {
            update(w, factors, V::load_part(this_rest), V::load_part(next_rest), &mut sums);
        }
        logits = V::sums(sums);
    }
    // The last pass multiplied the new weights with the last row, so what they have become is seen here.
    if logits.iter().sum::<f32>().is_finite() { Ok(()) } else { Err(order.len()) }
}

/// Changes the weights of sixteen features, and adds the products of the changed ones with the next row's.
#[inline(always)]
#[expect(clippy::indexing_slicing, reason = "constant places; an iterator's closure would not be inlined")]
fn update<V: Vector>(w: &mut [[f32; LANES]; CLASSES], factors: [V; CLASSES], this: V, next: V, sums: &mut [V; CLASSES]) {
    for k in 0..CLASSES {
        let new = this.mul_add(factors[k], V::load(&w[k]));
        new.store(&mut w[k]);
        sums[k] = new.mul_add(next, sums[k]);
    }
}

#[inline(always)]
#[expect(clippy::indexing_slicing, reason = "constant places; an iterator's closure would not be inlined")]
fn in_batches<V: Vector>(w: &mut Matrix, problem: &Problem<'_>) -> Result<(), usize> {
    let mut gradient: Matrix = vec![[[0.0; LANES]; CLASSES]; w.len()];
    for (number, batch) in problem.order.chunks(problem.batch_size).enumerate() {
        let mut rest = batch;
        let start = number * problem.batch_size;
        while !rest.is_empty() {
            let at = start + batch.len() - rest.len();
            let done = match rest.len() {
                4.. if V::IS_WIDE => rows::<V, 4>(w, &mut gradient, problem, at),
                2.. if V::IS_WIDE => rows::<V, 2>(w, &mut gradient, problem, at),
                _ => rows::<V, 1>(w, &mut gradient, problem, at),
            };
            let Some(done) = done else { return Err(number + 1) };
            rest = rest.get(done..).unwrap_or_default();
        }
        let rate = V::all(-problem.lr / batch.len() as f32);
        for (w, g) in w.iter_mut().zip(gradient.iter_mut()) {
            for k in 0..CLASSES {
                V::load(&g[k]).mul_add(rate, V::load(&w[k])).store(&mut w[k]);
                V::zero().store(&mut g[k]);
            }
        }
    }
    Ok(())
}

/// Adds the gradient of `R` rows from the place `at` of the order on, and gives `R`; `None` if a logit is no finite number.
#[inline(always)]
#[expect(
    clippy::indexing_slicing,
    clippy::question_mark,
    reason = "sizes are checked by the op, the places are constant, and an iterator's closure would not be inlined"
)]
fn rows<V: Vector, const R: usize>(w: &Matrix, gradient: &mut Matrix, problem: &Problem<'_>, at: usize) -> Option<usize> {
    let &Problem { y, order, .. } = problem;
    let mut these = [problem.row(at); R];
    let mut ahead = [std::ptr::null(); R];
    for r in 0..R {
        these[r] = problem.row(at + r);
        ahead[r] = problem.row(at + R + r).as_ptr();
    }
    let logits = dots::<V, R>(w, these);
    let mut factors = [[V::zero(); CLASSES]; R];
    for r in 0..R {
        let Some(mut errors) = probabilities(logits[r]) else { return None };
        errors[y[order[at + r] as usize] as usize] -= 1.0;
        for k in 0..CLASSES {
            factors[r][k] = V::all(errors[k]);
        }
    }
    for (j, g) in gradient.iter_mut().enumerate() {
        let mut x = [V::zero(); R];
        for r in 0..R {
            x[r] = vector(these[r], j);
            V::prefetch(ahead[r].wrapping_add(j * LANES));
        }
        for k in 0..CLASSES {
            let mut sum = V::load(&g[k]);
            for r in 0..R {
                sum = x[r].mul_add(factors[r][k], sum);
            }
            sum.store(&mut g[k]);
        }
    }
    Some(R)
}

/// The dot products of rows with the weights of each class.
#[inline(always)]
#[expect(clippy::indexing_slicing, reason = "constant places; an iterator's closure would not be inlined")]
fn dots<V: Vector, const R: usize>(w: &Matrix, rows: [&[f32]; R]) -> [[f32; CLASSES]; R] {
    let mut sums = [[V::zero(); CLASSES]; R];
    for (j, w) in w.iter().enumerate() {
        let mut x = [V::zero(); R];
        for r in 0..R {
            x[r] = vector(rows[r], j);
        }
        for k in 0..CLASSES {
            let w = V::load(&w[k]);
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

/// The `j`th vector of a row, zeros behind its end.
#[inline(always)]
fn vector<V: Vector>(row: &[f32], j: usize) -> V {
    let rest = row.get(j * LANES..).unwrap_or_default();
    match rest.first_chunk() {
        Some(whole) => V::load(whole),
        None => V::load_part(rest),
    }
}

/// softmax(logits), or `None` if one of them is no finite number. The largest is subtracted first, so that no exponential
/// overflows.
#[inline(always)]
pub fn probabilities(logits: [f32; CLASSES]) -> Option<[f32; CLASSES]> {
    let [a, b, c, d] = logits;
    if !(a + b + c + d).is_finite() {
        return None;
    }
    let largest = a.max(b).max(c.max(d));
    let [e, f, g, h] = [exp(a - largest), exp(b - largest), exp(c - largest), exp(d - largest)];
    let scale = 1.0 / ((e + f) + (g + h));
    Some([e * scale, f * scale, g * scale, h * scale])
}

/// eˣ for x ≤ 0, to two units in the last place: 2ⁿ times a polynomial on [−ln 2 / 2, ln 2 / 2] (S. L. Moshier's Cephes,
/// `expf`). Not the system's, so that every machine has the same.
#[inline(always)]
#[expect(clippy::excessive_precision, reason = "as published")]
#[expect(clippy::cast_possible_truncation, reason = "n is between −127 and 0")]
fn exp(x: f32) -> f32 {
    // Below this the result is no normal number any more.
    const LEAST: f32 = -87.0;
    // Added and subtracted, it rounds to a whole number.
    const ROUND: f32 = 12_582_912.0;
    let x = x.max(LEAST);
    let n = x.mul_add(std::f32::consts::LOG2_E, ROUND) - ROUND;
    let r = n.mul_add(-0.693_359_375, x);
    let r = n.mul_add(2.121_944_4e-4, r);
    let mut p = 1.987_569_15e-4_f32;
    for c in [1.398_199_950_7e-3, 8.333_451_907_3e-3, 4.166_579_589_4e-2, 1.666_666_545_9e-1, 5.000_000_120_1e-1] {
        p = p.mul_add(r, c);
    }
    let p = p.mul_add(r * r, r) + 1.0;
    p * f32::from_bits(((n as i32) + 127).cast_unsigned() << 23)
}

#[cfg(test)]
mod tests;
