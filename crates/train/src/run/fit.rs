//! The training loop.

use std::path::Path;
use std::time::{Duration, Instant};

use failure::{Failure, Result};
use nets::Net;
use schema::{HistoryRow, Outcome, TimingRow};
use stage::{Event, Progress, Unit};

use crate::data::Data;
use crate::engine::Engine;
use crate::epoch::{EpochData, EpochError, EpochSettings};
use crate::optimizer::Optimizer;
use crate::random::Random;
use crate::run::checkpoint::{self, RunState};
use crate::run::jsonl::Jsonl;
use crate::run::live::LiveCurves;
use crate::run::order;
use crate::run::schedule::Schedule;
use crate::run::stopping::Stopping;
use crate::run::workers::{self, WorkerError, Workers};
use crate::score::score;

/// A run that takes longer prints where it can be watched.
const WATCHABLE: Duration = Duration::from_secs(1);

/// How a net is trained.
#[derive(Clone, Copy)]
pub struct Plan<'p> {
    /// The rows to train on; `None` for all.
    pub only: Option<&'p [u32]>,
    /// Who shares an epoch.
    pub workers: Workers<'p>,
    /// The most epochs that it may take.
    pub epochs: u32,
    /// What trains an epoch.
    pub engine: Engine,
    /// How each epoch uses its rows.
    pub settings: EpochSettings,
    /// Whether to reshuffle the rows every epoch.
    pub shuffle: bool,
    /// Whether shuffled rows of similar length share a batch.
    pub by_length: bool,
    /// The learning rate.
    pub schedule: Schedule,
    /// Early stopping's patience, in epochs.
    pub patience: Option<u32>,
    /// Whether to keep the epoch with the lowest validation loss instead of the last.
    pub keep_best: bool,
    /// How many checkpoints to keep; `None` keeps all.
    pub checkpoints: Option<u32>,
}

impl Plan<'_> {
    /// How many rows an epoch has.
    pub fn rows(&self, data: &Data) -> usize {
        self.only.map_or(data.train.all, <[u32]>::len)
    }
}

/// How a net was trained.
#[derive(Clone, Copy)]
pub struct Fitted {
    pub outcome: Outcome,
    /// The epoch whose weights it has; `None` without any epoch.
    pub kept: Option<HistoryRow>,
}

/// Which run it is, and where its files go.
pub struct RunContext<'r> {
    pub node: &'r str,
    pub seed: u64,
    /// The run's folder, which must exist.
    pub folder: &'r Path,
    /// Where to report progress.
    pub progress: &'r Progress,
    /// Whether to resume from what is in the folder.
    pub resume: bool,
    /// Whether several processes share the run.
    pub shared: bool,
}

