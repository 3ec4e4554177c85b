//! The parts of the data, read from the summaries of the stages before training.

use std::path::Path;

use failure::{Failure, Result};
use schema::{Coverage, FirstRow, Labels, SplitSummary, TensorsSummary};
use serde::Serialize;
use serde::de::DeserializeOwned;
use stage::Stage;
use text::PARTS;

/// A part of the data.
#[derive(Serialize)]
pub struct PartFacts {
    /// train, valid or test.
    pub name: &'static str,
    headlines: usize,
    /// Rows of the part's matrix.
    pub rows: usize,
    columns: usize,
    /// Rows of each category, in label order.
    pub classes: Vec<usize>,
    without_known_word: usize,
    dropped: usize,
    words: usize,
    words_known: usize,
    first: Vec<FirstRow>,
}

impl PartFacts {
    /// The ids of the first rows.
    pub fn first_ids(&self) -> Vec<i64> {
        self.first.iter().map(|row| row.id).collect()
    }
}

/// Reads train, valid and, if it has rows, test.
pub fn read(stage: &Stage, coverage: &Coverage, labels: &Labels) -> Result<Vec<PartFacts>> {
    let split: SplitSummary = json(&stage.input("split", "summary.json")?)?;
    let path = stage.input("tensors", "summary.json")?;
    let matrices: TensorsSummary = json(&path)?;
    let part = |name: &'static str| {
        let matrix = matrices.get(name)?;
        let words = coverage.parts.get(name)?;
        Some(PartFacts {
            name,
            headlines: split.get(name)?.values().sum(),
            rows: matrix.rows,
            columns: matrix.columns,
            classes: labels
                .names()
                .iter()
                .map(|name| matrix.classes.get(name).copied().unwrap_or(0))
                .collect(),
            without_known_word: matrix.without_known_word,
            dropped: matrix.dropped,
            words: words.words,
            words_known: words.known,
            first: matrix.first.clone(),
        })
    };
    let parts: Option<Vec<PartFacts>> = PARTS.into_iter().map(part).collect();
    let parts =
        parts.ok_or_else(|| Failure::artifact("a summary lacks train, valid or test", &path))?;
    Ok(parts.into_iter().filter(|part| part.name != "test" || part.rows > 0).collect())
}

/// The accuracy on a part of always predicting the most frequent category of train.
pub fn majority(parts: &[PartFacts], part: &str) -> f64 {
    let classes = parts.iter().find(|p| p.name == part).map_or(&[][..], |p| &p.classes);
    let n: usize = classes.iter().sum();
    classes.get(most_frequent(parts)).map_or(0.0, |&hits| hits as f64 / n.max(1) as f64)
}

/// The most frequent label of train; of equally frequent ones, the first.
pub fn most_frequent(parts: &[PartFacts]) -> usize {
    let classes = parts.iter().find(|p| p.name == "train").map_or(&[][..], |p| &p.classes);
    classes.iter().enumerate().rev().max_by_key(|(_, count)| **count).map_or(0, |(label, _)| label)
}

/// Reads a JSON artifact.
pub fn json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = std::fs::read(path).map_err(|e| {
        Failure::artifact(format_args!("cannot read an artifact of an earlier stage: {e}"), path)
    })?;
    serde_json::from_slice(&bytes)
        .map_err(|e| Failure::artifact(format_args!("not the expected JSON: {e}"), path))
}

/// Reads an artifact of JSON lines.
pub fn json_lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let text = std::fs::read_to_string(path).map_err(|e| Failure::io("read", path, &e))?;
    let row = |(i, line)| {
        serde_json::from_str(line)
            .map_err(|e| Failure::artifact(format_args!("line {}: {e}", i + 1), path))
    };
    text.lines().enumerate().map(row).collect()
}
