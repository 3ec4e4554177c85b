//! A bidirectional LSTM on some sequences of a batch, as PyTorch's `nn.LSTM` on packed sequences.

#![allow(clippy::inline_always, reason = "see kernels::simd")]

use kernels::activation::{sigmoid, tanh};
use kernels::gemm::{Initial, Left, gemm};
use kernels::simd::{Vector, Work, dispatch};

use crate::Batch;
use crate::layout::GATES;
use crate::pool::{Both, Pool, Steps};

/// What all sequences share.
#[derive(Clone, Copy)]
pub struct Shared<'s> {
    pub batch: &'s Batch,
    /// The products of the batch's tokens with the blocks: four gates of each direction.
    pub z: &'s [Vec<f32>],
    /// Both biases, added.
    pub bias: &'s [f32],
    /// Each direction's matrix from state to gates, and for the way back its transpose.
    pub recurrent: [&'s [f32]; 2],
    pub transposed: [&'s [f32]; 2],
    pub query: &'s [f32],
    pub units: usize,
    /// Padded units.
    pub width: usize,
    pub pool: Pool,
    /// Whether what the way back needs is kept. A long text would take much memory otherwise.
    pub keep: bool,
}

/// Some sequences of a batch, the longest first, so that those that are not over yet come first at
/// every step.
#[derive(Default)]
pub struct Chunk {
    /// The sequences' numbers in the batch.
    rows: Vec<usize>,
    lengths: Vec<usize>,
    /// Where each step's sequences start, in rows of the arrays below.
    starts: Vec<usize>,
    directions: [Direction; 2],
    /// What the chunk adds to the gradient of the query.
    pub by_query: Vec<f32>,
}

/// A row for each step and sequence.
#[derive(Default)]
struct Direction {
    /// The gates after their activation; on the way back, the gradients before it.
    gates: Vec<f32>,
    cells: Vec<f32>,
    /// tanh of the cells.
    squashed: Vec<f32>,
    states: Vec<f32>,
    by_states: Vec<f32>,
    /// The states before each step from the second on.
    before: Vec<f32>,
}

impl Chunk {
    /// Takes the sequences `rows` of the batch.
    pub fn take(&mut self, batch: &Batch, rows: std::ops::Range<usize>) {
        self.rows.clear();
        self.rows.extend(rows);
        self.rows.sort_by_key(|&row| std::cmp::Reverse(batch.row(row).len()));
        self.lengths.clear();
        self.lengths.extend(self.rows.iter().map(|&row| batch.row(row).len()));
        self.starts.clear();
        let (mut start, mut active) = (0, self.rows.len());
        for step in 0..self.lengths.first().copied().unwrap_or_default() {
            while active > 0 && self.lengths.get(active - 1).is_some_and(|length| *length <= step) {
                active -= 1;
            }
            self.starts.push(start);
            start += active;
        }
        self.starts.push(start);
    }

    fn steps(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// The rows of a step.
    fn step(&self, step: usize) -> std::ops::Range<usize> {
        let at = |step: usize| self.starts.get(step).copied().unwrap_or_default();
        at(step)..at(step + 1)
    }

    /// Computes the states, and passes each sequence's number and features to `take`.
    pub fn forward(&mut self, of: Shared<'_>, mut take: impl FnMut(usize, &[f32])) {
        for direction in 0..2 {
            dispatch(Forward { chunk: self, of, direction });
        }
        let mut features = vec![0.0; 2 * of.width];
        for (at, &row) in self.rows.iter().enumerate() {
            let starts = self.starts_of(at, of.width);
            of.pool.forward(&self.both(&starts, of.width), of.query, &mut features);
            take(row, &features);
        }
    }

    /// Turns the gradients of the features, padded rows for the whole batch, into those of the gates.
    pub fn backward(&mut self, of: Shared<'_>, by_features: &[f32]) {
        let total = self.starts.last().copied().unwrap_or_default();
        let mut by_states = [(); 2].map(|()| vec![0.0; total * of.width]);
        let mut by_query = vec![0.0; 2 * of.width];
        for (at, &row) in self.rows.iter().enumerate() {
            let starts = self.starts_of(at, of.width);
            let by = by_features.get(row * 2 * of.width..(row + 1) * 2 * of.width);
            let [one, two] = &mut by_states;
            of.pool.backward(
                &self.both(&starts, of.width),
                of.query,
                by.unwrap_or_default(),
                [one, two],
                &mut by_query,
            );
        }
        self.by_query = by_query;
        for (direction, by_states) in by_states.into_iter().enumerate() {
            if let Some(to) = self.directions.get_mut(direction) {
                to.by_states = by_states;
            }
            dispatch(Backward { chunk: self, of, direction });
        }
    }

    /// Where the states of the sequence at index `at` lie, step by step.
    fn starts_of(&self, at: usize, width: usize) -> Vec<usize> {
        let length = self.lengths.get(at).copied().unwrap_or_default();
        self.starts.iter().take(length).map(|start| (start + at) * width).collect()
    }

    fn both<'s>(&'s self, rows: &'s [usize], width: usize) -> Both<'s> {
        let steps = |of: &'s Direction| Steps { states: &of.states, rows, units: width };
        let [one, two] = &self.directions;
        Both([steps(one), steps(two)])
    }

    /// Adds the gradients of a gate's products, for each of the batch's tokens.
    pub fn add_by_block(&self, batch: &Batch, block: usize, width: usize, by_z: &mut [f32]) {
        let (direction, gate) = (block / GATES, block % GATES);
        let Some(of) = self.directions.get(direction) else { return };
        for step in 0..self.steps() {
            for (at, row) in self.step(step).enumerate() {
                let Some(&token) = self.place(batch, at, step, direction) else { continue };
                let from = (row * GATES + gate) * width;
                let to = token as usize * width;
                let from = of.gates.get(from..from + width).unwrap_or_default();
                let to = by_z.get_mut(to..to + width).unwrap_or_default();
                to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
            }
        }
    }

    /// The token of the sequence at index `at` in a step.
    fn place<'b>(
        &self,
        batch: &'b Batch,
        at: usize,
        step: usize,
        direction: usize,
    ) -> Option<&'b u32> {
        let (row, length) = (*self.rows.get(at)?, *self.lengths.get(at)?);
        batch.row(row).get(if direction == 0 { step } else { length.checked_sub(1 + step)? })
    }

    /// Adds the gradient of a direction's bias.
    pub fn add_by_bias(&self, direction: usize, width: usize, to: &mut [f32]) {
        let gates = self.directions.get(direction).map_or(&[][..], |of| &of.gates);
        for row in gates.chunks_exact(GATES * width) {
            to.iter_mut().zip(row).for_each(|(to, by)| *to += by);
        }
    }

    /// Adds the gradient of a direction's matrix from state to gates.
    pub fn add_by_recurrent(&self, direction: usize, units: usize, width: usize, to: &mut [f32]) {
        let Some(of) = self.directions.get(direction) else { return };
        let first = self.step(0).end;
        let rows = self.starts.last().copied().unwrap_or_default() - first;
        if rows == 0 {
            return;
        }
        let left = Left { at: &of.before, rows: units, inner: rows, down: 1, right: width };
        let right = of.gates.get(first * GATES * width..).unwrap_or_default();
        let start = Initial::Result;
        dispatch(crate::project::Product { to, width: GATES * width, left, right, start });
    }
}

