//! Everything that a run needs to go on after an epoch, in one safetensors file per epoch.

use std::path::{Path, PathBuf};

use artifact::{Failure, Result};
use formats::Arrays;
use formats::arrays::{self, Array};
use serde::{Deserialize, Serialize};

use crate::net::Net;
use crate::random::State;
use crate::stopping::Stopping;

/// What a checkpoint holds beside the tensors.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Progress {
    /// The node it belongs to.
    pub node: String,
    /// Epochs done.
    pub epoch: u32,
    /// The learning rate of that epoch; the schedule follows from the epoch.
    pub lr: f64,
    /// The optimizer. Plain SGD has no state of its own.
    pub optimizer: String,
    /// Early stopping's memory.
    pub stopping: Stopping,
    /// The epoch with the lowest validation loss so far, and that loss.
    pub best: (u32, f64),
    /// Where the random generator is.
    pub random: State,
}

/// The file of an epoch's checkpoint in a run's folder.
pub fn path(folder: &Path, epoch: u32) -> PathBuf {
    folder.join("checkpoints").join(format!("epoch-{epoch:04}.safetensors"))
}

/// Writes a checkpoint under its name only when it is whole.
pub fn write(folder: &Path, net: &Net, progress: &Progress) -> Result<()> {
    let path = path(folder, progress.epoch);
    let note = serde_json::to_string(progress).map_err(|e| Failure::failed(e, path.display(), "this is a bug; please report it"))?;
    let partial = path.with_extension("partial");
    write_net(&partial, net, Some(&note))?;
    let synced = std::fs::File::open(&partial).and_then(|file| file.sync_all());
    synced.map_err(|e| Failure::io("sync", &partial, &e))?;
    std::fs::rename(&partial, &path).map_err(|e| Failure::io("rename", &partial, &e))
}

/// Writes a net's tensors.
pub fn write_net(path: &Path, net: &Net, note: Option<&str>) -> Result<()> {
    let mut values = Vec::new();
    for (name, tensor) in net.state() {
        let flat = tensor.flatten_all().and_then(|t| t.to_vec1::<f32>());
        let flat = flat.map_err(|e| Failure::failed(format_args!("cannot read `{name}` back: {e}"), path.display(), "use --device cpu"))?;
        values.push((name, tensor.dims().to_vec(), flat));
    }
    let arrays = values.iter().map(|(name, shape, flat)| (*name, Array::f32(shape, flat)));
    arrays::write(path, arrays, note)
}

/// Fills `net` from a file that must have exactly its tensors; one that has not leaves it as it
/// was.
pub fn read_net(path: &Path, net: &mut Net) -> Result<()> {
    let values = values_of(&Arrays::read(path)?, path, net)?;
    fill(net, values, path)
}

type Values = Vec<(String, Vec<f32>)>;

fn refuse(what: impl std::fmt::Display, path: &Path) -> Failure {
    Failure::input(what, path.display(), "give weights of this net: the same layers, units and features")
}

/// The tensors of `arrays`, held against those of `net`.
fn values_of(arrays: &Arrays, path: &Path, net: &Net) -> Result<Values> {
    let wanted: Vec<(String, Vec<usize>)> = net.state().into_iter().map(|(name, t)| (name.to_owned(), t.dims().to_vec())).collect();
    // PyTorch counts batches in an i64 that nothing here reads.
    let extra = arrays.names()?.into_iter().find(|name| !name.ends_with("num_batches_tracked") && wanted.iter().all(|(w, _)| w != name));
    if let Some(extra) = extra {
        return Err(refuse(format_args!("has `{extra}`, which this net has not"), path));
    }
    let one = |(name, shape): (String, Vec<usize>)| {
        let shape: Vec<Option<usize>> = shape.into_iter().map(Some).collect();
        let (_, values) = arrays.f32(&name, &shape).map_err(|f| refuse(f.what, path))?;
        if values.iter().any(|v| !v.is_finite()) {
            return Err(refuse(format_args!("`{name}` has values that are no finite numbers"), path));
        }
        Ok((name, values))
    };
    wanted.into_iter().map(one).collect()
}

