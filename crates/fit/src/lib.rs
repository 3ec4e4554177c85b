//! The stage that fits classifiers to sparse features: `linear`, `knn`, and `stack`.
//!
//! In: `ngrams/{train,valid,test}.safetensors` and `ngrams/labels.json`; for `linear` also
//! `ngrams/{ngrams.json,vocabulary.parquet}` and `tensors/{train,valid,test}.safetensors`; for a stack
//! only its members' `margins.safetensors`, `calibration.json` and `labels.json`. Out, one folder per
//! run: `config.json`, `labels.json`, `calibration.json`, `metrics.json`, `predictions.parquet`,
//! `timings.jsonl`; but for `knn`, `model.safetensors`; for `linear` `passes.jsonl` and
//! `strongest.json`; for `linear` with folds `calibration.safetensors`; for that and for `knn`
//! `margins.safetensors`, from which a stack learns.
//!
//! Always holds: all randomness comes from one seed; the same inputs give the same bytes with any
//! number of threads, except for `timings.jsonl`; the test part is only scored.

mod evaluation;
mod folds;
mod knn;
mod linear;
mod margins;
mod parts;
mod stack;
mod strongest;

use std::time::Instant;

use failure::Result;
use schema::TimingRow;
use serde::Deserialize;
use stage::{Embedded, Stage};

macro_rules! options {
    ($($file:literal),*) => { &[$(($file, include_str!(concat!("../", $file)))),*] };
}

/// The nodes that this crate runs.
pub const NODES: Embedded = Embedded {
    nodes: include_str!("../node.toml"),
    options: options!["options/linear.toml", "options/knn.toml", "options/stack.toml"],
};

#[derive(Deserialize)]
struct Net {
    net: String,
}

/// Runs the stage.
pub fn run(stage: &Stage) -> Result<String> {
    let Net { net } = stage.options()?;
    let start = Instant::now();
    let line = match net.as_str() {
        "knn" => knn::run(stage),
        "stack" => stack::run(stage),
        _ => linear::run(stage),
    }?;
    // One row: there are no epochs that are timed alone.
    let timing = TimingRow { epoch: 1, seconds: start.elapsed().as_secs_f64() };
    evaluation::write_lines(&stage.output("timings.jsonl"), &[timing])?;
    Ok(line)
}
