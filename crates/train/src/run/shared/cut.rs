//! How the data of a shared run is cut into chunks.

use std::ops::Range;

use failure::Result;
use schema::Labels;
use stage::Stage;
use stage::shards::{chunk_among, chunk_of, chunks_in};

use super::RunOptions;
use crate::data::Data;

/// The chunks that are scored, and those that are predicted.
pub struct Cut {
    chunk_rows: usize,
    /// The rows of train and of valid.
    scored: [usize; 2],
    /// The rows of a chunk of the table of predictions: whole row groups.
    predict_rows: usize,
    /// The rows of valid and of test, one below the other in that table.
    predicted: [usize; 2],
}

impl Cut {
    /// The chunks, if there are several.
    pub fn of(stage: &Stage, options: &RunOptions) -> Result<Option<Self>> {
        let Some(chunk_rows) = stage.chunk_rows() else { return Ok(None) };
        // Only one process works on a GPU, where logits may depend on the size of a batch. Nets on
        // sequences do not share the data.
        if stage.device != "cpu" || options.embeddings.is_some() {
            return Ok(None);
        }
        let [train, valid, test] = Data::rows_in_files(stage)?;
        if [train, valid, test].iter().all(|&rows| rows <= chunk_rows) {
            return Ok(None);
        }
        let labels = Labels::read(&stage.input("tensors", Labels::FILE)?)?.len();
        let group = predictions::group_rows(labels);
        Ok(Some(Self {
            chunk_rows,
            scored: [train, valid],
            predict_rows: chunk_rows.next_multiple_of(group),
            predicted: [valid, test],
        }))
    }

    /// How many chunks are scored after an epoch.
    pub fn score_chunks(&self) -> usize {
        self.scored.iter().map(|&rows| chunks_in(self.chunk_rows, rows)).sum()
    }

    /// The part of a chunk that is scored, 0 for train and 1 for valid, and its rows there.
    pub fn score_chunk(&self, chunk: usize) -> Option<(usize, Range<usize>)> {
        chunk_among(chunk, self.chunk_rows, &self.scored)
    }

    /// How many chunks are predicted.
    pub fn predict_chunks(&self) -> usize {
        chunks_in(self.predict_rows, self.predicted.iter().sum())
    }

    /// The rows of valid and of test in a chunk of the predictions.
    pub fn predict_chunk(&self, chunk: usize) -> [Range<usize>; 2] {
        let [valid, test] = self.predicted;
        let rows = chunk_of(chunk, self.predict_rows, valid + test);
        let of_test = rows.start.saturating_sub(valid)..rows.end.saturating_sub(valid);
        [rows.start.min(valid)..rows.end.min(valid), of_test]
    }

    /// The piece with the scores on test of a chunk that is predicted; the piece with the number of the
    /// chunk has its predictions.
    pub fn scores_of(&self, chunk: usize) -> usize {
        self.predict_chunks() + chunk
    }

    /// Whether there are rows of test.
    pub fn has_test(&self) -> bool {
        let [_, test] = self.predicted;
        test > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_scored_and_predicted_once() {
        for (train, valid, test) in [(10, 3, 3), (7, 9, 0), (1, 1, 40), (20, 8, 8)] {
            for (chunk_rows, predict_rows) in [(4, 8), (1, 8), (5, 5)] {
                let cut = Cut {
                    chunk_rows,
                    scored: [train, valid],
                    predict_rows,
                    predicted: [valid, test],
                };
                let mut scored = [0, 0];
                for chunk in 0..cut.score_chunks() {
                    let (part, rows) = cut.score_chunk(chunk).expect("a chunk");
                    assert_eq!(rows.start, scored[part]);
                    scored[part] = rows.end;
                }
                assert_eq!(scored, [train, valid]);
                let mut predicted = [0, 0];
                for chunk in 0..cut.predict_chunks() {
                    for (seen, rows) in predicted.iter_mut().zip(cut.predict_chunk(chunk)) {
                        if !rows.is_empty() {
                            assert_eq!(rows.start, *seen);
                            *seen = rows.end;
                        }
                    }
                }
                assert_eq!(predicted, [valid, test]);
            }
        }
    }
}
