//! Turns headlines into feature vectors with the artifacts of `embed`: a matrix of the headlines'
//! mean word vectors, built row by row.
//!
//! `tensors` makes the training data with it, and `predict` the features of new headlines, so that
//! a net sees both alike.

use std::collections::HashMap;
use std::path::Path;

use failure::{Failure, Result};
use foldhash::fast::RandomState;
use formats::arrays::Values;
use formats::{Arrays, table};
use kernels::mean::mean_into;
use kernels::simd::prefetch;
use text::{Lowercase, tokens};

/// Finds the vector of a word.
pub struct Lookup {
    rows: HashMap<Box<str>, usize, RandomState>,
    dimension: usize,
    vectors: Values,
    lowercase: Lowercase,
}

impl Lookup {
    /// Reads the two artifacts of `embed`, and checks that they fit together.
    pub fn read(vocabulary: &Path, vectors: &Path) -> Result<Self> {
        let arrays = Arrays::map(vectors)?;
        let lowercase = match arrays.note()? {
            None => Lowercase::Never,
            Some(note) => {
                let note: serde_json::Value = serde_json::from_str(&note).unwrap_or_default();
                let choice =
                    note.get("lowercase").and_then(|name| Lowercase::from_name(name.as_str()?));
                choice.ok_or_else(|| {
                    Failure::artifact(
                        format_args!("the metadata has no known value of `lowercase`: {note}"),
                        vectors,
                    )
                })?
            }
        };
        let (shape, values) = arrays.into_f32("vectors", &[None, None])?;
        let [count, dimension] = shape[..] else {
            return Err(Failure::artifact("array `vectors` is not a matrix", vectors));
        };
        let frame = table::read(vocabulary, &["word", "row"])?;
        if frame.height() != count || dimension == 0 {
            let what = format_args!(
                "{} words for {count} vectors of {dimension} components",
                frame.height()
            );
            return Err(Failure::artifact(what, vocabulary));
        }
        let words = table::texts(&frame, "word", vocabulary)?.no_null_iter();
        let rows = frame
            .column("row")
            .and_then(|c| c.u32())
            .map_err(|e| Failure::artifact(format_args!("column `row`: {e}"), vocabulary))?;
        let mut lookup = Self {
            rows: HashMap::with_capacity_and_hasher(count, RandomState::default()),
            dimension,
            vectors: values,
            lowercase,
        };
        for (word, row) in words.zip(rows.no_null_iter()) {
            let row = row as usize;
            if row >= count {
                return Err(Failure::artifact(
                    format_args!("word `{word}` has row {row}, but there are {count} rows"),
                    vocabulary,
                ));
            }
            lookup.rows.insert(word.into(), row);
        }
        Ok(lookup)
    }

    /// Components of a vector.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// Whether one of the title's words has a vector.
    pub fn knows_a_word_of(&self, title: &str) -> bool {
        tokens(title).any(|word| self.row(word).is_some())
    }

    fn vector(&self, word: &str) -> Option<&[f32]> {
        let start = self.row(word)? * self.dimension;
        self.vectors.get(start..start + self.dimension)
    }

    fn row(&self, word: &str) -> Option<usize> {
        if self.lowercase == Lowercase::Never {
            return self.rows.get(word).copied();
        }
        let (first, then) = self.lowercase.forms(word);
        self.rows.get(&*first).or_else(|| self.rows.get(&*then?)).copied()
    }
}

/// How many words a title has, counting repeated ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownWords {
    /// All of them.
    pub all: usize,
    /// Those that have a vector.
    pub known: usize,
}

/// A matrix of features, built row by row.
pub struct FeatureMatrix<'l> {
    lookup: &'l Lookup,
    values: Vec<f32>,
    /// The vectors of the last row, which is still to be computed. They are scattered over memory,
    /// and are prefetched when they are found, so that they have arrived by the time the next
    /// title's words have been looked up.
    pending: Option<Vec<&'l [f32]>>,
    known: Vec<&'l [f32]>,
}

impl<'l> FeatureMatrix<'l> {
    /// A matrix without rows, with room for `rows`.
    pub fn new(lookup: &'l Lookup, rows: usize) -> Self {
        Self {
            lookup,
            values: Vec::with_capacity(rows * lookup.dimension),
            pending: None,
            known: Vec::new(),
        }
    }

    /// Adds the mean of the title's known words as a row, and returns how many words the title has.
    pub fn push(&mut self, title: &str) -> KnownWords {
        let mut all = 0;
        let vectors =
            tokens(title).inspect(|_| all += 1).filter_map(|word| self.lookup.vector(word));
        self.known.clear();
        self.known.extend(vectors.inspect(|vector| prefetch(vector)));
        let known = self.known.len();
        let next = std::mem::take(&mut self.known);
        self.finish();
        self.values.resize(self.values.len() + self.lookup.dimension, 0.0);
        self.pending = Some(next);
        KnownWords { all, known }
    }

    /// Computes the last row, if it is still to be computed.
    pub fn finish(&mut self) {
        if let Some(known) = self.pending.take() {
            let start = self.values.len().saturating_sub(self.lookup.dimension);
            mean_into(&known, self.values.get_mut(start..).unwrap_or_default());
            self.known = known;
        }
    }

    /// Removes the last row.
    pub fn pop(&mut self) {
        self.pending = None;
        self.values.truncate(self.values.len().saturating_sub(self.lookup.dimension));
    }

    /// Removes all rows.
    pub fn clear(&mut self) {
        self.pending = None;
        self.values.clear();
    }

    /// The values, row after row.
    pub fn values(&mut self) -> &[f32] {
        self.finish();
        &self.values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup() -> Lookup {
        Lookup {
            rows: [("Fed".into(), 0), ("rates".into(), 1)].into_iter().collect(),
            dimension: 2,
            vectors: vec![1.0, 2.0, 3.0, -4.0].into(),
            lowercase: Lowercase::Never,
        }
    }

    #[test]
    fn a_row_is_the_mean_of_the_known_words() {
        let lookup = lookup();
        let mut matrix = FeatureMatrix::new(&lookup, 2);
        assert_eq!(matrix.push("Fed's rates: \"unknown\""), KnownWords { all: 4, known: 2 });
        assert_eq!(matrix.push("Fed Fed rates").known, 3);
        assert_eq!(matrix.values(), [2.0, -1.0, 5.0 / 3.0, 0.0]);
    }

    #[test]
    fn words_are_looked_up_as_embed_did_it() {
        let known = |lowercase| {
            let lookup = Lookup { lowercase, ..lookup() };
            ["Fed", "fed", "Rates", "rates"].map(|word| lookup.row(word).is_some())
        };
        assert_eq!(known(Lowercase::Never), [true, false, false, true]);
        assert_eq!(known(Lowercase::Fallback), [true, false, true, true]);
        assert_eq!(known(Lowercase::Always), [false, false, true, true]);
    }

    #[test]
    fn a_title_without_a_known_word_is_zeros_and_can_be_taken_back() {
        let lookup = lookup();
        let mut matrix = FeatureMatrix::new(&lookup, 2);
        matrix.push("rates");
        assert_eq!(matrix.push("fed").known, 0);
        assert_eq!(matrix.values(), [3.0, -4.0, 0.0, 0.0]);
        matrix.pop();
        assert_eq!(matrix.values(), [3.0, -4.0]);
    }
}
