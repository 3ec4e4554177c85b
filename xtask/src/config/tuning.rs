//! `[tune.NAME]`: which options of `train.NAME` to vary, and how to score them.

use std::collections::BTreeMap;

use schema::Range;
use serde_json::Value as Json;
use stage::Schema;
use stage::options::{Kind, suggest};
use toml::{Table, Value};

mod trials;

pub use trials::Trial;

use super::Problems;
use super::layers::{ConfigLayers, parse};
use super::runs::{NET, NamedRun};

/// The table whose tables describe tunings.
pub const TUNE: &str = "tune";
/// The table of the options to vary.
const RANGES: &str = "ranges";
const KEYS: [&str; 6] = ["trials", "folds", "seeds", "seed", "eta", RANGES];
/// More trials are a mistake.
const MOST: usize = 1000;

/// How to tune a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Tuning {
    /// The run, whose options as they are configured are the first trial.
    pub run: String,
    /// How many trials there are.
    pub trials: usize,
    /// Folds of train and valid.
    pub folds: u32,
    /// A seed of the folds for each time that the data is cut into folds.
    pub seeds: Vec<u32>,
    /// Seed of the trials.
    pub seed: u64,
    /// A rung keeps one in so many trials, and scores it on so many times more folds.
    pub eta: usize,
    /// The options to vary.
    pub ranges: BTreeMap<String, Range>,
}

/// Adds the settings in a file's table `[tune]`.
pub fn merge(to: &mut Table, from: Table) {
    for (key, value) in from {
        match (to.get_mut(&key), value) {
            (Some(Value::Table(old)), Value::Table(new)) if !is_range(&new) => merge(old, new),
            (_, value) => {
                to.insert(key, value);
            }
        }
    }
}

/// Whether a table is one range, which a later one replaces as a whole.
fn is_range(table: &Table) -> bool {
    table.contains_key("min") || table.contains_key("max")
}

/// The table that a `--set tune.NAME.KEY=VALUE` stands for; `None` for another name.
pub fn of_set(name: &str, text: &str) -> Option<Table> {
    let rest = name.strip_prefix(TUNE)?.strip_prefix('.')?;
    let value = parse(text).unwrap_or_else(|| Value::String(text.to_owned()));
    let (run, key) = rest.split_once('.').unwrap_or((rest, ""));
    let of_range = key.strip_prefix(RANGES).and_then(|rest| rest.strip_prefix('.'));
    let under = |key: &str, value: Value| Value::Table(Table::from_iter([(key.to_owned(), value)]));
    let inner = match (of_range, key) {
        (Some(option), _) => under(RANGES, under(option, value)),
        (None, "") => value,
        (None, key) => under(key, value),
    };
    Some(Table::from_iter([(run.to_owned(), inner)]))
}

/// Checks all tunings.
pub fn resolve(
    layers: &ConfigLayers<'_>,
    runs: &[NamedRun],
    problems: &mut Problems,
) -> Vec<Tuning> {
    let mut all = Vec::new();
    for (name, value) in &layers.tunings {
        let place = format!("{TUNE}.{name}");
        let Value::Table(table) = value else {
            problems.add(format!("`{place}` must be a table, [{place}]"));
            continue;
        };
        let run = format!("train.{name}");
        if layers.matrices.contains_key(&run) {
            problems.add(format!("[{place}]: `{run}` is a matrix of runs, and one is needed"));
            continue;
        }
        let Some(named) = runs.iter().find(|of| *of.name == *run) else {
            // A run that has mistakes of its own is not there either.
            if !layers.runs.contains(&run) {
                let meant = suggest(&run, runs.iter().map(|of| of.name.as_str()));
                problems.add(format!("[{place}]: there is no run `{run}`{meant}"));
            }
            continue;
        };
        all.extend(one(&place, run, table, &named.schema, problems));
    }
    all
}

