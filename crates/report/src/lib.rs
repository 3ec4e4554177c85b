//! The last stage: the exercise's answers, for people (`index.html`, `report.md`) and for programs
//! (`metrics.json`), with the charts as `.svg` files.
//!
//! In: the labels; the summaries and options of `ingest`, `split`, `embed` and, where they are there,
//! `tensors` and `tokens`; the headlines
//! of valid and test; each run's
//! `config.json`, `history.jsonl`, `metrics.json`, `predictions.parquet`; `start.json` of
//! `train.slp`; the sweep; the records of tunings and
//! evaluations; for the page's classifier, the words and vectors of `embed`, the n-grams, and the
//! weights of the nets that it can have.
//!
//! Always holds: `index.html` is one self-contained file; every number in it comes from
//! `metrics.json`; the same inputs and commit give the same bytes.

mod classifier;
mod evaluated;
mod facts;
mod figures;
mod parts;
mod published;
mod quality;
mod render;
mod runs;
mod sequences;
mod tuned;

use facts::Facts;
use failure::{Failure, Result};
use stage::{Embedded, Stage};

/// The node that this crate runs.
pub const NODES: Embedded = Embedded {
    nodes: include_str!("../node.toml"),
    options: &[("options.toml", include_str!("../options.toml"))],
};

/// Runs the stage.
pub fn run(stage: &Stage) -> Result<String> {
    let facts = Facts::read(stage)?;
    let figures = figures::all(&facts)
        .map_err(|e| Failure::failed(e, &stage.node, "this is a bug; please report it"))?;
    let write = |name: &str, text: &str| {
        let path = stage.output(name);
        std::fs::write(&path, text).map_err(|e| Failure::io("write", &path, &e))
    };
    for figure in &figures {
        write(&format!("{}.svg", figure.name), &figure.svg)?;
    }
    for (name, text) in render::pages(&facts, &figures)? {
        write(name, &text)?;
    }
    stage.write_json("metrics.json", &facts)?;
    Ok(facts.headline())
}
