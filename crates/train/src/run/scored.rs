//! Scores of rows that processes leave for the one that adds them up. They leave each row's loss and not a
//! sum, because a sum of rounded numbers depends on how they are grouped.

use std::path::Path;

use failure::{Failure, Result};
use kernels::odds::{Tally, cross_entropy, largest};
use nets::{Net, each_row};
use schema::Score;

use crate::data::Part;

/// The scores of some rows of a part.
#[derive(Default)]
pub struct Scored {
    losses: Vec<f64>,
    right: u64,
}

impl Scored {
    /// The scores of a part's rows under a net.
    pub fn of(net: &Net, part: &Part) -> candle_core::Result<Self> {
        let mut all = Self::default();
        let mut labels = part.labels.iter();
        each_row(net, part.rows()?, |logits| {
            all.push(logits, labels.next().copied().unwrap_or_default());
        })?;
        Ok(all)
    }

    /// Adds a row.
    pub fn push(&mut self, logits: &[f32], label: u32) {
        self.losses.push(cross_entropy(logits, label));
        self.right += u64::from(largest(logits) == label as usize);
    }

    /// The score of all rows.
    pub fn sum(all: impl IntoIterator<Item = Result<Self>>) -> Result<Score> {
        let mut tally = Tally::default();
        for scored in all {
            let Self { losses, right } = scored?;
            tally.add_scored(&losses, usize::try_from(right).unwrap_or(usize::MAX));
        }
        let (loss, accuracy) = tally.means();
        Ok(Score { loss, accuracy })
    }

    /// Writes the scores: the number of right rows as u64, and the losses as f64, little-endian.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut bytes = Vec::with_capacity(size_of::<u64>() * (1 + self.losses.len()));
        bytes.extend(self.right.to_le_bytes());
        bytes.extend(self.losses.iter().flat_map(|loss| loss.to_le_bytes()));
        std::fs::write(path, bytes).map_err(|e| Failure::io("write", path, &e))
    }

    /// Reads the scores of `rows` rows.
    pub fn read(path: &Path, rows: usize) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|e| Failure::io("read", path, &e))?;
        let (numbers, rest) = bytes.as_chunks();
        match numbers.split_first() {
            Some((right, losses)) if rest.is_empty() && losses.len() == rows => Ok(Self {
                right: u64::from_le_bytes(*right),
                losses: losses.iter().map(|loss| f64::from_le_bytes(*loss)).collect(),
            }),
            _ => Err(Failure::failed(
                format_args!("this piece of a shared run should have the scores of {rows} rows"),
                path.display(),
                "run the same command with --fresh",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_that_were_left_give_the_sum_of_one_process() {
        let rows: Vec<([f32; 3], u32)> = (0..1000_u16)
            .map(|i| ([f32::from(i).sin(), 0.3, f32::from(i).cos()], u32::from(i % 3)))
            .collect();
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("piece");
        let mut whole = Tally::default();
        for (logits, label) in &rows {
            whole.add(logits, *label);
        }
        let mut pieces = Vec::new();
        for rows in rows.chunks(97) {
            let mut scored = Scored::default();
            for (logits, label) in rows {
                scored.push(logits, *label);
            }
            scored.write(&path).expect("writes");
            pieces.push(Scored::read(&path, rows.len()));
            assert!(Scored::read(&path, rows.len() + 1).is_err());
        }
        let Score { loss, accuracy } = Scored::sum(pieces).expect("reads");
        assert_eq!(whole.means(), (loss, accuracy));
    }
}
