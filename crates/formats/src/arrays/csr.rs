//! Sparse matrices in compressed sparse rows, with scipy's names: the columns and values of row `i`
//! are `indices` and `values` from `indptr[i]` to `indptr[i + 1]`.

use std::fs::File;
use std::io::{BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

use failure::{Failure, Result};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use super::checked::{labels, starts};
use super::{Arrays, Values};

/// A sparse matrix with a label and an id for each row. Its columns and values stay in the mapped
/// file.
pub struct Csr {
    /// How many columns there are.
    pub columns: usize,
    /// The label of each row.
    pub labels: Vec<u32>,
    /// The id of each row.
    pub ids: Vec<i64>,
    starts: Vec<usize>,
    indices: Values<u32>,
    values: Values,
}

impl Csr {
    /// A matrix in memory. The rows are lists of columns and values.
    pub fn of(columns: usize, rows: &[Vec<(u32, f32)>], labels: Vec<u32>) -> Self {
        let mut starts = vec![0];
        let mut end = 0;
        starts.extend(rows.iter().map(|row| {
            end += row.len();
            end
        }));
        let indices: Vec<u32> = rows.iter().flatten().map(|entry| entry.0).collect();
        let values: Vec<f32> = rows.iter().flatten().map(|entry| entry.1).collect();
        let ids = (0..).take(rows.len()).collect();
        Self { columns, labels, ids, starts, indices: indices.into(), values: values.into() }
    }

    /// Maps the file at `path`, whose labels must be below `classes`.
    pub fn map(path: &Path, classes: usize) -> Result<Self> {
        let wrong = |what: String| Failure::artifact(what, path);
        let arrays = Arrays::map(path)?;
        let shape = arrays.i64("shape", &[Some(2)])?;
        let size = |at: usize| shape.get(at).and_then(|&n| usize::try_from(n).ok());
        let is_small = |columns: &usize| u32::try_from(*columns).is_ok();
        let (Some(rows), Some(columns)) = (size(0), size(1).filter(is_small)) else {
            return Err(wrong(format!("`shape` is {shape:?}")));
        };
        let indptr = arrays.i64("indptr", &[rows.checked_add(1)])?;
        let ids = arrays.i64("id", &[Some(rows)])?;
        let y = arrays.i64("y", &[Some(rows)])?;
        let (_, indices) = Arrays::map(path)?.into_u32("indices", &[None])?;
        let (_, values) = arrays.into_f32("values", &[Some(indices.len())])?;
        let starts = starts(&indptr, indices.len())
            .ok_or_else(|| wrong("`indptr` does not go from 0 to the number of values".into()))?;
        if let Some(at) = indices.iter().position(|&index| index as usize >= columns) {
            let index = indices.get(at).copied().unwrap_or_default();
            return Err(wrong(format!("entry {at} is in column {index} of {columns}")));
        }
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            return Err(wrong(format!("entry {at} is not finite")));
        }
        let labels = labels(&y, classes, path)?;
        Ok(Self { columns, labels, ids, starts, indices, values })
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.labels.len()
    }

    /// How many values are stored.
    pub fn entries(&self) -> usize {
        self.indices.len()
    }

    /// The columns and values of a row; none if there is no such row.
    #[inline]
    pub fn row(&self, row: usize) -> (&[u32], &[f32]) {
        let (Some(&start), Some(&end)) = (self.starts.get(row), self.starts.get(row + 1)) else {
            return (&[], &[]);
        };
        (
            self.indices.get(start..end).unwrap_or_default(),
            self.values.get(start..end).unwrap_or_default(),
        )
    }
}

/// Writes such a file row by row, so that it may be larger than memory.
pub struct CsrWriter {
    file: BufWriter<File>,
    /// The columns, until all values are written.
    indices: BufWriter<File>,
    path: PathBuf,
    columns: usize,
    ids: Vec<i64>,
    labels: Vec<i64>,
    starts: Vec<i64>,
}

/// Bytes of the header, which are left free until the end.
const HEADER: usize = 504;

