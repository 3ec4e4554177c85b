//! How a text becomes words, and `tokenizer.json`, in which `embed` tells the stages after it.
//!
//! The exercise's words and those between white space need no file of their own, so the file only
//! names them. The words of a source with a tokenizer, such as WordPiece's pieces of words, are
//! what that tokenizer makes of a text; then the file is the tokenizer's own.

use std::ops::Range;
use std::path::Path;

use failure::{Failure, Result};
use serde_json::{Value, json};

/// A tokenizer.
pub enum Tokenizer {
    /// The exercise's: punctuation becomes a space, then words are between white space.
    Exercise,
    /// Words are between white space.
    Whitespace,
    /// The tokenizer that a source of vectors has.
    Source(Box<SourceTokenizer>),
}

/// A source's tokenizer.
pub struct SourceTokenizer {
    tokenizer: tokenizers::Tokenizer,
    /// Every word by its number.
    words: Vec<String>,
}

/// More words than any published tokenizer has.
const MOST_WORDS: usize = 1 << 24;
/// The key of the file that names a tokenizer.
const NAME: &str = "tokenizer";

impl Tokenizer {
    /// The file's name.
    pub const FILE: &str = "tokenizer.json";

    /// The tokenizer that needs no file of its own and has this name, as in the option
    /// `embed.tokenizer`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "exercise" => Some(Self::Exercise),
            "whitespace" => Some(Self::Whitespace),
            _ => None,
        }
    }

    /// Reads the file at `path`: an artifact of `embed`, or a source's.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path)
            .map_err(|e| Failure::artifact(format_args!("cannot read the tokenizer: {e}"), path))?;
        Self::from_bytes(&bytes).map_err(|e| {
            Failure::input(
                format_args!("not a tokenizer: {e}"),
                path.display(),
                "give the tokenizer.json of a model, as Hugging Face's tokenizers writes it",
            )
        })
    }

    /// The tokenizer that such a file has. The error is for people.
    pub fn from_bytes(bytes: &[u8]) -> std::result::Result<Self, String> {
        let json: Value = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        if let Some(name) = json.get(NAME) {
            let named = name.as_str().and_then(Self::from_name);
            return named.ok_or_else(|| format!("{name} is not known"));
        }
        let mut own = tokenizers::Tokenizer::from_bytes(bytes).map_err(|e| e.to_string())?;
        // A model's limit on its input is not one on a headline.
        own.with_padding(None);
        own.with_truncation(None).map_err(|e| e.to_string())?;
        let mut words = Vec::new();
        for (word, id) in own.get_vocab(true) {
            let id = id as usize;
            // Numbers are mostly consecutive; a file with a huge one is not a tokenizer.
            if id > MOST_WORDS {
                return Err(format!("`{word}` has the number {id}"));
            }
            words.resize(words.len().max(id + 1), String::new());
            if let Some(place) = words.get_mut(id) {
                *place = word;
            }
        }
        Ok(Self::Source(Box::new(SourceTokenizer { tokenizer: own, words })))
    }

    /// Writes the file at `path`.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = match self {
            Self::Exercise => Ok(json!({ NAME: "exercise" }).to_string()),
            Self::Whitespace => Ok(json!({ NAME: "whitespace" }).to_string()),
            Self::Source(own) => own.tokenizer.to_string(false),
        };
        let text = text
            .map_err(|e| Failure::failed(e, path.display(), "this is a bug; please report it"))?;
        std::fs::write(path, text + "\n").map_err(|e| Failure::io("write", path, &e))
    }

    /// Calls `take` with each word of `text`, in order.
    #[inline]
    pub fn each(&self, text: &str, mut take: impl FnMut(&str)) {
        match self {
            Self::Exercise => text::tokens(text).for_each(take),
            Self::Whitespace => text.split_whitespace().for_each(take),
            Self::Source(own) => {
                // Without the tokens that mark begin and end. It fails only for a tokenizer that
                // cannot split any text; then no word is known.
                let encoding = own.tokenizer.encode_fast(text, false);
                for id in encoding.iter().flat_map(tokenizers::Encoding::get_ids) {
                    take(own.words.get(*id as usize).map_or("", String::as_str));
                }
            }
        }
    }

    /// Calls `take` with each word of `text` and its place in bytes, in order.
    pub fn each_place(&self, text: &str, mut take: impl FnMut(&str, Range<usize>)) {
        let Self::Source(own) = self else {
            let start = text.as_ptr() as usize;
            return self.each(text, |word| {
                let at = word.as_ptr() as usize - start;
                take(word, at..at + word.len());
            });
        };
        let Ok(encoding) = own.tokenizer.encode(text, false) else { return };
        for (id, &(from, to)) in encoding.get_ids().iter().zip(encoding.get_offsets()) {
            take(own.words.get(*id as usize).map_or("", String::as_str), from..to);
        }
    }

    /// Whether `word` comes out of a text, so that it can ever be looked up.
    pub fn makes(&self, word: &str) -> bool {
        match self {
            Self::Exercise => text::tokens(word).next() == Some(word),
            Self::Whitespace => word.split_whitespace().next() == Some(word),
            Self::Source(_) => true,
        }
    }

    /// The words of a source's tokenizer with their numbers, without those that stand for something
    /// else, such as an unknown word or the end of a text.
    pub fn vocabulary(&self) -> Vec<(String, u32)> {
        let Self::Source(own) = self else { return Vec::new() };
        let special = own.tokenizer.get_added_tokens_decoder();
        let is_special = |id: &u32| special.get(id).is_some_and(|token| token.special);
        let all = own.words.iter().cloned().zip(0..);
        all.filter(|(word, id)| !word.is_empty() && !is_special(id)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(tokenizer: &Tokenizer, text: &str) -> Vec<String> {
        let mut words = Vec::new();
        tokenizer.each(text, |word| words.push(word.to_owned()));
        words
    }

    /// A WordPiece tokenizer as BERT's, with few pieces.
    fn pieces() -> String {
        let vocabulary = json!({ "[UNK]": 0, "[CLS]": 1, "fed": 2, "rais": 3, "##es": 4, "cafe": 5, "'": 6, "s": 7 });
        json!({
            "version": "1.0",
            "truncation": { "direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0 },
            "padding": null,
            "added_tokens": [
                { "id": 0, "content": "[UNK]", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true },
                { "id": 1, "content": "[CLS]", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true }
            ],
            "normalizer": { "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true },
            "pre_tokenizer": { "type": "BertPreTokenizer" },
            "post_processor": null,
            "decoder": null,
            "model": { "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": vocabulary }
        })
        .to_string()
    }

    #[test]
    fn each_tokenizer_has_its_words() {
        let text = "Fed's  Café\u{3000}raises";
        assert_eq!(words(&Tokenizer::Exercise, text), ["Fed", "s", "Café", "raises"]);
        assert_eq!(words(&Tokenizer::Whitespace, text), ["Fed's", "Café", "raises"]);
        assert!(Tokenizer::Exercise.makes("Fed") && !Tokenizer::Exercise.makes("New_York"));
        assert!(Tokenizer::Whitespace.makes("New_York"));
    }

    #[test]
    fn a_tokenizer_comes_back_from_its_file() {
        let dir = tempfile::tempdir().expect("a folder");
        let [one, two] = ["1", "2"].map(|name| dir.path().join(name));
        for named in [Tokenizer::Exercise, Tokenizer::Whitespace] {
            named.write(&one).expect("writes");
            let back = Tokenizer::read(&one).expect("reads");
            assert_eq!(words(&back, "a-b c"), words(&named, "a-b c"));
        }
        std::fs::write(&one, pieces()).expect("writes");
        let own = Tokenizer::read(&one).expect("reads");
        own.write(&two).expect("writes");
        let again = Tokenizer::read(&two).expect("reads");
        for tokenizer in [own, again] {
            assert_eq!(
                words(&tokenizer, "Fed's Café raises rates"),
                ["fed", "'", "s", "cafe", "rais", "##es", "[UNK]"]
            );
            let known = tokenizer.vocabulary();
            assert_eq!((known.len(), &*known[0].0, known[0].1), (6, "fed", 2));
        }
        std::fs::write(&one, "{\"tokenizer\": \"other\"}").expect("writes");
        assert!(Tokenizer::read(&one).err().expect("refused").what.contains("is not known"));
        std::fs::write(&one, "[]").expect("writes");
        assert!(Tokenizer::read(&one).err().expect("refused").what.contains("not a tokenizer"));
    }
}
