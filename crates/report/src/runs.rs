//! What the training nodes left: runs, the first rows' losses, the sweep over batch sizes.

use std::collections::BTreeMap;

use artifact::{Failure, Result, Stage};
use curves::Row;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::facts::json;
use crate::quality::{self, Quality, wilson};

/// A score of a run's `metrics.json`.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct Score {
    loss: f64,
    /// Share of right predictions.
    pub accuracy: f64,
}

#[derive(Deserialize)]
struct Metrics {
    train: Score,
    valid: Score,
    test: Score,
    epochs: u32,
    epoch_kept: u32,
    stopped_early: bool,
    checkpoints: Checkpoints,
    seeds: Vec<Seed>,
}

/// A run's checkpoints.
#[derive(Serialize, Deserialize)]
struct Checkpoints {
    count: usize,
    bytes: u64,
    tensors: BTreeMap<String, Vec<usize>>,
    also: Vec<String>,
}

/// A further seed's scores.
#[derive(Serialize, Deserialize)]
struct Seed {
    seed: u64,
    train: Score,
    valid: Score,
    test: Score,
    epochs: u32,
}

#[derive(Deserialize)]
struct Config {
    device: String,
    parameters: usize,
    options: BTreeMap<String, serde_json::Value>,
}

/// A training run.
#[derive(Serialize)]
pub struct Run {
    /// The node.
    pub node: &'static str,
    device: String,
    parameters: usize,
    options: BTreeMap<String, serde_json::Value>,
    /// By part.
    pub scores: BTreeMap<&'static str, Score>,
    /// 95 % intervals of the accuracy, by part.
    pub intervals: BTreeMap<&'static str, (f64, f64)>,
    epochs: u32,
    epoch_kept: u32,
    stopped_early: bool,
    checkpoints: Checkpoints,
    seeds: Vec<Seed>,
    /// Mean and standard deviation of the seeds' accuracy, by part; empty below two seeds.
    spread: BTreeMap<&'static str, Spread>,
    /// The predictions of valid and test.
    pub quality: Vec<Quality>,
    /// What was scored after each epoch.
    pub history: Vec<Row>,
}

/// What several seeds come to.
#[derive(Debug, PartialEq, Serialize)]
struct Spread {
    mean: f64,
    /// Sample standard deviation, divided by n − 1.
    deviation: f64,
}

impl Run {
    /// Reads the run of `node`; the parts have so many rows.
    pub fn read(stage: &Stage, node: &'static str, rows: &BTreeMap<&'static str, usize>) -> Result<Self> {
        let config: Config = json(&stage.input(node, "config.json"))?;
        let metrics: Metrics = json(&stage.input(node, "metrics.json"))?;
        let history: Vec<Row> = lines(stage, node, "history.jsonl")?;
        if history.is_empty() {
            return Err(Failure::artifact("there is no epoch", &stage.input(node, "history.jsonl")));
        }
        let scores = BTreeMap::from([("train", metrics.train), ("valid", metrics.valid), ("test", metrics.test)]);
        let interval = |(part, score): (&&'static str, &Score)| {
            let n = rows.get(part).copied().unwrap_or(0);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of n is at most n")]
            let hits = (score.accuracy * n as f64).round() as usize;
            (*part, wilson(hits, n))
        };
        let spread = [("train", Seed::train as fn(&Seed) -> f64), ("valid", Seed::valid), ("test", Seed::test)];
        Ok(Self {
            node,
            device: config.device,
            parameters: config.parameters,
            options: config.options.into_iter().filter(|(_, value)| !value.is_null()).collect(),
            intervals: scores.iter().map(interval).collect(),
            scores,
            epochs: metrics.epochs,
            epoch_kept: metrics.epoch_kept,
            stopped_early: metrics.stopped_early,
            checkpoints: metrics.checkpoints,
            spread: spread.into_iter().filter_map(|(part, of)| Some((part, Spread::of(metrics.seeds.iter().map(of))?))).collect(),
            seeds: metrics.seeds,
            quality: quality::read(&stage.input(node, "predictions.parquet"))?,
            history,
        })
    }

