//! The record of a tuning, which `cargo xtask tune` writes and the report shows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{OptionValues, Spread};

/// The values that an option may take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Range {
    /// One of these.
    Choices(Vec<serde_json::Value>),
    /// A number.
    Between {
        /// The least.
        min: f64,
        /// The most.
        max: f64,
        /// Whether its logarithm is drawn evenly.
        log: bool,
        /// Whether it is a whole number.
        whole: bool,
    },
}

/// All trials of a run's options.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TuningRecord {
    /// A digest of the recipes of all that the run reads.
    pub key: String,
    /// The run.
    pub run: String,
    /// Folds of train and valid.
    pub folds: u32,
    /// The seeds with which they were cut into folds.
    pub seeds: Vec<u32>,
    /// Seed of the trials.
    pub seed: u64,
    /// A rung kept one in so many trials.
    pub eta: usize,
    /// The options that were varied.
    pub ranges: BTreeMap<String, Range>,
    /// The configured options first.
    pub trials: Vec<TrialRecord>,
    /// The number of the best trial.
    pub best: usize,
}

/// A trial: some options, and how good they were.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrialRecord {
    /// The values of the varied options.
    pub options: OptionValues,
    /// The accuracy on each fold that the trial was scored on.
    pub accuracies: Vec<f64>,
    /// The mean cross-entropy on each of them, in nats.
    pub losses: Vec<f64>,
    /// Whether its training failed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub failed: bool,
}

impl TrialRecord {
    /// The mean accuracy.
    pub fn mean(&self) -> f64 {
        mean(&self.accuracies)
    }

    /// The mean loss.
    pub fn loss(&self) -> f64 {
        mean(&self.losses)
    }

    /// The spread of the accuracies; `None` for fewer than two.
    pub fn spread(&self) -> Option<Spread> {
        Spread::of(&self.accuracies)
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}
