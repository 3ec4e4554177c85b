//! `cargo xtask evaluate`: how good runs are over several splits of the data.

use std::cell::OnceCell;
use std::io::Write as _;
use std::path::Path;

use cache::{NodeName, Store};
use failure::{Failure, Result};
use schema::{Evaluation, EvaluationRecord, Metrics, Spread};
use serde_json::json;

use crate::binaries::{Binaries, stages};
use crate::config::{Config, ExecutorOptions};
use crate::context::Context;
use crate::executor::{self, Executor};
use crate::graph::Node;
use crate::interrupt;
use crate::line::Line;
use crate::pipeline::PipelineRun;
use crate::records::{self, Kind};
use crate::selection::Selection;
use crate::spawn::Runner;

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
    /// Train on these shares of train, too, such as 0.1,0.3, to see what more data is worth
    #[arg(long, value_name = "SHARES", value_delimiter = ',')]
    shares: Vec<f64>,
    /// cpu, cuda, cuda:K, or auto: a GPU if there is one, else the CPU
    #[arg(long, default_value = "cpu", value_name = "DEVICE", value_parser = crate::device::parse)]
    pub device: String,
}

/// A kind of split.
struct SplitKind {
    name: &'static str,
    share: f64,
    /// Its options.
    sets: Vec<String>,
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
    let configured = &Config::read(root, profile, sets)?;
    let order = names(configured, arguments)?;
    let mut all: Vec<Evaluation> = Vec::new();
    for kind in kinds(arguments)? {
        let mut of: Vec<Evaluation> = order.iter().map(|run| kind.empty(run, &seeds)).collect();
        for seed in &seeds {
            let mut with = sets.to_vec();
            with.push(format!("split.seed={seed}"));
            with.extend(kind.sets.iter().cloned());
            let config = &Config::read(root, profile, &with)?;
            eprintln!("{}, seed {seed}", kind.shown());
            make(Context { root, config, store, json }, &order, &arguments.device)?;
            for (name, of) in order.iter().zip(&mut of) {
                let metrics: Metrics =
                    schema::read_json(&store.current(name).join("metrics.json"))?;
                of.valid.push(metrics.result.valid.accuracy);
                of.test.extend(metrics.result.test.map(|score| score.accuracy));
                let rows = |part: &str| metrics.rows.get(part).copied().unwrap_or_default();
                of.train_rows = rows("train");
                of.ratio = rows(of.scored().0) as f64 / rows("train").max(1) as f64;
            }
        }
        show(&kind, &of, json);
        all.extend(of);
    }
    if arguments.whole_stories && !json {
        let _ = writeln!(
            std::io::stdout(),
            "A random split puts headlines of one story into train and test, so its figures are too high for headlines of new stories; those of whole stories are not."
        );
    }
    let neutral = Config::read(root, profile, &records::neutral(sets))?;
    for run in &order {
        let key = records::key_of_evaluation(root, &neutral, store, run)?;
        let of_run = all.iter().filter(|of| *run == *of.run).cloned().collect();
        write(store, key, run, of_run)?;
    }
    // The results of the last seed must not stay the current ones.
    eprintln!("back to the configured split");
    make(Context { root, config: configured, store, json }, &order, &arguments.device)
}

/// The kinds of splits that the user asks for.
fn kinds(arguments: &EvaluateArguments) -> Result<Vec<SplitKind>> {
    let mut shares = arguments.shares.clone();
    if let Some(wrong) = shares.iter().find(|share| !(**share > 0.0 && **share <= 1.0)) {
        return Err(Failure::usage(
            format_args!("{wrong} is not a share of train"),
            "--shares",
            "give numbers above 0 and up to 1, such as 0.1,0.3",
        ));
    }
    shares.push(1.0);
    shares.sort_by(f64::total_cmp);
    shares.dedup();
    let names = [("random", None), ("whole stories", Some("split.group_by=story"))];
    let names = names.into_iter().take(1 + usize::from(arguments.whole_stories));
    let kind = |name: &'static str, option: Option<&str>, share: f64| SplitKind {
        name,
        share,
        sets: option
            .map(str::to_owned)
            .into_iter()
            .chain((share < 1.0).then(|| format!("split.train_share={share}")))
            .collect(),
    };
    let of_name = |(name, option)| shares.iter().map(move |&share| kind(name, option, share));
    Ok(names.flat_map(of_name).collect())
}

