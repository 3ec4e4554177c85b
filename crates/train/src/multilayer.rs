//! An epoch of the multi-layer net, forward and backward by hand.
//!
//! Through automatic differentiation at batch 64 four fifths of the time went into copies, allocations and the graph; here
//! nothing is allocated within an epoch. Checked against candle's autograd in the tests below.
//!
//! The net, with the batch's rows below each other: H₀ = relu(X W₁ᵀ + b₁), then `layers` times Z = H W_mᵀ + b_m,
//! N = (Z − mean) / √(variance + ε), H = relu(γ N + β), then logits = H W_oᵀ + b_o, in a relu if `relu_out`. Backward: with
//! p the probabilities and t the target, ∂/∂logits = (p − t) / n; through batch norm (Ioffe and Szegedy, 2015, section 3)
//! ∂/∂Z = (γ / √(variance + ε)) (G − mean(G) − N mean(G N)), where G = ∂/∂(γ N + β).
//!
//! Matrices of weights lie transposed, [inputs, outputs], with rows filled up to whole vectors by zeros, which no step changes:
//! their gradient is 0.

#![allow(clippy::inline_always, reason = "see simd.rs")]

use features::Category;

use crate::gemm::{Left, gemm};
use crate::kernel::probabilities;
use crate::random::Random;
use crate::simd::{LANES, Vector, Work};
use crate::update::{Update, Weight, step};

const CLASSES: usize = Category::COUNT;
/// PyTorch's `BatchNorm1d` defaults.
const EPSILON: f32 = 1e-5;
const MOMENTUM: f32 = 0.1;

/// The net's weights and statistics.
pub struct Weights {
    pub dimension: usize,
    pub hidden: usize,
    pub layers: usize,
    pub relu_out: bool,
    /// [dimension, hidden].
    pub fc: Weight,
    pub fc_bias: Weight,
    /// [hidden, hidden].
    pub mid: Weight,
    pub mid_bias: Weight,
    pub scale: Weight,
    pub shift: Weight,
    /// [hidden, 4].
    pub out: Weight,
    pub out_bias: Weight,
    pub running_mean: Vec<f32>,
    pub running_var: Vec<f32>,
}

/// An epoch.
pub struct Epoch<'e> {
    pub weights: &'e mut Weights,
    pub x: &'e [f32],
    pub y: &'e [u32],
    pub order: &'e [u32],
    pub batch_size: usize,
    pub update: Update,
    pub dropout: f64,
    pub label_smoothing: f64,
    pub random: &'e mut Random,
}

/// What a batch needs, made once.
struct Scratch {
    x: Vec<f32>,
    /// H₀ and every layer's H.
    h: Vec<Vec<f32>>,
    /// Every layer's N, and 1 / √(variance + ε).
    normal: Vec<Vec<f32>>,
    inverse: Vec<Vec<f32>>,
    masks: Vec<Vec<f32>>,
    logits: Vec<f32>,
    /// The gradient by H, and by Z.
    by_h: Vec<f32>,
    by_z: Vec<f32>,
    mid_transposed: Vec<f32>,
    out_transposed: Vec<f32>,
    sums: [Vec<f32>; 2],
    product: Vec<f32>,
}

/// The width of rows of so many elements.
pub fn padded(n: usize) -> usize {
    n.next_multiple_of(LANES)
}

