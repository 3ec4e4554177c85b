//! The fifth stage: trains a net (problems 73 to 79).
//!
//! In: `tensors/{train,valid,test}.safetensors`. Out, one folder per run: `model.safetensors`
//! (`PyTorch`'s `state_dict` names and layout), `config.json`, `history.jsonl`, `timings.jsonl`,
//! `metrics.json`, `predictions.parquet` and `checkpoints/`.
//!
//! Always holds: all randomness comes from one seeded generator; on the CPU the same inputs
//! give the same bytes, `timings.jsonl` aside, with any number of threads; a loss that is no
//! finite number ends the run with the epoch and the batch.

mod checkpoint;
mod data;
mod device;
mod fit;
mod fused;
mod net;
mod predictions;
mod random;
mod schedule;
mod score;
mod stopping;

use std::path::PathBuf;

use artifact::{Failure, NodeSpec, Result, Stage};
use candle_core::Device;
use data::Data;
use fit::{Outcome, Plan, fit};
use net::{Net, Shape};
use random::Random;
use schedule::Schedule;
use score::{Score, probabilities, score};
use serde::{Deserialize, Serialize};

/// The nodes that this crate runs.
pub const NODES: &[NodeSpec] = &[
    NodeSpec { name: "train.slp", options: include_str!("../options/slp.toml") },
    NodeSpec { name: "train.mlp", options: include_str!("../options/mlp.toml") },
];

/// The options of both nets; the last ones are the multi-layer net's or the single-layer's.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    epochs: u32,
    batch_size: usize,
    lr: f64,
    seed: u64,
    shuffle: bool,
    #[serde(skip_serializing)]
    init: Option<PathBuf>,
    keep: String,
    kernel: Option<String>,
    lr_min: Option<f64>,
    patience: Option<u32>,
    hidden: Option<usize>,
    layers: Option<usize>,
    relu_out: Option<bool>,
}

/// `config.json`.
#[derive(Serialize)]
struct Config<'a> {
    node: &'a str,
    device: &'a str,
    features: usize,
    parameters: usize,
    started_from_given_weights: bool,
    options: &'a Options,
}

/// `metrics.json`.
#[derive(Serialize)]
struct Metrics {
    train: Score,
    valid: Score,
    test: Score,
    #[serde(flatten)]
    outcome: Outcome,
}

/// Runs the stage.
pub fn run(stage: &Stage) -> Result<String> {
    let options: Options = stage.options()?;
    let device = device::open(&stage.device)?;
    let data = Data::read(stage, &device)?;
    let mut random = Random::new(options.seed);
    let wrong = |e: candle_core::Error| Failure::failed(e, stage.node, "this is a bug; please report it");
    let shape = match (options.hidden, options.layers) {
        (Some(hidden), Some(layers)) => Shape::MultiLayer { hidden, layers, relu_out: options.relu_out.unwrap_or(true) },
        _ => Shape::SingleLayer,
    };
    let mut net = Net::new(shape, data.dimension, &mut random, &device).map_err(wrong)?;
    if let Some(init) = &options.init {
        let explain = |f: Failure| {
            Failure::input(
                f.what,
                f.place,
                format_args!("check the option `{}.init`: a safetensors file of this net's weights", stage.node),
            )
        };
        checkpoint::read_net(init, &mut net).map_err(explain)?;
    }
    let config = Config {
        node: stage.node,
        device: &stage.device,
        features: data.dimension,
        parameters: net.weights.values().map(|v| v.elem_count()).sum(),
        started_from_given_weights: options.init.is_some(),
        options: &options,
    };
    stage.write_json("config.json", &config)?;

    let outcome = fit(&mut net, &data, &plan(&options, &device), random, stage)?;
    checkpoint::write_net(&stage.output("model.safetensors"), &net, None)?;
    let mut scored = |part| score(&mut net, part).map_err(wrong);
    let metrics = Metrics { train: scored(&data.train)?, valid: scored(&data.valid)?, test: scored(&data.test)?, outcome };
    stage.write_json("metrics.json", &metrics)?;
    let mut predicted = |part| probabilities(&mut net, part).map_err(wrong);
    let parts = [("valid", &data.valid, predicted(&data.valid)?), ("test", &data.test, predicted(&data.test)?)];
    predictions::write(&stage.output("predictions.parquet"), &parts)?;
    Ok(format!("test accuracy {:.4}, loss {:.4}, after {} epochs", metrics.test.accuracy, metrics.test.loss, metrics.outcome.epoch_kept))
}

fn plan(options: &Options, device: &Device) -> Plan {
    let schedule = match options.lr_min {
        Some(to) => Schedule::Cosine { from: options.lr, to, epochs: options.epochs },
        None => Schedule::Constant(options.lr),
    };
    Plan {
        epochs: options.epochs,
        batch_size: options.batch_size,
        shuffle: options.shuffle,
        schedule,
        patience: options.patience,
        keep_best: options.keep == "best",
        // The fused op has no CUDA kernel; candle's differentiation runs there.
        fused: options.kernel.as_deref() == Some("fused") && device.is_cpu(),
    }
}
