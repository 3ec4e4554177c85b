//! The features and labels of the three parts.

use failure::{Failure, Result};
use formats::Arrays;
use formats::arrays::{Csr, Values};
use schema::Labels;
use stage::Stage;

use predictions::margins::PartRows;

/// The rows of one part.
pub struct Part {
    /// Its name.
    pub name: &'static str,
    /// The n-grams.
    pub sparse: Csr,
    /// The mean word vectors, row after row; none if they are not used.
    dense: Values,
    /// Components of a vector, 0 if they are not used.
    pub dimension: usize,
}

/// The parts.
pub struct Parts {
    /// For training.
    pub train: Part,
    /// For calibration.
    pub valid: Part,
    /// For the final score only. Data that came in parts may have none.
    pub test: Option<Part>,
    /// The names of the classes.
    pub labels: Labels,
}

impl Parts {
    /// Reads the files that `ngrams` wrote and, if wanted, those of `tensors`.
    pub fn read(stage: &Stage, with_vectors: bool) -> Result<Self> {
        let labels = Labels::read(&stage.input("ngrams", Labels::FILE)?)?;
        let read = |name| Part::read(stage, name, labels.len(), with_vectors);
        let (train, valid, test) = (read("train")?, read("valid")?, read("test")?);
        for part in [&train, &valid] {
            if part.len() == 0 {
                let path = stage.input("ngrams", &format!("{}.safetensors", part.name))?;
                return Err(Failure::artifact("the matrix has no rows", &path));
            }
        }
        for part in [&valid, &test] {
            let sizes = |of: &Part| [of.sparse.columns, of.dimension];
            if sizes(part) != sizes(&train) {
                let path = stage.input("ngrams", &format!("{}.safetensors", part.name))?;
                let what = format_args!(
                    "{:?} sparse and dense features, but train has {:?}",
                    sizes(part),
                    sizes(&train)
                );
                return Err(Failure::artifact(what, &path));
            }
        }
        let test = (test.len() > 0).then_some(test);
        Ok(Self { train, valid, test, labels })
    }

    /// The parts that there are.
    pub fn all(&self) -> Vec<&Part> {
        [&self.train, &self.valid].into_iter().chain(&self.test).collect()
    }

    /// Their labels and ids.
    pub fn rows(&self) -> Vec<PartRows<'_>> {
        self.all().into_iter().map(Part::rows).collect()
    }
}

impl Part {
    fn read(stage: &Stage, name: &'static str, classes: usize, with_vectors: bool) -> Result<Self> {
        let file = format!("{name}.safetensors");
        let sparse = Csr::map(&stage.input("ngrams", &file)?, classes)?;
        if !with_vectors {
            return Ok(Self { name, sparse, dense: Vec::new().into(), dimension: 0 });
        }
        let path = stage.input("tensors", &file)?;
        let ids = Arrays::map(&path)?.i64("id", &[None])?;
        let (shape, dense) = Arrays::map(&path)?.into_f32("X", &[Some(ids.len()), None])?;
        let dimension = shape.get(1).copied().unwrap_or_default();
        if let Some(at) = dense.iter().position(|value| !value.is_finite()) {
            let what = format_args!("value {at} of X is not finite");
            return Err(Failure::artifact(what, &path));
        }
        let dense = if ids == sparse.ids {
            dense
        } else {
            joined(&ids, &dense, dimension, &sparse.ids)
                .ok_or_else(|| Failure::artifact("the rows are not those of `ngrams`", &path))?
                .into()
        };
        Ok(Self { name, sparse, dense, dimension })
    }

    fn rows(&self) -> PartRows<'_> {
        PartRows { name: self.name, labels: &self.sparse.labels, ids: &self.sparse.ids }
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.sparse.rows()
    }

    /// The mean word vector of a row.
    #[inline]
    pub fn vector(&self, row: usize) -> &[f32] {
        self.dense.get(row * self.dimension..(row + 1) * self.dimension).unwrap_or_default()
    }

    /// The mean word vectors, row after row.
    pub fn vectors(&self) -> &[f32] {
        &self.dense
    }
}

/// The most weights: 16 GiB of them.
pub const MOST: usize = 1 << 32;

/// Refuses a model that would not fit into memory, before its training: one with `width` weights,
/// which are for `of`, in each column.
pub fn refuse_too_many(stage: &Stage, columns: usize, width: usize, of: &str) -> Result<()> {
    if columns.saturating_mul(width) <= MOST {
        return Ok(());
    }
    Err(Failure::input(
        format_args!("{columns} n-grams for {width} {of} need more than {MOST} weights"),
        format_args!("`{}`", stage.node),
        "set ngrams.min_count = 2 or more, or ngrams.hash_bits = 18",
    ))
}

/// The vectors of the rows `wanted`, which come in the order of `ids`; zeros for a row without
/// vector, which `tensors.empty = "drop"` leaves out. `None` if there are others.
fn joined(ids: &[i64], vectors: &[f32], dimension: usize, wanted: &[i64]) -> Option<Vec<f32>> {
    let mut rows = ids.iter().zip(vectors.chunks_exact(dimension.max(1))).peekable();
    let mut all = vec![0.0; wanted.len() * dimension];
    for (id, to) in wanted.iter().zip(all.chunks_exact_mut(dimension.max(1))) {
        if let Some((_, row)) = rows.next_if(|(next, _)| *next == id) {
            to.copy_from_slice(row);
        }
    }
    rows.next().is_none().then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_without_vector_gets_zeros() {
        let vectors = [1.0, 2.0, 3.0, 4.0];
        let all = joined(&[5, 9], &vectors, 2, &[5, 7, 9]);
        assert_eq!(all, Some(vec![1.0, 2.0, 0.0, 0.0, 3.0, 4.0]));
        assert_eq!(joined(&[9, 5], &vectors, 2, &[5, 7, 9]), None);
        assert_eq!(joined(&[5, 8], &vectors, 2, &[5, 7, 9]), None);
    }
}