impl Work for Epoch<'_> {
    type Out = Result<(), usize>;
    #[inline(always)]
    fn run<V: Vector>(self) -> Self::Out {
        let Self { weights, x, y, order, batch_size, mut update, dropout, label_smoothing, random } = self;
        let (d, width, layers) = (weights.dimension, padded(weights.hidden), weights.layers);
        let n = batch_size.min(order.len());
        let many = |count: usize, size: usize| vec![vec![0.0; size]; count];
        let mut scratch = Scratch {
            x: vec![0.0; n * d],
            h: many(layers + 1, n * width),
            normal: many(layers, n * width),
            inverse: many(layers, width),
            masks: Vec::new(),
            logits: vec![0.0; n * LANES],
            by_h: vec![0.0; n * width],
            by_z: vec![0.0; n * width],
            mid_transposed: vec![0.0; width * width],
            out_transposed: vec![0.0; LANES * width],
            sums: [vec![0.0; width], vec![0.0; width]],
            product: vec![0.0; d.max(width) * width],
        };
        for (number, batch) in order.chunks(batch_size).enumerate() {
            for (to, &row) in scratch.x.chunks_exact_mut(d).zip(batch) {
                if let Some(from) = x.get(row as usize * d..).and_then(|rest| rest.get(..d)) {
                    to.copy_from_slice(from);
                }
            }
            scratch.masks.clear();
            if dropout > 0.0 {
                for _ in 0..=layers {
                    scratch.masks.push(mask(random, batch.len(), weights.hidden, dropout));
                }
            }
            forward::<V>(weights, &mut scratch, batch.len());
            if !by_logits(weights.relu_out, &mut scratch.logits, y, batch, label_smoothing) {
                return Err(number + 1);
            }
            backward::<V>(weights, &mut scratch, batch.len());
            update.steps += 1;
            for weight in weights.used() {
                step(weight, &update);
            }
        }
        Ok(())
    }
}

impl Weights {
    /// Every weight that the net uses; as in PyTorch, one that has no gradient does not decay, either.
    fn used(&mut self) -> impl Iterator<Item = &mut Weight> {
        let Self { fc, fc_bias, mid, mid_bias, scale, shift, out, out_bias, layers, .. } = self;
        let middle = (*layers > 0).then_some([mid, mid_bias, scale, shift]);
        [fc, fc_bias, out, out_bias].into_iter().chain(middle.into_iter().flatten())
    }
}

/// Dropout's factors, drawn row by row, with 0 in what fills the rows up.
fn mask(random: &mut Random, rows: usize, hidden: usize, share: f64) -> Vec<f32> {
    let width = padded(hidden);
    let mut mask = vec![0.0; rows * width];
    for (to, from) in mask.chunks_exact_mut(width).zip(random.mask(rows * hidden, share).chunks_exact(hidden)) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = *from;
        }
    }
    mask
}

#[inline(always)]
#[expect(clippy::indexing_slicing, reason = "one place a layer")]
fn forward<V: Vector>(weights: &mut Weights, s: &mut Scratch, rows: usize) {
    let (d, width) = (weights.dimension, padded(weights.hidden));
    let left = Left { at: &s.x, rows, inner: d, down: d, right: 1 };
    gemm::<V>(&mut s.h[0], width, left, &weights.fc.value, Some(&weights.fc_bias.value));
    relu(&mut s.h[0][..rows * width]);
    drop_units(&mut s.h[0], s.masks.first());
    for layer in 0..weights.layers {
        let (before, after) = s.h.split_at_mut(layer + 1);
        let left = Left { at: &before[layer], rows, inner: width, down: width, right: 1 };
        gemm::<V>(&mut s.normal[layer], width, left, &weights.mid.value, Some(&weights.mid_bias.value));
        let z = &mut s.normal[layer][..rows * width];
        normalise(z, &mut s.inverse[layer], &mut s.sums, width, weights);
        let h = &mut after[0][..rows * width];
        for (h, normal) in h.chunks_exact_mut(width).zip(s.normal[layer].chunks_exact(width)) {
            for (((h, n), scale), shift) in h.iter_mut().zip(normal).zip(&weights.scale.value).zip(&weights.shift.value) {
                *h = scale * n + shift;
            }
        }
        relu(h);
        drop_units(h, s.masks.get(layer + 1));
    }
    let left = Left { at: &s.h[weights.layers], rows, inner: width, down: width, right: 1 };
    gemm::<V>(&mut s.logits, LANES, left, &weights.out.value, Some(&weights.out_bias.value));
}