impl CsrWriter {
    /// Creates a file at `path` for rows with these ids and labels.
    pub fn create(path: &Path, ids: Vec<i64>, labels: Vec<i64>, columns: usize) -> Result<Self> {
        let fail = |e: std::io::Error| Failure::io("write", path, &e);
        let mut file = File::create(path).map_err(fail)?;
        let head = size_of::<u64>() + HEADER + size_of::<i64>() * (3 * ids.len() + 1 + 2);
        file.seek(std::io::SeekFrom::Start(head as u64)).map_err(fail)?;
        let folder = path.parent().unwrap_or_else(|| Path::new("."));
        // It has no name, so that nothing is left of it when the run is killed.
        let indices = tempfile::tempfile_in(folder).map_err(fail)?;
        Ok(Self {
            file: BufWriter::with_capacity(1 << 20, file),
            indices: BufWriter::with_capacity(1 << 20, indices),
            path: path.to_owned(),
            columns,
            ids,
            labels,
            starts: vec![0],
        })
    }

    /// Writes the next rows, one after the other; `lengths` says how many entries each has.
    pub fn push(&mut self, lengths: &[usize], indices: &[u32], values: &[f32]) -> Result<()> {
        let mut end = self.starts.last().copied().unwrap_or_default();
        for &length in lengths {
            end += i64::try_from(length).unwrap_or(i64::MAX);
            self.starts.push(end);
        }
        self.file
            .write_all(bytemuck::cast_slice(values))
            .and_then(|()| self.indices.write_all(bytemuck::cast_slice(indices)))
            .map_err(|e| Failure::io("write", &self.path, &e))
    }

