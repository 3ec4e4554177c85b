//! An epoch of the multi-layer net, forward and backward by hand.
//!
//! With automatic differentiation at batch size 64, four fifths of the time went into copies,
//! allocations and the graph. Here nothing is allocated within an epoch, except for dropout's
//! masks. The tests of `multi.rs` compare it with candle's autograd.
//!
//! The net, with the batch's rows below each other: H₀ = relu(X W₁ᵀ + b₁); then `layers` times Z =
//! H W_mᵀ + b_m, N = (Z − mean) / √(variance + ε), H = relu(γ N + β); then logits = H W_oᵀ + b_o,
//! through a relu if `relu_out`. Backward: with p the probabilities and t the target, ∂/∂logits =
//! (p − t) / n; through batch norm (Ioffe and Szegedy, 2015, section 3) ∂/∂Z = (γ / √(variance +
//! ε)) (G − mean(G) − N mean(G N)), where G = ∂/∂(γ N + β).
//!
//! Weight matrices are stored transposed, [inputs, outputs], with rows padded to whole vectors by
//! zeros. No step changes these zeros, since their gradient is 0.
//!
//! Several threads share every step. Each has some of the hidden units, with the weights that lead
//! to them (`shard.rs`), computes those columns of every matrix, and shows them to the others.
//! Every element is computed by one thread, in an order that does not depend on the number of
//! threads, so the bits do not depend on it either.

#![allow(clippy::inline_always, reason = "see kernels::simd")]
#![expect(
    clippy::indexing_slicing,
    reason = "one place per layer and thread, and rows of known sizes"
)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use kernels::gemm::{Initial, Left, gemm};
use kernels::simd::{LANES, Vector, Work, dispatch};
use kernels::softmax::softmax_in_place;
use kernels::team::{self, Member};

use crate::multi::elementwise::{
    add, add_rows, by_batch_norm, by_relu, column_sums, drop_units, normalise, relu, transpose,
};
use crate::multi::shard::{Shard, Weights, padded};
use crate::multi::update::{Update, Weight, step};
use crate::random::Random;

/// An epoch: its data, and how to train on it.
pub struct MultiLayerEpoch<'e> {
    pub x: &'e [f32],
    pub y: &'e [u32],
    pub order: &'e [u32],
    pub batch_size: usize,
    pub update: Update,
    pub dropout: f64,
    pub label_smoothing: f64,
    /// How many threads share it.
    pub threads: usize,
}

impl MultiLayerEpoch<'_> {
    /// Trains for an epoch. The error is the first batch, counted from 1, whose loss is not finite.
    pub fn run(&self, weights: &mut Weights, random: &mut Random) -> Result<(), usize> {
        let count = self.threads.clamp(1, padded(weights.hidden) / LANES);
        let (shards, mid, out) = weights.split(count);
        let n = self.batch_size.min(self.order.len());
        let many = |count: usize| {
            (0..count).map(|_| {
                shards.iter().map(|shard| RwLock::new(vec![0.0; n * shard.width()])).collect()
            })
        };
        let shown = Shown {
            x: (0..count)
                .map(|index| {
                    RwLock::new(vec![0.0; team::share(index, count, n).len() * weights.dimension])
                })
                .collect(),
            h: many(weights.layers + 1).collect(),
            by_z: many(weights.layers).collect(),
            logits: shards
                .iter()
                .map(|_| RwLock::new(vec![0.0; n * padded(weights.classes)]))
                .collect(),
            mid: mid.into_iter().map(RwLock::new).collect(),
            out: out.into_iter().map(RwLock::new).collect(),
            masks: RwLock::default(),
            random: Mutex::new(random),
            diverged: AtomicBool::new(false),
        };
        let shards: Vec<Mutex<Option<Shard>>> =
            shards.into_iter().map(|shard| Mutex::new(Some(shard))).collect();
        let done = team::run(count, |member| {
            let shard = shards[member.index].lock().unwrap_or_else(PoisonError::into_inner).take();
            shard.map(|shard| dispatch(ShardEpoch { epoch: self, shown: &shown, member, shard, n }))
        });
        let (shards, ends): (Vec<Shard>, Vec<Result<(), usize>>) =
            done.into_iter().flatten().unzip();
        let inner = |one: RwLock<Weight>| one.into_inner().unwrap_or_else(PoisonError::into_inner);
        let of = |all: Vec<RwLock<Weight>>| all.into_iter().map(inner).collect::<Vec<_>>();
        weights.join(&shards, &of(shown.mid), &of(shown.out));
        ends.into_iter().collect()
    }
}

