//! The optimizers.

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, Var};
use nets::{EMBEDDING, Net};
use serde::{Deserialize, Serialize};

/// AdamW's β₁ and β₂, PyTorch's defaults.
pub const BETAS: (f64, f64) = (0.9, 0.999);
/// Added to AdamW's root, PyTorch's default.
pub const EPSILON: f64 = 1e-8;

/// The rule by which a step changes the weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// Stochastic gradient descent, with momentum or without.
    #[default]
    Sgd,
    /// Adam with decoupled weight decay (Loshchilov and Hutter, 2019, algorithm 2).
    AdamW,
}

/// An optimizer and what it remembers between steps.
pub struct Optimizer {
    pub rule: Rule,
    /// The momentum of stochastic gradient descent.
    pub momentum: f64,
    /// An L2 penalty or decoupled weight decay, depending on the rule.
    pub weight_decay: f64,
    /// Steps done.
    pub steps: u64,
    /// What it remembers of each weight, under the name `memory.weight`; the memories have
    /// PyTorch's names.
    pub state: BTreeMap<String, Tensor>,
}

impl Optimizer {
    /// An optimizer for the weights of `net`, before its first step.
    pub fn new(rule: Rule, momentum: f64, weight_decay: f64, net: &Net) -> Result<Self> {
        let mut optimizer = Self { rule, momentum, weight_decay, steps: 0, state: BTreeMap::new() };
        for memory in optimizer.memories() {
            for (name, var) in net.weights.iter().filter(|(name, _)| *name != EMBEDDING) {
                optimizer.state.insert(format!("{memory}.{name}"), var.as_tensor().zeros_like()?);
            }
        }
        Ok(optimizer)
    }

