//! What the stages before training say of their results.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `ingest/summary.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IngestSummary {
    /// The archive's name, or what stands for it.
    pub source: String,
    /// Rows that were read.
    pub rows: u64,
    /// Rows of the chosen publishers.
    pub kept: u64,
    /// Kept rows by publisher.
    pub publishers: Vec<(String, u64)>,
    /// Rows that were left out because something is wrong with them.
    #[serde(default)]
    pub bad_rows: u64,
    /// What is wrong with the first of them.
    #[serde(default)]
    pub bad: Vec<String>,
}

/// `split/summary.json`: by part and category, the number of headlines.
pub type SplitSummary = BTreeMap<String, BTreeMap<String, usize>>;

/// `embed/coverage.json`: which of the headlines' words have a vector.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Coverage {
    /// The name of the vectors' source.
    pub source: String,
    /// Components of a vector.
    pub dimension: usize,
    /// Words of the source, if it is a file.
    pub entries: Option<u64>,
    /// Distinct words of the headlines.
    pub distinct_words: usize,
    /// Those with a vector.
    pub distinct_words_known: usize,
    /// Words of each part, repeated ones counted.
    pub parts: BTreeMap<String, WordCount>,
    /// The most frequent words without a vector, each with its count.
    pub most_frequent_unknown: Vec<(String, u32)>,
}

/// The words of a part, repeated ones counted.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct WordCount {
    /// All of them.
    pub words: usize,
    /// Those with a vector.
    pub known: usize,
}

/// `tensors/summary.json`: by part, what its matrix looks like.
pub type TensorsSummary = BTreeMap<String, MatrixSummary>;

/// The matrix of a part.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MatrixSummary {
    /// Its rows.
    pub rows: usize,
    /// Its columns.
    pub columns: usize,
    /// Rows by category.
    pub classes: BTreeMap<String, usize>,
    /// Titles without a word that has a vector.
    pub without_known_word: usize,
    /// Those of them that were left out.
    pub dropped: usize,
    /// The first rows.
    pub first: Vec<FirstRow>,
}

/// One of the first rows of a matrix.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FirstRow {
    /// The headline's number in the archive.
    pub id: i64,
    /// The headline.
    pub title: String,
    /// Its label.
    pub y: i64,
    /// The first components of its features.
    pub x: Vec<f32>,
}
