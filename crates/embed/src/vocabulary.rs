//! The distinct words of the headlines, and the vectors that were found for them.

use std::collections::HashMap;

use features::PARTS;
use foldhash::fast::RandomState;

/// The words, most frequent first, equally frequent ones in byte order.
#[derive(Debug)]
pub struct Vocabulary {
    /// The words and how often each occurs.
    pub words: Vec<(String, u32)>,
    /// How often each occurs in each part.
    pub by_part: Vec<[u32; PARTS.len()]>,
    place: HashMap<Box<[u8]>, usize, RandomState>,
}

/// Words that are being counted.
#[derive(Default)]
pub struct Counter(HashMap<Box<str>, [u32; PARTS.len()], RandomState>);

impl Counter {
    /// Counts the words of a title of a part.
    pub fn add(&mut self, title: &str, part: usize) {
        for word in features::tokens(title) {
            let counts = match self.0.get_mut(word) {
                Some(counts) => counts,
                None => self.0.entry(word.into()).or_default(),
            };
            if let Some(count) = counts.get_mut(part) {
                *count += 1;
            }
        }
    }

    /// The words that were counted.
    pub fn finish(self) -> Vocabulary {
        let mut all: Vec<(String, u32, [u32; PARTS.len()])> =
            self.0.into_iter().map(|(word, counts)| (word.into(), counts.iter().sum(), counts)).collect();
        all.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let place = all.iter().enumerate().map(|(i, (word, ..))| (word.as_bytes().into(), i)).collect();
        let by_part = all.iter().map(|word| word.2).collect();
        Vocabulary { words: all.into_iter().map(|(word, count, _)| (word, count)).collect(), by_part, place }
    }
}

impl Vocabulary {
    /// The words of `titles`, which are of the first part.
    #[cfg(test)]
    pub fn count<'a>(titles: impl Iterator<Item = &'a str>) -> Self {
        let mut counter = Counter::default();
        titles.for_each(|title| counter.add(title, 0));
        counter.finish()
    }

    /// The place of a word.
    pub fn find(&self, word: &[u8]) -> Option<usize> {
        self.place.get(word).copied()
    }
}

/// The vectors found so far for a vocabulary's words.
pub struct Found<'v> {
    vocabulary: &'v Vocabulary,
    dimension: usize,
    /// For each word, where its vector begins in `values`.
    starts: Vec<Option<usize>>,
    values: Vec<f32>,
}

impl<'v> Found<'v> {
    /// None yet.
    pub fn new(vocabulary: &'v Vocabulary, dimension: usize) -> Self {
        Self { vocabulary, dimension, starts: vec![None; vocabulary.words.len()], values: Vec::new() }
    }

    /// The place of `word` if a vector is still wanted for it. Of two equal words in a file the
    /// first counts, so a word that has its vector is wanted no more. A word that is not UTF-8 is
    /// in no headline.
    pub fn wants(&self, word: &[u8]) -> Option<usize> {
        let place = self.vocabulary.find(word)?;
        self.starts.get(place)?.is_none().then_some(place)
    }

    /// Takes the vector of the word at `place`, or says at which component it is no number.
    pub fn put(&mut self, place: usize, vector: impl Iterator<Item = f32>) -> Result<(), usize> {
        let start = self.values.len();
        self.values.extend(vector);
        let new = self.values.get(start..).unwrap_or_default();
        debug_assert_eq!(new.len(), self.dimension);
        if let Some(bad) = new.iter().position(|x| !x.is_finite()) {
            self.values.truncate(start);
            return Err(bad);
        }
        if let Some(slot) = self.starts.get_mut(place) {
            *slot = Some(start);
        }
        Ok(())
    }

    /// How many words have their vector.
    pub fn count(&self) -> usize {
        self.starts.iter().flatten().count()
    }

    /// Components of a vector.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// Whether the word at `place` has its vector.
    pub fn has(&self, place: usize) -> bool {
        self.starts.get(place).is_some_and(Option::is_some)
    }

    /// The vectors in the vocabulary's order, row after row, and the places of their words.
    pub fn into_matrix(self) -> (Vec<usize>, Vec<f32>) {
        let mut matrix = Vec::with_capacity(self.values.len());
        let mut places = Vec::new();
        for (place, start) in self.starts.iter().enumerate() {
            if let Some(vector) = start.and_then(|s| self.values.get(s..s + self.dimension)) {
                matrix.extend_from_slice(vector);
                places.push(place);
            }
        }
        (places, matrix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_ordered_by_count_and_then_by_bytes() {
        let vocabulary = Vocabulary::count(["b a", "c a", "B"].into_iter());
        let words: Vec<_> = vocabulary.words.iter().map(|(w, n)| (w.as_str(), *n)).collect();
        assert_eq!(words, [("a", 2), ("B", 1), ("b", 1), ("c", 1)]);
        assert_eq!(vocabulary.find(b"c"), Some(3));
    }

    #[test]
    fn the_first_of_two_equal_words_counts() {
        let vocabulary = Vocabulary::count(["b a a"].into_iter());
        let mut found = Found::new(&vocabulary, 2);
        let place = found.wants(b"b").expect("wanted");
        found.put(place, [1.0, 2.0].into_iter()).expect("finite");
        assert_eq!(found.wants(b"b"), None);
        assert_eq!(found.wants(b"\xff"), None);
        assert_eq!(found.put(0, [1.0, f32::NAN].into_iter()), Err(1));
        assert_eq!(found.into_matrix(), (vec![1], vec![1.0, 2.0]));
    }
}
