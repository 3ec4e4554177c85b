//! The layers after the sum over slices.

#![allow(
    clippy::inline_always,
    clippy::needless_range_loop,
    reason = "see kernels::simd: an iterator's closure may not be inlined"
)]

use kernels::gemm::{Initial, Left, gemm};
use kernels::odds::largest;
use kernels::relu;
use kernels::simd::{LANES, Vector, Work};
use kernels::softmax::softmax_in_place;

/// What is added to the root of a sum of squared gradients.
pub const LEAST: f32 = 1e-8;

/// Values and the sums of their squared gradients.
#[derive(Clone)]
struct Adaptive {
    values: Vec<f32>,
    squares: Vec<f32>,
}

impl Adaptive {
    fn zeros(count: usize) -> Self {
        Self { values: vec![0.0; count], squares: vec![0.0; count] }
    }
}

/// A step of AdaGrad. The number of values is a multiple of sixteen.
#[inline(always)]
pub fn adagrad<V: Vector>(values: &mut [f32], squares: &mut [f32], gradients: &[f32], lr: f32) {
    let (values, _) = values.as_chunks_mut::<LANES>();
    let (squares, _) = squares.as_chunks_mut::<LANES>();
    let (gradients, _) = gradients.as_chunks::<LANES>();
    let (least, lr) = (V::all(LEAST), V::all(-lr));
    for at in 0..values.len() {
        let (Some(values), Some(squares), Some(gradient)) =
            (values.get_mut(at), squares.get_mut(at), gradients.get(at))
        else {
            return;
        };
        let gradient = V::load(gradient);
        let sum = gradient.mul_add(gradient, V::load(squares));
        sum.store(squares);
        let by = gradient.div(sum.sqrt().mul_add(V::all(1.0), least));
        by.mul_add(lr, V::load(values)).store(values);
    }
}

/// The layer that the sum over slices goes into: that of the hidden units, if there are some, and
/// that of the classes.
#[derive(Clone)]
pub struct Head {
    classes: usize,
    /// The bias of the hidden units, or of the classes.
    bias: Adaptive,
    hidden: Option<Hidden>,
    memory: Memory,
}

/// From hidden units to classes.
#[derive(Clone)]
struct Hidden {
    units: usize,
    /// A row of classes for each unit.
    matrix: Adaptive,
    bias: Adaptive,
}

/// Memory of a step.
#[derive(Clone, Default)]
struct Memory {
    logits: Vec<f32>,
    transposed: Vec<f32>,
    of_matrix: Vec<f32>,
    of_bias: Vec<f32>,
}

impl Head {
    pub fn new(hidden: Option<usize>, classes: usize, mut random: impl FnMut() -> f32) -> Self {
        let inputs = hidden.unwrap_or(classes).next_multiple_of(LANES);
        let padded = classes.next_multiple_of(LANES);
        let hidden = hidden.map(|units| {
            let mut matrix = Adaptive::zeros(inputs * padded);
            let bound = (6.0 / units as f32).sqrt();
            for row in matrix.values.chunks_exact_mut(padded).take(units) {
                row.iter_mut().take(classes).for_each(|to| *to = bound * random());
            }
            Hidden { units, matrix, bias: Adaptive::zeros(padded) }
        });
        Self { classes, bias: Adaptive::zeros(inputs), hidden, memory: Memory::default() }
    }

    /// The padded number of units or classes that the slices' sums belong to.
    pub fn inputs_padded(&self) -> usize {
        self.bias.values.len()
    }

    /// The bias of the hidden units or, without any, of the classes.
    pub fn bias(&self) -> &[f32] {
        &self.bias.values
    }

    /// The number of hidden units, and the matrix and the bias that follow them.
    pub fn hidden(&self) -> Option<(usize, &[f32], &[f32])> {
        let of = self.hidden.as_ref()?;
        Some((of.units, &of.matrix.values, &of.bias.values))
    }

    pub const fn classes(&self) -> usize {
        self.classes
    }

    pub fn state(&self) -> Vec<(&'static str, &[f32])> {
        let mut all: Vec<(&'static str, &[f32])> =
            vec![("bias", &self.bias.values), ("bias.squares", &self.bias.squares)];
        if let Some(Hidden { matrix, bias, .. }) = &self.hidden {
            all.push(("hidden", &matrix.values));
            all.push(("hidden.squares", &matrix.squares));
            all.push(("hidden.bias", &bias.values));
            all.push(("hidden.bias.squares", &bias.squares));
        }
        all
    }

    pub fn state_mut(&mut self) -> Vec<(&'static str, &mut Vec<f32>)> {
        let mut all =
            vec![("bias", &mut self.bias.values), ("bias.squares", &mut self.bias.squares)];
        if let Some(Hidden { matrix, bias, .. }) = &mut self.hidden {
            all.push(("hidden", &mut matrix.values));
            all.push(("hidden.squares", &mut matrix.squares));
            all.push(("hidden.bias", &mut bias.values));
            all.push(("hidden.bias.squares", &mut bias.squares));
        }
        all
    }
}

/// Steps on a batch's sums over the slices, which it replaces by their gradients. Gives the sum of
/// the texts' losses, and how many texts are classified correctly; `None` if a logit is not finite.
pub struct HeadStep<'s> {
    pub head: &'s mut Head,
    pub inputs: &'s mut [f32],
    pub labels: &'s [u32],
    pub lr: f32,
}

