//! The distinct words of the headlines, and the vectors that were found for them.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use text::{Lowercase, PARTS, lower};
use tokenizer::Tokenizer;

/// The words, most frequent first, equally frequent ones in byte order.
#[derive(Debug)]
pub struct Vocabulary {
    /// The words and how often each occurs.
    pub words: Vec<(String, u32)>,
    /// How often each word occurs in each part.
    pub by_part: Vec<[u32; PARTS.len()]>,
    /// When words are looked up in lower case.
    pub lowercase: Lowercase,
    /// The lower-case forms that are not words themselves; their places come after the words'.
    forms: Vec<String>,
    /// For each word, the place of its lower-case form, if that differs from the word.
    form_of: Vec<Option<usize>>,
    place: HashMap<Box<[u8]>, usize, RandomState>,
}

/// Counts words.
pub struct Counter<'t> {
    counts: HashMap<Box<str>, [u32; PARTS.len()], RandomState>,
    lowercase: Lowercase,
    tokenizer: &'t Tokenizer,
}

impl<'t> Counter<'t> {
    /// A counter without words; with `Lowercase::Always`, words that differ only in case are equal.
    pub fn new(lowercase: Lowercase, tokenizer: &'t Tokenizer) -> Self {
        Self { counts: HashMap::default(), lowercase, tokenizer }
    }

    /// Counts the words of a title; `part` is its part's place in [`PARTS`].
    pub fn add(&mut self, title: &str, part: usize) {
        let Self { counts, lowercase, tokenizer } = self;
        tokenizer.each(title, |word| {
            let (word, _) = lowercase.forms(word);
            let counts = match counts.get_mut(&*word) {
                Some(counts) => counts,
                None => counts.entry(word.into()).or_default(),
            };
            if let Some(count) = counts.get_mut(part) {
                *count += 1;
            }
        });
    }

    /// The counted words in byte order, and how often each occurs in each part.
    pub fn into_counts(self) -> Vec<(Box<str>, [u32; PARTS.len()])> {
        let mut counts: Vec<_> = self.counts.into_iter().collect();
        counts.sort_unstable();
        counts
    }

    /// Adds what another counter counted.
    pub fn add_counts(&mut self, more: Vec<(Box<str>, [u32; PARTS.len()])>) {
        for (word, counts) in more {
            let all = self.counts.entry(word).or_default();
            all.iter_mut().zip(counts).for_each(|(all, more)| *all += more);
        }
    }

    /// Sorts the counted words.
    pub fn finish(self) -> Vocabulary {
        let mut all: Vec<(String, u32, [u32; PARTS.len()])> = self
            .counts
            .into_iter()
            .map(|(word, counts)| (word.into(), counts.iter().sum(), counts))
            .collect();
        all.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let mut place: HashMap<Box<[u8]>, usize, RandomState> =
            all.iter().enumerate().map(|(i, (word, ..))| (word.as_bytes().into(), i)).collect();
        let (mut forms, mut form_of) = (Vec::new(), Vec::with_capacity(all.len()));
        for (word, ..) in &all {
            form_of.push(lower(word).map(|form| {
                *place.entry(form.as_bytes().into()).or_insert_with(|| {
                    forms.push(form.into_owned());
                    all.len() + forms.len() - 1
                })
            }));
        }
        let by_part = all.iter().map(|word| word.2).collect();
        let words = all.into_iter().map(|(word, count, _)| (word, count)).collect();
        Vocabulary { words, by_part, lowercase: self.lowercase, forms, form_of, place }
    }
}

impl Vocabulary {
    /// The words of `titles`, all in the first part.
    #[cfg(test)]
    pub fn count<'a>(titles: impl Iterator<Item = &'a str>) -> Self {
        Self::count_by(Lowercase::Never, titles)
    }

    /// The words of `titles`, in the case that `lowercase` requires.
    #[cfg(test)]
    pub fn count_by<'a>(lowercase: Lowercase, titles: impl Iterator<Item = &'a str>) -> Self {
        let mut counter = Counter::new(lowercase, &Tokenizer::Exercise);
        titles.for_each(|title| counter.add(title, 0));
        counter.finish()
    }

    /// The place of a word, or of a lower-case form.
    pub fn find(&self, word: &[u8]) -> Option<usize> {
        self.place.get(word).copied()
    }

    /// Whether it is one of the words, not only a form.
    pub fn is_word(&self, word: &[u8]) -> bool {
        self.find(word).is_some_and(|place| place < self.words.len())
    }

    /// The word or form at a place.
    fn at(&self, place: usize) -> &str {
        let form = || self.forms.get(place - self.words.len()).map(String::as_str);
        self.words.get(place).map(|(word, _)| word.as_str()).or_else(form).unwrap_or_default()
    }
}

/// The vectors found so far for a vocabulary's words.
pub struct FoundVectors<'v> {
    vocabulary: &'v Vocabulary,
    dimension: usize,
    /// For each word and form, where its vector begins in `values`.
    starts: Vec<Option<usize>>,
    /// For each word and form, whether it is a form that occurs in the file but needs no vector.
    seen: Vec<bool>,
    values: Vec<f32>,
}

impl<'v> FoundVectors<'v> {
    /// No vectors yet.
    pub fn new(vocabulary: &'v Vocabulary, dimension: usize) -> Self {
        let count = vocabulary.words.len() + vocabulary.forms.len();
        Self {
            vocabulary,
            dimension,
            starts: vec![None; count],
            seen: vec![false; count],
            values: Vec::new(),
        }
    }

