//! Arrays as safetensors files.
//!
//! Files are written without metadata or with one key, since safetensors writes several keys
//! in random order (safetensors issue 584).

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufWriter, Seek, Write};
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};

use failure::{Failure, Result};
use memmap2::Mmap;
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensors, View};

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

/// Writes a file like that of [`write()`], but one matrix row by row, so that it may be larger than
/// memory.
pub struct RowWriter {
    file: BufWriter<File>,
    path: PathBuf,
    /// How many values are still to be written.
    missing: usize,
}

impl RowWriter {
    /// Creates a file at `path` with the vectors `before` and the f32 matrix `name` of `rows` ×
    /// `columns`, which must be the last in safetensors' order: wider types first, then by name.
    pub fn create(
        path: &Path,
        before: &[(&str, Array<'_>)],
        name: &str,
        [rows, columns]: [usize; 2],
    ) -> Result<Self> {
        let fail = |e: std::io::Error| Failure::io("write", path, &e);
        let bug = |e: &dyn std::fmt::Display| {
            Failure::failed(e, path.display(), "this is a bug; please report it")
        };
        let mut end = 0;
        let mut place = |dtype: Dtype, shape: Vec<usize>, length: usize| {
            let data_offsets = (end, end + length);
            end += length;
            TensorInfo { dtype, shape, data_offsets }
        };
        let mut all: Vec<(String, TensorInfo)> = before
            .iter()
            .map(|(name, a)| ((*name).to_owned(), place(a.dtype, a.shape.clone(), a.data.len())))
            .collect();
        all.push((
            name.to_owned(),
            place(Dtype::F32, vec![rows, columns], rows * columns * size_of::<f32>()),
        ));
        let metadata = Metadata::new(None, all).map_err(|e| bug(&e))?;
        let mut header = serde_json::to_vec(&metadata).map_err(|e| bug(&e))?;
        header.resize(header.len().next_multiple_of(8), b' ');
        let mut file = BufWriter::with_capacity(1 << 20, File::create(path).map_err(fail)?);
        file.write_all(&(header.len() as u64).to_le_bytes())
            .and_then(|()| file.write_all(&header))
            .map_err(fail)?;
        before.iter().try_for_each(|(_, array)| file.write_all(array.data)).map_err(fail)?;
        Ok(Self { file, path: path.to_owned(), missing: rows * columns })
    }

    /// Writes the next rows.
    pub fn push(&mut self, values: &[f32]) -> Result<()> {
        let Some(missing) = self.missing.checked_sub(values.len()) else {
            return Err(self.wrong("more"));
        };
        self.missing = missing;
        self.file
            .write_all(bytemuck::cast_slice(values))
            .map_err(|e| Failure::io("write", &self.path, &e))
    }

    /// Ends the file, to which every row must have been written.
    pub fn finish(mut self) -> Result<()> {
        if self.missing > 0 {
            return Err(self.wrong("fewer"));
        }
        self.file.flush().map_err(|e| Failure::io("write", &self.path, &e))
    }

    fn wrong(&self, what: &str) -> Failure {
        Failure::failed(
            format_args!("{what} rows than were announced"),
            self.path.display(),
            "this is a bug; please report it",
        )
    }
}

/// Writes a matrix whose number of rows is known only at its end, row by row.
pub struct MatrixWriter {
    file: BufWriter<File>,
    path: PathBuf,
    name: String,
    values: usize,
}

/// Bytes of the header of such a file, which are left free until the end.
const HEADER: usize = 248;

impl MatrixWriter {
    /// Creates a file at `path` for the f32 matrix `name`.
    pub fn create(path: &Path, name: &str) -> Result<Self> {
        let fail = |e: std::io::Error| Failure::io("write", path, &e);
        let mut file = BufWriter::with_capacity(1 << 20, File::create(path).map_err(fail)?);
        file.write_all(&[b' '; size_of::<u64>() + HEADER]).map_err(fail)?;
        Ok(Self { file, path: path.to_owned(), name: name.to_owned(), values: 0 })
    }

    /// Writes rows.
    pub fn push(&mut self, values: &[f32]) -> Result<()> {
        self.values += values.len();
        self.file
            .write_all(bytemuck::cast_slice(values))
            .map_err(|e| Failure::io("write", &self.path, &e))
    }

    /// Ends the file, whose rows have so many columns.
    pub fn finish(mut self, columns: usize) -> Result<()> {
        let fail = |e: std::io::Error| Failure::io("write", &self.path, &e);
        let shape = vec![self.values / columns.max(1), columns];
        let data_offsets = (0, self.values * size_of::<f32>());
        let info = TensorInfo { dtype: Dtype::F32, shape, data_offsets };
        let bug = |e: &dyn std::fmt::Display| {
            Failure::failed(e, self.path.display(), "this is a bug; please report it")
        };
        let metadata = Metadata::new(None, vec![(self.name.clone(), info)]).map_err(|e| bug(&e))?;
        let mut header = serde_json::to_vec(&metadata).map_err(|e| bug(&e))?;
        if header.len() > HEADER {
            return Err(bug(&"the header is too long"));
        }
        header.resize(HEADER, b' ');
        self.file.rewind().map_err(fail)?;
        self.file.write_all(&(HEADER as u64).to_le_bytes()).map_err(fail)?;
        self.file.write_all(&header).and_then(|()| self.file.flush()).map_err(fail)
    }
}

/// A matrix of another program's file, whose numbers may be narrower than f32.
pub struct Matrix<'a> {
    dtype: Dtype,
    columns: usize,
    bytes: &'a [u8],
}

impl Matrix<'_> {
    /// Numbers in a row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Puts a row's numbers into `row`; `false` if there is no such row.
    pub fn row(&self, at: usize, row: &mut Vec<f32>) -> bool {
        row.clear();
        let length = self.columns * self.dtype.bitsize() / 8;
        let bytes = at
            .checked_mul(length)
            .and_then(|start| self.bytes.get(start..start.checked_add(length)?));
        bytes.is_some_and(|bytes| numbers(self.dtype, bytes, row))
    }
}

