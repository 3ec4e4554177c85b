//! Nets on the mean of embeddings: a vector for each token, averaged over a text, then a softmax,
//! with or without a hidden layer before it.
//!
//! Without a hidden layer this is the architecture of fastText (Joulin, Grave, Bojanowski and
//! Mikolov, "Bag of Tricks for Efficient Text Classification", 2017); with one, and with given
//! vectors to start from, a deep averaging net (Iyyer, Manjunatha, Boyd-Graber and Daumé III, "Deep
//! Unordered Composition Rivals Syntactic Methods for Text Classification", 2015), including its
//! word dropout. AdaGrad trains both (Duchi, Hazan and Singer, 2011): a step changes only the
//! vectors of the tokens in its batch.
//!
//! Threads share the components of the vectors, not the texts. Each has some *slices* of components
//! for all tokens, and the threads meet once per batch, to add up what the slices give to the next
//! layer. Slices do not depend on the number of threads, and all sums have one order, so the result
//! does not depend on it either.

mod head;
mod model;
mod slice;

use std::sync::{Mutex, PoisonError};

use failure::{Failure, Result};
use formats::Arrays;
use formats::arrays::{Array, Csr};
use kernels::simd::{LANES, dispatch};
use kernels::team;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

pub use model::{BagDesk, BagModel};

use head::{Head, HeadStep};
use slice::{Backward, Forward, Slice};

/// How to train.
#[derive(Clone, Copy, Debug)]
pub struct BagOptions {
    /// Units of the hidden layer; `None` for no such layer.
    pub hidden: Option<usize>,
    /// Texts of a step.
    pub batch_size: usize,
    /// Passes over the texts.
    pub epochs: u32,
    /// The learning rate of the first step. It falls to 0 in equal steps.
    pub lr: f64,
    /// The share of a text's tokens that a step leaves out.
    pub dropout: f64,
    /// Whether a token counts as much as its value says; otherwise all count the same.
    pub weighted: bool,
    /// Seed of the first weights, the order of the texts and the dropout.
    pub seed: u64,
}

impl BagOptions {
    /// How many numbers training holds in memory: weights, with their sums of squared gradients.
    pub fn numbers(&self, tokens: usize, start: Start<'_>, classes: usize) -> usize {
        let padded = start.dimension().next_multiple_of(LANES);
        let outputs = self.hidden.unwrap_or(classes).next_multiple_of(LANES);
        let [vectors, matrix] = [tokens, outputs].map(|n| n.saturating_mul(2 * padded));
        vectors.saturating_add(matrix)
    }
}

/// The vectors that training starts from.
#[derive(Clone, Copy)]
pub enum Start<'v> {
    /// Random ones with so many components, each from −1/d to 1/d.
    Random(usize),
    /// These, row after row, with so many components.
    Given(&'v [f32], usize),
}

impl Start<'_> {
    /// Components of a vector.
    const fn dimension(&self) -> usize {
        match self {
            Self::Random(dimension) | Self::Given(_, dimension) => *dimension,
        }
    }
}

/// A net in training.
pub struct BagNet {
    tokens: usize,
    dimension: usize,
    classes: usize,
    slices: Vec<Slice>,
    head: Head,
}

/// What an epoch came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EpochScore {
    /// The learning rate of its first step.
    pub lr: f64,
    /// Mean cross-entropy of each text just before its step, in nats.
    pub loss: f64,
    /// The share of texts that were classified correctly then.
    pub accuracy: f64,
}

/// One epoch of training.
#[derive(Clone, Copy)]
pub struct Epoch<'e> {
    /// The texts.
    pub texts: &'e Csr,
    /// The rows to learn from.
    pub rows: &'e [usize],
    /// How to train.
    pub options: &'e BagOptions,
    /// Which of several trainings this is; each has an order of its own.
    pub training: u32,
    /// The epoch's number, from 0.
    pub number: u32,
}

/// Components of a slice. Long vectors have slices of two registers, which take less time; short ones
/// of one, so that there are slices for several threads.
const fn slice_of(dimension: usize) -> usize {
    if dimension < 4 * LANES { LANES } else { 2 * LANES }
}

