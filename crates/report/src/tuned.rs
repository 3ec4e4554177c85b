//! The tunings: every trial of a run's options, and how good it was.

use std::collections::BTreeMap;
use std::path::PathBuf;

use failure::{Failure, Result};
use schema::{Range, TrialRecord, TuningRecord};
use serde::Serialize;

/// What to do about a record that cannot be used.
const REMEDY: &str = "remove the file, or make it again: cargo xtask tune NAME";

/// A tuning.
#[derive(Serialize)]
pub struct Tuned {
    /// The run.
    pub run: String,
    /// How many folds the last rung used.
    folds: usize,
    /// How many trials there were.
    trials: usize,
    eta: usize,
    /// The options that were varied.
    options: Vec<String>,
    #[serde(skip)]
    pub ranges: BTreeMap<String, Range>,
    /// The trials: those on the most folds first, and of these the most accurate.
    pub rows: Vec<TunedTrial>,
    /// How much more accurate the best trial is than the configured options, with a 95 % interval.
    difference: Option<(f64, [f64; 2])>,
}

/// A trial.
#[derive(Serialize)]
pub struct TunedTrial {
    /// The values of the options, in their order.
    pub values: Vec<Option<serde_json::Value>>,
    /// How many folds it was scored on.
    pub folds: usize,
    /// Mean accuracy on them.
    pub accuracy: f64,
    /// Its sample standard deviation; `None` for one fold.
    deviation: Option<f64>,
    /// Mean loss, in nats.
    loss: f64,
    /// Whether it is the best one.
    pub is_best: bool,
    /// Whether its options are those that the configuration had.
    is_configured: bool,
}

/// Reads the records at these paths.
pub fn read(paths: &[PathBuf]) -> Result<Vec<Tuned>> {
    let mut all: Vec<Tuned> = Vec::new();
    for path in paths {
        let bytes = std::fs::read(path).map_err(|e| Failure::io("read", path, &e))?;
        let record: TuningRecord = serde_json::from_slice(&bytes).map_err(|e| {
            Failure::input(
                format_args!("this is not the record of a tuning: {e}"),
                path.display(),
                REMEDY,
            )
        })?;
        let wrong = |what: &str| Err(Failure::input(what, path.display(), REMEDY));
        if record.trials.get(record.best).is_none_or(|best| best.accuracies.is_empty()) {
            return wrong("the record's best trial is not there");
        }
        let accuracies = || record.trials.iter().flat_map(|trial| &trial.accuracies);
        if accuracies().any(|accuracy| !(0.0..=1.0).contains(accuracy)) {
            return wrong("the record has an accuracy that is not between 0 and 1");
        }
        if all.iter().any(|other| other.run == record.run) {
            return wrong("another record is of the same run");
        }
        all.push(Tuned::of(record));
    }
    Ok(all)
}

impl Tuned {
    fn of(record: TuningRecord) -> Self {
        let TuningRecord { run, folds, eta, ranges, trials, best, .. } = record;
        let options: Vec<String> = ranges.keys().cloned().collect();
        let difference = trials.first().zip(trials.get(best)).and_then(|(first, best_trial)| {
            let pairs = best_trial.accuracies.iter().zip(&first.accuracies);
            let differences: Vec<f64> = pairs.map(|(a, b)| a - b).collect();
            let ratio = 1.0 / f64::from(folds.saturating_sub(1).max(1));
            comparison::paired(&differences, ratio).filter(|_| best > 0)
        });
        let row = |(number, trial): (usize, &TrialRecord)| TunedTrial {
            values: options
                .iter()
                .map(|option| trial.options.get(option).filter(|value| !value.is_null()).cloned())
                .collect(),
            folds: trial.accuracies.len(),
            accuracy: trial.mean(),
            deviation: trial.spread().map(|spread| spread.deviation),
            loss: trial.loss(),
            is_best: number == best,
            is_configured: number == 0,
        };
        let mut rows: Vec<TunedTrial> = trials.iter().enumerate().map(row).collect();
        rows.sort_by(|a, b| {
            let by_folds = b.folds.cmp(&a.folds);
            by_folds.then(b.is_best.cmp(&a.is_best)).then(b.accuracy.total_cmp(&a.accuracy))
        });
        Self {
            run,
            folds: rows.first().map_or(0, |row| row.folds),
            trials: rows.len(),
            eta,
            options,
            ranges,
            rows,
            difference,
        }
    }
}