/// Adds numbers of this type to `to`; `false` if the type is not supported.
#[expect(clippy::cast_possible_truncation, reason = "vectors are f32")]
fn numbers(dtype: Dtype, bytes: &[u8], to: &mut Vec<f32>) -> bool {
    match dtype {
        Dtype::F32 => to.extend(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b))),
        Dtype::F64 => to.extend(bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32)),
        Dtype::F16 => {
            to.extend(bytes.as_chunks().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()));
        }
        Dtype::BF16 => {
            to.extend(bytes.as_chunks().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f32()));
        }
        Dtype::I8 => to.extend(bytes.iter().map(|b| f32::from(b.cast_signed()))),
        _ => return false,
    }
    true
}

/// A safetensors file with a valid header.
pub struct Arrays {
    path: PathBuf,
    bytes: Bytes,
}

enum Bytes {
    Read(Vec<u8>),
    Mapped(Mmap),
}

impl Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Self::Read(bytes) => bytes,
            Self::Mapped(bytes) => bytes,
        }
    }
}

impl Bytes {
    fn map(path: &Path) -> std::io::Result<Self> {
        let file = File::open(path)?;
        if file.metadata()?.len() == 0 {
            return Ok(Self::Read(Vec::new()));
        }
        // SAFETY: a map is as good as memory while nobody changes the file. Artifacts are renamed
        // into their place when they are whole, and are never written to again. Truncating one
        // under a running stage ends that stage by a signal.
        unsafe { Mmap::map(&file) }.map(Self::Mapped)
    }
}

/// The values of an f32 array, in memory or in a mapped file.
pub struct Values(ValuesPlace);

enum ValuesPlace {
    InFile(Arrays, Range<usize>),
    Held(Vec<f32>),
}

