//! A trained net and its file.

use std::path::Path;

use failure::{Failure, Result};
use formats::Arrays;
use formats::arrays::{self, Array, Values};
use kernels::relu;

use super::head::Head;
use super::share;

/// A trained net.
pub struct BagModel {
    /// A row for each token.
    table: Values,
    dimension: usize,
    /// A row of outputs for each component.
    matrix: Vec<f32>,
    bias: Vec<f32>,
    /// A row of classes for each hidden unit, and the classes' bias.
    hidden: Option<(Vec<f32>, Vec<f32>)>,
    weighted: bool,
    /// What the vectors of other tokens are multiplied by.
    scale: f32,
    /// What each token's vector gives to the classes; only for nets without hidden units, once
    /// [`BagModel::project`] has been called.
    projection: Option<Vec<f32>>,
}

/// What a thread computes margins with.
#[derive(Default)]
pub struct BagDesk {
    weights: Vec<f32>,
    mean: Vec<f32>,
    units: Vec<f32>,
}

/// The first `count` columns of a matrix with rows of `width`.
fn columns(matrix: &[f32], width: usize, count: usize) -> Vec<f32> {
    matrix.chunks_exact(width).flat_map(|row| row.iter().copied().take(count)).collect()
}

impl BagModel {
    pub(super) fn new(
        table: Vec<f32>,
        dimension: usize,
        matrix: &[f32],
        head: &Head,
        weighted: bool,
    ) -> Self {
        let classes = head.classes();
        let (bias, hidden) = (head.bias(), head.hidden());
        let outputs = hidden.map_or(classes, |(units, ..)| units);
        let hidden = hidden.map(|(units, matrix, bias)| {
            let mut of = columns(matrix, bias.len(), classes);
            of.truncate(units * classes);
            (of, columns(bias, bias.len(), classes))
        });
        Self {
            table: table.into(),
            dimension,
            matrix: columns(matrix, bias.len(), outputs),
            bias: columns(bias, bias.len(), outputs),
            hidden,
            weighted,
            scale: 1.0,
            projection: None,
        }
    }

    /// The net with vectors that were given times `scale`.
    pub const fn scaled(mut self, scale: f32) -> Self {
        self.scale = scale;
        self
    }

    /// How many tokens have a vector.
    pub fn tokens(&self) -> usize {
        self.table.len() / self.dimension.max(1)
    }

    /// Components of a vector.
    pub const fn dimension(&self) -> usize {
        self.dimension
    }

    /// How many weights there are.
    pub fn parameters(&self) -> usize {
        let hidden = self.hidden.as_ref().map_or(0, |(matrix, bias)| matrix.len() + bias.len());
        self.table.len() + self.matrix.len() + self.bias.len() + hidden
    }

    /// Whether every weight is a finite number.
    pub fn is_finite(&self) -> bool {
        let hidden = self.hidden.iter().flat_map(|(matrix, bias)| matrix.iter().chain(bias));
        let all = self.table.iter().chain(&self.matrix).chain(&self.bias).chain(hidden);
        self.scale.is_finite() && all.into_iter().all(|weight| weight.is_finite())
    }

    /// Computes what each token gives to the classes, where that makes margins faster: a row of
    /// classes is shorter than a vector.
    pub fn project(&mut self) {
        let classes = self.bias.len();
        if self.hidden.is_some() || classes > self.dimension {
            return;
        }
        let mut all = vec![0.0; self.tokens() * classes];
        for (vector, to) in
            self.table.chunks_exact(self.dimension).zip(all.chunks_exact_mut(classes))
        {
            for (x, row) in vector.iter().zip(self.matrix.chunks_exact(classes)) {
                add(to, *x, row);
            }
        }
        self.projection = Some(all);
    }

