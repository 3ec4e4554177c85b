//! Arrays as safetensors files.
//!
//! Files are written without metadata or with one key, since safetensors writes several keys
//! in random order (safetensors issue 584).

mod checked;
mod csr;
mod foreign;
mod rows;
mod sequences;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::marker::PhantomData;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytemuck::{AnyBitPattern, NoUninit};
use failure::{Failure, Result};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors, View};

pub use checked::labels;
pub use csr::{Csr, CsrWriter};
pub use foreign::Matrix;
pub use rows::{MatrixWriter, RowWriter, RowsAt};
pub use sequences::Sequences;

/// An array to write: its type, its shape and its values.
pub struct Array<'a> {
    dtype: Dtype,
    shape: Vec<usize>,
    data: &'a [u8],
}

impl<'a> Array<'a> {
    /// An array of f32, whose shape has as many elements as there are `values`.
    pub fn f32(shape: &[usize], values: &'a [f32]) -> Self {
        Self { dtype: Dtype::F32, shape: shape.to_vec(), data: bytemuck::cast_slice(values) }
    }

    /// A vector of u32.
    pub fn u32(values: &'a [u32]) -> Self {
        Self { dtype: Dtype::U32, shape: vec![values.len()], data: bytemuck::cast_slice(values) }
    }

    /// A vector of i64.
    pub fn i64(values: &'a [i64]) -> Self {
        Self { dtype: Dtype::I64, shape: vec![values.len()], data: bytemuck::cast_slice(values) }
    }
}

impl View for Array<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        self.data.into()
    }
    fn data_len(&self) -> usize {
        self.data.len()
    }
}

/// Writes the named arrays to `path`, and `note` as the metadata's one key `knockline`.
pub fn write<'a>(
    path: &Path,
    arrays: impl IntoIterator<Item = (&'a str, Array<'a>)>,
    note: Option<&str>,
) -> Result<()> {
    // Not with `serialize_to_file`: if it is killed, it leaves a temporary file beside `path`, and
    // a run that resumes in the same folder would publish that file.
    let bytes = to_bytes(arrays, note, path)?;
    std::fs::write(path, bytes).map_err(|e| Failure::io("write", path, &e))
}

/// The bytes of such a file; `path` is for errors.
pub fn to_bytes<'a>(
    arrays: impl IntoIterator<Item = (&'a str, Array<'a>)>,
    note: Option<&str>,
    path: &Path,
) -> Result<Vec<u8>> {
    let metadata = note.map(|note| HashMap::from([(NOTE.to_owned(), note.to_owned())]));
    let bytes = safetensors::serialize(arrays, metadata);
    bytes.map_err(|e| Failure::failed(e, path.display(), "this is a bug; please report it"))
}

const NOTE: &str = "knockline";

/// A safetensors file with a valid header.
pub struct Arrays {
    path: PathBuf,
    bytes: Bytes,
}

/// The bytes of a file.
pub struct Bytes(BytesPlace);

enum BytesPlace {
    Read(Vec<u8>),
    Mapped(Mmap),
}

impl Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match &self.0 {
            BytesPlace::Read(bytes) => bytes,
            BytesPlace::Mapped(bytes) => bytes,
        }
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(BytesPlace::Read(bytes))
    }
}

impl Bytes {
    /// Maps a file into memory. Nobody may change it meanwhile; it may be renamed or removed.
    pub fn map(path: &Path) -> std::io::Result<Self> {
        let file = File::open(path)?;
        if file.metadata()?.len() == 0 {
            return Ok(Vec::new().into());
        }
        // SAFETY: a map is as good as memory while nobody changes the file. Artifacts are renamed
        // into their place when they are whole, and are never written to again. Truncating one
        // under a running stage ends that stage by a signal.
        unsafe { Mmap::map(&file) }.map(BytesPlace::Mapped).map(Self)
    }
}

/// The values of an array, in memory or in a mapped file.
pub struct Values<T = f32>(ValuesPlace<T>);

enum ValuesPlace<T> {
    InFile(Arrays, Range<usize>, PhantomData<T>),
    Shared(Arc<Bytes>, Range<usize>, PhantomData<T>),
    Held(Vec<T>),
}

impl<T> From<Vec<T>> for Values<T> {
    fn from(values: Vec<T>) -> Self {
        Self(ValuesPlace::Held(values))
    }
}

impl<T: AnyBitPattern + NoUninit> Deref for Values<T> {
    type Target = [T];
    #[inline]
    fn deref(&self) -> &[T] {
        match &self.0 {
            ValuesPlace::Held(values) => values,
            // `into_values` has checked that the range exists and is aligned.
            ValuesPlace::InFile(arrays, place, _) => {
                arrays.bytes.get(place.clone()).map_or(&[], bytemuck::cast_slice)
            }
            // `shared` has checked the same.
            ValuesPlace::Shared(bytes, place, _) => {
                bytes.get(place.clone()).map_or(&[], bytemuck::cast_slice)
            }
        }
    }
}

