//! A run that processes share, if its data has several chunks.
//!
//! If the run has one worker, the step `fit` trains it. If it has several, each epoch has four steps:
//! `epoch-K` trains each worker, `average-K` takes their mean, `score-K` scores it on a chunk of train or
//! valid, and `record-K` adds the scores up and writes the checkpoint from which the next epoch starts. At
//! the end, `predict` predicts rows of valid and test.
//!
//! A process may come late: after a kill, or because two do the same. Then the newest checkpoint says that
//! its epoch is over, and the process leaves only a note that its chunk is done.

mod cut;

use std::ops::Range;
use std::path::{Path, PathBuf};

use candle_core::Device;
use failure::{Failure, Result};
use nets::Net;
use schema::{HistoryRow, Score};
use stage::shards::share;
use stage::{Next, Stage, Step};

use super::checkpoint::RunState;
use super::fit::fit;
use super::jsonl::Jsonl;
use super::scored::Scored;
use super::workers::Left;
use super::{RunOptions, Trainer, checkpoint, device, plan, predictions, workers};
use crate::data::Data;
use crate::engine::Engine;
use crate::sweep;
use cut::Cut;

/// How the work of a run is shared.
pub const SHARED: stage::Shared = stage::Shared { steps, work, check };

const EPOCH: &str = "epoch-";
const AVERAGE: &str = "average-";
const SCORE: &str = "score-";
const RECORD: &str = "record-";
const FIT: &str = "fit";
const PREDICT: &str = "predict";

/// A step of an epoch.
fn of_epoch(step: &str, epoch: u32) -> String {
    format!("{step}{epoch}")
}

fn steps(stage: &Stage) -> Result<Vec<Step>> {
    if stage.node == sweep::NODE {
        return Ok(Vec::new());
    }
    let options: RunOptions = stage.options()?;
    let workers = options.workers;
    let Some(cut) = Cut::of(stage, &options)? else { return Ok(Vec::new()) };
    let mut steps = Vec::new();
    if workers > 1 {
        for epoch in 1..=options.epochs {
            steps.push(Step::new(&of_epoch(EPOCH, epoch), workers));
            steps.push(Step::new(&of_epoch(AVERAGE, epoch), 1));
            steps.push(Step::new(&of_epoch(SCORE, epoch), cut.score_chunks()));
            steps.push(Step::new(&of_epoch(RECORD, epoch), 1));
        }
    } else {
        steps.push(Step::new(FIT, 1));
    }
    steps.push(Step::new(PREDICT, cut.predict_chunks()));
    Ok(steps)
}

/// Drops the pieces of epochs whose checkpoint is damaged or missing, so that they are done again.
fn check(stage: &Stage) -> Result<()> {
    if stage.node == sweep::NODE {
        return Ok(());
    }
    let options: RunOptions = stage.options()?;
    let last = newest(stage, &options);
    if last.as_ref().is_some_and(|last| is_trained(last, &options)) {
        return Ok(());
    }
    let done = last.map_or(0, |last| last.epoch);
    let damaged = (done + 1..=options.epochs)
        .take_while(|&epoch| stage.piece(&of_epoch(RECORD, epoch), 0).exists());
    for epoch in damaged {
        for step in [EPOCH, AVERAGE, SCORE, RECORD] {
            stage.drop_step(&of_epoch(step, epoch))?;
        }
    }
    [FIT, PREDICT].into_iter().try_for_each(|step| stage.drop_step(step))
}

fn work(stage: &Stage, step: &str, chunk: usize) -> Result<Next> {
    let options: RunOptions = stage.options()?;
    let device = &device::open(&stage.device)?;
    let no_chunk = || stage.no_chunk(step, chunk);
    let cut = &Cut::of(stage, &options)?.ok_or_else(no_chunk)?;
    let run = Run { stage, options: &options, device, cut };
    match step {
        FIT => return run.fit(),
        PREDICT => return run.predict(chunk),
        _ => {}
    }
    let parsed = [EPOCH, AVERAGE, SCORE, RECORD]
        .iter()
        .find_map(|&kind| Some((kind, step.strip_prefix(kind)?.parse().ok()?)));
    let (kind, epoch): (&str, u32) = parsed.ok_or_else(no_chunk)?;
    let late = || {
        let next = run.late(epoch)?;
        Some(stage.write_piece(step, chunk, write_nothing).map(|()| next))
    };
    if let Some(late) = late() {
        return late;
    }
    let done = match kind {
        EPOCH => run.train_worker(epoch, chunk),
        AVERAGE => run.average(epoch),
        SCORE => run.score(epoch, chunk),
        _ => run.record(epoch),
    };
    // Whoever has ended the epoch in the meantime has removed what this process needed.
    done.or_else(|failure| late().unwrap_or(Err(failure)))
}