struct Forward<'f> {
    chunk: &'f mut Chunk,
    of: Shared<'f>,
    direction: usize,
}

impl Work for Forward<'_> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vector>(self) {
        let Self { chunk, of, direction } = self;
        let Shared { batch, z, bias, recurrent, units, width, keep, .. } = of;
        let total = chunk.starts.last().copied().unwrap_or_default();
        let Some(to) = chunk.directions.get_mut(direction) else { return };
        let mut mine = std::mem::take(to);
        let most = chunk.rows.len();
        mine.gates.resize(if keep { total } else { most } * GATES * width, 0.0);
        mine.squashed.resize(if keep { total } else { most } * width, 0.0);
        mine.cells.resize(if keep { total } else { 2 * most } * width, 0.0);
        mine.states.resize(total * width, 0.0);
        let blocks = z.get(direction * GATES..(direction + 1) * GATES).unwrap_or_default();
        let bias = bias.get(direction * GATES * width..).unwrap_or_default();
        let matrix = recurrent.get(direction).copied().unwrap_or_default();
        let mut before = 0..0;
        for step in 0..chunk.steps() {
            let rows = chunk.step(step);
            let first = if keep { rows.start } else { 0 };
            let gates = first * GATES * width..(first + rows.len()) * GATES * width;
            let Some(gates) = mine.gates.get_mut(gates) else { return };
            for (at, row) in gates.chunks_exact_mut(GATES * width).enumerate() {
                let token = chunk.place(batch, at, step, direction).copied().unwrap_or_default();
                let start = token as usize * width;
                let parts = row.chunks_exact_mut(width).zip(blocks).zip(bias.chunks_exact(width));
                for ((to, z), bias) in parts {
                    let z = z.get(start..start + width).unwrap_or_default();
                    for ((to, z), bias) in to.iter_mut().zip(z).zip(bias) {
                        *to = z + bias;
                    }
                }
            }
            if step > 0 {
                let at = mine.states.get(before.start * width..).unwrap_or_default();
                let left = Left { at, rows: rows.len(), inner: units, down: width, right: 1 };
                gemm::<V>(gates, GATES * width, left, matrix, Initial::Result);
            }
            let (earlier, cells) = if keep {
                let (earlier, cells) = mine.cells.split_at_mut(rows.start * width);
                (earlier.get(before.start * width..).unwrap_or_default(), cells)
            } else {
                // The cells of this step and of the one before take turns.
                match (step, mine.cells.split_at_mut(most * width)) {
                    (0, (one, _)) => (&[][..], one),
                    (step, (one, two)) if step % 2 == 0 => (&*two, one),
                    (_, (one, two)) => (&*one, two),
                }
            };
            let rows_of = gates
                .chunks_exact_mut(GATES * width)
                .zip(cells.chunks_exact_mut(width))
                .zip(mine.squashed.chunks_exact_mut(width).skip(first))
                .zip(mine.states.chunks_exact_mut(width).skip(rows.start));
            for (at, (((gates, cells), squashed), states)) in rows_of.enumerate() {
                let earlier = earlier.get(at * width..(at + 1) * width).unwrap_or_default();
                cell(gates, earlier, cells, squashed, states, width);
            }
            before = rows;
        }
        if let Some(to) = chunk.directions.get_mut(direction) {
            *to = mine;
        }
    }
}

