//! A run: one net, trained and scored, and trained again for every further seed.

mod checkpoint;
mod first_rows;
mod fit;
mod folds;
pub mod jsonl;
mod live;
mod order;
mod predictions;
mod schedule;
mod scored;
mod shared;
mod stopping;
mod tensorboard;
pub mod workers;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::Device;
use failure::{Failure, Result};
use formats::Arrays;
use kernels::odds::Tally;
use nets::{Net, Shape, ShapeOptions, Table, file};
use schema::{CheckpointSummary, Labels, Metrics, RunConfig, Score, SeedMetrics, Spread, Trained};
use serde::{Deserialize, Serialize};
use stage::declaration::setting;
use stage::{Event, Stage};

use crate::data::{Data, Part};
use crate::engine::Engine;
use crate::epoch::{EpochSettings, Regularisation};
use crate::optimizer::{Optimizer, Rule};
use crate::random::Random;
use crate::score::score;
use crate::{device, init};
use fit::{Fitted, Plan, RunContext, fit};
use schedule::Schedule;
use shared::Predicted;
pub use shared::SHARED;
use workers::Workers;

/// The options of all nets. Those that a net does not have are `None`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RunOptions {
    net: String,
    epochs: u32,
    batch_size: usize,
    lr: f64,
    seed: u64,
    seeds: Option<Vec<u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    folds: Option<u32>,
    #[serde(skip_serializing_if = "is_one")]
    workers: usize,
    shuffle: bool,
    #[serde(skip_serializing)]
    init: Option<PathBuf>,
    keep: String,
    #[serde(rename = "checkpoints.keep")]
    checkpoints_keep: Option<u32>,
    kernel: Option<String>,
    lr_min: Option<f64>,
    patience: Option<u32>,
    hidden: Option<usize>,
    layers: Option<usize>,
    relu_out: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    by_length: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    embeddings: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    embedding_lr: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    widths: Option<Vec<usize>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filters: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    units: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pool: Option<String>,
    optimizer: Option<Rule>,
    momentum: Option<f64>,
    weight_decay: Option<f64>,
    dropout: Option<f64>,
    label_smoothing: Option<f64>,
}

/// Runs a node that trains.
pub fn run(stage: &Stage) -> Result<String> {
    let options: RunOptions = stage.options()?;
    let device = device::open(&stage.device)?;
    let predicted = shared::predicted(stage, &options)?;
    let data = match &predicted {
        // Everything is scored, so no process has to read all rows.
        Some(_) if options.seeds.is_none() && options.folds.is_none() => {
            let used = |part: &str, rows| {
                if part == "train" { 0..first_rows::ROWS.min(rows) } else { 0..0 }
            };
            Data::read_rows(stage, &device, used)?
        }
        _ => data(stage, &options, &device)?,
    };
    let mut trainer = Trainer { stage, options: &options, data: &data, device: &device };
    let (net, fitted) = trainer.fit(options.seed, stage.out(), options.checkpoints_keep, None)?;
    let path = stage.output(::predictions::FILE);
    let test = match predicted {
        Some(Predicted { pieces, test }) => {
            predictions::join(&path, &data.labels, &pieces)?;
            test
        }
        None => {
            let mut tally = Tally::default();
            predictions::write(&path, &net, &data, &stage.node, |logits, label| {
                tally.add(logits, label);
            })?;
            let (loss, accuracy) = tally.means();
            data.test.is_some().then_some(Score { loss, accuracy })
        }
    };
    let result = trainer.trained(&net, fitted, test)?;

    let config = RunConfig {
        node: stage.node.clone(),
        // Without the GPU's number, which is not part of the key.
        device: stage.device.split(':').next().unwrap_or_default().to_owned(),
        features: data.dimension,
        parameters: net.parameters(),
        started_from_given_weights: options.init.is_some(),
        options: &options,
    };
    stage.write_json("config.json", &config)?;
    file::write(&stage.output("model.safetensors"), &net.state(), None)?;
    stage.write_json(Labels::FILE, &data.labels)?;

    if let Some(count) = options.folds {
        folds::write(&mut trainer, &net, count)?;
    }
    let seeds = trainer.seeds(&result)?;
    let Trained { valid, test, outcome, .. } = result;
    let early = if outcome.stopped_early { ", stopped early" } else { "" };
    let (part, score) = test.map_or(("valid", valid), |test| ("test", test));
    let mut summary = vec![format!(
        "{part} accuracy {:.4}, loss {:.4}; weights of epoch {}{early}",
        score.accuracy, score.loss, outcome.epoch_kept
    )];
    let spread = spread(&seeds);
    if let Some(Spread { mean, deviation }) = spread.get(part) {
        summary.push(format!("{} seeds: {mean:.4} ± {deviation:.4}", seeds.len()));
    }
    let rows = data.parts().map(|(name, part)| (name.to_owned(), part.all)).collect();
    stage.write_json(
        "metrics.json",
        &Metrics { result, rows, checkpoints: checkpoints(stage.out())?, seeds, spread },
    )?;
    Ok(summary.join("; "))
}

