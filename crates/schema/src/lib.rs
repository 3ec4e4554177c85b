//! The JSON artifacts: one stage writes them, others and `cargo xtask compare` read them.
//!
//! A type here is the only description of its file. Optional fields are those that earlier versions
//! did not write.

mod data;
mod evaluation;
mod labels;
mod run;
mod sweep;
mod tuning;

pub use data::{
    Collated, Coverage, FirstRow, FirstSequence, FirstToken, IngestSummary, MatrixSummary,
    NgramsSummary, SparseSummary, SplitSummary, TensorsSummary, TokensPart, TokensSummary,
    WordCount,
};
pub use evaluation::{Evaluation, EvaluationRecord};
pub use labels::Labels;
pub use run::{
    Calibration, CheckpointSummary, HistoryRow, Metrics, Outcome, Pass, RunConfig, Score,
    SeedMetrics, Spread, Start, StartStep, StrongFeature, Strongest, TimingRow, Trained,
};
pub use sweep::{SweepConfig, SweepRow};
pub use tuning::{Range, TrialRecord, TuningRecord};

/// Options by name, as an artifact lists them.
pub type OptionValues = std::collections::BTreeMap<String, serde_json::Value>;

/// Reads the JSON artifact at `path`.
///
/// # Errors
/// If it is missing or does not have this form.
pub fn read_json<T: serde::de::DeserializeOwned>(path: &std::path::Path) -> failure::Result<T> {
    let bytes = std::fs::read(path).map_err(|e| failure::Failure::io("read", path, &e))?;
    serde_json::from_slice(&bytes).map_err(|e| failure::Failure::artifact(e, path))
}
