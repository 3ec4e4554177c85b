//! The fourth stage: feature matrices and labels (problem 70).
//!
//! In: `split/{train,valid,test}.parquet`, `split/labels.json`, `embed/vocabulary.parquet`,
//! `embed/vectors.safetensors`, `embed/tokenizer.json`.
//! Out: `{train,valid,test}.safetensors` with `X` f32 \[n, d\], `y` i64 \[n\] and `id` i64 \[n\],
//! `labels.json` and `summary.json`.
//!
//! Always holds: row i of `X`, `y` and `id` is headline i of its part; a row of `X` is the f32 mean
//! of its words' vectors, bit for bit as numpy computes it, for any number of threads; memory holds
//! the vectors, each row's id and label, the titles of one group of rows, and the features of a
//! few thousand rows.

use std::collections::BTreeMap;
use std::path::Path;

use failure::Result;
use formats::arrays::{Array, RowWriter};
use formats::table;
use headline_features::{FeatureMatrix, Lookup, LookupFiles};
use kernels::team;
use schema::{FirstRow, Labels, MatrixSummary, TensorsSummary};
use serde::Deserialize;
use stage::{Embedded, Stage};
use text::PARTS;

/// The node that this crate runs.
pub const NODES: Embedded = Embedded {
    nodes: include_str!("../node.toml"),
    options: &[("options.toml", include_str!("../options.toml"))],
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TensorsOptions {
    empty: Empty,
}

/// What happens to a title without a known word.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Empty {
    Zero,
    Drop,
}

/// Rows that a thread makes at once and that are written together.
const AT_ONCE: usize = 1024;
/// Rows and components that the summary shows.
const SHOWN: (usize, usize) = (4, 6);

/// Runs the stage.
pub fn run(stage: &Stage) -> Result<String> {
    let options: TensorsOptions = stage.options()?;
    // Only with the data's words: how many others `embed` keeps changes no feature.
    let lookup = Lookup::read(&LookupFiles {
        vocabulary: stage.input("embed", "vocabulary.parquet")?,
        vectors: stage.input("embed", "vectors.safetensors")?,
        tokenizer: stage.input("embed", "tokenizer.json")?,
        more: None,
    })?;
    let labels = Labels::read(&stage.input("split", Labels::FILE)?)?;
    let mut summaries = TensorsSummary::new();
    let mut sizes = Vec::new();
    let mut empty = 0;
    for part in PARTS {
        let path = stage.input("split", &format!("{part}.parquet"))?;
        let rows =
            PartRows::read(&path, &labels, (options.empty == Empty::Drop).then_some(&lookup))?;
        let ids = &rows.ids;
        let vectors = [("id", Array::i64(ids)), ("y", Array::i64(&rows.labels))];
        let file = stage.output(&format!("{part}.safetensors"));
        let mut writer = RowWriter::create(&file, &vectors, "X", [ids.len(), lookup.dimension()])?;
        let (mut without, mut kept) = (0, rows.ids.iter().zip(&rows.labels));
        let mut first = Vec::new();
        table::groups(&path, &["title"], |frame| {
            let titles: Vec<&str> = table::texts(frame, "title", &path)?.no_null_iter().collect();
            features_of(&titles, &lookup, options.empty, |titles, mut matrix, known| {
                without += known.iter().filter(|&&known| known == 0).count();
                let rows = matrix.values().chunks_exact(lookup.dimension());
                let titles = titles
                    .iter()
                    .zip(known)
                    .filter(|&(_, known)| known > 0 || options.empty == Empty::Zero);
                for ((title, _), row) in titles.zip(rows).take(SHOWN.0.saturating_sub(first.len()))
                {
                    let Some((&id, &y)) = kept.next() else { break };
                    first.push(FirstRow {
                        id,
                        title: (*title).to_owned(),
                        y,
                        x: row.iter().take(SHOWN.1).copied().collect(),
                    });
                }
                writer.push(matrix.values())
            })
        })?;
        writer.finish()?;

        empty += without;
        sizes.push(format!("{part} {}×{}", ids.len(), lookup.dimension()));
        let summary = MatrixSummary {
            rows: ids.len(),
            columns: lookup.dimension(),
            classes: rows.by_class(&labels),
            without_known_word: without,
            dropped: rows.dropped,
            first,
        };
        summaries.insert(part.to_owned(), summary);
    }
    stage.write_json(Labels::FILE, &labels)?;
    stage.write_json("summary.json", &summaries)?;
    let fate = if options.empty == Empty::Drop { "left out" } else { "all zeros" };
    let note =
        if empty > 0 { format!("; {empty} without a known word, {fate}") } else { String::new() };
    Ok(format!("{}{note}", sizes.join(", ")))
}

/// Makes the features of `titles` on all threads and passes them to `take` in order, a few at a
/// time: the titles, their rows (without those that are left out), and each title's number of known
/// words.
fn features_of<'t>(
    titles: &'t [&'t str],
    lookup: &Lookup,
    empty: Empty,
    mut take: impl FnMut(&[&str], FeatureMatrix<'_>, Vec<usize>) -> Result<()>,
) -> Result<()> {
    let make = |(): &mut (), titles: &'t [&'t str]| {
        let mut matrix = FeatureMatrix::new(lookup, titles.len());
        let row = |title: &&str| {
            let known = matrix.push(title).known;
            if known == 0 && empty == Empty::Drop {
                matrix.pop();
            }
            known
        };
        let known = titles.iter().map(row).collect();
        matrix.finish();
        (titles, matrix, known)
    };
    let take = |(titles, matrix, known): (&[&str], _, _)| take(titles, matrix, known);
    team::in_order(titles.chunks(AT_ONCE), || (), make, take)
}

/// The rows of a part, without their features.
struct PartRows {
    ids: Vec<i64>,
    labels: Vec<i64>,
    dropped: usize,
}

impl PartRows {
    /// Reads the rows of the table at `path`; with `dropped_by`, rows without a word in it are left
    /// out.
    fn read(path: &Path, classes: &Labels, dropped_by: Option<&Lookup>) -> Result<Self> {
        let mut rows = Self { ids: Vec::new(), labels: Vec::new(), dropped: 0 };
        let columns = if dropped_by.is_some() {
            &["id", "category", "title"][..]
        } else {
            &["id", "category"]
        };
        table::groups(path, columns, |frame| {
            let ids = table::integers(frame, "id", path)?.no_null_iter();
            let categories = table::texts(frame, "category", path)?.no_null_iter();
            let mut kept: Box<dyn Iterator<Item = bool>> = match dropped_by {
                None => Box::new(std::iter::repeat(true)),
                Some(lookup) => Box::new(
                    table::texts(frame, "title", path)?
                        .no_null_iter()
                        .map(|title| lookup.knows_a_word_of(title)),
                ),
            };
            for (id, category) in ids.zip(categories) {
                let label = i64::from(classes.label(category, path)?);
                if kept.next() == Some(true) {
                    rows.ids.push(id);
                    rows.labels.push(label);
                } else {
                    rows.dropped += 1;
                }
            }
            Ok(())
        })?;
        Ok(rows)
    }

    /// The number of rows of each class.
    fn by_class(&self, classes: &Labels) -> BTreeMap<String, usize> {
        let mut counts = vec![0; classes.len()];
        for &label in &self.labels {
            if let Some(count) = usize::try_from(label).ok().and_then(|label| counts.get_mut(label))
            {
                *count += 1;
            }
        }
        classes.names().iter().cloned().zip(counts).collect()
    }
}