/// Whether a run has one worker, as every run had before the option.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_one(workers: &usize) -> bool {
    *workers == 1
}

fn data(stage: &Stage, options: &RunOptions, device: &Device) -> Result<Data> {
    if options.embeddings.is_some() {
        Data::read_sequences(stage, device)
    } else {
        Data::read(stage, device)
    }
}

impl RunOptions {
    /// The options that a net's shape follows from.
    fn shape(&self) -> ShapeOptions {
        ShapeOptions {
            hidden: self.hidden,
            layers: self.layers,
            relu_out: self.relu_out,
            embeddings: self.embeddings.clone(),
            widths: self.widths.clone(),
            filters: self.filters,
            units: self.units,
            pool: self.pool.clone(),
        }
    }
}

struct Trainer<'t> {
    stage: &'t Stage,
    options: &'t RunOptions,
    data: &'t Data,
    device: &'t Device,
}

impl Trainer<'_> {
    /// A net with its starting weights, its optimizer, and the generator that goes on from there.
    fn begin(&self, seed: u64) -> Result<(Net, Optimizer, Random)> {
        let Self { stage, options, data, device } = *self;
        let wrong = |e: candle_core::Error| device::failed(&e, &stage.node);
        let table = data.train.sequences().map(|(_, table)| table);
        let shape = options
            .shape()
            .of(table.map(Table::rows))
            .map_err(|e| Failure::usage(e, &stage.node, "correct the options of the run"))?;
        let mut random = Random::new(seed);
        let mut net =
            Net::zeros(shape, data.dimension, data.labels.len(), device).map_err(wrong)?;
        init::draw(&mut net, table, &mut random).map_err(wrong)?;
        if let Some(init) = &options.init {
            let explain = |f: Failure| {
                Failure::input(
                    f.what,
                    f.place,
                    format_args!(
                        "let the option `{}` name a safetensors file of this net's weights",
                        setting(&stage.node, "init")
                    ),
                )
            };
            file::read_net(init, &mut net).map_err(explain)?;
        }
        let rule = options.optimizer.unwrap_or_default();
        let (momentum, decay) =
            (options.momentum.unwrap_or(0.0), options.weight_decay.unwrap_or(0.0));
        let optimizer = Optimizer::new(rule, momentum, decay, &net).map_err(wrong)?;
        Ok((net, optimizer, random))
    }

    fn context<'r>(&'r self, seed: u64, folder: &'r Path) -> RunContext<'r> {
        RunContext {
            node: &self.stage.node,
            seed,
            folder,
            progress: &self.stage.progress,
            // Processes that share a run go on where the others were.
            resume: self.stage.resume || self.stage.chunk_rows().is_some(),
            shared: self.stage.chunk_rows().is_some(),
        }
    }

    /// Trains one net on some rows, or on all, into `folder`, and scores it.
    fn train(
        &mut self,
        seed: u64,
        folder: &Path,
        keep: Option<u32>,
        rows: Option<&[u32]>,
    ) -> Result<(Net, Trained)> {
        let (net, fitted) = self.fit(seed, folder, keep, rows)?;
        let test = self.data.test.as_ref().map(|test| self.score(&net, test)).transpose()?;
        let trained = self.trained(&net, fitted, test)?;
        Ok((net, trained))
    }

    fn score(&self, net: &Net, part: &Part) -> Result<Score> {
        score(net, part).map_err(|e| device::failed(&e, &self.stage.node))
    }

    /// The scores of a trained net.
    fn trained(&self, net: &Net, fitted: Fitted, test: Option<Score>) -> Result<Trained> {
        let Fitted { outcome, kept } = fitted;
        let (train, valid) = match kept {
            Some(row) => (
                Score { loss: row.loss_train, accuracy: row.accuracy_train },
                Score { loss: row.loss_valid, accuracy: row.accuracy_valid },
            ),
            None => (self.score(net, &self.data.train)?, self.score(net, &self.data.valid)?),
        };
        Ok(Trained { train, valid, test, outcome })
    }

    /// Trains one net on some rows, or on all, into `folder`.
    fn fit(
        &self,
        seed: u64,
        folder: &Path,
        keep: Option<u32>,
        rows: Option<&[u32]>,
    ) -> Result<(Net, Fitted)> {
        let (mut net, mut optimizer, random) = self.begin(seed)?;
        let Self { stage, options, data, device } = *self;
        if net.shape == Shape::SingleLayer && folder == stage.out() {
            first_rows::write(&net, &data.train, stage)?;
        }
        let run = self.context(seed, folder);
        let engine = Engine::choose(options.kernel.as_deref(), device, &net);
        let plan = plan(options, seed, engine, keep, rows);
        if options.kernel.as_deref() == Some("fused")
            && !engine.is_by_hand()
            && folder == stage.out()
        {
            let text = "the GPU's fused kernels cannot train this net; candle's automatic differentiation does";
            stage.progress.send(&Event::Note { text: text.to_owned() });
        }
        data.to_device(!engine.is_by_hand())?;
        let fitted = fit(&mut net, &mut optimizer, data, &plan, random, &run)?;
        Ok((net, fitted))
    }

    /// Trains once for every seed of the options. The run's own seed, if it is among them, has
    /// already been trained; the result of a seed that an interrupted run has finished is read from
    /// its folder.
    fn seeds(&mut self, own: &Trained) -> Result<Vec<SeedMetrics>> {
        let all = self.options.seeds.as_deref().unwrap_or_default();
        let mut done = Vec::new();
        for (number, &seed) in all.iter().enumerate() {
            if seed == self.options.seed {
                done.push(SeedMetrics { seed, result: *own });
                continue;
            }
            let name = format!("seeds/{seed}");
            let folder = self.stage.output(&name);
            let path = folder.join("metrics.json");
            let earlier = std::fs::read(&path)
                .ok()
                .filter(|_| self.stage.resume)
                .and_then(|b| serde_json::from_slice(&b).ok());
            if let Some(earlier) = earlier {
                done.push(earlier);
                continue;
            }
            self.stage.progress.send(&Event::Note {
                text: format!("seed {seed}, {} of {}", number + 1, all.len()),
            });
            std::fs::create_dir_all(&folder)
                .map_err(|e| Failure::io("create folder", &folder, &e))?;
            let (_, result) = self.train(seed, &folder, Some(1), None)?;
            let seeded = SeedMetrics { seed, result };
            // A finished run needs no checkpoint to resume from.
            let checkpoints = folder.join("checkpoints");
            std::fs::remove_dir_all(&checkpoints)
                .map_err(|e| Failure::io("remove", &checkpoints, &e))?;
            self.stage.write_json(&format!("{name}/metrics.json"), &seeded)?;
            done.push(seeded);
        }
        Ok(done)
    }
}

