//! `cargo xtask tune`: tries options of a training run, and scores each trial by cross-validation on
//! train and valid.
//!
//! Successive halving (Jamieson and Talwalkar, "Non-stochastic Best Arm Identification and
//! Hyperparameter Optimization", 2016): every trial is scored on one fold; one trial in `eta` goes on
//! and is scored on `eta` times as many folds, and so on. The options as they are configured stay to
//! the end, so that the best trial can be compared with them on every fold.
//!
//! A trial is a training run of its own, `train.NAME@…`, on the split of a fold, whose test part is
//! empty. Its result goes to the store, so that a tuning which was killed goes on where it was.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;

use cache::{NodeName, Store};
use failure::{Failure, Result};
use schema::{Metrics, Spread, TrialRecord, TuningRecord};
use serde_json::json;
use stage::Options;
use stage::options::suggest;

use crate::config::{Config, Trial, Tuning};
use crate::context::Context;
use crate::records::{self, Kind};
use crate::{evaluate, interrupt};

/// What to tune.
#[derive(clap::Args)]
pub struct TuneArguments {
    /// The name in [tune.NAME] or of its run, train.NAME [default: the only one]
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// cpu, cuda, cuda:K, or auto: a GPU if there is one, else the CPU
    #[arg(long, default_value = "cpu", value_name = "DEVICE", value_parser = crate::device::parse)]
    pub device: String,
}

/// The folds that trials are scored on, in order.
struct Fold {
    seed: u32,
    number: u32,
}

/// Runs the command. `sets` are the user's `--set`.
pub fn run(
    root: &Path,
    store: &Store,
    profile: &str,
    sets: &[String],
    json: bool,
    arguments: &TuneArguments,
) -> Result<()> {
    let config = Config::read(root, profile, sets)?;
    let tuning = find(&config, arguments.name.as_deref())?;
    interrupt::watch();
    let run = NodeName::try_from(tuning.run.as_str())
        .map_err(|e| Failure::failed(e, &tuning.run, "this is a bug; please report it"))?;
    let command = Tune { root, store, profile, sets, json, device: &arguments.device, tuning };
    let configured =
        config.graph.find(&tuning.run).map(|node| config.options(node)).unwrap_or_default();
    let trials = tuning.draw(&configured, |trial| command.is_valid(trial));
    if trials.len() < tuning.trials {
        eprintln!("the ranges have only {} trials that differ", trials.len());
    }
    let scores = command.race(&trials);
    // Whatever happened: the results of a fold must not stay the current ones.
    eprintln!("back to the configured split");
    let restored =
        evaluate::make(Context { root, config: &config, store, json }, &[run], &arguments.device);
    if restored.is_err() {
        eprintln!(
            "warning: the current results are those of a fold; cargo xtask pipeline makes the configured ones"
        );
    }
    let record = command.written(&config, &configured, &trials, scores?)?;
    show(&record, json);
    let path = Kind::Tuned.file(store.root(), &tuning.run);
    eprintln!("recorded in {}; the next `pipeline` shows it in the report", path.display());
    restored
}

/// The tuning that the user means.
fn find<'c>(config: &'c Config, name: Option<&str>) -> Result<&'c Tuning> {
    let all = &config.tunings;
    let names: Vec<&str> =
        all.iter().filter_map(|of| of.run.split_once('.').map(|(_, name)| name)).collect();
    let Some(name) = name else {
        return match &all[..] {
            [one] => Ok(one),
            [] => Err(Failure::usage(
                "there is nothing to tune",
                "the configuration",
                "describe it in [tune.NAME] and [tune.NAME.ranges]; see docs/tune.md",
            )),
            _ => Err(Failure::usage(
                "there is more than one tuning",
                "command line",
                format_args!("name one of {}", names.join(", ")),
            )),
        };
    };
    let short = name.strip_prefix("train.").unwrap_or(name);
    all.iter().find(|of| of.run.split_once('.').is_some_and(|(_, name)| name == short)).ok_or_else(
        || {
            let meant = suggest(short, names.iter().copied());
            Failure::usage(
                format_args!("there is no [tune.{short}]{meant}"),
                "the configuration",
                "describe it there; see docs/tune.md",
            )
        },
    )
}

/// Accuracy and loss on valid.
#[derive(Clone, Copy)]
struct Scored {
    accuracy: f64,
    loss: f64,
}

/// The scores of each trial, on the first folds; `None` for one whose training failed.
type Scores = Vec<Option<Vec<Scored>>>;

struct Tune<'t> {
    root: &'t Path,
    store: &'t Store,
    profile: &'t str,
    sets: &'t [String],
    json: bool,
    device: &'t str,
    tuning: &'t Tuning,
}

