//! The training runs, each alone and all compared, and the sweep over batch sizes.

use std::collections::BTreeMap;

use failure::{Failure, Result};
use schema::{
    CheckpointSummary, HistoryRow, Labels, Metrics, OptionValues, Pass, RunConfig, Score,
    SeedMetrics, Spread, Strongest, SweepConfig, SweepRow,
};
use serde::Serialize;
use stage::{Machine, Stage};

use crate::parts::{AllParts, json, json_lines, most_frequent};
use crate::quality::{self, Quality};
use crate::sequences::takes_sequences;

/// A training run.
#[derive(Serialize)]
pub struct RunFacts {
    /// The node's name, such as `train.slp`.
    pub node: String,
    device: String,
    features: usize,
    parameters: usize,
    started_from_given_weights: bool,
    /// The options that are set.
    pub options: OptionValues,
    /// Loss and accuracy by part.
    pub scores: BTreeMap<&'static str, Score>,
    /// 95 % intervals of the accuracy on valid and test.
    pub intervals: BTreeMap<&'static str, (f64, f64)>,
    epochs: u32,
    epoch_kept: u32,
    stopped_early: bool,
    checkpoints: CheckpointSummary,
    seeds: Vec<SeedMetrics>,
    /// Mean and standard deviation of the seeds' accuracy, by part; empty for fewer than two seeds.
    spread: BTreeMap<String, Spread>,
    /// The quality of the predictions for valid and test.
    pub quality: Vec<Quality>,
    /// The scores after each epoch; empty if there are no epochs.
    pub history: Vec<HistoryRow>,
    /// The passes of a linear run's descent.
    pub passes: Vec<Pass>,
    /// What speaks most for each class in a linear run.
    pub strongest: Strongest,
}

impl RunFacts {
    /// Reads the run of `node` on the `parts`.
    pub fn read(stage: &Stage, node: &str, labels: &Labels, parts: &AllParts) -> Result<Self> {
        let config: RunConfig = json(&stage.input(node, "config.json")?)?;
        let metrics: Metrics = json(&stage.input(node, "metrics.json")?)?;
        let options = set(config.options);
        let net = options.get("net").and_then(serde_json::Value::as_str);
        let on_sequences = takes_sequences(net);
        let parts = parts.of(on_sequences);
        let has_epochs = on_sequences || matches!(net, Some("slp" | "mlp" | "bow" | "dan"));
        let history: Vec<HistoryRow> = if has_epochs {
            let path = stage.input(node, "history.jsonl")?;
            let history = json_lines(&path)?;
            if history.is_empty() {
                return Err(Failure::artifact("the history has no epochs", &path));
            }
            history
        } else {
            Vec::new()
        };
        let (passes, strongest) = if net == Some("linear") {
            (
                json_lines(&stage.input(node, "passes.jsonl")?)?,
                json(&stage.input(node, "strongest.json")?)?,
            )
        } else {
            (Vec::new(), Strongest::new())
        };
        let result = metrics.result;
        let scores: BTreeMap<&'static str, Score> = result.scores().collect();
        let interval = |(part, score): (&&'static str, &Score)| {
            let n = parts.iter().find(|p| p.name == *part).map_or(0, |p| p.rows);
            (*part, comparison::wilson(score.accuracy, n))
        };
        Ok(Self {
            node: node.to_owned(),
            device: config.device,
            features: config.features,
            parameters: config.parameters,
            started_from_given_weights: config.started_from_given_weights,
            options,
            // An interval describes sampling error, so there is none for the rows that were fitted.
            intervals: scores.iter().filter(|(part, _)| **part != "train").map(interval).collect(),
            scores,
            epochs: result.outcome.epochs,
            epoch_kept: result.outcome.epoch_kept,
            stopped_early: result.outcome.stopped_early,
            checkpoints: metrics.checkpoints,
            spread: metrics.spread,
            seeds: metrics.seeds,
            quality: quality::read(
                &stage.input(node, "predictions.parquet")?,
                labels,
                most_frequent(parts),
                parts,
            )?,
            history,
            passes,
            strongest,
        })
    }

