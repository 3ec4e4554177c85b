//! The nets on candle tensors: their weights under PyTorch's names, the forward pass, and the files
//! that hold them.
//!
//! `train` changes the weights, and `predict` only uses them. Both run a net through [`Inference`]
//! or, on a GPU, through [`Net::logits`].

mod classifier;
pub mod file;
mod inference;
mod odds;
mod sequence;
mod sequence_inference;
mod shape;

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor, Var};

pub use classifier::Classifier;
pub use encoders::{Encoder, Pool};
pub use inference::Inference;
pub use kernels::odds::{largest, log_sum_exp, softmax};
pub use odds::{Rows, SequenceRows, each_row, probabilities};
pub use sequence::{EMBEDDING, PaddedBatch, SequenceShape};
pub use sequence_inference::{SequenceInference, Table, loaded, stored};
pub use shape::ShapeOptions;

/// What batch norm adds to a variance: PyTorch's default of `BatchNorm1d`.
pub const BATCH_NORM_EPSILON: f64 = 1e-5;
/// The share of a batch in batch norm's running statistics: PyTorch's default.
pub const BATCH_NORM_MOMENTUM: f64 = 0.1;

/// The names of the multi-layer net's weights.
pub const MULTI_LAYER_WEIGHTS: [&str; 8] = [
    "fc.weight",
    "fc.bias",
    "fc_mid.weight",
    "fc_mid.bias",
    "bn.weight",
    "bn.bias",
    "fc_out.weight",
    "fc_out.bias",
];

/// The layers of a net.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// logits = X Wᵀ, no bias.
    SingleLayer,
    /// `fc` → ReLU → (`fc_mid` → batch norm → ReLU) × `layers` → `fc_out` → ReLU if `relu_out`. The
    /// middle layers share their weights.
    MultiLayer {
        /// Units of each hidden layer.
        hidden: usize,
        /// How often the middle layer is applied.
        layers: usize,
        /// Whether the logits end in a ReLU.
        relu_out: bool,
    },
    /// A net on sequences of tokens.
    Sequence(SequenceShape),
}

/// A net with its weights, under PyTorch's `state_dict` names.
pub struct Net {
    /// The layers.
    pub shape: Shape,
    /// Components of a row of features.
    pub dimension: usize,
    /// How many logits there are.
    pub classes: usize,
    /// What training changes by gradients, sorted by name.
    pub weights: BTreeMap<String, Var>,
    /// What training changes otherwise: batch norm's running statistics.
    pub buffers: BTreeMap<String, Tensor>,
}

/// What the forward pass uses in training only.
pub struct Training<'m> {
    /// Draws dropout's factors for a number of hidden units, or is `None` without dropout.
    pub mask: Option<&'m mut dyn FnMut(usize) -> Vec<f32>>,
}

/// A batch's own statistics: mean, variance divided by n, and n.
struct Batch(Tensor, Tensor, usize);

impl Net {
    /// A net for features of `dimension` components, with weights of 0, except for batch norm's
    /// scale and running variance, which are 1.
    pub fn zeros(shape: Shape, dimension: usize, classes: usize, device: &Device) -> Result<Self> {
        let (weights, buffers) = (BTreeMap::new(), BTreeMap::new());
        let mut net = Self { shape, dimension, classes, weights, buffers };
        let tensors = net.architecture().map(|of| of.tensors()).unwrap_or_default();
        let shape_of_net = net.shape.clone();
        let mut weight = |name: &str, shape: &[usize]| -> Result<()> {
            net.weights.insert(name.to_owned(), Var::zeros(shape, DType::F32, device)?);
            Ok(())
        };
        match shape_of_net {
            Shape::SingleLayer => weight("fc.weight", &[classes, dimension])?,
            Shape::Sequence(SequenceShape { trained, .. }) => {
                tensors.iter().try_for_each(|(name, shape)| weight(name, shape))?;
                if let Some(rows) = trained {
                    weight(EMBEDDING, &[rows, dimension])?;
                }
            }
            Shape::MultiLayer { hidden, .. } => {
                for (name, inputs, outputs) in [
                    ("fc", dimension, hidden),
                    ("fc_mid", hidden, hidden),
                    ("fc_out", hidden, classes),
                ] {
                    weight(&format!("{name}.weight"), &[outputs, inputs])?;
                    weight(&format!("{name}.bias"), &[outputs])?;
                }
                weight("bn.bias", &[hidden])?;
                net.weights.insert("bn.weight".into(), Var::ones(hidden, DType::F32, device)?);
                net.buffers
                    .insert("bn.running_mean".into(), Tensor::zeros(hidden, DType::F32, device)?);
                net.buffers
                    .insert("bn.running_var".into(), Tensor::ones(hidden, DType::F32, device)?);
            }
        }
        Ok(net)
    }