impl<T: AnyBitPattern + NoUninit> Values<T> {
    /// The values in a range of a file's bytes, without a copy if they are aligned. `None` if there
    /// is no such range, or if it does not hold a whole number of values.
    pub fn shared(bytes: &Arc<Bytes>, place: Range<usize>) -> Option<Self> {
        let part = bytes.get(place.clone())?;
        if !part.len().is_multiple_of(size_of::<T>().max(1)) {
            return None;
        }
        Some(match bytemuck::try_cast_slice::<u8, T>(part) {
            Ok(_) => Self(ValuesPlace::Shared(Arc::clone(bytes), place, PhantomData)),
            Err(_) => bytemuck::pod_collect_to_vec(part).into(),
        })
    }
}

impl Arrays {
    /// Reads the file at `path`.
    pub fn read(path: &Path) -> Result<Self> {
        Self::of(path, std::fs::read(path).map(Bytes::from))
    }

    /// Maps the file at `path` into memory. It must be an artifact, since nobody changes a finished
    /// one.
    pub fn map(path: &Path) -> Result<Self> {
        Self::of(path, Bytes::map(path))
    }

    fn of(path: &Path, bytes: std::io::Result<Bytes>) -> Result<Self> {
        let bytes = bytes.map_err(|e| crate::missing(path, &e))?;
        let arrays = Self { path: path.to_owned(), bytes };
        arrays.parse()?;
        Ok(arrays)
    }