    /// The place of `word` if it still needs a vector. If a file has a word twice, the first entry
    /// counts, so a word that has its vector is no longer wanted. A word that is not UTF-8 is in no
    /// headline.
    pub fn wants(&mut self, word: &[u8]) -> Option<usize> {
        let place = self.vocabulary.find(word)?;
        if place >= self.vocabulary.words.len() && self.vocabulary.lowercase != Lowercase::Fallback
        {
            if let Some(seen) = self.seen.get_mut(place) {
                *seen = true;
            }
            return None;
        }
        self.starts.get(place)?.is_none().then_some(place)
    }

    /// Stores the vector of the word at `place`; the error is the index of a component that is not
    /// finite.
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

    /// The words that vectors are looked for.
    pub fn vocabulary(&self) -> &'v Vocabulary {
        self.vocabulary
    }

    /// How many words have a vector.
    pub fn count(&self) -> usize {
        (0..self.vocabulary.words.len()).filter(|&place| self.has(place)).count()
    }

    /// How many words would have a vector if they were also looked up in lower case.
    pub fn count_with_lower_case(&self) -> usize {
        let is_there =
            |place: usize| self.is_found(place) || self.seen.get(place).is_some_and(|&seen| seen);
        (0..self.vocabulary.words.len())
            .filter(|&place| is_there(place) || self.form_of(place).is_some_and(is_there))
            .count()
    }

    /// Components of a vector.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// Whether the word at `place` has a vector.
    pub fn has(&self, place: usize) -> bool {
        self.source(place).is_some()
    }

    fn is_found(&self, place: usize) -> bool {
        self.starts.get(place).is_some_and(Option::is_some)
    }

    fn form_of(&self, place: usize) -> Option<usize> {
        self.vocabulary.form_of.get(place).copied().flatten()
    }

    /// The place whose vector the word at `place` uses: its own, or its lower-case form's.
    fn source(&self, place: usize) -> Option<usize> {
        let form =
            || self.form_of(place).filter(|_| self.vocabulary.lowercase == Lowercase::Fallback);
        [Some(place), form()].into_iter().flatten().find(|&place| self.is_found(place))
    }

    /// The words and forms whose vectors are used, with their counts, the most frequent first; and
    /// the vectors, row by row.
    pub fn into_matrix(self) -> (Vec<(String, u32)>, Vec<f32>) {
        let mut used = vec![0; self.starts.len()];
        for (place, (_, count)) in self.vocabulary.words.iter().enumerate() {
            if let Some(used) = self.source(place).and_then(|source| used.get_mut(source)) {
                *used += count;
            }
        }
        let mut places: Vec<(usize, u32)> =
            used.into_iter().enumerate().filter(|(_, count)| *count > 0).collect();
        places.sort_by(|a, b| {
            b.1.cmp(&a.1).then_with(|| self.vocabulary.at(a.0).cmp(self.vocabulary.at(b.0)))
        });
        let mut matrix = Vec::with_capacity(self.values.len());
        for (place, _) in &places {
            let start = self.starts.get(*place).copied().flatten();
            matrix.extend_from_slice(
                start
                    .and_then(|start| self.values.get(start..start + self.dimension))
                    .unwrap_or_default(),
            );
        }
        (
            places
                .into_iter()
                .map(|(place, count)| (self.vocabulary.at(place).to_owned(), count))
                .collect(),
            matrix,
        )
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
        let mut found = FoundVectors::new(&vocabulary, 2);
        let place = found.wants(b"b").expect("wanted");
        found.put(place, [1.0, 2.0].into_iter()).expect("finite");
        assert_eq!(found.wants(b"b"), None);
        assert_eq!(found.wants(b"\xff"), None);
        assert_eq!(found.put(0, [1.0, f32::NAN].into_iter()), Err(1));
        assert_eq!(found.into_matrix(), (vec![("b".to_owned(), 1)], vec![1.0, 2.0]));
    }

    /// Looks the words of `titles` up in a file of one-component vectors.
    fn found(
        lowercase: Lowercase,
        titles: &[&str],
        file: &[&str],
    ) -> (usize, usize, Vec<(String, u32)>, Vec<f32>) {
        let vocabulary = Vocabulary::count_by(lowercase, titles.iter().copied());
        let mut found = FoundVectors::new(&vocabulary, 1);
        for (component, word) in (1_u8..).zip(file) {
            if let Some(place) = found.wants(word.as_bytes()) {
                found.put(place, std::iter::once(f32::from(component))).expect("finite");
            }
        }
        let (known, could_be) = (found.count(), found.count_with_lower_case());
        let (words, vectors) = found.into_matrix();
        (known, could_be, words, vectors)
    }

    #[test]
    fn words_are_found_in_the_case_that_the_option_requires() {
        let (titles, file) = (["Fed fed FED Bank bank Oil"], ["fed", "Bank", "bank", "US"]);
        let word = |word: &str, count| (word.to_owned(), count);
        assert_eq!(
            found(Lowercase::Never, &titles, &file),
            (3, 5, vec![word("Bank", 1), word("bank", 1), word("fed", 1)], vec![2.0, 3.0, 1.0])
        );
        // `Fed` and `FED` take the vector of `fed`; `Bank` has one of its own.
        let fallback =
            (5, 5, vec![word("fed", 3), word("Bank", 1), word("bank", 1)], vec![1.0, 2.0, 3.0]);
        assert_eq!(found(Lowercase::Fallback, &titles, &file), fallback);
        assert_eq!(
            found(Lowercase::Fallback, &["Fed FED"], &file),
            (2, 2, vec![word("fed", 2)], vec![1.0])
        );
        assert_eq!(
            found(Lowercase::Always, &titles, &file),
            (2, 2, vec![word("fed", 3), word("bank", 2)], vec![1.0, 3.0])
        );
        // With `never`, a form that is in the file but in no headline is not in the vocabulary.
        assert_eq!(found(Lowercase::Never, &["Fed"], &file), (0, 1, vec![], vec![]));
    }
}