/// What the threads show each other. Between two meetings, each writes its own part and reads what
/// was written before.
struct Shown<'s> {
    /// The batch's rows, shared out among the threads.
    x: Vec<RwLock<Vec<f32>>>,
    /// H₀ and every layer's H, by thread: [rows, the thread's units].
    h: Vec<Vec<RwLock<Vec<f32>>>>,
    /// The gradient by every layer's Z, likewise.
    by_z: Vec<Vec<RwLock<Vec<f32>>>>,
    /// The logits of each thread's rows, and then the gradient by them.
    logits: Vec<RwLock<Vec<f32>>>,
    /// [hidden, the thread's units], by thread.
    mid: Vec<RwLock<Weight>>,
    /// [the thread's units, classes], by thread.
    out: Vec<RwLock<Weight>>,
    /// Dropout's factors for all units, one matrix per layer.
    masks: RwLock<Vec<Vec<f32>>>,
    random: Mutex<&'s mut Random>,
    diverged: AtomicBool,
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

/// A thread's part in an epoch.
struct ShardEpoch<'p, 's> {
    epoch: &'p MultiLayerEpoch<'p>,
    shown: &'p Shown<'s>,
    member: Member<'p>,
    shard: Shard,
    /// Rows of the largest batch.
    n: usize,
}

/// The memory that a batch needs, allocated once.
struct Scratch {
    /// Every layer's N, and 1 / √(variance + ε).
    normal: Vec<Vec<f32>>,
    inverse: Vec<Vec<f32>>,
    masks: Vec<Vec<f32>>,
    /// The gradient by H.
    by_h: Vec<f32>,
    mid_transposed: Vec<f32>,
    out_transposed: Vec<f32>,
    sums: [Vec<f32>; 2],
    product: Vec<f32>,
}

impl Work for ShardEpoch<'_, '_> {
    type Out = (Shard, Result<(), usize>);
    #[inline(always)]
    fn run<V: Vector>(mut self) -> Self::Out {
        let MultiLayerEpoch { x, order, batch_size, dropout, .. } = *self.epoch;
        let (d, width, layers) = (self.shard.dimension, self.shard.width(), self.shard.layers);
        let many = |count: usize, size: usize| vec![vec![0.0; size]; count];
        let mut scratch = Scratch {
            normal: many(layers, self.n * width),
            inverse: many(layers, width),
            masks: Vec::new(),
            by_h: vec![0.0; self.n * width],
            mid_transposed: vec![0.0; padded(self.shard.hidden) * width],
            out_transposed: vec![0.0; self.shard.classes * width],
            sums: [vec![0.0; width], vec![0.0; width]],
            product: vec![0.0; padded(self.shard.hidden) * width],
        };
        let mut update = self.epoch.update;
        for (number, batch) in order.chunks(batch_size).enumerate() {
            for (to, &row) in write(&self.shown.x[self.member.index])
                .chunks_exact_mut(d)
                .zip(&batch[self.member.share(batch.len())])
            {
                if let Some(from) = x.get(row as usize * d..).and_then(|rest| rest.get(..d)) {
                    to.copy_from_slice(from);
                }
            }
            self.member.meet();
            if dropout > 0.0 {
                self.draw(&mut scratch, batch.len());
            }
            self.forward::<V>(&mut scratch, batch.len());
            self.logits::<V>(batch);
            self.member.meet();
            if self.shown.diverged.load(Ordering::Relaxed) {
                return (self.shard, Err(number + 1));
            }
            self.backward::<V>(&mut scratch, batch.len());
            update.steps += 1;
            self.step(&update);
            self.member.meet();
        }
        (self.shard, Ok(()))
    }
}

impl ShardEpoch<'_, '_> {
    /// Dropout's factors for this thread's units. One thread draws for all, row by row, in the
    /// order of a single thread.
    #[inline(always)]
    fn draw(&self, s: &mut Scratch, rows: usize) {
        let Shard { hidden, layers, .. } = self.shard;
        if self.member.index == 0 {
            let mut random = self.shown.random.lock().unwrap_or_else(PoisonError::into_inner);
            *write(&self.shown.masks) =
                (0..=layers).map(|_| random.mask(rows * hidden, self.epoch.dropout)).collect();
        }
        self.member.meet();
        s.masks.clear();
        for all in read(&self.shown.masks).iter() {
            let mut own = vec![0.0; rows * self.shard.width()];
            for (to, from) in own.chunks_exact_mut(self.shard.width()).zip(all.chunks_exact(hidden))
            {
                for (to, from) in to.iter_mut().zip(&from[self.shard.units.start.min(hidden)..]) {
                    *to = *from;
                }
            }
            s.masks.push(own);
        }
    }

