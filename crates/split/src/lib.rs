//! The second stage: train, valid and test.
//!
//! In: `ingest/headlines.parquet`. Out: `train.parquet`, `valid.parquet`, `test.parquet` with the
//! same columns, rows in split order, and `summary.json`.
//!
//! Always holds: every headline is in exactly one part. Without `group_by`, the parts are exactly
//! what scikit-learn gives: `train_test_split(test_size, random_state=seed, stratify=category)`,
//! then the same with 0.5 on the rest. Memory holds some dozens of bytes a row (its category and
//! its place, which a shuffle of all rows needs) and never the rows themselves; with `group_by`, it
//! also holds the stories' names.

// Indices come from the code around them; `get` would only hide a mistake.
#![allow(clippy::indexing_slicing)]

mod grouped;
mod numpy;
mod scatter;
mod stratified;

use std::collections::BTreeMap;

use failure::{Failure, Result};
use formats::table;
use schema::SplitSummary;
use serde::Deserialize;
use stage::{Embedded, Stage};
use stratified::{Impossible, train_test_split};
use text::{Category, PARTS};

/// The node that this crate runs.
pub const NODES: Embedded = Embedded {
    nodes: include_str!("../node.toml"),
    options: &[("options.toml", include_str!("../options.toml"))],
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SplitOptions {
    seed: u32,
    test_size: f64,
    group_by: Option<String>,
}

/// Runs the stage.
pub fn run(stage: &Stage) -> Result<String> {
    let options: SplitOptions = stage.options()?;
    let path = stage.input("ingest", "headlines.parquet")?;
    // scikit-learn sorts the classes by letter, so their order is the letters', not the labels'.
    let mut letters: Vec<&str> = Category::ALL.iter().map(|c| c.letter()).collect();
    letters.sort_unstable();
    let mut classes = Vec::new();
    table::groups(&path, &["category"], |frame| {
        for letter in table::texts(frame, "category", &path)?.no_null_iter() {
            let class = letters.iter().position(|l| *l == letter);
            classes.push(class.ok_or_else(|| {
                Failure::artifact(format_args!("unknown category `{letter}`"), &path)
            })?);
        }
        Ok(())
    })?;

    let parts = if options.group_by.is_some() {
        let frame = table::read(&path, &["story"])?;
        let stories: Vec<&str> = table::texts(&frame, "story", &path)?.no_null_iter().collect();
        let half = options.test_size / 2.0;
        grouped::split(
            &classes,
            letters.len(),
            &stories,
            &[1.0 - options.test_size, half, half],
            options.seed,
        )
    } else {
        stratify(&classes, &letters, &options)?
    };
    if let Some((name, _)) = PARTS.iter().zip(&parts).find(|(_, rows)| rows.is_empty()) {
        let of = if options.group_by.is_some() { " grouped by story" } else { "" };
        return Err(impossible(format_args!(
            "the {name} part would be empty: {} headlines{of} are too few",
            classes.len()
        )));
    }

    let mut places = vec![0; classes.len()];
    for (place, &row) in (0_u32..).zip(parts.iter().flatten()) {
        places[row] = place;
    }
    let tables: Vec<_> = PARTS
        .iter()
        .zip(&parts)
        .map(|(name, rows)| (stage.output(&format!("{name}.parquet")), rows.len()))
        .collect();
    scatter::scatter(&path, &places, &tables, &stage.output("shards"))?;
    let mut summary = SplitSummary::new();
    for (name, rows) in PARTS.iter().zip(&parts) {
        let mut counts: BTreeMap<String, usize> =
            letters.iter().map(|&l| (l.to_owned(), 0)).collect();
        for &row in rows {
            if let Some(count) = counts.get_mut(letters[classes[row]]) {
                *count += 1;
            }
        }
        summary.insert((*name).to_owned(), counts);
    }
    stage.write_json("summary.json", &summary)?;
    let sizes: Vec<String> =
        PARTS.iter().zip(&parts).map(|(name, rows)| format!("{name} {}", rows.len())).collect();
    Ok(sizes.join(", "))
}

fn stratify(
    classes: &[usize],
    letters: &[&str],
    options: &SplitOptions,
) -> Result<Vec<Vec<usize>>> {
    let explain = |what: Impossible| match what {
        Impossible::SmallClass(class, n) => {
            impossible(format_args!("category `{}` has only {n} headline", letters[class]))
        }
        Impossible::SmallSide(n) => {
            impossible(format_args!("a part of {n} headlines cannot hold every category"))
        }
    };
    let (train, rest) = train_test_split(classes, letters.len(), options.test_size, options.seed)
        .map_err(explain)?;
    let of_rest: Vec<usize> = rest.iter().map(|&row| classes[row]).collect();
    let (valid, test) =
        train_test_split(&of_rest, letters.len(), 0.5, options.seed).map_err(explain)?;
    let back = |rows: Vec<usize>| rows.into_iter().map(|row| rest[row]).collect();
    Ok(vec![train, back(valid), back(test)])
}

fn impossible(what: impl std::fmt::Display) -> Failure {
    Failure::input(
        what,
        "split of ingest/headlines.parquet",
        "use more headlines, or another `split.test_size`",
    )
}
