//! A run whose workers are processes: in each epoch, `epoch-K` trains each worker, and `average-K` takes
//! the mean, scores it and writes the checkpoint, from which the next epoch starts.

use failure::{Failure, Result};
use stage::{Next, Stage, Step};

use super::fit::fit;
use super::{RunOptions, Trainer, checkpoint, device, plan, workers};
use crate::data::Data;
use crate::engine::Engine;
use crate::sweep;

/// How the work of a run is shared.
pub const SHARED: stage::Shared = stage::Shared { steps, work };

const EPOCH: &str = "epoch-";
const AVERAGE: &str = "average-";

/// The step in which the workers train an epoch.
fn epoch_step(epoch: u32) -> String {
    format!("{EPOCH}{epoch}")
}

fn steps(stage: &Stage) -> Result<Vec<Step>> {
    if stage.node == sweep::NODE {
        return Ok(Vec::new());
    }
    let options: RunOptions = stage.options()?;
    let workers = options.workers;
    if workers == 1 {
        return Ok(Vec::new());
    }
    let steps = |epoch: u32| {
        [Step::new(&epoch_step(epoch), workers), Step::new(&format!("{AVERAGE}{epoch}"), 1)]
    };
    Ok((1..=options.epochs).flat_map(steps).collect())
}

fn work(stage: &Stage, step: &str, chunk: usize) -> Result<Next> {
    let options: RunOptions = stage.options()?;
    let no_chunk = || stage.no_chunk(step, chunk);
    let epoch = step.strip_prefix(EPOCH).or_else(|| step.strip_prefix(AVERAGE));
    let epoch: u32 = epoch.and_then(|epoch| epoch.parse().ok()).ok_or_else(no_chunk)?;
    let device = device::open(&stage.device)?;
    let is_worker = step.starts_with(EPOCH);
    let data = if is_worker && options.embeddings.is_none() {
        Data::read_block(stage, &device, (chunk, options.workers))?
    } else {
        super::data(stage, &options, &device)?
    };
    let trainer = Trainer { stage, options: &options, data: &data, device: &device };
    if is_worker {
        return trainer.train_worker(epoch, chunk);
    }
    trainer.average(epoch)?;
    stage.write_piece(step, chunk, write_nothing)?;
    // The next epoch starts with the mean, so these files are only a note that it is done.
    for worker in 0..options.workers {
        write_nothing(&stage.piece(&epoch_step(epoch), worker))?;
    }
    Ok(Next::Step)
}

impl Trainer<'_> {
    /// Trains one worker for an epoch, and leaves its weights for [`Trainer::average`].
    fn train_worker(&self, epoch: u32, worker: usize) -> Result<Next> {
        let Self { stage, options, data, device } = *self;
        let (mut net, mut optimizer, _) = self.begin(options.seed)?;
        let run = (stage.node.as_str(), options.seed);
        let step = epoch_step(epoch);
        if epoch > 1 {
            let path = checkpoint::path(stage.out(), epoch - 1);
            let newest = checkpoint::newest(stage.out(), run, usize::MAX, &mut net, &mut optimizer);
            // It may be pruned, if this epoch is done, or not have appeared yet.
            let state = match newest.filter(|state| state.epoch >= epoch - 1) {
                Some(state) => state,
                None if stage.is_there(&path) => {
                    checkpoint::read(stage.out(), run, epoch - 1, &mut net, &mut optimizer)?
                }
                None => {
                    return Err(Failure::failed(
                        format_args!("epoch {} has no checkpoint", epoch - 1),
                        path.display(),
                        "start the run from scratch: `cargo xtask pipeline --fresh`",
                    ));
                }
            };
            let is_over = state.stopping.is_over();
            if is_over || state.epoch >= epoch {
                stage.write_piece(&step, worker, write_nothing)?;
                return Ok(if is_over { Next::Result } else { Next::Step });
            }
        }
        let engine = Engine::choose(options.kernel.as_deref(), device, &net);
        let plan = plan(options, options.seed, engine, None, None);
        data.to_device(!engine.is_by_hand())?;
        let all: Vec<u32> = data.all_rows();
        workers::train_worker(&mut net, &mut optimizer, data, &plan, (epoch, &all), worker)
            .map_err(|e| e.explain(&stage.node, epoch))?;
        stage.write_piece(&step, worker, |path| workers::write(path, &net, &optimizer))?;
        Ok(Next::Step)
    }

    /// Ends an epoch whose workers have left their weights.
    fn average(&self, epoch: u32) -> Result<()> {
        let Self { stage, options, data, device } = *self;
        // Only one process at a time adds to the history. One that comes late finds the checkpoint.
        let _lock = stage.lock_step()?;
        let (mut net, mut optimizer, random) = self.begin(options.seed)?;
        let engine = Engine::choose(options.kernel.as_deref(), device, &net);
        let left = |epoch, worker| stage.piece(&epoch_step(epoch), worker);
        let mut plan = plan(options, options.seed, engine, options.checkpoints_keep, None);
        plan.epochs = epoch;
        plan.workers.left = Some(&left);
        let run = self.context(options.seed, stage.out());
        fit(&mut net, &mut optimizer, data, &plan, random, &run).map(drop)
    }
}

/// Leaves only a note that a chunk is done.
fn write_nothing(path: &std::path::Path) -> Result<()> {
    std::fs::write(path, []).map_err(|e| Failure::io("write", path, &e))
}
