//! What the features of a text are.

use serde::{Deserialize, Serialize};

/// A kind of n-gram. Each kind has columns of its own, and its part of a row has length 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// Sequences of words, `\w+`.
    Word,
    /// Sequences of characters within the pieces between white space, padded with a space on both
    /// sides, as scikit-learn's analyzer `char_wb` makes them.
    CharWb,
}

impl Block {
    /// Both, in the order of their columns.
    pub const ALL: [Self; 2] = [Self::Word, Self::CharWb];

    /// Its name, which is scikit-learn's.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Word => "word",
            Self::CharWb => "char_wb",
        }
    }
}

/// The options of the features.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NgramOptions {
    /// The shortest and the longest sequence of words; `None` for no words.
    pub word: Option<[usize; 2]>,
    /// The shortest and the longest sequence of characters; `None` for none.
    pub char_wb: Option<[usize; 2]>,
    /// Whether texts are put into lower case.
    pub lowercase: bool,
    /// Whether an n-gram that a text has tf times counts as 1 + ln(tf) rather than tf.
    pub sublinear_tf: bool,
    /// Whether it is multiplied by ln((1 + n)/(1 + df)) + 1, for df of the n texts of train.
    pub idf: bool,
    /// The least number of train's texts that must have an n-gram.
    pub min_count: u32,
    /// With a number of bits, n-grams are hashed to 2^bits columns per kind, and none is listed.
    pub hash_bits: Option<u32>,
}

impl Default for NgramOptions {
    fn default() -> Self {
        Self {
            word: Some([1, 2]),
            char_wb: Some([3, 5]),
            lowercase: true,
            sublinear_tf: true,
            idf: true,
            min_count: 1,
            hash_bits: None,
        }
    }
}

impl NgramOptions {
    /// Whether all numbers are in their bounds.
    pub fn is_sound(&self) -> bool {
        let is_small =
            |[least, most]: [usize; 2]| (1..=64).contains(&least) && least <= most && most <= 64;
        self.blocks().all(|(_, range)| is_small(range))
            && self.hash_bits.is_none_or(|bits| (1..=22).contains(&bits))
    }

    /// The kinds of n-grams, each with its shortest and longest.
    pub fn blocks(&self) -> impl Iterator<Item = (Block, [usize; 2])> + '_ {
        Block::ALL.into_iter().filter_map(|block| {
            let range = match block {
                Block::Word => self.word,
                Block::CharWb => self.char_wb,
            };
            Some((block, range?))
        })
    }
}
