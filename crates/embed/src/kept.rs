//! Words that stay besides those of the headlines, so that a prediction knows them, too: the first
//! ones of the vector file, which are the most frequent, into files of their own.

use std::path::{Path, PathBuf};

use failure::{Failure, Result};
use formats::arrays::MatrixWriter;
use formats::table::{GROUP_ROWS, Writer};
use polars::prelude::{Column, DataFrame, DataType, NamedFrom, Schema, Series};
use stage::Stage;
use text::{Lowercase, lower};
use tokenizer::Tokenizer;

use crate::reader::MoreWords;
use crate::vocabulary::Vocabulary;

/// How many words of the file stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// None but those of the headlines.
    Data,
    /// The first ones.
    First(u64),
    /// Every one.
    All,
}

/// The words that were kept so far.
pub struct KeptWords<'k> {
    tokenizer: &'k Tokenizer,
    left: u64,
    table: Writer,
    table_path: PathBuf,
    vectors: MatrixWriter,
    words: Vec<String>,
    rows: u32,
}

/// The table of the kept words, with `word` and `row`.
pub const WORDS: &str = "more-vocabulary.parquet";
/// Their vectors.
pub const VECTORS: &str = "more-vectors.safetensors";

impl<'k> KeptWords<'k> {
    /// No words yet.
    pub fn new(keep: Keep, tokenizer: &'k Tokenizer, stage: &Stage) -> Result<Self> {
        Self::at(keep, tokenizer, stage.output(WORDS), &stage.output(VECTORS))
    }

    /// The same with these paths.
    pub fn at(
        keep: Keep,
        tokenizer: &'k Tokenizer,
        words: PathBuf,
        vectors: &Path,
    ) -> Result<Self> {
        let columns = [("word".into(), DataType::String), ("row".into(), DataType::UInt32)];
        Ok(Self {
            tokenizer,
            left: match keep {
                Keep::Data => 0,
                Keep::First(n) => n,
                Keep::All => u64::MAX,
            },
            table: Writer::create(&words, &Schema::from_iter(columns))?,
            table_path: words,
            vectors: MatrixWriter::create(vectors, "vectors")?,
            words: Vec::new(),
            rows: 0,
        })
    }

    fn write(&mut self) -> Result<()> {
        let words = std::mem::take(&mut self.words);
        let first = self.rows;
        self.rows += u32::try_from(words.len()).unwrap_or(u32::MAX);
        let rows: Vec<u32> = (first..self.rows).collect();
        let columns = vec![
            Column::from(Series::new("word".into(), &words)),
            Column::from(Series::new("row".into(), &rows)),
        ];
        let bug =
            |e| Failure::failed(e, self.table_path.display(), "this is a bug; please report it");
        self.table.push(&DataFrame::new(words.len(), columns).map_err(bug)?)
    }

    /// Ends both files. Returns how many words were kept.
    pub fn finish(mut self, dimension: usize) -> Result<u32> {
        if !self.words.is_empty() {
            self.write()?;
        }
        self.table.finish()?;
        self.vectors.finish(dimension)?;
        Ok(self.rows)
    }
}

impl MoreWords for KeptWords<'_> {
    // A word that no text has, such as a phrase with
    // underscores, is not kept; nor is a word of the headlines, which has its vector elsewhere.
    fn wants(&mut self, word: &[u8], vocabulary: &Vocabulary) -> bool {
        if self.left == 0 {
            return false;
        }
        let Ok(word) = std::str::from_utf8(word) else { return false };
        let is_looked_up = vocabulary.lowercase != Lowercase::Always || lower(word).is_none();
        if !is_looked_up || !self.tokenizer.makes(word) {
            return false;
        }
        self.left -= 1;
        !vocabulary.is_word(word.as_bytes())
    }

    // A vector with a component that is not finite is left out.
    fn push(&mut self, word: &[u8], vector: &mut dyn Iterator<Item = f32>) -> Result<()> {
        let vector: Vec<f32> = vector.collect();
        let Ok(word) = std::str::from_utf8(word) else { return Ok(()) };
        if vector.iter().any(|x| !x.is_finite()) {
            return Ok(());
        }
        self.vectors.push(&vector)?;
        self.words.push(word.to_owned());
        if self.words.len() == GROUP_ROWS { self.write() } else { Ok(()) }
    }
}
