//! The record of evaluations over several splits, which `cargo xtask evaluate` writes and the report
//! shows.

use serde::{Deserialize, Serialize};

use crate::Spread;

/// How good a run is over several splits of the data.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EvaluationRecord {
    /// The run's recipe key with a split that is the same for all evaluations.
    pub key: String,
    /// In the order of the last command that made each.
    pub evaluations: Vec<Evaluation>,
}

/// A run on several splits.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Evaluation {
    /// The run.
    pub run: String,
    /// `random`, or `whole stories` for splits that keep the headlines of a story in one part.
    pub split: String,
    /// The share of train that it learned from.
    pub share: f64,
    /// The seeds of the splits.
    pub seeds: Vec<u32>,
    /// Rows of train, of the last split.
    pub train_rows: usize,
    /// The accuracy on valid for each seed.
    pub valid: Vec<f64>,
    /// The accuracy on test; empty if the data has no test part.
    pub test: Vec<f64>,
    /// Scored rows divided by training rows.
    pub ratio: f64,
}

impl Evaluation {
    /// The part that counts, and its accuracies: test, if there is one.
    pub fn scored(&self) -> (&'static str, &[f64]) {
        if self.test.is_empty() { ("valid", &self.valid) } else { ("test", &self.test) }
    }

    /// The mean of these accuracies.
    pub fn mean(&self) -> f64 {
        let (_, values) = self.scored();
        values.iter().sum::<f64>() / values.len().max(1) as f64
    }

    /// Their spread; `None` for fewer than two.
    pub fn spread(&self) -> Option<Spread> {
        Spread::of(self.scored().1)
    }

    /// Whether it is of the same run, kind of split and share as another.
    pub fn is_like(&self, other: &Self) -> bool {
        self.run == other.run && self.split == other.split && self.share == other.share
    }
}
