//! The features and labels of the three parts.

use failure::{Failure, Result};
use formats::Arrays;
use formats::arrays::{Csr, Values};
use schema::Labels;
use stage::Stage;

use crate::evaluation::PartRows;

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
        if ids != sparse.ids {
            return Err(Failure::input(
                format_args!(
                    "tensors and ngrams have different rows: {} and {}",
                    ids.len(),
                    sparse.rows()
                ),
                path.display(),
                format_args!("set tensors.empty = \"zero\", or {}.vectors = 0", stage.node),
            ));
        }
        let (shape, dense) = Arrays::map(&path)?.into_f32("X", &[Some(ids.len()), None])?;
        let dimension = shape.get(1).copied().unwrap_or_default();
        if let Some(at) = dense.iter().position(|value| !value.is_finite()) {
            let what = format_args!("value {at} of X is not finite");
            return Err(Failure::artifact(what, &path));
        }
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