    /// How many numbers training changes.
    pub fn parameters(&self) -> usize {
        self.weights.values().map(|v| v.elem_count()).sum()
    }

    /// The logits of the rows of `x`, \[n, classes\].
    pub fn logits(&self, x: &Tensor) -> Result<Tensor> {
        self.pass(x, None).map(|(logits, _)| logits)
    }

    /// The logits in training: batch norm uses the batch's own statistics and updates the running
    /// ones, and hidden units may be dropped.
    pub fn training_logits(&mut self, x: &Tensor, mut training: Training<'_>) -> Result<Tensor> {
        let (logits, batches) = self.pass(x, Some(&mut training))?;
        for Batch(mean, variance, n) in batches {
            self.remember("bn.running_mean", &mean, 1.0)?;
            // A batch of one row has no variance to remember, so it leaves the running one
            // unchanged.
            if n > 1 {
                self.remember("bn.running_var", &variance, n as f64 / (n - 1) as f64)?;
            }
        }
        Ok(logits)
    }

    fn pass(
        &self,
        x: &Tensor,
        mut training: Option<&mut Training<'_>>,
    ) -> Result<(Tensor, Vec<Batch>)> {
        let Shape::MultiLayer { layers, relu_out, .. } = self.shape else {
            return Ok((x.matmul(&self.var("fc.weight")?.t()?)?, Vec::new()));
        };
        let learning = training.is_some();
        let drop = |h: Tensor, training: &mut Option<&mut Training<'_>>| match training
            .as_mut()
            .and_then(|t| t.mask.as_mut())
        {
            Some(mask) => h.mul(&Tensor::from_vec(mask(h.elem_count()), h.shape(), h.device())?),
            None => Ok(h),
        };
        let mut batches = Vec::new();
        let relu = |z: &Tensor| if learning { relu_that_keeps_nan(z) } else { z.relu() };
        let mut h = drop(relu(&self.layer("fc", x)?)?, &mut training)?;
        for _ in 0..layers {
            let z = self.layer("fc_mid", &h)?;
            let (normal, batch) = self.batch_norm(&z, learning)?;
            batches.extend(batch);
            h = drop(relu(&normal)?, &mut training)?;
        }
        let logits = self.layer("fc_out", &h)?;
        Ok((if relu_out { relu(&logits)? } else { logits }, batches))
    }

    fn var(&self, name: &str) -> Result<&Tensor> {
        let var = self.weights.get(name).map(Var::as_tensor).or_else(|| self.buffers.get(name));
        var.ok_or_else(|| candle_core::Error::Msg(format!("the net has no `{name}`")))
    }

    fn layer(&self, name: &str, x: &Tensor) -> Result<Tensor> {
        let weight = self.var(&format!("{name}.weight"))?;
        x.matmul(&weight.t()?)?.broadcast_add(self.var(&format!("{name}.bias"))?)
    }

    /// Batch normalisation (Ioffe and Szegedy, 2015), with PyTorch's running statistics: the
    /// variance that normalises is divided by n, the one that is remembered by n − 1.
    fn batch_norm(&self, z: &Tensor, training: bool) -> Result<(Tensor, Option<Batch>)> {
        let (centred, variance, batch) = if training {
            let mean = z.mean_keepdim(0)?;
            let centred = z.broadcast_sub(&mean)?;
            let variance = centred.sqr()?.mean_keepdim(0)?;
            let batch = Batch(mean.detach(), variance.detach(), z.dim(0)?);
            (centred, variance, Some(batch))
        } else {
            (
                z.broadcast_sub(self.var("bn.running_mean")?)?,
                self.var("bn.running_var")?.unsqueeze(0)?,
                None,
            )
        };
        let scale = (variance + BATCH_NORM_EPSILON)?
            .sqrt()?
            .recip()?
            .broadcast_mul(self.var("bn.weight")?)?;
        Ok((centred.broadcast_mul(&scale)?.broadcast_add(self.var("bn.bias")?)?, batch))
    }

