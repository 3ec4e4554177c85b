//! A linear classifier and its file.

use std::path::Path;

use failure::{Failure, Result};
use formats::Arrays;
use formats::arrays::{self, Array, Values};

use super::lanes::Solved;

/// The weights of each class, as training makes them.
pub struct Weights {
    classes: usize,
    /// A row for each column of the sparse features, with a weight for each class.
    sparse: Vec<f32>,
    /// A row for each dense feature.
    dense: Vec<f32>,
    bias: Vec<f32>,
}

impl Weights {
    pub(super) fn zeros(columns: usize, dimension: usize, classes: usize) -> Self {
        Self {
            classes,
            sparse: vec![0.0; columns * classes],
            dense: vec![0.0; dimension * classes],
            bias: vec![0.0; classes],
        }
    }

    /// Takes the weights of a class from a lane of its machine.
    pub(super) fn set<const L: usize>(&mut self, class: usize, lane: usize, solved: &Solved<L>) {
        let Self { classes, sparse, dense, bias } = self;
        // The other of two classes is the mirror image.
        let mirrored = *classes == 2;
        let put = |row: &mut [f32], weight: f32| {
            if mirrored && let Some(other) = row.first_mut() {
                *other = -weight;
            }
            if let Some(to) = row.get_mut(class) {
                *to = weight;
            }
        };
        let of = |weights: &[f32; L]| weights.get(lane).copied().unwrap_or_default();
        for (row, [weights, _]) in sparse.chunks_exact_mut(*classes).zip(&solved.weights) {
            put(row, of(weights));
        }
        for (row, weights) in dense.chunks_exact_mut(*classes).zip(&solved.dense) {
            put(row, of(weights));
        }
        put(bias, of(&solved.bias));
    }

    /// Whether every weight is a finite number.
    pub fn is_finite(&self) -> bool {
        self.sparse.iter().chain(&self.dense).chain(&self.bias).all(|weight| weight.is_finite())
    }

    /// The classifier. Training saw the dense features x as `scale` (x − `center`); the classifier
    /// takes x itself.
    pub fn model(mut self, scale: f32, center: &[f32]) -> LinearModel {
        for (row, center) in self.dense.chunks_exact_mut(self.classes).zip(center) {
            for (weight, bias) in row.iter_mut().zip(&mut self.bias) {
                *weight *= scale;
                *bias -= *weight * center;
            }
        }
        LinearModel {
            classes: self.classes,
            sparse: self.sparse.into(),
            dense: self.dense,
            bias: self.bias,
        }
    }
}

/// A linear classifier.
pub struct LinearModel {
    classes: usize,
    sparse: Values,
    dense: Vec<f32>,
    bias: Vec<f32>,
}

impl LinearModel {
    /// How many sparse features it takes.
    pub fn columns(&self) -> usize {
        self.sparse.len() / self.classes.max(1)
    }

    /// How many dense features it takes.
    pub fn dimension(&self) -> usize {
        self.dense.len() / self.classes.max(1)
    }

    /// How many weights it has.
    pub fn parameters(&self) -> usize {
        self.sparse.len() + self.dense.len() + self.bias.len()
    }

    /// The weights of a column, one for each class.
    #[inline]
    pub fn weights(&self, column: usize) -> &[f32] {
        self.sparse.get(column * self.classes..(column + 1) * self.classes).unwrap_or_default()
    }

    /// The weights of the dense features, a row for each, and the number of classes.
    pub fn dense(&self) -> (&[f32], usize) {
        (&self.dense, self.classes)
    }

    /// Puts the margin of each class into `to`.
    #[inline]
    pub fn margins(&self, columns: &[u32], values: &[f32], dense: &[f32], to: &mut [f32]) {
        to.copy_from_slice(&self.bias);
        for (&column, &value) in columns.iter().zip(values) {
            add(to, value, self.weights(column as usize));
        }
        for (&value, weights) in dense.iter().zip(self.dense.chunks_exact(self.classes)) {
            add(to, value, weights);
        }
    }

    /// Writes the classifier to `path`.
    pub fn write(&self, path: &Path) -> Result<()> {
        let rows = |values: &[f32]| [values.len() / self.classes.max(1), self.classes];
        arrays::write(
            path,
            [
                ("sparse.weight", Array::f32(&rows(&self.sparse), &self.sparse)),
                ("dense.weight", Array::f32(&rows(&self.dense), &self.dense)),
                ("bias", Array::f32(&[self.classes], &self.bias)),
            ],
            None,
        )
    }

    /// Reads the classifier at `path`, which must have so many classes.
    pub fn read(path: &Path, classes: usize) -> Result<Self> {
        let arrays = Arrays::map(path)?;
        let (_, bias) = arrays.f32("bias", &[Some(classes)])?;
        let (_, dense) = arrays.f32("dense.weight", &[None, Some(classes)])?;
        let (_, sparse) = arrays.into_f32("sparse.weight", &[None, Some(classes)])?;
        let all = || sparse.iter().chain(&dense).chain(&bias);
        if all().any(|weight| !weight.is_finite()) {
            return Err(Failure::artifact("a weight is not finite", path));
        }
        Ok(Self { classes, sparse, dense, bias })
    }
}

#[inline]
fn add(to: &mut [f32], value: f32, weights: &[f32]) {
    // A fixed number of classes is unrolled.
    if let (Ok(to), Ok(weights)) =
        (<&mut [f32; 4]>::try_from(&mut *to), <&[f32; 4]>::try_from(weights))
    {
        for (to, weight) in to.iter_mut().zip(weights) {
            *to += value * weight;
        }
        return;
    }
    for (to, weight) in to.iter_mut().zip(weights) {
        *to += value * weight;
    }
}
