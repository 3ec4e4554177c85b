//! Turns texts into sparse rows.

use crate::analyzer::Analyzer;
use crate::features::{BlockLookup, Features, narrow};

/// Turns texts into rows of features. It keeps its memory from one text to the next.
pub struct Vectorizer<'f> {
    features: &'f Features,
    analyzer: Analyzer,
    /// What the n-grams of a text are looked up by.
    begun: Vec<u64>,
    seen: Seen,
    /// The number of each n-gram that came again, once for each time.
    again: Vec<u32>,
    /// The number of each such n-gram, and its weight.
    weights: Vec<(u32, f64)>,
    sorted: Vec<(u32, f32)>,
}

impl<'f> Vectorizer<'f> {
    /// For these features.
    pub fn new(features: &'f Features) -> Self {
        Self {
            features,
            analyzer: Analyzer::default(),
            begun: Vec::new(),
            seen: Seen::default(),
            again: Vec::new(),
            weights: Vec::new(),
            sorted: Vec::new(),
        }
    }

    /// Appends the columns, in ascending order, and the values of a text. Returns how many there
    /// are.
    pub fn push(&mut self, text: &str, columns: &mut Vec<u32>, values: &mut Vec<f32>) -> usize {
        let before = columns.len();
        self.push_unsorted(text, columns, values);
        let (columns, values) = (
            columns.get_mut(before..).unwrap_or_default(),
            values.get_mut(before..).unwrap_or_default(),
        );
        self.sorted.clear();
        self.sorted.extend(columns.iter().copied().zip(values.iter().copied()));
        self.sorted.sort_unstable_by_key(|entry| entry.0);
        for ((column, value), entry) in columns.iter_mut().zip(values).zip(&self.sorted) {
            (*column, *value) = *entry;
        }
        self.sorted.len()
    }

    /// The same values, with the columns in the order of the text, which takes less time.
    pub fn push_unsorted(
        &mut self,
        text: &str,
        columns: &mut Vec<u32>,
        values: &mut Vec<f32>,
    ) -> usize {
        let Self { features, analyzer, begun, seen, again, weights, .. } = self;
        let before = columns.len();
        analyzer.read(text, &features.options);
        for (block, range, lookup) in features.lookups() {
            // All first, so that the slots of the table arrive while others are looked up.
            begun.clear();
            analyzer.each(block, range, |gram| begun.push(lookup.begin(gram.print)));
            lookup.continue_with(begun);
            let first = columns.len();
            again.clear();
            seen.clear(begun.len());
            find(begun, lookup, seen, again, columns, values);
            let values = values.get_mut(first..).unwrap_or_default();
            weigh(values, again, weights, features.options.sublinear_tf);
        }
        columns.len() - before
    }
}

/// Appends the columns of n-grams and their idf, and to `again` the numbers of those that come
/// again.
#[inline(never)]
fn find(
    begun: &[u64],
    lookup: BlockLookup<'_>,
    seen: &mut Seen,
    again: &mut Vec<u32>,
    columns: &mut Vec<u32>,
    values: &mut Vec<f32>,
) {
    let mut next = 0;
    for &begun in begun {
        // A weight of 0 is that of a column of hashed n-grams that are too rare.
        let Some((place, idf)) = lookup.end(begun).filter(|(_, idf)| *idf != 0.0) else {
            continue;
        };
        let number = seen.number(place, next);
        if number == next {
            columns.push(lookup.column(place));
            values.push(idf);
            next += 1;
        } else {
            again.push(number);
        }
    }
}

/// Turns the idf of n-grams into their share of the row. The numbers in `again` are those of
/// n-grams that came again.
fn weigh(values: &mut [f32], again: &mut [u32], weights: &mut Vec<(u32, f64)>, sublinear: bool) {
    weights.clear();
    again.sort_unstable();
    let mut squares: f64 = values.iter().map(|&idf| f64::from(idf) * f64::from(idf)).sum();
    for same in again.chunk_by(|a, b| a == b) {
        let Some(&number) = same.first() else { continue };
        let idf = f64::from(values.get(number as usize).copied().unwrap_or_default());
        let count = 1.0 + same.len() as f64;
        let tf = if sublinear { 1.0 + count.ln() } else { count };
        squares += (tf * tf - 1.0) * idf * idf;
        weights.push((number, tf * idf));
    }
    let norm = squares.sqrt();
    for value in &mut *values {
        *value = narrow(f64::from(*value) / norm);
    }
    for &(number, weight) in &*weights {
        if let Some(to) = values.get_mut(number as usize) {
            *to = narrow(weight / norm);
        }
    }
}

/// The numbers of the places that were seen in a text: a hash table small enough for the first-level
/// cache.
#[derive(Default)]
struct Seen {
    /// The text, the place and its number.
    slots: Vec<(u32, u32, u32)>,
    text: u32,
    shift: u32,
}

impl Seen {
    /// Forgets everything, and makes room for so many places.
    fn clear(&mut self, places: usize) {
        let size = (2 * places).next_power_of_two().max(256);
        if size > self.slots.len() || self.text == u32::MAX {
            self.slots = vec![(0, 0, 0); size.max(self.slots.len())];
            self.shift = u32::BITS - self.slots.len().trailing_zeros();
            self.text = 0;
        }
        self.text += 1;
    }

    /// The number of a place; `next` if it was not seen.
    #[inline]
    fn number(&mut self, place: u32, next: u32) -> u32 {
        let mut at = (place.wrapping_mul(0x9e37_79b9) >> self.shift) as usize;
        let mask = self.slots.len() - 1;
        loop {
            let Some(slot) = self.slots.get_mut(at & mask) else { return next };
            if slot.0 != self.text {
                *slot = (self.text, place, next);
                return next;
            }
            if slot.1 == place {
                return slot.2;
            }
            at += 1;
        }
    }
}
