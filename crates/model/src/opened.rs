//! An opened model.

use std::path::Path;

use classifiers::calibration::Calibrator;
use failure::Result;
use formats::arrays::Bytes;
use ngram_features::{ColumnTable, Features, PrintTable};
use schema::Labels;
use text::Lowercase;
use tokenizer::Tokenizer;

use crate::container::Container;
use crate::description::{BagTokens, Description};
use crate::net::{Net, Sizes, calibrator};
use crate::words::Words;

/// A model, ready to answer.
pub struct Model {
    pub(crate) file: Container,
    description: Description,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) words: Words,
    pub(crate) ngrams: Option<Features>,
    pub(crate) net: Net,
    pub(crate) calibrator: Calibrator,
    /// Whether the words make a difference to it.
    pub(crate) knows_words: bool,
    /// Whether the n-grams must come in the order of training: equally near rows are told apart by
    /// the last bits of sums.
    pub(crate) needs_order: bool,
}

impl Model {
    /// Opens the model at `path`. Of a large one, each part is checked when it is first used.
    pub fn open(path: &Path) -> Result<Self> {
        let (file, description) = Container::open(path)?;
        Self::of(file, description)
    }

    /// The model with these bytes, every one of which is checked; `path` is for errors.
    pub fn from_bytes(bytes: Vec<u8>, path: &Path) -> Result<Self> {
        let (file, description) = Container::of(Bytes::from(bytes), path)?;
        file.check_all()?;
        Self::of(file, description)
    }

    fn of(file: Container, description: Description) -> Result<Self> {
        let lowercase = Lowercase::from_name(&description.lowercase)
            .ok_or_else(|| file.wrong("the letter case is not known"))?;
        let tokenizer = match Tokenizer::from_name(&description.tokenizer) {
            Some(tokenizer) => tokenizer,
            None => Tokenizer::from_bytes(&file.u8("tokenizer")?)
                .map_err(|e| file.wrong(format_args!("the tokenizer: {e}")))?,
        };
        let table = |name: &str, seed: u64| {
            let buckets = file.u32(&format!("{name}.buckets"))?;
            let entries = file.columns(&format!("{name}.entries"))?;
            PrintTable::from_arrays(seed, buckets, entries)
                .ok_or_else(|| file.wrong(format_args!("the table `{name}` contradicts itself")))
        };
        let count = description.words.count;
        let of_words = table("words", description.words.seed)?;
        if !of_words.is_below(count) {
            return Err(file.wrong("a word has a row that does not exist"));
        }
        let words = Words::new(of_words, lowercase);
        let ngrams = match &description.ngrams {
            None => None,
            Some(of) => {
                let mut tables = Vec::new();
                for ((block, _), table_of) in of.options.blocks().zip(&of.tables) {
                    let name = format!("ngrams.{}", block.name());
                    let found = if of.options.hash_bits.is_some() {
                        ColumnTable::Hashed(file.f32(&format!("{name}.idf"), &[None])?)
                    } else {
                        ColumnTable::Listed(table(&name, table_of.seed)?)
                    };
                    tables.push((table_of.columns, found));
                }
                let features = Features::from_tables(of.options.clone(), tables);
                Some(features.ok_or_else(|| file.wrong("the tables of n-grams do not fit"))?)
            }
        };
        let classes = description.labels.len();
        let sizes = Sizes {
            classes,
            words: count,
            ngrams: ngrams.as_ref().map_or(0, Features::columns),
            precision: description.precision,
        };
        let net = Net::read(&file, "net", &description.layers, sizes, false)?;
        let calibrator = calibrator(&file, "net", description.calibration, classes)?;
        if net.uses(BagTokens::Ngrams) && ngrams.is_none() {
            return Err(file.wrong("the net takes n-grams, and the model has none"));
        }
        let knows_words = net.uses(BagTokens::Words);
        let needs_order = net.any(&|net| matches!(net, Net::Neighbours(..)));
        Ok(Self {
            file,
            description,
            tokenizer,
            words,
            ngrams,
            net,
            calibrator,
            knows_words,
            needs_order,
        })
    }

    /// What the model is.
    pub const fn description(&self) -> &Description {
        &self.description
    }

    /// The classes' names.
    pub const fn labels(&self) -> &Labels {
        &self.description.labels
    }

    /// Bytes of the file.
    pub fn size(&self) -> usize {
        self.file.size()
    }

    /// Names, types, shapes and sizes in bytes of the tensors.
    pub fn tensors(&self) -> Vec<(&str, String, &[usize], usize)> {
        self.file.list()
    }

    /// All words that it knows, in the order of their rows, each followed by a line feed.
    pub fn words(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.file.u8("words.text")?).into_owned())
    }

    /// Checks every byte of the file.
    pub fn check(&self) -> Result<()> {
        self.file.check_all()
    }
}
