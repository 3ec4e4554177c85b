//! Where a model comes from: its results, its data, its scores.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use failure::Result;
use schema::{Coverage, IngestSummary, Metrics, Score};
use serde_json::Value;

/// What the description says of a run.
pub struct Provenance {
    /// Scores by part.
    pub scores: BTreeMap<String, Score>,
    /// Rows by part.
    pub rows: BTreeMap<String, usize>,
    /// The texts' and the vectors' sources.
    pub sources: BTreeMap<String, String>,
    /// The keys of results by node.
    pub keys: BTreeMap<String, String>,
}

/// Reads it; `used` are the nodes whose results are in the model. Without a manifest or a summary,
/// nothing is said.
pub fn read(artifacts: &Path, run: &str, used: &BTreeSet<String>) -> Result<Provenance> {
    let metrics: Metrics = schema::read_json(&artifacts.join(run).join("metrics.json"))?;
    let scores = metrics.result.scores().map(|(part, score)| (part.to_owned(), score)).collect();
    let mut keys = BTreeMap::new();
    for node in used.iter().map(String::as_str).chain(["ingest", "split", "embed"]) {
        let manifest: Option<Value> =
            schema::read_json(&artifacts.join(node).join("manifest.json")).ok();
        let key = manifest.as_ref().and_then(|manifest| manifest.get("key")?.as_str());
        keys.extend(key.map(|key| (node.to_owned(), key.to_owned())));
    }
    let mut sources = BTreeMap::new();
    if let Ok(of) = schema::read_json::<IngestSummary>(&artifacts.join("ingest/summary.json")) {
        sources.insert("texts".to_owned(), of.source);
    }
    if let Ok(of) = schema::read_json::<Coverage>(&artifacts.join("embed/coverage.json")) {
        sources.insert("vectors".to_owned(), of.source);
    }
    Ok(Provenance { scores, rows: metrics.rows, sources, keys })
}
