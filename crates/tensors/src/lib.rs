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

mod shared;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use failure::Result;
use formats::arrays::{Array, RowWriter};
use formats::table;
use headline_features::{FeatureMatrix, Lookup, LookupFiles};
use kernels::team;
use schema::{FirstRow, Labels, MatrixSummary, TensorsSummary};
use serde::{Deserialize, Serialize};
use stage::{Embedded, Stage};
use text::PARTS;

pub use shared::SHARED;

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
    let labels = Labels::read(&stage.input("split", Labels::FILE)?)?;
    let parts = if stage.chunk_rows().is_some() {
        shared::parts(stage)?
    } else {
        let lookup = lookup(stage)?;
        let mut parts = Vec::new();
        for part in PARTS {
            parts.push(make_part(stage, part, &options, &lookup, &labels)?);
        }
        parts
    };
    let mut summaries = TensorsSummary::new();
    let mut sizes = Vec::new();
    let mut empty = 0;
    for (part, MadePart { dimension, labels: of_rows, dropped, without, first }) in
        PARTS.iter().zip(parts)
    {
        empty += without;
        sizes.push(format!("{part} {}×{dimension}", of_rows.len()));
        let summary = MatrixSummary {
            rows: of_rows.len(),
            columns: dimension,
            classes: by_class(&of_rows, &labels),
            without_known_word: without,
            dropped,
            first,
        };
        summaries.insert((*part).to_owned(), summary);
    }
    stage.write_json(Labels::FILE, &labels)?;
    stage.write_json("summary.json", &summaries)?;
    let fate = if options.empty == Empty::Drop { "left out" } else { "all zeros" };
    let note =
        if empty > 0 { format!("; {empty} without a known word, {fate}") } else { String::new() };
    Ok(format!("{}{note}", sizes.join(", ")))
}

fn lookup(stage: &Stage) -> Result<Lookup> {
    // Only with the data's words: how many others `embed` keeps changes no feature.
    Lookup::read(&LookupFiles {
        vocabulary: stage.input("embed", "vocabulary.parquet")?,
        vectors: stage.input("embed", "vectors.safetensors")?,
        tokenizer: stage.input("embed", "tokenizer.json")?,
        more: None,
    })
}

fn table_of(stage: &Stage, part: &str) -> Result<PathBuf> {
    stage.input("split", &format!("{part}.parquet"))
}

fn matrix_of(stage: &Stage, part: &str) -> PathBuf {
    stage.output(&format!("{part}.safetensors"))
}

/// What the summary says of a part.
struct MadePart {
    dimension: usize,
    /// The label of each row.
    labels: Vec<i64>,
    dropped: usize,
    without: usize,
    first: Vec<FirstRow>,
}

fn make_part(
    stage: &Stage,
    part: &str,
    options: &TensorsOptions,
    lookup: &Lookup,
    labels: &Labels,
) -> Result<MadePart> {
    let path = table_of(stage, part)?;
    let dropped_by = (options.empty == Empty::Drop).then_some(lookup);
    let rows = PartRows::read(&path, 0..usize::MAX, labels, dropped_by)?;
    let mut writer = matrix(&matrix_of(stage, part), &rows, lookup.dimension())?;
    let push = |values: &[f32]| writer.push(values);
    let made = features(&path, 0..usize::MAX, &rows, lookup, options.empty, push)?;
    writer.finish()?;
    let Features { without, first } = made;
    let PartRows { labels, dropped, .. } = rows;
    Ok(MadePart { dimension: lookup.dimension(), labels, dropped, without, first })
}

/// Begins a part's file at `path`: its ids and labels, before its features.
fn matrix(path: &Path, rows: &PartRows, dimension: usize) -> Result<RowWriter> {
    let vectors = [("id", Array::i64(&rows.ids)), ("y", Array::i64(&rows.labels))];
    RowWriter::create(path, &vectors, "X", [rows.ids.len(), dimension])
}

/// What the summary says of the features of some rows.
#[derive(Serialize, Deserialize)]
struct Features {
    without: usize,
    first: Vec<FirstRow>,
}

/// Makes the features of some rows of the table at `path`, and passes them to `push`. `rows` are
/// those rows.
fn features(
    path: &Path,
    range: Range<usize>,
    rows: &PartRows,
    lookup: &Lookup,
    empty: Empty,
    mut push: impl FnMut(&[f32]) -> Result<()>,
) -> Result<Features> {
    let (mut without, mut kept) = (0, rows.ids.iter().zip(&rows.labels));
    let mut first = Vec::new();
    table::groups_in(path, &["title"], range, |frame| {
        let titles: Vec<&str> = table::texts(frame, "title", path)?.no_null_iter().collect();
        features_of(&titles, lookup, empty, |titles, mut matrix, known| {
            without += known.iter().filter(|&&known| known == 0).count();
            let rows = matrix.values().chunks_exact(lookup.dimension());
            let titles =
                titles.iter().zip(known).filter(|&(_, known)| known > 0 || empty == Empty::Zero);
            for ((title, _), row) in titles.zip(rows).take(SHOWN.0.saturating_sub(first.len())) {
                let Some((&id, &y)) = kept.next() else { break };
                first.push(FirstRow {
                    id,
                    title: (*title).to_owned(),
                    y,
                    x: row.iter().take(SHOWN.1).copied().collect(),
                });
            }
            push(matrix.values())
        })
    })?;
    Ok(Features { without, first })
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

/// Rows of a part, without their features.
#[derive(Serialize, Deserialize)]
struct PartRows {
    ids: Vec<i64>,
    labels: Vec<i64>,
    dropped: usize,
}

impl PartRows {
    /// Reads some rows of the table at `path`; with `dropped_by`, rows without a word in it are left
    /// out.
    fn read(
        path: &Path,
        range: Range<usize>,
        classes: &Labels,
        dropped_by: Option<&Lookup>,
    ) -> Result<Self> {
        let mut rows = Self { ids: Vec::new(), labels: Vec::new(), dropped: 0 };
        let columns = if dropped_by.is_some() {
            &["id", "category", "title"][..]
        } else {
            &["id", "category"]
        };
        table::groups_in(path, columns, range, |frame| {
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
}

/// The number of rows of each class.
fn by_class(labels: &[i64], classes: &Labels) -> BTreeMap<String, usize> {
    let mut counts = vec![0; classes.len()];
    for &label in labels {
        if let Some(count) = usize::try_from(label).ok().and_then(|label| counts.get_mut(label)) {
            *count += 1;
        }
    }
    classes.names().iter().cloned().zip(counts).collect()
}
