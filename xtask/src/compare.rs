//! `cargo xtask compare`: training runs beside each other, those of the configuration and those
//! that are only in the store.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;

use cache::{ContentKey, Digests as _, Manifest, NodeName, Store};
use failure::{Failure, Result};
use schema::{Metrics, OptionValues, RunConfig, TimingRow};
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};
use stage::options::suggest;

use crate::config::Config;
use crate::context::Context;

/// What runs are sorted by where nobody says: choices are made on the validation data.
const SORT: &str = "accuracy_valid";

/// Which runs to compare, and how.
#[derive(clap::Args)]
pub struct CompareArguments {
    /// The runs, such as train.mlp; without any, all that have a result
    #[arg(value_name = "RUN")]
    runs: Vec<String>,
    /// The figure to sort by, the best first: accuracy_valid, loss_test, seconds …
    #[arg(long, value_name = "METRIC", default_value = SORT)]
    sort: String,
}

/// A result of a training run.
struct Compared {
    run: NodeName,
    key: ContentKey,
    /// Whether it is the current result of its node, or one that is kept in the store.
    current: bool,
    options: OptionValues,
    metrics: BTreeMap<String, f64>,
    /// 95 % intervals of accuracies.
    intervals: BTreeMap<String, (f64, f64)>,
    /// The digest of the training data.
    data: String,
}

