//! A net's forward pass on the CPU, with weights that are laid out for it once.
//!
//! Batch norm with fixed statistics is a scale and a shift, which are folded into the matrix before
//! it, so that the multi-layer net consists of matrix products with a bias and a ReLU. A row's
//! logits have the same bits regardless of the rows beside it.

use candle_core::{CpuStorage, Device, Error, Result, Storage, Tensor};
use kernels::layers::{Dense, Layers};
use kernels::linear::{self, Matrix};
use kernels::team;

use crate::{BATCH_NORM_EPSILON, Net, Shape};

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
    Multi(Layers),
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
        let matrix = |name: &str| -> Result<Vec<f32>> {
            let tensor = net.var(&format!("{name}.weight"))?.to_device(&Device::Cpu)?;
            tensor.flatten_all()?.to_vec1()
        };
        let plain = |name: &str, relu: bool| -> Result<Dense> {
            let bias = vector(&format!("{name}.bias"))?;
            Ok(Dense::new(&matrix(name)?, &bias, None, relu))
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
            let shifted: Vec<f64> = shifted.collect();
            Ok::<_, Error>(Dense::new(&matrix("fc_mid")?, &shifted, Some(&scale), true))
        };
        let (mut all, mut order) = (vec![plain("fc", true)?, plain("fc_out", relu_out)?], vec![0]);
        if layers > 0 {
            all.push(middle()?);
            order.extend(std::iter::repeat_n(2, layers));
        }
        order.push(1);
        let stack = Layers::new(all, order);
        let stack = stack.ok_or_else(|| Error::Msg("the layers do not fit together".into()))?;
        let Net { dimension, classes, .. } = *net;
        Ok(Self { dimension, classes, layers: HiddenLayers::Multi(stack) })
    }

    /// Components of a row of features.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// The layers of a multi-layer net, with batch norm in them.
    pub fn layers(&self) -> Option<&Layers> {
        match &self.layers {
            HiddenLayers::Single(_) => None,
            HiddenLayers::Multi(layers) => Some(layers),
        }
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
            HiddenLayers::Multi(layers) => layers.cost(),
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
                HiddenLayers::Multi(layers) => layers.forward(x, &mut logits),
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
