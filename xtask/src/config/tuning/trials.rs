//! The trials of a tuning.

use std::collections::BTreeMap;
use std::path::Path;

use schema::Range;
use serde_json::Value as Json;
use stage::Options;
use toml::Value;

use super::{TUNE, Tuning};
use crate::config::layers::MatrixOption;

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