impl Compared {
    /// Whether both are of the same run, options and data, and came out alike.
    fn says_the_same_as(&self, other: &Self) -> bool {
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
    let mut all = Vec::new();
    let wanted = |name: &NodeName| {
        let is_called = |run: &String| {
            **name == **run
                || name.strip_prefix(run.as_str()).is_some_and(|rest| rest.starts_with('@'))
        };
        arguments.runs.is_empty() || arguments.runs.iter().any(is_called)
    };
    let known: Vec<NodeName> = known(config, store);
    for run in &arguments.runs {
        let is_there = |name: &NodeName| {
            **name == **run
                || name.strip_prefix(run.as_str()).is_some_and(|rest| rest.starts_with('@'))
        };
        if !known.iter().any(is_there) {
            let what = format!(
                "there is no training run `{run}`{}",
                suggest(run, known.iter().map(NodeName::as_str))
            );
            return Err(Failure::usage(
                what,
                "command line",
                "`cargo xtask compare` without a name shows all",
            ));
        }
    }
    for name in known.iter().filter(|name| wanted(name)) {
        let current = Manifest::read(&store.current(name)).ok().flatten();
        all.extend(current.and_then(|manifest| read(store, name, manifest, true)));
        all.extend(
            store
                .earlier(name)
                .into_iter()
                .filter_map(|manifest| read(store, name, manifest, false)),
        );
    }
    if all.is_empty() {
        return Err(Failure::usage(
            "there is no result of a training run here",
            "command line",
            "make one: cargo xtask pipeline",
        ));
    }
    sort(&mut all, &arguments.sort)?;
    if !as_json {
        // What an earlier version made alike says nothing more.
        let mut distinct: Vec<Compared> = Vec::new();
        for run in all {
            if !distinct.iter().any(|other| other.says_the_same_as(&run)) {
                distinct.push(run);
            }
        }
        return print(&distinct);
    }
    for run in &all {
        let line = json!({
            "run": run.run, "key": run.key, "current": run.current, "data": run.data,
            "options": run.options, "metrics": run.metrics, "intervals": run.intervals,
        });
        // Who has closed stdout does not want the lines.
        let _ = writeln!(std::io::stdout(), "{line}");
    }
    Ok(())
}

/// The runs of the configuration, and after them those that only have results.
fn known(config: &Config, store: &Store) -> Vec<NodeName> {
    let mut known: Vec<NodeName> =
        config.graph.iter().filter(|node| node.is_run).map(|node| node.name.clone()).collect();
    let is_run = |manifest: &Manifest| {
        manifest.digest("metrics.json").is_some() && manifest.digest("model.safetensors").is_some()
    };
    for name in store.nodes() {
        if !known.contains(&name) && store.seen(&name).iter().any(is_run) {
            known.push(name);
        }
    }
    known
}

/// Reads what is needed of a result; `None`, after a warning, if a file is not what was made.
fn read(store: &Store, run: &NodeName, manifest: Manifest, current: bool) -> Option<Compared> {
    let folder = if current { store.current(run) } else { store.stored(run, &manifest.key) };
    let sound = |file: &str| -> std::result::Result<PathBuf, String> {
        let path = folder.join(file);
        match store.index.digest(&path) {
            Ok(digest) if manifest.digest(file) == Some(&digest) => Ok(path),
            Ok(_) => Err(format!("{file} has another content than when it was made")),
            Err(e) => Err(format!("{file} cannot be read: {e}")),
        }
    };
    let compared = || -> std::result::Result<_, String> {
        let config: RunConfig = json_file(&sound("config.json")?)?;
        let metrics: Metrics = json_file(&sound("metrics.json")?)?;
        let timings =
            std::fs::read_to_string(sound("timings.jsonl")?).map_err(|e| e.to_string())?;
        let timings: Vec<TimingRow> =
            timings.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        Ok((config, metrics, timings))
    };
    let (config, read, timings) = match compared() {
        Ok(read) => read,
        Err(problem) => {
            eprintln!("warning: {run} {} is left out: {problem}", manifest.key.short());
            return None;
        }
    };
    let mut metrics = comparison::metrics(&read);
    metrics.insert("seconds".to_owned(), timings.iter().map(|row| row.seconds).sum());
    let interval = |part: &str| {
        let name = format!("accuracy_{part}");
        let interval = comparison::wilson(*metrics.get(&name)?, *read.rows.get(part)?);
        Some((name, interval))
    };
    let intervals = ["valid", "test"].into_iter().filter_map(interval).collect();
    let data = manifest
        .ingredients
        .get("input tensors/train.safetensors")
        .map_or_else(String::new, str::to_owned);
    Some(Compared {
        run: run.clone(),
        key: manifest.key,
        current,
        options: config.options,
        metrics,
        intervals,
        data,
    })
}

fn json_file<T: DeserializeOwned>(path: &std::path::Path) -> std::result::Result<T, String> {
    let bytes = std::fs::read(path).map_err(|e| e.to_string())?;
    serde_json::from_slice(&bytes).map_err(|e| format!("{}: {e}", path.display()))
}

/// The best first: accuracies fall, everything else rises.
fn sort(runs: &mut [Compared], by: &str) -> Result<()> {
    let names =
        runs.first().map(|run| run.metrics.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
    if !names.iter().any(|name| name == by) {
        let what =
            format!("there is no figure `{by}`{}", suggest(by, names.iter().map(String::as_str)));
        return Err(Failure::usage(what, "--sort", format_args!("there are {}", names.join(", "))));
    }
    // Stable, so that a current result comes before an equally good earlier one.
    let figure = |run: &Compared| {
        run.metrics.get(by).copied().unwrap_or(f64::NAN)
            * if by.starts_with("accuracy") { -1.0 } else { 1.0 }
    };
    runs.sort_by(|a, b| figure(a).total_cmp(&figure(b)));
    Ok(())
}

/// A table for a person.
fn print(runs: &[Compared]) -> Result<()> {
    let options = comparison::differing(&runs.iter().map(|run| &run.options).collect::<Vec<_>>());
    let other_data =
        runs.iter().any(|run| Some(&run.data) != runs.first().map(|first| &first.data));
    let mut head = vec!["run".to_owned(), "key".to_owned()];
    if other_data {
        head.push("data".to_owned());
    }
    head.extend(options.iter().cloned());
    head.extend(
        ["epochs_done", "seconds", "loss_valid", "accuracy_valid", "accuracy_test"]
            .map(str::to_owned),
    );
    let mut table = vec![head];
    for run in runs {
        let figure = |name: &str| run.metrics.get(name).copied().unwrap_or(f64::NAN);
        let accuracy = |name: &str| {
            let interval = run
                .intervals
                .get(name)
                .map_or_else(String::new, |(low, high)| format!(" ({low:.3}–{high:.3})"));
            format!("{:.4}{interval}", figure(name))
        };
        let earlier = if run.current { "" } else { " (earlier)" };
        let mut row = vec![format!("{}{earlier}", run.run), run.key.short().to_owned()];
        if other_data {
            row.push(run.data.chars().take(6).collect());
        }
        row.extend(options.iter().map(|name| shown(run.options.get(name))));
        row.push(format!("{:.0}", figure("epochs_done")));
        row.push(format!("{:.2}", figure("seconds")));
        row.push(format!("{:.4}", figure("loss_valid")));
        row.extend([accuracy("accuracy_valid"), accuracy("accuracy_test")]);
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
        writeln!(out, "{}", cells.join("  ").trim_end())
            .map_err(|e| Failure::failed(e, "stdout", "check where the output goes"))?;
    }
    Ok(())
}

fn shown(value: Option<&Json>) -> String {
    match value {
        None | Some(Json::Null) => "–".to_owned(),
        Some(Json::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    }
}
