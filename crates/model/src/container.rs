//! A model file's tensors, checked against its seal.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytemuck::{AnyBitPattern, NoUninit};
use failure::{Failure, Result};
use formats::arrays::{Bytes, Values};
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

use crate::description::{Description, FORMAT};
use crate::rows::{Precision, RowValues, Rows};
use crate::seal::{Damaged, Seal};

/// The metadata's key.
pub const NOTE: &str = "knockline";
/// The tensor with the digests.
pub const SEAL: &str = "seal";
/// Files up to this size are read and checked at once; of others, each block is checked when it is
/// first used.
const READ_WHOLE: u64 = 1 << 24;

/// A model file.
pub struct Container {
    path: PathBuf,
    bytes: Arc<Bytes>,
    seal: Arc<Seal>,
    tensors: HashMap<String, Tensor>,
}

#[derive(Clone)]
struct Tensor {
    dtype: Dtype,
    shape: Vec<usize>,
    /// Its bytes in the file.
    place: Range<usize>,
}

/// The same bytes with the seal that they should have, so that a fuzzer gets past it.
#[cfg(fuzzing)]
pub fn resealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let place = SafeTensors::read_metadata(&bytes).ok().and_then(|(header, metadata)| {
        let (start, end) = metadata.info(SEAL)?.data_offsets;
        Some(8 + header + start..8 + header + end)
    });
    let Some(place) = place else { return bytes };
    let mut digests = crate::seal::BlockDigests::new();
    digests.push(bytes.get(place.end..).unwrap_or_default());
    let seal = digests.finish(bytes.get(..place.start).unwrap_or_default());
    if let Some(to) = bytes.get_mut(place).filter(|to| to.len() == seal.len()) {
        to.copy_from_slice(&seal);
    }
    bytes
}

/// The part of the description that all versions have.
#[derive(Deserialize)]
struct Version {
    format: u32,
}

impl Container {
    /// Opens a file, and reads its description.
    pub fn open(path: &Path) -> Result<(Self, Description)> {
        let cannot = |e: std::io::Error| {
            let remedy = "give a model file; `cargo xtask model export RUN FILE` makes one";
            Failure::input(format_args!("cannot read the model: {e}"), path.display(), remedy)
        };
        let size = std::fs::metadata(path).map_err(cannot)?.len();
        let is_small = size <= READ_WHOLE;
        let bytes = if is_small { std::fs::read(path).map(Bytes::from) } else { Bytes::map(path) };
        let (container, description) = Self::of(bytes.map_err(cannot)?, path)?;
        if is_small {
            container.check_all()?;
        }
        Ok((container, description))
    }

    /// The same for a file's bytes.
    pub fn of(bytes: Bytes, path: &Path) -> Result<(Self, Description)> {
        let not_a_model = |e: &dyn std::fmt::Display| {
            Failure::input(
                format_args!("not a model of knockline: {e}"),
                path.display(),
                "give a file that `cargo xtask model export` has written, unchanged",
            )
        };
        let (header, metadata) = SafeTensors::read_metadata(&bytes).map_err(|e| not_a_model(&e))?;
        let note = metadata.metadata().as_ref().and_then(|notes| notes.get(NOTE));
        let note = note.ok_or_else(|| not_a_model(&"the metadata has no `knockline`"))?;
        let Version { format } = serde_json::from_str(note).map_err(|e| not_a_model(&e))?;
        if format != FORMAT {
            return Err(Failure::input(
                format_args!("the model has version {format} of the format, not {FORMAT}"),
                path.display(),
                "use the knockline that wrote it, or export the model again",
            ));
        }
        let data = size_of::<u64>() + header;
        let tensors: HashMap<String, Tensor> = metadata
            .tensors()
            .into_iter()
            .map(|(name, info)| {
                let (start, end) = info.data_offsets;
                let place = data + start..data + end;
                (name, Tensor { dtype: info.dtype, shape: info.shape.clone(), place })
            })
            .collect();
        let bytes = Arc::new(bytes);
        let seal = tensors.get(SEAL).filter(|seal| seal.place.start == data);
        let seal = seal.and_then(|seal| Seal::read(&bytes, seal.place.clone()));
        let seal = seal.ok_or_else(|| damaged(path, Damaged(0)))?;
        let description: Description = serde_json::from_str(note).map_err(|e| not_a_model(&e))?;
        let container = Self { path: path.to_owned(), bytes, seal: Arc::new(seal), tensors };
        Ok((container, description))
    }

    /// Checks every byte.
    pub fn check_all(&self) -> Result<()> {
        self.seal.check_all().map_err(|at| self.damaged(at))
    }

    /// The failure that a damaged block is.
    pub fn damaged(&self, at: Damaged) -> Failure {
        damaged(&self.path, at)
    }

