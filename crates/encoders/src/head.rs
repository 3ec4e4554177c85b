//! From features to logits, and from the loss back to the gradients of the features.

#![allow(clippy::inline_always, reason = "see kernels::simd")]

use kernels::activation::sigmoid;
use kernels::gemm::{Initial, Left};
use kernels::relu;
use kernels::simd::dispatch;
use kernels::softmax::softmax_in_place;

use crate::Weights;
use crate::layout::Layout;
use crate::project::{Product, transpose};

/// What the logits of a batch should be.
#[derive(Clone, Copy)]
pub struct Targets<'t> {
    /// Each row's label.
    pub labels: &'t [u32],
    /// Share of a label that is spread over all classes.
    pub smoothing: f32,
    /// Dropout's factors for the inputs of the last layer, row after row.
    pub mask: Option<&'t [f32]>,
}

/// What the head computes for a batch, in padded rows.
#[derive(Default)]
pub struct Head {
    /// Hidden units after the ReLU.
    hidden: Vec<f32>,
    /// The inputs of the last layer, after dropout, where there is some.
    inputs: Vec<f32>,
    /// The outputs of the last layer; on the way back, their gradients.
    pub outputs: Vec<f32>,
    by_inputs: Vec<f32>,
    transposed: Vec<f32>,
}

/// `to` ← X W + b, where X has rows of `inner` elements.
fn layer(to: &mut Vec<f32>, x: &[f32], inner: usize, matrix: &[f32], bias: &[f32]) {
    let width = bias.len();
    let rows = x.len() / inner.max(1);
    to.resize(rows * width, 0.0);
    let left = Left { at: x, rows, inner, down: inner, right: 1 };
    dispatch(Product { to, width, left, right: matrix, start: Initial::Bias(bias) });
}

/// The gradients of a layer's matrix and bias, and of its inputs.
fn by_layer(
    x: &[f32],
    by_z: &[f32],
    width: usize,
    matrix: &[f32],
    [to_matrix, to_bias]: [&mut [f32]; 2],
    by_x: &mut Vec<f32>,
    transposed: &mut Vec<f32>,
) {
    let rows = by_z.len() / width.max(1);
    let inner = matrix.len() / width.max(1);
    let left = Left { at: x, rows: inner, inner: rows, down: 1, right: inner };
    dispatch(Product { to: to_matrix, width, left, right: by_z, start: Initial::Zero });
    to_bias.fill(0.0);
    for row in by_z.chunks_exact(width) {
        to_bias.iter_mut().zip(row).for_each(|(to, by)| *to += by);
    }
    transpose(transposed, matrix, width, inner);
    by_x.resize(rows * inner, 0.0);
    let left = Left { at: by_z, rows, inner: width, down: width, right: 1 };
    dispatch(Product { to: by_x, width: inner, left, right: transposed, start: Initial::Zero });
}

/// Two neighbours: a layer's matrix, and its bias after it.
fn pair(weights: &Weights, first: usize) -> [&[f32]; 2] {
    [first, first + 1].map(|at| weights.0.get(at).map_or(&[][..], Vec::as_slice))
}

fn pair_mut(weights: &mut Weights, first: usize) -> [&mut [f32]; 2] {
    match weights.0.get_mut(first..first + 2) {
        Some([one, two]) => [one, two],
        _ => [&mut [], &mut []],
    }
}

impl Head {
    /// Computes the outputs for rows of features.
    pub fn forward(
        &mut self,
        layout: &Layout,
        weights: &Weights,
        features: &[f32],
        mask: Option<&[f32]>,
    ) {
        let [matrix, bias] = pair(weights, layout.last);
        let inner = matrix.len() / bias.len().max(1);
        let x = if layout.hidden_units > 0 {
            let [matrix, bias] = pair(weights, layout.hidden);
            layer(&mut self.hidden, features, layout.features, matrix, bias);
            self.hidden.iter_mut().for_each(|z| *z = relu(*z));
            &self.hidden[..]
        } else {
            features
        };
        self.inputs.clear();
        self.inputs.extend_from_slice(x);
        self.drop(layout, mask, false);
        layer(&mut self.outputs, &self.inputs, inner, matrix, bias);
    }

    /// Multiplies the inputs of the last layer, or their gradients, by dropout's factors.
    fn drop(&mut self, layout: &Layout, mask: Option<&[f32]>, gradients: bool) {
        let Some(mask) = mask else { return };
        let count = layout.architecture.inputs_of_last();
        let rows = mask.len() / count.max(1);
        let values = if gradients { &mut self.by_inputs } else { &mut self.inputs };
        let inner = values.len() / rows.max(1);
        for (row, factors) in values.chunks_exact_mut(inner).zip(mask.chunks_exact(count)) {
            for (number, factor) in factors.iter().enumerate() {
                if let Some(value) = row.get_mut(layout.input_of_last(number)) {
                    *value *= factor;
                }
            }
        }
    }

    /// Turns the outputs into the gradients of the mean cross-entropy by them. `false` if an output
    /// is not finite.
    fn by_outputs(&mut self, layout: &Layout, targets: Targets<'_>) -> bool {
        let Targets { labels, smoothing, .. } = targets;
        let classes = layout.architecture.classes;
        let scale = 1.0 / labels.len().max(1) as f32;
        let spread = smoothing / classes as f32;
        for (row, &label) in self.outputs.chunks_exact_mut(layout.outputs).zip(labels) {
            if layout.architecture.outputs() == 1 {
                let Some(z) = row.first_mut().filter(|z| z.is_finite()) else { return false };
                let target = spread + if label == 1 { 1.0 - smoothing } else { 0.0 };
                *z = scale * (sigmoid(*z) - target);
                continue;
            }
            let Some(row) = row.get_mut(..classes) else { return false };
            if !softmax_in_place(row) {
                return false;
            }
            for (class, p) in row.iter_mut().enumerate() {
                let own = if class == label as usize { 1.0 - smoothing } else { 0.0 };
                *p = scale * (*p - (own + spread));
            }
        }
        true
    }

    /// Computes the gradients of the head's weights, and those of the features into `by_features`.
    /// `false` if an output is not finite.
    pub fn backward(
        &mut self,
        layout: &Layout,
        weights: &Weights,
        features: &[f32],
        targets: Targets<'_>,
        to: &mut Weights,
        by_features: &mut Vec<f32>,
    ) -> bool {
        if !self.by_outputs(layout, targets) {
            return false;
        }
        let [matrix, _] = pair(weights, layout.last);
        let of_last = pair_mut(to, layout.last);
        let mut by_inputs = std::mem::take(&mut self.by_inputs);
        let transposed = &mut self.transposed;
        by_layer(
            &self.inputs,
            &self.outputs,
            layout.outputs,
            matrix,
            of_last,
            &mut by_inputs,
            transposed,
        );
        self.by_inputs = by_inputs;
        self.drop(layout, targets.mask, true);
        if layout.hidden_units == 0 {
            std::mem::swap(by_features, &mut self.by_inputs);
            return true;
        }
        for (by, value) in self.by_inputs.iter_mut().zip(&self.hidden) {
            *by = if *value > 0.0 { *by } else { 0.0 };
        }
        let [matrix, _] = pair(weights, layout.hidden);
        let of_hidden = pair_mut(to, layout.hidden);
        by_layer(
            features,
            &self.by_inputs,
            layout.hidden_units,
            matrix,
            of_hidden,
            by_features,
            &mut self.transposed,
        );
        true
    }
}