impl BagNet {
    /// A net for texts of `tokens` different tokens.
    pub fn new(tokens: usize, classes: usize, start: Start<'_>, options: &BagOptions) -> Self {
        let dimension = start.dimension();
        let outputs = options.hidden.unwrap_or(classes);
        let mut random = ChaCha8Rng::seed_from_u64(options.seed);
        let padded = outputs.next_multiple_of(LANES);
        let mut slices = Vec::new();
        for first in (0..dimension).step_by(slice_of(dimension)) {
            let width = slice_of(dimension).min(dimension - first);
            let mut slice = Slice::zeros(tokens, width, padded);
            let bound = 1.0 / dimension as f32;
            slice.fill(|token, component| match start {
                Start::Random(_) => bound * uniform(&mut random),
                Start::Given(vectors, of) => {
                    vectors.get(token * of + first + component).copied().unwrap_or_default()
                }
            });
            // Without a hidden layer the weights start from zero, as in fastText; hidden units must
            // differ to learn different things. He and others, "Delving Deep into Rectifiers", 2015.
            if options.hidden.is_some() {
                let bound = (6.0 / dimension as f32).sqrt();
                slice.fill_matrix(outputs, || bound * uniform(&mut random));
            }
            slices.push(slice);
        }
        let head = Head::new(options.hidden, classes, || uniform(&mut random));
        Self { tokens, dimension, classes, slices, head }
    }

    /// Trains for an epoch on at most `threads` threads. `None` if a logit is not finite.
    pub fn epoch(&mut self, epoch: Epoch<'_>, threads: usize) -> Option<EpochScore> {
        let Epoch { texts, options, .. } = epoch;
        let order = epoch.order();
        let batches = order.len().div_ceil(options.batch_size);
        let all = batches * options.epochs as usize;
        let lr = |batch: usize| {
            let done = (epoch.number as usize * batches + batch) as f64 / all.max(1) as f64;
            options.lr * (1.0 - done)
        };
        let padded = self.head.inputs_padded();
        // The sums of two batches: a thread that is ahead writes to one while others read the other.
        let sums: Vec<[Mutex<Vec<f32>>; 2]> = self
            .slices
            .iter()
            .map(|_| {
                [(); 2]
                    .map(|()| Mutex::new(vec![0.0; options.batch_size.min(order.len()) * padded]))
            })
            .collect();
        let slices: Vec<Mutex<&mut Slice>> = self.slices.iter_mut().map(Mutex::new).collect();
        let first_head = &self.head;
        let size = threads.clamp(1, slices.len().max(1));
        let mut ends = team::run(size, |member| {
            let share = member.share(slices.len());
            let mut mine: Vec<_> =
                slices.get(share.clone()).unwrap_or_default().iter().map(lock).collect();
            let my_sums = sums.get(share).unwrap_or_default();
            // Every thread computes the small layers after the sums for itself: that takes less time
            // than another meeting.
            let mut head = first_head.clone();
            let (mut batch, mut inputs) = (Batch::default(), Vec::new());
            let (mut loss, mut right) = (0.0, 0);
            for (number, rows) in order.chunks(options.batch_size).enumerate() {
                batch.read(epoch, rows);
                let turn = number % 2;
                for (slice, sums) in mine.iter_mut().zip(my_sums) {
                    let Some(to) = sums.get(turn) else { continue };
                    dispatch(Forward { slice, batch: &batch, to: &mut lock(to) });
                }
                member.meet();
                inputs.clear();
                inputs.resize(rows.len() * padded, 0.0);
                for sums in sums.iter().filter_map(|of| of.get(turn)) {
                    for (to, x) in inputs.iter_mut().zip(lock(sums).iter()) {
                        *to += x;
                    }
                }
                #[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
                let lr = lr(number) as f32;
                let labels = &batch.labels;
                let (of_batch, hits) =
                    dispatch(HeadStep { head: &mut head, inputs: &mut inputs, labels, lr })?;
                loss += of_batch;
                right += hits;
                for slice in &mut mine {
                    dispatch(Backward { slice, batch: &batch, gradients: &inputs, lr });
                }
            }
            Some((head, loss, right))
        });
        let (head, loss, right) = ends.swap_remove(0)?;
        self.head = head;
        let n = order.len().max(1) as f64;
        debug_assert_eq!(texts.columns, self.tokens);
        Some(EpochScore { lr: lr(0), loss: loss / n, accuracy: right as f64 / n })
    }

    /// The net as prediction uses it.
    pub fn model(&self, weighted: bool) -> BagModel {
        let mut table = vec![0.0; self.tokens * self.dimension];
        let mut first = 0;
        let mut matrix = Vec::new();
        for slice in &self.slices {
            for (row, vector) in table.chunks_exact_mut(self.dimension).zip(slice.vectors()) {
                if let Some(to) = row.get_mut(first..first + slice.width()) {
                    to.copy_from_slice(vector);
                }
            }
            matrix.extend_from_slice(slice.matrix());
            first += slice.width();
        }
        BagModel::new(table, self.dimension, &matrix, &self.head, weighted)
    }

