//! Turns headlines into feature vectors with the artifacts of `embed`: a matrix of the headlines'
//! mean word vectors, built row by row.
//!
//! `tensors` makes the training data with it, and `predict` the features of new headlines, so that
//! a net sees both alike.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use failure::{Failure, Result};
use foldhash::fast::RandomState;
use formats::arrays::Values;
use formats::{Arrays, table};
use kernels::mean::mean_into;
use kernels::simd::prefetch;
use text::Lowercase;
use tokenizer::Tokenizer;

/// Finds the vectors of a text's words.
pub struct Lookup {
    words: Words,
    /// Words that training did not see.
    more: Option<Words>,
    dimension: usize,
    lowercase: Lowercase,
    tokenizer: Tokenizer,
}

/// Words and their vectors.
struct Words {
    rows: HashMap<Box<str>, usize, RandomState>,
    vectors: Values,
}

/// The artifacts of `embed` that a lookup needs.
pub struct LookupFiles {
    /// `vocabulary.parquet`.
    pub vocabulary: PathBuf,
    /// `vectors.safetensors`.
    pub vectors: PathBuf,
    /// `tokenizer.json`.
    pub tokenizer: PathBuf,
    /// `more-vocabulary.parquet` and `more-vectors.safetensors`, to know more words than those of
    /// the data.
    pub more: Option<[PathBuf; 2]>,
}

impl LookupFiles {
    /// All of them, in the folder of `embed`.
    pub fn with_more_words(embed: &Path) -> Self {
        let file = |name: &str| embed.join(name);
        Self {
            vocabulary: file("vocabulary.parquet"),
            vectors: file("vectors.safetensors"),
            tokenizer: file(Tokenizer::FILE),
            more: Some([file("more-vocabulary.parquet"), file("more-vectors.safetensors")]),
        }
    }
}

impl Words {
    /// Reads a table of words and their vectors, and checks that they fit together. Returns the
    /// number of components, too.
    fn read(vocabulary: &Path, vectors: &Path, arrays: Arrays) -> Result<(Self, usize)> {
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
        let rows = rows.no_null_iter().map(|row| row as usize);
        let mut found = HashMap::with_capacity_and_hasher(count, RandomState::default());
        for (word, row) in words.zip(rows) {
            if row >= count {
                return Err(Failure::artifact(
                    format_args!("word `{word}` has row {row}, but there are {count} rows"),
                    vocabulary,
                ));
            }
            // A file may have a word twice; the first entry counts.
            found.entry(word.into()).or_insert(row);
        }
        Ok((Self { rows: found, vectors: values }, dimension))
    }

    fn count(&self, dimension: usize) -> usize {
        self.vectors.len() / dimension
    }

    fn vector(&self, row: usize, dimension: usize) -> Option<&[f32]> {
        let start = row * dimension;
        self.vectors.get(start..start + dimension)
    }
}

impl Lookup {
    /// Reads the artifacts, and checks that they fit together.
    pub fn read(files: &LookupFiles) -> Result<Self> {
        let LookupFiles { vocabulary, vectors, tokenizer, more } = files;
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
        let (words, dimension) = Words::read(vocabulary, vectors, arrays)?;
        let more = match more {
            None => None,
            Some([vocabulary, vectors]) => {
                let (more, of) = Words::read(vocabulary, vectors, Arrays::map(vectors)?)?;
                if of != dimension {
                    let what = format_args!("vectors of {of} components, not {dimension}");
                    return Err(Failure::artifact(what, vectors));
                }
                Some(more)
            }
        };
        Ok(Self { words, more, dimension, lowercase, tokenizer: Tokenizer::read(tokenizer)? })
    }

    /// Components of a vector.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// When a word is looked up in lower case.
    pub const fn lowercase(&self) -> Lowercase {
        self.lowercase
    }

    /// How text becomes words.
    pub const fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The words with their places, in no order: those of the data, then the others.
    pub fn words(&self) -> impl Iterator<Item = (&str, usize)> {
        let base = self.words.count(self.dimension);
        let of_data = self.words.rows.iter().map(|(word, row)| (&**word, *row));
        let more = self.more.iter().flat_map(|more| &more.rows);
        of_data.chain(more.map(move |(word, row)| (&**word, base + row)))
    }

    /// The vectors of the data's words, row after row, in the order of their places.
    pub fn vectors(&self) -> &[f32] {
        &self.words.vectors
    }

    /// The vector at a place among the other words, which come after those of the data.
    pub fn other_vector(&self, place: usize) -> &[f32] {
        let more = self.more.as_ref().and_then(|more| more.vector(place, self.dimension));
        more.unwrap_or_default()
    }

    /// Whether one of the title's words has a vector.
    pub fn knows_a_word_of(&self, title: &str) -> bool {
        let mut knows = false;
        self.tokenizer.each(title, |word| knows = knows || self.vector(word).is_some());
        knows
    }

