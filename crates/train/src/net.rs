//! The two nets: their weights, how they start, and the forward pass.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::loss::cross_entropy;
use features::Category;

use crate::random::Random;

/// PyTorch's `BatchNorm1d` defaults.
const EPSILON: f64 = 1e-5;
const MOMENTUM: f64 = 0.1;

/// What a net looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// logits = X Wᵀ, no bias.
    SingleLayer,
    /// `fc` → ReLU → (`fc_mid` → batch norm → ReLU) × `layers` → `fc_out` → ReLU if `relu_out`.
    /// The middle layers are one and the same, shared.
    MultiLayer {
        /// Units of each hidden layer.
        hidden: usize,
        /// How often the middle layer is passed.
        layers: usize,
        /// Whether the logits end in a ReLU.
        relu_out: bool,
    },
}

/// A net with its weights, under PyTorch's `state_dict` names.
pub struct Net {
    shape: Shape,
    /// What training changes by its gradient, sorted by name.
    pub weights: BTreeMap<String, Var>,
    /// What training changes otherwise: batch norm's running statistics.
    pub buffers: BTreeMap<String, Tensor>,
}

impl Net {
    /// A net for features of `dimension` components, with random weights.
    pub fn new(shape: Shape, dimension: usize, random: &mut Random, device: &Device) -> Result<Self> {
        let mut net = Self { shape, weights: BTreeMap::new(), buffers: BTreeMap::new() };
        match shape {
            Shape::SingleLayer => {
                let values = random.normal(Category::COUNT * dimension);
                net.weight("fc.weight", values, &[Category::COUNT, dimension], device)?;
            }
            Shape::MultiLayer { hidden, .. } => {
                net.linear("fc", dimension, hidden, random, device)?;
                net.linear("fc_mid", hidden, hidden, random, device)?;
                net.linear("fc_out", hidden, Category::COUNT, random, device)?;
                net.weight("bn.weight", vec![1.0; hidden], &[hidden], device)?;
                net.weight("bn.bias", vec![0.0; hidden], &[hidden], device)?;
                net.buffers.insert("bn.running_mean".into(), Tensor::zeros(hidden, DType::F32, device)?);
                net.buffers.insert("bn.running_var".into(), Tensor::ones(hidden, DType::F32, device)?);
            }
        }
        Ok(net)
    }

    /// PyTorch's default: weights and bias uniform in ±1/√inputs (`nn.Linear.reset_parameters`).
    fn linear(&mut self, name: &str, inputs: usize, outputs: usize, random: &mut Random, device: &Device) -> Result<()> {
        let bound = 1.0 / (inputs as f64).sqrt();
        let weights = random.uniform(outputs * inputs, bound);
        self.weight(&format!("{name}.weight"), weights, &[outputs, inputs], device)?;
        self.weight(&format!("{name}.bias"), random.uniform(outputs, bound), &[outputs], device)
    }

    fn weight(&mut self, name: &str, values: Vec<f32>, shape: &[usize], device: &Device) -> Result<()> {
        let var = Var::from_tensor(&Tensor::from_vec(values, shape, device)?)?;
        self.weights.insert(name.to_owned(), var);
        Ok(())
    }

