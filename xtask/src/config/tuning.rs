//! `[tune.NAME]`: which options of `train.NAME` to vary, and how to score them.

use std::collections::BTreeMap;
use std::path::Path;

use schema::Range;
use serde_json::Value as Json;
use stage::options::{Kind, suggest};
use stage::{Options, Schema};
use toml::{Table, Value};

use super::Problems;
use super::layers::{ConfigLayers, MatrixOption, parse};
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

/// The values of one trial's options; none for the options as they are configured.
pub type Trial = BTreeMap<String, Json>;

impl Tuning {
    /// All trials, each once, the one without values first. There are fewer than asked for if the
    /// ranges have few values or `is_valid` refuses most combinations. `configured` are the values
    /// of the run's options.
    pub fn draw(&self, configured: &Options, is_valid: impl Fn(&Trial) -> bool) -> Vec<Trial> {
        let mut random = SplitMix(self.seed);
        let mut all = vec![Trial::new()];
        let first: Trial = self
            .ranges
            .keys()
            .filter_map(|option| Some((option.clone(), configured.get(option)?.clone())))
            .collect();
        let mut seen = vec![first];
        for _ in 0..100 * self.trials {
            if all.len() >= self.trials {
                break;
            }
            let trial: Trial = self
                .ranges
                .iter()
                .map(|(option, range)| (option.clone(), value(range, &mut random)))
                .collect();
            if seen.contains(&trial) {
                continue;
            }
            seen.push(trial.clone());
            if is_valid(&trial) {
                all.push(trial);
            }
        }
        all
    }

    /// The values of a trial, as a matrix lists them.
    pub fn choices(trial: &Trial) -> Result<Vec<(String, MatrixOption)>, String> {
        let listed = |(option, json): (&String, &Json)| {
            let value = Value::try_from(json).map_err(|e| format!("{option} = {json}: {e}"))?;
            let shown = format!("[{TUNE}]");
            let of =
                MatrixOption { values: vec![value], shown, base: Path::new("").into(), layer: 0 };
            Ok((option.clone(), of))
        };
        trial.iter().map(listed).collect()
    }
}

/// SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014).
struct SplitMix(u64);

impl SplitMix {
    /// A number from 0 to 1.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// A value of a range.
fn value(range: &Range, random: &mut SplitMix) -> Json {
    match range {
        Range::Choices(values) => {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "from 0 to the number of values"
            )]
            let at = (random.next() * values.len() as f64) as usize;
            values.get(at).or(values.last()).cloned().unwrap_or_default()
        }
        Range::Between { min, max, log, whole } => {
            let draw = random.next();
            // Each whole number gets a piece of the same width.
            let [low, high] = if *whole { [min - 0.5, max + 0.5] } else { [*min, *max] };
            let x = if *log {
                let low = if *whole { low.max(0.5) } else { low };
                (low.ln() + draw * (high.ln() - low.ln())).exp()
            } else {
                low + draw * (high - low)
            };
            if *whole {
                #[expect(clippy::cast_possible_truncation, reason = "a whole number in range")]
                let x = x.round().clamp(*min, *max) as i64;
                return Json::from(x);
            }
            // Readable, and no two values of a range fall together: three digits, or a thousandth of
            // the range.
            let short: f64 = if *log {
                format!("{x:.2e}").parse().unwrap_or(x)
            } else {
                let digits = 3.0 - (max - min).log10().floor();
                let scale = 10.0_f64.powi(whole_of(digits));
                (x * scale).round() / scale
            };
            Json::from(short.clamp(*min, *max))
        }
    }
}

/// A number of digits.
#[expect(clippy::cast_possible_truncation, reason = "a whole number of some hundreds at most")]
const fn whole_of(digits: f64) -> i32 {
    digits as i32
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

#[cfg(test)]
mod tests {
    use super::*;

    fn tuning(trials: usize, ranges: &[(&str, Range)]) -> Tuning {
        Tuning {
            run: "train.a".into(),
            trials,
            folds: 5,
            seeds: vec![1],
            seed: 7,
            eta: 3,
            ranges: ranges.iter().map(|(name, of)| ((*name).to_owned(), of.clone())).collect(),
        }
    }

    #[test]
    fn trials_are_distinct_within_their_ranges_and_the_same_each_time() {
        let c = Range::Between { min: 0.01, max: 100.0, log: true, whole: false };
        let k = Range::Between { min: 1.0, max: 4.0, log: false, whole: true };
        let loss = Range::Choices(vec!["a".into(), "b".into()]);
        let of = tuning(200, &[("c", c), ("k", k), ("loss", loss)]);
        let configured = Options::new();
        let trials = of.draw(&configured, |_| true);
        assert_eq!((trials.len(), trials.first()), (200, Some(&Trial::new())));
        assert_eq!(trials, of.draw(&configured, |_| true));
        let large = of.draw(&configured, |trial| trial["k"].as_i64() > Some(2));
        assert!(large.len() == 200 && large.iter().skip(1).all(|t| t["k"].as_i64() > Some(2)));
        assert_ne!(trials, Tuning { seed: 8, ..of }.draw(&configured, |_| true));
        let mut below = 0;
        let mut counts = BTreeMap::new();
        for trial in trials.iter().skip(1) {
            let c = trial["c"].as_f64().expect("a number");
            assert!((0.01..=100.0).contains(&c), "{c}");
            below += usize::from(c < 1.0);
            *counts.entry(trial["k"].as_i64().expect("a whole number")).or_insert(0) += 1;
        }
        // Half of the values on a log scale are below the geometric mean, and each k is drawn about
        // 50 times.
        assert!((70..130).contains(&below), "{below}");
        assert!(counts.keys().eq(&[1, 2, 3, 4]) && counts.values().all(|&n| n > 25), "{counts:?}");
    }

    #[test]
    fn ranges_with_few_values_give_few_trials() {
        let loss = Range::Choices(vec!["a".into(), "b".into()]);
        let of = tuning(50, &[("loss", loss)]);
        assert_eq!(of.draw(&Options::new(), |_| true).len(), 3);
        // The configured value is the first trial's, and is not drawn again.
        let configured = Options::from([("loss".to_owned(), "a".into())]);
        assert_eq!(of.draw(&configured, |_| true).len(), 2);
    }

    #[test]
    fn values_of_a_narrow_range_are_apart() {
        let lr = Range::Between { min: 1000.0, max: 1004.0, log: false, whole: false };
        assert_eq!(tuning(20, &[("lr", lr)]).draw(&Options::new(), |_| true).len(), 20);
    }
}