/// The gates of a row: input, forget, new cell, output.
#[inline(always)]
fn parts(gates: &mut [f32], width: usize) -> [&mut [f32]; GATES] {
    let (first, last) = gates.split_at_mut(2 * width);
    let (input, forget) = first.split_at_mut(width);
    let (new, output) = last.split_at_mut(width);
    let (output, _) = output.split_at_mut(width);
    [input, forget, new, output]
}

/// c ← σ(f) c + σ(i) tanh(g), h ← σ(o) tanh(c).
#[inline(always)]
#[expect(clippy::indexing_slicing, reason = "all slices have `width` elements")]
fn cell(
    gates: &mut [f32],
    earlier: &[f32],
    cells: &mut [f32],
    squashed: &mut [f32],
    states: &mut [f32],
    width: usize,
) {
    let [input, forget, new, output] = parts(gates, width);
    let (cells, states) = (&mut cells[..width], &mut states[..width]);
    let squashed = &mut squashed[..width];
    for unit in 0..width {
        let i = sigmoid(input[unit]);
        let g = tanh(new[unit]);
        let o = sigmoid(output[unit]);
        (input[unit], new[unit], output[unit]) = (i, g, o);
        cells[unit] = i * g;
        forget[unit] = sigmoid(forget[unit]);
    }
    if earlier.len() == width {
        for unit in 0..width {
            cells[unit] = forget[unit].mul_add(earlier[unit], cells[unit]);
        }
    }
    for unit in 0..width {
        squashed[unit] = tanh(cells[unit]);
        states[unit] = output[unit] * squashed[unit];
    }
}