impl Work for HeadStep<'_> {
    type Out = Option<(f64, usize)>;
    #[inline(always)]
    fn run<V: Vector>(self) -> Self::Out {
        let Self { head, inputs, labels, lr } = self;
        let (rows, width) = (labels.len(), head.inputs_padded());
        add_to_rows(inputs, &head.bias.values);
        let Head { classes, bias, hidden, memory } = head;
        let Memory { logits, transposed, of_matrix, of_bias } = memory;
        let Some(Hidden { units, matrix, bias: last_bias }) = hidden else {
            let result = losses(inputs, width, *classes, labels)?;
            sum_of_rows(inputs, width, of_bias);
            adagrad::<V>(&mut bias.values, &mut bias.squares, of_bias, lr);
            return Some(result);
        };
        for z in inputs.iter_mut() {
            *z = relu(*z);
        }
        let padded = last_bias.values.len();
        logits.resize(rows * padded, 0.0);
        let left = Left { at: inputs, rows, inner: *units, down: width, right: 1 };
        gemm::<V>(logits, padded, left, &matrix.values, Initial::Bias(&last_bias.values));
        let result = losses(logits, padded, *classes, labels)?;
        of_matrix.resize(width * padded, 0.0);
        let left = Left { at: inputs, rows: width, inner: rows, down: 1, right: width };
        gemm::<V>(of_matrix, padded, left, logits, Initial::Zero);
        transposed.resize(*classes * width, 0.0);
        for class in 0..*classes {
            for unit in 0..width {
                let from = matrix.values.get(unit * padded + class).copied();
                if let Some(to) = transposed.get_mut(class * width + unit) {
                    *to = from.unwrap_or_default();
                }
            }
        }
        sum_of_rows(logits, padded, of_bias);
        adagrad::<V>(&mut matrix.values, &mut matrix.squares, of_matrix, lr);
        adagrad::<V>(&mut last_bias.values, &mut last_bias.squares, of_bias, lr);
        // The gradients of the hidden units: 0 where a unit is 0.
        of_matrix.resize((rows * width).max(width * padded), 0.0);
        let left = Left { at: logits, rows, inner: *classes, down: padded, right: 1 };
        gemm::<V>(of_matrix, width, left, transposed, Initial::Zero);
        for (unit, gradient) in inputs.iter_mut().zip(of_matrix.iter()) {
            *unit = if *unit > 0.0 { *gradient } else { 0.0 };
        }
        sum_of_rows(inputs, width, of_bias);
        adagrad::<V>(&mut bias.values, &mut bias.squares, of_bias, lr);
        Some(result)
    }
}

#[inline(always)]
fn add_to_rows(rows: &mut [f32], bias: &[f32]) {
    for row in rows.chunks_exact_mut(bias.len()) {
        for (to, x) in row.iter_mut().zip(bias) {
            *to += x;
        }
    }
}

#[inline(always)]
fn sum_of_rows(rows: &[f32], width: usize, to: &mut Vec<f32>) {
    to.clear();
    to.resize(width, 0.0);
    for row in rows.chunks_exact(width) {
        for (to, x) in to.iter_mut().zip(row) {
            *to += x;
        }
    }
}

/// Replaces logits by the gradients of the mean loss.
#[inline(always)]
fn losses(
    logits: &mut [f32],
    width: usize,
    classes: usize,
    labels: &[u32],
) -> Option<(f64, usize)> {
    let share = 1.0 / labels.len().max(1) as f32;
    let (mut loss, mut right) = (0.0, 0);
    for (row, &label) in logits.chunks_exact_mut(width).zip(labels) {
        let (row, rest) = row.split_at_mut(classes);
        rest.fill(0.0);
        right += usize::from(largest(row) == label as usize);
        if !softmax_in_place(row) {
            return None;
        }
        if let Some(own) = row.get_mut(label as usize) {
            loss -= f64::from(own.max(f32::MIN_POSITIVE)).ln();
            *own -= 1.0;
        }
        for p in row {
            *p *= share;
        }
    }
    Some((loss, right))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernels::simd::on_every_kind;

    struct TwoSteps;

    impl Work for TwoSteps {
        type Out = Vec<u32>;
        #[inline(always)]
        fn run<V: Vector>(self) -> Vec<u32> {
            let gradients: Vec<f32> = (0..32_u8).map(|i| (f32::from(i) - 9.5) / 7.0).collect();
            let (mut values, mut squares) = (vec![0.1; 32], vec![0.0; 32]);
            for lr in [0.3, 0.2] {
                adagrad::<V>(&mut values, &mut squares, &gradients, lr);
            }
            values.iter().map(|value| value.to_bits()).collect()
        }
    }

    #[test]
    fn a_step_has_the_same_bits_on_every_kind_of_register() {
        let all = on_every_kind(|| TwoSteps);
        assert!(all.iter().all(|one| *one == all[0]));
        // A first step is as long as the rate, and a second with the same gradient 1/√2 of it.
        let first = f32::from_bits(all[0][0]);
        assert!((first - (0.1 + 0.3 + 0.2 / 2.0_f32.sqrt())).abs() < 1e-6, "{first}");
    }
}
