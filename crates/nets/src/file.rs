//! Tensors as safetensors files, by name.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;

use candle_core::Tensor;
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
    let mut values = Vec::new();
    for (name, tensor) in tensors {
        let flat = tensor.flatten_all().and_then(|t| t.to_vec1::<f32>());
        let flat = flat.map_err(|e| {
            Failure::failed(
                format_args!("cannot read `{name}` back: {e}"),
                path.display(),
                "use --device cpu",
            )
        })?;
        values.push((name.as_str(), tensor.dims().to_vec(), flat));
    }
    let arrays = values.iter().map(|(name, shape, flat)| (*name, Array::f32(shape, flat)));
    arrays::to_bytes(arrays, note, path)
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