    fn parse(&self) -> Result<SafeTensors<'_>> {
        SafeTensors::deserialize(&self.bytes)
            .map_err(|e| self.wrong(format_args!("not a safetensors file: {e}")))
    }

    fn wrong(&self, what: impl std::fmt::Display) -> Failure {
        Failure::artifact(what, &self.path)
    }

    /// The names of the arrays, sorted.
    pub fn names(&self) -> Result<Vec<String>> {
        let mut names: Vec<String> = self.parse()?.names().into_iter().map(str::to_owned).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// The shapes of the arrays by name.
    pub fn shapes(&self) -> Result<BTreeMap<String, Vec<usize>>> {
        Ok(self
            .parse()?
            .iter()
            .map(|(name, view)| (name.to_owned(), view.shape().to_vec()))
            .collect())
    }

    /// The note that was given to [`write()`].
    pub fn note(&self) -> Result<Option<String>> {
        let (_, header) = SafeTensors::read_metadata(&self.bytes).map_err(|e| self.wrong(e))?;
        Ok(header.metadata().as_ref().and_then(|m| m.get(NOTE)).cloned())
    }

    /// The shape and values of the f32 array `name`; every `Some` of `shape` must match.
    pub fn f32(&self, name: &str, shape: &[Option<usize>]) -> Result<(Vec<usize>, Vec<f32>)> {
        let (shape, bytes) = self.typed(name, Dtype::F32, shape)?;
        Ok((shape, bytemuck::pod_collect_to_vec(&bytes)))
    }

    /// The shape and values of the f32 array `name`, without a copy if they are aligned; every
    /// `Some` of `shape` must match.
    pub fn into_f32(self, name: &str, shape: &[Option<usize>]) -> Result<(Vec<usize>, Values)> {
        self.into_values(name, Dtype::F32, shape)
    }

    /// The same for a u32 array.
    pub fn into_u32(
        self,
        name: &str,
        shape: &[Option<usize>],
    ) -> Result<(Vec<usize>, Values<u32>)> {
        self.into_values(name, Dtype::U32, shape)
    }

    fn into_values<T: AnyBitPattern + NoUninit>(
        self,
        name: &str,
        dtype: Dtype,
        shape: &[Option<usize>],
    ) -> Result<(Vec<usize>, Values<T>)> {
        let (shape, bytes) = self.typed(name, dtype, shape)?;
        // Another program's file may lack the padding that aligns the values.
        if bytemuck::try_cast_slice::<u8, T>(&bytes).is_err() {
            return Ok((shape, Values(ValuesPlace::Held(bytemuck::pod_collect_to_vec(&bytes)))));
        }
        let start = bytes.as_ptr() as usize - self.bytes.as_ptr() as usize;
        let place = start..start + bytes.len();
        Ok((shape, Values(ValuesPlace::InFile(self, place, PhantomData))))
    }

    /// The values of the i64 array `name`; every `Some` of `shape` must match.
    pub fn i64(&self, name: &str, shape: &[Option<usize>]) -> Result<Vec<i64>> {
        let (_, bytes) = self.typed(name, Dtype::I64, shape)?;
        Ok(bytemuck::pod_collect_to_vec(&bytes))
    }

    /// Some values of the i64 array `name`, which has `length` of them. A mapped file is read only there.
    pub fn i64_in(&self, name: &str, length: usize, range: Range<usize>) -> Result<Vec<i64>> {
        let (_, bytes) = self.typed(name, Dtype::I64, &[Some(length)])?;
        let (start, end) = (range.start * size_of::<i64>(), range.end * size_of::<i64>());
        Ok(bytemuck::pod_collect_to_vec(bytes.get(start..end).unwrap_or_default()))
    }

    /// The length of the vector or the rows of the matrix `name`.
    pub fn length(&self, name: &str) -> Result<usize> {
        let tensors = self.parse()?;
        let length = tensors.tensor(name).ok().and_then(|view| view.shape().first().copied());
        length.ok_or_else(|| self.wrong(format_args!("the file has no rows of an array `{name}`")))
    }

    fn typed(
        &self,
        name: &str,
        dtype: Dtype,
        shape: &[Option<usize>],
    ) -> Result<(Vec<usize>, Cow<'_, [u8]>)> {
        let tensors = self.parse()?;
        let Ok(view) = tensors.tensor(name) else {
            return Err(self.wrong(format_args!(
                "the file has no array `{name}`; it has {}",
                self.names()?.join(", ")
            )));
        };
        let fits = view.shape().len() == shape.len()
            && view.shape().iter().zip(shape).all(|(is, want)| want.is_none_or(|want| want == *is));
        if view.dtype() != dtype || !fits {
            let want: Vec<String> =
                shape.iter().map(|d| d.map_or_else(|| "n".to_owned(), |d| d.to_string())).collect();
            return Err(self.wrong(format_args!(
                "array `{name}` is {:?} {:?}, not {dtype:?} [{}]",
                view.dtype(),
                view.shape(),
                want.join(", ")
            )));
        }
        Ok((view.shape().to_vec(), Cow::Borrowed(view.data())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_come_back_and_wrong_ones_are_named() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("x.safetensors");
        let x = [1.0_f32, -2.5, 3.0, 0.0, 5.0, 6.0];
        write(&path, [("X", Array::f32(&[2, 3], &x)), ("y", Array::i64(&[3, 1]))], Some("{}"))
            .expect("writes");
        let arrays = Arrays::read(&path).expect("reads");
        assert_eq!(arrays.f32("X", &[None, Some(3)]).expect("X"), (vec![2, 3], x.to_vec()));
        assert_eq!(arrays.i64("y", &[Some(2)]).expect("y"), [3, 1]);
        assert_eq!(arrays.i64_in("y", 2, 1..2).expect("y"), [1]);
        assert_eq!((arrays.length("X").expect("X"), arrays.length("y").expect("y")), (2, 2));
        assert!(arrays.length("W").is_err());
        assert_eq!(arrays.note().expect("note"), Some("{}".to_owned()));
        assert_eq!(
            arrays.f32("X", &[None, Some(4)]).unwrap_err().what,
            "array `X` is F32 [2, 3], not F32 [n, 4]"
        );
        assert!(arrays.f32("y", &[None]).unwrap_err().what.contains("is I64"));
        assert!(arrays.f32("W", &[None]).unwrap_err().what.contains("it has X, y"));
    }

    #[test]
    fn values_that_are_not_aligned_come_back_too() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("x");
        for padding in 0..4 {
            let header = format!(
                r#"{{"X":{{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}}}{}"#,
                " ".repeat(padding)
            );
            let bytes = [
                &(header.len() as u64).to_le_bytes()[..],
                header.as_bytes(),
                bytemuck::cast_slice(&[1.5_f32, -2.0]),
            ]
            .concat();
            std::fs::write(&path, bytes).expect("writes");
            assert_eq!(
                Arrays::map(&path).expect("maps").into_f32("X", &[None]).expect("X").1[..],
                [1.5, -2.0]
            );
        }
    }

    #[test]
    fn a_lying_header_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("x.safetensors");
        let header = br#"{"X":{"dtype":"F32","shape":[1000],"data_offsets":[0,4000]}}"#;
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header, &[0; 8]].concat();
        std::fs::write(&path, bytes).expect("writes");
        for bytes in [&std::fs::read(&path).expect("reads")[..], b"", b"x"] {
            std::fs::write(&path, bytes).expect("writes");
            for open in [Arrays::read, Arrays::map] {
                assert!(
                    open(&path).err().expect("refused").what.contains("not a safetensors file")
                );
            }
        }
    }
}
