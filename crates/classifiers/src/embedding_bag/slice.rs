//! Some components of all vectors, and the weights that take them to the next layer.

#![allow(
    clippy::inline_always,
    clippy::needless_range_loop,
    reason = "see kernels::simd: an iterator's closure may not be inlined"
)]

use kernels::gemm::{Initial, Left, gemm};
use kernels::simd::{LANES, Vector, Work};

use super::Batch;
use super::head::adagrad;

/// Tokens that are prefetched before they are needed.
const AHEAD: usize = 8;

/// See the module.
pub struct Slice {
    /// Components.
    width: usize,
    /// Vector registers that hold them.
    vectors: usize,
    /// Outputs of the next layer, a multiple of sixteen.
    outputs: usize,
    /// For each token its components, and after them their sums of squared gradients: a step needs
    /// both.
    table: Vec<f32>,
    /// A row of outputs for each component.
    matrix: Vec<f32>,
    squares: Vec<f32>,
    // Memory of a step.
    means: Vec<f32>,
    gradients: Vec<f32>,
    transposed: Vec<f32>,
    of_matrix: Vec<f32>,
}

impl Slice {
    pub fn zeros(tokens: usize, width: usize, outputs: usize) -> Self {
        let vectors = width.div_ceil(LANES);
        let padded = vectors * LANES;
        Self {
            width,
            vectors,
            outputs,
            table: vec![0.0; tokens * 2 * padded],
            matrix: vec![0.0; padded * outputs],
            squares: vec![0.0; padded * outputs],
            means: Vec::new(),
            gradients: Vec::new(),
            transposed: Vec::new(),
            of_matrix: Vec::new(),
        }
    }

    /// Sets the components of all tokens.
    pub fn fill(&mut self, mut value: impl FnMut(usize, usize) -> f32) {
        let (width, entry) = (self.width, 2 * self.vectors * LANES);
        for (token, row) in self.table.chunks_exact_mut(entry).enumerate() {
            for (component, to) in row.iter_mut().take(width).enumerate() {
                *to = value(token, component);
            }
        }
    }

    /// Sets the weights of the first outputs.
    pub fn fill_matrix(&mut self, outputs: usize, mut value: impl FnMut() -> f32) {
        for row in self.matrix.chunks_exact_mut(self.outputs).take(self.width) {
            row.iter_mut().take(outputs).for_each(|to| *to = value());
        }
    }

    pub const fn width(&self) -> usize {
        self.width
    }

    /// The components of each token.
    pub fn vectors(&self) -> impl Iterator<Item = &[f32]> {
        let entry = 2 * self.vectors * LANES;
        self.table.chunks_exact(entry).map(|row| row.get(..self.width).unwrap_or_default())
    }

    /// The weights, without the rows of components that are not there.
    pub fn matrix(&self) -> &[f32] {
        self.matrix.get(..self.width * self.outputs).unwrap_or_default()
    }

    pub fn state(&self) -> [(&'static str, &[f32]); 3] {
        [("table", &self.table), ("matrix", &self.matrix), ("squares", &self.squares)]
    }

    pub fn state_mut(&mut self) -> [(&'static str, &mut Vec<f32>); 3] {
        let Self { table, matrix, squares, .. } = self;
        [("table", table), ("matrix", matrix), ("squares", squares)]
    }
}

/// Puts what the slice gives to the next layer into `to`.
pub struct Forward<'f> {
    pub slice: &'f mut Slice,
    pub batch: &'f Batch,
    pub to: &'f mut [f32],
}

impl Work for Forward<'_> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vector>(self) {
        let Self { slice, batch, to } = self;
        let padded = slice.vectors * LANES;
        slice.means.resize(batch.ends.len() * padded, 0.0);
        match slice.vectors {
            1 => means::<V, 1>(&slice.table, batch, &mut slice.means),
            _ => means::<V, 2>(&slice.table, batch, &mut slice.means),
        }
        let left = Left {
            at: &slice.means,
            rows: batch.ends.len(),
            inner: padded,
            down: padded,
            right: 1,
        };
        gemm::<V>(to, slice.outputs, left, &slice.matrix, Initial::Zero);
    }
}