    /// The names of what it remembers of each weight, as in PyTorch.
    pub fn memories(&self) -> &'static [&'static str] {
        match self.rule {
            Rule::Sgd if self.momentum > 0.0 => &["momentum_buffer"],
            Rule::Sgd => &[],
            Rule::AdamW => &["exp_avg", "exp_avg_sq"],
        }
    }

    /// Changes the weights by their gradients. Embeddings, of which a batch uses few, are changed by
    /// plain gradient descent, which remembers nothing of them, at `embedding_lr` times the rate.
    pub fn step(
        &mut self,
        net: &Net,
        gradients: &GradStore,
        lr: f64,
        embedding_lr: f64,
    ) -> Result<()> {
        self.steps += 1;
        for (name, var) in &net.weights {
            let Some(gradient) = gradients.get(var.as_tensor()) else { continue };
            let new = match self.rule {
                _ if name == EMBEDDING => (var.as_tensor() - (gradient * (lr * embedding_lr))?)?,
                Rule::Sgd => self.sgd(name, var, gradient, lr)?,
                Rule::AdamW => self.adamw(name, var, gradient, lr)?,
            };
            var.set(&new)?;
        }
        Ok(())
    }

    /// As `torch.optim.SGD`: v ← μ v + g + λ w, w ← w − η v.
    fn sgd(&mut self, name: &str, var: &Var, gradient: &Tensor, lr: f64) -> Result<Tensor> {
        let w = var.as_tensor();
        let mut direction = gradient.clone();
        if self.weight_decay > 0.0 {
            direction = (direction + (w.detach() * self.weight_decay)?)?;
        }
        if self.momentum > 0.0 {
            let momentum = self.momentum;
            direction = self.update("momentum_buffer", name, |v| (v * momentum)? + direction)?;
        }
        w - (direction * lr)?
    }

    /// As `torch.optim.AdamW`.
    fn adamw(&mut self, name: &str, var: &Var, gradient: &Tensor, lr: f64) -> Result<Tensor> {
        let (beta1, beta2) = BETAS;
        let steps = i32::try_from(self.steps).unwrap_or(i32::MAX);
        let mean = self.update("exp_avg", name, |m| (m * beta1)? + (gradient * (1.0 - beta1))?)?;
        let square =
            self.update("exp_avg_sq", name, |v| (v * beta2)? + (gradient.sqr()? * (1.0 - beta2))?)?;
        let root = ((square.sqrt()? / (1.0 - beta2.powi(steps)).sqrt())? + EPSILON)?;
        let decayed = (var.as_tensor() * (1.0 - lr * self.weight_decay))?;
        decayed - (mean.div(&root)? * (lr / (1.0 - beta1.powi(steps))))?
    }

    fn update(
        &mut self,
        memory: &str,
        name: &str,
        new: impl FnOnce(&Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let key = format!("{memory}.{name}");
        let old = self
            .state
            .get(&key)
            .ok_or_else(|| candle_core::Error::Msg(format!("the optimizer has no `{key}`")))?;
        // Detached, since otherwise each step's graph would keep the one before alive.
        let new = new(old)?.detach();
        self.state.insert(key, new.clone());
        Ok(new)
    }

    /// Replaces the values of the memory `name`; their count must match.
    pub fn set(&mut self, name: &str, values: Vec<f32>) -> Result<()> {
        if let Some(old) = self.state.get_mut(name) {
            *old = Tensor::from_vec(values, old.shape(), old.device())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::{loss, step_on};
    use candle_core::Device;
    use nets::Shape;

    // PyTorch 2.15, with W = cos(arange(20) * 0.7).reshape(4, 5), X = sin(arange(20) *
    // 0.3).reshape(4, 5), y = [0, 3, 2, 1]: three steps of the optimizer on cross_entropy(X @ W.T,
    // y); then W.
    #[rustfmt::skip]
    const PYTORCH: [(Rule, f64, f64, [f64; 20]); 3] = [
        // SGD([W], lr=0.1)
        (Rule::Sgd, 0.0, 0.0, [0.975_218_9, 0.769_390_2, 0.203_437_9, -0.445_442_4, -0.862_192_1, -0.993_979_2, -0.555_900_6, 0.118_618_8, 0.711_483_2, 0.945_311_2, 0.793_920_3, 0.185_926_0, -0.497_110_3, -0.937_898_2, -0.933_835_2, -0.433_251_4, 0.231_544_6, 0.798_314_8, 0.994_290_1, 0.720_675_2]),
        // SGD([W], lr=0.1, momentum=0.9, weight_decay=0.01)
        (Rule::Sgd, 0.9, 0.01, [0.948_237_4, 0.769_261_7, 0.231_807_2, -0.390_746_4, -0.787_133_4, -1.039_319_0, -0.610_874_2, 0.057_875_0, 0.650_793_7, 0.891_753_4, 0.824_820_3, 0.213_662_6, -0.474_687_1, -0.923_900_3, -0.931_537_0, -0.393_746_5, 0.255_373_4, 0.804_772_5, 0.984_478_5, 0.697_605_1]),
        // AdamW([W], lr=0.1, weight_decay=0.01)
        (Rule::AdamW, 0.0, 0.01, [0.696_867_2, 1.009_519_2, 0.466_987_6, -0.204_826_6, -0.640_561_3, -1.226_534_8, -0.782_224_1, -0.107_920_1, 0.478_938_0, 0.702_052_5, 1.042_345_9, 0.440_081_9, -0.239_044_1, -0.713_349_0, -1.215_389_5, -0.174_697_1, 0.501_433_9, 1.080_745_7, 0.698_406_3, 0.440_355_1]),
    ];

    fn numbers(f: fn(f64) -> f64) -> Vec<f32> {
        #[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
        (0..20).map(|i| f(f64::from(i)) as f32).collect()
    }

    fn problem() -> (Net, Tensor, Tensor) {
        let mut net = Net::zeros(Shape::SingleLayer, 5, 4, &Device::Cpu).expect("a net");
        net.set("fc.weight", numbers(|i| (i * 0.7).cos())).expect("sets");
        let x = Tensor::from_vec(numbers(|i| (i * 0.3).sin()), (4, 5), &Device::Cpu).expect("X");
        (net, x, Tensor::from_vec(vec![0_u32, 3, 2, 1], 4, &Device::Cpu).expect("y"))
    }

    #[test]
    fn three_steps_are_pytorch_s() {
        for (rule, momentum, decay, want) in PYTORCH {
            let (mut net, x, y) = problem();
            let mut optimizer = Optimizer::new(rule, momentum, decay, &net).expect("an optimizer");
            for _ in 0..3 {
                step_on(&mut net, &mut optimizer, (&x, &y), 0.1).expect("steps");
            }
            assert_eq!(optimizer.steps, 3);
            let seen: Vec<f32> =
                net.state()["fc.weight"].flatten_all().and_then(|w| w.to_vec1()).expect("values");
            for (seen, want) in seen.iter().zip(want) {
                assert!(
                    (f64::from(*seen) - want).abs() < 2e-6,
                    "{rule:?} {momentum}: {seen} is not {want}"
                );
            }
        }
    }

    #[test]
    fn smoothed_labels_are_pytorch_s() {
        // cross_entropy(X @ W.T, y, label_smoothing=0.1)
        let (net, x, y) = problem();
        let smoothed = loss(&net.logits(&x).expect("logits"), &y, 0.1)
            .and_then(|l| l.to_scalar::<f32>())
            .expect("a loss");
        assert!((smoothed - 1.544_590_1).abs() < 1e-6, "{smoothed}");
    }
}
