//! The training loop.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use artifact::progress::Unit;
use artifact::{Event, Failure, Result, Stage};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::checkpoint::{self, Progress};
use crate::data::{Data, Part};
use crate::fused::SgdEpoch;
use crate::net::Net;
use crate::random::Random;
use crate::schedule::Schedule;
use crate::score::score;
use crate::stopping::Stopping;

/// How a net is trained.
pub struct Plan {
    /// Epochs at most.
    pub epochs: u32,
    /// Rows a step.
    pub batch_size: usize,
    /// Reshuffle the rows every epoch.
    pub shuffle: bool,
    /// The learning rate.
    pub schedule: Schedule,
    /// Early stopping's patience, in epochs.
    pub patience: Option<u32>,
    /// Keep the epoch with the lowest validation loss, not the last.
    pub keep_best: bool,
    /// A whole epoch as one op. For the single-layer net alone.
    pub fused: bool,
}

/// A row of `history.jsonl`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Counted from 1.
    pub epoch: u32,
    /// The learning rate of the epoch.
    pub lr: f64,
    /// Mean cross-entropy on the training data after the epoch.
    pub loss_train: f64,
    /// Accuracy on the training data after the epoch.
    pub accuracy_train: f64,
    /// The same on the validation data.
    pub loss_valid: f64,
    /// The same on the validation data.
    pub accuracy_valid: f64,
}

/// A row of `timings.jsonl`.
#[derive(Serialize)]
struct Timing {
    epoch: u32,
    seconds: f64,
}

/// How a run ended.
#[derive(Serialize)]
pub struct Outcome {
    /// Epochs done.
    pub epochs: u32,
    /// The epoch whose weights are kept.
    pub epoch_kept: u32,
    /// Whether early stopping ended it.
    pub stopped_early: bool,
}

/// Trains `net` and leaves the kept weights in it. History, timings and checkpoints go into the
/// run's folder as they come.
pub fn fit(net: &mut Net, data: &Data, plan: &Plan, mut random: Random, stage: &Stage) -> Result<Outcome> {
    let folder = stage.out();
    let checkpoints = folder.join("checkpoints");
    std::fs::create_dir_all(&checkpoints).map_err(|e| Failure::io("create folder", &checkpoints, &e))?;
    let mut stopping = Stopping::new(plan.patience);
    let mut best = (0, f64::MAX);
    let mut outcome = Outcome { epochs: 0, epoch_kept: 0, stopped_early: false };
    if stage.resume
        && let Some(progress) = checkpoint::newest(folder, stage.node, Lines::count(&folder.join("history.jsonl")), net)
        && let Some(generator) = Random::restore(&progress.random)
    {
        random = generator;
        stage.progress.send(&Event::Note { text: format!("going on after epoch {}", progress.epoch) });
        outcome = Outcome { epochs: progress.epoch, epoch_kept: 0, stopped_early: progress.stopping.is_over() };
        (stopping, best) = (progress.stopping, progress.best);
    }
    let mut history = Lines::open(&folder.join("history.jsonl"), outcome.epochs)?;
    let mut timings = Lines::open(&folder.join("timings.jsonl"), outcome.epochs)?;
    let mut order: Vec<u32> = Vec::new();

    stage.progress.begin("training", Some(u64::from(plan.epochs)), Unit::Epochs);
    let epochs_left = if outcome.stopped_early { 0 } else { plan.epochs };
    for epoch in outcome.epochs + 1..=epochs_left {
        let lr = plan.schedule.rate(epoch);
        // Shuffled from the start each time, so that a checkpoint need not hold the order.
        order.clear();
        order.extend(0..u32::try_from(data.train.len()).unwrap_or(u32::MAX));
        if plan.shuffle {
            random.shuffle(&mut order);
        }
        let start = Instant::now();
        train_epoch(net, &data.train, &order, plan, lr).map_err(|e| explain(e, stage.node, epoch))?;
        let seconds = start.elapsed().as_secs_f64();

        let scored = score(net, &data.train).and_then(|train| Ok((train, score(net, &data.valid)?)));
        let (train, valid) = scored.map_err(|e| explain(e.into(), stage.node, epoch))?;
        let row = Row {
            epoch,
            lr,
            loss_train: train.loss,
            accuracy_train: train.accuracy,
            loss_valid: valid.loss,
            accuracy_valid: valid.accuracy,
        };
        if !(row.loss_train.is_finite() && row.loss_valid.is_finite()) {
            return Err(explain(Trouble::Diverged(None), stage.node, epoch));
        }
        history.push(&row)?;
        timings.push(&Timing { epoch, seconds })?;
        if valid.loss < best.1 {
            best = (epoch, valid.loss);
        }
        outcome.stopped_early = stopping.stop_after(valid.loss);
        outcome.epochs = epoch;
        let progress = Progress {
            node: stage.node.to_owned(),
            epoch,
            lr,
            optimizer: "sgd".to_owned(),
            stopping: stopping.clone(),
            best,
            random: random.state(),
        };
        checkpoint::write(folder, net, &progress)?;
        stage.progress.at(u64::from(epoch), || {
            format!("loss {:.4} accuracy {:.4} (valid {:.4} {:.4})", row.loss_train, row.accuracy_train, row.loss_valid, row.accuracy_valid)
        });
        if outcome.stopped_early {
            break;
        }
    }
    outcome.epoch_kept = if plan.keep_best { best.0 } else { outcome.epochs };
    if outcome.epoch_kept != outcome.epochs {
        checkpoint::read(folder, stage.node, outcome.epoch_kept, net)?;
    }
    Ok(outcome)
}

