//! The facts about nets on sequences of tokens.

use failure::Result;
use schema::{Collated, TokensSummary};
use serde::Serialize;
use stage::Stage;

use crate::parts::json;
use crate::runs::RunFacts;

/// The sequences, and the runs on them.
#[derive(Serialize)]
pub struct Sequences {
    /// The matrix of embeddings and the sequences of each part.
    tokens: TokensSummary,
    /// The first rows of train as a batch.
    collated: Collated,
    /// The runs, the best on valid first.
    pub runs: Vec<RunFacts>,
}

/// The runs that answer problems 72 to 78.
const NAMED: [&str; 3] = ["train.mean", "train.batches", "train.finetuned"];

/// Whether a net takes sequences.
pub fn takes_sequences(net: Option<&str>) -> bool {
    matches!(net, Some("mean" | "cnn" | "lstm"))
}

impl Sequences {
    /// Reads what `tokens` wrote, if it is there, and takes the runs on it out of `runs`.
    pub fn read(stage: &Stage, runs: &mut Vec<RunFacts>) -> Result<Option<Self>> {
        if !stage.has("tokens") {
            return Ok(None);
        }
        let mut own: Vec<RunFacts> =
            runs.extract_if(.., |run| takes_sequences(run.net())).collect();
        // A stable sort: equally good runs stay in the order of their names.
        own.sort_by(|a, b| b.valid().total_cmp(&a.valid()));
        Ok(Some(Self {
            tokens: json(&stage.input("tokens", "summary.json")?)?,
            collated: json(&stage.input("tokens", "collate.json")?)?,
            runs: own,
        }))
    }

    /// The run of this name.
    pub fn run(&self, node: &str) -> Option<&RunFacts> {
        self.runs.iter().find(|run| run.node == node)
    }

    /// The best on valid of the runs that answer problem 79: those that answer no other problem.
    pub fn best_architecture(&self) -> Option<&RunFacts> {
        self.runs.iter().find(|run| !NAMED.contains(&&*run.node))
    }
}