impl Tune<'_> {
    /// Whether a trial's options do not contradict each other.
    fn is_valid(&self, trial: &Trial) -> bool {
        let Self { root, profile, sets, tuning, .. } = *self;
        Config::with_trials(root, profile, sets, &tuning.run, &[trial]).is_ok()
    }

    /// Scores the trials, fewer of them from rung to rung.
    fn race(&self, trials: &[Trial]) -> Result<Scores> {
        let Tuning { folds, seeds, eta, .. } = self.tuning;
        let folds: Vec<Fold> = seeds
            .iter()
            .flat_map(|&seed| (1..=*folds).map(move |number| Fold { seed, number }))
            .collect();
        let mut scores: Scores = vec![Some(Vec::new()); trials.len()];
        let mut left: Vec<usize> = (0..trials.len()).collect();
        let mut used = BTreeSet::new();
        let (mut keep, mut from, mut until) = (trials.len(), 0, 1);
        let done = loop {
            let of = if from + 1 == until {
                format!("fold {until}")
            } else {
                format!("folds {} to {until}", from + 1)
            };
            let plural = if left.len() == 1 { "" } else { "s" };
            eprintln!("{} trial{plural} on {of} of {}", left.len(), folds.len());
            let rung = folds.get(from..until).unwrap_or_default();
            if let Err(failure) = self.rung(trials, &mut left, rung, &mut scores, &mut used) {
                break Err(failure);
            }
            if until == folds.len() {
                break Ok(scores);
            }
            keep = keep.div_ceil(*eta);
            left = survivors(&left, &scores, keep);
            (from, until) = (until, (until * eta).min(folds.len()));
        };
        // The results of trials are on folds, so they must not stay the current ones.
        let lock = self.store.lock(|| eprintln!("waiting for another run"))?;
        for name in &used {
            self.store.put_away(name)?;
        }
        drop(lock);
        done
    }

    /// Scores some trials on some folds. Those whose training fails are not among those that are
    /// left.
    fn rung(
        &self,
        trials: &[Trial],
        left: &mut Vec<usize>,
        folds: &[Fold],
        scores: &mut Scores,
        used: &mut BTreeSet<NodeName>,
    ) -> Result<()> {
        let Self { root, store, profile, sets, json, device, tuning } = *self;
        for Fold { seed, number } in folds {
            let chosen: Vec<&Trial> = left.iter().filter_map(|&trial| trials.get(trial)).collect();
            let mut with = sets.to_vec();
            with.push(format!("split.cv.folds={}", tuning.folds));
            with.push(format!("split.cv.fold={number}"));
            with.push(format!("split.cv.seed={seed}"));
            let config = &Config::with_trials(root, profile, &with, &tuning.run, &chosen)?;
            let context = Context { root, config, store, json };
            let names = &config.trials;
            used.extend(names.iter().filter(|name| ***name != *tuning.run).cloned());
            let all = evaluate::make(context, names, device);
            for (name, &trial) in names.iter().zip(&*left) {
                // After a failure no other trial has been started: each is tried alone.
                let made = match &all {
                    Ok(()) => Ok(()),
                    Err(_) => evaluate::make(context, std::slice::from_ref(name), device),
                };
                let Some(of) = scores.get_mut(trial) else { continue };
                if let Err(failure) = made {
                    // If even the configured options fail, it is not for the trial's options.
                    if trial == 0 {
                        return Err(failure);
                    }
                    eprintln!("warning: `{name}` is out: {}", failure.what);
                    *of = None;
                    continue;
                }
                let metrics: Metrics =
                    schema::read_json(&store.current(name).join("metrics.json"))?;
                let valid = metrics.result.valid;
                if let Some(of) = of {
                    of.push(Scored { accuracy: valid.accuracy, loss: valid.loss });
                }
            }
            left.retain(|&trial| scores.get(trial).is_some_and(Option::is_some));
        }
        Ok(())
    }

    /// Writes the record of the tuning.
    fn written(
        &self,
        config: &Config,
        configured: &Options,
        trials: &[Trial],
        scores: Scores,
    ) -> Result<TuningRecord> {
        let Tuning { run, folds, seeds, seed, eta, ranges, .. } = self.tuning;
        let count = |trial: usize| scores.get(trial).and_then(Option::as_ref).map_or(0, Vec::len);
        let most = (0..scores.len()).map(count).max().unwrap_or(0);
        let finalists: Vec<usize> =
            (0..scores.len()).filter(|&trial| count(trial) == most).collect();
        let best = ranked(&finalists, &scores).first().copied().unwrap_or(0);
        let trials = trials
            .iter()
            .zip(scores)
            .map(|(trial, scores)| TrialRecord {
                options: ranges
                    .keys()
                    .filter_map(|option| {
                        let value = trial.get(option).or_else(|| configured.get(option))?;
                        Some((option.clone(), value.clone()))
                    })
                    .collect(),
                accuracies: scores.iter().flatten().map(|of| of.accuracy).collect(),
                losses: scores.iter().flatten().map(|of| of.loss).collect(),
                failed: scores.is_none(),
            })
            .collect();
        let record = TuningRecord {
            key: records::key_of_tuning(self.root, config, self.store, run)?,
            run: run.clone(),
            folds: *folds,
            seeds: seeds.clone(),
            seed: *seed,
            eta: *eta,
            ranges: ranges.clone(),
            trials,
            best,
        };
        records::write(&Kind::Tuned.file(self.store.root(), run), &record)?;
        Ok(record)
    }
}

