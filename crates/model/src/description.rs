//! What a model is: the JSON in its metadata.

use std::collections::BTreeMap;

use encoders::{Encoder, Pool};
use ngram_features::NgramOptions;
use schema::{Calibration, Labels, OptionValues, Score};
use serde::{Deserialize, Serialize};

use crate::rows::Precision;

/// The version of the format that this library writes and reads.
pub const FORMAT: u32 = 1;

/// What a model is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Description {
    /// The version of the format.
    pub format: u32,
    /// The version of knockline that wrote the file.
    pub knockline: String,
    /// The run, such as `train.best`.
    pub run: String,
    /// The kind of net, such as `stack`.
    pub net: String,
    /// The classes.
    pub labels: Labels,
    /// `exercise`, `whitespace`, or `source` if the tensor `tokenizer` has one.
    pub tokenizer: String,
    /// `never`, `fallback` or `always`: when a word is looked up in lower case.
    pub lowercase: String,
    /// The words.
    pub words: WordsDescription,
    /// The n-grams, if the net takes some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ngrams: Option<NgramsDescription>,
    /// The net.
    pub layers: NetDescription,
    /// How margins become probabilities.
    pub calibration: Calibration,
    /// The numbers of the large tables.
    pub precision: Precision,
    /// The run's options.
    pub options: OptionValues,
    /// Its scores by part, as training measured them.
    pub scores: BTreeMap<String, Score>,
    /// Rows of each part.
    pub rows: BTreeMap<String, usize>,
    /// Where texts and vectors came from.
    pub sources: BTreeMap<String, String>,
    /// The keys of the results that the model was made from, by node.
    pub keys: BTreeMap<String, String>,
    /// What the user says of licences.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
}

/// The words of a model.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct WordsDescription {
    /// How many there are.
    pub count: usize,
    /// The seed of their table.
    pub seed: u64,
}

/// The n-grams of a model.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NgramsDescription {
    /// What they are.
    pub options: NgramOptions,
    /// The table of each kind.
    pub tables: Vec<TableDescription>,
}

/// The table of a kind of n-gram.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct TableDescription {
    /// How many columns it has.
    pub columns: usize,
    /// Its seed; 0 for hashed n-grams.
    pub seed: u64,
}

/// A net.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum NetDescription {
    /// Weighted sums of the rows of tokens and a bias, then layers.
    Sum {
        /// What is added up.
        bags: Vec<BagDescription>,
        /// How many different layers there are.
        layers: usize,
        /// The layers in the order in which they are applied. Before each there is a ReLU.
        order: Vec<usize>,
        /// Whether the logits go through a ReLU.
        relu_out: bool,
    },
    /// The vote of the nearest rows of train.
    Neighbours {
        /// How many vote.
        k: usize,
        /// The power of the cosine that is a vote's weight.
        power: f32,
        /// What is added to each class's share.
        smoothing: f32,
    },
    /// A net on sequences of words.
    Sequence {
        /// Components of an embedding.
        dimension: usize,
        /// From a sequence to features.
        encoder: EncoderDescription,
        /// Units of a hidden layer.
        hidden: Option<usize>,
    },
    /// A logistic regression on the logits of members.
    Stack {
        /// The members.
        members: Vec<MemberDescription>,
    },
}

/// A weighted sum.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct BagDescription {
    /// What has rows.
    pub tokens: BagTokens,
    /// What the rows are multiplied by.
    pub weights: BagWeights,
}

/// What a bag's rows belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BagTokens {
    /// Words.
    Words,
    /// N-grams.
    Ngrams,
}

/// What a bag's rows are multiplied by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BagWeights {
    /// The same for each token of a text, together 1.
    Mean,
    /// Proportional to tf-idf, together 1.
    Share,
    /// tf-idf itself.
    Tfidf,
}

/// An encoder.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EncoderDescription {
    /// Convolutions, and the maximum of each filter.
    Cnn {
        /// Words of a window.
        widths: Vec<usize>,
        /// Filters of each width.
        filters: usize,
    },
    /// A bidirectional LSTM.
    Lstm {
        /// Units of each direction.
        units: usize,
        /// `max`, `attention` or `last`.
        pool: String,
    },
}

/// A member of a stack.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MemberDescription {
    /// The run.
    pub run: String,
    /// Its net.
    pub layers: NetDescription,
    /// How its margins become inputs of the stack.
    pub calibration: Calibration,
}

impl EncoderDescription {
    /// As the arithmetic has it; `None` if it makes no sense.
    pub fn encoder(&self) -> Option<Encoder> {
        const MOST: usize = 1 << 16;
        match self {
            Self::Cnn { widths, filters } => {
                let is_sound = !widths.is_empty()
                    && widths.len() <= 64
                    && widths.iter().all(|width| (1..=64).contains(width))
                    && (1..=MOST).contains(filters);
                is_sound.then(|| Encoder::Windows { widths: widths.clone(), filters: *filters })
            }
            Self::Lstm { units, pool } => {
                let pool = match pool.as_str() {
                    "max" => Pool::Max,
                    "attention" => Pool::Attention,
                    "last" => Pool::Last,
                    _ => return None,
                };
                (1..=MOST).contains(units).then_some(Encoder::Recurrent { units: *units, pool })
            }
        }
    }

    /// The description of an encoder; `None` for a mean, which is a [`NetDescription::Sum`].
    pub fn of(encoder: &Encoder) -> Option<Self> {
        match encoder {
            Encoder::Mean => None,
            Encoder::Windows { widths, filters } => {
                Some(Self::Cnn { widths: widths.clone(), filters: *filters })
            }
            Encoder::Recurrent { units, pool } => {
                let pool = match pool {
                    Pool::Max => "max",
                    Pool::Attention => "attention",
                    Pool::Last => "last",
                };
                Some(Self::Lstm { units: *units, pool: pool.to_owned() })
            }
        }
    }
}
