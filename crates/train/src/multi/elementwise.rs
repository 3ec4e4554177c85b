//! The element-wise operations of a step of [`crate::multi::epoch`], on the columns of one thread.

#![allow(clippy::inline_always, reason = "see kernels::simd")]

use nets::{BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM};

use crate::multi::shard::Shard;

#[expect(clippy::cast_possible_truncation, reason = "the statistics are f32")]
const EPSILON: f32 = BATCH_NORM_EPSILON as f32;
#[expect(clippy::cast_possible_truncation, reason = "the statistics are f32")]
const MOMENTUM: f32 = BATCH_NORM_MOMENTUM as f32;

/// Applies a ReLU.
#[inline(always)]
pub fn relu(values: &mut [f32]) {
    for v in values {
        *v = kernels::relu(*v);
    }
}

/// Multiplies by dropout's factors, if there are any.
#[inline(always)]
pub fn drop_units(values: &mut [f32], mask: Option<&Vec<f32>>) {
    for (v, m) in values.iter_mut().zip(mask.into_iter().flatten()) {
        *v *= m;
    }
}

/// Turns Z into N, and updates the running statistics by its mean and variance.
#[inline(always)]
pub fn normalise(z: &mut [f32], inverse: &mut [f32], sums: &mut [Vec<f32>; 2], shard: &mut Shard) {
    let width = shard.width();
    let n = z.len() / width;
    let per_row = 1.0 / n as f32;
    let [mean, variance] = sums;
    mean.fill(0.0);
    variance.fill(0.0);
    for row in z.chunks_exact(width) {
        for (m, z) in mean.iter_mut().zip(row) {
            *m += z;
        }
    }
    for m in mean.iter_mut() {
        *m *= per_row;
    }
    for row in z.chunks_exact_mut(width) {
        for ((z, m), v) in row.iter_mut().zip(mean.iter()).zip(variance.iter_mut()) {
            *z -= m;
            *v += *z * *z;
        }
    }
    for (v, i) in variance.iter_mut().zip(inverse.iter_mut()) {
        *v *= per_row;
        *i = 1.0 / (*v + EPSILON).sqrt();
    }
    for row in z.chunks_exact_mut(width) {
        for (z, i) in row.iter_mut().zip(inverse.iter()) {
            *z *= i;
        }
    }
    let remember = |running: &mut [f32], new: &[f32], factor: f32| {
        for (r, new) in running.iter_mut().zip(new) {
            *r = *r * (1.0 - MOMENTUM) + new * (MOMENTUM * factor);
        }
    };
    remember(&mut shard.running_mean, mean, 1.0);
    // The running variance is divided by n − 1; a batch of one row has none.
    if n > 1 {
        remember(&mut shard.running_var, variance, n as f32 / (n - 1) as f32);
    }
}

/// Back through dropout and relu: what was dropped or below 0 has no part in the loss.
#[inline(always)]
pub fn by_relu(by_h: &mut [f32], h: &[f32], mask: Option<&Vec<f32>>) {
    for (g, h) in by_h.iter_mut().zip(h) {
        *g = if *h > 0.0 { *g } else { 0.0 };
    }
    drop_units(by_h, mask);
}

/// Turns the gradient by γ N + β into that by Z, and adds up the gradients of γ and β.
#[inline(always)]
pub fn by_batch_norm(
    by_z: &mut [f32],
    by_h: &[f32],
    normal: &[f32],
    inverse: &[f32],
    sums: &mut [Vec<f32>; 2],
    shard: &mut Shard,
) {
    let width = shard.width();
    let rows = by_h.len() / width;
    let [of_g, of_gn] = sums;
    of_g.fill(0.0);
    of_gn.fill(0.0);
    for (g, n) in by_h.chunks_exact(width).zip(normal.chunks_exact(width)) {
        for (((a, b), g), n) in of_g.iter_mut().zip(of_gn.iter_mut()).zip(g).zip(n) {
            *a += g;
            *b += g * n;
        }
    }
    for ((gradient, by_shift), (a, b)) in shard
        .scale
        .gradient
        .iter_mut()
        .zip(shard.shift.gradient.iter_mut())
        .zip(of_g.iter_mut().zip(of_gn.iter_mut()))
    {
        *gradient += *b;
        *by_shift += *a;
        *a /= rows as f32;
        *b /= rows as f32;
    }
    let rows =
        by_z.chunks_exact_mut(width).zip(by_h.chunks_exact(width)).zip(normal.chunks_exact(width));
    for ((z, g), n) in rows {
        let parts = z
            .iter_mut()
            .zip(g)
            .zip(n)
            .zip(of_g.iter().zip(of_gn.iter()))
            .zip(inverse.iter().zip(&shard.scale.value));
        for ((((z, g), n), (mean_g, mean_gn)), (inverse, scale)) in parts {
            *z = scale * inverse * (g - mean_g - n * mean_gn);
        }
    }
}

/// The sums of the columns, of which there are as many as `sums`.
#[inline(always)]
pub fn column_sums(sums: &mut [f32], values: &[f32]) {
    sums.fill(0.0);
    add_rows(sums, values);
}

/// Adds every row to the sums.
#[inline(always)]
pub fn add_rows(sums: &mut [f32], values: &[f32]) {
    for row in values.chunks_exact(sums.len()) {
        add(sums, row);
    }
}

/// Adds each value to its sum.
#[inline(always)]
pub fn add(sums: &mut [f32], values: &[f32]) {
    for (s, v) in sums.iter_mut().zip(values) {
        *s += v;
    }
}

/// `to` \[columns, rows\] ← the first `columns` of `from` \[rows, width\].
#[inline(always)]
pub fn transpose(to: &mut [f32], from: &[f32], rows: usize, width: usize, columns: usize) {
    for (column, to) in to.chunks_exact_mut(rows).take(columns).enumerate() {
        for (to, from) in to.iter_mut().zip(from.iter().skip(column).step_by(width)) {
            *to = *from;
        }
    }
}
