//! The stage `ngrams`: sparse features of words and characters, for the nets `linear` and `knn`.
//!
//! In: `split/{train,valid,test}.parquet`, `split/labels.json`.
//! Out: `{train,valid,test}.safetensors`, matrices in compressed sparse rows with `indptr` i64
//! \[n + 1\], `indices` u32, `values` f32, `shape` i64 \[2\], `y` i64 \[n\] and `id` i64 \[n\];
//! `vocabulary.parquet` (`block`, `ngram`, `index`, `count`; without `ngram` if they are hashed),
//! `ngrams.json`, `labels.json`, `summary.json`.
//!
//! Always holds: row i is headline i of its part; columns and weights come from train alone; rows
//! are scikit-learn's `TfidfVectorizer`'s to 10⁻⁶, and the same bits for any number of threads;
//! memory holds the vocabulary once per thread, each row's id and label, and the titles of one
//! group of rows.

use std::path::Path;

use failure::{Failure, Result};
use formats::arrays::CsrWriter;
use formats::table;
use kernels::team;
use ngram_features::{Block, Counter, Features, NgramOptions, Vectorizer};
use schema::{Labels, NgramsSummary, SparseSummary};
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
struct StageOptions {
    word: Vec<usize>,
    char_wb: Vec<usize>,
    lowercase: bool,
    sublinear_tf: bool,
    idf: bool,
    min_count: u32,
    hash_bits: Option<u32>,
}

/// Rows that a thread makes at once.
const AT_ONCE: usize = 1024;

/// Runs the stage.
pub fn run(stage: &Stage) -> Result<String> {
    let options = options(stage)?;
    let labels = Labels::read(&stage.input("split", Labels::FILE)?)?;
    let features = count(&options, &stage.input("split", "train.parquet")?)?;
    if features.columns() == 0 {
        return Err(Failure::input(
            "no n-gram is frequent enough to be a feature",
            "option `ngrams.min_count`",
            "lower it, or check the texts",
        ));
    }
    features.write(stage.out())?;
    let mut parts = SparseParts::new();
    for part in PARTS {
        let path = stage.input("split", &format!("{part}.parquet"))?;
        let out = stage.output(&format!("{part}.safetensors"));
        parts.insert(part.to_owned(), write(&features, &path, &labels, &out)?);
    }
    stage.write_json(Labels::FILE, &labels)?;
    let sizes = || features.sizes();
    let sizes_by_name = sizes().map(|(block, columns)| (block.name().to_owned(), columns));
    let said: Vec<String> = sizes().map(|(block, columns)| described(block, columns)).collect();
    let entries: usize = parts.values().map(|part| part.entries).sum();
    stage.write_json("summary.json", &NgramsSummary { columns: sizes_by_name.collect(), parts })?;
    Ok(format!("{}; {entries} values", said.join(", ")))
}

type SparseParts = std::collections::BTreeMap<String, SparseSummary>;

fn described(block: Block, columns: usize) -> String {
    let of = match block {
        Block::Word => "words",
        Block::CharWb => "characters",
    };
    format!("{columns} n-grams of {of}")
}

fn options(stage: &Stage) -> Result<NgramOptions> {
    let StageOptions { word, char_wb, lowercase, sublinear_tf, idf, min_count, hash_bits } =
        stage.options()?;
    let range = |given: Vec<usize>| <[usize; 2]>::try_from(given).ok();
    let (word, char_wb) = (range(word), range(char_wb));
    if word.is_none() && char_wb.is_none() {
        return Err(Failure::usage(
            "there are no features",
            "options `ngrams.word` and `ngrams.char_wb`",
            "give one of them a range, such as [1, 2]",
        ));
    }
    Ok(NgramOptions { word, char_wb, lowercase, sublinear_tf, idf, min_count, hash_bits })
}

/// Counts the n-grams of the table at `path`.
fn count(options: &NgramOptions, path: &Path) -> Result<Features> {
    let threads = team::available();
    let mut counters: Vec<Counter> = (0..threads).map(|_| Counter::new(options)).collect();
    table::groups(path, &["title"], |frame| {
        let titles: Vec<&str> = table::texts(frame, "title", path)?.no_null_iter().collect();
        std::thread::scope(|scope| {
            for (number, counter) in counters.iter_mut().enumerate() {
                let mine = titles.get(team::share(number, threads, titles.len()));
                scope.spawn(move || {
                    mine.unwrap_or_default().iter().for_each(|title| counter.add(title));
                });
            }
        });
        Ok(())
    })?;
    let mut counters = counters.into_iter();
    let first = counters.next().unwrap_or_else(|| Counter::new(options));
    Ok(first.finish(counters))
}

/// A few rows: the number of entries of each, and the columns and values of all.
#[derive(Default)]
struct Made {
    lengths: Vec<usize>,
    columns: Vec<u32>,
    values: Vec<f32>,
}

/// Writes the features of the table at `path`.
fn write(features: &Features, path: &Path, labels: &Labels, out: &Path) -> Result<SparseSummary> {
    let (ids, classes) = rows(path, labels)?;
    let mut summary = SparseSummary { rows: ids.len(), entries: 0, empty: 0 };
    let mut writer = CsrWriter::create(out, ids, classes, features.columns())?;
    table::groups(path, &["title"], |frame| {
        let titles: Vec<&str> = table::texts(frame, "title", path)?.no_null_iter().collect();
        let make = |vectorizer: &mut Vectorizer<'_>, titles: &[&str]| {
            let mut made = Made::default();
            for title in titles {
                let length = vectorizer.push(title, &mut made.columns, &mut made.values);
                made.lengths.push(length);
            }
            made
        };
        let take = |Made { lengths, columns, values }: Made| {
            summary.empty += lengths.iter().filter(|&&length| length == 0).count();
            writer.push(&lengths, &columns, &values)
        };
        team::in_order(titles.chunks(AT_ONCE), || Vectorizer::new(features), make, take)
    })?;
    summary.entries = writer.finish()?;
    Ok(summary)
}

/// The ids and labels of the table at `path`.
fn rows(path: &Path, labels: &Labels) -> Result<(Vec<i64>, Vec<i64>)> {
    let (mut ids, mut classes) = (Vec::new(), Vec::new());
    table::groups(path, &["id", "category"], |frame| {
        ids.extend(table::integers(frame, "id", path)?.no_null_iter());
        for category in table::texts(frame, "category", path)?.no_null_iter() {
            classes.push(i64::from(labels.label(category, path)?));
        }
        Ok(())
    })?;
    Ok((ids, classes))
}
