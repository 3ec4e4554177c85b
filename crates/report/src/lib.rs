//! The last stage: what came out, for a person (`index.html`, `report.md`) and for a program
//! (`metrics.json`), with the learning curves as `.svg` files.
//!
//! In: the summaries of `ingest`, `split`, `embed`, `tensors`; each run's `config.json`,
//! `history.jsonl`, `metrics.json`, `predictions.parquet`.
//!
//! Always holds: `index.html` is one self-contained file; every figure in it is one of
//! `metrics.json` or a run's history; the same inputs give the same bytes.

mod chart;
mod facts;
mod quality;
mod render;

use artifact::{Failure, NodeSpec, Result, Stage};
use chart::Curve;
use facts::Facts;

/// The node that this crate runs.
pub const NODES: &[NodeSpec] = &[NodeSpec { name: "report", options: include_str!("../options.toml") }];

/// Runs the stage.
pub fn run(stage: &Stage) -> Result<String> {
    let facts = Facts::read(stage)?;
    let mut charts = Vec::new();
    for run in &facts.runs {
        let mut figures = Vec::new();
        for curve in Curve::ALL {
            let svg = chart::draw(&run.history, curve).map_err(|e| Failure::failed(e, &run.node, "this is a bug; please report it"))?;
            let path = stage.output(&format!("{}-{}.svg", run.node, curve.name()));
            std::fs::write(&path, &svg).map_err(|e| Failure::io("write", &path, &e))?;
            figures.push(chart::inline(&svg, &run.node, curve));
        }
        charts.push(figures);
    }
    for (name, text) in render::pages(&facts, &charts)? {
        let path = stage.output(name);
        std::fs::write(&path, text).map_err(|e| Failure::io("write", &path, &e))?;
    }
    stage.write_json("metrics.json", &facts)?;
    Ok(facts.headline())
}
