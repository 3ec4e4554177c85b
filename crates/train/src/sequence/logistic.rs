//! Logistic regression on the mean of embeddings, with two classes: a step takes a few passes over
//! the embeddings of its batch and nothing else.

#![allow(
    clippy::inline_always,
    clippy::needless_range_loop,
    reason = "see kernels::simd: an iterator's closure may not be inlined"
)]

use encoders::Weights;
use kernels::activation::sigmoid;
use kernels::simd::{LANES, Vector, Work, dispatch};

use super::{Epoch, EpochRows};
use crate::epoch::EpochSettings;
use crate::multi::update::{Update, change};

/// Rows ahead whose embeddings are prefetched.
const AHEAD: usize = 2;

/// Trains for an epoch. The error is the batch, counted from 1, whose loss is not finite.
pub fn run(
    epoch: &mut Epoch<'_>,
    rows: EpochRows<'_>,
    settings: EpochSettings,
) -> Result<(), usize> {
    dispatch(Logistic { epoch, rows, settings })
}

struct Logistic<'l, 'e> {
    epoch: &'l mut Epoch<'e>,
    rows: EpochRows<'l>,
    settings: EpochSettings,
}

/// The mean of a row's embeddings.
#[inline(always)]
fn mean<V: Vector>(tokens: &[u32], table: &[f32], dimension: usize, to: &mut [f32]) {
    let (scale, one) = (V::all(1.0 / tokens.len().max(1) as f32), V::all(1.0));
    let (to, _) = to.as_chunks_mut::<LANES>();
    for (number, to) in to.iter_mut().enumerate() {
        let mut sum = V::zero();
        for &token in tokens {
            let start = token as usize * dimension;
            let Some(row) = table.get(start..start + dimension) else { continue };
            let Some(rest) = row.get(number * LANES..) else { continue };
            let x = match rest.first_chunk::<LANES>() {
                Some(x) => V::load(x),
                None => V::load_part(rest),
            };
            sum = x.mul_add(one, sum);
        }
        sum.mul_add(scale, V::zero()).store(to);
    }
}

/// The product of two padded rows.
#[inline(always)]
fn product<V: Vector>(a: &[f32], b: &[f32]) -> f32 {
    let (a, _) = a.as_chunks::<LANES>();
    let (b, _) = b.as_chunks::<LANES>();
    let mut sum = V::zero();
    for (a, b) in a.iter().zip(b) {
        sum = V::load(a).mul_add(V::load(b), sum);
    }
    let [all, ..] = V::sums([sum, V::zero(), V::zero(), V::zero()]);
    all
}

/// `to` ← `to` + `factor` · `values`.
#[inline(always)]
fn add<V: Vector>(to: &mut [f32], factor: f32, values: &[f32]) {
    let (whole, rest) = to.as_chunks_mut::<LANES>();
    let start = whole.len() * LANES;
    let (vectors, _) = values.as_chunks::<LANES>();
    let by = V::all(factor);
    for (to, value) in whole.iter_mut().zip(vectors) {
        by.mul_add(V::load(value), V::load(to)).store(to);
    }
    for (to, value) in rest.iter_mut().zip(values.get(start..).unwrap_or_default()) {
        *to = factor.mul_add(*value, *to);
    }
}

