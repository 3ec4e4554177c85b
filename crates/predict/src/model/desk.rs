//! Answers headlines with a model.

use answers::Known;
use classifiers::neighbours::Search;
use headline_features::{FeatureMatrix, Lookup};
use kernels::odds::softmax;
use ngram_features::Vectorizer;

use super::Model;

/// The features of some headlines.
pub struct Rows<'d> {
    pub classes: usize,
    pub lookup: &'d Lookup,
    pub dense: &'d [f32],
    columns: &'d [u32],
    values: &'d [f32],
    /// Where the n-grams of each headline end.
    pub ends: &'d [usize],
    /// The places of known words, and where those of each headline end.
    places: &'d [usize],
    place_ends: &'d [usize],
}

impl<'d> Rows<'d> {
    /// The n-grams of a headline.
    pub fn sparse(&self, row: usize) -> (&'d [u32], &'d [f32]) {
        (part(self.columns, self.ends, row), part(self.values, self.ends, row))
    }

    /// The places of a headline's known words.
    pub fn places(&self, row: usize) -> &'d [usize] {
        part(self.places, self.place_ends, row)
    }
}

/// The values of a row, for the ends of all rows.
fn part<'d, T>(values: &'d [T], ends: &[usize], row: usize) -> &'d [T] {
    let end = |row: usize| ends.get(row).copied();
    let start = row.checked_sub(1).map_or(Some(0), end);
    let range = start.zip(end(row)).map(|(start, end)| start..end).unwrap_or_default();
    values.get(range).unwrap_or_default()
}

impl Model {
    /// What a thread needs to answer, with room for `rows` headlines at once.
    pub fn desk(&self, rows: usize) -> ModelDesk<'_> {
        ModelDesk {
            model: self,
            matrix: FeatureMatrix::new(&self.lookup, rows),
            vectorizer: self.ngrams.as_ref().map(Vectorizer::new),
            search: self.index.as_ref().map(Search::new),
            columns: Vec::new(),
            values: Vec::new(),
            ends: Vec::new(),
            places: Vec::new(),
            place_ends: Vec::new(),
            known: Vec::new(),
            inputs: Vec::new(),
            probabilities: Vec::new(),
        }
    }
}

/// What a thread answers headlines with. It keeps its memory.
pub struct ModelDesk<'m> {
    model: &'m Model,
    matrix: FeatureMatrix<'m>,
    vectorizer: Option<Vectorizer<'m>>,
    search: Option<Search<'m>>,
    columns: Vec<u32>,
    values: Vec<f32>,
    ends: Vec<usize>,
    places: Vec<usize>,
    place_ends: Vec<usize>,
    known: Vec<Known>,
    inputs: Vec<f32>,
    probabilities: Vec<f32>,
}

impl ModelDesk<'_> {
    /// The probabilities of the headlines, in label order, one after the other, and what is known of
    /// their words.
    pub fn probabilities(&mut self, titles: &[String]) -> (&[f32], &[Known]) {
        self.clear();
        let Self { model, matrix, vectorizer, search, known, probabilities, .. } = self;
        for title in titles {
            let words = model.lookup.places(title, &mut self.places);
            self.place_ends.push(self.places.len());
            if model.takes_vectors {
                matrix.push(title);
            }
            let ngrams = match vectorizer {
                None => 0,
                // Equally near headlines are told apart by the last bits of sums, which depend on
                // the order of the columns; so it is that of training.
                Some(of) if model.index.is_some() => {
                    of.push(title, &mut self.columns, &mut self.values)
                }
                Some(of) => of.push_unsorted(title, &mut self.columns, &mut self.values),
            };
            self.ends.push(self.columns.len());
            let anything = ngrams > 0 || (model.knows_words && words.known > 0);
            known.push(Known { all: words.all, known: words.known, anything });
        }
        let classes = model.labels.len();
        let rows = Rows {
            classes,
            lookup: &model.lookup,
            dense: matrix.values(),
            columns: &self.columns,
            values: &self.values,
            ends: &self.ends,
            places: &self.places,
            place_ends: &self.place_ends,
        };
        *probabilities = model.run.margins(&rows, search);
        for row in probabilities.chunks_exact_mut(classes) {
            model.run.calibrator.logits(row, &mut self.inputs);
            softmax(row);
        }
        (probabilities, known)
    }

    fn clear(&mut self) {
        self.matrix.clear();
        self.columns.clear();
        self.values.clear();
        self.ends.clear();
        self.places.clear();
        self.place_ends.clear();
        self.known.clear();
    }
}