fn fill(net: &mut Net, values: Values, path: &Path) -> Result<()> {
    values.into_iter().try_for_each(|(name, values)| net.set(&name, values).map_err(|e| refuse(e, path)))
}

/// The newest epoch up to `most` whose checkpoint is whole and of this `node`, with the net filled
/// from it; `None`, and the net as it was, where the run has to start anew.
pub fn newest(folder: &Path, node: &str, most: usize, net: &mut Net) -> Option<Progress> {
    let names = std::fs::read_dir(folder.join("checkpoints")).ok()?;
    let epoch = |name: &str| name.strip_prefix("epoch-")?.strip_suffix(".safetensors")?.parse().ok();
    let mut epochs: Vec<u32> = names.flatten().filter_map(|f| epoch(f.file_name().to_str()?)).filter(|&e| e as usize <= most).collect();
    epochs.sort_unstable();
    epochs.into_iter().rev().find_map(|epoch| read(folder, node, epoch, net).ok())
}

/// Fills `net` from an epoch's checkpoint and returns what else was in it.
pub fn read(folder: &Path, node: &str, epoch: u32, net: &mut Net) -> Result<Progress> {
    let path = path(folder, epoch);
    let arrays = Arrays::read(&path)?;
    let progress: Option<Progress> = arrays.note()?.and_then(|note| serde_json::from_str(&note).ok());
    let whole = progress.filter(|p| p.node == node && p.epoch == epoch);
    let progress =
        whole.ok_or_else(|| Failure::input("this is no checkpoint of the run", path.display(), "start the run anew, without --resume"))?;
    let values = values_of(&arrays, &path, net)?;
    fill(net, values, &path)?;
    Ok(progress)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Shape;
    use crate::random::Random;
    use candle_core::Device;

    fn net(seed: u64, hidden: usize) -> Net {
        let shape = Shape::MultiLayer { hidden, layers: 1, relu_out: true };
        Net::new(shape, 3, &mut Random::new(seed), &Device::Cpu).expect("a net")
    }

    fn weights(net: &Net) -> Vec<f32> {
        net.weights.values().flat_map(|v| v.flatten_all().and_then(|t| t.to_vec1::<f32>()).expect("values")).collect()
    }

    fn progress(epoch: u32) -> Progress {
        let stopping = Stopping::new(Some(3));
        // A loss that a JSON reader without exact floats reads one bit off.
        let best = (epoch, 0.473_122_528_400_078_85);
        Progress { node: "train.mlp".into(), epoch, lr: 1e-3, optimizer: "sgd".into(), stopping, best, random: Random::new(1).state() }
    }

    #[test]
    fn a_checkpoint_comes_back_to_the_last_bit() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(dir.path().join("checkpoints")).expect("a folder");
        write(dir.path(), &net(1, 4), &progress(7)).expect("writes");
        let mut other = net(2, 4);
        let read = read(dir.path(), "train.mlp", 7, &mut other).expect("reads");
        assert_eq!(weights(&other), weights(&net(1, 4)));
        assert_eq!(read.best.1.to_bits(), progress(7).best.1.to_bits());
    }

    #[test]
    fn what_is_no_checkpoint_of_the_run_leaves_the_net_as_it_was() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(dir.path().join("checkpoints")).expect("a folder");
        write(dir.path(), &net(1, 5), &progress(1)).expect("writes");
        std::fs::write(path(dir.path(), 2), "cut").expect("writes");
        let mut other = net(2, 4);
        assert!(newest(dir.path(), "train.mlp", 9, &mut other).is_none());
        assert!(read(dir.path(), "train.mlp", 1, &mut other).unwrap_err().what.contains("not F32"));
        assert!(read(dir.path(), "train.slp", 1, &mut net(1, 5)).unwrap_err().what.contains("no checkpoint of the run"));
        assert_eq!(weights(&other), weights(&net(2, 4)));
    }
}
