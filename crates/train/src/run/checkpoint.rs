//! Everything that a run needs to resume after an epoch, in one safetensors file per epoch.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::Tensor;
use failure::{Failure, Result};
use formats::Arrays;
use nets::{Net, file};
use serde::{Deserialize, Serialize};

use crate::optimizer::{Optimizer, Rule};
use crate::random::{GeneratorState, Random};
use crate::run::stopping::Stopping;

/// The prefix of the optimizer's tensors, which are stored beside the net's.
pub const OPTIMIZER: &str = "optimizer.";

/// What a checkpoint holds besides the tensors.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunState {
    /// The node it belongs to.
    pub node: String,
    /// The run's seed.
    pub seed: u64,
    /// Epochs done.
    pub epoch: u32,
    /// The learning rate of that epoch; the schedule follows from the epoch.
    pub lr: f64,
    /// The optimizer's rule.
    pub optimizer: Rule,
    /// The optimizer's steps so far.
    pub steps: u64,
    /// The state of early stopping.
    pub stopping: Stopping,
    /// The epoch with the lowest validation loss so far, and that loss.
    pub best: (u32, f64),
    /// The state of the random generator.
    pub random: GeneratorState,
}

/// The file of an epoch's checkpoint in a run's folder.
pub fn path(folder: &Path, epoch: u32) -> PathBuf {
    folder.join("checkpoints").join(format!("epoch-{epoch:04}.safetensors"))
}

/// The tensors of a checkpoint by name.
pub fn tensors(net: &Net, optimizer: &Optimizer) -> BTreeMap<String, Tensor> {
    let mut all = net.state();
    all.extend(
        optimizer.state.iter().map(|(name, tensor)| (format!("{OPTIMIZER}{name}"), tensor.clone())),
    );
    all
}

/// Writes a checkpoint, which appears under its name only once it is whole.
pub fn write(folder: &Path, net: &Net, optimizer: &Optimizer, progress: &RunState) -> Result<()> {
    let path = path(folder, progress.epoch);
    let note = serde_json::to_string(progress)
        .map_err(|e| Failure::failed(e, path.display(), "this is a bug; please report it"))?;
    let bytes = file::to_bytes(&tensors(net, optimizer), Some(&note), &path)?;
    atomic::write_atomically(&path, &bytes).map_err(|e| Failure::io("write", &path, &e))
}

/// The epochs that have a checkpoint in a run's folder, in ascending order.
pub fn epochs(folder: &Path) -> Vec<u32> {
    let epoch =
        |name: &str| name.strip_prefix("epoch-")?.strip_suffix(".safetensors")?.parse().ok();
    let names = std::fs::read_dir(folder.join("checkpoints")).into_iter().flatten().flatten();
    let mut epochs: Vec<u32> = names.filter_map(|f| epoch(f.file_name().to_str()?)).collect();
    epochs.sort_unstable();
    epochs
}

/// Removes all checkpoints up to `epoch`, except the newest `keep` and that of the epoch `best`.
pub fn prune(folder: &Path, epoch: u32, keep: u32, best: Option<u32>) -> Result<()> {
    for old in epochs(folder)
        .into_iter()
        .filter(|old| old.saturating_add(keep) <= epoch && Some(*old) != best)
    {
        let path = path(folder, old);
        std::fs::remove_file(&path).map_err(|e| Failure::io("remove", &path, &e))?;
    }
    Ok(())
}

/// Fills net and optimizer from the newest checkpoint that is whole, belongs to this `node` and
/// `seed`, and is of an epoch up to `most`.
///
/// Without such a checkpoint, leaves both as they were and returns `None`: the run has to start
/// from scratch.
pub fn newest(
    folder: &Path,
    (node, seed): (&str, u64),
    most: usize,
    net: &mut Net,
    optimizer: &mut Optimizer,
) -> Option<RunState> {
    let epochs = epochs(folder).into_iter().filter(|&e| e as usize <= most);
    epochs.rev().find_map(|epoch| read(folder, (node, seed), epoch, net, optimizer).ok())
}

/// What the newest checkpoint says besides the tensors, if it is of an epoch up to `most`.
pub fn newest_state(folder: &Path, (node, seed): (&str, u64), most: usize) -> Option<RunState> {
    let epochs = epochs(folder).into_iter().filter(|&e| e as usize <= most);
    epochs.rev().find_map(|epoch| {
        let text = Arrays::map(&path(folder, epoch)).and_then(|arrays| arrays.note()).ok()??;
        let state: RunState = serde_json::from_str(&text).ok()?;
        (state.node == node && state.seed == seed && state.epoch == epoch).then_some(state)
    })
}