    /// Puts the margin of each class into `to`, for a text with these tokens and values. Tokens from
    /// [`BagModel::tokens`] on have the vectors that `others` gives, as they were before training.
    pub fn margins<'v>(
        &self,
        desk: &mut BagDesk,
        tokens: &[u32],
        values: &[f32],
        others: impl Fn(usize) -> &'v [f32],
        to: &mut [f32],
    ) {
        let BagDesk { weights, mean, units } = desk;
        weights.clear();
        weights.extend_from_slice(values);
        share(weights, self.weighted);
        if let Some(projection) = &self.projection {
            to.copy_from_slice(&self.bias);
            let classes = to.len();
            for (&token, &weight) in tokens.iter().zip(&*weights) {
                let at = token as usize * classes;
                add(to, weight, projection.get(at..at + classes).unwrap_or_default());
            }
            return;
        }
        mean.clear();
        mean.resize(self.dimension, 0.0);
        for (&token, &weight) in tokens.iter().zip(&*weights) {
            let token = token as usize;
            let at = token * self.dimension;
            match self.table.get(at..at + self.dimension) {
                Some(own) => add(mean, weight, own),
                None => add(mean, weight * self.scale, others(token - self.tokens())),
            }
        }
        let Some((matrix, bias)) = &self.hidden else {
            layer(mean, &self.matrix, &self.bias, to);
            return;
        };
        units.resize(self.bias.len(), 0.0);
        layer(mean, &self.matrix, &self.bias, units);
        for z in units.iter_mut() {
            *z = relu(*z);
        }
        layer(units, matrix, bias, to);
    }

    /// Writes the net to a safetensors file: `table` f32 \[tokens, d\], `matrix` f32 \[d, H or K\]
    /// `bias` f32 \[H or K\] and `scale` f32 \[1\]; with hidden units also `classes` f32 \[H, K\] and `classes.bias`
    /// f32 \[K\].
    pub fn write(&self, path: &Path) -> Result<()> {
        let outputs = self.bias.len();
        let mut all = vec![
            ("table", Array::f32(&[self.tokens(), self.dimension], &self.table)),
            ("matrix", Array::f32(&[self.dimension, outputs], &self.matrix)),
            ("bias", Array::f32(&[outputs], &self.bias)),
            ("scale", Array::f32(&[1], std::slice::from_ref(&self.scale))),
        ];
        if let Some((matrix, bias)) = &self.hidden {
            all.push(("classes", Array::f32(&[outputs, bias.len()], matrix)));
            all.push(("classes.bias", Array::f32(&[bias.len()], bias)));
        }
        arrays::write(path, all, None)
    }

    /// Reads what [`BagModel::write`] wrote; `weighted` is the option it was trained with.
    pub fn read(path: &Path, classes: usize, weighted: bool) -> Result<Self> {
        let arrays = Arrays::map(path)?;
        let has_hidden = arrays.names()?.iter().any(|name| name == "classes");
        let outputs = (!has_hidden).then_some(classes);
        let (_, bias) = arrays.f32("bias", &[outputs])?;
        let hidden = if has_hidden {
            let (_, matrix) = arrays.f32("classes", &[Some(bias.len()), Some(classes)])?;
            Some((matrix, arrays.f32("classes.bias", &[Some(classes)])?.1))
        } else {
            None
        };
        let (shape, matrix) = arrays.f32("matrix", &[None, Some(bias.len())])?;
        let dimension = shape.first().copied().unwrap_or_default();
        let scale = arrays.f32("scale", &[Some(1)])?.1.first().copied().unwrap_or(f32::NAN);
        let (_, table) = arrays.into_f32("table", &[None, Some(dimension)])?;
        if dimension == 0 {
            return Err(Failure::artifact("the vectors have no components", path));
        }
        let model =
            Self { table, dimension, matrix, bias, hidden, weighted, scale, projection: None };
        if model.is_finite() {
            Ok(model)
        } else {
            Err(Failure::artifact("a weight is not finite", path))
        }
    }
}

/// `to` ← `bias` + `inputs` × `matrix`.
fn layer(inputs: &[f32], matrix: &[f32], bias: &[f32], to: &mut [f32]) {
    to.copy_from_slice(bias);
    for (&x, row) in inputs.iter().zip(matrix.chunks_exact(bias.len().max(1))) {
        add(to, x, row);
    }
}

#[inline]
fn add(to: &mut [f32], by: f32, values: &[f32]) {
    for (to, value) in to.iter_mut().zip(values) {
        *to += by * value;
    }
}
