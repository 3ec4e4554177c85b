//! JSON artifacts of `train.sweep`.

use serde::{Deserialize, Serialize};

use crate::OptionValues;

/// `config.json` of the sweep; `O` is the type of its options.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SweepConfig<O = OptionValues> {
    /// The node.
    pub node: String,
    /// The number of rows in an epoch.
    pub rows: usize,
    /// The number of features in a row.
    pub features: usize,
    /// Devices that were timed.
    pub devices: Vec<String>,
    /// Unavailable devices, each with the reason.
    pub unavailable: Vec<(String, String)>,
    /// Its options.
    pub options: O,
}

/// A row of `sweep.jsonl`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SweepRow {
    /// The device.
    pub device: String,
    /// Rows per step.
    pub batch_size: usize,
    /// What ran: `fused` or `autograd`.
    pub kernel: String,
    /// Median time of an epoch of training, in seconds.
    pub seconds: f64,
    /// Median time of scoring train and valid, in seconds; the published times include it.
    pub seconds_evaluation: f64,
    /// Every epoch's time, in seconds.
    #[serde(default)]
    pub seconds_all: Vec<f64>,
    /// Mean cross-entropy on the training data after the epoch, in nats.
    pub loss_train: f64,
    /// Share of correct predictions on the training data.
    pub accuracy_train: f64,
    /// Mean cross-entropy on the validation data, in nats.
    pub loss_valid: f64,
    /// Share of correct predictions on the validation data.
    pub accuracy_valid: f64,
}