/// Why an epoch failed.
enum Trouble {
    /// The loss of this batch, counted from 1, or of the whole, is no finite number.
    Diverged(Option<usize>),
    Candle(candle_core::Error),
}

impl From<candle_core::Error> for Trouble {
    fn from(error: candle_core::Error) -> Self {
        Self::Candle(error)
    }
}

fn explain(trouble: Trouble, node: &str, epoch: u32) -> Failure {
    match trouble {
        Trouble::Diverged(batch) => {
            let place = batch.map_or_else(|| format!("{node}, epoch {epoch}"), |b| format!("{node}, epoch {epoch}, batch {b}"));
            Failure::failed("the loss is no finite number", place, format_args!("use a smaller learning rate: --set {node}.lr=…"))
        }
        Trouble::Candle(error) => Failure::failed(error, format_args!("{node}, epoch {epoch}"), "this is a bug; please report it"),
    }
}

fn train_epoch(net: &mut Net, part: &Part, order: &[u32], plan: &Plan, lr: f64) -> Result<(), Trouble> {
    if plan.fused {
        let Some(w) = net.weights.get("fc.weight") else { return Err(candle_core::Error::Msg("no fc.weight".into()).into()) };
        #[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
        let op = SgdEpoch::new(order, plan.batch_size, lr as f32);
        w.as_tensor().inplace_op3(&part.x, &part.y, &op)?;
        return op.diverged().map_or(Ok(()), |batch| Err(Trouble::Diverged(Some(batch))));
    }
    // One gather an epoch is cheaper than one a batch; unshuffled rows lie right already.
    let gathered = if plan.shuffle {
        let rows = Tensor::from_slice(order, order.len(), part.x.device())?;
        Some((part.x.index_select(&rows, 0)?, part.y.index_select(&rows, 0)?))
    } else {
        None
    };
    let (x, y) = gathered.as_ref().map_or((&part.x, &part.y), |(x, y)| (x, y));
    for (number, start) in (0..order.len()).step_by(plan.batch_size).enumerate() {
        let n = plan.batch_size.min(order.len() - start);
        let loss = net.step(&x.narrow(0, start, n)?, &y.narrow(0, start, n)?, lr)?;
        if !loss.is_finite() {
            return Err(Trouble::Diverged(Some(number + 1)));
        }
    }
    Ok(())
}

/// A file of JSON lines that is written as they come.
struct Lines {
    path: std::path::PathBuf,
    file: File,
}

impl Lines {
    /// How many whole lines a file has.
    fn count(path: &Path) -> usize {
        std::fs::read_to_string(path).map_or(0, |text| text.matches('\n').count())
    }

    /// Keeps the first `rows` lines of an unfinished run and writes on below them.
    fn open(path: &Path, rows: u32) -> Result<Self> {
        let fail = |e| Failure::io("write", path, &e);
        let kept: String = match std::fs::read_to_string(path) {
            Ok(text) => text.split_inclusive('\n').take(rows as usize).collect(),
            Err(_) => String::new(),
        };
        // By way of another name: a kill in between must not cost the lines that are kept.
        let partial = path.with_extension("partial");
        std::fs::write(&partial, kept).and_then(|()| std::fs::rename(&partial, path)).map_err(fail)?;
        let file = OpenOptions::new().append(true).open(path).map_err(fail)?;
        Ok(Self { path: path.to_owned(), file })
    }

    fn push(&mut self, row: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_string(row).map_err(|e| Failure::failed(e, self.path.display(), "this is a bug"))?;
        line.push('\n');
        self.file.write_all(line.as_bytes()).map_err(|e| Failure::io("write", &self.path, &e))
    }
}