impl Work for Logistic<'_, '_> {
    type Out = Result<(), usize>;
    #[inline(always)]
    fn run<V: Vector>(self) -> Self::Out {
        let Self { epoch, rows: EpochRows { sequences, labels, order }, settings } = self;
        #[expect(clippy::cast_possible_truncation, reason = "labels are f32")]
        let smoothing = settings.regularisation.label_smoothing as f32;
        let layout = &epoch.net.layout;
        let (dimension, width) = (layout.architecture.dimension, layout.features);
        let (last, stride) = (layout.last, layout.outputs);
        let mut weights = Line::of(&epoch.net.weights, last, stride);
        let [first, second] = &epoch.memories;
        let mut memories = [first, second].map(|memory| Line::of(memory, last, stride));
        let mut gradient = Line { matrix: vec![0.0; width], bias: vec![0.0] };
        let mut update = epoch.update;
        let mut means = vec![0.0; width * settings.batch_size.min(order.len())];
        let mut by = Vec::new();
        let mut later = order.iter().skip(AHEAD);
        let mut done = Ok(());
        for (number, rows) in (1..).zip(order.chunks(settings.batch_size)) {
            by.clear();
            let scale = 1.0 / rows.len() as f32;
            let bias = weights.bias.first().copied().unwrap_or_default();
            let mut finite = true;
            let table = epoch.own.as_deref().unwrap_or(epoch.table.values());
            for (&row, mean_of_row) in rows.iter().zip(means.chunks_exact_mut(width)) {
                for &token in later.next().map_or(&[][..], |&row| sequences.row(row as usize)) {
                    let start = token as usize * dimension;
                    let ahead = table.get(start..start + dimension).unwrap_or_default();
                    for line in ahead.chunks(LANES) {
                        V::prefetch(line.as_ptr());
                    }
                }
                mean::<V>(sequences.row(row as usize), table, dimension, mean_of_row);
                let z = product::<V>(mean_of_row, &weights.matrix) + bias;
                finite &= z.is_finite();
                let is_second = labels.get(row as usize) == Some(&1);
                let target = smoothing / 2.0 + if is_second { 1.0 - smoothing } else { 0.0 };
                by.push(scale * (sigmoid(z) - target));
            }
            if !finite {
                done = Err(number);
                break;
            }
            for (&row, &by) in rows.iter().zip(&by) {
                let Some(own) = &mut epoch.own else { break };
                let tokens = sequences.row(row as usize);
                let factor = -epoch.rate * by / tokens.len().max(1) as f32;
                for &token in tokens {
                    let start = token as usize * dimension;
                    let Some(row) = own.get_mut(start..start + dimension) else { continue };
                    add::<V>(row, factor, &weights.matrix);
                }
            }
            gradient.matrix.fill(0.0);
            gradient.bias.fill(0.0);
            for (mean, &by) in means.chunks_exact(width).zip(&by) {
                add::<V>(&mut gradient.matrix, by, mean);
                add::<V>(&mut gradient.bias, by, &[1.0]);
            }
            update.steps += 1;
            weights.step(&gradient, &mut memories, &update);
        }
        weights.put(&mut epoch.net.weights, last, stride);
        for (to, memory) in epoch.memories.iter_mut().zip(memories) {
            memory.put(to, last, stride);
        }
        done
    }
}

/// The weights of the only output, and its bias. In a [`Layout`](encoders::Layout) they are a column.
struct Line {
    matrix: Vec<f32>,
    bias: Vec<f32>,
}

impl Line {
    /// Empty if the arrays are.
    fn of(weights: &Weights, last: usize, stride: usize) -> Self {
        let [matrix, bias] =
            [last, last + 1].map(|at| weights.0.get(at).map_or(&[][..], Vec::as_slice));
        Self {
            matrix: matrix.iter().step_by(stride).copied().collect(),
            bias: bias.iter().take(1).copied().collect(),
        }
    }

    fn put(self, weights: &mut Weights, last: usize, stride: usize) {
        let Some([matrix, bias]) = weights.0.get_mut(last..last + 2) else { return };
        matrix.iter_mut().step_by(stride).zip(self.matrix).for_each(|(to, from)| *to = from);
        bias.iter_mut().zip(self.bias).for_each(|(to, from)| *to = from);
    }

    #[inline(always)]
    fn step(&mut self, gradient: &Self, memories: &mut [Self; 2], update: &Update) {
        let [first, second] = memories;
        change(&mut self.matrix, &gradient.matrix, [&mut first.matrix, &mut second.matrix], update);
        change(&mut self.bias, &gradient.bias, [&mut first.bias, &mut second.bias], update);
    }
}
