//! `cargo xtask compare`: compares training runs, those of the configuration and those that are
//! only in the store.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use cache::{ContentKey, Digests as _, Manifest, NodeName, Store};
use failure::{Failure, Result};
use schema::{Metrics, OptionValues, RunConfig, TimingRow};
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};
use stage::options::suggest;

use crate::config::Config;
use crate::context::Context;

/// The default of `--sort`: choices are made on the validation data.
const SORT: &str = "accuracy_valid";

/// Which runs to compare, and how.
#[derive(clap::Args)]
pub struct CompareArguments {
    /// The runs, such as train.mlp [default: all that have a result]
    #[arg(value_name = "RUN")]
    runs: Vec<String>,
    /// The metric to sort by, best first: accuracy_valid, loss_test, seconds …
    #[arg(long, value_name = "METRIC", default_value = SORT)]
    sort: String,
}

/// A result of a training run.
struct Compared {
    run: NodeName,
    key: ContentKey,
    /// Whether it is the current result of its node, or one that is kept in the store.
    current: bool,
    /// Whether the configuration has the run.
    configured: bool,
    options: OptionValues,
    metrics: BTreeMap<String, f64>,
    /// 95 % intervals of accuracies.
    intervals: BTreeMap<String, (f64, f64)>,
    /// The node of the training data, and their digest.
    data: (&'static str, String),
}

impl Compared {
    /// Whether both have the same run, options, data and metrics; times may differ.
    fn has_same_metrics(&self, other: &Self) -> bool {
        let figures = |run: &Self| {
            run.metrics
                .iter()
                .filter(|(name, _)| *name != "seconds")
                .map(|(_, x)| x.to_bits())
                .collect::<Vec<_>>()
        };
        self.run == other.run
            && self.options == other.options
            && self.data == other.data
            && figures(self) == figures(other)
    }
}

/// Runs the command.
pub fn run(context: Context<'_>, arguments: &CompareArguments) -> Result<()> {
    let Context { config, store, json: as_json, .. } = context;
    let wanted = |name: &NodeName| {
        arguments.runs.is_empty() || arguments.runs.iter().any(|run| name.is_called(run))
    };
    let known: Vec<NodeName> = known(config, store);
    for run in &arguments.runs {
        if !known.iter().any(|name| name.is_called(run)) {
            let what = format!(
                "there is no training run `{run}`{}",
                suggest(run, known.iter().map(NodeName::as_str))
            );
            return Err(Failure::usage(
                what,
                "command line",
                "run `cargo xtask compare` without a name to see all",
            ));
        }
    }
    let (mut all, mut damaged) = (Vec::new(), 0);
    for name in known.iter().filter(|name| wanted(name)) {
        let configured = config.graph.find(name).is_some();
        for (folder, manifest) in store.results(name) {
            let run = manifest
                .map_err(|e| e.to_string())
                .and_then(|manifest| read(store, name, &folder, manifest, configured));
            match run {
                Ok(run) => all.push(run),
                Err(problem) => {
                    damaged += 1;
                    eprintln!("warning: {} is left out: {problem}", folder.display());
                }
            }
        }
    }
    if all.is_empty() && damaged > 0 {
        return Err(Failure::input(
            if arguments.runs.is_empty() {
                "every result of a training run here is damaged"
            } else {
                "every result of the named runs is damaged"
            },
            store.root().display(),
            "make them again: cargo xtask pipeline",
        ));
    }
    if all.is_empty() {
        return Err(Failure::usage(
            if store.requires_signatures() {
                "there is no result of a training run here with a trusted signature"
            } else {
                "there is no result of a training run here"
            },
            "command line",
            "make one: cargo xtask pipeline",
        ));
    }
    sort(&mut all, &arguments.sort)?;
    if !as_json {
        // An earlier result with the same metrics adds nothing.
        let mut distinct: Vec<Compared> = Vec::new();
        for run in all {
            if !distinct.iter().any(|other| other.has_same_metrics(&run)) {
                distinct.push(run);
            }
        }
        print(&distinct, &arguments.sort);
        return Ok(());
    }
    for run in &all {
        let line = json!({
            "run": run.run, "key": run.key, "current": run.current,
            "configured": run.configured, "data": run.data.1,
            "options": run.options, "metrics": run.metrics, "intervals": run.intervals,
        });
        // Whoever closed stdout does not want the lines.
        let _ = writeln!(std::io::stdout(), "{line}");
    }
    Ok(())
}

/// The runs of the configuration, followed by those that only have results.
fn known(config: &Config, store: &Store) -> Vec<NodeName> {
    let mut known: Vec<NodeName> =
        config.graph.iter().filter(|node| node.is_run).map(|node| node.name.clone()).collect();
    let is_run = |manifest: &Manifest| {
        ["metrics.json", "config.json"].iter().all(|file| manifest.digest(file).is_some())
    };
    for name in store.nodes() {
        if !known.contains(&name) && store.seen(&name).iter().any(is_run) {
            known.push(name);
        }
    }
    known
}

/// Reads what is needed of a result, or explains what is damaged.
fn read(
    store: &Store,
    run: &NodeName,
    folder: &Path,
    manifest: Manifest,
    configured: bool,
) -> std::result::Result<Compared, String> {
    let sound = |file: &str| -> std::result::Result<PathBuf, String> {
        let path = folder.join(file);
        match store.index.digest(&path) {
            Ok(digest) if manifest.digest(file) == Some(&digest) => Ok(path),
            Ok(_) => Err(format!("{file} has changed since it was made")),
            Err(e) => Err(format!("{file} cannot be read: {e}")),
        }
    };
    let config: RunConfig = json_file(&sound("config.json")?)?;
    let read: Metrics = json_file(&sound("metrics.json")?)?;
    let timings = std::fs::read_to_string(sound("timings.jsonl")?).map_err(|e| e.to_string())?;
    let timings = timings.lines().filter_map(|line| serde_json::from_str::<TimingRow>(line).ok());
    let mut metrics = comparison::metrics(&read);
    metrics.insert("seconds".to_owned(), timings.map(|row| row.seconds).sum());
    let interval = |part: &str| {
        let name = format!("accuracy_{part}");
        let interval = comparison::wilson(*metrics.get(&name)?, *read.rows.get(part)?);
        Some((name, interval))
    };
    let intervals = ["valid", "test"].into_iter().filter_map(interval).collect();
    let data = ["tensors", "ngrams", "tokens"].into_iter().find_map(|node| {
        let of = |file: &str| manifest.ingredients.get(&format!("input {node}/{file}.safetensors"));
        // The ids of tokens are the same whatever the vectors.
        let more = of("embeddings").unwrap_or_default();
        Some((node, format!("{}{more}", of("train")?)))
    });
    let data = data.unwrap_or_default();
    Ok(Compared {
        run: run.clone(),
        key: manifest.key,
        current: folder == store.current(run),
        configured,
        options: config.options,
        metrics,
        intervals,
        data,
    })
}

fn json_file<T: DeserializeOwned>(path: &Path) -> std::result::Result<T, String> {
    let bytes = std::fs::read(path).map_err(|e| e.to_string())?;
    serde_json::from_slice(&bytes).map_err(|e| format!("{}: {e}", path.display()))
}

/// Sorts the best first: accuracies descending, everything else ascending.
fn sort(runs: &mut [Compared], by: &str) -> Result<()> {
    let names =
        runs.first().map(|run| run.metrics.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
    if !names.iter().any(|name| name == by) {
        let what =
            format!("there is no metric `{by}`{}", suggest(by, names.iter().map(String::as_str)));
        return Err(Failure::usage(
            what,
            "--sort",
            format_args!("use one of {}", names.join(", ")),
        ));
    }
    // Stable, so that a current result comes before an equally good earlier one.
    let figure = |run: &Compared| {
        run.metrics.get(by).copied().unwrap_or(f64::NAN)
            * if by.starts_with("accuracy") { -1.0 } else { 1.0 }
    };
    runs.sort_by(|a, b| figure(a).total_cmp(&figure(b)));
    Ok(())
}

/// Prints a table with the usual metrics and the one that it is sorted by.
fn print(runs: &[Compared], sorted_by: &str) {
    const USUAL: [&str; 5] =
        ["epochs_done", "seconds", "loss_valid", "accuracy_valid", "accuracy_test"];
    let other = Some(sorted_by).filter(|name| !USUAL.contains(name));
    let options = comparison::differing(&runs.iter().map(|run| &run.options).collect::<Vec<_>>());
    // Runs that are trained on results of different nodes may still have the same data.
    let differ = |a: &Compared, b: &Compared| a.data.0 == b.data.0 && a.data.1 != b.data.1;
    let other_data = runs.iter().any(|a| runs.iter().any(|b| differ(a, b)));
    let mut head = vec!["run".to_owned(), "key".to_owned()];
    if other_data {
        head.push("data".to_owned());
    }
    head.extend(options.iter().cloned());
    head.extend(USUAL.into_iter().chain(other).map(str::to_owned));
    let mut table = vec![head];
    for run in runs {
        let figure = |name: &str| run.metrics.get(name).copied().unwrap_or(f64::NAN);
        let accuracy = |name: &str| {
            let interval = run
                .intervals
                .get(name)
                .map_or_else(String::new, |(low, high)| format!(" ({low:.3}–{high:.3})"));
            decimals(figure(name)) + &interval
        };
        let mark = match (run.configured, run.current) {
            (false, _) => " (not configured)",
            (true, false) => " (earlier)",
            (true, true) => "",
        };
        let mut row = vec![format!("{}{mark}", run.run), run.key.short().to_owned()];
        if other_data {
            row.push(run.data.1.chars().take(6).collect());
        }
        row.extend(options.iter().map(|name| shown(run.options.get(name))));
        row.push(format!("{:.0}", figure("epochs_done")));
        row.push(format!("{:.2}", figure("seconds")));
        row.push(format!("{:.4}", figure("loss_valid")));
        row.extend([accuracy("accuracy_valid"), accuracy("accuracy_test")]);
        row.extend(other.map(|name| decimals(figure(name))));
        table.push(row);
    }
    let columns = table.first().map_or(0, Vec::len);
    let width = |column: usize| {
        table
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = std::io::stdout().lock();
    for row in &table {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
        // Whoever closed stdout does not want the lines.
        let _ = writeln!(out, "{}", cells.join("  ").trim_end());
    }
}

fn shown(value: Option<&Json>) -> String {
    match value {
        None | Some(Json::Null) => "–".to_owned(),
        Some(Json::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    }
}

/// A figure with four decimals, or a dash if the run does not have it.
fn decimals(figure: f64) -> String {
    if figure.is_nan() { "–".to_owned() } else { format!("{figure:.4}") }
}
