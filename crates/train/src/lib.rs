//! The fifth stage: trains a net (problems 71 to 79).
//!
//! In: `tensors/{train,valid,test}.safetensors` or, for nets on sequences,
//! `tokens/{train,valid,test,embeddings}.safetensors`. Out, one folder per run: `model.safetensors`
//! (`PyTorch`'s `state_dict` names and layout), `config.json`, `history.jsonl`, `timings.jsonl`,
//! `metrics.json`, `predictions.parquet`, `checkpoints/`, `curves.svg`, `tensorboard/`, `start.*`
//! for a single-layer net, and `seeds/` for further seeds. `train.sweep` writes `sweep.jsonl`,
//! `config.json` and `machine.json`.
//!
//! Always holds: all randomness comes from one seeded generator; on the CPU the same inputs give
//! the same bytes, except for clock readings (`timings.jsonl`, `sweep.jsonl`), with any number of
//! threads; a loss that is not finite ends the run with an error that names the epoch and the
//! batch.

mod autograd;
mod data;
mod device;
mod engine;
mod epoch;
#[cfg(any(feature = "cuda", all(test, feature = "emulator")))]
mod gpu;
mod init;
mod multi;
mod optimizer;
mod random;
mod run;
mod score;
mod sequence;
mod single;
mod sweep;

use failure::Result;
pub use run::SHARED;
use stage::{Embedded, Stage};

macro_rules! options {
    ($($file:literal),*) => { &[$(($file, include_str!(concat!("../", $file)))),*] };
}

/// The nodes that this crate runs.
pub const NODES: Embedded = Embedded {
    nodes: include_str!("../node.toml"),
    options: options![
        "options/common.toml",
        "options/slp.toml",
        "options/mlp.toml",
        "options/sequence.toml",
        "options/mean.toml",
        "options/cnn.toml",
        "options/lstm.toml",
        "options/sweep.toml"
    ],
};

/// Runs the stage.
pub fn run(stage: &Stage) -> Result<String> {
    if stage.node == sweep::NODE { sweep::run(stage) } else { run::run(stage) }
}
