//! Dual coordinate descent for several machines at once. They look at the same rows in the same
//! order, each in a lane of its own; no lane's arithmetic depends on the lanes beside it.
//!
//! Weighting the n-grams of a machine by s gives rows x̃ = s ∘ x. Instead of these rows, of which
//! every machine would need a copy, the machine keeps v = s ∘ w: then wᵀx̃ = vᵀx, and a step of w
//! along x̃ is one of v along s² ∘ x.

#![expect(
    clippy::indexing_slicing,
    clippy::needless_range_loop,
    reason = "lanes below L of arrays of L; loops over several arrays, which become vectors"
)]

use kernels::simd::prefetch;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::coordinate::{self, Coordinate, Stepped};
use super::{Data, Loss, Problem, ratio};
use crate::Rows;

/// Rows that are prefetched before they are needed.
const AHEAD: usize = 2;

/// The solution of up to `L` machines.
pub struct Solved<const L: usize> {
    /// v and s² by column.
    pub weights: Vec<[[f32; L]; 2]>,
    /// The weights of the dense features.
    pub dense: Vec<[f32; L]>,
    /// The bias.
    pub bias: [f32; L],
    /// What each pass came to, for the machines that were still running.
    pub passes: Vec<[Option<LanePass>; L]>,
    /// Which machines have converged.
    pub converged: [bool; L],
}

/// A pass of one machine.
#[derive(Clone, Copy)]
pub struct LanePass {
    pub violation: f32,
    pub looked_at: u32,
}

impl<const L: usize> Solved<L> {
    /// The margins of a row.
    #[inline]
    pub fn margins(&self, rows: Rows<'_>, row: usize) -> [f32; L] {
        let (columns, values) = rows.sparse.row(row);
        let sparse = products(columns, values, &self.weights);
        let dense = dense_products(rows.dense(row), &self.dense);
        std::array::from_fn(|lane| sparse[lane] + dense[lane] + self.bias[lane])
    }

    /// Moves the weights by `step` along a row.
    #[inline]
    fn add(&mut self, rows: Rows<'_>, row: usize, step: &[f32; L]) {
        let (columns, values) = rows.sparse.row(row);
        for (&column, &value) in columns.iter().zip(values) {
            let Some([weight, square]) = self.weights.get_mut(column as usize) else { continue };
            for lane in 0..L {
                weight[lane] += step[lane] * (value * square[lane]);
            }
        }
        for (weight, &value) in self.dense.iter_mut().zip(rows.dense(row)) {
            for lane in 0..L {
                weight[lane] += step[lane] * value;
            }
        }
        for lane in 0..L {
            self.bias[lane] += step[lane];
        }
    }
}

/// Four sums, whose additions do not wait for each other.
#[inline]
fn products<const L: usize>(
    columns: &[u32],
    values: &[f32],
    weights: &[[[f32; L]; 2]],
) -> [f32; L] {
    let mut sums = [[0.0; L]; 4];
    let weight = |column: u32| weights.get(column as usize).map_or(&[0.0; L], |of| &of[0]);
    let (by_four, rest) = columns.as_chunks::<4>();
    let (values_by_four, values_rest) = values.as_chunks::<4>();
    for (columns, values) in by_four.iter().zip(values_by_four) {
        for at in 0..4 {
            let weight = weight(columns[at]);
            for lane in 0..L {
                sums[at][lane] += values[at] * weight[lane];
            }
        }
    }
    for (&column, &value) in rest.iter().zip(values_rest) {
        let weight = weight(column);
        for lane in 0..L {
            sums[0][lane] += value * weight[lane];
        }
    }
    total(&sums)
}

#[inline]
fn dense_products<const L: usize>(row: &[f32], weights: &[[f32; L]]) -> [f32; L] {
    let mut sums = [[0.0; L]; 4];
    let (by_four, rest) = row.as_chunks::<4>();
    let (weights_by_four, weights_rest) = weights.as_chunks::<4>();
    for (values, weights) in by_four.iter().zip(weights_by_four) {
        for at in 0..4 {
            for lane in 0..L {
                sums[at][lane] += values[at] * weights[at][lane];
            }
        }
    }
    for (&value, weight) in rest.iter().zip(weights_rest) {
        for lane in 0..L {
            sums[0][lane] += value * weight[lane];
        }
    }
    total(&sums)
}

#[inline]
fn total<const L: usize>(sums: &[[f32; L]; 4]) -> [f32; L] {
    std::array::from_fn(|lane| (sums[0][lane] + sums[1][lane]) + (sums[2][lane] + sums[3][lane]))
}