    /// The failure that a model which contradicts itself is.
    pub fn wrong(&self, what: impl std::fmt::Display) -> Failure {
        Failure::input(
            what,
            self.path.display(),
            "the file is whole, so this is a bug of the program that wrote it; please report it",
        )
    }

    /// Bytes of the file.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Names, types, shapes and sizes in bytes of all tensors but the seal, in the order of the file.
    pub fn list(&self) -> Vec<(&str, String, &[usize], usize)> {
        let mut all: Vec<(&String, &Tensor)> = self.tensors.iter().collect();
        all.sort_by_key(|(name, tensor)| (tensor.place.start, *name));
        all.into_iter()
            .filter(|(name, _)| *name != SEAL)
            .map(|(name, of)| {
                (name.as_str(), format!("{:?}", of.dtype), &*of.shape, of.place.len())
            })
            .collect()
    }

    fn tensor(&self, name: &str, dtype: Dtype, shape: &[Option<usize>]) -> Result<&Tensor> {
        let Some(tensor) = self.tensors.get(name) else {
            return Err(self.wrong(format_args!("the model has no tensor `{name}`")));
        };
        let fits = tensor.shape.len() == shape.len()
            && tensor.shape.iter().zip(shape).all(|(is, want)| want.is_none_or(|w| w == *is));
        if tensor.dtype == dtype && fits {
            return Ok(tensor);
        }
        Err(self.wrong(format_args!(
            "tensor `{name}` is {:?} {:?}, not {dtype:?} {shape:?}",
            tensor.dtype, tensor.shape
        )))
    }

    fn unchecked<T: AnyBitPattern + NoUninit>(&self, name: &str, of: &Tensor) -> Result<Values<T>> {
        Values::shared(&self.bytes, of.place.clone())
            .ok_or_else(|| self.wrong(format_args!("tensor `{name}` has half a value")))
    }

    fn values<T: AnyBitPattern + NoUninit>(
        &self,
        name: &str,
        dtype: Dtype,
        shape: &[Option<usize>],
    ) -> Result<Values<T>> {
        let tensor = self.tensor(name, dtype, shape)?;
        self.seal.check_range(tensor.place.clone()).map_err(|at| self.damaged(at))?;
        self.unchecked(name, tensor)
    }

    /// An f32 tensor, all of whose numbers are finite.
    pub fn f32(&self, name: &str, shape: &[Option<usize>]) -> Result<Values<f32>> {
        let values: Values<f32> = self.values(name, Dtype::F32, shape)?;
        if values.iter().all(|value| value.is_finite()) {
            return Ok(values);
        }
        Err(self.wrong(format_args!("tensor `{name}` has numbers that are not finite")))
    }

    /// A u32 tensor.
    pub fn u32(&self, name: &str) -> Result<Values<u32>> {
        self.values(name, Dtype::U32, &[None])
    }

    /// A u64 tensor.
    pub fn u64(&self, name: &str) -> Result<Values<u64>> {
        self.values(name, Dtype::U64, &[None])
    }

    /// A tensor of bytes.
    pub fn u8(&self, name: &str) -> Result<Values<u8>> {
        self.values(name, Dtype::U8, &[None])
    }

    /// A u32 tensor with `N` columns.
    pub fn columns<const N: usize>(&self, name: &str) -> Result<Values<[u32; N]>>
    where
        [u32; N]: AnyBitPattern + NoUninit,
    {
        self.values(name, Dtype::U32, &[None, Some(N)])
    }

    /// The table `name`, whose rows are checked when they are used.
    pub fn rows(&self, name: &str, precision: Precision, count: usize) -> Result<Rows> {
        let dtype = match precision {
            Precision::F32 => Dtype::F32,
            Precision::F16 => Dtype::F16,
            Precision::Int8 => Dtype::I8,
        };
        let tensor = self.tensor(name, dtype, &[Some(count), None])?;
        let values = match precision {
            Precision::F32 => RowValues::F32(self.unchecked(name, tensor)?),
            Precision::F16 => RowValues::F16(self.unchecked(name, tensor)?),
            Precision::Int8 => {
                let factors = self.f32(&format!("{name}.scale"), &[Some(count)])?;
                RowValues::Int8(self.unchecked(name, tensor)?, factors)
            }
        };
        let width = tensor.shape.get(1).copied().unwrap_or_default();
        Ok(Rows::new(values, width, tensor.place.start, Arc::clone(&self.seal)))
    }
}

fn damaged(path: &Path, Damaged(at): Damaged) -> Failure {
    Failure::input(
        "the model is damaged: a part of it does not have its digest",
        format_args!("{}, from byte {at}", path.display()),
        "copy it again, or export it again",
    )
}