    #[inline(always)]
    fn forward<V: Vector>(&mut self, s: &mut Scratch, rows: usize) {
        let (d, width, me) = (self.shard.dimension, self.shard.width(), self.member.index);
        {
            let mut h = write(&self.shown.h[0][me]);
            for (index, x) in self.shown.x.iter().enumerate() {
                let part = team::share(index, self.member.size, rows);
                let left = Left { at: &read(x), rows: part.len(), inner: d, down: d, right: 1 };
                gemm::<V>(
                    &mut h[part.start * width..],
                    width,
                    left,
                    &self.shard.fc.value,
                    Initial::Bias(&self.shard.fc_bias.value),
                );
            }
            relu(&mut h[..rows * width]);
            drop_units(&mut h, s.masks.first());
        }
        self.member.meet();
        for layer in 0..self.shard.layers {
            {
                let mid = read(&self.shown.mid[me]);
                let mut start = Initial::Bias(&self.shard.mid_bias.value);
                for (other, units) in self.shown.h[layer].iter().zip(&self.shard.all) {
                    let down = units.len();
                    let left = Left {
                        at: &read(other),
                        rows,
                        inner: self.shard.real(units),
                        down,
                        right: 1,
                    };
                    gemm::<V>(
                        &mut s.normal[layer],
                        width,
                        left,
                        &mid.value[units.start * width..],
                        start,
                    );
                    start = Initial::Result;
                }
                let z = &mut s.normal[layer][..rows * width];
                normalise(z, &mut s.inverse[layer], &mut s.sums, &mut self.shard);
                let mut h = write(&self.shown.h[layer + 1][me]);
                for (h, normal) in h.chunks_exact_mut(width).zip(z.chunks_exact(width)) {
                    for (((h, n), scale), shift) in h
                        .iter_mut()
                        .zip(normal)
                        .zip(&self.shard.scale.value)
                        .zip(&self.shard.shift.value)
                    {
                        *h = scale * n + shift;
                    }
                }
                relu(&mut h[..rows * width]);
                drop_units(&mut h, s.masks.get(layer + 1));
            }
            self.member.meet();
        }
    }

    /// Computes the logits of this thread's rows, and turns them into the gradient by them.
    #[inline(always)]
    fn logits<V: Vector>(&self, batch: &[u32]) {
        let rows = self.member.share(batch.len());
        let mut logits = write(&self.shown.logits[self.member.index]);
        let mut start = Initial::Bias(&self.shard.out_bias.value);
        for ((h, out), units) in
            self.shown.h[self.shard.layers].iter().zip(&self.shown.out).zip(&self.shard.all)
        {
            let (h, down) = (read(h), units.len());
            let left = Left {
                at: &h[rows.start * down..],
                rows: rows.len(),
                inner: self.shard.real(units),
                down,
                right: 1,
            };
            let width = padded(self.shard.classes);
            gemm::<V>(&mut logits, width, left, &read(out).value, start);
            start = Initial::Result;
        }
        if !by_logits(&self.shard, &mut logits, self.epoch, batch, rows) {
            self.shown.diverged.store(true, Ordering::Relaxed);
        }
    }

    #[inline(always)]
    fn backward<V: Vector>(&mut self, s: &mut Scratch, rows: usize) {
        let (d, width, layers, me) =
            (self.shard.dimension, self.shard.width(), self.shard.layers, self.member.index);
        self.last_layer::<V>(s, rows);
        let Shard { mid_bias, scale, shift, .. } = &mut self.shard;
        for weight in [mid_bias, scale, shift] {
            weight.gradient.fill(0.0);
        }
        if layers > 0 {
            // Before the others may change their part.
            for (other, units) in self.shown.mid.iter().zip(&self.shard.all) {
                let own = &read(other).value[self.shard.units.start * units.len()..];
                transpose(
                    &mut s.mid_transposed[units.start * width..],
                    own,
                    width,
                    units.len(),
                    self.shard.real(units),
                );
            }
        }
        for layer in (0..layers).rev() {
            by_relu(
                &mut s.by_h[..rows * width],
                &read(&self.shown.h[layer + 1][me]),
                s.masks.get(layer + 1),
            );
            let mut by_z = write(&self.shown.by_z[layer][me]);
            let of_h = &s.by_h[..rows * width];
            by_batch_norm(
                &mut by_z,
                of_h,
                &s.normal[layer],
                &s.inverse[layer],
                &mut s.sums,
                &mut self.shard,
            );
            drop(by_z);
            self.member.meet();
            let by_z = read(&self.shown.by_z[layer][me]);
            let mut mid = write(&self.shown.mid[me]);
            for (other, units) in self.shown.h[layer].iter().zip(&self.shard.all) {
                let left = Left {
                    at: &read(other),
                    rows: units.len(),
                    inner: rows,
                    down: 1,
                    right: units.len(),
                };
                let place = units.start * width..units.end * width;
                if layer == layers - 1 {
                    gemm::<V>(&mut mid.gradient[place], width, left, &by_z, Initial::Zero);
                } else {
                    gemm::<V>(&mut s.product, width, left, &by_z, Initial::Zero);
                    add(&mut mid.gradient[place], &s.product);
                }
            }
            column_sums(&mut s.sums[0], &by_z[..rows * width]);
            add(&mut self.shard.mid_bias.gradient, &s.sums[0]);
            let mut start = Initial::Zero;
            for (other, units) in self.shown.by_z[layer].iter().zip(&self.shard.all) {
                let left = Left {
                    at: &read(other),
                    rows,
                    inner: self.shard.real(units),
                    down: units.len(),
                    right: 1,
                };
                gemm::<V>(
                    &mut s.by_h,
                    width,
                    left,
                    &s.mid_transposed[units.start * width..],
                    start,
                );
                start = Initial::Result;
            }
        }
        by_relu(&mut s.by_h[..rows * width], &read(&self.shown.h[0][me]), s.masks.first());
        let mut start = Initial::Zero;
        for (index, x) in self.shown.x.iter().enumerate() {
            let part = team::share(index, self.member.size, rows);
            let left = Left { at: &read(x), rows: d, inner: part.len(), down: 1, right: d };
            gemm::<V>(
                &mut self.shard.fc.gradient,
                width,
                left,
                &s.by_h[part.start * width..],
                start,
            );
            start = Initial::Result;
        }
        column_sums(&mut self.shard.fc_bias.gradient, &s.by_h[..rows * width]);
    }

