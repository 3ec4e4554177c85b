//! How long an epoch of the single-layer net takes, by batch size and device (problems 77 and 78).
//!
//! Each batch size trains a fresh net from the same weights, on the same order of rows, `repeats`
//! times; the median counts. The data is on the device before the clock starts.

use std::path::Path;
use std::time::Instant;

use candle_core::Device;
use failure::{Failure, Result};
use nets::{Net, Shape};
use schema::{SweepConfig, SweepRow};
use serde::{Deserialize, Serialize};
use stage::{Machine, Stage, Unit};

use crate::data::Data;
use crate::engine::Engine;
use crate::epoch::{EpochData, EpochError, EpochSettings, Regularisation};
use crate::optimizer::{Optimizer, Rule};
use crate::random::Random;
use crate::run::jsonl::Jsonl;
use crate::score::score;
use crate::{device, init};

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SweepOptions {
    batch_sizes: Vec<usize>,
    devices: Option<Vec<String>>,
    repeats: u32,
    lr: f64,
    seed: u64,
    kernel: String,
}

/// The sweep's node.
pub const NODE: &str = "train.sweep";

/// Runs the sweep.
pub fn run(stage: &Stage) -> Result<String> {
    let options: SweepOptions = stage.options()?;
    let (devices, unavailable) = choose(options.devices.as_deref(), &stage.device)?;
    let mut sweep = Jsonl::open(&stage.output("sweep.jsonl"), 0)?;
    let total = (devices.len() * options.batch_sizes.len()) as u64;
    stage.progress.begin("timing epochs", Some(total), Unit::Rows);
    let mut done = 0;
    let mut summary = Vec::new();
    let mut size = (0, 0);
    for (name, device) in &devices {
        let data = Data::read(stage, device)?;
        // A first, untimed epoch, since on a GPU the first one also loads the kernels.
        let largest = options.batch_sizes.iter().max().copied().unwrap_or(1);
        time(&data, device, name, largest, &SweepOptions { repeats: 1, ..options.clone() })?;
        size = (data.train.len(), data.dimension);
        let mut times = Vec::new();
        for &batch_size in &options.batch_sizes {
            let row = time(&data, device, name, batch_size, &options)?;
            done += 1;
            stage.progress.at(done, || format!("{name}, batch {batch_size}: {:.4} s", row.seconds));
            times.push(row.seconds);
            sweep.push(&row)?;
        }
        let (first, last) = (
            options.batch_sizes.first().zip(times.first()),
            options.batch_sizes.last().zip(times.last()),
        );
        if let Some(((a, x), (b, y))) = first.zip(last) {
            summary.push(format!(
                "{name}: an epoch takes {x:.4} s at batch {a}, {y:.4} s at batch {b}"
            ));
        }
    }
    let names: Vec<String> = devices.into_iter().map(|(name, _)| name).collect();
    let (rows, features) = size;
    let config = SweepConfig {
        node: stage.node.clone(),
        rows,
        features,
        devices: names,
        unavailable: unavailable.clone(),
        options: &options,
    };
    stage.write_json("config.json", &config)?;
    stage.write_json("machine.json", &Machine::here()?)?;
    summary.extend(unavailable.iter().map(|(name, why)| format!("no {name}: {why}")));
    Ok(summary.join("; "))
}

/// The devices to run on, and the unavailable ones with the reasons. A device that the user asked
/// for must be available.
#[expect(clippy::type_complexity, reason = "named devices, and names with reasons")]
fn choose(
    wanted: Option<&[String]>,
    default: &str,
) -> Result<(Vec<(String, Device)>, Vec<(String, String)>)> {
    if let Some(wanted) = wanted {
        let open = |name: &String| {
            device::open(name).map_err(|f| {
                let remedy =
                    "run with --device cuda, or remove it from the option `train.sweep.devices`";
                Failure::usage(f.what, format_args!("train.sweep.devices, `{name}`"), remedy)
            })
        };
        let opened = wanted.iter().map(|name| Ok((name.clone(), open(name)?)));
        return Ok((opened.collect::<Result<_>>()?, Vec::new()));
    }
    let mut devices = vec![("cpu".to_owned(), Device::Cpu)];
    let mut unavailable = Vec::new();
    let cuda = if default == "cpu" { "cuda" } else { default };
    match device::open(cuda) {
        // Without the GPU's number, which is not part of the key.
        Ok(device) => devices.push(("cuda".to_owned(), device)),
        Err(failure) if default == "cpu" => {
            unavailable.push((cuda.to_owned(), failure.what + driver()));
        }
        Err(failure) => return Err(failure),
    }
    Ok((devices, unavailable))
}

