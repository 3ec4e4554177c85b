//! A trained run as one file, and its answers.
//!
//! The file is a safetensors file: the weights, the words, the tokenizer and, in the metadata, a
//! [`Description`]. It is used as it lies on the disk, so that a model answers a few milliseconds
//! after it is opened: rows of words and n-grams are not read before they are needed.
//! `docs/model.md` describes the format.
//!
//! Always holds: a file with a changed or missing byte gives an error, never an answer; a text's
//! answer does not depend on the texts beside it; neither polars nor candle is needed.

mod container;
mod description;
mod desk;
mod engine;
mod explain;
mod metrics;
mod net;
mod opened;
mod rows;
mod seal;
mod words;
mod writer;

#[cfg(test)]
mod tests;

#[cfg(fuzzing)]
pub use container::resealed;
pub use description::{
    BagDescription, BagTokens, BagWeights, Description, EncoderDescription, FORMAT,
    MemberDescription, NetDescription, NgramsDescription, TableDescription, WordsDescription,
};
pub use desk::{Desk, Known};
pub use engine::{Answered, Engine};
pub use explain::{Contribution, Explanation, Method};
pub use metrics::{ClassMetrics, Metrics, Tally};
pub use opened::Model;
pub use rows::Precision;
pub use writer::{ModelWriter, WordsBuilder};

pub use classifiers::calibration::Calibrator;