    /// Back from the logits to the last H.
    #[inline(always)]
    fn last_layer<V: Vector>(&mut self, s: &mut Scratch, rows: usize) {
        let (width, me) = (self.shard.width(), self.member.index);
        let (classes, columns) = (self.shard.classes, padded(self.shard.classes));
        let h = read(&self.shown.h[self.shard.layers][me]);
        let mut out = write(&self.shown.out[me]);
        transpose(&mut s.out_transposed, &out.value, width, columns, classes);
        self.shard.out_bias.gradient.fill(0.0);
        let mut start = Initial::Zero;
        for (index, other) in self.shown.logits.iter().enumerate() {
            let part = team::share(index, self.member.size, rows);
            let logits = read(other);
            let left = Left {
                at: &h[part.start * width..],
                rows: width,
                inner: part.len(),
                down: 1,
                right: width,
            };
            gemm::<V>(&mut out.gradient, columns, left, &logits, start);
            start = Initial::Result;
            add_rows(&mut self.shard.out_bias.gradient, &logits[..part.len() * columns]);
            let left =
                Left { at: &logits, rows: part.len(), inner: classes, down: columns, right: 1 };
            gemm::<V>(
                &mut s.by_h[part.start * width..],
                width,
                left,
                &s.out_transposed,
                Initial::Zero,
            );
        }
    }

    /// Changes every weight that the net uses. As in PyTorch, a weight without a gradient does not
    /// decay either.
    #[inline(always)]
    fn step(&mut self, update: &Update) {
        let me = self.member.index;
        let Shard { fc, fc_bias, mid_bias, scale, shift, out_bias, layers, .. } = &mut self.shard;
        for weight in [fc, fc_bias, out_bias] {
            step(weight, update);
        }
        step(&mut write(&self.shown.out[me]), update);
        if *layers > 0 {
            step(&mut write(&self.shown.mid[me]), update);
            for weight in [mid_bias, scale, shift] {
                step(weight, update);
            }
        }
    }
}

/// Turns the logits of these `rows` of the batch into the gradient by them. Returns `false` if a
/// logit is not finite.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "shares are f32")]
fn by_logits(
    shard: &Shard,
    logits: &mut [f32],
    epoch: &MultiLayerEpoch<'_>,
    batch: &[u32],
    rows: std::ops::Range<usize>,
) -> bool {
    let (smoothing, classes) = (epoch.label_smoothing, shard.classes as f64);
    let (right, wrong) =
        ((1.0 - smoothing + smoothing / classes) as f32, (smoothing / classes) as f32);
    let per_row = 1.0 / batch.len() as f32;
    let mut before = vec![0.0; shard.classes];
    for (row, &place) in logits.chunks_exact_mut(padded(shard.classes)).zip(&batch[rows]) {
        let row = &mut row[..shard.classes];
        before.copy_from_slice(row);
        if shard.relu_out {
            relu(row);
        }
        if !softmax_in_place(row) {
            return false;
        }
        let label = epoch.y.get(place as usize).map_or(0, |&y| y as usize);
        for (k, (g, before)) in row.iter_mut().zip(&before).enumerate() {
            let passes = !shard.relu_out || *before > 0.0;
            let target = if k == label { right } else { wrong };
            *g = if passes { (*g - target) * per_row } else { 0.0 };
        }
    }
    // The padding has no part in the loss: its weights are 0, and so are its values.
    true
}