/// The best trials, in their order; the first trial, which has the configured options, is always
/// among them, beyond the number to keep if it has to be.
fn survivors(left: &[usize], scores: &Scores, keep: usize) -> Vec<usize> {
    let mut kept: Vec<usize> = ranked(left, scores).into_iter().take(keep).collect();
    if left.contains(&0) && !kept.contains(&0) {
        kept.push(0);
    }
    kept.sort_unstable();
    kept
}

/// The trials, the one with the highest mean accuracy first; of equally accurate ones, that with the
/// lowest loss, then the earliest.
fn ranked(trials: &[usize], scores: &Scores) -> Vec<usize> {
    let mean = |trial: usize, of: fn(&Scored) -> f64| {
        let scores = scores.get(trial).and_then(Option::as_deref).unwrap_or_default();
        scores.iter().map(of).sum::<f64>() / scores.len().max(1) as f64
    };
    let mut ranked = trials.to_vec();
    ranked.sort_by(|&a, &b| {
        let accuracy = |trial| mean(trial, |of| of.accuracy);
        let loss = |trial| mean(trial, |of| of.loss);
        accuracy(b).total_cmp(&accuracy(a)).then(loss(a).total_cmp(&loss(b)))
    });
    ranked
}

/// Prints the trials that were scored on every fold, the best first, and the best one's options.
fn show(record: &TuningRecord, json: bool) {
    // Whoever closed stdout does not want the lines.
    let mut out = std::io::stdout().lock();
    if json {
        for (number, trial) in record.trials.iter().enumerate() {
            let line = json!({
                "trial": number, "best": number == record.best, "options": trial.options,
                "folds": trial.accuracies.len(), "failed": trial.failed, "accuracy": (!trial.failed).then(|| trial.mean()), "loss": (!trial.failed).then(|| trial.loss()),
            });
            let _ = writeln!(out, "{line}");
        }
        return;
    }
    let Some(best) = record.trials.get(record.best) else { return };
    let folds = best.accuracies.len();
    let spread = |trial: &TrialRecord| match trial.spread() {
        Some(Spread { mean, deviation }) => format!("{mean:.4} ± {deviation:.4}"),
        None => format!("{:.4}", trial.mean()),
    };
    let _ = writeln!(
        out,
        "the best of {} trials: accuracy {} on {folds} folds, loss {:.4}",
        record.trials.len(),
        spread(best),
        best.loss()
    );
    if let Some(first) = record.trials.first() {
        let of = |trial: &TrialRecord| trial.accuracies.clone();
        let differences: Vec<f64> = of(best).iter().zip(of(first)).map(|(a, b)| a - b).collect();
        // Scored rows divided by training rows.
        let ratio = 1.0 / f64::from(record.folds.saturating_sub(1).max(1));
        let difference = comparison::paired(&differences, ratio).filter(|_| record.best > 0);
        let difference = difference.map_or(String::new(), |(mean, [low, high])| {
            format!("; the best is {mean:+.4} better (95 % interval {low:+.4} to {high:+.4}, too optimistic for a chosen trial)")
        });
        let _ = writeln!(
            out,
            "the configured options: accuracy {}, loss {:.4}{difference}",
            spread(first),
            first.loss()
        );
    }
    if record.best == 0 {
        let _ = writeln!(out, "no trial is better than the configured options");
        return;
    }
    let _ = writeln!(out, "\n[{}]", record.run);
    for (option, value) in &best.options {
        let _ = match value {
            serde_json::Value::Null => writeln!(out, "# {option} is not set"),
            value => writeln!(out, "{option} = {value}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_go_on_and_so_does_the_configured_trial() {
        let of = [(0.5, 1.0), (0.9, 0.4), (0.9, 0.3), (0.7, 0.1), (0.9, 0.4)];
        let scores: Scores =
            of.iter().map(|&(accuracy, loss)| Some(vec![Scored { accuracy, loss }])).collect();
        let all: Vec<usize> = (0..5).collect();
        assert_eq!(ranked(&all, &scores), [2, 1, 4, 3, 0]);
        assert_eq!(survivors(&all, &scores, 2), [0, 1, 2]);
        assert_eq!(survivors(&[1, 3], &scores, 1), [1]);
    }
}
