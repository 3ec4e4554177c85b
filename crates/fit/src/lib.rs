//! The stage that fits classifiers to sparse features: `linear`.
//!
//! In: `ngrams/{train,valid,test}.safetensors`, `tensors/{train,valid,test}.safetensors`. Out, one
//! folder per run: `model.safetensors`, `config.json`, `labels.json`, `metrics.json`,
//! `predictions.parquet`; `passes.jsonl` for a linear one; `margins.safetensors` with folds.
//!
//! Always holds: all randomness comes from one seed; the same inputs give the same bytes with any
//! number of threads; the test part is only scored.

mod evaluation;
mod folds;
mod knn;
mod linear;
mod margins;
mod parts;
mod stack;

use failure::Result;
use serde::Deserialize;
use stage::{Embedded, Stage};

macro_rules! options {
    ($($file:literal),*) => { &[$(($file, include_str!(concat!("../", $file)))),*] };
}

/// The nodes that this crate runs.
pub const NODES: Embedded = Embedded {
    nodes: include_str!("../node.toml"),
    options: options![
        "options/folds.toml",
        "options/linear.toml",
        "options/knn.toml",
        "options/stack.toml"
    ],
};

#[derive(Deserialize)]
struct Net {
    net: String,
}

/// Runs the stage.
pub fn run(stage: &Stage) -> Result<String> {
    let Net { net } = stage.options()?;
    match net.as_str() {
        "knn" => knn::run(stage),
        "stack" => stack::run(stage),
        _ => linear::run(stage),
    }
}
