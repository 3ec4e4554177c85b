//! A run that processes share.
//!
//! If it has several workers, each epoch has the steps `epoch-K`, which trains each worker, and `average-K`,
//! which takes their mean, scores it and writes the checkpoint from which the next epoch starts. If it has
//! one, the step `fit` trains it.
//!
//! If the data has several chunks, processes also share the scores and the predictions: `average-K`
//! only takes the mean, `score-K` scores it on a chunk of train or valid, and `record-K` adds the scores up
//! and writes the checkpoint; at the end, `predict` predicts rows of valid and test.

use std::ops::Range;
use std::path::{Path, PathBuf};

use candle_core::Device;
use failure::{Failure, Result};
use nets::Net;
use schema::{Labels, Score};
use stage::shards::{chunk_among, chunk_of, chunks_in, share};
use stage::{Next, Stage, Step};

use super::fit::fit;
use super::scored::Scored;
use super::workers::Left;
use super::{RunOptions, Trainer, checkpoint, device, plan, predictions, workers};
use crate::data::Data;
use crate::engine::Engine;
use crate::sweep;

/// How the work of a run is shared.
pub const SHARED: stage::Shared = stage::Shared { steps, work };

const EPOCH: &str = "epoch-";
const AVERAGE: &str = "average-";
const SCORE: &str = "score-";
const RECORD: &str = "record-";
const FIT: &str = "fit";
const PREDICT: &str = "predict";
/// The scores on test, which `predict` leaves beside its predictions.
const TEST: &str = "test";

/// A step of an epoch.
fn of_epoch(step: &str, epoch: u32) -> String {
    format!("{step}{epoch}")
}

/// How the data is cut into chunks, if there are several.
struct Cut {
    chunk_rows: usize,
    /// The rows of train and of valid.
    scored: [usize; 2],
    /// The rows of a chunk of the table of predictions: whole row groups.
    predict_rows: usize,
    /// The rows of valid and of test, one below the other in that table.
    predicted: [usize; 2],
}

impl Cut {
    fn of(stage: &Stage) -> Result<Option<Self>> {
        let Some(chunk_rows) = stage.chunk_rows() else { return Ok(None) };
        let [train, valid, test] = Data::rows_in_files(stage)?.map(|(_, rows)| rows);
        if [train, valid, test].iter().all(|&rows| rows <= chunk_rows) {
            return Ok(None);
        }
        let labels = Labels::read(&stage.input("tensors", Labels::FILE)?)?.len();
        let group = ::predictions::group_rows(labels);
        Ok(Some(Self {
            chunk_rows,
            scored: [train, valid],
            predict_rows: chunk_rows.next_multiple_of(group),
            predicted: [valid, test],
        }))
    }

    fn score_chunks(&self) -> usize {
        self.scored.iter().map(|&rows| chunks_in(self.chunk_rows, rows)).sum()
    }

    /// The part of a chunk that is scored, 0 for train and 1 for valid, and its rows there.
    fn score_chunk(&self, chunk: usize) -> Option<(usize, Range<usize>)> {
        chunk_among(chunk, self.chunk_rows, &self.scored)
    }

    fn predict_chunks(&self) -> usize {
        chunks_in(self.predict_rows, self.predicted.iter().sum())
    }

    /// The rows of valid and of test in a chunk of the predictions.
    fn predict_chunk(&self, chunk: usize) -> [Range<usize>; 2] {
        let [valid, test] = self.predicted;
        let rows = chunk_of(chunk, self.predict_rows, valid + test);
        let of_test = rows.start.saturating_sub(valid)..rows.end.saturating_sub(valid);
        [rows.start.min(valid)..rows.end.min(valid), of_test]
    }
}

fn steps(stage: &Stage) -> Result<Vec<Step>> {
    if stage.node == sweep::NODE {
        return Ok(Vec::new());
    }
    let options: RunOptions = stage.options()?;
    let workers = options.workers;
    let cut = Cut::of(stage)?;
    let mut steps = Vec::new();
    if workers > 1 {
        for epoch in 1..=options.epochs {
            steps.push(Step::new(&of_epoch(EPOCH, epoch), workers));
            steps.push(Step::new(&of_epoch(AVERAGE, epoch), 1));
            if let Some(cut) = &cut {
                steps.push(Step::new(&of_epoch(SCORE, epoch), cut.score_chunks()));
                steps.push(Step::new(&of_epoch(RECORD, epoch), 1));
            }
        }
    } else if cut.is_some() {
        steps.push(Step::new(FIT, 1));
    }
    if let Some(cut) = cut {
        steps.push(Step::new(PREDICT, cut.predict_chunks()));
    }
    Ok(steps)
}

