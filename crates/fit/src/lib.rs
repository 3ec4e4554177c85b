//! The stage that fits classifiers to sparse features, nets of embeddings, and stacks of these.
//!
//! In, by net:
//! - `linear`, `knn`, `bow`: `ngrams/{train,valid,test}.safetensors` and `ngrams/labels.json`; `linear`
//!   also `ngrams/{ngrams.json,vocabulary.parquet}` and `tensors/{train,valid,test}.safetensors`;
//! - `dan`: `split/{train,valid,test}.parquet`, `split/labels.json` and
//!   `embed/{vocabulary.parquet,vectors.safetensors,tokenizer.json}`;
//! - `stack`: its members' `margins.safetensors`, `calibration.json` and `labels.json`.
//!
//! Out, one folder per run: `config.json`, `labels.json`, `calibration.json`,
//! `calibration.safetensors` (empty without folds), `metrics.json`, `predictions.parquet`,
//! `timings.jsonl`; but for `knn`, `model.safetensors`; for `linear` `passes.jsonl` and
//! `strongest.json`; for `bow` and `dan` `history.jsonl`; with folds and for `knn`
//! `margins.safetensors`, from which a stack learns.
//!
//! Always holds: all randomness comes from one seed; the same inputs give the same bytes with any
//! number of threads, except for `timings.jsonl`; the test part is only scored. A run of `bow` or
//! `dan` that is killed resumes from its newest checkpoint.

mod bag;
mod evaluation;
mod knn;
mod linear;
mod parts;
mod stack;
mod strongest;
mod words;

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
        "options/linear.toml",
        "options/knn.toml",
        "options/stack.toml",
        "options/embeddings.toml",
        "options/bow.toml",
        "options/dan.toml"
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
        "bow" => bag::bow(stage),
        "dan" => bag::dan(stage),
        _ => linear::run(stage),
    }?;
    // One row: there are no epochs that are timed alone.
    let timing = TimingRow { epoch: 1, seconds: start.elapsed().as_secs_f64() };
    evaluation::write_lines(&stage.output("timings.jsonl"), &[timing])?;
    Ok(line)
}
