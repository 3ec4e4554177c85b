//! A net's forward pass on the CPU, with weights that are laid out for it once.
//!
//! Batch norm with fixed statistics is a scale and a shift, which are folded into the matrix before
//! it, so that the multi-layer net consists of matrix products with a bias and a ReLU. A row's
//! logits have the same bits regardless of the rows beside it.

#![allow(clippy::inline_always, reason = "see kernels::simd")]

use candle_core::{CpuStorage, Device, Error, Result, Storage, Tensor};
use kernels::gemm::{Initial, Left, gemm};
use kernels::linear::{self, Matrix};
use kernels::relu;
use kernels::simd::{LANES, Vector, Work, dispatch};
use kernels::team;

use crate::{BATCH_NORM_EPSILON, Net, Shape};

/// Rows that go through all layers before the next ones: their hidden units stay in the
/// second-level cache.
const ROWS: usize = 96;
/// Multiply-adds below which a further thread costs more than it saves.
const WORTH_A_THREAD: usize = 1 << 24;

/// A net that is ready for inference.
pub struct Inference {
    dimension: usize,
    classes: usize,
    layers: HiddenLayers,
}

enum HiddenLayers {
    Single(Matrix),
    Multi(Stack),
}

/// The layers of the multi-layer net; the middle one is applied several times.
struct Stack {
    first: Dense,
    middle: Option<Dense>,
    times: usize,
    last: Dense,
}

impl Stack {
    fn layers(&self) -> impl Iterator<Item = &Dense> {
        let middle = self.middle.iter().flat_map(|middle| std::iter::repeat_n(middle, self.times));
        std::iter::once(&self.first).chain(middle).chain(std::iter::once(&self.last))
    }
}

/// relu(X W + b), or without the ReLU.
struct Dense {
    inputs: usize,
    /// The width of W's rows and of b, in whole vectors.
    width: usize,
    weight: Vec<f32>,
    bias: Vec<f32>,
    relu: bool,
}

impl Inference {
    /// Copies the net as it is now; later changes to it are not seen.
    pub fn of(net: &Net) -> Result<Self> {
        let Shape::MultiLayer { layers, relu_out, .. } = net.shape else {
            let w: Vec<f32> = net.var("fc.weight")?.flatten_all()?.to_vec1()?;
            return Ok(Self {
                dimension: net.dimension,
                classes: net.classes,
                layers: HiddenLayers::Single(linear::packed(&w, net.classes)),
            });
        };
        let vector = |name: &str| -> Result<Vec<f64>> {
            let all: Vec<f32> = net.var(name)?.to_device(&Device::Cpu)?.to_vec1()?;
            Ok(all.into_iter().map(f64::from).collect())
        };
        let plain = |name: &str, relu: bool| {
            Dense::new(
                net.var(&format!("{name}.weight"))?,
                &vector(&format!("{name}.bias"))?,
                None,
                relu,
            )
        };
        let middle = || {
            let [mean, variance] = [vector("bn.running_mean")?, vector("bn.running_var")?];
            let [weight, bias, mid] =
                [vector("bn.weight")?, vector("bn.bias")?, vector("fc_mid.bias")?];
            let scale: Vec<f64> = variance
                .iter()
                .zip(&weight)
                .map(|(variance, weight)| weight / (variance + BATCH_NORM_EPSILON).sqrt())
                .collect();
            let shifted = mid
                .iter()
                .zip(&mean)
                .zip(scale.iter().zip(&bias))
                .map(|((b, mean), (scale, bias))| (b - mean) * scale + bias);
            Dense::new(net.var("fc_mid.weight")?, &shifted.collect::<Vec<_>>(), Some(&scale), true)
        };
        let middle = if layers > 0 { Some(middle()?) } else { None };
        let stack = Stack {
            first: plain("fc", true)?,
            middle,
            times: layers,
            last: plain("fc_out", relu_out)?,
        };
        let Net { dimension, classes, .. } = *net;
        Ok(Self { dimension, classes, layers: HiddenLayers::Multi(stack) })
    }