/// The state of a descent.
struct Descent<'d, const L: usize> {
    data: Data<'d>,
    /// The machines, one per lane.
    group: &'d [Problem],
    solved: Solved<L>,
    /// The dual variables, one for each row and lane.
    alpha: Vec<[f32; L]>,
    /// x̃ᵀx̃ of each row.
    squares: Vec<[f32; L]>,
    /// C of the class's rows, and of the others'.
    costs: [[f32; L]; 2],
    /// Rows that each lane still looks at, a bit for each lane.
    active: Vec<u16>,
}

/// Solves the machines of `group`, at most `L`.
pub fn solve<const L: usize>(data: Data<'_>, group: &[Problem]) -> Solved<L> {
    let mut descent = Descent::<L>::new(data, group);
    descent.run();
    descent.solved
}

impl<'d, const L: usize> Descent<'d, L> {
    fn new(data: Data<'d>, group: &'d [Problem]) -> Self {
        let rows = data.rows;
        let weights: Vec<[[f32; L]; 2]> =
            ratio::squared::<L>(data, group).into_iter().map(|square| [[0.0; L], square]).collect();
        let squares = (0..rows.len())
            .map(|row| {
                let (columns, values) = rows.sparse.row(row);
                let mut sums = [0.0; L];
                for (&column, &value) in columns.iter().zip(values) {
                    let Some([_, square]) = weights.get(column as usize) else { continue };
                    for lane in 0..L {
                        sums[lane] += value * value * square[lane];
                    }
                }
                let dense: f32 = rows.dense(row).iter().map(|x| x * x).sum();
                sums.map(|sum| sum + dense + 1.0)
            })
            .collect();
        let mut descent = Self {
            data,
            group,
            solved: Solved {
                weights,
                dense: vec![[0.0; L]; rows.dense.dimension],
                bias: [0.0; L],
                passes: Vec::new(),
                converged: [true; L],
            },
            alpha: vec![[0.0; L]; rows.len()],
            squares,
            costs: [[0.0; L]; 2],
            active: vec![0; rows.len()],
        };
        descent.set_costs();
        descent
    }

    /// C by lane, for rows of the class and for the others.
    fn set_costs(&mut self) {
        for (lane, problem) in self.group.iter().enumerate() {
            let costs = self.data.costs(*problem);
            for (to, cost) in self.costs.iter_mut().zip(costs) {
                to[lane] = narrow(cost);
            }
        }
    }

    /// The lanes that `row` belongs to, a bit for each.
    fn members(&self, row: usize) -> u16 {
        let is_in = |problem: &Problem| self.data.has(*problem, row);
        let lanes = self.group.iter().enumerate().filter(|(_, problem)| is_in(problem));
        lanes.fold(0, |bits, (lane, _)| bits | 1 << lane)
    }

    fn run(&mut self) {
        let Data { rows, options, .. } = self.data;
        let members: Vec<u16> = (0..rows.len()).map(|row| self.members(row)).collect();
        let mut sizes = [0_u32; L];
        for bits in &members {
            for (lane, size) in sizes.iter_mut().enumerate() {
                *size += u32::from(bits >> lane & 1);
            }
        }
        self.active.clone_from(&members);
        let mut random = ChaCha8Rng::seed_from_u64(options.seed);
        let mut order: Vec<u32> = (0..).take(rows.len()).collect();
        let mut running: u16 = (0..self.group.len()).fold(0, |bits, lane| bits | 1 << lane);
        let mut highest = [f32::INFINITY; L];
        if options.loss == Loss::Logistic {
            self.start_logistic(&members);
        }
        for _ in 0..options.epochs {
            shuffle(&mut order, &mut random);
            let pass = self.pass(&order, running, &highest);
            let mut row = [None; L];
            let mut again = 0;
            for lane in 0..self.group.len() {
                if running >> lane & 1 == 0 {
                    continue;
                }
                let violation = pass.most[lane] - pass.least[lane];
                row[lane] = Some(LanePass { violation, looked_at: pass.looked_at[lane] });
                highest[lane] = if pass.most[lane] > 0.0 { pass.most[lane] } else { f32::INFINITY };
                if violation <= narrow(options.tolerance) {
                    // What is not a number is no optimum; the caller sees it in the weights.
                    if pass.looked_at[lane] == sizes[lane] || !violation.is_finite() {
                        running &= !(1 << lane);
                    } else {
                        // It has converged on the rows that it looks at. Do the others agree?
                        again |= 1 << lane;
                        highest[lane] = f32::INFINITY;
                    }
                }
            }
            self.solved.passes.push(row);
            if again != 0 {
                for (active, members) in self.active.iter_mut().zip(&members) {
                    *active |= members & again;
                }
            }
            if running == 0 {
                break;
            }
        }
        for (lane, converged) in self.solved.converged.iter_mut().enumerate() {
            *converged = running >> lane & 1 == 0;
        }
    }

