//! `net = "bow"` and `net = "dan"`: nets on the mean of embeddings.

use std::path::Path;
use std::time::{Duration, Instant};

use classifiers::embedding_bag::{BagDesk, BagModel, BagNet, BagOptions, Epoch, Start};
use failure::{Failure, Result};
use formats::Arrays;
use formats::arrays::{self, Array, Csr};
use kernels::odds::Tally;
use kernels::team;
use predictions::folds;
use predictions::margins::PartRows;
use schema::{HistoryRow, Labels, Outcome};
use serde::{Deserialize, Serialize};
use stage::{Event, Stage, Unit};

use crate::evaluation::{Description, Fitted, HeldOut, finish, write_lines};
use crate::parts::{MOST, Parts};
use crate::words::{self, Words};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    net: String,
    epochs: u32,
    batch_size: usize,
    lr: f64,
    dropout: f64,
    folds: Option<u32>,
    seed: u64,
    #[serde(skip_serializing)]
    checkpoint_seconds: f64,
    /// Of bow.
    #[serde(skip_serializing_if = "Option::is_none")]
    dimension: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tfidf: Option<bool>,
    /// Of dan.
    #[serde(skip_serializing_if = "Option::is_none")]
    hidden: Option<usize>,
}

struct FittedBag<'p> {
    model: &'p BagModel,
    parts: &'p [&'p Csr],
}

impl Fitted for FittedBag<'_> {
    type Desk = BagDesk;
    fn desk(&self) -> BagDesk {
        BagDesk::default()
    }
    fn margins(&self, desk: &mut BagDesk, part: usize, row: usize, to: &mut [f32]) {
        let Some(part) = self.parts.get(part) else { return };
        let (tokens, values) = part.row(row);
        self.model.margins(desk, tokens, values, |_| &[], to);
    }
}

/// Fits a bag of n-grams.
pub fn bow(stage: &Stage) -> Result<String> {
    let options: Options = stage.options()?;
    let parts = Parts::read(stage, false)?;
    let names: Vec<&'static str> = parts.all().iter().map(|part| part.name).collect();
    let texts: Vec<&Csr> = parts.all().into_iter().map(|part| &part.sparse).collect();
    let start = Start::Random(options.dimension.unwrap_or(1));
    fit(stage, &options, &parts.labels, (&names, &texts), start, 1.0)
}

/// Fits a deep averaging net.
pub fn dan(stage: &Stage) -> Result<String> {
    let options: Options = stage.options()?;
    let Words { parts, labels, vectors, dimension, scale } = words::read(stage)?;
    let names: Vec<&'static str> = parts.iter().map(|part| part.0).collect();
    let texts: Vec<&Csr> = parts.iter().map(|part| &part.1).collect();
    fit(stage, &options, &labels, (&names, &texts), Start::Given(&vectors, dimension), scale)
}