    fn remember(&mut self, name: &str, batch: &Tensor, factor: f64) -> Result<()> {
        let batch = (batch.squeeze(0)? * (BATCH_NORM_MOMENTUM * factor))?;
        let new = ((self.var(name)? * (1.0 - BATCH_NORM_MOMENTUM))? + batch)?;
        self.buffers.insert(name.to_owned(), new);
        Ok(())
    }

    /// Whether every weight and buffer is a finite number.
    pub fn is_finite(&self) -> Result<bool> {
        for tensor in self.state().values() {
            // A sum is finite only if its terms are; if it overflows, its terms are as bad as
            // infinite ones.
            if !tensor.sum_all()?.to_scalar::<f32>()?.is_finite() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Every tensor by name: weights and buffers.
    pub fn state(&self) -> BTreeMap<String, Tensor> {
        let weights =
            self.weights.iter().map(|(name, var)| (name.clone(), var.as_tensor().clone()));
        weights
            .chain(self.buffers.iter().map(|(name, tensor)| (name.clone(), tensor.clone())))
            .collect()
    }

    /// Replaces the values of the tensor `name`; their count must match.
    pub fn set(&mut self, name: &str, values: Vec<f32>) -> Result<()> {
        let old = self.var(name)?;
        let new = Tensor::from_vec(values, old.shape(), old.device())?;
        match self.weights.get(name) {
            Some(var) => var.set(&new),
            None => {
                self.buffers.insert(name.to_owned(), new);
                Ok(())
            }
        }
    }
}

/// A ReLU that keeps NaN. candle's turns NaN into 0, so that a net that has diverged would look
/// sound. The term that is added is 0 for finite numbers and NaN for others, and has no gradient.
fn relu_that_keeps_nan(z: &Tensor) -> Result<Tensor> {
    z.relu()? + (z.detach() * 0.0)?
}

#[cfg(test)]
mod tests {
    use super::*;

    const MLP: Shape = Shape::MultiLayer { hidden: 3, layers: 2, relu_out: true };

    #[test]
    fn names_and_shapes_are_pytorch_s() {
        let net = |shape| Net::zeros(shape, 5, 4, &Device::Cpu).expect("a net");
        let named = |net: &Net| {
            net.state().iter().map(|(n, t)| format!("{n} {:?}", t.dims())).collect::<Vec<_>>()
        };
        assert_eq!(named(&net(Shape::SingleLayer)), ["fc.weight [4, 5]"]);
        assert_eq!(
            named(&net(MLP)),
            [
                "bn.bias [3]",
                "bn.running_mean [3]",
                "bn.running_var [3]",
                "bn.weight [3]",
                "fc.bias [3]",
                "fc.weight [3, 5]",
                "fc_mid.bias [3]",
                "fc_mid.weight [3, 3]",
                "fc_out.bias [4]",
                "fc_out.weight [4, 3]"
            ]
        );
        assert_eq!(net(MLP).parameters(), 5 * 3 + 3 + 3 * 3 + 3 + 3 * 4 + 4 + 2 * 3);
    }

    #[test]
    fn a_relu_hides_no_nan_in_training() -> Result<()> {
        let z = Tensor::new(&[-1.0_f32, 0.0, 2.0, f32::NAN, f32::INFINITY], &Device::Cpu)?;
        let out = relu_that_keeps_nan(&z)?.to_vec1::<f32>()?;
        assert!(out[..3] == [0.0, 0.0, 2.0] && out[3].is_nan() && out[4].is_nan());
        Ok(())
    }

    #[test]
    fn dropped_units_do_not_reach_the_output() -> Result<()> {
        let mut net = Net::zeros(
            Shape::MultiLayer { hidden: 3, layers: 0, relu_out: false },
            2,
            4,
            &Device::Cpu,
        )?;
        net.set("fc.bias", vec![1.0, 2.0, 3.0])?;
        net.set("fc_out.weight", (0..12).map(|i| if i < 3 { 1.0 } else { 0.0 }).collect())?;
        let x = Tensor::zeros((2, 2), DType::F32, &Device::Cpu)?;
        assert_eq!(net.logits(&x)?.to_vec2::<f32>()?[0][0], 6.0);
        let mut masks = vec![vec![2.0, 0.0, 2.0, 0.0, 0.0, 2.0]];
        let mut mask =
            |n: usize| masks.pop().filter(|m| m.len() == n).expect("one mask of six units");
        let logits =
            net.training_logits(&x, Training { mask: Some(&mut mask) })?.to_vec2::<f32>()?;
        assert_eq!((logits[0][0], logits[1][0]), (2.0 + 6.0, 6.0));
        Ok(())
    }
}