fn one(
    place: &str,
    run: String,
    table: &Table,
    schema: &Schema,
    problems: &mut Problems,
) -> Option<Tuning> {
    let before = problems.0.len();
    for key in table.keys().filter(|key| !KEYS.contains(&key.as_str())) {
        let meant = if schema.0.contains_key(key) {
            format!("; write `{place}.{RANGES}.{key}`")
        } else {
            suggest(key, KEYS.into_iter())
        };
        problems.add(format!("`{place}.{key}` is not known{meant}"));
    }
    let mut whole = |key: &str, default: i64, least: i64, most: i64| {
        let value = table.get(key).map_or(Some(default), Value::as_integer);
        let value = value.filter(|value| (least..=most).contains(value));
        if value.is_none() {
            problems.add(format!("`{place}.{key}` must be a whole number from {least} to {most}"));
        }
        value.unwrap_or(default)
    };
    let trials = whole("trials", 20, 1, i64::try_from(MOST).unwrap_or(i64::MAX));
    let folds = whole("folds", 5, 2, 1000);
    let seed = whole("seed", 123, 0, i64::MAX);
    let eta = whole("eta", 3, 2, 1000);
    let seeds = match table.get("seeds") {
        None => Some(vec![123]),
        Some(Value::Array(values)) if !values.is_empty() => values
            .iter()
            .map(|value| value.as_integer().and_then(|seed| u32::try_from(seed).ok()))
            .collect(),
        Some(_) => None,
    };
    let is_twice = |seeds: &Vec<u32>| {
        seeds.iter().enumerate().any(|(i, seed)| seeds.iter().take(i).any(|of| of == seed))
    };
    if seeds.as_ref().is_some_and(is_twice) {
        problems.add(format!("`{place}.seeds` has a seed twice"));
    }
    if seeds.is_none() {
        problems
            .add(format!("`{place}.seeds` must be a list of seeds of the folds, such as [1, 2]"));
    }
    let mut ranges = BTreeMap::new();
    match table.get(RANGES) {
        Some(Value::Table(of)) if !of.is_empty() => {
            for (option, value) in of {
                match range(schema, option, value) {
                    Ok(range) => {
                        ranges.insert(option.clone(), range);
                    }
                    Err(e) => problems.add(format!("`{place}.{RANGES}.{option}` {e}")),
                }
            }
        }
        _ => problems.add(format!(
            "[{place}] has no ranges; write, for instance, {RANGES}.lr = {{ min = 0.01, max = 1.0, scale = \"log\" }}"
        )),
    }
    let tuning = Tuning {
        run,
        trials: usize::try_from(trials).ok()?,
        folds: u32::try_from(folds).ok()?,
        seeds: seeds?,
        seed: u64::try_from(seed).ok()?,
        eta: usize::try_from(eta).ok()?,
        ranges,
    };
    (problems.0.len() == before).then_some(tuning)
}

/// The range that a value describes, or what is wrong with it.
fn range(schema: &Schema, option: &str, value: &Value) -> Result<Range, String> {
    let Some(entry) = schema.0.get(option).filter(|_| option != NET) else {
        let known = schema.0.keys().map(String::as_str).filter(|known| *known != NET);
        return Err(format!("is not an option that can be tuned{}", suggest(option, known)));
    };
    if entry.kind.names_files() || entry.kind == Kind::Place {
        return Err("is a path, which cannot be tuned".to_owned());
    }
    let mut options = schema.defaults();
    let mut check = |value: &Value| {
        schema.set(&mut options, option, value)?;
        Ok::<Json, String>(options.get(option).cloned().unwrap_or_default())
    };
    match value {
        Value::Array(values) if !values.is_empty() => {
            let mut all = Vec::new();
            for value in values {
                all.push(check(value)?);
            }
            Ok(Range::Choices(all))
        }
        Value::Table(of) => {
            const KEYS: [&str; 3] = ["min", "max", "scale"];
            if let Some(key) = of.keys().find(|key| !KEYS.contains(&key.as_str())) {
                return Err(format!(
                    "has an unknown key `{key}`{}",
                    suggest(key, KEYS.into_iter())
                ));
            }
            if !matches!(entry.kind, Kind::Integer | Kind::Number) {
                return Err("is not a number; list its values".to_owned());
            }
            let mut end = |key: &str| {
                let value = of.get(key).ok_or_else(|| format!("has no `{key}`"))?;
                check(value)?.as_f64().ok_or_else(|| format!("has no number in `{key}`"))
            };
            let (min, max) = (end("min")?, end("max")?);
            let log = match of.get("scale").map(Value::as_str) {
                None | Some(Some("linear")) => false,
                Some(Some("log")) => true,
                Some(_) => return Err("has a scale other than \"linear\" and \"log\"".to_owned()),
            };
            if min >= max {
                return Err(format!("has `min` = {min} and `max` = {max}; `min` must be less"));
            }
            if log && min <= 0.0 {
                return Err("has a scale \"log\", and `min` is not above 0".to_owned());
            }
            Ok(Range::Between { min, max, log, whole: entry.kind == Kind::Integer })
        }
        Value::Array(_) => Err("has an empty list; list the values to try".to_owned()),
        _ => Err("must be a list of values or { min = …, max = … }".to_owned()),
    }
}
