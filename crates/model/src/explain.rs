//! What each word of a text gives to an answer.

use std::ops::Range;

use failure::Result;
use kernels::odds::largest;
use ngram_features::Spans;

use crate::desk::{Desk, Known};
use crate::net::Net;

/// How contributions were found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Each word's and n-gram's own term of the sum that the logits are. An n-gram's term is divided
    /// equally among the characters that it spans, and a word gets those of its characters.
    Exact,
    /// By how much the logits fall when the word is left out.
    LeaveOneOut,
}

impl Method {
    /// Its name in answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::LeaveOneOut => "leave-one-out",
        }
    }
}

/// A word and what it gives to each class.
#[derive(Clone, Debug, PartialEq)]
pub struct Contribution {
    /// Where the word is, in bytes.
    pub place: Range<usize>,
    /// What it adds to the margin of each class, less the mean over the classes, which changes no
    /// probability.
    pub margins: Vec<f32>,
}

/// An answer with its reasons.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// The probability of each class.
    pub probabilities: Vec<f32>,
    /// What is known of the text.
    pub known: Known,
    /// How contributions were found.
    pub method: Method,
    /// The words, in the order of the text.
    pub words: Vec<Contribution>,
    /// With [`Method::Exact`]: what a text without any known word has, and what n-grams outside of the
    /// words add, less the mean. With the words' contributions, it adds up to the margins.
    pub rest: Vec<f32>,
}

/// The most words of a text that are explained.
const MOST_WORDS: usize = 1000;
/// The most words that are read to leave out others: leaving out each word of a text takes time that
/// grows with the square of the words.
const MOST_READ: usize = 50_000;
/// The most contributions, over the words and the classes.
const MOST_MARGINS: usize = 1 << 22;

/// The first words of a text: what punctuation and white space part.
fn words(text: &str, most: usize) -> Vec<Range<usize>> {
    let start = text.as_ptr() as usize;
    text::tokens(text)
        .map(|word| {
            let at = word.as_ptr() as usize - start;
            at..at + word.len()
        })
        .take(most.min(MOST_WORDS))
        .collect()
}

/// Subtracts the mean.
fn centre(margins: &mut [f32]) {
    let mean = margins.iter().sum::<f32>() / margins.len().max(1) as f32;
    for margin in margins {
        *margin -= mean;
    }
}