fn work(stage: &Stage, step: &str, chunk: usize) -> Result<Next> {
    let options: RunOptions = stage.options()?;
    let device = &device::open(&stage.device)?;
    let cut = Cut::of(stage)?;
    let run = Run { stage, options: &options, device, cut: cut.as_ref() };
    let no_chunk = || stage.no_chunk(step, chunk);
    if let Some(cut) = run.cut {
        match step {
            FIT => return run.fit(),
            PREDICT => return run.predict(cut, chunk),
            _ => {}
        }
    }
    let parsed = [EPOCH, AVERAGE, SCORE, RECORD]
        .iter()
        .find_map(|&kind| Some((kind, step.strip_prefix(kind)?.parse().ok()?)));
    let (kind, epoch): (&str, u32) = parsed.ok_or_else(no_chunk)?;
    match (kind, run.cut) {
        (EPOCH, _) => run.train_worker(epoch, chunk),
        (AVERAGE, Some(_)) => run.average(epoch),
        (SCORE, Some(cut)) => run.score(cut, epoch, chunk),
        (AVERAGE, None) | (RECORD, Some(_)) => run.record(epoch),
        _ => Err(no_chunk()),
    }
}

/// What processes have left of a run's predictions.
pub struct Predicted {
    /// The tables of predictions, one below the other.
    pub pieces: Vec<PathBuf>,
    /// The score on test.
    pub test: Option<Score>,
}

/// The predictions, if processes have shared them.
pub fn predicted(stage: &Stage) -> Result<Option<Predicted>> {
    if stage.node == sweep::NODE {
        return Ok(None);
    }
    let Some(cut) = Cut::of(stage)? else { return Ok(None) };
    let mut pieces = Vec::new();
    let mut scored = Vec::new();
    for chunk in 0..cut.predict_chunks() {
        pieces.push(stage.earlier_piece(PREDICT, chunk)?);
        let [_, of_test] = cut.predict_chunk(chunk);
        scored.push(Scored::read(&stage.earlier_piece(TEST, chunk)?, of_test.len())?);
    }
    let [_, test] = cut.predicted;
    Ok(Some(Predicted { pieces, test: (test > 0).then(|| Scored::sum(scored)) }))
}

/// A run of which a process does a part.
struct Run<'r> {
    stage: &'r Stage,
    options: &'r RunOptions,
    device: &'r Device,
    cut: Option<&'r Cut>,
}