    /// Each lane's sign of a row.
    #[inline]
    fn signs(&self, row: usize) -> [f32; L] {
        let label = self.data.rows.sparse.labels.get(row).copied();
        let mut signs = [-1.0; L];
        for (sign, problem) in signs.iter_mut().zip(self.group) {
            if Some(problem.class) == label {
                *sign = 1.0;
            }
        }
        signs
    }

    fn pass(&mut self, order: &[u32], running: u16, highest: &[f32; L]) -> PassBounds<L> {
        let rows = self.data.rows;
        let loss = self.data.options.loss;
        let mut pass = PassBounds::new();
        for (place, &row) in order.iter().enumerate() {
            // In random order, rows that are larger than the cache arrive late. Half of a pass over
            // SST-2 was spent waiting for them.
            if let Some(&ahead) = order.get(place + AHEAD) {
                let ahead = ahead as usize;
                if self.active.get(ahead).is_some_and(|bits| bits & running != 0) {
                    let (columns, values) = rows.sparse.row(ahead);
                    prefetch(columns);
                    prefetch(values);
                    prefetch(rows.dense(ahead));
                }
            }
            let row = row as usize;
            let bits = self.active.get(row).copied().unwrap_or_default() & running;
            if bits == 0 {
                continue;
            }
            let margins = self.solved.margins(rows, row);
            let signs = self.signs(row);
            let (Some(alpha), Some(squares)) = (self.alpha.get_mut(row), self.squares.get(row))
            else {
                continue;
            };
            let mut step = [0.0; L];
            let mut dropped = 0_u16;
            let mut moves = false;
            for lane in 0..L {
                if bits >> lane & 1 == 0 {
                    continue;
                }
                let cost = self.costs[usize::from(signs[lane] < 0.0)][lane];
                let of = Coordinate {
                    alpha: alpha[lane],
                    cost,
                    margin: signs[lane] * margins[lane],
                    square: squares[lane],
                };
                let stepped = match loss {
                    Loss::SquaredHinge => coordinate::squared_hinge(of, highest[lane]),
                    Loss::Logistic => Some(coordinate::logistic(of)),
                };
                let Some(Stepped { alpha: new, violation }) = stepped else {
                    dropped |= 1 << lane;
                    continue;
                };
                pass.see(lane, violation);
                step[lane] = (new - alpha[lane]) * signs[lane];
                alpha[lane] = new;
                moves |= step[lane] != 0.0;
            }
            if dropped != 0
                && let Some(active) = self.active.get_mut(row)
            {
                *active &= !dropped;
            }
            if moves {
                self.solved.add(rows, row, &step);
            }
        }
        if loss == Loss::Logistic {
            // |gradient| has no sign; its least is 0.
            pass.least = [0.0; L];
        }
        pass
    }

    /// Each dual variable of the logistic loss starts strictly between 0 and C.
    fn start_logistic(&mut self, members: &[u16]) {
        for (row, &bits) in members.iter().enumerate() {
            let signs = self.signs(row);
            let mut step = [0.0; L];
            for lane in 0..L {
                if bits >> lane & 1 == 0 {
                    continue;
                }
                let cost = self.costs[usize::from(signs[lane] < 0.0)][lane];
                let start = coordinate::logistic_start(cost);
                step[lane] = start * signs[lane];
                if let Some(alpha) = self.alpha.get_mut(row) {
                    alpha[lane] = start;
                }
            }
            self.solved.add(self.data.rows, row, &step);
        }
    }
}

/// What a pass saw, by lane.
struct PassBounds<const L: usize> {
    most: [f32; L],
    least: [f32; L],
    looked_at: [u32; L],
}

impl<const L: usize> PassBounds<L> {
    const fn new() -> Self {
        Self { most: [f32::NEG_INFINITY; L], least: [f32::INFINITY; L], looked_at: [0; L] }
    }

    #[inline]
    fn see(&mut self, lane: usize, projected: f32) {
        self.most[lane] = self.most[lane].max(projected);
        self.least[lane] = self.least[lane].min(projected);
        self.looked_at[lane] += 1;
    }
}

/// Shuffles in place (Fisher–Yates).
fn shuffle(items: &mut [u32], random: &mut ChaCha8Rng) {
    for last in (1..items.len()).rev() {
        // The bias of the multiplication is below 2⁻³² for fewer than 2³² items.
        let at = (u128::from(random.next_u64()) * (last as u128 + 1)) >> 64;
        items.swap(last, usize::try_from(at).unwrap_or(last));
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the solver works with f32")]
const fn narrow(value: f64) -> f32 {
    value as f32
}
