//! The stage that fits classifiers to sparse features: `linear`, `knn`, and `stack`.
//!
//! In: `ngrams/{train,valid,test}.safetensors`, `tensors/{train,valid,test}.safetensors`; for a stack
//! its members' `margins.safetensors` and `calibration.json`. Out, one folder per run:
//! `model.safetensors`, `config.json`, `labels.json`, `calibration.json`, `metrics.json`,
//! `predictions.parquet`, `timings.jsonl`; for a linear one `passes.jsonl` and `strongest.json`; for members of a stack
//! `margins.safetensors`; for linear ones with folds `calibration.safetensors`.
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
