//! Everything that the report says, read from the stages' artifacts. `metrics.json` is this.

use std::collections::BTreeMap;
use std::path::Path;

use artifact::{Failure, Result, Stage};
use features::{Category, PARTS};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::quality::{self, Quality};

/// All facts.
#[derive(Serialize)]
pub struct Facts {
    /// What was read.
    pub ingest: Ingest,
    /// Categories in label order.
    pub categories: Vec<Named>,
    /// The three parts.
    pub parts: Vec<Part>,
    /// The words.
    pub coverage: Coverage,
    /// The training runs.
    pub runs: Vec<Run>,
}

/// A category.
#[derive(Serialize)]
pub struct Named {
    letter: &'static str,
    name: &'static str,
}

/// `ingest/summary.json`.
#[derive(Serialize, Deserialize)]
pub struct Ingest {
    source: String,
    rows: u64,
    kept: u64,
    publishers: Vec<(String, u64)>,
}

/// `embed/coverage.json`.
#[derive(Serialize, Deserialize)]
pub struct Coverage {
    source: String,
    dimension: usize,
    entries: Option<u64>,
    distinct_words: usize,
    distinct_words_known: usize,
    parts: BTreeMap<String, Share>,
    most_frequent_unknown: Vec<(String, u32)>,
}

/// Words of a part.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct Share {
    words: usize,
    known: usize,
}

/// A part of `tensors/summary.json`.
#[derive(Deserialize)]
struct Matrix {
    rows: usize,
    columns: usize,
    classes: BTreeMap<String, usize>,
    without_known_word: usize,
    dropped: usize,
}

/// A part, for a table's row.
#[derive(Serialize)]
pub struct Part {
    name: &'static str,
    headlines: usize,
    rows: usize,
    columns: usize,
    classes: Vec<usize>,
    without_known_word: usize,
    dropped: usize,
    words: usize,
    words_known: usize,
}

/// A score of a run's `metrics.json`.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct Score {
    loss: f64,
    accuracy: f64,
}

/// A row of `history.jsonl`.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct Epoch {
    /// From 1.
    pub epoch: u32,
    lr: f64,
    /// Mean cross-entropy.
    pub loss_train: f64,
    /// Share of right predictions.
    pub accuracy_train: f64,
    /// Mean cross-entropy.
    pub loss_valid: f64,
    /// Share of right predictions.
    pub accuracy_valid: f64,
}

#[derive(Deserialize)]
struct Metrics {
    train: Score,
    valid: Score,
    test: Score,
    epochs: u32,
    epoch_kept: u32,
    stopped_early: bool,
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
    pub node: String,
    name: &'static str,
    device: String,
    parameters: usize,
    options: BTreeMap<String, serde_json::Value>,
    scores: BTreeMap<&'static str, Score>,
    epochs: u32,
    epoch_kept: u32,
    stopped_early: bool,
    /// The predictions of valid and test.
    quality: Vec<Quality>,
    /// What was scored after each epoch.
    pub history: Vec<Epoch>,
}

const RUNS: [(&str, &str); 2] = [("train.slp", "single-layer net"), ("train.mlp", "multi-layer net")];

impl Facts {
    /// Reads the facts of all stages.
    pub fn read(stage: &Stage) -> Result<Self> {
        let split: BTreeMap<String, BTreeMap<String, usize>> = json(&stage.input("split", "summary.json"))?;
        let matrices: BTreeMap<String, Matrix> = json(&stage.input("tensors", "summary.json"))?;
        let coverage: Coverage = json(&stage.input("embed", "coverage.json"))?;
        let part = |name: &'static str| {
            let matrix = matrices.get(name)?;
            let share = coverage.parts.get(name)?;
            Some(Part {
                name,
                headlines: split.get(name)?.values().sum(),
                rows: matrix.rows,
                columns: matrix.columns,
                classes: Category::ALL.iter().map(|c| matrix.classes.get(c.letter()).copied().unwrap_or(0)).collect(),
                without_known_word: matrix.without_known_word,
                dropped: matrix.dropped,
                words: share.words,
                words_known: share.known,
            })
        };
        let parts: Option<Vec<Part>> = PARTS.into_iter().map(part).collect();
        let parts = parts.ok_or_else(|| {
            Failure::artifact("the summaries name other parts than train, valid, test", &stage.input("tensors", "summary.json"))
        })?;
        Ok(Self {
            ingest: json(&stage.input("ingest", "summary.json"))?,
            categories: Category::ALL.iter().map(|c| Named { letter: c.letter(), name: c.name() }).collect(),
            parts,
            coverage,
            runs: RUNS.iter().map(|(node, name)| run(stage, node, name)).collect::<Result<_>>()?,
        })
    }

    /// The result in one line.
    pub fn headline(&self) -> String {
        let best = |run: &Run| run.scores.get("test").map_or(0.0, |s| s.accuracy * 100.0);
        let all: Vec<String> = self.runs.iter().map(|run| format!("{} {:.1} %", run.name, best(run))).collect();
        format!("test accuracy: {}", all.join(", "))
    }
}

fn run(stage: &Stage, node: &str, name: &'static str) -> Result<Run> {
    let config: Config = json(&stage.input(node, "config.json"))?;
    let metrics: Metrics = json(&stage.input(node, "metrics.json"))?;
    let path = stage.input(node, "history.jsonl");
    let text = std::fs::read_to_string(&path).map_err(|e| Failure::io("read", &path, &e))?;
    let rows = text
        .lines()
        .enumerate()
        .map(|(i, line)| serde_json::from_str(line).map_err(|e| Failure::artifact(format_args!("line {} is no epoch: {e}", i + 1), &path)));
    let history = rows.collect::<Result<Vec<Epoch>>>()?;
    if history.is_empty() {
        return Err(Failure::artifact("there is no epoch", &path));
    }
    Ok(Run {
        node: node.to_owned(),
        name,
        device: config.device,
        parameters: config.parameters,
        options: config.options.into_iter().filter(|(_, value)| !value.is_null()).collect(),
        scores: [("train", metrics.train), ("valid", metrics.valid), ("test", metrics.test)].into(),
        epochs: metrics.epochs,
        epoch_kept: metrics.epoch_kept,
        stopped_early: metrics.stopped_early,
        quality: quality::read(&stage.input(node, "predictions.parquet"))?,
        history,
    })
}

fn json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes =
        std::fs::read(path).map_err(|e| Failure::artifact(format_args!("cannot read an artifact of an earlier stage: {e}"), path))?;
    serde_json::from_slice(&bytes).map_err(|e| Failure::artifact(format_args!("not the expected JSON: {e}"), path))
}
