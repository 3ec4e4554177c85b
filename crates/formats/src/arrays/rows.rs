//! Files whose matrix is written row by row, so that it may be larger than memory.

use std::fs::File;
use std::io::{BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

use failure::{Failure, Result};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use super::Array;

/// Writes a file like that of [`super::write()`], but one matrix row by row, so that it may be larger than
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

    /// Ends the file without its rows, which are to be written with [`RowsAt`], and returns
    /// where the matrix begins in it.
    pub fn reserve(mut self) -> Result<u64> {
        let fail = |e: std::io::Error| Failure::io("write", &self.path, &e);
        self.file.flush().map_err(fail)?;
        let start = self.file.stream_position().map_err(fail)?;
        let bytes = (self.missing * size_of::<f32>()) as u64;
        self.file.get_ref().set_len(start + bytes).map_err(fail)?;
        Ok(start)
    }

    fn wrong(&self, what: &str) -> Failure {
        Failure::failed(
            format_args!("{what} rows than were announced"),
            self.path.display(),
            "this is a bug; please report it",
        )
    }
}

/// Writes values into a file that [`RowWriter::reserve`] left, from the byte `start` on. Several
/// processes may write different places of a file at once.
pub struct RowsAt {
    file: BufWriter<File>,
    path: PathBuf,
}

impl RowsAt {
    /// Opens the file at `path`, which must exist.
    pub fn open(path: &Path, start: u64) -> Result<Self> {
        let fail = |e: std::io::Error| Failure::io("write", path, &e);
        let mut file = File::options().write(true).open(path).map_err(fail)?;
        file.seek(std::io::SeekFrom::Start(start)).map_err(fail)?;
        Ok(Self { file: BufWriter::with_capacity(1 << 20, file), path: path.to_owned() })
    }

    /// Writes the next rows.
    pub fn push(&mut self, values: &[f32]) -> Result<()> {
        self.file
            .write_all(bytemuck::cast_slice(values))
            .map_err(|e| Failure::io("write", &self.path, &e))
    }

    /// Syncs what was written to the disk.
    pub fn finish(mut self) -> Result<()> {
        self.file
            .flush()
            .and_then(|()| self.file.get_ref().sync_data())
            .map_err(|e| Failure::io("write", &self.path, &e))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Arrays;
    use crate::arrays::write;

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
        let start = RowWriter::create(&two, &vectors(), "X", [1000, 300])
            .and_then(RowWriter::reserve)
            .expect("reserves");
        for rows in [700..1000, 0..400, 300..700] {
            let at = start + 1200 * rows.start as u64;
            let mut writer = RowsAt::open(&two, at).expect("opens");
            writer.push(&x[300 * rows.start..300 * rows.end]).expect("writes");
            writer.finish().expect("ends");
        }
        assert_eq!(std::fs::read(&one).expect("reads"), std::fs::read(&two).expect("reads"));
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
}
