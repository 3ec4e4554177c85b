//! A run whose workers are processes: in each epoch, `epoch-K` trains each worker, and `average-K` takes
//! the mean, scores it and writes the checkpoint, from which the next epoch starts.

use failure::Result;
use stage::{Next, Stage, Step};

use super::{RunOptions, Trainer, device};
use crate::data::Data;
use crate::sweep;

/// How the work of a run is shared.
pub const SHARED: stage::Shared = stage::Shared { steps, work };

const EPOCH: &str = "epoch-";
const AVERAGE: &str = "average-";

/// The step in which the workers train an epoch.
pub fn epoch_step(epoch: u32) -> String {
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

/// Leaves only a note that a chunk is done.
pub fn write_nothing(path: &std::path::Path) -> Result<()> {
    std::fs::write(path, []).map_err(|e| failure::Failure::io("write", path, &e))
}
