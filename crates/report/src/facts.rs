//! Everything that the report says, read from the stages' artifacts. `metrics.json` is this.

use std::collections::BTreeMap;
use std::path::Path;

use artifact::{Failure, Result, Stage};
use features::{Category, PARTS};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::published::{PUBLISHED, Published, SOURCE, Source};
use crate::runs::{Run, Start, Sweep};

/// All facts.
#[derive(Serialize)]
pub struct Facts {
    made: Made,
    /// What was read.
    pub ingest: Ingest,
    categories: Vec<Named>,
    parts: Vec<Part>,
    coverage: Coverage,
    start: Start,
    /// The single-layer net.
    pub slp: Run,
    /// The same, for longer.
    pub curve: Run,
    /// The multi-layer net.
    pub mlp: Run,
    /// Times by batch size.
    pub sweep: Sweep,
    /// What a public Python answer came to, where data and word vectors are of the kind that it used.
    pub published: Option<Published>,
    /// Where those figures come from.
    published_source: Source,
}

/// What made the report.
#[derive(Serialize)]
struct Made {
    version: &'static str,
    commit: Option<String>,
    /// Whether files differed from the commit.
    dirty: bool,
    /// The options of the nodes before training, by name.
    options: BTreeMap<String, serde_json::Value>,
}

/// A category.
#[derive(Serialize)]
struct Named {
    letter: &'static str,
    /// What the letter stands for in the news archive; other data may mean something else by it.
    name: Option<&'static str>,
    japanese: Option<&'static str>,
}

/// `ingest/summary.json`.
#[derive(Serialize, Deserialize)]
pub struct Ingest {
    source: String,
    rows: u64,
    kept: u64,
    publishers: Vec<(String, u64)>,
}

/// Rows of the news archive.
const ARCHIVE_ROWS: u64 = 422_937;

impl Ingest {
    /// Whether the rows are the news archive's, or made up like them.
    fn is_news(&self) -> bool {
        self.source == "embedded sample" || self.source.starts_with("sample:") || self.rows == ARCHIVE_ROWS
    }
}

/// `embed/coverage.json`.
#[derive(Serialize, Deserialize)]
struct Coverage {
    source: String,
    dimension: usize,
    entries: Option<u64>,
    distinct_words: usize,
    distinct_words_known: usize,
    parts: BTreeMap<String, Share>,
    most_frequent_unknown: Vec<(String, u32)>,
}

/// Words of a part.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Share {
    words: usize,
    known: usize,
}

/// A part of `tensors/summary.json`.
#[derive(Deserialize)]
struct Matrix {
    rows: usize,
    columns: usize,
    classes: BTreeMap<String, usize>,
    without_known_word: usize,
    dropped: usize,
    first: Vec<Headline>,
}

/// One of the first rows of a part.
#[derive(Clone, Serialize, Deserialize)]
struct Headline {
    id: i64,
    title: String,
    y: usize,
    x: Vec<f64>,
}

/// A part, for a table's row.
#[derive(Serialize)]
pub struct Part {
    /// train, valid or test.
    pub name: &'static str,
    headlines: usize,
    /// Rows of its matrix.
    pub rows: usize,
    columns: usize,
    /// Rows of each category, in label order.
    pub classes: Vec<usize>,
    without_known_word: usize,
    dropped: usize,
    words: usize,
    words_known: usize,
    first: Vec<Headline>,
}

impl Part {
    /// The ids of the first rows.
    pub fn first_ids(&self) -> Vec<i64> {
        self.first.iter().map(|headline| headline.id).collect()
    }
}