fn plan<'p>(
    options: &RunOptions,
    seed: u64,
    engine: Engine,
    checkpoints: Option<u32>,
    rows: Option<&'p [u32]>,
) -> Plan<'p> {
    let schedule = match options.lr_min {
        Some(to) => Schedule::Cosine { from: options.lr, to, epochs: options.epochs },
        None => Schedule::Constant(options.lr),
    };
    let regularisation = Regularisation {
        dropout: options.dropout.unwrap_or(0.0),
        label_smoothing: options.label_smoothing.unwrap_or(0.0),
    };
    Plan {
        only: rows,
        workers: Workers { count: options.workers, seed, left: None },
        epochs: options.epochs,
        engine,
        settings: EpochSettings {
            batch_size: options.batch_size,
            threads: kernels::team::available(),
            regularisation,
            embedding_lr: options.embedding_lr.unwrap_or(1.0),
        },
        shuffle: options.shuffle,
        by_length: options.by_length.unwrap_or(false),
        schedule,
        patience: options.patience,
        keep_best: options.keep == "best",
        checkpoints,
    }
}

/// The mean and standard deviation of the seeds' accuracy, by part.
fn spread(seeds: &[SeedMetrics]) -> BTreeMap<String, Spread> {
    let mut accuracies: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for (part, score) in seeds.iter().flat_map(|seed| seed.result.scores()) {
        accuracies.entry(part.to_owned()).or_default().push(score.accuracy);
    }
    accuracies.into_iter().filter_map(|(part, all)| Some((part, Spread::of(&all)?))).collect()
}

fn checkpoints(folder: &Path) -> Result<CheckpointSummary> {
    let epochs = checkpoint::epochs(folder);
    let bytes = epochs
        .iter()
        .filter_map(|&e| std::fs::metadata(checkpoint::path(folder, e)).ok())
        .map(|m| m.len())
        .sum();
    let Some(&newest) = epochs.last() else {
        return Ok(CheckpointSummary {
            count: 0,
            bytes,
            tensors: BTreeMap::new(),
            also: Vec::new(),
        });
    };
    let arrays = Arrays::read(&checkpoint::path(folder, newest))?;
    let note: BTreeMap<String, serde_json::Value> =
        arrays.note()?.and_then(|n| serde_json::from_str(&n).ok()).unwrap_or_default();
    Ok(CheckpointSummary {
        count: epochs.len(),
        bytes,
        tensors: arrays.shapes()?,
        also: note.into_keys().collect(),
    })
}
