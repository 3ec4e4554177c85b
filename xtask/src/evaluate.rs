//! `cargo xtask evaluate`: how good runs are over several splits of the data.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use cache::{NodeName, Store};
use failure::{Failure, Result};
use schema::{Metrics, Spread};
use serde_json::json;

use crate::binaries::{Binaries, stages};
use crate::config::Config;
use crate::context::Context;
use crate::graph::Node;
use crate::interrupt;
use crate::line::Line;
use crate::pipeline::PipelineRun;
use crate::selection::Selection;

/// What to evaluate.
#[derive(clap::Args)]
pub struct EvaluateArguments {
    /// The runs [default: train.best]
    #[arg(value_name = "RUN")]
    runs: Vec<String>,
    /// The seeds of the splits: numbers and ranges, such as 101-110 or 1,2,3
    #[arg(long, value_name = "SEEDS", default_value = "101-110")]
    seeds: String,
    /// Evaluate splits that keep all headlines of a story in one part, too
    #[arg(long)]
    whole_stories: bool,
    /// cpu, cuda, cuda:K, or auto: a GPU if there is one, else the CPU
    #[arg(long, default_value = "cpu", value_name = "DEVICE", value_parser = crate::device::parse)]
    pub device: String,
}

/// The accuracies of a run, one for each seed.
#[derive(Default)]
struct Accuracies {
    valid: Vec<f64>,
    /// Empty if the data has no test part.
    test: Vec<f64>,
    /// Scored rows divided by training rows.
    ratio: f64,
}

/// Runs the command. `sets` are the user's `--set`.
pub fn run(
    root: &Path,
    store: &Store,
    profile: &str,
    sets: &[String],
    json: bool,
    arguments: &EvaluateArguments,
) -> Result<()> {
    let seeds = seeds(&arguments.seeds)?;
    interrupt::watch();
    let kinds = [("random", None), ("whole stories", Some("split.group_by=story"))];
    let kinds = kinds.into_iter().take(1 + usize::from(arguments.whole_stories));
    for (number, (kind, option)) in kinds.enumerate() {
        let mut all: BTreeMap<NodeName, Accuracies> = BTreeMap::new();
        let mut order: Vec<NodeName> = Vec::new();
        for seed in &seeds {
            let mut with = sets.to_vec();
            with.push(format!("split.seed={seed}"));
            with.extend(option.map(str::to_owned));
            let config = &Config::read(root, profile, &with)?;
            order = names(config, arguments)?;
            eprintln!("{kind} split, seed {seed}");
            make(Context { root, config, store, json }, &order, &arguments.device)?;
            for name in &order {
                let metrics: Metrics =
                    schema::read_json(&store.current(name).join("metrics.json"))?;
                let of = all.entry(name.clone()).or_default();
                of.valid.push(metrics.result.valid.accuracy);
                of.test.extend(metrics.result.test.map(|score| score.accuracy));
                let rows = |part: &str| metrics.rows.get(part).map_or(0.0, |&n| n as f64);
                let scored = if of.test.is_empty() { "valid" } else { "test" };
                of.ratio = rows(scored) / rows("train").max(1.0);
            }
        }
        show(kind, &seeds, &order, &all, json, number > 0);
    }
    // The results of the last seed must not stay the current ones.
    let config = &Config::read(root, profile, sets)?;
    eprintln!("back to the configured split");
    make(Context { root, config, store, json }, &names(config, arguments)?, &arguments.device)
}

/// The runs that the user means.
fn names(config: &Config, arguments: &EvaluateArguments) -> Result<Vec<NodeName>> {
    let usual = ["train.best".to_owned()];
    let wanted = if arguments.runs.is_empty() { &usual[..] } else { &arguments.runs };
    let mut names = Vec::new();
    for run in wanted {
        for node in config.graph.called(run)? {
            if !node.is_run {
                return Err(Failure::usage(
                    format_args!("`{}` is not a training run", node.name),
                    "command line",
                    "name training runs; cargo xtask graph shows them",
                ));
            }
            if !names.contains(&node.name) {
                names.push(node.name.clone());
            }
        }
    }
    Ok(names)
}

