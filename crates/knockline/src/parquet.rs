//! Parquet, in and out.

use std::fs::File;
use std::path::{Path, PathBuf};

use failure::{Failure, Result};
use polars::io::parquet::write::BatchedWriter;
use polars::prelude::{
    Column, DataFrame, DataType, NamedFrom, ParquetReader, ParquetWriter, PolarsError, SerReader,
    Series,
};

use crate::input::{Batch, LabelColumn, Rows, find_columns};

fn wrong(error: &PolarsError, path: &Path) -> Failure {
    let remedy = "give a parquet file with a column of texts";
    Failure::input(format_args!("not such a parquet file: {error}"), path.display(), remedy)
}

/// A parquet file, some rows at a time.
pub struct TableReader {
    path: PathBuf,
    text: String,
    label: Option<String>,
    next: usize,
}

impl TableReader {
    /// Opens the file at `path`.
    pub fn open(path: &Path, text: Option<&str>, label: &LabelColumn) -> Result<Self> {
        let file = File::open(path).map_err(|e| Failure::io("read", path, &e))?;
        let empty = ParquetReader::new(file).with_slice(Some((0, 0))).finish();
        let empty = empty.map_err(|e| wrong(&e, path))?;
        let names: Vec<&str> = empty.get_column_names().iter().map(|n| n.as_str()).collect();
        let name = path.display().to_string();
        let (text, label) = find_columns(&names, text, label, &name)?;
        let column = |at: usize| names.get(at).map_or_else(String::new, |name| (*name).to_owned());
        Ok(Self { path: path.to_owned(), text: column(text), label: label.map(column), next: 0 })
    }

    /// Puts the next rows into `batch`.
    pub fn next(&mut self, batch: &mut Batch, most: usize) -> Result<bool> {
        let file = File::open(&self.path).map_err(|e| Failure::io("read", &self.path, &e))?;
        let frame = ParquetReader::new(file).with_slice(Some((self.next, most))).finish();
        let frame = frame.map_err(|e| wrong(&e, &self.path))?;
        batch.texts = self.texts(&frame, &self.text)?;
        if let Some(label) = &self.label {
            batch.labels = self.texts(&frame, label)?;
        }
        let count = frame.height();
        self.next += count;
        batch.rows = Rows::Table(frame);
        Ok(count == most)
    }

    fn texts(&self, frame: &DataFrame, name: &str) -> Result<Vec<String>> {
        let column = frame.column(name).and_then(|column| column.cast(&DataType::String));
        let column = column.map_err(|e| wrong(&e, &self.path))?;
        let texts = column.str().map_err(|e| wrong(&e, &self.path))?;
        let first = self.next;
        texts
            .iter()
            .enumerate()
            .map(|(row, text)| {
                text.map(str::to_owned).ok_or_else(|| {
                    Failure::input(
                        format_args!("column `{name}` has an empty cell"),
                        format_args!("{}, row {}", self.path.display(), first + row + 1),
                        "fill it, or leave the row out",
                    )
                })
            })
            .collect()
    }
}

/// Texts as a table.
pub fn texts(texts: &[String]) -> Result<DataFrame> {
    let column = Column::from(Series::new("text".into(), texts));
    DataFrame::new(texts.len(), vec![column])
        .map_err(|e| Failure::failed(e, "the output", "this is a bug; please report it"))
}

/// Writes a parquet file, some rows at a time.
pub struct TableWriter {
    path: PathBuf,
    writer: Option<BatchedWriter<File>>,
}

impl TableWriter {
    /// A file at `path`, which is created with the first rows.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), writer: None }
    }

    /// Adds rows with their answers.
    pub fn push(
        &mut self,
        rows: &DataFrame,
        predicted: &[Option<&str>],
        probabilities: &[Option<f32>],
    ) -> Result<()> {
        let fail = |e: PolarsError| {
            let remedy = "check that there is room on the disk";
            Failure::failed(e, self.path.display(), remedy)
        };
        let mut frame = rows.clone();
        let columns = [
            Column::from(Series::new("predicted".into(), predicted)),
            Column::from(Series::new("probability".into(), probabilities)),
        ];
        for column in columns {
            frame.with_column(column).map_err(fail)?;
        }
        if self.writer.is_none() {
            let file =
                File::create(&self.path).map_err(|e| Failure::io("write", &self.path, &e))?;
            self.writer = Some(ParquetWriter::new(file).batched(frame.schema()).map_err(fail)?);
        }
        match &mut self.writer {
            Some(writer) => writer.write_batch(&frame).map_err(fail),
            None => Ok(()),
        }
    }

    /// Ends the file.
    pub fn finish(self) -> Result<()> {
        let Some(writer) = self.writer else { return Ok(()) };
        writer.finish().map(drop).map_err(|e| {
            Failure::failed(e, self.path.display(), "check that there is room on the disk")
        })
    }
}
