//! Parquet, in and out.

use std::fs::File;
use std::path::{Path, PathBuf};

use failure::{Failure, Result};
use polars::io::parquet::write::BatchedWriter;
use polars::prelude::{
    Column, DataFrame, DataType, NamedFrom, ParquetReader, ParquetWriter, PolarsError, SerReader,
    Series,
};

use crate::input::{Batch, LabelColumn, PREDICTED, Rows, find_columns, taken};
use crate::predict::{complete, partial};

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
    pub fn open(
        path: &Path,
        text: Option<&str>,
        label: &LabelColumn,
        is_echoed: bool,
    ) -> Result<Self> {
        let file = File::open(path).map_err(|e| Failure::io("read", path, &e))?;
        let empty = ParquetReader::new(file).with_slice(Some((0, 0))).finish();
        let empty = empty.map_err(|e| wrong(&e, path))?;
        let names: Vec<&str> = empty.get_column_names().iter().map(|n| n.as_str()).collect();
        let name = path.display().to_string();
        if is_echoed && let Some(column) = PREDICTED.into_iter().find(|name| names.contains(name)) {
            return Err(taken(column, &name));
        }
        let (text, label) = find_columns(&names, text, label, &name)?;
        let column = |at: usize| names.get(at).map_or_else(String::new, |name| (*name).to_owned());
        Ok(Self { path: path.to_owned(), text: column(text), label: label.map(column), next: 0 })
    }

    /// Puts the next rows into `batch`.
    pub fn next(&mut self, batch: &mut Batch, most: usize) -> Result<bool> {
        let file = File::open(&self.path).map_err(|e| Failure::io("read", &self.path, &e))?;
        let frame = ParquetReader::new(file).with_slice(Some((self.next, most))).finish();
        let frame = frame.map_err(|e| wrong(&e, &self.path))?;
        let (texts, mut failure) = self.texts(&frame, &self.text)?;
        batch.texts = texts;
        if let Some(label) = &self.label {
            let (labels, of_labels) = self.texts(&frame, label)?;
            batch.labels = labels;
            failure = failure.or(of_labels);
        }
        let count = frame.height();
        self.next += count;
        // The rows before a bad one are answered.
        batch.rows = Rows::Table(frame.head(Some(batch.texts.len())));
        failure.map_or(Ok(count == most), Err)
    }

    /// The texts of a column, up to an empty cell, and what is wrong with that.
    fn texts(&self, frame: &DataFrame, name: &str) -> Result<(Vec<String>, Option<Failure>)> {
        let column = frame.column(name).and_then(|column| column.cast(&DataType::String));
        let column = column.map_err(|e| wrong(&e, &self.path))?;
        let all = column.str().map_err(|e| wrong(&e, &self.path))?;
        let texts: Vec<String> = all.iter().map_while(|text| text.map(str::to_owned)).collect();
        let row = self.next + texts.len() + 1;
        let failure = (texts.len() < frame.height()).then(|| {
            Failure::input(
                format_args!("column `{name}` has an empty cell"),
                format_args!("{}, row {row}", self.path.display()),
                "fill it, or leave the row out",
            )
        });
        Ok((texts, failure))
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
            let file = File::create(partial(&self.path))
                .map_err(|e| Failure::io("write", &self.path, &e))?;
            self.writer = Some(ParquetWriter::new(file).batched(frame.schema()).map_err(fail)?);
        }
        match &mut self.writer {
            Some(writer) => writer.write_batch(&frame).map_err(fail),
            None => Ok(()),
        }
    }

    /// Ends the file, which takes its name if it is whole.
    pub fn finish(self, is_whole: bool) -> Result<()> {
        let Some(writer) = self.writer else { return Ok(()) };
        writer.finish().map_err(|e| {
            Failure::failed(e, self.path.display(), "check that there is room on the disk")
        })?;
        if is_whole { complete(&self.path) } else { Ok(()) }
    }
}
