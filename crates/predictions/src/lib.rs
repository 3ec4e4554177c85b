//! What a run says of rows: `predictions.parquet`, its predictions for every headline of the valid
//! and test parts, and [`margins`], from which a stack learns, with the [`folds`] that make them.

pub mod folds;
pub mod margins;

use std::path::{Path, PathBuf};

use failure::{Failure, Result};
use formats::table::{self, GROUP_ROWS, Writer};
use kernels::odds::largest;
use polars::prelude::{
    Column, DataFrame, DataType, Float32Chunked, Float32Type, IntoColumn, IntoSeries,
    ListBuilderTrait, ListPrimitiveChunkedBuilder, NamedFrom, PolarsError, PolarsResult, Series,
};
use schema::Labels;

/// The file's name.
pub const FILE: &str = "predictions.parquet";

/// The most classes that have a column each; the probabilities of more are in a list.
const COLUMNS: usize = 64;
/// The most probabilities in a row group.
const AT_ONCE: usize = 1 << 22;

/// Writes the table row by row.
pub struct PredictionsWriter<'l> {
    group: Group<'l>,
    writer: Writer,
    path: PathBuf,
    /// Rows of a group.
    rows: usize,
}

/// The rows of a table of predictions that are written together, if there are so many labels.
pub fn group_rows(labels: usize) -> usize {
    GROUP_ROWS.min(AT_ONCE / labels).max(1)
}

impl<'l> PredictionsWriter<'l> {
    /// Creates the table at `path`.
    pub fn create(path: &Path, labels: &'l Labels) -> Result<Self> {
        let mut group = Group::new(labels);
        let rows = group_rows(labels.len());
        let writer = Writer::create(path, group.take().map_err(|e| bug(&e, path))?.schema())?;
        Ok(Self { group, writer, path: path.to_owned(), rows })
    }

    /// Adds the headline `id` of a part, with its label and its probabilities in label order.
    pub fn push(&mut self, part: &'static str, id: i64, label: u32, p: &[f32]) -> Result<()> {
        self.group.push(part, id, label, p);
        if self.group.ids.len() == self.rows { self.flush() } else { Ok(()) }
    }

    /// Adds the rows of another such table, which begin with a group and are whole groups, or the last
    /// ones.
    pub fn append(&mut self, from: &Path) -> Result<()> {
        self.writer.append(from)
    }

    fn flush(&mut self) -> Result<()> {
        let frame = self.group.take().map_err(|e| bug(&e, &self.path))?;
        self.writer.push(&frame)
    }

    /// Ends the table.
    pub fn finish(mut self) -> Result<()> {
        if !self.group.ids.is_empty() {
            self.flush()?;
        }
        self.writer.finish()
    }
}

/// The labels and the probabilities, row after row, of a part's rows in the table at `path`.
pub fn read(path: &Path, part: &str, labels: &Labels) -> Result<(Vec<i64>, Vec<f32>)> {
    let wrong = |e: PolarsError| Failure::artifact(e, path);
    let classes = labels.len();
    let names: Vec<String> = labels.names().iter().map(|name| format!("p_{name}")).collect();
    let mut columns = vec!["split", "label"];
    if classes <= COLUMNS {
        columns.extend(names.iter().map(String::as_str));
    } else {
        columns.push("p");
    }
    let frame = table::read(path, &columns)?;
    let parts = table::texts(&frame, "split", path)?;
    let rows = parts.no_null_iter().enumerate().filter(|(_, of)| *of == part);
    let rows: Vec<usize> = rows.map(|(row, _)| row).collect();
    let all = frame.column("label").and_then(|column| column.i64().cloned()).map_err(wrong)?;
    let of: Vec<i64> = rows.iter().filter_map(|&row| all.get(row)).collect();
    let mut probabilities = vec![0.0; rows.len() * classes];
    let put = |column: &Float32Chunked, class: usize, to: &mut [f32]| {
        for (&row, to) in rows.iter().zip(to.chunks_exact_mut(classes)) {
            if let (Some(to), Some(p)) = (to.get_mut(class), column.get(row)) {
                *to = p;
            }
        }
    };
    if classes <= COLUMNS {
        for (class, name) in names.iter().enumerate() {
            let column = frame.column(name).and_then(|column| column.f32().cloned());
            put(&column.map_err(wrong)?, class, &mut probabilities);
        }
    } else {
        let lists = frame.column("p").and_then(|column| column.list().cloned()).map_err(wrong)?;
        for (&row, to) in rows.iter().zip(probabilities.chunks_exact_mut(classes)) {
            let Some(list) = lists.get_as_series(row) else { continue };
            let list = list.f32().map_err(wrong)?;
            to.iter_mut().zip(list.no_null_iter()).for_each(|(to, p)| *to = p);
        }
    }
    if of.len() == rows.len() {
        return Ok((of, probabilities));
    }
    Err(Failure::artifact("a row has no label", path))
}

