//! `predictions.parquet`: the net's predictions for every headline of the valid and test parts.

use std::path::Path;

use failure::{Failure, Result};
use formats::table::{GROUP_ROWS, Writer};
use nets::{Net, each_row, largest, softmax};
use polars::prelude::{
    Column, DataFrame, DataType, Float32Type, IntoColumn, IntoSeries, ListBuilderTrait,
    ListPrimitiveChunkedBuilder, NamedFrom, PolarsResult, Series,
};
use schema::Labels;

use crate::data::Data;
use crate::device;

/// The most classes that have a column each; the probabilities of more are in a list.
const COLUMNS: usize = 64;
/// The most probabilities in a row group.
const AT_ONCE: usize = 1 << 22;

/// Writes the predictions of valid and test, one below the other. `node` is for errors.
pub fn write(path: &Path, net: &Net, data: &Data, node: &str) -> Result<()> {
    let mut group = Group::new(&data.labels);
    let rows = GROUP_ROWS.min(AT_ONCE / data.labels.len()).max(1);
    let bug = |e| Failure::failed(e, path.display(), "this is a bug; please report it");
    let mut writer = Writer::create(path, group.take().map_err(bug)?.schema())?;
    let mut failed = None;
    for (name, part) in data.parts().filter(|(name, _)| *name != "train") {
        let mut known = part.ids.iter().zip(&part.labels);
        let x = part.rows().map_err(|e| device::failed(&e, node))?;
        each_row(net, x, |logits| {
            let (Some((&id, &label)), None) = (known.next(), &failed) else { return };
            group.push(name, id, label, logits);
            if group.ids.len() == rows {
                failed = group.take().map_err(bug).and_then(|frame| writer.push(&frame)).err();
            }
        })
        .map_err(|e| device::failed(&e, node))?;
    }
    if let Some(failure) = failed {
        return Err(failure);
    }
    if !group.ids.is_empty() {
        writer.push(&group.take().map_err(bug)?)?;
    }
    writer.finish()
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

    fn push(&mut self, part: &'static str, id: i64, label: u32, logits: &[f32]) {
        self.parts.push(part);
        self.ids.push(id);
        self.of.push(i64::from(label));
        let start = self.probabilities.len();
        self.probabilities.extend_from_slice(logits);
        let p = self.probabilities.get_mut(start..).unwrap_or_default();
        softmax(p);
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
