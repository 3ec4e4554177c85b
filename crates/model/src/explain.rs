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
    /// With [`Method::Exact`]: the margin of each class of a text without any known word, and what
    /// n-grams outside of all words add, less its mean.
    pub rest: Vec<f32>,
}

/// Longer texts are not explained: leaving out each word takes time that grows with the square of
/// the words.
pub const MOST_WORDS: usize = 1000;

/// The words of a text: what punctuation and white space part.
fn words(text: &str) -> Vec<Range<usize>> {
    let start = text.as_ptr() as usize;
    text::tokens(text)
        .map(|word| {
            let at = word.as_ptr() as usize - start;
            at..at + word.len()
        })
        .take(MOST_WORDS)
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
    /// The answer to a text and what each of its first 1,000 words gives to it.
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
        let mut rest = sum.bias.clone();
        // What each byte of the text gives to each class.
        let mut bytes = vec![0.0_f32; text.len() * classes];
        let mut spread = |place: Range<usize>, margins: &[f32]| {
            let share = 1.0 / place.len().max(1) as f32;
            let to = bytes.get_mut(place.start * classes..place.end * classes).unwrap_or_default();
            if to.is_empty() {
                rest.iter_mut().zip(margins).for_each(|(to, m)| *to += m);
            }
            for to in to.chunks_exact_mut(classes) {
                to.iter_mut().zip(margins).for_each(|(to, m)| *to += share * m);
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
        let mut found = Vec::new();
        for place in words(text) {
            let mut margins = vec![0.0; classes];
            let of = bytes.get_mut(place.start * classes..place.end * classes).unwrap_or_default();
            for byte in of.chunks_exact_mut(classes) {
                margins.iter_mut().zip(&*byte).for_each(|(to, m)| *to += m);
                byte.fill(0.0);
            }
            centre(&mut margins);
            found.push(Contribution { place, margins });
        }
        for byte in bytes.chunks_exact(classes) {
            rest.iter_mut().zip(byte).for_each(|(to, m)| *to += m);
        }
        centre(&mut rest);
        Ok((found, rest))
    }

    /// The logits less those of the text without each word.
    fn leave_one_out(&mut self, text: &str) -> Result<Vec<Contribution>> {
        let model = self.model();
        let classes = model.labels().len();
        let places = words(text);
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
