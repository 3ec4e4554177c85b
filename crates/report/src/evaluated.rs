//! The evaluations: how good runs are over several splits of the data.

use std::path::PathBuf;

use failure::{Failure, Result};
use schema::{Evaluation, EvaluationRecord, Spread};
use serde::Serialize;

/// The evaluations of all runs.
#[derive(Serialize)]
pub struct Evaluated {
    /// Runs trained on all of train, the most accurate first.
    pub rows: Vec<EvaluatedRun>,
    /// Whether there are splits that keep stories whole.
    has_stories: bool,
    /// Learning curves: by run, over shares of train.
    pub curves: Vec<LearningCurve>,
}

/// A run.
#[derive(Serialize)]
pub struct EvaluatedRun {
    run: String,
    /// On random splits, and on those that keep stories whole.
    random: Option<Figures>,
    stories: Option<Figures>,
}

/// The accuracy over some splits.
#[derive(Serialize)]
struct Figures {
    /// The part it is of.
    part: &'static str,
    seeds: String,
    mean: f64,
    deviation: Option<f64>,
    /// How much it differs from the first run, with a 95 % interval; only on the same splits.
    difference: Option<(f64, [f64; 2])>,
}

/// The accuracy of a run by the number of rows that it learned from.
#[derive(Serialize)]
pub struct LearningCurve {
    pub run: String,
    pub split: String,
    /// Rows of train, and the spread of the accuracy.
    pub points: Vec<(usize, Spread)>,
}

/// Reads the records at these paths.
pub fn read(paths: &[PathBuf]) -> Result<Option<Evaluated>> {
    let mut all: Vec<Evaluation> = Vec::new();
    for path in paths {
        let bytes = std::fs::read(path).map_err(|e| Failure::io("read", path, &e))?;
        let record: EvaluationRecord = serde_json::from_slice(&bytes).map_err(|e| {
            Failure::input(
                format_args!("this is not a record of evaluations: {e}"),
                path.display(),
                "remove the file, or make it again: cargo xtask evaluate RUN",
            )
        })?;
        all.extend(record.evaluations.into_iter().filter(|of| !of.scored().1.is_empty()));
    }
    Ok((!all.is_empty()).then(|| Evaluated::of(&all)))
}

impl Evaluated {
    fn of(all: &[Evaluation]) -> Self {
        let find = |run: &str, split: &str| {
            all.iter().find(|of| of.run == run && of.split == split && of.share == 1.0)
        };
        let mut runs: Vec<&str> = Vec::new();
        for of in all.iter().filter(|of| of.share == 1.0) {
            if !runs.contains(&of.run.as_str()) {
                runs.push(&of.run);
            }
        }
        let mean = |run: &str| {
            find(run, RANDOM).or_else(|| find(run, STORIES)).map_or(0.0, Evaluation::mean)
        };
        runs.sort_by(|a, b| mean(b).total_cmp(&mean(a)));
        let figures = |run: &str, split: &str| {
            let of = find(run, split)?;
            let first = runs.first().and_then(|first| find(first, split));
            let first = first.filter(|first| {
                let is_paired = first.seeds == of.seeds && first.scored().0 == of.scored().0;
                first.run != of.run && is_paired
            });
            let difference = first.and_then(|first| {
                let pairs = of.scored().1.iter().zip(first.scored().1);
                comparison::paired(&pairs.map(|(a, b)| a - b).collect::<Vec<f64>>(), of.ratio)
            });
            let part = of.scored().0;
            Some(Figures {
                part,
                seeds: seeds(&of.seeds),
                mean: of.mean(),
                deviation: of.spread().map(|spread| spread.deviation),
                difference,
            })
        };
        let rows: Vec<EvaluatedRun> = runs
            .iter()
            .map(|run| EvaluatedRun {
                run: (*run).to_owned(),
                random: figures(run, RANDOM),
                stories: figures(run, STORIES),
            })
            .collect();
        let mut curves = Vec::new();
        for run in &runs {
            for split in [RANDOM, STORIES] {
                // Points that were scored on other splits are not of the same curve.
                let whole = find(run, split);
                let is_alike = |of: &&Evaluation| {
                    whole.is_none_or(|whole| whole.seeds == of.seeds)
                        && of.run == **run
                        && of.split == split
                };
                let of_run = all.iter().filter(is_alike);
                let spread = |of: &Evaluation| {
                    of.spread().unwrap_or(Spread { mean: of.mean(), deviation: 0.0 })
                };
                let mut points: Vec<(usize, Spread)> =
                    of_run.map(|of| (of.train_rows, spread(of))).collect();
                points.sort_by_key(|(rows, _)| *rows);
                if points.len() > 1 {
                    curves.push(LearningCurve {
                        run: (*run).to_owned(),
                        split: split.to_owned(),
                        points,
                    });
                }
            }
        }
        Self { has_stories: rows.iter().any(|row| row.stories.is_some()), rows, curves }
    }
}

/// Seeds as `cargo xtask evaluate` takes them, such as 101-110,7.
fn seeds(all: &[u32]) -> String {
    let pieces = all.chunk_by(|a, b| a.checked_add(1) == Some(*b));
    let piece = |of: &[u32]| match of {
        [first, .., last] => format!("{first}-{last}"),
        [one] => one.to_string(),
        [] => String::new(),
    };
    pieces.map(piece).collect::<Vec<_>>().join(",")
}

/// The names of the kinds of splits.
const RANDOM: &str = "random";
const STORIES: &str = "whole stories";
