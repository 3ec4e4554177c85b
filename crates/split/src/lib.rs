//! The second stage: train, valid and test.
//!
//! In: `ingest/headlines.parquet`, `ingest/labels.json`. Out: `train.parquet`, `valid.parquet`,
//! `test.parquet` with the same columns, rows in split order, `labels.json` and
//! `summary.json`.
//!
//! Always holds: no headline is in two parts, and if no part is given, every headline is in one, unless
//! `train_share` leaves some of train out.
//! With `cv.folds`, train and valid are cut anew and test is empty.
//! Given parts keep the order of their rows. Parts that are cut without `group_by` are exactly what
//! scikit-learn gives: `train_test_split(test_size, random_state=seed, stratify=category)`, then
//! the same with 0.5 on the rest. Memory holds some dozens of bytes a row (its category and
//! its place, which a shuffle of all rows needs) and never the rows themselves; with `group_by`, it
//! also holds the stories' names.

// Indices come from the code around them; `get` would only hide a mistake.
#![allow(clippy::indexing_slicing)]

mod folds;
mod given;
mod grouped;
mod numpy;
mod parts;
mod scatter;
mod shared;
mod stratified;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use failure::{Failure, Result};
use formats::table;
use parts::Rows;
use schema::{Labels, SplitSummary};
use serde::{Deserialize, Serialize};
use stage::{Embedded, Stage};
use text::PARTS;

pub use shared::SHARED;

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
    stratify: bool,
    parts: Vec<String>,
    #[serde(rename = "given.train")]
    given_train: Option<String>,
    #[serde(rename = "given.valid")]
    given_valid: Option<String>,
    #[serde(rename = "given.test")]
    given_test: Option<String>,
    train_share: f64,
    #[serde(rename = "cv.folds")]
    cv_folds: Option<u32>,
    #[serde(rename = "cv.fold")]
    cv_fold: u32,
    #[serde(rename = "cv.seed")]
    cv_seed: u32,
}

/// Runs the stage.
pub fn run(stage: &Stage) -> Result<String> {
    let plan = if stage.chunk_rows().is_some() {
        shared::finish(stage)?
    } else {
        let (plan, places) = Plan::make(stage)?;
        scatter::scatter(
            &headlines(stage)?,
            &places,
            &tables(stage, &plan),
            &stage.output("shards"),
        )?;
        plan
    };
    if let Some(warning) = &plan.warning {
        stage.progress.warn(warning);
    }
    Labels::read(&stage.input("ingest", Labels::FILE)?)
        .and_then(|labels| stage.write_json(Labels::FILE, &labels))?;
    stage.write_json("summary.json", &plan.summary)?;
    let sizes: Vec<String> =
        PARTS.iter().zip(&plan.sizes).map(|(name, rows)| format!("{name} {rows}")).collect();
    Ok(sizes.join(", "))
}

fn headlines(stage: &Stage) -> Result<PathBuf> {
    stage.input("ingest", "headlines.parquet")
}

/// The tables to write, each with its number of rows.
fn tables(stage: &Stage, plan: &Plan) -> Vec<(PathBuf, usize)> {
    let path = |name: &&str| stage.output(&format!("{name}.parquet"));
    PARTS.iter().map(path).zip(plan.sizes.iter().copied()).collect()
}

/// The parts, without their rows.
#[derive(Serialize, Deserialize)]
struct Plan {
    /// The number of rows of each part.
    sizes: Vec<usize>,
    summary: SplitSummary,
    warning: Option<String>,
}

impl Plan {
    /// The plan, and the place of each row, counted across the parts.
    fn make(stage: &Stage) -> Result<(Self, Vec<u32>)> {
        let options: SplitOptions = stage.options()?;
        let path = headlines(stage)?;
        // scikit-learn sorts the classes, so their order is not always the labels'.
        let labels = Labels::read(&stage.input("ingest", Labels::FILE)?)?.in_sorted_order();
        let rows = read_rows(&path, &labels, &options)?;
        let parts = cut(&rows, &path, &options, stage)?;
        let mut places = vec![scatter::NOWHERE; rows.classes.len()];
        for (place, &row) in (0_u32..).zip(parts.iter().flatten()) {
            places[row] = place;
        }
        let mut summary = SplitSummary::new();
        for (name, of) in PARTS.iter().zip(&parts) {
            let mut counts = vec![0; labels.len()];
            for &row in of {
                counts[rows.classes[row]] += 1;
            }
            let counts: BTreeMap<String, usize> =
                labels.names().iter().cloned().zip(counts).collect();
            summary.insert((*name).to_owned(), counts);
        }
        let warning = warning(&labels, &summary);
        Ok((Self { sizes: parts.iter().map(Vec::len).collect(), summary, warning }, places))
    }
}

/// What the split depends on: the rows' labels and, with `group_by`, their stories.
fn read_rows<'l>(path: &Path, labels: &'l Labels, options: &SplitOptions) -> Result<Rows<'l>> {
    let has = |column: &str| table::schema(path).map(|schema| schema.contains(column));
    let mut classes = Vec::new();
    table::groups(path, &["category"], |frame| {
        for category in table::texts(frame, "category", path)?.no_null_iter() {
            classes.push(labels.label(category, path)? as usize);
        }
        Ok(())
    })?;
    let groups = match options.group_by {
        None => None,
        Some(_) if has("story")? => {
            let frame = table::read(path, &["story"])?;
            Some(table::texts(&frame, "story", path)?.no_null_iter().map(str::to_owned).collect())
        }
        Some(_) => {
            return Err(Failure::input(
                "the data has no column of groups",
                "option `split.group_by`",
                "name the column that holds them in `ingest.columns.group`",
            ));
        }
    };
    Ok(Rows { classes, names: labels.names(), groups })
}

/// The rows of each part.
fn cut(
    rows: &Rows<'_>,
    path: &Path,
    options: &SplitOptions,
    stage: &Stage,
) -> Result<[Vec<usize>; PARTS.len()]> {
    let given = given::Given::of(options)?;
    let mut parts =
        given.map_or_else(|| rows.cut(options), |given| given.parts(rows, path, options, stage))?;
    if options.cv_folds.is_none() && options.cv_fold > 1 {
        return Err(Failure::usage(
            "a fold is named, but there are no folds",
            "option `split.cv.fold`",
            "set `split.cv.folds`, too",
        ));
    }
    if options.cv_folds.is_some() {
        parts = folds::cut(rows, parts, options)?;
    }
    if options.train_share < 1.0 {
        parts[0] = stratified::share(&parts[0], &rows.classes, options.train_share, options.seed);
    }
    Ok(parts)
}

/// A warning about labels that train does not have.
fn warning(labels: &Labels, summary: &SplitSummary) -> Option<String> {
    let [train, rest @ ..] = PARTS.map(|part| summary.get(part));
    let count = |part: Option<&BTreeMap<String, usize>>, name: &String| {
        part.and_then(|counts| counts.get(name)).copied().unwrap_or(0)
    };
    let unseen =
        |name: &&String| count(train, name) == 0 && rest.iter().any(|part| count(*part, name) > 0);
    let unseen: Vec<&String> = labels.names().iter().filter(unseen).collect();
    let first = unseen.first()?;
    Some(format!(
        "train has no headline of {} of the {} labels, such as `{first}`: they are never predicted",
        unseen.len(),
        labels.len()
    ))
}
