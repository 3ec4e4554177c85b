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

/// Fills `net` from a file that must have exactly its tensors.
pub fn read_net(path: &Path, net: &mut Net) -> Result<Arrays> {
    let arrays = Arrays::read(path)?;
    let wanted: Vec<(String, Vec<usize>)> = net.state().into_iter().map(|(name, t)| (name.to_owned(), t.dims().to_vec())).collect();
    // PyTorch counts batches in an i64 that nothing here reads.
    let extra = arrays.names()?.into_iter().find(|name| !name.ends_with("num_batches_tracked") && wanted.iter().all(|(w, _)| w != name));
    let refuse = |what: String| Failure::input(what, path.display(), "give weights of this net: the same layers, units and features");
    if let Some(extra) = extra {
        return Err(refuse(format!("has `{extra}`, which this net has not")));
    }
    for (name, shape) in wanted {
        let shape: Vec<Option<usize>> = shape.into_iter().map(Some).collect();
        let (_, values) = arrays.f32(&name, &shape).map_err(|f| refuse(f.what))?;
        if values.iter().any(|v| !v.is_finite()) {
            return Err(refuse(format!("`{name}` has values that are no finite numbers")));
        }
        net.set(&name, values).map_err(|e| refuse(e.to_string()))?;
    }
    Ok(arrays)
}

/// The newest epoch whose checkpoint is whole, with the net filled from it; `None` where a run
/// of `node` has to start anew.
pub fn newest(folder: &Path, node: &str, net: &mut Net) -> Option<Progress> {
    let names = std::fs::read_dir(folder.join("checkpoints")).ok()?;
    let epoch = |name: &str| name.strip_prefix("epoch-")?.strip_suffix(".safetensors")?.parse().ok();
    let mut epochs: Vec<u32> = names.flatten().filter_map(|f| epoch(f.file_name().to_str()?)).collect();
    epochs.sort_unstable();
    let progress = epochs.into_iter().rev().find_map(|epoch| read(folder, epoch, net).ok());
    progress.filter(|p| p.node == node)
}

/// Fills `net` from an epoch's checkpoint and returns what else was in it.
pub fn read(folder: &Path, epoch: u32, net: &mut Net) -> Result<Progress> {
    let path = path(folder, epoch);
    let note = read_net(&path, net)?.note()?;
    let progress = note.as_deref().and_then(|note| serde_json::from_str(note).ok());
    progress.ok_or_else(|| Failure::input("this is no checkpoint", path.display(), "start the run anew, without --resume"))
}