impl SplitKind {
    fn shown(&self) -> String {
        let share = if self.share < 1.0 {
            format!(", {} % of train", (self.share * 1e4).round() / 100.0)
        } else {
            String::new()
        };
        format!("{} split{share}", self.name)
    }

    fn empty(&self, run: &NodeName, seeds: &[u32]) -> Evaluation {
        Evaluation {
            run: run.to_string(),
            split: self.name.to_owned(),
            share: self.share,
            seeds: seeds.to_vec(),
            train_rows: 0,
            valid: Vec::new(),
            test: Vec::new(),
            ratio: 0.0,
        }
    }
}

/// Records evaluations of a run. Earlier ones stay if they are of the same data and options.
fn write(store: &Store, key: String, run: &NodeName, new: Vec<Evaluation>) -> Result<()> {
    let path = Kind::Evaluated.file(store.root(), run);
    let earlier: Option<EvaluationRecord> =
        std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let mut evaluations = match earlier {
        Some(earlier) if earlier.key == key => earlier.evaluations,
        None if !path.exists() => Vec::new(),
        _ => {
            eprintln!("{} was of other data or options, and is replaced", path.display());
            Vec::new()
        }
    };
    evaluations.retain(|old| !new.iter().any(|new| new.is_like(old)));
    evaluations.extend(new);
    records::write(&path, &EvaluationRecord { key, evaluations })
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
    let selection = &Selection::on(device);
    let options = executor::chosen(config, selection)?;
    if options.as_ref().is_some_and(ExecutorOptions::is_to_be_submitted) {
        return Err(Failure::usage(
            "only `pipeline` is submitted to Slurm",
            "option `executor.kind`",
            "run this in an allocation, such as `salloc --ntasks=8 cargo xtask …`, or add --set executor.kind=local",
        ));
    }
    store.set_trust(config.trust()?);
    let binaries = &Binaries::new(root, device, &stages(root)?, &store.index);
    let spread = options.map(|options| Executor::new(binaries, options, selection.jobs()));
    let runner: &dyn Runner = spread.as_ref().map_or(binaries, |spread| spread);
    let width = graph.width();
    // stdout is for the figures.
    let say = &|line: &Line| eprintln!("{}", line.text(width));
    PipelineRun { context, selection, runner, say, wanted: runs, commit: OnceCell::new() }
        .go(&nodes)
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
fn show(kind: &SplitKind, all: &[Evaluation], json: bool) {
    // Whoever closed stdout does not want the lines.
    let mut out = std::io::stdout().lock();
    for (number, of) in all.iter().enumerate() {
        let first = all.first().filter(|_| number > 0);
        let difference = first.and_then(|first| {
            let pairs = of.scored().1.iter().zip(first.scored().1);
            let differences: Vec<f64> = pairs.map(|(a, b)| a - b).collect();
            Some((comparison::paired(&differences, of.ratio)?, first.run.as_str()))
        });
        if json {
            let mean = |values: &[f64]| Spread::of(values).map(|of| of.mean);
            let deviation = |values: &[f64]| Spread::of(values).map(|of| of.deviation);
            let line = json!({
                "split": kind.name, "share": kind.share, "run": of.run, "seeds": of.seeds,
                "accuracy": { "valid": of.valid, "test": of.test },
                "mean": { "valid": mean(&of.valid), "test": mean(&of.test) },
                "deviation": { "valid": deviation(&of.valid), "test": deviation(&of.test) },
                "difference": difference.map(|((mean, [low, high]), to)| json!({ "to": to, "mean": mean, "interval": [low, high] })),
            });
            let _ = writeln!(out, "{line}");
            continue;
        }
        let shown = |values: &[f64]| match Spread::of(values) {
            Some(spread) => format!("{:.4} ± {:.4}", spread.mean, spread.deviation),
            None => values.first().map_or("–".to_owned(), |one| format!("{one:.4}")),
        };
        let part = of.scored().0;
        let difference = difference.map_or(String::new(), |((mean, [low, high]), first)| {
            format!("; to {first}, on {part}: {mean:+.4} (95 % interval {low:+.4} to {high:+.4})")
        });
        let _ = writeln!(
            out,
            "{}, {}: valid {}, test {} over {} split{}{difference}",
            kind.shown(),
            of.run,
            shown(&of.valid),
            shown(&of.test),
            of.seeds.len(),
            if of.seeds.len() == 1 { "" } else { "s" }
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