/// Trains `net`, and leaves the weights to keep in it. History, timings, curves and checkpoints are
/// written to the run's folder after each epoch.
pub fn fit(
    net: &mut Net,
    optimizer: &mut Optimizer,
    data: &Data,
    plan: &Plan<'_>,
    mut random: Random,
    run: &RunContext<'_>,
) -> Result<Fitted> {
    let RunContext { node, seed, folder, progress, resume, .. } = *run;
    let checkpoints = folder.join("checkpoints");
    if !resume && checkpoints.exists() {
        // They belong to another run if the stage was started by hand in a folder that was used
        // before.
        std::fs::remove_dir_all(&checkpoints)
            .map_err(|e| Failure::io("remove", &checkpoints, &e))?;
    }
    std::fs::create_dir_all(&checkpoints)
        .map_err(|e| Failure::io("create folder", &checkpoints, &e))?;
    let mut stopping = Stopping::new(plan.patience);
    let mut best = (0, f64::MAX);
    let mut outcome = Outcome { epochs: 0, epoch_kept: 0, stopped_early: false };
    let mut rows: Vec<HistoryRow> =
        if resume { Jsonl::read(&folder.join("history.jsonl")) } else { Vec::new() };
    if let Some(state) = checkpoint::newest(folder, (node, seed), rows.len(), net, optimizer)
        && let Some(generator) = Random::restore(&state.random)
    {
        random = generator;
        // Processes that share a run do this for every epoch.
        if !run.shared {
            progress.send(&Event::Note { text: format!("resuming after epoch {}", state.epoch) });
        }
        outcome =
            Outcome { epochs: state.epoch, epoch_kept: 0, stopped_early: state.stopping.is_over() };
        (stopping, best) = (state.stopping, state.best);
    }
    rows.truncate(outcome.epochs as usize);
    let mut history = Jsonl::open(&folder.join("history.jsonl"), outcome.epochs)?;
    let mut timings = Jsonl::open(&folder.join("timings.jsonl"), outcome.epochs)?;
    let mut live = LiveCurves::open(folder, rows)?;
    let mut order: Vec<u32> = Vec::new();

    progress.begin("training", Some(u64::from(plan.epochs)), Unit::Epochs);
    let mut began = Some(Instant::now());
    let epochs_left = if outcome.stopped_early { 0 } else { plan.epochs };
    for epoch in outcome.epochs + 1..=epochs_left {
        let lr = plan.schedule.rate(epoch);
        // Shuffled from the same start each time, so that a checkpoint need not hold the order.
        order.clear();
        match plan.only {
            Some(rows) => order.extend_from_slice(rows),
            None => order.extend(data.all_rows()),
        }
        let start = Instant::now();
        let done = if plan.workers.count > 1 {
            workers::train_epoch(net, optimizer, data, plan, (epoch, &order))
        } else {
            if plan.shuffle {
                random.shuffle(&mut order);
                if plan.by_length {
                    let length = |row| data.train.length(row);
                    order::by_length(&mut order, plan.settings.batch_size, length, &mut random);
                }
            }
            let rows = EpochData { part: &data.train, order: &order, lr };
            let engine = plan.engine;
            engine
                .train_epoch(plan.settings, net, optimizer, &mut random, rows)
                .map_err(WorkerError::Epoch)
        };
        let seconds = start.elapsed().as_secs_f64();
        let row = done.and_then(|()| evaluate(net, data, plan, epoch));
        let row = row.map_err(|e| e.explain(node, epoch))?;
        history.push(&row)?;
        // A checkpoint counts only if the history reaches as far, so it must not outlive the
        // history.
        history.sync()?;
        timings.push(&TimingRow { epoch, seconds })?;
        live.push(&row)?;
        if row.loss_valid < best.1 {
            best = (epoch, row.loss_valid);
        }
        outcome.stopped_early = stopping.stop_after(row.loss_valid);
        outcome.epochs = epoch;
        let state = RunState {
            node: node.to_owned(),
            seed,
            epoch,
            lr,
            optimizer: optimizer.rule,
            steps: optimizer.steps,
            stopping: stopping.clone(),
            best,
            random: random.state(),
        };
        checkpoint::write(folder, net, optimizer, &state)?;
        prune(folder, plan, epoch, best.0)?;
        progress.at(u64::from(epoch), || {
            format!(
                "loss {:.4} accuracy {:.4} (valid {:.4} {:.4})",
                row.loss_train, row.accuracy_train, row.loss_valid, row.accuracy_valid
            )
        });
        if outcome.stopped_early {
            break;
        }
        // Nobody watches the curves of a run that is over in a moment.
        if began.take_if(|began| began.elapsed() > WATCHABLE).is_some() {
            let folder = folder.display();
            progress.send(&Event::Note {
                text: format!(
                    "the curves so far are in {folder}/curves.svg; TensorBoard can open the folder"
                ),
            });
        }
    }
    // Again, for a run that was killed just before it pruned.
    prune(folder, plan, outcome.epochs, best.0)?;
    live.draw()?;
    outcome.epoch_kept = if plan.keep_best { best.0 } else { outcome.epochs };
    if outcome.epoch_kept != outcome.epochs {
        checkpoint::read(folder, (node, seed), outcome.epoch_kept, net, optimizer)?;
    }
    Ok(Fitted { outcome, kept: live.row(outcome.epoch_kept) })
}

/// Loss and accuracy on train and valid after an epoch.
fn evaluate(
    net: &Net,
    data: &Data,
    plan: &Plan<'_>,
    epoch: u32,
) -> std::result::Result<HistoryRow, WorkerError> {
    let (train, valid) = match plan.workers.left {
        Some(left) => (left.scores)(epoch)?,
        None => (score(net, &data.train)?, score(net, &data.valid)?),
    };
    if !(train.loss.is_finite() && valid.loss.is_finite()) {
        let batches = plan.rows(data).div_ceil(plan.settings.batch_size);
        return Err(EpochError::Diverged(batches).into());
    }
    Ok(HistoryRow {
        epoch,
        lr: plan.schedule.rate(epoch),
        loss_train: train.loss,
        accuracy_train: train.accuracy,
        loss_valid: valid.loss,
        accuracy_valid: valid.accuracy,
    })
}

fn prune(folder: &Path, plan: &Plan<'_>, epoch: u32, best: u32) -> Result<()> {
    plan.checkpoints.map_or(Ok(()), |keep| {
        checkpoint::prune(folder, epoch, keep, plan.keep_best.then_some(best))
    })
}
