//! Tensors as safetensors files, by name.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::{Deref, Range};
use std::path::Path;

use candle_core::{CpuStorage, Storage, Tensor};
use failure::{Failure, Result};
use formats::Arrays;
use formats::arrays::{self, Array};

use crate::Net;

/// Values by name.
pub type NamedValues = BTreeMap<String, Vec<f32>>;

/// Writes the tensors, and a `note` in the file's metadata.
pub fn write(path: &Path, tensors: &BTreeMap<String, Tensor>, note: Option<&str>) -> Result<()> {
    let bytes = to_bytes(tensors, note, path)?;
    std::fs::write(path, bytes).map_err(|e| Failure::io("write", path, &e))
}

/// The bytes of such a file; `path` is for errors.
pub fn to_bytes(
    tensors: &BTreeMap<String, Tensor>,
    note: Option<&str>,
    path: &Path,
) -> Result<Vec<u8>> {
    let mut held = Vec::new();
    for (name, tensor) in tensors {
        let values = Held::of(tensor).map_err(|e| {
            Failure::failed(
                format_args!("cannot read `{name}` back: {e}"),
                path.display(),
                "use --device cpu",
            )
        })?;
        held.push((name.as_str(), tensor.dims(), values));
    }
    let arrays = held.iter().map(|(name, shape, held)| (*name, Array::f32(shape, held.values())));
    arrays::to_bytes(arrays, note, path)
}

/// The values of a tensor: in its own memory if that is the CPU's, since embeddings can be large.
enum Held<'t> {
    InPlace(Box<dyn Deref<Target = Storage> + 't>, Range<usize>),
    Copied(Vec<f32>),
}

impl<'t> Held<'t> {
    fn of(tensor: &'t Tensor) -> candle_core::Result<Self> {
        let (storage, layout) = tensor.storage_and_layout();
        if let (Storage::Cpu(CpuStorage::F32(_)), Some((start, end))) =
            (&*storage, layout.contiguous_offsets())
        {
            return Ok(Self::InPlace(Box::new(storage), start..end));
        }
        drop(storage);
        tensor.flatten_all()?.to_vec1().map(Self::Copied)
    }

    fn values(&self) -> &[f32] {
        match self {
            Self::InPlace(storage, range) => match &***storage {
                Storage::Cpu(CpuStorage::F32(values)) => {
                    values.get(range.clone()).unwrap_or_default()
                }
                _ => &[],
            },
            Self::Copied(values) => values,
        }
    }
}

/// Reads the tensors, which must have exactly the `wanted` names and shapes and be finite.
pub fn read(
    arrays: &Arrays,
    path: &Path,
    wanted: &BTreeMap<String, Vec<usize>>,
) -> Result<NamedValues> {
    // PyTorch counts batches in an i64 that nothing here reads.
    let extra = arrays
        .names()?
        .into_iter()
        .find(|name| !name.ends_with("num_batches_tracked") && !wanted.contains_key(name));
    if let Some(extra) = extra {
        return Err(refuse(format_args!("`{extra}` is not a tensor of this net"), path));
    }
    let one = |(name, shape): (&String, &Vec<usize>)| {
        let shape: Vec<Option<usize>> = shape.iter().copied().map(Some).collect();
        let (_, values) = arrays.f32(name, &shape).map_err(|f| refuse(f.what, path))?;
        if values.iter().any(|v| !v.is_finite()) {
            return Err(refuse(format_args!("`{name}` has values that are not finite"), path));
        }
        Ok((name.clone(), values))
    };
    wanted.iter().map(one).collect()
}

/// The names and shapes of tensors.
pub fn shapes(tensors: &BTreeMap<String, Tensor>) -> BTreeMap<String, Vec<usize>> {
    tensors.iter().map(|(name, tensor)| (name.clone(), tensor.dims().to_vec())).collect()
}

/// Sets the values of a net's tensors.
pub fn fill(net: &mut Net, values: NamedValues, path: &Path) -> Result<()> {
    values
        .into_iter()
        .try_for_each(|(name, values)| net.set(&name, values).map_err(|e| refuse(e, path)))
}

/// Fills `net` from a file that must have exactly its tensors; otherwise leaves it as it was.
pub fn read_net(path: &Path, net: &mut Net) -> Result<()> {
    let values = read(&Arrays::read(path)?, path, &shapes(&net.state()))?;
    fill(net, values, path)
}

fn refuse(what: impl Display, path: &Path) -> Failure {
    Failure::input(
        what,
        path.display(),
        "give weights of this net: the same layers, units and features",
    )
}