impl From<Vec<f32>> for Values {
    fn from(values: Vec<f32>) -> Self {
        Self(ValuesPlace::Held(values))
    }
}

impl Deref for Values {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        match &self.0 {
            ValuesPlace::Held(values) => values,
            // `into_f32` has checked that the range exists and is aligned.
            ValuesPlace::InFile(arrays, place) => {
                arrays.bytes.get(place.clone()).map_or(&[], bytemuck::cast_slice)
            }
        }
    }
}

impl Arrays {
    /// Reads the file at `path`.
    pub fn read(path: &Path) -> Result<Self> {
        Self::of(path, std::fs::read(path).map(Bytes::Read))
    }

    /// Maps the file at `path` into memory. It must be an artifact, since nobody changes a finished
    /// one.
    pub fn map(path: &Path) -> Result<Self> {
        Self::of(path, Bytes::map(path))
    }

    fn of(path: &Path, bytes: std::io::Result<Bytes>) -> Result<Self> {
        let bytes = bytes.map_err(|e| crate::table::missing(path, &e))?;
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
        let (shape, bytes) = self.typed(name, Dtype::F32, shape)?;
        // Another program's file may lack the padding that aligns the values.
        if bytemuck::try_cast_slice::<u8, f32>(&bytes).is_err() {
            return Ok((shape, Values(ValuesPlace::Held(bytemuck::pod_collect_to_vec(&bytes)))));
        }
        let start = bytes.as_ptr() as usize - self.bytes.as_ptr() as usize;
        let place = start..start + bytes.len();
        Ok((shape, Values(ValuesPlace::InFile(self, place))))
    }

    /// The values of the i64 array `name`; every `Some` of `shape` must match.
    pub fn i64(&self, name: &str, shape: &[Option<usize>]) -> Result<Vec<i64>> {
        let (_, bytes) = self.typed(name, Dtype::I64, shape)?;
        Ok(bytemuck::pod_collect_to_vec(&bytes))
    }