/// Brings the runs and what they depend on up to date.
pub fn make(context: Context<'_>, runs: &[NodeName], device: &str) -> Result<()> {
    let Context { root, config, store, .. } = context;
    let graph = &config.graph;
    let is_needed = |node: &&Node| {
        let of = |run: &&NodeName| {
            **run == node.name || graph.find(run).is_some_and(|run| graph.depends(run, &node.name))
        };
        runs.iter().any(|run| of(&run))
    };
    let nodes: Vec<&Node> = graph.iter().filter(is_needed).collect();
    let runner = &Binaries::new(root, device, &stages(root)?, &store.index);
    let width = graph.width();
    // stdout is for the figures.
    let say = &|line: &Line| eprintln!("{}", line.text(width));
    let selection = &Selection::on(device);
    PipelineRun { context, selection, runner, say, commit: OnceCell::new() }.go(&nodes)
}

/// The seeds in a text such as `101-110,7`.
fn seeds(text: &str) -> Result<Vec<u32>> {
    let wrong = || {
        Failure::usage(
            format_args!("`{text}` is not a list of seeds"),
            "--seeds",
            "give numbers and ranges, such as 101-110 or 1,2,3; at most 1000",
        )
    };
    let mut all: Vec<u32> = Vec::new();
    for part in text.split(',') {
        let (from, to) = part.trim().split_once('-').unwrap_or((part.trim(), part.trim()));
        let (from, to) = (from.parse::<u32>(), to.parse::<u32>());
        let (Ok(from), Ok(to)) = (from, to) else { return Err(wrong()) };
        if from > to || to - from >= 1000 {
            return Err(wrong());
        }
        all.extend(from..=to);
    }
    all.sort_unstable();
    all.dedup();
    if all.len() > 1000 { Err(wrong()) } else { Ok(all) }
}

/// Prints the mean and deviation of each run, and how the others differ from the first one.
fn show(
    kind: &str,
    seeds: &[u32],
    order: &[NodeName],
    all: &BTreeMap<NodeName, Accuracies>,
    json: bool,
    is_grouped: bool,
) {
    // Whoever closed stdout does not want the lines.
    let mut out = std::io::stdout().lock();
    let best = order.first().and_then(|name| all.get(name));
    for (number, name) in order.iter().enumerate() {
        let Some(of) = all.get(name) else { continue };
        let spread = |values: &[f64]| Spread::of(values);
        let part = if of.test.is_empty() { "valid" } else { "test" };
        let figures = |of: &Accuracies| -> Vec<f64> {
            if of.test.is_empty() { of.valid.clone() } else { of.test.clone() }
        };
        let mine = figures(of);
        let difference = best.filter(|_| number > 0).and_then(|best| {
            let differences: Vec<f64> =
                mine.iter().zip(figures(best)).map(|(a, b)| a - b).collect();
            comparison::paired(&differences, of.ratio)
        });
        if json {
            let line = json!({
                "split": kind, "run": name, "seeds": seeds,
                "accuracy": { "valid": of.valid, "test": of.test },
                "mean": { "valid": spread(&of.valid).map(|s| s.mean), "test": spread(&of.test).map(|s| s.mean) },
                "deviation": { "valid": spread(&of.valid).map(|s| s.deviation), "test": spread(&of.test).map(|s| s.deviation) },
                "difference": difference.map(|(mean, [low, high])| json!({ "to": order.first(), "mean": mean, "interval": [low, high] })),
            });
            let _ = writeln!(out, "{line}");
            continue;
        }
        let shown = |values: &[f64]| match Spread::of(values) {
            Some(spread) => format!("{:.4} ± {:.4}", spread.mean, spread.deviation),
            None => values.first().map_or("–".to_owned(), |one| format!("{one:.4}")),
        };
        let difference = match (difference, order.first()) {
            (Some((mean, [low, high])), Some(first)) => format!(
                "; to {first}, on {part}: {mean:+.4} (95 % interval {low:+.4} to {high:+.4})"
            ),
            _ => String::new(),
        };
        let _ = writeln!(
            out,
            "{kind}, {name}: valid {}, test {} over {} splits{difference}",
            shown(&of.valid),
            shown(&of.test),
            seeds.len()
        );
    }
    if is_grouped && !json {
        let _ = writeln!(
            out,
            "A random split puts headlines of one story into train and test, so its figures are too high for headlines of new stories; those of whole stories are not."
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_numbers_and_ranges() {
        assert_eq!(seeds("3, 1-2,2").expect("seeds"), [1, 2, 3]);
        assert_eq!(seeds("101-110").expect("seeds").len(), 10);
        for wrong in ["", "1-", "2-1", "a", "0-1000000", "1,,2"] {
            assert!(seeds(wrong).unwrap_err().what.contains("is not a list of seeds"), "{wrong}");
        }
    }
}