impl Facts {
    /// Reads the facts of all stages.
    pub fn read(stage: &Stage) -> Result<Self> {
        let parts = parts(stage)?;
        let ingest: Ingest = json(&stage.input("ingest", "summary.json"))?;
        let coverage: Coverage = json(&stage.input("embed", "coverage.json"))?;
        let is_published_data = PUBLISHED.is_of(&parts);
        let has_news_categories = is_published_data || ingest.is_news();
        let named = |c: &Category| Named {
            letter: c.letter(),
            name: has_news_categories.then(|| c.name()),
            japanese: has_news_categories.then(|| japanese(*c)),
        };
        let (commit, dirty) = match stage.commit.as_deref() {
            Some(commit) => (Some(commit.trim_end_matches("-dirty").to_owned()), commit.ends_with("-dirty")),
            None => (None, false),
        };
        let mut options = BTreeMap::new();
        for node in ["ingest", "split", "embed", "tensors"] {
            let of: BTreeMap<String, serde_json::Value> = json(&stage.input(node, artifact::stage::OPTIONS))?;
            options.extend(of.into_iter().map(|(name, value)| (format!("{node}.{name}"), value)));
        }
        Ok(Self {
            made: Made { version: env!("CARGO_PKG_VERSION"), commit, dirty, options },
            categories: Category::ALL.iter().map(named).collect(),
            // Its vectors were a file's, of 300 components.
            published: (is_published_data && coverage.dimension == 300 && coverage.entries.is_some()).then_some(PUBLISHED),
            published_source: SOURCE,
            ingest,
            coverage,
            start: json(&stage.input("train.slp", "start.json"))?,
            slp: Run::read(stage, "train.slp", &parts)?,
            curve: Run::read(stage, "train.curve", &parts)?,
            mlp: Run::read(stage, "train.mlp", &parts)?,
            sweep: Sweep::read(stage)?,
            parts,
        })
    }

    /// The result in one line.
    pub fn headline(&self) -> String {
        format!("test accuracy: single-layer net {}, multi-layer net {}", accuracy(&self.slp, false), accuracy(&self.mlp, false))
    }

    /// The same in Japanese.
    pub fn japanese_headline(&self) -> String {
        format!("評価データの正解率：単層 {}、多層 {}", accuracy(&self.slp, true), accuracy(&self.mlp, true))
    }
}

/// A run's accuracy on test; over several seeds, with what they come to.
fn accuracy(run: &Run, ja: bool) -> String {
    let one = format!("{:.1} %", run.test() * 100.0);
    let Some((spread, n)) = run.over_seeds() else { return one };
    let (mean, deviation) = (spread.mean * 100.0, spread.deviation * 100.0);
    if ja {
        format!("{one}（{n}シード：{mean:.1} ± {deviation:.1} %）")
    } else {
        format!("{one} ({n} seeds: {mean:.1} ± {deviation:.1} %)")
    }
}

fn parts(stage: &Stage) -> Result<Vec<Part>> {
    let split: BTreeMap<String, BTreeMap<String, usize>> = json(&stage.input("split", "summary.json"))?;
    let matrices: BTreeMap<String, Matrix> = json(&stage.input("tensors", "summary.json"))?;
    let coverage: Coverage = json(&stage.input("embed", "coverage.json"))?;
    let part = |name: &'static str| {
        let matrix = matrices.get(name)?;
        let share = coverage.parts.get(name)?;
        Some(Part {
            name,
            headlines: split.get(name)?.values().sum(),
            rows: matrix.rows,
            columns: matrix.columns,
            classes: Category::ALL.iter().map(|c| matrix.classes.get(c.letter()).copied().unwrap_or(0)).collect(),
            without_known_word: matrix.without_known_word,
            dropped: matrix.dropped,
            words: share.words,
            words_known: share.known,
            first: matrix.first.clone(),
        })
    };
    let parts: Option<Vec<Part>> = PARTS.into_iter().map(part).collect();
    parts
        .ok_or_else(|| Failure::artifact("the summaries name other parts than train, valid, test", &stage.input("tensors", "summary.json")))
}

/// As the exercise calls it.
fn japanese(category: Category) -> &'static str {
    match category {
        Category::Business => "ビジネス",
        Category::Technology => "科学技術",
        Category::Entertainment => "エンターテインメント",
        Category::Medicine => "健康",
    }
}

/// Reads a JSON artifact.
pub fn json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes =
        std::fs::read(path).map_err(|e| Failure::artifact(format_args!("cannot read an artifact of an earlier stage: {e}"), path))?;
    serde_json::from_slice(&bytes).map_err(|e| Failure::artifact(format_args!("not the expected JSON: {e}"), path))
}