struct Backward<'b> {
    chunk: &'b mut Chunk,
    of: Shared<'b>,
    direction: usize,
}

impl Work for Backward<'_> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vector>(self) {
        let Self { chunk, of, direction } = self;
        let Shared { transposed, width, .. } = of;
        let Some(to) = chunk.directions.get_mut(direction) else { return };
        let mut mine = std::mem::take(to);
        let matrix = transposed.get(direction).copied().unwrap_or_default();
        let most = chunk.rows.len() * width;
        let (mut by_state, mut by_cell) = (vec![0.0; most], vec![0.0; most]);
        for step in (0..chunk.steps()).rev() {
            let rows = chunk.step(step);
            let before = step.checked_sub(1).map(|step| chunk.step(step).start);
            for (at, row) in rows.clone().enumerate() {
                let part = at * width..(at + 1) * width;
                let of_row = row * width..(row + 1) * width;
                let earlier = before.map(|start| (start + at) * width);
                let earlier = earlier.and_then(|start| mine.cells.get(start..start + width));
                let gates = mine.gates.get_mut(row * GATES * width..(row + 1) * GATES * width);
                by_gates(
                    gates.unwrap_or_default(),
                    earlier,
                    mine.squashed.get(of_row.clone()).unwrap_or_default(),
                    mine.by_states.get(of_row).unwrap_or_default(),
                    by_state.get(part.clone()).unwrap_or_default(),
                    by_cell.get_mut(part).unwrap_or_default(),
                    width,
                );
            }
            if step > 0 {
                let at = mine.gates.get(rows.start * GATES * width..).unwrap_or_default();
                let inner = GATES * width;
                let left = Left { at, rows: rows.len(), inner, down: inner, right: 1 };
                gemm::<V>(&mut by_state, width, left, matrix, Initial::Zero);
            }
        }
        // The states before each step, in the order of the gates' rows.
        mine.before.clear();
        for step in 1..chunk.steps() {
            let start = chunk.step(step - 1).start * width;
            let end = start + chunk.step(step).len() * width;
            mine.before.extend_from_slice(mine.states.get(start..end).unwrap_or_default());
        }
        if let Some(to) = chunk.directions.get_mut(direction) {
            *to = mine;
        }
    }
}

/// Turns the gates into the gradients of what went into them, and `by_cell` into that of the cell a
/// step earlier.
#[inline(always)]
#[expect(clippy::indexing_slicing, reason = "all slices have `width` elements")]
fn by_gates(
    gates: &mut [f32],
    earlier: Option<&[f32]>,
    squashed: &[f32],
    from_pool: &[f32],
    from_later: &[f32],
    by_cell: &mut [f32],
    width: usize,
) {
    let [input, forget, new, output] = parts(gates, width);
    let (squashed, from_pool) = (&squashed[..width], &from_pool[..width]);
    let (from_later, by_cell) = (&from_later[..width], &mut by_cell[..width]);
    for unit in 0..width {
        let by_state = from_pool[unit] + from_later[unit];
        let (i, f, g, o) = (input[unit], forget[unit], new[unit], output[unit]);
        let t = squashed[unit];
        let by = (by_state * o).mul_add(1.0 - t * t, by_cell[unit]);
        output[unit] = by_state * t * (o * (1.0 - o));
        input[unit] = by * g * (i * (1.0 - i));
        new[unit] = by * i * (1.0 - g * g);
        forget[unit] = f * (1.0 - f) * by;
        by_cell[unit] = by * f;
    }
    match earlier {
        Some(earlier) => {
            forget.iter_mut().zip(earlier).for_each(|(by, earlier)| *by *= earlier);
        }
        None => forget.fill(0.0),
    }
}
