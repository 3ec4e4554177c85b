//! What the training nodes left: runs, the first rows' losses, the sweep over batch sizes.

use std::collections::BTreeMap;

use artifact::{Failure, Machine, Result, Stage};
use curves::Row;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::facts::{Part, json};
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
    spread: BTreeMap<String, Spread>,
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
    features: usize,
    parameters: usize,
    started_from_given_weights: bool,
    options: BTreeMap<String, serde_json::Value>,
}

/// A training run.
#[derive(Serialize)]
pub struct Run {
    /// The node.
    pub node: &'static str,
    device: String,
    features: usize,
    parameters: usize,
    started_from_given_weights: bool,
    options: BTreeMap<String, serde_json::Value>,
    /// By part.
    pub scores: BTreeMap<&'static str, Score>,
    /// 95 % intervals of the accuracy on valid and test.
    pub intervals: BTreeMap<&'static str, (f64, f64)>,
    epochs: u32,
    epoch_kept: u32,
    stopped_early: bool,
    checkpoints: Checkpoints,
    seeds: Vec<Seed>,
    /// Mean and standard deviation of the seeds' accuracy, by part; empty below two seeds.
    spread: BTreeMap<String, Spread>,
    /// The predictions of valid and test.
    pub quality: Vec<Quality>,
    /// What was scored after each epoch.
    pub history: Vec<Row>,
}

/// What several seeds come to.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct Spread {
    /// Mean accuracy.
    pub mean: f64,
    /// Sample standard deviation, divided by n − 1.
    pub deviation: f64,
}

impl Run {
    /// Reads the run of `node` on the `parts`.
    pub fn read(stage: &Stage, node: &'static str, parts: &[Part]) -> Result<Self> {
        let config: Config = json(&stage.input(node, "config.json"))?;
        let metrics: Metrics = json(&stage.input(node, "metrics.json"))?;
        let history: Vec<Row> = lines(stage, node, "history.jsonl")?;
        if history.is_empty() {
            return Err(Failure::artifact("there is no epoch", &stage.input(node, "history.jsonl")));
        }
        let classes = parts.iter().find(|p| p.name == "train").map_or(&[][..], |p| &p.classes);
        // Of equally frequent ones the first.
        let most_frequent = classes.iter().enumerate().rev().max_by_key(|(_, count)| **count).map_or(0, |(label, _)| label);
        let scores = BTreeMap::from([("train", metrics.train), ("valid", metrics.valid), ("test", metrics.test)]);
        let interval = |(part, score): (&&'static str, &Score)| {
            let n = parts.iter().find(|p| p.name == *part).map_or(0, |p| p.rows);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of n is at most n")]
            let hits = (score.accuracy * n as f64).round() as usize;
            (*part, wilson(hits, n))
        };
        Ok(Self {
            node,
            device: config.device,
            features: config.features,
            parameters: config.parameters,
            started_from_given_weights: config.started_from_given_weights,
            options: config.options.into_iter().filter(|(_, value)| !value.is_null()).collect(),
            // On the rows that it was fitted to, chance is no matter of sampling.
            intervals: scores.iter().filter(|(part, _)| **part != "train").map(interval).collect(),
            scores,
            epochs: metrics.epochs,
            epoch_kept: metrics.epoch_kept,
            stopped_early: metrics.stopped_early,
            checkpoints: metrics.checkpoints,
            spread: metrics.spread,
            seeds: metrics.seeds,
            quality: quality::read(&stage.input(node, "predictions.parquet"), most_frequent, parts)?,
            history,
        })
    }

    /// Mean and deviation of the accuracy on test over the seeds, and how many those are.
    pub fn over_seeds(&self) -> Option<(Spread, usize)> {
        self.spread.get("test").map(|spread| (*spread, self.seeds.len()))
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
    /// The machine that was timed.
    machine: Machine,
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
    kernel: String,
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
        let machine = json(&stage.input("train.sweep", "machine.json"))?;
        let times = lines(stage, "train.sweep", "sweep.jsonl")?;
        let options = options.into_iter().filter(|(_, value)| !value.is_null()).collect();
        Ok(Self { rows, features, devices, unavailable, options, machine, times })
    }
}

fn lines<T: DeserializeOwned>(stage: &Stage, node: &str, file: &str) -> Result<Vec<T>> {
    let path = stage.input(node, file);
    let text = std::fs::read_to_string(&path).map_err(|e| Failure::io("read", &path, &e))?;
    let row = |(i, line)| serde_json::from_str(line).map_err(|e| Failure::artifact(format_args!("line {}: {e}", i + 1), &path));
    text.lines().enumerate().map(row).collect()
}