    /// Appends the places of a title's known words, for a [`Projection`].
    pub fn places(&self, title: &str, to: &mut Vec<usize>) -> KnownWords {
        let (mut all, before) = (0, to.len());
        self.tokenizer.each(title, |word| {
            all += 1;
            to.extend(self.place(word));
        });
        KnownWords { all, known: to.len() - before }
    }

    fn vector(&self, word: &str) -> Option<&[f32]> {
        let place = self.place(word)?;
        match place.checked_sub(self.words.count(self.dimension)) {
            None => self.words.vector(place, self.dimension),
            Some(place) => self.more.as_ref()?.vector(place, self.dimension),
        }
    }

    /// Where a word's vector is: among those of the data, or after them among the others.
    fn place(&self, word: &str) -> Option<usize> {
        if self.lowercase == Lowercase::Never {
            return self.as_written(word);
        }
        let (first, then) = self.lowercase.forms(word);
        self.as_written(&first).or_else(|| self.as_written(&then?))
    }

    fn as_written(&self, word: &str) -> Option<usize> {
        let more = || Some(self.words.count(self.dimension) + self.more.as_ref()?.rows.get(word)?);
        self.words.rows.get(word).copied().or_else(more)
    }
}

/// The products of every word's vector with a matrix. The product of a headline's mean vector is
/// the mean of its words' products, which are shorter.
pub struct Projection {
    width: usize,
    products: Vec<f32>,
}

impl Projection {
    /// The products with `matrix`, which has a row of `width` numbers for each component.
    pub fn new(lookup: &Lookup, matrix: &[f32], width: usize) -> Self {
        let all = [Some(&lookup.words), lookup.more.as_ref()];
        let vectors = all
            .into_iter()
            .flatten()
            .flat_map(|words| words.vectors.chunks_exact(lookup.dimension));
        let mut products = Vec::new();
        for vector in vectors {
            let start = products.len();
            products.resize(start + width, 0.0);
            let to = products.get_mut(start..).unwrap_or_default();
            for (x, row) in vector.iter().zip(matrix.chunks_exact(width)) {
                to.iter_mut().zip(row).for_each(|(to, weight)| *to += x * weight);
            }
        }
        Self { width, products }
    }

    /// Adds the product of the mean vector of words at these places to `to`.
    #[inline]
    pub fn add(&self, places: &[usize], to: &mut [f32]) {
        let share = 1.0 / places.len().max(1) as f32;
        for place in places {
            let product = self.products.get(place * self.width..(place + 1) * self.width);
            for (to, x) in to.iter_mut().zip(product.unwrap_or_default()) {
                *to += share * x;
            }
        }
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
        let lookup = self.lookup;
        let mut next = std::mem::take(&mut self.known);
        next.clear();
        lookup.tokenizer.each(title, |word| {
            all += 1;
            if let Some(vector) = lookup.vector(word) {
                prefetch(vector);
                next.push(vector);
            }
        });
        let known = next.len();
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
        let words = |words: &[&str], vectors: &[f32]| Words {
            rows: words.iter().map(|word| (*word).into()).zip(0..).collect(),
            vectors: vectors.to_vec().into(),
        };
        Lookup {
            words: words(&["Fed", "rates"], &[1.0, 2.0, 3.0, -4.0]),
            more: Some(words(&["bond", "Fed"], &[8.0, 8.0, 9.0, 9.0])),
            dimension: 2,
            lowercase: Lowercase::Never,
            tokenizer: Tokenizer::Exercise,
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
    fn words_that_training_did_not_see_are_known_and_the_data_s_come_first() {
        let lookup = lookup();
        let mut matrix = FeatureMatrix::new(&lookup, 1);
        assert_eq!(matrix.push("Fed bond unknown"), KnownWords { all: 3, known: 2 });
        assert_eq!(matrix.values(), [4.5, 5.0]);
    }

    #[test]
    fn the_product_of_the_mean_is_the_mean_of_the_products() {
        let lookup = lookup();
        let projection = Projection::new(&lookup, &[1.0, 0.0, 10.0, 2.0, -1.0, 0.5], 3);
        let mut matrix = FeatureMatrix::new(&lookup, 1);
        for title in ["Fed bond unknown", "rates", "unknown"] {
            let (mut places, mut to) = (Vec::new(), [1.0, 2.0, 3.0]);
            let words = lookup.places(title, &mut places);
            projection.add(&places, &mut to);
            matrix.clear();
            assert_eq!(matrix.push(title), words);
            let &[x, y] = matrix.values() else { panic!("two components") };
            let want = [1.0 + x + 2.0 * y, 2.0 - y, 3.0 + 10.0 * x + 0.5 * y];
            assert!(to.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-5), "{to:?} {want:?}");
        }
    }

    #[test]
    fn words_are_looked_up_as_embed_did_it() {
        let known = |lowercase| {
            let lookup = Lookup { lowercase, ..lookup() };
            ["Fed", "fed", "Rates", "rates"].map(|word| lookup.vector(word).is_some())
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