/// Not `max`, which makes 0 of NaN: a net that has diverged would look sound.
#[inline(always)]
fn relu(values: &mut [f32]) {
    for v in values {
        *v = if *v < 0.0 { 0.0 } else { *v };
    }
}

#[inline(always)]
fn drop_units(values: &mut [f32], mask: Option<&Vec<f32>>) {
    for (v, m) in values.iter_mut().zip(mask.into_iter().flatten()) {
        *v *= m;
    }
}

/// Z becomes N; the running statistics remember mean and variance.
#[inline(always)]
fn normalise(z: &mut [f32], inverse: &mut [f32], sums: &mut [Vec<f32>; 2], width: usize, weights: &mut Weights) {
    let n = z.len() / width;
    let share = 1.0 / n as f32;
    let [mean, variance] = sums;
    mean.fill(0.0);
    variance.fill(0.0);
    for row in z.chunks_exact(width) {
        for (m, z) in mean.iter_mut().zip(row) {
            *m += z;
        }
    }
    for m in mean.iter_mut() {
        *m *= share;
    }
    for row in z.chunks_exact_mut(width) {
        for ((z, m), v) in row.iter_mut().zip(mean.iter()).zip(variance.iter_mut()) {
            *z -= m;
            *v += *z * *z;
        }
    }
    for (v, i) in variance.iter_mut().zip(inverse.iter_mut()) {
        *v *= share;
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
    remember(&mut weights.running_mean, mean, 1.0);
    // The variance that is remembered is divided by n − 1; a batch of one row has none.
    if n > 1 {
        remember(&mut weights.running_var, variance, n as f32 / (n - 1) as f32);
    }
}

/// Logits become the gradient by them; `false` if one of them is no finite number.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "shares are f32")]
fn by_logits(relu_out: bool, logits: &mut [f32], y: &[u32], batch: &[u32], smoothing: f64) -> bool {
    let (right, wrong) = ((1.0 - smoothing + smoothing / CLASSES as f64) as f32, (smoothing / CLASSES as f64) as f32);
    let share = 1.0 / batch.len() as f32;
    for (row, &place) in logits.chunks_exact_mut(LANES).zip(batch) {
        let Some(row) = row.first_chunk_mut::<CLASSES>() else { return false };
        let before = *row;
        if relu_out {
            relu(row);
        }
        let Some(p) = probabilities(*row) else { return false };
        let label = y.get(place as usize).map_or(0, |&y| y as usize);
        for (k, ((g, p), before)) in row.iter_mut().zip(p).zip(before).enumerate() {
            let passes = !relu_out || before > 0.0;
            let target = if k == label { right } else { wrong };
            *g = if passes { (p - target) * share } else { 0.0 };
        }
    }
    // What fills the rows up has no part in the loss; its weights are 0, and so it is.
    true
}

#[inline(always)]
#[expect(clippy::indexing_slicing, reason = "one place a layer")]
fn backward<V: Vector>(weights: &mut Weights, s: &mut Scratch, rows: usize) {
    let (d, hidden, width, layers) = (weights.dimension, weights.hidden, padded(weights.hidden), weights.layers);
    // The last layer.
    gemm::<V>(
        &mut weights.out.gradient,
        LANES,
        Left { at: &s.h[layers], rows: width, inner: rows, down: 1, right: width },
        &s.logits,
        None,
    );
    column_sums(&mut weights.out_bias.gradient, &s.logits[..rows * LANES], LANES);
    transpose(&mut s.out_transposed, &weights.out.value, width, LANES, CLASSES);
    let left = Left { at: &s.logits, rows, inner: CLASSES, down: LANES, right: 1 };
    gemm::<V>(&mut s.by_h, width, left, &s.out_transposed, None);
    for weight in [&mut weights.mid, &mut weights.mid_bias, &mut weights.scale, &mut weights.shift] {
        weight.gradient.fill(0.0);
    }
    if layers > 0 {
        transpose(&mut s.mid_transposed, &weights.mid.value, width, width, hidden);
    }
    for layer in (0..layers).rev() {
        by_relu(&mut s.by_h[..rows * width], &s.h[layer + 1], s.masks.get(layer + 1));
        by_batch_norm(s, layer, rows, width, weights);
        let left = Left { at: &s.h[layer], rows: width, inner: rows, down: 1, right: width };
        gemm::<V>(&mut s.product, width, left, &s.by_z, None);
        for (g, p) in weights.mid.gradient.iter_mut().zip(&s.product) {
            *g += p;
        }
        column_sums(&mut s.sums[0], &s.by_z[..rows * width], width);
        for (g, p) in weights.mid_bias.gradient.iter_mut().zip(&s.sums[0]) {
            *g += p;
        }
        let left = Left { at: &s.by_z, rows, inner: hidden, down: width, right: 1 };
        gemm::<V>(&mut s.by_h, width, left, &s.mid_transposed, None);
    }
    by_relu(&mut s.by_h[..rows * width], &s.h[0], s.masks.first());
    gemm::<V>(&mut weights.fc.gradient, width, Left { at: &s.x, rows: d, inner: rows, down: 1, right: d }, &s.by_h, None);
    column_sums(&mut weights.fc_bias.gradient, &s.by_h[..rows * width], width);
}

/// Through dropout and relu: what was dropped or below 0 has no part in the loss.
#[inline(always)]
fn by_relu(by_h: &mut [f32], h: &[f32], mask: Option<&Vec<f32>>) {
    for (g, h) in by_h.iter_mut().zip(h) {
        *g = if *h > 0.0 { *g } else { 0.0 };
    }
    drop_units(by_h, mask);
}

/// The gradient by γ N + β becomes that by Z; γ's and β's are added to theirs.
#[inline(always)]
#[expect(clippy::indexing_slicing, reason = "one place a layer")]
fn by_batch_norm(s: &mut Scratch, layer: usize, rows: usize, width: usize, weights: &mut Weights) {
    let [of_g, of_gn] = &mut s.sums;
    of_g.fill(0.0);
    of_gn.fill(0.0);
    for (g, n) in s.by_h.chunks_exact(width).zip(s.normal[layer].chunks_exact(width)).take(rows) {
        for (((a, b), g), n) in of_g.iter_mut().zip(of_gn.iter_mut()).zip(g).zip(n) {
            *a += g;
            *b += g * n;
        }
    }
    for ((gradient, by_shift), (a, b)) in
        weights.scale.gradient.iter_mut().zip(weights.shift.gradient.iter_mut()).zip(of_g.iter_mut().zip(of_gn.iter_mut()))
    {
        *gradient += *b;
        *by_shift += *a;
        *a /= rows as f32;
        *b /= rows as f32;
    }
    let rows = s.by_z.chunks_exact_mut(width).zip(s.by_h.chunks_exact(width)).zip(s.normal[layer].chunks_exact(width)).take(rows);
    for ((z, g), n) in rows {
        let parts = z.iter_mut().zip(g).zip(n).zip(of_g.iter().zip(of_gn.iter())).zip(s.inverse[layer].iter().zip(&weights.scale.value));
        for ((((z, g), n), (mean_g, mean_gn)), (inverse, scale)) in parts {
            *z = scale * inverse * (g - mean_g - n * mean_gn);
        }
    }
}

#[inline(always)]
fn column_sums(sums: &mut [f32], values: &[f32], width: usize) {
    sums.fill(0.0);
    for row in values.chunks_exact(width) {
        for (s, v) in sums.iter_mut().zip(row) {
            *s += v;
        }
    }
}

/// `to` \[columns, rows\] ← the first `columns` of `from` \[rows, width\].
#[inline(always)]
fn transpose(to: &mut [f32], from: &[f32], rows: usize, width: usize, columns: usize) {
    for (column, to) in to.chunks_exact_mut(rows).take(columns).enumerate() {
        for (to, from) in to.iter_mut().zip(from.iter().skip(column).step_by(width)) {
            *to = *from;
        }
    }
}
