//! What every engine takes to train an epoch, and how an epoch fails.

use failure::Failure;
use stage::declaration::setting;

use crate::data::Part;
use crate::device;

/// How the rows of an epoch are used; the same for every epoch of a run.
#[derive(Clone, Copy, Debug)]
pub struct EpochSettings {
    /// Rows per step.
    pub batch_size: usize,
    /// How many threads share a step by hand.
    pub threads: usize,
    /// For nets of several layers.
    pub regularisation: Regularisation,
    /// The learning rate of trained embeddings, as a multiple of the others'.
    pub embedding_lr: f64,
}

/// What keeps a net from overfitting.
#[derive(Clone, Copy, Debug, Default)]
pub struct Regularisation {
    /// Share of hidden units that is dropped.
    pub dropout: f64,
    /// Share of a label that is spread over all classes.
    pub label_smoothing: f64,
}

/// What one epoch trains on.
#[derive(Clone, Copy)]
pub struct EpochData<'e> {
    /// The rows and labels.
    pub part: &'e Part,
    /// The rows to use, in this order.
    pub order: &'e [u32],
    /// The learning rate.
    pub lr: f64,
}

/// Why an epoch failed.
#[derive(Debug)]
pub enum EpochError {
    /// The loss of this batch, counted from 1, or a weight after it, is not finite.
    Diverged(usize),
    /// A bug, or the device's memory is full.
    Candle(candle_core::Error),
}

impl From<candle_core::Error> for EpochError {
    fn from(error: candle_core::Error) -> Self {
        Self::Candle(error)
    }
}

impl EpochError {
    /// Explains the error to the user; `place` names the node and the epoch.
    pub fn explain(self, node: &str, place: &str) -> Failure {
        match self {
            Self::Diverged(batch) => Failure::failed(
                "the loss is not finite",
                format_args!("{place}, batch {batch}"),
                format_args!("use a smaller learning rate: --set {}=…", setting(node, "lr")),
            ),
            Self::Candle(error) => device::failed(&error, place),
        }
    }
}
