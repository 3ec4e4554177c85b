//! `net = "knn"`: the nearest headlines of train vote.

use classifiers::neighbours::{Index, Search, Vote};
use failure::Result;
use schema::Outcome;
use serde::{Deserialize, Serialize};
use stage::Stage;

use crate::evaluation::{Description, Fitted, HeldOut, finish};
use crate::parts::{Part, Parts};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    net: String,
    k: usize,
    power: f32,
    smoothing: f32,
}

struct FittedNeighbours<'p> {
    index: &'p Index,
    vote: Vote,
    parts: Vec<&'p Part>,
}

impl<'p> Fitted for FittedNeighbours<'p> {
    type Desk = Search<'p>;
    fn desk(&self) -> Self::Desk {
        Search::new(self.index)
    }
    fn margins(&self, search: &mut Search<'p>, part: usize, row: usize, to: &mut [f32]) {
        let Some(part) = self.parts.get(part) else { return };
        // A row of train would be its own nearest neighbour.
        let left_out = (part.name == "train").then_some(row);
        self.vote.margins(search, part.sparse.row(row), left_out, to);
    }
}

/// Fits the run.
pub fn run(stage: &Stage) -> Result<String> {
    let options: Options = stage.options()?;
    let parts = Parts::read(stage, false)?;
    let index = Index::new(&parts.train.sparse);
    let Options { k, power, smoothing, .. } = options;
    let fitted =
        FittedNeighbours { index: &index, vote: Vote { k, power, smoothing }, parts: parts.all() };
    let description = Description {
        options: &options,
        labels: &parts.labels,
        features: parts.train.sparse.columns,
        // The rows are the model.
        parameters: 0,
        outcome: Outcome { epochs: 0, epoch_kept: 0, stopped_early: false },
        held_out: HeldOut::Own,
    };
    finish(stage, &parts.rows(), &fitted, &description)
}