/// Fills net and optimizer from an epoch's checkpoint, and returns the rest of its content.
pub fn read(
    folder: &Path,
    (node, seed): (&str, u64),
    epoch: u32,
    net: &mut Net,
    optimizer: &mut Optimizer,
) -> Result<RunState> {
    let path = path(folder, epoch);
    let arrays = Arrays::read(&path)?;
    let progress: Option<RunState> =
        arrays.note()?.and_then(|note| serde_json::from_str(&note).ok());
    let whole = progress.filter(|p| {
        p.node == node && p.seed == seed && p.epoch == epoch && p.optimizer == optimizer.rule
    });
    let whole = whole.filter(|p| Random::restore(&p.random).is_some());
    let wrong = || {
        Failure::input(
            "this is not a checkpoint of the run",
            path.display(),
            "start the run from scratch: `cargo xtask pipeline --fresh`",
        )
    };
    let progress = whole.ok_or_else(wrong)?;
    let mut values = file::read(&arrays, &path, &file::shapes(&tensors(net, optimizer)))?;
    for name in optimizer.state.keys().cloned().collect::<Vec<_>>() {
        let values = values.remove(&format!("{OPTIMIZER}{name}")).unwrap_or_default();
        optimizer.set(&name, values).map_err(|_| wrong())?;
    }
    optimizer.steps = progress.steps;
    file::fill(net, values, &path)?;
    Ok(progress)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init;
    use candle_core::Device;
    use nets::Shape;

    const RUN: (&str, u64) = ("train.mlp", 123);

    fn made(seed: u64, hidden: usize) -> (Net, Optimizer) {
        let shape = Shape::MultiLayer { hidden, layers: 1, relu_out: true };
        let mut net = Net::zeros(shape, 3, 4, &Device::Cpu).expect("a net");
        init::draw(&mut net, None, &mut Random::new(seed)).expect("draws");
        let mut optimizer = Optimizer::new(Rule::Sgd, 0.9, 0.0, &net).expect("an optimizer");
        optimizer.steps = seed;
        for (i, name) in optimizer.state.keys().cloned().collect::<Vec<_>>().into_iter().enumerate()
        {
            let count = optimizer.state[&name].elem_count();
            optimizer.set(&name, Random::new(seed + i as u64).normal(count)).expect("sets");
        }
        (net, optimizer)
    }

    fn values((net, optimizer): &(Net, Optimizer)) -> Vec<f32> {
        tensors(net, optimizer)
            .values()
            .flat_map(|t| t.flatten_all().and_then(|t| t.to_vec1::<f32>()).expect("values"))
            .collect()
    }

    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(dir.path().join("checkpoints")).expect("a folder");
        dir
    }

    fn put(dir: &Path, (net, optimizer): &(Net, Optimizer), epoch: u32) -> RunState {
        let progress = RunState {
            node: RUN.0.into(),
            seed: RUN.1,
            epoch,
            lr: 1e-3,
            optimizer: Rule::Sgd,
            steps: optimizer.steps,
            stopping: Stopping::new(Some(3)),
            // A loss that a JSON reader without exact floats reads one bit off.
            best: (epoch, 0.473_122_528_400_078_85),
            random: Random::new(1).state(),
        };
        write(dir, net, optimizer, &progress).expect("writes");
        progress
    }

    #[test]
    fn a_checkpoint_comes_back_to_the_last_bit() {
        let dir = folder();
        let written = put(dir.path(), &made(1, 4), 7);
        let mut other = made(2, 4);
        let back = read(dir.path(), RUN, 7, &mut other.0, &mut other.1).expect("reads");
        assert_eq!(values(&other), values(&made(1, 4)));
        assert_eq!((back.best.1.to_bits(), other.1.steps), (written.best.1.to_bits(), 1));
    }

    #[test]
    fn what_is_no_checkpoint_of_the_run_leaves_everything_as_it_was() {
        let dir = folder();
        put(dir.path(), &made(1, 5), 1);
        std::fs::write(path(dir.path(), 2), "cut").expect("writes");
        let mut other = made(2, 4);
        assert!(newest(dir.path(), RUN, 9, &mut other.0, &mut other.1).is_none());
        assert!(
            read(dir.path(), RUN, 1, &mut other.0, &mut other.1)
                .unwrap_err()
                .what
                .contains("not F32")
        );
        assert_eq!(values(&other), values(&made(2, 4)));
        let mut same = made(1, 5);
        for run in [("train.slp", 123), ("train.mlp", 7)] {
            let failure = read(dir.path(), run, 1, &mut same.0, &mut same.1).unwrap_err();
            assert!(failure.what.contains("not a checkpoint of the run"), "{failure}");
        }
    }

    #[test]
    fn the_newest_checkpoints_stay_and_the_best_one() {
        let dir = folder();
        (1..=6).for_each(|epoch| drop(put(dir.path(), &made(1, 2), epoch)));
        prune(dir.path(), 6, 2, Some(3)).expect("removes");
        assert_eq!(epochs(dir.path()), [3, 5, 6]);
        prune(dir.path(), 6, 1, None).expect("removes");
        assert_eq!(epochs(dir.path()), [6]);
    }
}
