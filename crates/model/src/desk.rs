//! Answers texts.

use failure::Result;
use kernels::odds::softmax;
use ngram_features::Vectorizer;

use crate::net::{NetDesk, Tokens};
use crate::opened::Model;

/// What is known of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its words.
    pub words: usize,
    /// Those that the model has.
    pub known: usize,
    /// Whether the model knows any of its words or n-grams. If not, the probabilities say nothing
    /// about the text.
    pub anything: bool,
}

/// What a thread answers texts with. It keeps its memory.
pub struct Desk<'m> {
    model: &'m Model,
    vectorizer: Option<Vectorizer<'m>>,
    net: NetDesk<'m>,
    tokens: Tokens,
    known: Vec<Known>,
    inputs: Vec<f32>,
    numbers: Vec<f32>,
}

impl Model {
    /// What a thread needs to answer.
    pub fn desk(&self) -> Desk<'_> {
        Desk {
            model: self,
            vectorizer: self.ngrams.as_ref().map(Vectorizer::new),
            net: self.net.desk(),
            tokens: Tokens::default(),
            known: Vec::new(),
            inputs: Vec::new(),
            numbers: Vec::new(),
        }
    }
}

impl<'m> Desk<'m> {
    /// The probabilities of each text, in label order, text after text, and what is known of them.
    pub fn probabilities<T: AsRef<str>>(&mut self, texts: &[T]) -> Result<(&[f32], &[Known])> {
        self.margins(texts)?;
        let model = self.model;
        for row in self.numbers.chunks_exact_mut(model.labels().len()) {
            model.calibrator.logits(row, &mut self.inputs);
            softmax(row);
        }
        Ok((&self.numbers, &self.known))
    }

    /// The net's margins of each text, before they are calibrated.
    pub(crate) fn margins<T: AsRef<str>>(&mut self, texts: &[T]) -> Result<&[f32]> {
        self.read(texts);
        let Self { model, net, tokens, numbers, .. } = self;
        model
            .net
            .margins(model.labels().len(), tokens, net, numbers)
            .map_err(|at| model.file.damaged(at))?;
        Ok(numbers)
    }

    /// Cuts texts into tokens.
    fn read<T: AsRef<str>>(&mut self, texts: &[T]) {
        let Self { model, vectorizer, tokens, known, .. } = self;
        tokens.clear();
        known.clear();
        let Tokens { columns, values, ends, places, place_ends } = tokens;
        for text in texts {
            let text = text.as_ref();
            let before = places.len();
            let mut words = 0;
            model.tokenizer.each(text, |word| {
                words += 1;
                places.extend(model.words.find(word));
            });
            place_ends.push(places.len());
            let ngrams = match vectorizer {
                None => 0,
                Some(of) if model.needs_order => of.push(text, columns, values),
                Some(of) => of.push_unsorted(text, columns, values),
            };
            ends.push(columns.len());
            let of_text = places.len() - before;
            let anything = ngrams > 0 || (model.knows_words && of_text > 0);
            known.push(Known { words, known: of_text, anything });
        }
    }

    pub(crate) const fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    pub(crate) const fn model(&self) -> &'m Model {
        self.model
    }
}
