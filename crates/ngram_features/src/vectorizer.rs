//! Turns texts into sparse rows.

use crate::analyzer::Analyzer;
use crate::features::{Features, narrow};

/// Turns texts into rows of features. It keeps its memory from one text to the next.
pub struct Vectorizer<'f> {
    features: &'f Features,
    analyzer: Analyzer,
    places: Vec<u32>,
    weights: Vec<f64>,
}

impl<'f> Vectorizer<'f> {
    /// For these features.
    pub fn new(features: &'f Features) -> Self {
        Self { features, analyzer: Analyzer::default(), places: Vec::new(), weights: Vec::new() }
    }

    /// Appends the columns, in ascending order, and the values of a text. Returns how many there
    /// are.
    pub fn push(&mut self, text: &str, columns: &mut Vec<u32>, values: &mut Vec<f32>) -> usize {
        let Self { features, analyzer, places, weights } = self;
        let before = columns.len();
        analyzer.read(text, &features.options);
        for (block, range, lookup) in features.lookups() {
            places.clear();
            analyzer.each(block, range, |gram| places.extend(lookup.place(gram.print)));
            places.sort_unstable();
            weights.clear();
            let mut squares = 0.0;
            for same in places.chunk_by(|a, b| a == b) {
                let Some(&place) = same.first() else { continue };
                let tf = if features.options.sublinear_tf {
                    damped(same.len())
                } else {
                    same.len() as f64
                };
                let weight = tf * f64::from(lookup.idf(place));
                // A column of hashed n-grams that are too rare.
                if weight == 0.0 {
                    continue;
                }
                squares += weight * weight;
                columns.push(lookup.column(place));
                weights.push(weight);
            }
            let norm = f64::sqrt(squares);
            values.extend(weights.iter().map(|weight| narrow(weight / norm)));
        }
        columns.len() - before
    }
}

/// 1 + ln(tf).
#[inline]
fn damped(tf: usize) -> f64 {
    if tf == 1 { 1.0 } else { 1.0 + (tf as f64).ln() }
}