/// Fits a net to the first of the parts.
fn fit(
    stage: &Stage,
    options: &Options,
    labels: &Labels,
    (names, parts): (&[&'static str], &[&Csr]),
    start: Start<'_>,
    scale: f32,
) -> Result<String> {
    let (Some(&train), Some(&valid)) = (parts.first(), parts.get(1)) else {
        return Err(Failure::failed("train or valid is missing", &stage.node, "this is a bug"));
    };
    let how = BagOptions {
        hidden: options.hidden,
        batch_size: options.batch_size,
        epochs: options.epochs,
        lr: options.lr,
        dropout: options.dropout,
        weighted: options.tfidf.unwrap_or(false),
        seed: options.seed,
    };
    let numbers = how.numbers(train.columns, start, labels.len());
    if numbers > MOST {
        return Err(Failure::input(
            format_args!(
                "the vectors of {} tokens and their gradients need {numbers} numbers, more than {MOST}",
                train.columns
            ),
            format_args!("`{}`", stage.node),
            "lower the dimension, or set ngrams.min_count = 2 or ngrams.hash_bits = 18",
        ));
    }
    let run = Run { stage, how, start, train, valid, classes: labels.len() };
    let folds = options.folds.map(|count| folds::stratified(&train.labels, count, options.seed));
    let every = Duration::try_from_secs_f64(options.checkpoint_seconds).unwrap_or(Duration::MAX);
    let (model, trained) = run.train(folds.as_deref(), every)?;
    let model = model.scaled(scale);
    model.write(&stage.output("model.safetensors"))?;
    write_lines(&stage.output("history.jsonl"), &trained.history)?;
    let rows: Vec<PartRows<'_>> = names
        .iter()
        .zip(parts)
        .map(|(name, of)| PartRows { name, labels: &of.labels, ids: &of.ids })
        .collect();
    let description = Description {
        options,
        labels,
        features: train.columns,
        parameters: model.parameters(),
        outcome: Outcome {
            epochs: options.epochs,
            epoch_kept: options.epochs,
            stopped_early: false,
        },
        held_out: if folds.is_some() { HeldOut::Given(&trained.held_out) } else { HeldOut::None },
    };
    finish(stage, &rows, &FittedBag { model: &model, parts }, &description)
}

/// A run, which trains once on all rows and, with folds, once without each.
struct Run<'r> {
    stage: &'r Stage,
    how: BagOptions,
    start: Start<'r>,
    train: &'r Csr,
    valid: &'r Csr,
    classes: usize,
}

/// How far a run is.
#[derive(Default, Serialize, Deserialize)]
struct State {
    node: String,
    /// Trainings that are over: those without a fold first, so that the last net is the one to keep.
    trainings: u32,
    /// Epochs of the next one.
    epochs: u32,
    /// The epochs of the training on all rows.
    history: Vec<HistoryRow>,
    /// The margins of train's rows without their folds.
    #[serde(skip)]
    held_out: Vec<f32>,
}

impl Run<'_> {
    fn net(&self) -> BagNet {
        BagNet::new(self.train.columns, self.classes, self.start, &self.how)
    }

    /// Trains, and gives the net to keep. A checkpoint is written after an epoch if the last one is
    /// older than `every`.
    fn train(&self, folds: Option<&[u32]>, every: Duration) -> Result<(BagModel, State)> {
        let Self { stage, how, train, .. } = self;
        let without: Vec<Option<u32>> = {
            let count = folds.and_then(|folds| folds.iter().max()).map_or(0, |&last| last + 1);
            (0..count).map(Some).chain([None]).collect()
        };
        let checkpoints = stage.output("checkpoints");
        let checkpoint = checkpoints.join("newest.safetensors");
        let (mut net, mut state) = match stage.resume.then(|| self.resume(&checkpoint)).flatten() {
            Some((net, state)) => (Some(net), state),
            None => {
                let held_out = vec![0.0; folds.map_or(0, |_| train.rows() * self.classes)];
                (None, State { node: stage.node.clone(), held_out, ..State::default() })
            }
        };
        let epochs = u64::from(how.epochs);
        stage.progress.begin("training", Some(without.len() as u64 * epochs), Unit::Epochs);
        let mut written = Instant::now();
        let mut model = None;
        for (number, fold) in (0..).zip(&without).skip(state.trainings as usize) {
            // One that was resumed, or a new one: the one before is gone by now.
            let mut net = net.take().unwrap_or_else(|| self.net());
            let is_in = |row: &usize| {
                folds.is_none()
                    || fold.is_none()
                    || folds.and_then(|of| of.get(*row)) != fold.as_ref()
            };
            let rows: Vec<usize> = (0..train.rows()).filter(is_in).collect();
            while state.epochs < how.epochs {
                let epoch = Epoch {
                    texts: train,
                    rows: &rows,
                    options: how,
                    // Those without a fold have other orders; with and without folds, the training on all
                    // rows has the same.
                    training: fold.map_or(0, |fold| fold + 1),
                    number: state.epochs,
                };
                let Some(score) = net.epoch(epoch, team::available()) else {
                    return Err(self.diverged());
                };
                state.epochs += 1;
                if fold.is_none() {
                    let row = self.history_row(&net, state.epochs, score);
                    state.history.push(row);
                }
                let all = u64::from(number) * epochs + u64::from(state.epochs);
                stage.progress.at(all, || {
                    let of =
                        fold.map_or_else(String::new, |fold| format!(" (without fold {fold})"));
                    format!("loss {:.4} accuracy {:.4}{of}", score.loss, score.accuracy)
                });
                if written.elapsed() >= every {
                    state.write(&checkpoint, &net)?;
                    written = Instant::now();
                }
            }
            (state.trainings, state.epochs) = (number + 1, 0);
            let mut made = net.model(how.weighted);
            drop(net);
            if !made.is_finite() {
                return Err(self.diverged());
            }
            made.project();
            if fold.is_some() {
                self.hold_out(&made, folds.unwrap_or_default(), *fold, &mut state.held_out);
            } else {
                model = Some(made);
            }
        }
        // A finished run has nothing to resume.
        if checkpoints.exists() {
            std::fs::remove_dir_all(&checkpoints)
                .map_err(|e| Failure::io("remove", &checkpoints, &e))?;
        }
        let model = model.ok_or_else(|| {
            Failure::failed("no net was trained", &stage.node, "this is a bug; please report it")
        })?;
        Ok((model, state))
    }

    fn diverged(&self) -> Failure {
        Failure::failed(
            "the training ended in weights that are not finite numbers",
            format_args!("`{}`", self.stage.node),
            format_args!("choose a smaller {}.lr", self.stage.node),
        )
    }

    fn history_row(
        &self,
        net: &BagNet,
        epoch: u32,
        score: classifiers::embedding_bag::EpochScore,
    ) -> HistoryRow {
        let mut model = net.model(self.how.weighted);
        model.project();
        let rows: Vec<usize> = (0..self.valid.rows()).collect();
        let margins = self.margins(&model, self.valid, &rows);
        let mut tally = Tally::default();
        for (row, &label) in margins.chunks_exact(self.classes).zip(&self.valid.labels) {
            tally.add(row, label);
        }
        let (loss_valid, accuracy_valid) = tally.means();
        HistoryRow {
            epoch,
            lr: score.lr,
            loss_train: score.loss,
            accuracy_train: score.accuracy,
            loss_valid,
            accuracy_valid,
        }
    }

    /// The margins of some rows, row after row.
    fn margins(&self, model: &BagModel, of: &Csr, rows: &[usize]) -> Vec<f32> {
        let threads = team::available();
        let all = team::run(threads, |member| {
            let rows = rows.get(member.share(rows.len())).unwrap_or_default();
            let mut margins = vec![0.0; rows.len() * self.classes];
            let mut desk = BagDesk::default();
            for (&row, to) in rows.iter().zip(margins.chunks_exact_mut(self.classes)) {
                let (tokens, values) = of.row(row);
                model.margins(&mut desk, tokens, values, |_| &[], to);
            }
            margins
        });
        all.concat()
    }

    /// Puts the margins of a fold's rows into `to`.
    fn hold_out(&self, model: &BagModel, folds: &[u32], fold: Option<u32>, to: &mut [f32]) {
        let is_out = |(row, of): (usize, &u32)| (Some(*of) == fold).then_some(row);
        let rows: Vec<usize> = folds.iter().enumerate().filter_map(is_out).collect();
        let margins = self.margins(model, self.train, &rows);
        for (row, margins) in rows.iter().zip(margins.chunks_exact(self.classes)) {
            if let Some(to) = to.get_mut(row * self.classes..(row + 1) * self.classes) {
                to.copy_from_slice(margins);
            }
        }
    }

    /// The net and the state in a checkpoint of this run; `None` if there is none that is whole.
    fn resume(&self, path: &Path) -> Option<(BagNet, State)> {
        let arrays = Arrays::read(path).ok()?;
        let mut state: State = serde_json::from_str(&arrays.note().ok()??).ok()?;
        if state.node != self.stage.node {
            return None;
        }
        let mut net = self.net();
        net.restore(&arrays).ok()?;
        (_, state.held_out) = arrays.f32("held_out", &[None]).ok()?;
        let text =
            format!("resuming after epoch {} of training {}", state.epochs, state.trainings + 1);
        self.stage.progress.send(&Event::Note { text });
        Some((net, state))
    }
}

impl State {
    /// Writes a checkpoint.
    fn write(&self, path: &Path, net: &BagNet) -> Result<()> {
        let note = serde_json::to_string(self)
            .map_err(|e| Failure::failed(e, path.display(), "this is a bug; please report it"))?;
        let mut all = net.arrays();
        let held_out = [self.held_out.len()];
        all.push(("held_out".to_owned(), Array::f32(&held_out, &self.held_out)));
        let (names, all): (Vec<String>, Vec<Array<'_>>) = all.into_iter().unzip();
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)
                .map_err(|e| Failure::io("create folder", folder, &e))?;
        }
        // Written under another name first: a kill in between must not lose the one before.
        let unfinished = path.with_extension("unfinished");
        arrays::write(&unfinished, names.iter().map(String::as_str).zip(all), Some(&note))?;
        std::fs::rename(&unfinished, path).map_err(|e| Failure::io("rename", &unfinished, &e))
    }
}