impl Run<'_> {
    fn trainer<'t>(&'t self, data: &'t Data) -> Trainer<'t> {
        Trainer { stage: self.stage, options: self.options, data, device: self.device }
    }

    /// The data, of which only some rows of a part are read.
    fn some_rows(&self, part: &str, rows: &Range<usize>) -> Result<Data> {
        let used = |name: &str, _| if name == part { rows.clone() } else { 0..0 };
        Data::read_rows(self.stage, self.device, used)
    }

    /// What only needs the data's shape.
    fn no_rows(&self) -> Result<Data> {
        self.some_rows("", &(0..0))
    }

    /// Whether an epoch is over, so that another process has already used what it needs.
    fn is_over(&self, epoch: u32) -> bool {
        checkpoint::epochs(self.stage.out()).last().is_some_and(|&newest| newest >= epoch)
    }

    /// Trains one worker for an epoch, and leaves its weights for [`Run::average`].
    fn train_worker(&self, epoch: u32, worker: usize) -> Result<Next> {
        let Self { stage, options, device, .. } = *self;
        let data = if options.embeddings.is_none() {
            let used = |part: &str, rows| {
                if part == "train" { share(rows, options.workers, worker) } else { 0..0 }
            };
            Data::read_rows(stage, device, used)?
        } else {
            super::data(stage, options, device)?
        };
        let (mut net, mut optimizer, _) = self.trainer(&data).begin(options.seed)?;
        let run = (stage.node.as_str(), options.seed);
        let step = of_epoch(EPOCH, epoch);
        if epoch > 1 {
            let path = checkpoint::path(stage.out(), epoch - 1);
            let newest = checkpoint::newest(stage.out(), run, usize::MAX, &mut net, &mut optimizer);
            // It may be pruned, if this epoch is done, or not have appeared yet.
            let state = match newest.filter(|state| state.epoch >= epoch - 1) {
                Some(state) => state,
                None if stage.is_there(&path) => {
                    checkpoint::read(stage.out(), run, epoch - 1, &mut net, &mut optimizer)?
                }
                None => return Err(no_checkpoint(epoch - 1, &path)),
            };
            let is_over = state.stopping.is_over();
            if is_over || state.epoch >= epoch {
                stage.write_piece(&step, worker, write_nothing)?;
                return Ok(match self.cut {
                    _ if !is_over => Next::Step,
                    Some(_) => Next::At(PREDICT),
                    None => Next::Result,
                });
            }
        }
        let engine = Engine::choose(options.kernel.as_deref(), device, &net);
        let plan = plan(options, options.seed, engine, None, None);
        data.to_device(!engine.is_by_hand())?;
        let rows = data.all_rows();
        workers::train_worker(&mut net, &mut optimizer, &data, &plan, (epoch, worker), rows)
            .map_err(|e| e.explain(&stage.node, epoch))?;
        stage.write_piece(&step, worker, |path| workers::write(path, &net, &optimizer))?;
        Ok(Next::Step)
    }

    /// The files in which the workers have left their weights.
    fn of_workers(&self, epoch: u32) -> Vec<PathBuf> {
        let piece = |worker| self.stage.piece(&of_epoch(EPOCH, epoch), worker);
        (0..self.options.workers).map(piece).collect()
    }

    /// Leaves the mean of the workers for [`Run::score`] and [`Run::record`].
    fn average(&self, epoch: u32) -> Result<Next> {
        let stage = self.stage;
        let step = of_epoch(AVERAGE, epoch);
        if self.is_over(epoch) {
            return stage.write_piece(&step, 0, write_nothing).map(|()| Next::Step);
        }
        let data = self.no_rows()?;
        let (mut net, mut optimizer, _) = self.trainer(&data).begin(self.options.seed)?;
        workers::set_mean(&mut net, &mut optimizer, &self.of_workers(epoch))
            .map_err(|e| e.explain(&stage.node, epoch))?;
        stage.write_piece(&step, 0, |path| workers::write(path, &net, &optimizer))?;
        Ok(Next::Step)
    }

    /// Scores the mean on a chunk of train or valid.
    fn score(&self, cut: &Cut, epoch: u32, chunk: usize) -> Result<Next> {
        let stage = self.stage;
        let step = of_epoch(SCORE, epoch);
        if self.is_over(epoch) {
            return stage.write_piece(&step, chunk, write_nothing).map(|()| Next::Step);
        }
        let (part, rows) = cut.score_chunk(chunk).ok_or_else(|| stage.no_chunk(&step, chunk))?;
        let data = self.some_rows(if part == 0 { "train" } else { "valid" }, &rows)?;
        let (mut net, mut optimizer, _) = self.trainer(&data).begin(self.options.seed)?;
        let mean = stage.earlier_piece(&of_epoch(AVERAGE, epoch), 0)?;
        workers::set_mean(&mut net, &mut optimizer, &[mean])
            .map_err(|e| e.explain(&stage.node, epoch))?;
        let part = if part == 0 { &data.train } else { &data.valid };
        let scored = Scored::of(&net, part).map_err(|e| device::failed(&e, &stage.node))?;
        stage.write_piece(&step, chunk, |path| scored.write(path)).map(|()| Next::Step)
    }

    /// The scores of an epoch's mean on train and valid, which processes have left.
    fn scores(&self, cut: &Cut, epoch: u32) -> Result<(Score, Score)> {
        let mut parts = [Vec::new(), Vec::new()];
        for chunk in 0..cut.score_chunks() {
            let Some((part, rows)) = cut.score_chunk(chunk) else { break };
            let path = self.stage.earlier_piece(&of_epoch(SCORE, epoch), chunk)?;
            if let Some(of) = parts.get_mut(part) {
                of.push(Scored::read(&path, rows.len())?);
            }
        }
        let [train, valid] = parts.map(Scored::sum);
        Ok((train, valid))
    }

    /// Ends an epoch: writes its checkpoint and its row of the history.
    fn record(&self, epoch: u32) -> Result<Next> {
        let Self { stage, options, device, cut } = *self;
        // Only one process at a time adds to the history. One that comes late finds the checkpoint.
        let lock = stage.lock_step()?;
        let data =
            if cut.is_some() { self.no_rows()? } else { super::data(stage, options, device)? };
        let trainer = self.trainer(&data);
        let (mut net, mut optimizer, random) = trainer.begin(options.seed)?;
        let engine = Engine::choose(options.kernel.as_deref(), device, &net);
        let weights = |epoch| match cut {
            Some(_) => vec![stage.piece(&of_epoch(AVERAGE, epoch), 0)],
            None => self.of_workers(epoch),
        };
        let mut plan = plan(options, options.seed, engine, options.checkpoints_keep, None);
        plan.epochs = epoch;
        let scores = cut.map(|cut| move |epoch| self.scores(cut, epoch));
        let scores = scores.as_ref().map(|scores| scores as &dyn Fn(u32) -> _);
        plan.workers.left = Some(Left { weights: &weights, scores });
        let run = trainer.context(options.seed, stage.out());
        fit(&mut net, &mut optimizer, &data, &plan, random, &run)?;
        drop(lock);
        let step = if cut.is_some() { RECORD } else { AVERAGE };
        stage.write_piece(&of_epoch(step, epoch), 0, write_nothing)?;
        // The next epoch starts with the checkpoint, so these files are only a note that it is done.
        for worker in 0..options.workers {
            write_nothing(&stage.piece(&of_epoch(EPOCH, epoch), worker))?;
        }
        if let Some(cut) = cut {
            write_nothing(&stage.piece(&of_epoch(AVERAGE, epoch), 0))?;
            for chunk in 0..cut.score_chunks() {
                write_nothing(&stage.piece(&of_epoch(SCORE, epoch), chunk))?;
            }
        }
        Ok(Next::Step)
    }

    /// Trains a run with one worker.
    fn fit(&self) -> Result<Next> {
        let Self { stage, options, device, .. } = *self;
        let _lock = stage.lock_step()?;
        let data = super::data(stage, options, device)?;
        self.trainer(&data).fit(options.seed, stage.out(), options.checkpoints_keep, None)?;
        stage.write_piece(FIT, 0, write_nothing).map(|()| Next::Step)
    }

    /// Predicts some rows of valid and test.
    fn predict(&self, cut: &Cut, chunk: usize) -> Result<Next> {
        let Self { stage, device, .. } = *self;
        let [of_valid, of_test] = cut.predict_chunk(chunk);
        let used = |part: &str, _| match part {
            "valid" => of_valid.clone(),
            "test" => of_test.clone(),
            _ => 0..0,
        };
        let data = Data::read_rows(stage, device, used)?;
        let net = self.kept(&data)?;
        let mut scored = Scored::default();
        stage.write_piece(PREDICT, chunk, |path| {
            scored = predictions::write(path, &net, &data, &stage.node)?;
            // First, because the piece of this step says that the chunk is done.
            stage.write_piece(TEST, chunk, |path| scored.write(path))
        })?;
        Ok(Next::Step)
    }

    /// The trained net.
    fn kept(&self, data: &Data) -> Result<Net> {
        let Self { stage, options, .. } = *self;
        let (mut net, mut optimizer, _) = self.trainer(data).begin(options.seed)?;
        let run = (stage.node.as_str(), options.seed);
        let state = checkpoint::newest(stage.out(), run, usize::MAX, &mut net, &mut optimizer)
            .ok_or_else(|| {
                no_checkpoint(options.epochs, &checkpoint::path(stage.out(), options.epochs))
            })?;
        let (best, _) = state.best;
        if options.keep == "best" && best != state.epoch {
            checkpoint::read(stage.out(), run, best, &mut net, &mut optimizer)?;
        }
        Ok(net)
    }
}

fn no_checkpoint(epoch: u32, path: &Path) -> Failure {
    Failure::failed(
        format_args!("epoch {epoch} has no checkpoint"),
        path.display(),
        "start the run from scratch: `cargo xtask pipeline --fresh`",
    )
}

/// Leaves only a note that a chunk is done.
fn write_nothing(path: &Path) -> Result<()> {
    std::fs::write(path, []).map_err(|e| Failure::io("write", path, &e))
}
