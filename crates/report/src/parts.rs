//! The parts of the data, read from the summaries of the stages before training.

use std::collections::BTreeMap;
use std::path::Path;

use failure::{Failure, Result};
use schema::{
    Coverage, FirstRow, Labels, MatrixSummary, SplitSummary, TensorsSummary, TokensPart,
    TokensSummary,
};
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

/// The parts in every form that there is. Texts may be left out of one form and not of another.
pub struct AllParts {
    /// Those that the report describes.
    pub shown: Vec<PartFacts>,
    /// Those in the other form, if there is one.
    other: Option<Vec<PartFacts>>,
    /// Whether those shown are sequences.
    are_sequences: bool,
    /// Whether there are matrices of features.
    pub has_features: bool,
}

impl AllParts {
    /// Reads the parts; sequences are shown `first` or only where there are no features.
    pub fn read(
        stage: &Stage,
        coverage: &Coverage,
        labels: &Labels,
        sequences_first: bool,
    ) -> Result<Self> {
        let forms = [("tensors", Form::Features), ("tokens", Form::Sequences)];
        let mut forms: Vec<Form> =
            forms.into_iter().filter(|(node, _)| stage.has(node)).map(|(_, form)| form).collect();
        if sequences_first {
            forms.reverse();
        }
        let shown = forms.first().copied().unwrap_or(Form::Headlines);
        let other = forms.get(1).map(|form| read(stage, coverage, labels, *form)).transpose()?;
        Ok(Self {
            shown: read(stage, coverage, labels, shown)?,
            other,
            are_sequences: shown == Form::Sequences,
            has_features: forms.contains(&Form::Features),
        })
    }

    /// The parts as a run takes them.
    pub fn of(&self, sequences: bool) -> &[PartFacts] {
        match &self.other {
            Some(other) if sequences != self.are_sequences => other,
            _ => &self.shown,
        }
    }
}

/// The form in which runs take the parts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Matrices of features.
    Features,
    /// Sequences of tokens.
    Sequences,
    /// As `split` made them.
    Headlines,
}

/// Reads train, valid and, if it has rows, test.
fn read(stage: &Stage, coverage: &Coverage, labels: &Labels, form: Form) -> Result<Vec<PartFacts>> {
    let split_path = stage.input("split", "summary.json")?;
    let split: SplitSummary = json(&split_path)?;
    let (matrices, path) = match form {
        Form::Features => {
            let path = stage.input("tensors", "summary.json")?;
            (json::<TensorsSummary>(&path)?, path)
        }
        Form::Sequences => {
            let path = stage.input("tokens", "summary.json")?;
            (as_matrices(json(&path)?), path)
        }
        Form::Headlines => (split.iter().map(as_matrix).collect(), split_path),
    };
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

/// The parts as a summary of matrices describes them.
fn as_matrices(summary: TokensSummary) -> TensorsSummary {
    let TokensSummary { dimension, parts, .. } = summary;
    let matrix = |(name, part): (String, TokensPart)| {
        let first = part.first.into_iter();
        let first =
            first.map(|row| FirstRow { id: row.id, title: row.text, y: row.y, x: Vec::new() });
        let matrix = MatrixSummary {
            rows: part.rows,
            columns: dimension,
            classes: part.classes,
            without_known_word: part.dropped,
            dropped: part.dropped,
            first: first.collect(),
        };
        (name, matrix)
    };
    parts.into_iter().map(matrix).collect()
}

fn as_matrix((name, classes): (&String, &BTreeMap<String, usize>)) -> (String, MatrixSummary) {
    let matrix = MatrixSummary {
        rows: classes.values().sum(),
        columns: 0,
        classes: classes.clone(),
        without_known_word: 0,
        dropped: 0,
        first: Vec::new(),
    };
    (name.clone(), matrix)
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