/// What a build without CUDA can find out about a GPU.
fn driver() -> &'static str {
    match (cfg!(target_os = "linux"), Path::new("/proc/driver/nvidia").exists()) {
        (true, false) => ", and this machine has no NVIDIA driver",
        (true, true) => ", though this machine has an NVIDIA driver",
        (false, _) => "",
    }
}

fn time(
    data: &Data,
    device: &Device,
    name: &str,
    batch_size: usize,
    options: &SweepOptions,
) -> Result<SweepRow> {
    let place = format!("train.sweep, {name}, batch size {batch_size}");
    let wrong = |e: candle_core::Error| device::failed(&e, &place);
    let mut times = Vec::new();
    let mut evaluations = Vec::new();
    let mut scores = None;
    let zeros =
        || Net::zeros(Shape::SingleLayer, data.dimension, data.labels.len(), device).map_err(wrong);
    let engine = Engine::choose(Some(&options.kernel), device, &zeros()?);
    data.to_device(!engine.is_by_hand())?;
    for _ in 0..options.repeats {
        let mut random = Random::new(options.seed);
        let mut net = zeros()?;
        init::draw(&mut net, None, &mut random).map_err(wrong)?;
        let mut optimizer = Optimizer::new(Rule::Sgd, 0.0, 0.0, &net).map_err(wrong)?;
        let mut order: Vec<u32> =
            (0..u32::try_from(data.train.len()).unwrap_or(u32::MAX)).collect();
        random.shuffle(&mut order);
        let settings = EpochSettings {
            batch_size,
            threads: 1,
            regularisation: Regularisation::default(),
            embedding_lr: 1.0,
        };
        let epoch = EpochData { part: &data.train, order: &order, lr: options.lr };

        let start = Instant::now();
        let done = engine.train_epoch(settings, &mut net, &mut optimizer, &mut random, epoch);
        done.map_err(|e| e.explain(NODE, &place))?;
        times.push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        let both =
            score(&net, &data.train).and_then(|train| Ok((train, score(&net, &data.valid)?)));
        scores = Some(both.map_err(wrong)?);
        evaluations.push(start.elapsed().as_secs_f64());
    }
    let (train, valid) =
        scores.ok_or_else(|| wrong(candle_core::Error::Msg("there were no repeats".into())))?;
    if !(train.loss.is_finite() && valid.loss.is_finite()) {
        return Err(
            EpochError::Diverged(data.train.len().div_ceil(batch_size)).explain(NODE, &place)
        );
    }
    Ok(SweepRow {
        device: name.to_owned(),
        batch_size,
        kernel: engine.name().to_owned(),
        seconds: median(&times),
        seconds_evaluation: median(&evaluations),
        seconds_all: times,
        loss_train: train.loss,
        accuracy_train: train.accuracy,
        loss_valid: valid.loss,
        accuracy_valid: valid.accuracy,
    })
}

/// The middle value, or the mean of the two middle ones.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |i: usize| sorted.get(i).copied().unwrap_or(f64::NAN);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        at(middle)
    } else {
        f64::midpoint(at(middle.wrapping_sub(1)), at(middle))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(median(&[1.0]), 1.0);
    }

    #[test]
    #[cfg(not(feature = "cuda"))]
    fn a_device_that_is_not_there_has_its_reason_and_one_that_was_asked_for_is_an_error() {
        let (devices, unavailable) = choose(None, "cpu").expect("the CPU");
        assert_eq!(devices.len(), 1);
        assert_eq!(
            unavailable,
            [("cuda".to_owned(), format!("this build cannot use CUDA{}", driver()))]
        );
        assert!(choose(Some(&["cuda".to_owned()]), "cpu").is_err());
    }
}