    /// The logits of the rows of `x`, \[n, 4\]. In training, batch norm uses the batch's own
    /// statistics and updates the running ones.
    pub fn forward(&mut self, x: &Tensor, training: bool) -> Result<Tensor> {
        let Shape::MultiLayer { layers, relu_out, .. } = self.shape else {
            return x.matmul(&self.var("fc.weight")?.t()?);
        };
        let mut h = self.layer("fc", x)?.relu()?;
        for _ in 0..layers {
            let z = self.layer("fc_mid", &h)?;
            h = self.batch_norm(&z, training)?.relu()?;
        }
        let logits = self.layer("fc_out", &h)?;
        if relu_out { logits.relu() } else { Ok(logits) }
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
    /// variance that normalises is divided by n, the one that is remembered by n − 1. A batch of
    /// one row has no variance to remember, so it leaves the remembered one alone.
    fn batch_norm(&mut self, z: &Tensor, training: bool) -> Result<Tensor> {
        let (centred, variance) = if training {
            let n = z.dim(0)?;
            let mean = z.mean_keepdim(0)?;
            let centred = z.broadcast_sub(&mean)?;
            let variance = centred.sqr()?.mean_keepdim(0)?;
            self.remember("bn.running_mean", &mean, 1.0)?;
            if n > 1 {
                self.remember("bn.running_var", &variance, n as f64 / (n - 1) as f64)?;
            }
            (centred, variance)
        } else {
            (z.broadcast_sub(self.var("bn.running_mean")?)?, self.var("bn.running_var")?.unsqueeze(0)?)
        };
        let scale = (variance + EPSILON)?.sqrt()?.recip()?.broadcast_mul(self.var("bn.weight")?)?;
        centred.broadcast_mul(&scale)?.broadcast_add(self.var("bn.bias")?)
    }

    fn remember(&mut self, name: &str, batch: &Tensor, factor: f64) -> Result<()> {
        let batch = (batch.detach().squeeze(0)? * (MOMENTUM * factor))?;
        let new = ((self.var(name)? * (1.0 - MOMENTUM))? + batch)?;
        self.buffers.insert(name.to_owned(), new);
        Ok(())
    }

    /// One step of stochastic gradient descent on a batch; returns the batch's mean
    /// cross-entropy before it.
    pub fn step(&mut self, x: &Tensor, y: &Tensor, lr: f64) -> Result<f32> {
        let loss = cross_entropy(&self.forward(x, true)?, y)?;
        let gradients = loss.backward()?;
        for var in self.weights.values() {
            if let Some(gradient) = gradients.get(var.as_tensor()) {
                var.set(&(var.as_tensor() - (gradient * lr)?)?)?;
            }
        }
        loss.to_scalar()
    }

    /// Every tensor by name: weights and buffers.
    pub fn state(&self) -> BTreeMap<&str, &Tensor> {
        let weights = self.weights.iter().map(|(name, var)| (name.as_str(), var.as_tensor()));
        weights.chain(self.buffers.iter().map(|(name, tensor)| (name.as_str(), tensor))).collect()
    }

    /// Replaces the tensor `name` by `values`, whose count must fit.
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

#[cfg(test)]
mod tests {
    use super::*;

    const MLP: Shape = Shape::MultiLayer { hidden: 3, layers: 2, relu_out: true };

    fn net(shape: Shape) -> Net {
        Net::new(shape, 5, &mut Random::new(1), &Device::Cpu).expect("a net")
    }

    fn rows(n: usize) -> (Tensor, Tensor) {
        let x = Tensor::from_vec(Random::new(2).normal(n * 5), (n, 5), &Device::Cpu).expect("X");
        let y: Vec<u32> = (0..4).cycle().take(n).collect();
        (x, Tensor::from_vec(y, n, &Device::Cpu).expect("y"))
    }

    #[test]
    fn a_batch_of_one_row_leaves_everything_finite() {
        let mut net = net(MLP);
        let (x, y) = rows(1);
        let before: Vec<f32> = net.buffers["bn.running_var"].to_vec1().expect("values");
        assert!(net.step(&x, &y, 0.1).expect("steps").is_finite());
        for (name, tensor) in net.state() {
            let values: Vec<f32> = tensor.flatten_all().and_then(|t| t.to_vec1()).expect("values");
            assert!(values.iter().all(|v| v.is_finite()), "{name}");
        }
        assert_eq!(net.buffers["bn.running_var"].to_vec1::<f32>().expect("values"), before);
    }

    #[test]
    fn every_weight_gets_a_gradient_that_finite_differences_confirm() {
        let shape = Shape::MultiLayer { hidden: 3, layers: 2, relu_out: false };
        let (x, y) = rows(8);
        let mut trained = net(shape);
        trained.step(&x, &y, 1.0).expect("steps");
        let names: Vec<String> = trained.weights.keys().cloned().collect();
        for name in names {
            let value = |net: &Net, i: usize| net.weights[&name].flatten_all().and_then(|t| t.to_vec1::<f32>()).expect("values")[i];
            let count = trained.weights[&name].elem_count();
            for i in (0..count).step_by(2) {
                let loss = |by: f32| {
                    let mut net = net(shape);
                    let mut values: Vec<f32> = net.weights[&name].flatten_all().and_then(|t| t.to_vec1()).expect("values");
                    values[i] += by;
                    net.set(&name, values).expect("sets");
                    let logits = net.forward(&x, true).expect("logits");
                    cross_entropy(&logits, &y).and_then(|l| l.to_scalar::<f32>()).expect("a loss")
                };
                let slope = (loss(5e-4) - loss(-5e-4)) / 1e-3;
                let step = value(&net(shape), i) - value(&trained, i);
                assert!((step - slope).abs() < 1e-3, "{name}[{i}]: {step} and {slope}");
            }
        }
    }

    #[test]
    fn names_and_shapes_are_pytorch_s() {
        let shapes = |net: &Net| net.state().into_iter().map(|(n, t)| (n.to_owned(), t.dims().to_vec())).collect::<Vec<_>>();
        assert_eq!(shapes(&net(Shape::SingleLayer)), [("fc.weight".to_owned(), vec![4, 5])]);
        let named: Vec<String> = shapes(&net(MLP)).into_iter().map(|(n, s)| format!("{n} {s:?}")).collect();
        assert_eq!(
            named,
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
    }
}