    /// Everything that training goes on from.
    pub fn arrays(&self) -> Vec<(String, Array<'_>)> {
        let mut all = Vec::new();
        for (number, slice) in self.slices.iter().enumerate() {
            for (name, values) in slice.state() {
                all.push((format!("slice.{number}.{name}"), Array::f32(&[values.len()], values)));
            }
        }
        for (name, values) in self.head.state() {
            all.push((format!("head.{name}"), Array::f32(&[values.len()], values)));
        }
        all
    }

    /// Takes what [`BagNet::arrays`] gave.
    pub fn restore(&mut self, from: &Arrays) -> Result<()> {
        let read = |name: &str, to: &mut Vec<f32>| {
            *to = from.f32(name, &[Some(to.len())])?.1;
            Ok::<(), Failure>(())
        };
        for (number, slice) in self.slices.iter_mut().enumerate() {
            for (name, to) in slice.state_mut() {
                read(&format!("slice.{number}.{name}"), to)?;
            }
        }
        for (name, to) in self.head.state_mut() {
            read(&format!("head.{name}"), to)?;
        }
        Ok(())
    }

    /// How many classes there are.
    pub const fn classes(&self) -> usize {
        self.classes
    }
}

impl Epoch<'_> {
    /// The rows in a random order of the training and the epoch.
    fn order(&self) -> Vec<usize> {
        let mut random = ChaCha8Rng::seed_from_u64(self.options.seed);
        random.set_stream(1 + (u64::from(self.training) << 32) + u64::from(self.number));
        let mut keyed: Vec<(u64, usize)> =
            self.rows.iter().map(|&row| (random.next_u64(), row)).collect();
        keyed.sort_unstable();
        keyed.into_iter().map(|(_, row)| row).collect()
    }
}

/// The tokens of a batch's texts, and what each counts.
#[derive(Default)]
struct Batch {
    tokens: Vec<u32>,
    weights: Vec<f32>,
    /// Where the tokens of each text end.
    ends: Vec<usize>,
    labels: Vec<u32>,
}

impl Batch {
    fn read(&mut self, epoch: Epoch<'_>, rows: &[usize]) {
        let Epoch { texts, options, .. } = epoch;
        self.tokens.clear();
        self.weights.clear();
        self.ends.clear();
        self.labels.clear();
        // A token is kept if a random number of 64 bits is no less.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "0 ≤ dropout < 1"
        )]
        let least = (options.dropout * 2.0_f64.powi(64)) as u64;
        for &row in rows {
            let (tokens, values) = texts.row(row);
            let before = self.tokens.len();
            if options.dropout > 0.0 {
                // Without branches, which no processor can predict here.
                let mut random = mixed(options.seed ^ mixed(row as u64))
                    ^ mixed((u64::from(epoch.training) << 32) + u64::from(epoch.number));
                self.tokens.resize(before + tokens.len(), 0);
                self.weights.resize(before + tokens.len(), 0.0);
                let mut kept = before;
                for (&token, &value) in tokens.iter().zip(values) {
                    random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
                    if let Some(to) = self.tokens.get_mut(kept) {
                        *to = token;
                    }
                    if let Some(to) = self.weights.get_mut(kept) {
                        *to = value;
                    }
                    kept += usize::from(mixed(random) >= least);
                }
                self.tokens.truncate(kept);
                self.weights.truncate(kept);
            }
            // Without dropout, and where nothing is left.
            if self.tokens.len() == before {
                self.tokens.extend_from_slice(tokens);
                self.weights.extend_from_slice(values);
            }
            share(self.weights.get_mut(before..).unwrap_or_default(), options.weighted);
            self.ends.push(self.tokens.len());
            self.labels.push(texts.labels.get(row).copied().unwrap_or_default());
        }
    }
}

/// Turns the values of a text's tokens into their weights, which add up to 1.
fn share(values: &mut [f32], weighted: bool) {
    if !weighted {
        values.fill(1.0);
    }
    let sum: f32 = values.iter().sum();
    let by = if sum > 0.0 { 1.0 / sum } else { 0.0 };
    for value in values {
        *value *= by;
    }
}

/// A number from −1 to 1.
fn uniform(random: &mut ChaCha8Rng) -> f32 {
    (random.next_u32() >> 8) as f32 / 8_388_608.0 - 1.0
}

/// The mix of SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators",
/// 2014).
const fn mixed(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
