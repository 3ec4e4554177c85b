//! JSON artifacts of a training run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::OptionValues;

/// `config.json` of a run; `O` is the type of its options.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunConfig<O = OptionValues> {
    /// The node.
    pub node: String,
    /// `cpu` or `cuda`.
    pub device: String,
    /// The number of features in a row.
    pub features: usize,
    /// The number of trainable parameters.
    pub parameters: usize,
    /// Whether the option `init` gave the starting weights.
    pub started_from_given_weights: bool,
    /// Its options; paths are left out.
    pub options: O,
}

/// How good a net is on a part.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Mean cross-entropy, in nats.
    pub loss: f64,
    /// Share of correct predictions.
    pub accuracy: f64,
}

/// How training ended.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Epochs done.
    pub epochs: u32,
    /// The epoch whose weights are kept.
    pub epoch_kept: u32,
    /// Whether early stopping ended it.
    pub stopped_early: bool,
}

/// A trained net's scores on each part.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trained {
    /// On the rows that it was trained on.
    pub train: Score,
    /// On the rows that choices are based on.
    pub valid: Score,
    /// On the rows that no choice was based on, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<Score>,
    /// How training ended.
    #[serde(flatten)]
    pub outcome: Outcome,
}

impl Trained {
    /// The scores by part.
    pub fn scores(&self) -> impl Iterator<Item = (&'static str, Score)> {
        let test = self.test.map(|test| ("test", test));
        [("train", self.train), ("valid", self.valid)].into_iter().chain(test)
    }
}

/// The result of a further seed, in `seeds/SEED/metrics.json`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeedMetrics {
    /// The seed.
    pub seed: u64,
    /// Its scores.
    #[serde(flatten)]
    pub result: Trained,
}

/// `metrics.json` of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Metrics {
    /// The scores of the run's own seed.
    #[serde(flatten)]
    pub result: Trained,
    /// Rows of each part.
    #[serde(default)]
    pub rows: BTreeMap<String, usize>,
    /// What lies in `checkpoints/`.
    pub checkpoints: CheckpointSummary,
    /// The results of all seeds, if there are more than one.
    pub seeds: Vec<SeedMetrics>,
    /// The spread of the seeds' accuracies by part; empty with fewer than two seeds.
    pub spread: BTreeMap<String, Spread>,
}

/// Mean and deviation of a figure over several seeds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// The sample standard deviation, divided by n − 1.
    pub deviation: f64,
}

impl Spread {
    /// The spread of some values; `None` for fewer than two.
    pub fn of(values: &[f64]) -> Option<Self> {
        if values.len() < 2 {
            return None;
        }
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>();
        Some(Self { mean, deviation: (squares / (n - 1.0)).sqrt() })
    }
}

/// What lies in `checkpoints/`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CheckpointSummary {
    /// How many there are.
    pub count: usize,
    /// Their size in bytes.
    pub bytes: u64,
    /// Names and shapes of the newest one's tensors.
    pub tensors: BTreeMap<String, Vec<usize>>,
    /// What else is in it.
    pub also: Vec<String>,
}

/// A row of `history.jsonl`: the scores after an epoch. For `bow` and `dan`, those of train are the
/// scores of each batch just before its step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryRow {
    /// Counted from 1.
    pub epoch: u32,
    /// The learning rate of the epoch.
    pub lr: f64,
    /// Mean cross-entropy on the training data, in nats.
    pub loss_train: f64,
    /// Share of correct predictions on the training data.
    pub accuracy_train: f64,
    /// Mean cross-entropy on the validation data, in nats.
    pub loss_valid: f64,
    /// Share of correct predictions on the validation data.
    pub accuracy_valid: f64,
}

/// A row of `timings.jsonl`: how long an epoch took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimingRow {
    /// Counted from 1.
    pub epoch: u32,
    /// Seconds of training, without the evaluation.
    pub seconds: f64,
}

/// `start.json`: what a single-layer net computes for the first rows before it is trained.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Start {
    /// The headlines' numbers in the archive.
    pub ids: Vec<i64>,
    /// Their labels.
    pub labels: Vec<u32>,
    /// softmax(W x) of each row.
    pub probabilities: Vec<Vec<f32>>,
    /// Loss and gradient of the first row alone.
    pub first: StartStep,
    /// Loss and gradient of all these rows.
    pub all: StartStep,
}

/// Loss and gradient of some rows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StartStep {
    /// The number of rows.
    pub rows: usize,
    /// Mean cross-entropy, in nats.
    pub loss: f32,
    /// Euclidean length of the gradient of each category's weights.
    pub norms: Vec<f32>,
    /// The gradient's first components, one row per category.
    pub gradient: Vec<Vec<f32>>,
}

/// `strongest.json` of a linear run: the n-grams that speak most for each class, in label order.
pub type Strongest = Vec<Vec<StrongFeature>>;

/// An n-gram that speaks for a class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StrongFeature {
    /// The kind of n-gram.
    pub block: String,
    /// The n-gram.
    pub ngram: String,
    /// What it adds to the margin of the class, averaged over the class's headlines in train.
    pub contribution: f32,
}

/// A row of `passes.jsonl` of a linear run: what a pass over the rows came to, over the machines of
/// all classes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pass {
    /// Counted from 1.
    pub epoch: u32,
    /// The largest difference of projected gradients among the machines.
    pub violation: f64,
    /// How many machines have not converged.
    pub running: usize,
    /// The share of rows that were still looked at, averaged over these machines.
    pub active: f64,
}

/// `calibration.json`: how a classifier's margins become probabilities.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// The inverse of a temperature: the softmax of `scale` · margins has the least cross-entropy on
    /// valid or, if there are held-out margins, on train.
    pub scale: f32,
    /// If there are held-out margins: the logits are those of the regression in
    /// `calibration.safetensors` times this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of_regression: Option<f32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_is_python_s() {
        // Python: statistics.mean([0.84, 0.86, 0.85]), statistics.stdev([0.84, 0.86, 0.85])
        let Spread { mean, deviation } = Spread::of(&[0.84, 0.86, 0.85]).expect("three values");
        assert!((mean - 0.85).abs() < 1e-12 && (deviation - 0.01).abs() < 1e-12);
        assert_eq!(Spread::of(&[0.84]), None);
    }
}
