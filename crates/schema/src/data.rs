//! JSON artifacts of the stages before training.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `ingest/summary.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IngestSummary {
    /// The archive's file name, or the name of built-in data.
    pub source: String,
    /// The format, if it is not the news archive's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// Rows that were read.
    pub rows: u64,
    /// Rows of the chosen publishers.
    pub kept: u64,
    /// Kept rows by publisher.
    pub publishers: Vec<(String, u64)>,
    /// Invalid rows, which were left out.
    #[serde(default)]
    pub bad_rows: u64,
    /// What is wrong with the first of them.
    #[serde(default)]
    pub bad: Vec<String>,
}

/// `split/summary.json`: the number of headlines by part and category.
pub type SplitSummary = BTreeMap<String, BTreeMap<String, usize>>;

/// `embed/coverage.json`: which of the headlines' words have a vector.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Coverage {
    /// The name of the vectors' source.
    pub source: String,
    /// The number of components of a vector.
    pub dimension: usize,
    /// The number of words in the source, if it is a file.
    pub entries: Option<u64>,
    /// Distinct words of the headlines.
    pub distinct_words: usize,
    /// Those with a vector.
    pub distinct_words_known: usize,
    /// The words of each part, repeated ones counted.
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

/// `tensors/summary.json`: a description of each part's matrix.
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

/// `tokens/summary.json`: the matrix of embeddings and the sequences of each part.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokensSummary {
    /// Rows of the matrix of embeddings: the data's words that have a vector, and padding.
    pub tokens: usize,
    /// Components of an embedding.
    pub dimension: usize,
    /// The first rows of the matrix, from id 0.
    pub first: Vec<FirstToken>,
    /// The sequences of each part.
    pub parts: BTreeMap<String, TokensPart>,
}

/// One of the first rows of the matrix of embeddings.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FirstToken {
    /// The token.
    pub token: String,
    /// The first components of its embedding.
    pub e: Vec<f32>,
}

/// The sequences of a part.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokensPart {
    /// How many there are.
    pub rows: usize,
    /// Their tokens.
    pub tokens: usize,
    /// Tokens of the longest.
    pub longest: usize,
    /// Rows by category.
    pub classes: BTreeMap<String, usize>,
    /// Texts without a known word that were left out.
    pub dropped: usize,
    /// The first rows.
    pub first: Vec<FirstSequence>,
}

/// One of the first sequences of a part.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FirstSequence {
    /// The text's number in the data.
    pub id: i64,
    /// The text.
    pub text: String,
    /// Its label.
    pub y: i64,
    /// The ids of its tokens.
    pub ids: Vec<u32>,
}

/// `tokens/collate.json`: the first rows of train as a batch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Collated {
    /// The texts' numbers in the data, the longest text first.
    pub id: Vec<i64>,
    /// The token ids, padded with 0 to the length of the longest.
    pub input_ids: Vec<Vec<u32>>,
    /// Tokens without padding.
    pub lengths: Vec<usize>,
    /// The labels.
    pub label: Vec<i64>,
}

/// `ngrams/summary.json`: the sizes of the sparse matrices.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NgramsSummary {
    /// Columns by kind of n-gram.
    pub columns: BTreeMap<String, usize>,
    /// The matrix of each part.
    pub parts: BTreeMap<String, SparseSummary>,
}

/// The sparse matrix of a part.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct SparseSummary {
    /// Its rows.
    pub rows: usize,
    /// Its values that are not 0.
    pub entries: usize,
    /// Rows without any.
    pub empty: usize,
}