fn bug(error: &PolarsError, path: &Path) -> Failure {
    Failure::failed(error, path.display(), "this is a bug; please report it")
}

/// Rows that are written together.
struct Group<'l> {
    labels: &'l Labels,
    parts: Vec<&'static str>,
    ids: Vec<i64>,
    of: Vec<i64>,
    predicted: Vec<i64>,
    /// In label order, one row after the other.
    probabilities: Vec<f32>,
}

impl<'l> Group<'l> {
    fn new(labels: &'l Labels) -> Self {
        let (parts, ids, of, predicted) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { labels, parts, ids, of, predicted, probabilities: Vec::new() }
    }

    fn push(&mut self, part: &'static str, id: i64, label: u32, p: &[f32]) {
        self.parts.push(part);
        self.ids.push(id);
        self.of.push(i64::from(label));
        self.probabilities.extend_from_slice(p);
        self.predicted.push(i64::try_from(largest(p)).unwrap_or(-1));
    }

    /// The rows as a table, without which the group is empty.
    fn take(&mut self) -> PolarsResult<DataFrame> {
        let Self { labels, parts, ids, of, predicted, probabilities } =
            std::mem::replace(self, Self::new(self.labels));
        let column = |name: &str, series: Series| Column::from(series.with_name(name.into()));
        let mut columns = vec![
            column("split", Series::new("".into(), &parts)),
            column("id", Series::new("".into(), &ids)),
            column("label", Series::new("".into(), &of)),
            column("predicted", Series::new("".into(), &predicted)),
        ];
        let classes = labels.len();
        if classes <= COLUMNS {
            columns.extend(labels.names().iter().enumerate().map(|(k, name)| {
                let p: Vec<f32> = probabilities.iter().skip(k).step_by(classes).copied().collect();
                column(&format!("p_{name}"), Series::new("".into(), p))
            }));
        } else {
            let mut p = ListPrimitiveChunkedBuilder::<Float32Type>::new(
                "p".into(),
                ids.len(),
                probabilities.len(),
                DataType::Float32,
            );
            probabilities.chunks_exact(classes).for_each(|row| p.append_slice(row));
            columns.push(p.finish().into_series().into_column());
        }
        DataFrame::new(ids.len(), columns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_whole_groups_are_joined_to_the_table_of_one_process() {
        // One with a column for each label, and one with lists, which has smaller groups.
        for labels in [3, 80] {
            let names = Labels::new((0..labels).map(|label| format!("label {label}")).collect());
            let names = names.expect("labels");
            let group = group_rows(labels);
            let rows = 3 * group / 2 + 7;
            let dir = tempfile::tempdir().expect("a folder");
            let write = |name: &str, range: std::ops::Range<usize>| {
                let path = dir.path().join(name);
                let mut writer = PredictionsWriter::create(&path, &names).expect("creates");
                for row in range {
                    let part = if row < group / 3 { "valid" } else { "test" };
                    let own = row * row % labels;
                    let p: Vec<f32> =
                        (0..labels).map(|k| if k == own { 0.7 } else { 0.01 }).collect();
                    let id = i64::try_from(row).expect("small");
                    let label = u32::try_from(row % labels).expect("small");
                    writer.push(part, id, label, &p).expect("writes");
                }
                writer.finish().expect("ends");
                path
            };
            let whole = write("whole", 0..rows);
            let joined = dir.path().join("joined");
            let mut writer = PredictionsWriter::create(&joined, &names).expect("creates");
            for piece in [write("1", 0..group), write("2", group..rows)] {
                writer.append(&piece).expect("appends");
            }
            writer.finish().expect("ends");
            let bytes = |path: &Path| std::fs::read(path).expect("reads");
            assert!(bytes(&whole) == bytes(&joined), "{labels} labels");
            let (of, _) = read(&joined, "test", &names).expect("reads");
            assert_eq!(of.len(), rows - group / 3);
        }
    }
}
