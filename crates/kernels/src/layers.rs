//! The forward pass of fully connected layers.

#![allow(clippy::inline_always, reason = "see simd.rs")]

use crate::gemm::{Initial, Left, gemm};
use crate::relu;
use crate::simd::{LANES, Vector, Work, dispatch};

/// Rows that go through all layers before the next ones: their hidden units stay in the
/// second-level cache.
const ROWS: usize = 96;

/// relu(X W + b), or without the ReLU.
pub struct Dense {
    inputs: usize,
    outputs: usize,
    /// The width of W's rows and of b, in whole vectors.
    width: usize,
    weight: Vec<f32>,
    bias: Vec<f32>,
    relu: bool,
}

impl Dense {
    /// From PyTorch's weight \[outputs, inputs\], whose outputs are scaled, and a bias for each
    /// output.
    #[expect(clippy::cast_possible_truncation, reason = "weights are f32; they are rounded once")]
    pub fn new(weight: &[f32], bias: &[f64], scale: Option<&[f64]>, relu: bool) -> Self {
        let outputs = bias.len();
        let inputs = weight.len() / outputs.max(1);
        let width = outputs.next_multiple_of(LANES);
        let mut dense = Self {
            inputs,
            outputs,
            width,
            weight: vec![0.0; inputs * width],
            bias: bias.iter().map(|b| *b as f32).collect(),
            relu,
        };
        dense.bias.resize(width, 0.0);
        for (o, row) in weight.chunks_exact(inputs.max(1)).enumerate() {
            let scale = scale.and_then(|scale| scale.get(o)).copied();
            for (to, w) in dense.weight.iter_mut().skip(o).step_by(width).zip(row) {
                *to = scale.map_or(*w, |scale| (f64::from(*w) * scale) as f32);
            }
        }
        dense
    }

    /// How many numbers it takes.
    pub const fn inputs(&self) -> usize {
        self.inputs
    }

    /// How many numbers it gives.
    pub const fn outputs(&self) -> usize {
        self.outputs
    }

    /// Multiply-adds per row.
    pub const fn cost(&self) -> usize {
        self.inputs * self.width
    }

    /// The weight \[outputs, inputs\] and the bias, as they are computed with.
    pub fn weights(&self) -> (Vec<f32>, Vec<f32>) {
        let row = |o: usize| self.weight.iter().skip(o).step_by(self.width.max(1)).copied();
        let weight = (0..self.outputs).flat_map(row).collect();
        (weight, self.bias.iter().take(self.outputs).copied().collect())
    }

    /// Whether its outputs go through a ReLU.
    pub const fn relu(&self) -> bool {
        self.relu
    }
}

/// Layers, one after the other. A layer may come several times.
pub struct Layers {
    layers: Vec<Dense>,
    order: Vec<usize>,
}

impl Layers {
    /// The layers in this order. `None` if one does not take what the layer before it gives, or if
    /// there is none.
    pub fn new(layers: Vec<Dense>, order: Vec<usize>) -> Option<Self> {
        let mut before = None;
        for &number in &order {
            let layer = layers.get(number)?;
            if layer.inputs == 0 || before.is_some_and(|before| before != layer.inputs) {
                return None;
            }
            before = Some(layer.outputs);
        }
        before.map(|_| Self { layers, order })
    }

    /// The layers in the order in which they are applied.
    pub fn each(&self) -> impl Iterator<Item = &Dense> {
        self.order.iter().filter_map(|&number| self.layers.get(number))
    }

    /// How many numbers a row has.
    pub fn inputs(&self) -> usize {
        self.each().next().map_or(0, Dense::inputs)
    }

    /// How many numbers a row gives.
    pub fn outputs(&self) -> usize {
        self.each().last().map_or(0, Dense::outputs)
    }

    /// Multiply-adds per row.
    pub fn cost(&self) -> usize {
        self.each().map(Dense::cost).sum()
    }

    /// Appends the outputs of every row of `x` to `to`. They do not depend on the rows beside it.
    pub fn forward(&self, x: &[f32], to: &mut Vec<f32>) {
        dispatch(Forward { layers: self, x, to });
    }
}

struct Forward<'p> {
    layers: &'p Layers,
    x: &'p [f32],
    to: &'p mut Vec<f32>,
}

impl Work for Forward<'_> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vector>(self) {
        let Self { layers, x, to: all } = self;
        let (d, outputs) = (layers.inputs(), layers.outputs());
        let widest = layers.each().map(|layer| layer.width).max().unwrap_or(0);
        let most = ROWS.min(x.len() / d.max(1));
        let (mut from, mut to) = (vec![0.0; most * widest], vec![0.0; most * widest]);
        for block in x.chunks(ROWS * d) {
            let rows = block.len() / d;
            let mut down = d;
            for (number, layer) in layers.each().enumerate() {
                let at = if number == 0 { block } else { &from };
                let left = Left { at, rows, inner: layer.inputs, down, right: 1 };
                gemm::<V>(&mut to, layer.width, left, &layer.weight, Initial::Bias(&layer.bias));
                if layer.relu {
                    for z in to.iter_mut().take(rows * layer.width) {
                        // Not `max`, which turns NaN into 0: a net that has diverged would look
                        // sound.
                        *z = relu(*z);
                    }
                }
                std::mem::swap(&mut from, &mut to);
                down = layer.width;
            }
            for row in from.chunks_exact(down).take(rows) {
                all.extend_from_slice(row.get(..outputs).unwrap_or_default());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_products_with_a_bias_and_a_relu() {
        // numpy: relu([1, -2] @ [[1, 0.5, 0], [3, 0, -1]] + [0, 1, 0.5]) = [0, 1.5, 2.5];
        //        @ [[1], [2], [4]] - 1 = [12]
        let first = Dense::new(&[1.0, 3.0, 0.5, 0.0, 0.0, -1.0], &[0.0, 1.0, 0.5], None, true);
        let last = Dense::new(&[0.5, 1.0, 2.0], &[-1.0], Some(&[2.0]), false);
        assert_eq!(last.weights(), (vec![1.0, 2.0, 4.0], vec![-1.0]));
        let layers = Layers::new(vec![first, last], vec![0, 1]).expect("layers");
        let mut to = vec![7.0];
        layers.forward(&[1.0, -2.0, 1.0, -2.0], &mut to);
        assert_eq!(to, [7.0, 12.0, 12.0]);
        let one = || Dense::new(&[1.0, 2.0], &[0.0], None, false);
        assert!(Layers::new(vec![one()], vec![0, 0]).is_none());
        assert!(Layers::new(vec![one()], vec![1]).is_none());
        assert!(Layers::new(vec![one()], vec![]).is_none());
    }
}
