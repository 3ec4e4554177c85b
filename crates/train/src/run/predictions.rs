//! `predictions.parquet`: the net's predictions for every headline of the valid and test parts.

use std::path::Path;

use failure::{Failure, Result};
use formats::table;
use nets::largest;
use polars::prelude::{Column, DataFrame, NamedFrom, Series};
use text::Category;

use crate::data::Part;

/// The probabilities of a part's rows, in label order.
pub type Probabilities = Vec<[f32; Category::COUNT]>;

/// Writes the predictions of the named parts, one below the other.
pub fn write(path: &Path, parts: &[(&str, &Part, Probabilities)]) -> Result<()> {
    let rows = || {
        parts.iter().flat_map(|(name, part, p)| {
            part.ids
                .iter()
                .zip(&part.labels)
                .zip(p)
                .map(move |((id, label), p)| (*name, *id, *label, p))
        })
    };
    let column = |series: Series| Column::from(series);
    let mut columns = vec![
        column(Series::new("split".into(), rows().map(|r| r.0).collect::<Vec<_>>())),
        column(Series::new("id".into(), rows().map(|r| r.1).collect::<Vec<_>>())),
        column(Series::new("label".into(), rows().map(|r| i64::from(r.2)).collect::<Vec<_>>())),
        column(Series::new(
            "predicted".into(),
            rows().map(|r| i64::try_from(largest(r.3)).unwrap_or(-1)).collect::<Vec<_>>(),
        )),
    ];
    for (i, category) in Category::ALL.iter().enumerate() {
        let p: Vec<f32> = rows().map(|r| r.3.get(i).copied().unwrap_or(f32::NAN)).collect();
        columns.push(column(Series::new(format!("p_{}", category.letter()).into(), p)));
    }
    let bug = |e| Failure::failed(e, path.display(), "this is a bug; please report it");
    table::write(path, &mut DataFrame::new(rows().count(), columns).map_err(bug)?)
}