    /// The accuracy on test of always saying the most frequent category.
    pub fn majority(&self) -> f64 {
        self.quality.iter().find(|q| q.part == "test").map_or(0.0, |q| q.majority)
    }

    /// The accuracy on test.
    pub fn test(&self) -> f64 {
        self.scores.get("test").map_or(0.0, |s| s.accuracy)
    }
}

impl Seed {
    fn train(&self) -> f64 {
        self.train.accuracy
    }
    fn valid(&self) -> f64 {
        self.valid.accuracy
    }
    fn test(&self) -> f64 {
        self.test.accuracy
    }
}

impl Spread {
    fn of(values: impl Iterator<Item = f64> + Clone) -> Option<Self> {
        let n = values.clone().count();
        if n < 2 {
            return None;
        }
        let mean = values.clone().sum::<f64>() / n as f64;
        let deviation = (values.map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1) as f64).sqrt();
        Some(Self { mean, deviation })
    }
}

/// `start.json`: what the net says of the first rows before it has learned anything.
#[derive(Serialize, Deserialize)]
pub struct Start {
    ids: Vec<i64>,
    labels: Vec<u32>,
    probabilities: Vec<Vec<f64>>,
    first: Step,
    all: Step,
}

#[derive(Serialize, Deserialize)]
struct Step {
    rows: usize,
    loss: f64,
    norms: Vec<f64>,
    gradient: Vec<Vec<f64>>,
}

/// The sweep over batch sizes and devices.
#[derive(Serialize)]
pub struct Sweep {
    rows: usize,
    features: usize,
    /// Those that were timed.
    pub devices: Vec<String>,
    unavailable: Vec<(String, String)>,
    options: BTreeMap<String, serde_json::Value>,
    /// A row a batch size and device.
    pub times: Vec<Time>,
}

#[derive(Deserialize)]
struct SweepConfig {
    rows: usize,
    features: usize,
    devices: Vec<String>,
    unavailable: Vec<(String, String)>,
    options: BTreeMap<String, serde_json::Value>,
}

/// A row of `sweep.jsonl`.
#[derive(Serialize, Deserialize)]
pub struct Time {
    /// The device.
    pub device: String,
    /// Rows a step.
    pub batch_size: u64,
    /// Of an epoch of training.
    pub seconds: f64,
    /// Of scoring train and valid.
    pub seconds_evaluation: f64,
    loss_train: f64,
    accuracy_train: f64,
    loss_valid: f64,
    accuracy_valid: f64,
}

impl Sweep {
    /// Reads the result of `train.sweep`.
    pub fn read(stage: &Stage) -> Result<Self> {
        let SweepConfig { rows, features, devices, unavailable, options } = json(&stage.input("train.sweep", "config.json"))?;
        let times = lines(stage, "train.sweep", "sweep.jsonl")?;
        let options = options.into_iter().filter(|(_, value)| !value.is_null()).collect();
        Ok(Self { rows, features, devices, unavailable, options, times })
    }
}

fn lines<T: DeserializeOwned>(stage: &Stage, node: &str, file: &str) -> Result<Vec<T>> {
    let path = stage.input(node, file);
    let text = std::fs::read_to_string(&path).map_err(|e| Failure::io("read", &path, &e))?;
    let row = |(i, line)| serde_json::from_str(line).map_err(|e| Failure::artifact(format_args!("line {}: {e}", i + 1), &path));
    text.lines().enumerate().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_is_python_s() {
        // Python: statistics.mean([0.84, 0.86, 0.85]), statistics.stdev([0.84, 0.86, 0.85])
        let spread = Spread::of([0.84, 0.86, 0.85].into_iter()).expect("three values");
        assert!((spread.mean - 0.85).abs() < 1e-12 && (spread.deviation - 0.01).abs() < 1e-12, "{spread:?}");
        assert_eq!(Spread::of([0.84].into_iter()), None);
    }
}