/// The means of all texts, of `N` registers each.
#[inline(always)]
fn means<V: Vector, const N: usize>(table: &[f32], batch: &Batch, to: &mut [f32]) {
    let (table, _) = table.as_chunks::<LANES>();
    let (to, _) = to.as_chunks_mut::<LANES>();
    let mut start = 0;
    for text in 0..batch.ends.len() {
        let Some(&end) = batch.ends.get(text) else { return };
        let mut sums = [V::zero(); N];
        for at in start..end {
            if let Some(&token) = batch.tokens.get(at + AHEAD) {
                prefetch_token::<V, N>(table, token);
            }
            let (Some(&token), Some(&weight)) = (batch.tokens.get(at), batch.weights.get(at))
            else {
                return;
            };
            let weight = V::all(weight);
            for n in 0..N {
                let Some(values) = table.get(token as usize * 2 * N + n) else { return };
                if let Some(sum) = sums.get_mut(n) {
                    *sum = V::load(values).mul_add(weight, *sum);
                }
            }
        }
        for n in 0..N {
            if let (Some(sum), Some(to)) = (sums.get(n), to.get_mut(text * N + n)) {
                sum.store(to);
            }
        }
        start = end;
    }
}

#[inline(always)]
fn prefetch_token<V: Vector, const N: usize>(table: &[[f32; LANES]], token: u32) {
    for n in 0..2 * N {
        if let Some(line) = table.get(token as usize * 2 * N + n) {
            V::prefetch(line.as_ptr());
        }
    }
}

/// Changes the weights and the vectors by the gradients of the next layer's inputs.
pub struct Backward<'b> {
    pub slice: &'b mut Slice,
    pub batch: &'b Batch,
    pub gradients: &'b [f32],
    pub lr: f32,
}

impl Work for Backward<'_> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vector>(self) {
        let Self { slice, batch, gradients, lr } = self;
        let (rows, outputs) = (batch.ends.len(), slice.outputs);
        let padded = slice.vectors * LANES;
        // The gradients of the means, with the weights as they were.
        slice.transposed.resize(outputs * padded, 0.0);
        for component in 0..padded {
            for output in 0..outputs {
                let from = slice.matrix.get(component * outputs + output).copied();
                if let Some(to) = slice.transposed.get_mut(output * padded + component) {
                    *to = from.unwrap_or_default();
                }
            }
        }
        slice.gradients.resize(rows * padded, 0.0);
        let left = Left { at: gradients, rows, inner: outputs, down: outputs, right: 1 };
        gemm::<V>(&mut slice.gradients, padded, left, &slice.transposed, Initial::Zero);
        slice.of_matrix.resize(padded * outputs, 0.0);
        let left = Left { at: &slice.means, rows: padded, inner: rows, down: 1, right: padded };
        gemm::<V>(&mut slice.of_matrix, outputs, left, gradients, Initial::Zero);
        adagrad::<V>(&mut slice.matrix, &mut slice.squares, &slice.of_matrix, lr);
        match slice.vectors {
            1 => step::<V, 1>(&mut slice.table, batch, &slice.gradients, lr),
            _ => step::<V, 2>(&mut slice.table, batch, &slice.gradients, lr),
        }
    }
}

/// Changes the vectors of all tokens, text after text.
#[inline(always)]
fn step<V: Vector, const N: usize>(table: &mut [f32], batch: &Batch, gradients: &[f32], lr: f32) {
    let (table, _) = table.as_chunks_mut::<LANES>();
    let (gradients, _) = gradients.as_chunks::<LANES>();
    let (least, lr) = (V::all(super::head::LEAST), V::all(-lr));
    let mut start = 0;
    for text in 0..batch.ends.len() {
        let Some(&end) = batch.ends.get(text) else { return };
        for at in start..end {
            if let Some(&token) = batch.tokens.get(at + AHEAD) {
                prefetch_token::<V, N>(table, token);
            }
            let (Some(&token), Some(&weight)) = (batch.tokens.get(at), batch.weights.get(at))
            else {
                return;
            };
            let weight = V::all(weight);
            for n in 0..N {
                let place = token as usize * 2 * N + n;
                let Some(gradient) = gradients.get(text * N + n) else { return };
                let gradient = V::load(gradient).mul_add(weight, V::zero());
                let Some(squares) = table.get_mut(place + N) else { return };
                let sum = gradient.mul_add(gradient, V::load(squares));
                sum.store(squares);
                let by = gradient.div(sum.sqrt().mul_add(V::all(1.0), least));
                let Some(values) = table.get_mut(place) else { return };
                by.mul_add(lr, V::load(values)).store(values);
            }
        }
        start = end;
    }
}