/// What processes have left of a run's predictions.
pub struct Predicted {
    /// The tables of predictions, one below the other.
    pub pieces: Vec<PathBuf>,
    /// The score on test.
    pub test: Option<Score>,
}

/// The predictions, if processes have shared them.
pub fn predicted(stage: &Stage, options: &RunOptions) -> Result<Option<Predicted>> {
    let Some(cut) = Cut::of(stage, options)? else { return Ok(None) };
    trained(stage, options)?;
    let chunks = 0..cut.predict_chunks();
    let pieces = chunks.clone().map(|chunk| stage.earlier_piece(PREDICT, chunk));
    let pieces = pieces.collect::<Result<Vec<_>>>()?;
    let of_test = chunks.map(|chunk| {
        let [_, rows] = cut.predict_chunk(chunk);
        Scored::read(&stage.earlier_piece(PREDICT, cut.scores_of(chunk))?, rows.len())
    });
    let test = Scored::sum(of_test)?;
    Ok(Some(Predicted { pieces, test: cut.has_test().then_some(test) }))
}

/// The newest checkpoint, as far as the history reaches.
fn newest(stage: &Stage, options: &RunOptions) -> Option<RunState> {
    let history: Vec<HistoryRow> = Jsonl::read(&stage.output("history.jsonl"));
    checkpoint::newest_state(stage.out(), (&stage.node, options.seed), history.len())
}

/// Whether a run with this checkpoint is trained to its end.
fn is_trained(state: &RunState, options: &RunOptions) -> bool {
    state.epoch >= options.epochs || state.stopping.is_over()
}

/// The last checkpoint of a run that is trained to its end.
fn trained(stage: &Stage, options: &RunOptions) -> Result<RunState> {
    let last = || newest(stage, options).filter(|state| is_trained(state, options));
    stage.wait_for(stage.out(), last).ok_or_else(|| {
        Failure::usage(
            "the run is not trained to its end",
            stage.out().display(),
            format_args!("do the steps before `{PREDICT}` first; --list-steps lists them"),
        )
    })
}