    /// Ends the file, to which every row must have been written. Returns the number of entries.
    pub fn finish(self) -> Result<usize> {
        let Self { mut file, indices, path, columns, ids, labels, starts } = self;
        let fail = |e: std::io::Error| Failure::io("write", &path, &e);
        let bug = |e: &dyn std::fmt::Display| {
            Failure::failed(e, path.display(), "this is a bug; please report it")
        };
        let rows = ids.len();
        if starts.len() != rows + 1 || labels.len() != rows {
            return Err(bug(&"another number of rows than was announced"));
        }
        let entries = starts.last().and_then(|&n| usize::try_from(n).ok()).unwrap_or_default();
        let mut indices = indices.into_inner().map_err(|e| fail(e.into_error()))?;
        indices.rewind().map_err(fail)?;
        std::io::copy(&mut indices, &mut file).map_err(fail)?;
        let shape = [rows, columns].map(|n| i64::try_from(n).unwrap_or(i64::MAX));
        let mut end = 0;
        let mut place = |name: &str, dtype, length: usize, bytes: usize| {
            let data_offsets = (end, end + length * bytes);
            end = data_offsets.1;
            (name.to_owned(), TensorInfo { dtype, shape: vec![length], data_offsets })
        };
        // In safetensors' order: wider types first, then by name.
        let all = vec![
            place("id", Dtype::I64, rows, 8),
            place("indptr", Dtype::I64, rows + 1, 8),
            place("shape", Dtype::I64, 2, 8),
            place("y", Dtype::I64, rows, 8),
            place("values", Dtype::F32, entries, 4),
            place("indices", Dtype::U32, entries, 4),
        ];
        let metadata = Metadata::new(None, all).map_err(|e| bug(&e))?;
        let mut header = serde_json::to_vec(&metadata).map_err(|e| bug(&e))?;
        if header.len() > HEADER {
            return Err(bug(&"the header is too long"));
        }
        header.resize(HEADER, b' ');
        file.rewind().map_err(fail)?;
        let parts: [&[u8]; 6] = [
            &(HEADER as u64).to_le_bytes(),
            &header,
            bytemuck::cast_slice(&ids),
            bytemuck::cast_slice(&starts),
            bytemuck::cast_slice(&shape),
            bytemuck::cast_slice(&labels),
        ];
        parts.iter().try_for_each(|part| file.write_all(part)).map_err(fail)?;
        file.flush().map_err(fail)?;
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arrays::{Array, write};
    use proptest::prelude::*;

    #[test]
    fn a_matrix_comes_back_in_the_order_of_safetensors() {
        let dir = tempfile::tempdir().expect("a folder");
        let [one, two] = ["1", "2"].map(|n| dir.path().join(n));
        let mut writer = CsrWriter::create(&one, vec![7, 8, 9], vec![0, 1, 0], 5).expect("creates");
        writer.push(&[2, 0], &[0, 4], &[0.5, 1.5]).expect("writes");
        writer.push(&[1], &[2], &[2.5]).expect("writes");
        assert_eq!(writer.finish().expect("ends"), 3);
        let matrix = Csr::map(&one, 2).expect("maps");
        assert_eq!((matrix.rows(), matrix.columns, matrix.entries()), (3, 5, 3));
        assert_eq!(matrix.row(0), (&[0, 4][..], &[0.5, 1.5][..]));
        assert_eq!(matrix.row(1), (&[][..], &[][..]));
        assert_eq!(matrix.row(2), (&[2][..], &[2.5][..]));
        assert_eq!(matrix.row(3), (&[][..], &[][..]));
        assert_eq!((&matrix.labels[..], &matrix.ids[..]), (&[0, 1, 0][..], &[7, 8, 9][..]));
        // The order is safetensors'.
        write(
            &two,
            [
                ("indices", Array::u32(&[0, 4, 2])),
                ("values", Array::f32(&[3], &[0.5, 1.5, 2.5])),
                ("indptr", Array::i64(&[0, 2, 2, 3])),
                ("shape", Array::i64(&[3, 5])),
                ("id", Array::i64(&[7, 8, 9])),
                ("y", Array::i64(&[0, 1, 0])),
            ],
            None,
        )
        .expect("writes");
        let tail = |path| {
            let bytes = std::fs::read(path).expect("reads");
            bytes[bytes.len() - 120..].to_vec()
        };
        assert_eq!(tail(&one), tail(&two));
    }

    proptest! {
        #[test]
        fn a_damaged_file_is_refused_or_read(at in 0_usize..700, byte in any::<u8>(), cut in 0_usize..40) {
            let dir = tempfile::tempdir().expect("a folder");
            let path = dir.path().join("x");
            let mut writer = CsrWriter::create(&path, vec![7, 8], vec![0, 1], 5).expect("creates");
            writer.push(&[2, 1], &[0, 4, 2], &[0.5, 1.5, 2.5]).expect("writes");
            writer.finish().expect("ends");
            let mut bytes = std::fs::read(&path).expect("reads");
            if let Some(to) = bytes.get_mut(at) {
                *to = byte;
            }
            bytes.truncate(bytes.len() - cut);
            std::fs::write(&path, bytes).expect("writes");
            if let Ok(matrix) = Csr::map(&path, 2) {
                let columns = (0..matrix.rows()).flat_map(|row| matrix.row(row).0.to_vec());
                prop_assert!(columns.into_iter().all(|column| (column as usize) < matrix.columns));
            }
        }
    }

    #[test]
    fn a_matrix_that_does_not_hold_together_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("x");
        let refusal =
            |shape: [i64; 2], indptr: &[i64], indices: &[u32], values: &[f32], y: &[i64]| {
                write(
                    &path,
                    [
                        ("indices", Array::u32(indices)),
                        ("values", Array::f32(&[values.len()], values)),
                        ("indptr", Array::i64(indptr)),
                        ("shape", Array::i64(&shape)),
                        ("id", Array::i64(&vec![0; y.len()])),
                        ("y", Array::i64(y)),
                    ],
                    None,
                )
                .expect("writes");
                Csr::map(&path, 2).err().map_or_else(String::new, |f| f.what)
            };
        assert_eq!(refusal([2, 3], &[0, 1, 2], &[0, 2], &[1.0, 2.0], &[0, 1]), "");
        let indptr = "`indptr` does not go from 0 to the number of values";
        for wrong in [[0, 2, 1], [1, 1, 2], [0, -1, 2], [0, 1, 3]] {
            assert_eq!(refusal([2, 3], &wrong, &[0, 2], &[1.0, 2.0], &[0, 1]), indptr);
        }
        assert_eq!(
            refusal([2, 3], &[0, 1, 2], &[0, 3], &[1.0, 2.0], &[0, 1]),
            "entry 1 is in column 3 of 3"
        );
        assert_eq!(
            refusal([2, 3], &[0, 1, 2], &[0, 2], &[1.0, f32::NAN], &[0, 1]),
            "entry 1 is not finite"
        );
        assert_eq!(
            refusal([2, 3], &[0, 1, 2], &[0, 2], &[1.0, 2.0], &[0, 2]),
            "label 2 in row 1; labels are 0 to 1"
        );
        assert_eq!(refusal([-1, 3], &[0], &[], &[], &[]), "`shape` is [-1, 3]");
        assert_eq!(refusal([0, 1 << 40], &[0], &[], &[], &[]), "`shape` is [0, 1099511627776]");
        assert!(refusal([i64::MAX, 3], &[0], &[], &[], &[]).contains("`indptr` is I64"));
    }
}