    /// The kind of net, such as `slp`.
    pub fn net(&self) -> Option<&str> {
        self.options.get("net")?.as_str()
    }

    /// Mean and standard deviation of the accuracy on a part over the seeds, and their number.
    pub fn over_seeds(&self, part: &str) -> Option<(Spread, usize)> {
        self.spread.get(part).map(|spread| (*spread, self.seeds.len()))
    }

    /// The accuracy on a part.
    pub fn accuracy(&self, part: &str) -> f64 {
        self.scores.get(part).map_or(0.0, |s| s.accuracy)
    }

    /// The quality of the predictions for a part.
    pub fn quality(&self, part: &str) -> Option<&Quality> {
        self.quality.iter().find(|quality| quality.part == part)
    }

    /// The accuracy on valid, by which runs are chosen.
    pub fn valid(&self) -> f64 {
        self.accuracy("valid")
    }
}

/// The comparison of all runs.
#[derive(Serialize)]
pub struct Comparison {
    /// The options in which they differ.
    options: Vec<String>,
    /// The runs, the best on valid first.
    pub rows: Vec<ComparedRun>,
}

/// A run in the comparison.
#[derive(Serialize)]
pub struct ComparedRun {
    /// The node's name, such as `train.slp`.
    pub node: String,
    /// The values of the options in which the runs differ; `None` for an option that is not set or
    /// that the net does not have.
    options: Vec<Option<serde_json::Value>>,
    epochs: u32,
    parameters: usize,
    /// Loss and accuracy by part.
    pub scores: BTreeMap<&'static str, Score>,
    /// 95 % intervals of the accuracy on valid and test.
    pub intervals: BTreeMap<&'static str, (f64, f64)>,
}

impl Comparison {
    /// Compares the runs.
    pub fn of(runs: &[RunFacts]) -> Self {
        let options =
            comparison::differing(&runs.iter().map(|run| &run.options).collect::<Vec<_>>());
        let mut sorted: Vec<&RunFacts> = runs.iter().collect();
        // A stable sort: equally good runs stay in the order of their names.
        sorted.sort_by(|a, b| b.valid().total_cmp(&a.valid()));
        let row = |run: &RunFacts| ComparedRun {
            node: run.node.clone(),
            options: options.iter().map(|name| run.options.get(name).cloned()).collect(),
            epochs: run.epochs,
            parameters: run.parameters,
            scores: run.scores.clone(),
            intervals: run.intervals.clone(),
        };
        Self { rows: sorted.into_iter().map(row).collect(), options }
    }
}

/// The sweep over batch sizes and devices.
#[derive(Serialize)]
pub struct Sweep {
    rows: usize,
    features: usize,
    /// The devices that were timed.
    pub devices: Vec<String>,
    /// Each device that could not be timed, and why.
    unavailable: Vec<(String, String)>,
    options: OptionValues,
    /// The machine on which the times were taken.
    machine: Machine,
    /// A row for each batch size and device.
    pub times: Vec<SweepRow>,
}

impl Sweep {
    /// Reads the result of `train.sweep`.
    pub fn read(stage: &Stage) -> Result<Self> {
        let node = "train.sweep";
        let SweepConfig { rows, features, devices, unavailable, options, .. } =
            json(&stage.input(node, "config.json")?)?;
        let machine = json(&stage.input(node, "machine.json")?)?;
        let times = json_lines(&stage.input(node, "sweep.jsonl")?)?;
        Ok(Self { rows, features, devices, unavailable, options: set(options), machine, times })
    }
}

/// The options that are set.
fn set(options: OptionValues) -> OptionValues {
    options.into_iter().filter(|(_, value)| !value.is_null()).collect()
}