impl Desk<'_> {
    /// The answer to a text and what its first words give to it: up to 1,000, or up to 50,000 divided by
    /// the text's words where words are left out.
    pub fn explain(&mut self, text: &str) -> Result<Explanation> {
        let (probabilities, known) = {
            let (probabilities, known) = self.probabilities(&[text])?;
            let known = known.first().copied();
            let known = known.unwrap_or(Known { words: 0, known: 0, anything: false });
            (probabilities.to_vec(), known)
        };
        let (method, words, rest) = match &self.model().net {
            Net::Sum(sum) if sum.is_linear() => {
                let (words, rest) = self.exact(text)?;
                (Method::Exact, words, rest)
            }
            _ => (Method::LeaveOneOut, self.leave_one_out(text)?, Vec::new()),
        };
        Ok(Explanation { probabilities, known, method, words, rest })
    }

    /// The terms of the sum, by the characters that they come from.
    fn exact(&mut self, text: &str) -> Result<(Vec<Contribution>, Vec<f32>)> {
        let model = self.model();
        let classes = model.labels().len();
        let Net::Sum(sum) = &model.net else { return Ok((Vec::new(), Vec::new())) };
        let places_of_words = words(text, MOST_MARGINS / classes);
        let mut found: Vec<Contribution> = places_of_words
            .iter()
            .map(|place| Contribution { place: place.clone(), margins: vec![0.0; classes] })
            .collect();
        // The number of the word that each byte belongs to.
        let mut word_of = vec![usize::MAX; text.len()];
        for (number, place) in places_of_words.into_iter().enumerate() {
            word_of.get_mut(place).unwrap_or_default().fill(number);
        }
        let mut rest = sum.bias.clone();
        let mut spread = |place: Range<usize>, margins: &[f32]| {
            let share = 1.0 / place.len().max(1) as f32;
            let bytes = word_of.get(place).unwrap_or_default();
            let mut add = |to: Option<&mut Contribution>, share: f32| {
                let to = to.map_or(&mut rest, |word| &mut word.margins);
                to.iter_mut().zip(margins).for_each(|(to, m)| *to += share * m);
            };
            if bytes.is_empty() {
                add(None, 1.0);
            }
            for same in bytes.chunk_by(|a, b| a == b) {
                let number = same.first().copied().unwrap_or(usize::MAX);
                add(found.get_mut(number), share * same.len() as f32);
            }
        };
        let mut spans = Spans::default();
        let mut places = Vec::new();
        if let Some(features) = &model.ngrams {
            spans.find(features, text);
        }
        model.tokenizer.each_place(text, |word, place| {
            if model.words.find(word).is_some() {
                places.push(place);
            }
        });
        let mut margins = vec![0.0; classes];
        for bag in &sum.bags {
            let mut number = 0;
            bag.each(self.tokens(), 0, |row, weight| {
                margins.fill(0.0);
                bag.rows.add(row, weight, &mut margins)?;
                match bag.tokens {
                    crate::BagTokens::Words => {
                        let place = places.get(number).cloned().unwrap_or_default();
                        spread(place, &margins);
                        number += 1;
                    }
                    crate::BagTokens::Ngrams => {
                        // An n-gram that comes several times has one term.
                        let of = spans.of(row);
                        let share = 1.0 / of.len().max(1) as f32;
                        for m in &mut margins {
                            *m *= share;
                        }
                        for place in of {
                            spread(place.clone(), &margins);
                        }
                    }
                }
                Ok(())
            })
            .map_err(|at| model.file.damaged(at))?;
        }
        // The regression of a calibration is not part of the terms; its factor is.
        let (calibration, regression) = model.calibrator.parts();
        let scale = if regression.is_some() { 1.0 } else { calibration.scale };
        for margins in found.iter_mut().map(|word| &mut word.margins).chain([&mut rest]) {
            for margin in &mut *margins {
                *margin *= scale;
            }
            centre(margins);
        }
        Ok((found, rest))
    }

    /// The logits less those of the text without each word.
    fn leave_one_out(&mut self, text: &str) -> Result<Vec<Contribution>> {
        let model = self.model();
        let classes = model.labels().len();
        let count = text::tokens(text).count().max(1);
        let places = words(text, (MOST_READ / count).min(MOST_MARGINS / classes));
        let mut all = self.logits(&[text])?;
        centre(&mut all);
        let mut found = Vec::new();
        for some in places.chunks(64) {
            let without = |place: &Range<usize>| {
                let parts = text.get(..place.start).zip(text.get(place.end..));
                parts.map_or_else(String::new, |(before, after)| format!("{before} {after}"))
            };
            let texts: Vec<String> = some.iter().map(without).collect();
            let mut logits = self.logits(&texts)?;
            for (place, without) in some.iter().zip(logits.chunks_exact_mut(classes)) {
                centre(without);
                let margins = all.iter().zip(&*without).map(|(all, without)| all - without);
                found.push(Contribution { place: place.clone(), margins: margins.collect() });
            }
        }
        Ok(found)
    }

    /// The logits, whose softmax the probabilities are.
    fn logits<T: AsRef<str>>(&mut self, texts: &[T]) -> Result<Vec<f32>> {
        let mut logits = self.margins(texts)?.to_vec();
        let model = self.model();
        let mut memory = Vec::new();
        for row in logits.chunks_exact_mut(model.labels().len()) {
            model.calibrator.logits(row, &mut memory);
        }
        Ok(logits)
    }
}

impl Explanation {
    /// The likeliest class.
    pub fn label(&self) -> usize {
        largest(&self.probabilities)
    }
}
