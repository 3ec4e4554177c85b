//! The words of a model.

use std::borrow::Cow;

use formats::arrays::Values;
use ngram_features::{PrintTable, fingerprint};
use text::Lowercase;

/// Finds the places of words, which are the numbers of their rows.
pub struct Words {
    table: PrintTable,
    lowercase: Lowercase,
    /// The words, each followed by a line feed.
    text: Values<u8>,
}

impl Words {
    pub const fn new(table: PrintTable, lowercase: Lowercase, text: Values<u8>) -> Self {
        Self { table, lowercase, text }
    }

    /// All words, in the order of their places, each followed by a line feed.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.text)
    }

    /// The place of a word of a text.
    #[inline]
    pub fn find(&self, word: &str) -> Option<usize> {
        if self.lowercase == Lowercase::Never {
            return self.as_written(word);
        }
        let (first, then) = self.lowercase.forms(word);
        self.as_written(&first).or_else(|| self.as_written(&then?))
    }

    #[inline]
    fn as_written(&self, word: &str) -> Option<usize> {
        let &[_, place, _] = self.table.find(fingerprint::of(word.as_bytes()))?;
        Some(place as usize)
    }
}
