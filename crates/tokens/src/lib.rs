//! Texts as sequences of token ids, and the matrix of embeddings that the ids refer to (problems
//! 70, 71 and 75 of the exercise's 2025 edition).
//!
//! In: `split/{train,valid,test}.parquet`, `split/labels.json`, `embed/vocabulary.parquet`,
//! `embed/vectors.safetensors`, `embed/tokenizer.json`.
//! Out: `{train,valid,test}.safetensors` with `ids` u32 \[tokens of all rows\], `offsets` i64
//! \[n + 1\], `y` i64 \[n\] and `id` i64 \[n\]; `embeddings.safetensors` with `E` f32
//! \[V + 1, d\]; `tokens.parquet` with `token` and `id`; `collate.json`, `labels.json` and
//! `summary.json`.
//!
//! Always holds: the tokens of row i are `ids[offsets[i]..offsets[i + 1]]`; token id 0 is padding,
//! which no sequence contains, and row 0 of `E` is zeros; id k + 1 is row k of the vocabulary; words
//! without a vector are left out. Memory holds four bytes for each token, each row's id and label,
//! and the vectors.

mod collate;

use std::collections::BTreeMap;

use collate::collate;
use failure::{Failure, Result};
use formats::arrays::{self, Array, RowWriter};
use formats::table;
use headline_features::{Lookup, LookupFiles};
use polars::prelude::{Column, DataFrame, NamedFrom, Series};
use schema::{FirstSequence, FirstToken, Labels, TokensPart, TokensSummary};
use serde::Deserialize;
use stage::{Embedded, Stage};
use text::PARTS;

/// The node that this crate runs.
pub const NODES: Embedded = Embedded {
    nodes: include_str!("../node.toml"),
    options: &[("options.toml", include_str!("../options.toml"))],
};

/// The name of padding, the token with id 0.
const PADDING: &str = "<PAD>";
/// Tokens, rows and components that the summary shows.
const SHOWN: (usize, usize, usize) = (4, 4, 6);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokensOptions {
    empty: Empty,
}

/// What happens to a text without a known word.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Empty {
    Drop,
    Keep,
}

/// Runs the stage.
pub fn run(stage: &Stage) -> Result<String> {
    let options: TokensOptions = stage.options()?;
    let vocabulary = stage.input("embed", "vocabulary.parquet")?;
    let lookup = Lookup::read(&LookupFiles {
        vocabulary: vocabulary.clone(),
        vectors: stage.input("embed", "vectors.safetensors")?,
        tokenizer: stage.input("embed", "tokenizer.json")?,
        more: None,
    })?;
    let labels = Labels::read(&stage.input("split", Labels::FILE)?)?;
    let words = words(&vocabulary)?;
    write_vocabulary(stage, &words)?;
    write_embeddings(stage, &lookup)?;

    let mut parts = BTreeMap::new();
    let mut sizes = Vec::new();
    let mut dropped = 0;
    for part in PARTS {
        let path = stage.input("split", &format!("{part}.parquet"))?;
        let mut rows = Rows::default();
        // The part's first rows, and the data's first ones in it: the split has shuffled them.
        let (mut first, mut lowest) = (Vec::new(), Vec::new());
        let mut places = Vec::new();
        table::groups(&path, &["id", "title", "category"], |frame| {
            let ids = table::integers(frame, "id", &path)?.no_null_iter();
            let titles = table::texts(frame, "title", &path)?.no_null_iter();
            let classes = table::texts(frame, "category", &path)?.no_null_iter();
            for ((id, title), category) in ids.zip(titles).zip(classes) {
                places.clear();
                lookup.places(title, &mut places);
                if places.is_empty() && options.empty == Empty::Drop {
                    rows.dropped += 1;
                    continue;
                }
                let y = labels.label(category, &path)?;
                // Id 0 is padding, so a word's id is its row plus 1.
                let ids = places.iter().map(|&place| u32::try_from(place + 1).unwrap_or(u32::MAX));
                let start = rows.tokens.len();
                rows.tokens.extend(ids);
                rows.end(id, i64::from(y));
                let is_early = lowest.last().is_none_or(|row: &FirstSequence| id < row.id);
                if first.len() < SHOWN.1 || lowest.len() < SHOWN.1 || is_early {
                    let ids = rows.tokens.get(start..).unwrap_or_default().to_vec();
                    let text = title.to_owned();
                    let row = FirstSequence { id, text, y: i64::from(y), ids };
                    if first.len() < SHOWN.1 {
                        first.push(row.clone());
                    }
                    lowest.push(row);
                    lowest.sort_by_key(|row| row.id);
                    lowest.truncate(SHOWN.1);
                }
            }
            Ok(())
        })?;
        arrays::write(
            &stage.output(&format!("{part}.safetensors")),
            [
                ("ids", Array::u32(&rows.tokens)),
                ("offsets", Array::i64(&rows.offsets)),
                ("y", Array::i64(&rows.labels)),
                ("id", Array::i64(&rows.ids)),
            ],
            None,
        )?;
        if part == "train" {
            stage.write_json("collate.json", &collate(&lowest))?;
        }
        dropped += rows.dropped;
        sizes.push(format!("{part} {}", rows.ids.len()));
        parts.insert(part.to_owned(), rows.summary(&labels, first));
    }
    let tokens = words.len() + 1;
    stage.write_json(Labels::FILE, &labels)?;
    let summary = TokensSummary {
        tokens,
        dimension: lookup.dimension(),
        first: first_tokens(&words, &lookup),
        parts,
    };
    stage.write_json("summary.json", &summary)?;
    let note = if dropped > 0 {
        format!("; {dropped} without a known word, left out")
    } else {
        String::new()
    };
    Ok(format!("{}; E {tokens}×{}{note}", sizes.join(", "), lookup.dimension()))
}

