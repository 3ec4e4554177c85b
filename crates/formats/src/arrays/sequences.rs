//! Sequences of token ids: those of row `i` are `ids` from `offsets[i]` to `offsets[i + 1]`.

use std::path::Path;

use failure::{Failure, Result};

use super::checked::{labels, starts};
use super::{Arrays, Values};

/// Sequences with a label and an id for each. The token ids stay in the mapped file.
pub struct Sequences {
    /// The label of each row.
    pub labels: Vec<u32>,
    /// The id of each row.
    pub ids: Vec<i64>,
    starts: Vec<usize>,
    tokens: Values<u32>,
}

impl Sequences {
    /// Sequences in memory.
    pub fn of(rows: &[Vec<u32>], labels: Vec<u32>) -> Self {
        let mut starts = vec![0];
        let mut end = 0;
        starts.extend(rows.iter().map(|row| {
            end += row.len();
            end
        }));
        let ids = (0..).take(rows.len()).collect();
        Self { labels, ids, starts, tokens: rows.concat().into() }
    }

    /// Maps the file at `path`, whose labels must be below `classes` and whose token ids between 1
    /// and `tokens` − 1.
    pub fn map(path: &Path, classes: usize, tokens: usize) -> Result<Self> {
        let wrong = |what: String| Failure::artifact(what, path);
        let arrays = Arrays::map(path)?;
        let ids = arrays.i64("id", &[None])?;
        let rows = ids.len();
        let y = arrays.i64("y", &[Some(rows)])?;
        let offsets = arrays.i64("offsets", &[Some(rows + 1)])?;
        let (_, all) = arrays.into_u32("ids", &[None])?;
        let starts = starts(&offsets, all.len())
            .ok_or_else(|| wrong("`offsets` does not go from 0 to the number of tokens".into()))?;
        if let Some(at) = all.iter().position(|&id| id == 0 || id as usize >= tokens) {
            let id = all.get(at).copied().unwrap_or_default();
            let last = tokens.saturating_sub(1);
            return Err(wrong(format!("token {at} has id {id}; ids are 1 to {last}")));
        }
        let labels = labels(&y, classes, path)?;
        Ok(Self { labels, ids, starts, tokens: all })
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.labels.len()
    }

    /// How many tokens there are.
    pub fn tokens(&self) -> usize {
        self.tokens.len()
    }

    /// The token ids of a row; none if there is no such row.
    #[inline]
    pub fn row(&self, row: usize) -> &[u32] {
        let (Some(&start), Some(&end)) = (self.starts.get(row), self.starts.get(row + 1)) else {
            return &[];
        };
        self.tokens.get(start..end).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arrays::{Array, write};

    fn refusal(ids: &[u32], offsets: &[i64], y: &[i64]) -> String {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("train.safetensors");
        let id: Vec<i64> = (0..).take(y.len()).collect();
        let arrays = [
            ("ids", Array::u32(ids)),
            ("offsets", Array::i64(offsets)),
            ("y", Array::i64(y)),
            ("id", Array::i64(&id)),
        ];
        write(&path, arrays, None).expect("writes");
        match Sequences::map(&path, 2, 9) {
            Ok(read) => {
                let all: Vec<u32> =
                    (0..read.rows()).flat_map(|row| read.row(row).to_vec()).collect();
                assert_eq!((&all[..], read.tokens()), (ids, ids.len()));
                String::new()
            }
            Err(failure) => failure.what,
        }
    }

    #[test]
    fn sequences_come_back_and_wrong_ones_are_refused() {
        assert_eq!(refusal(&[1, 2, 8], &[0, 2, 2, 3], &[0, 1, 1]), "");
        assert_eq!(refusal(&[], &[0], &[]), "");
        let offsets = "`offsets` does not go from 0 to the number of tokens";
        for wrong in [[0, 2, 1, 3], [0, 1, 2, 4], [1, 1, 2, 3], [0, -1, 2, 3]] {
            assert_eq!(refusal(&[1, 2, 8], &wrong, &[0, 1, 1]), offsets);
        }
        assert_eq!(refusal(&[1, 0], &[0, 2], &[0]), "token 1 has id 0; ids are 1 to 8");
        assert_eq!(refusal(&[9, 1], &[0, 2], &[0]), "token 0 has id 9; ids are 1 to 8");
        assert_eq!(refusal(&[1], &[0, 1], &[2]), "label 2 in row 0; labels are 0 to 1");
        assert_eq!(refusal(&[1], &[0, 1], &[0, 0]), "array `offsets` is I64 [2], not I64 [3]");
    }
}