    /// Components of a row of features.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// How many logits a row has.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The logits of every row of `x`, one row after the other, by up to `threads` threads.
    pub fn logits(&self, x: &[f32], threads: usize) -> Vec<f32> {
        let Self { dimension: d, classes, .. } = *self;
        let rows = x.len() / d;
        let cost = match &self.layers {
            HiddenLayers::Single(_) => d * classes,
            HiddenLayers::Multi(stack) => {
                stack.layers().map(|layer| layer.inputs * layer.width).sum()
            }
        };
        let threads = threads.clamp(1, (rows * cost / WORTH_A_THREAD).max(1));
        let parts = team::run(threads, |member| {
            let share = member.share(rows);
            let x = x.get(share.start * d..share.end * d).unwrap_or_default();
            let mut logits = Vec::with_capacity(share.len() * classes);
            match &self.layers {
                HiddenLayers::Single(matrix) => {
                    linear::logits(matrix, classes, x, d, &mut logits);
                }
                HiddenLayers::Multi(stack) => {
                    dispatch(ForwardPass { stack, classes, x, d, logits: &mut logits });
                }
            }
            logits
        });
        let mut parts = parts.into_iter();
        let mut all = parts.next().unwrap_or_default();
        all.extend(parts.flatten());
        all
    }
}

/// Passes on the values of a tensor on the CPU, without a copy.
pub(crate) fn on_cpu<T>(x: &Tensor, use_values: impl FnOnce(&[f32]) -> T) -> Result<T> {
    let (storage, layout) = x.storage_and_layout();
    let Storage::Cpu(CpuStorage::F32(values)) = &*storage else {
        return Err(Error::Msg("the tensor is not f32 on the CPU".into()));
    };
    let values = layout.contiguous_offsets().and_then(|(start, end)| values.get(start..end));
    values.map(use_values).ok_or_else(|| Error::Msg("the tensor is not contiguous".into()))
}

impl Dense {
    /// From PyTorch's weight \[outputs, inputs\], whose outputs are scaled, and a bias.
    #[expect(clippy::cast_possible_truncation, reason = "weights are f32; they are rounded once")]
    fn new(weight: &Tensor, bias: &[f64], scale: Option<&[f64]>, relu: bool) -> Result<Self> {
        let (outputs, inputs) = weight.dims2()?;
        let width = outputs.next_multiple_of(LANES);
        let mut dense = Self {
            inputs,
            width,
            weight: vec![0.0; inputs * width],
            bias: bias.iter().map(|b| *b as f32).collect(),
            relu,
        };
        dense.bias.resize(width, 0.0);
        for (o, row) in weight.to_device(&Device::Cpu)?.to_vec2::<f32>()?.iter().enumerate() {
            let scale = scale.and_then(|scale| scale.get(o)).copied();
            for (to, w) in dense.weight.iter_mut().skip(o).step_by(width).zip(row) {
                *to = scale.map_or(*w, |scale| (f64::from(*w) * scale) as f32);
            }
        }
        Ok(dense)
    }
}

struct ForwardPass<'p> {
    stack: &'p Stack,
    classes: usize,
    x: &'p [f32],
    d: usize,
    logits: &'p mut Vec<f32>,
}

impl Work for ForwardPass<'_> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vector>(self) {
        let Self { stack, classes, x, d, logits } = self;
        let widest = stack.layers().map(|layer| layer.width).max().unwrap_or(0);
        let (mut from, mut to) = (vec![0.0; ROWS * widest], vec![0.0; ROWS * widest]);
        for block in x.chunks(ROWS * d) {
            let rows = block.len() / d;
            let mut down = d;
            for (number, layer) in stack.layers().enumerate() {
                let at = if number == 0 { block } else { &from };
                let left = Left { at, rows, inner: layer.inputs, down, right: 1 };
                gemm::<V>(&mut to, layer.width, left, &layer.weight, Initial::Bias(&layer.bias));
                if layer.relu {
                    for z in to.iter_mut().take(rows * layer.width) {
                        // Not `max`, which turns NaN into 0: a net that has diverged would look
                        // sound.
                        *z = relu(*z);
                    }
                }
                std::mem::swap(&mut from, &mut to);
                down = layer.width;
            }
            for row in from.chunks_exact(stack.last.width).take(rows) {
                logits.extend_from_slice(row.get(..classes).unwrap_or_default());
            }
        }
    }
}