/// The rows of a part.
struct Rows {
    tokens: Vec<u32>,
    offsets: Vec<i64>,
    labels: Vec<i64>,
    ids: Vec<i64>,
    longest: usize,
    dropped: usize,
}

impl Default for Rows {
    fn default() -> Self {
        let [labels, ids] = [const { Vec::new() }; 2];
        Self { tokens: Vec::new(), offsets: vec![0], labels, ids, longest: 0, dropped: 0 }
    }
}

impl Rows {
    /// Ends a row, whose tokens have been added.
    fn end(&mut self, id: i64, label: i64) {
        let end = i64::try_from(self.tokens.len()).unwrap_or(i64::MAX);
        let length = end - self.offsets.last().copied().unwrap_or_default();
        self.longest = self.longest.max(usize::try_from(length).unwrap_or(usize::MAX));
        self.offsets.push(end);
        self.labels.push(label);
        self.ids.push(id);
    }

    fn summary(&self, labels: &Labels, first: Vec<FirstSequence>) -> TokensPart {
        let mut counts = vec![0; labels.len()];
        for &label in &self.labels {
            let at = usize::try_from(label).ok();
            if let Some(count) = at.and_then(|label| counts.get_mut(label)) {
                *count += 1;
            }
        }
        TokensPart {
            rows: self.ids.len(),
            tokens: self.tokens.len(),
            longest: self.longest,
            classes: labels.names().iter().cloned().zip(counts).collect(),
            dropped: self.dropped,
            first,
        }
    }
}

/// The words of the vocabulary in the order of their rows.
fn words(path: &std::path::Path) -> Result<Vec<String>> {
    let frame = table::read(path, &["word", "row"])?;
    let rows = frame
        .column("row")
        .and_then(|column| column.u32())
        .map_err(|e| Failure::artifact(format_args!("column `row`: {e}"), path))?;
    let texts = table::texts(&frame, "word", path)?.no_null_iter();
    let mut words: Vec<(u32, &str)> = rows.no_null_iter().zip(texts).collect();
    words.sort_unstable();
    // `Lookup` has checked that each row is less than the number of words.
    if words.windows(2).any(|pair| matches!(pair, [a, b] if a.0 == b.0)) {
        return Err(Failure::artifact("two words have the same row", path));
    }
    Ok(words.into_iter().map(|(_, word)| word.to_owned()).collect())
}

fn write_vocabulary(stage: &Stage, words: &[String]) -> Result<()> {
    let path = stage.output("tokens.parquet");
    let ids: Vec<u32> = (0..).take(words.len() + 1).collect();
    let tokens: Vec<&str> =
        std::iter::once(PADDING).chain(words.iter().map(String::as_str)).collect();
    let columns = vec![
        Column::from(Series::new("token".into(), &tokens)),
        Column::from(Series::new("id".into(), &ids)),
    ];
    let mut frame = DataFrame::new(tokens.len(), columns)
        .map_err(|e| Failure::failed(e, path.display(), "this is a bug; please report it"))?;
    table::write(&path, &mut frame)
}

fn write_embeddings(stage: &Stage, lookup: &Lookup) -> Result<()> {
    let (dimension, vectors) = (lookup.dimension(), lookup.vectors());
    let rows = vectors.len() / dimension.max(1) + 1;
    let path = stage.output("embeddings.safetensors");
    let mut writer = RowWriter::create(&path, &[], "E", [rows, dimension])?;
    writer.push(&vec![0.0; dimension])?;
    writer.push(vectors)?;
    writer.finish()
}

/// The first rows of E.
fn first_tokens(words: &[String], lookup: &Lookup) -> Vec<FirstToken> {
    let zeros = vec![0.0; lookup.dimension()];
    let vectors = std::iter::once(zeros.as_slice())
        .chain(lookup.vectors().chunks_exact(lookup.dimension().max(1)));
    std::iter::once(PADDING)
        .chain(words.iter().map(String::as_str))
        .zip(vectors)
        .take(SHOWN.0)
        .map(|(token, vector)| FirstToken {
            token: token.to_owned(),
            e: vector.iter().take(SHOWN.2).copied().collect(),
        })
        .collect()
}