/// A run of which a process does a part.
struct Run<'r> {
    stage: &'r Stage,
    options: &'r RunOptions,
    device: &'r Device,
    cut: &'r Cut,
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

    /// What comes next, if an epoch is over, or the run ended before it.
    fn late(&self, epoch: u32) -> Option<Next> {
        let state = newest(self.stage, self.options)?;
        if state.stopping.is_over() {
            return Some(Next::At(PREDICT));
        }
        (state.epoch >= epoch).then_some(Next::Step)
    }

    /// Waits until this machine sees that the epoch before is over.
    fn wait_for_epoch_before(&self, epoch: u32) -> Result<()> {
        let Self { stage, options, .. } = *self;
        let before = || newest(stage, options).filter(|state| state.epoch + 1 >= epoch);
        if epoch == 1 || stage.wait_for(stage.out(), before).is_some() {
            return Ok(());
        }
        Err(Failure::usage(
            format_args!("epoch {} is not done", epoch - 1),
            stage.out().display(),
            "do its steps first; --list-steps lists them",
        ))
    }

    /// Trains one worker for an epoch, and leaves its weights for [`Run::average`].
    fn train_worker(&self, epoch: u32, worker: usize) -> Result<Next> {
        let Self { stage, options, device, .. } = *self;
        let used = |part: &str, rows| {
            if part == "train" { share(rows, options.workers, worker) } else { 0..0 }
        };
        let data = Data::read_rows(stage, device, used)?;
        let (mut net, mut optimizer, _) = self.trainer(&data).begin(options.seed)?;
        if epoch > 1 {
            self.wait_for_epoch_before(epoch)?;
            let run = (stage.node.as_str(), options.seed);
            checkpoint::read(stage.out(), run, epoch - 1, &mut net, &mut optimizer)?;
        }
        let engine = Engine::choose(options.kernel.as_deref(), device, &net);
        let plan = plan(options, options.seed, engine, None, None);
        data.to_device(!engine.is_by_hand())?;
        let rows = data.all_rows();
        workers::train_worker(&mut net, &mut optimizer, &data, &plan, (epoch, worker), rows)
            .map_err(|e| e.explain(&stage.node, epoch))?;
        let step = of_epoch(EPOCH, epoch);
        stage.write_piece(&step, worker, |path| workers::write(path, &net, &optimizer))?;
        Ok(Next::Step)
    }

    /// The files in which the workers have left their weights.
    fn of_workers(&self, epoch: u32) -> Result<Vec<PathBuf>> {
        let piece = |worker| self.stage.earlier_piece(&of_epoch(EPOCH, epoch), worker);
        (0..self.options.workers).map(piece).collect()
    }

    /// Leaves the mean of the workers for [`Run::score`] and [`Run::record`].
    fn average(&self, epoch: u32) -> Result<Next> {
        let stage = self.stage;
        let data = self.no_rows()?;
        let (mut net, mut optimizer, _) = self.trainer(&data).begin(self.options.seed)?;
        workers::set_mean(&mut net, &mut optimizer, &self.of_workers(epoch)?)
            .map_err(|e| e.explain(&stage.node, epoch))?;
        stage.write_piece(&of_epoch(AVERAGE, epoch), 0, |path| {
            workers::write(path, &net, &optimizer)
        })?;
        Ok(Next::Step)
    }

    /// Scores the mean on a chunk of train or valid.
    fn score(&self, epoch: u32, chunk: usize) -> Result<Next> {
        let Self { stage, cut, .. } = *self;
        let step = of_epoch(SCORE, epoch);
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
    fn scores(&self, epoch: u32) -> Result<(Score, Score)> {
        let Self { stage, cut, .. } = *self;
        let of = |wanted: usize| {
            Scored::sum((0..cut.score_chunks()).filter_map(|chunk| {
                let (_, rows) = cut.score_chunk(chunk).filter(|(part, _)| *part == wanted)?;
                let path = stage.earlier_piece(&of_epoch(SCORE, epoch), chunk);
                Some(path.and_then(|path| Scored::read(&path, rows.len())))
            }))
        };
        Ok((of(0)?, of(1)?))
    }

    /// Ends an epoch: writes its checkpoint and its row of the history.
    fn record(&self, epoch: u32) -> Result<Next> {
        let Self { stage, options, device, cut } = *self;
        // Only one process at a time adds to the history. One that comes late finds the checkpoint.
        let lock = stage.lock_step()?;
        self.wait_for_epoch_before(epoch)?;
        let data = self.no_rows()?;
        let trainer = self.trainer(&data);
        let (mut net, mut optimizer, random) = trainer.begin(options.seed)?;
        let engine = Engine::choose(options.kernel.as_deref(), device, &net);
        let mean = |epoch| stage.earlier_piece(&of_epoch(AVERAGE, epoch), 0);
        let scores = |epoch| self.scores(epoch);
        let mut plan = plan(options, options.seed, engine, options.checkpoints_keep, None);
        plan.epochs = epoch;
        plan.workers.left = Some(Left { mean: &mean, scores: &scores });
        let run = trainer.context(options.seed, stage.out());
        let ended = fit(&mut net, &mut optimizer, &data, &plan, random, &run)?;
        drop(lock);
        stage.write_piece(&of_epoch(RECORD, epoch), 0, write_nothing)?;
        // The next epoch starts with the checkpoint, so these files are only a note that it is done.
        for (step, chunks) in [(EPOCH, options.workers), (AVERAGE, 1), (SCORE, cut.score_chunks())]
        {
            for chunk in 0..chunks {
                stage.write_piece(&of_epoch(step, epoch), chunk, write_nothing)?;
            }
        }
        Ok(if ended.outcome.stopped_early { Next::At(PREDICT) } else { Next::Step })
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
    fn predict(&self, chunk: usize) -> Result<Next> {
        let Self { stage, device, cut, .. } = *self;
        let [of_valid, of_test] = cut.predict_chunk(chunk);
        let used = |part: &str, _| match part {
            "valid" => of_valid.clone(),
            "test" => of_test.clone(),
            _ => 0..0,
        };
        let state = trained(stage, self.options)?;
        let data = Data::read_rows(stage, device, used)?;
        let net = self.kept(&data, &state)?;
        stage.write_piece(PREDICT, chunk, |path| {
            let mut scored = Scored::default();
            let of_test = |logits: &[f32], label| scored.push(logits, label);
            predictions::write(path, &net, &data, &stage.node, of_test)?;
            // First, because the piece of this step says that the chunk is done.
            stage.write_piece(PREDICT, cut.scores_of(chunk), |path| scored.write(path))
        })?;
        Ok(Next::Step)
    }

    /// The net of the epoch that is kept.
    fn kept(&self, data: &Data, last: &RunState) -> Result<Net> {
        let Self { stage, options, .. } = *self;
        let (mut net, mut optimizer, _) = self.trainer(data).begin(options.seed)?;
        let run = (stage.node.as_str(), options.seed);
        let (best, _) = last.best;
        let epoch = if options.keep == "best" { best } else { last.epoch };
        checkpoint::read(stage.out(), run, epoch, &mut net, &mut optimizer)?;
        Ok(net)
    }
}

/// Leaves only a note that a chunk is done.
fn write_nothing(path: &Path) -> Result<()> {
    std::fs::write(path, []).map_err(|e| Failure::io("write", path, &e))
}
