//! The words of a model.

use ngram_features::{PrintTable, fingerprint};
use text::Lowercase;

/// Finds the places of words, which are the numbers of their rows.
pub struct Words {
    table: PrintTable,
    lowercase: Lowercase,
}

impl Words {
    pub const fn new(table: PrintTable, lowercase: Lowercase) -> Self {
        Self { table, lowercase }
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