    /// The matrix `name` of floating-point numbers of any width, or of bytes.
    pub fn matrix(&self, name: &str) -> Result<Matrix<'_>> {
        let tensors = self.parse()?;
        let view = tensors.tensor(name).map_err(|e| self.wrong(e))?;
        let supported = numbers(view.dtype(), &[], &mut Vec::new());
        match view.shape() {
            [_, columns] if supported => {
                Ok(Matrix { dtype: view.dtype(), columns: *columns, bytes: view.data() })
            }
            shape => Err(self.wrong(format_args!(
                "array `{name}` is {:?} {shape:?}, not a matrix of floating-point numbers",
                view.dtype()
            ))),
        }
    }

    /// The values of the vector `name` of floating-point numbers of any width.
    pub fn numbers(&self, name: &str) -> Result<Vec<f32>> {
        let tensors = self.parse()?;
        let view = tensors.tensor(name).map_err(|e| self.wrong(e))?;
        let mut values = Vec::new();
        if numbers(view.dtype(), view.data(), &mut values) {
            return Ok(values);
        }
        Err(self.wrong(format_args!("array `{name}` is {:?}, not numbers", view.dtype())))
    }

    /// The values of the vector `name` of whole numbers of 32 or 64 bits.
    pub fn integers(&self, name: &str) -> Result<Vec<i64>> {
        let tensors = self.parse()?;
        let view = tensors.tensor(name).map_err(|e| self.wrong(e))?;
        match view.dtype() {
            Dtype::I64 => {
                Ok(view.data().as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect())
            }
            Dtype::I32 => {
                let values = view.data().as_chunks().0.iter().map(|b| i32::from_le_bytes(*b));
                Ok(values.map(i64::from).collect())
            }
            other => {
                Err(self.wrong(format_args!("array `{name}` is {other:?}, not whole numbers")))
            }
        }
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
        assert_eq!(arrays.note().expect("note"), Some("{}".to_owned()));
        assert_eq!(
            arrays.f32("X", &[None, Some(4)]).unwrap_err().what,
            "array `X` is F32 [2, 3], not F32 [n, 4]"
        );
        assert!(arrays.f32("y", &[None]).unwrap_err().what.contains("is I64"));
        assert!(arrays.f32("W", &[None]).unwrap_err().what.contains("it has X, y"));
    }

    #[test]
    fn a_matrix_that_comes_row_by_row_has_the_same_bytes() {
        let dir = tempfile::tempdir().expect("a folder");
        let [one, two] = ["1", "2"].map(|n| dir.path().join(n));
        let x: Vec<f32> = (0..300_000_u32).map(|i| i as f32).collect();
        let ids: Vec<i64> = (0..1000).collect();
        let vectors = || [("id", Array::i64(&ids)), ("y", Array::i64(&ids))];
        write(&one, vectors().into_iter().chain([("X", Array::f32(&[1000, 300], &x))]), None)
            .expect("writes");
        let mut writer = RowWriter::create(&two, &vectors(), "X", [1000, 300]).expect("creates");
        x.chunks(900).try_for_each(|rows| writer.push(rows)).expect("writes");
        assert!(writer.push(&[1.0]).is_err());
        writer.finish().expect("ends");
        assert_eq!(std::fs::read(&one).expect("reads"), std::fs::read(&two).expect("reads"));
        let (shape, values) =
            Arrays::map(&two).expect("maps").into_f32("X", &[None, Some(300)]).expect("X");
        assert_eq!((shape, &values[..]), (vec![1000, 300], &x[..]));
        assert!(
            RowWriter::create(&one, &vectors(), "X", [1, 2]).expect("creates").finish().is_err()
        );
    }

    #[test]
    fn a_matrix_of_unknown_length_comes_back() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("x");
        for rows in [0_u8, 1, 7] {
            let values: Vec<f32> = (0..rows * 3).map(f32::from).collect();
            let mut writer = MatrixWriter::create(&path, "vectors").expect("creates");
            values.chunks(3).try_for_each(|row| writer.push(row)).expect("writes");
            writer.finish(3).expect("ends");
            let (shape, back) = Arrays::map(&path)
                .expect("maps")
                .into_f32("vectors", &[None, Some(3)])
                .expect("vectors");
            assert_eq!((shape, &back[..]), (vec![usize::from(rows), 3], &values[..]));
        }
    }

    #[test]
    fn narrower_numbers_become_f32() {
        // numpy: np.array([1.5, -2, 0.1], t).tobytes() for t in float16, float64; bfloat16 is the
        // upper half of float32
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("x");
        let cases: [(&str, Vec<u8>, [f32; 3]); 3] = [
            ("F16", vec![0x00, 0x3e, 0x00, 0xc0, 0x66, 0x2e], [1.5, -2.0, 0.099_975_586]),
            ("BF16", vec![0xc0, 0x3f, 0x00, 0xc0, 0xcd, 0x3d], [1.5, -2.0, 0.100_097_656]),
            (
                "F64",
                [1.5_f64, -2.0, 0.1].iter().flat_map(|x| x.to_le_bytes()).collect(),
                [1.5, -2.0, 0.1],
            ),
        ];
        for (dtype, data, want) in cases {
            let end = data.len();
            let header =
                format!(r#"{{"E":{{"dtype":"{dtype}","shape":[1,3],"data_offsets":[0,{end}]}}}}"#);
            let bytes =
                [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat();
            std::fs::write(&path, bytes).expect("writes");
            let arrays = Arrays::map(&path).expect("maps");
            let matrix = arrays.matrix("E").expect("a matrix");
            let mut row = Vec::new();
            assert!(matrix.row(0, &mut row) && row == want, "{dtype}: {row:?}");
            assert!(!matrix.row(1, &mut row));
            assert!(arrays.integers("E").unwrap_err().what.contains("not whole numbers"));
        }
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
