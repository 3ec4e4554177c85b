//! One-against-rest linear machines: L2-regularised, with the squared hinge loss or the logistic
//! loss, trained by dual coordinate descent or by Newton's method.
//!
//! A machine minimises ½ wᵀw + Σ Cᵢ ξ(yᵢ wᵀxᵢ), where y is 1 for its class and −1 for the rest, and
//! ξ(z) = max(0, 1 − z)² or ln(1 + e⁻ᶻ). The bias is the weight of a feature that is 1 in every row,
//! as in liblinear with `-B 1`. The algorithm is that of Hsieh, Chang, Lin, Keerthi and
//! Sundararajan, "A Dual Coordinate Descent Method for Large-scale Linear SVM" (2008), with its
//! shrinking, and of Yu, Huang and Lin, "Dual Coordinate Descent Methods for Logistic Regression"
//! (2011).
//!
//! The n-grams of a machine can be weighted by how they differ between its class and the rest, after
//! Wang and Manning, "Baselines and Bigrams" (2012): see [`LinearOptions::naive_bayes`].

mod coordinate;
mod lanes;
mod model;
mod newton;
mod ratio;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use kernels::team;
use schema::Pass;
use serde::{Deserialize, Serialize};

pub use model::{LinearModel, Weights};

use crate::Rows;
use lanes::{Solved, solve};

/// The loss of a margin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// max(0, 1 − z)².
    SquaredHinge,
    /// ln(1 + e⁻ᶻ).
    Logistic,
}

/// What finds the optimum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Solver {
    /// Dual coordinate descent: several machines at once, each on one thread.
    Dual,
    /// Newton's method: one machine at a time, on all threads.
    Newton,
}

/// How to train.
#[derive(Clone, Copy, Debug)]
pub struct LinearOptions {
    /// What finds the optimum.
    pub solver: Solver,
    /// The loss of a margin.
    pub loss: Loss,
    /// C, the weight of the losses beside the regulariser.
    pub c: f64,
    /// Whether C is multiplied by n / (K · nₖ) for rows of a class with nₖ of n rows, as with
    /// scikit-learn's `class_weight="balanced"`.
    pub balanced: bool,
    /// β: an n-gram is multiplied by β r + (1 − β) r̄, where r = |ln p − ln q| for its shares p and q
    /// of the n-grams of the class and of the rest, and r̄ is the mean of r. 0 leaves n-grams as they
    /// are.
    pub naive_bayes: f64,
    /// What is added to the counts that give p and q.
    pub smoothing: f64,
    /// The descent ends when the projected gradients of all rows differ by no more.
    pub tolerance: f64,
    /// Newton's method ends when the gradient is shorter than this share of its first length, times
    /// the share of the smaller side of the machine.
    pub gradient_tolerance: f64,
    /// The most passes over the rows, or steps of Newton's method.
    pub epochs: u32,
    /// Seed of the order of the rows.
    pub seed: u64,
}

/// One machine: a class against the rest, trained on the rows outside of a fold.
#[derive(Clone, Copy)]
struct Problem {
    class: u32,
    fold: Option<u32>,
}

/// A trained classifier.
pub struct Trained {
    /// The machines of all rows.
    pub weights: Weights,
    /// The margins of each row under the machines that were trained without its fold; empty without
    /// folds.
    pub held_out: Vec<f32>,
    /// The passes of the machines of all rows.
    pub passes: Vec<Pass>,
    /// Whether every machine has converged.
    pub converged: bool,
}

/// Trains a machine for each of `classes` classes, and, with `folds` that give each row's fold, for
/// each fold once more without it.
pub fn train(
    rows: Rows<'_>,
    classes: usize,
    folds: Option<&[u32]>,
    options: &LinearOptions,
) -> Trained {
    // Two classes are each other's rest: their machines are mirror images.
    let machines = if classes == 2 { 1..2 } else { 0..classes };
    let number = |class: usize| u32::try_from(class).unwrap_or(u32::MAX);
    let count = folds.and_then(|folds| folds.iter().max()).map_or(0, |&last| last + 1);
    let without = (0..count).map(Some);
    let problems: Vec<Problem> = std::iter::once(None)
        .chain(without)
        .flat_map(|fold| machines.clone().map(move |class| Problem { class: number(class), fold }))
        .collect();
    // Machines that are solved together share each look at a row. A small group leaves room in the
    // cache; a large one reads each row less often.
    let together = if problems.len() <= 64 { 4 } else { 16 };
    let groups: Vec<&[Problem]> = problems.chunks(together).collect();
    let next = AtomicUsize::new(0);
    let held_out = if count == 0 { 0 } else { rows.len() * classes };
    let result = Mutex::new(Trained {
        weights: Weights::zeros(rows.sparse.columns, rows.dense.dimension, classes),
        held_out: vec![0.0; held_out],
        passes: Vec::new(),
        converged: true,
    });
    let data = Data { rows, classes, folds: folds.unwrap_or_default(), options };
    if options.solver == Solver::Newton {
        let columns = newton::Columns::of(rows);
        for problem in &problems {
            keep(&newton::solve(data, *problem, &columns), data, &[*problem], &result);
        }
        return finished(rows, result);
    }
    team::run(team::available().min(groups.len()), |_| {
        while let Some(group) = groups.get(next.fetch_add(1, Ordering::Relaxed)) {
            if group.len() > 4 {
                keep(&solve::<16>(data, group), data, group, &result);
            } else if group.len() > 1 {
                keep(&solve::<4>(data, group), data, group, &result);
            } else {
                keep(&solve::<1>(data, group), data, group, &result);
            }
        }
    });
    finished(rows, result)
}

fn finished(rows: Rows<'_>, result: Mutex<Trained>) -> Trained {
    let mut result = result.into_inner().unwrap_or_else(PoisonError::into_inner);
    for pass in &mut result.passes {
        pass.active /= (rows.len() * pass.running).max(1) as f64;
    }
    result
}

/// What the machines learn from.
#[derive(Clone, Copy)]
struct Data<'d> {
    rows: Rows<'d>,
    classes: usize,
    /// The fold of each row; empty without folds.
    folds: &'d [u32],
    options: &'d LinearOptions,
}

impl Data<'_> {
    /// Whether a machine learns from a row.
    fn has(&self, problem: Problem, row: usize) -> bool {
        problem.fold.is_none() || self.folds.get(row).copied() != problem.fold
    }

    /// C of a machine's rows of the class, and of the others.
    fn costs(&self, problem: Problem) -> [f64; 2] {
        let Self { rows, classes, options, .. } = *self;
        let mut factor = 1.0;
        if options.balanced {
            let (mut all, mut mine) = (0.0, 0.0);
            for row in (0..rows.len()).filter(|&row| self.has(problem, row)) {
                all += 1.0;
                mine += f64::from(rows.sparse.labels.get(row) == Some(&problem.class));
            }
            factor = if mine > 0.0 { all / (classes as f64 * mine) } else { 1.0 };
        }
        // As in liblinear, only the class's rows are weighted.
        [options.c * factor, options.c]
    }
}

/// Adds the solution of a group to the result.
fn keep<const L: usize>(
    solved: &Solved<L>,
    data: Data<'_>,
    group: &[Problem],
    to: &Mutex<Trained>,
) {
    let margins: Vec<(usize, [f32; L])> = (0..data.rows.len())
        .filter(|&row| {
            let fold = data.folds.get(row).copied();
            fold.is_some() && group.iter().any(|problem| problem.fold == fold)
        })
        .map(|row| (row, solved.margins(data.rows, row)))
        .collect();
    let mut to = to.lock().unwrap_or_else(PoisonError::into_inner);
    let Trained { weights, held_out, passes, converged } = &mut *to;
    for (lane, problem) in group.iter().enumerate() {
        *converged &= solved.converged.get(lane).copied().unwrap_or(true);
        let class = problem.class as usize;
        if problem.fold.is_none() {
            weights.set(class, lane, solved);
            continue;
        }
        for (row, margins) in &margins {
            if data.folds.get(*row).copied() != problem.fold {
                continue;
            }
            let Some(&margin) = margins.get(lane) else { continue };
            let row = held_out.get_mut(row * data.classes..(row + 1) * data.classes);
            let Some(row) = row else { continue };
            if let Some(to) = row.get_mut(class) {
                *to = margin;
            }
            if let (2, Some(other)) = (data.classes, row.first_mut()) {
                *other = -margin;
            }
        }
    }
    for (lane, problem) in group.iter().enumerate() {
        if problem.fold.is_some() {
            continue;
        }
        for (epoch, pass) in solved.passes.iter().enumerate() {
            let Some(lane) = pass.get(lane).copied().flatten() else { continue };
            if passes.len() <= epoch {
                passes.push(Pass {
                    epoch: u32::try_from(epoch + 1).unwrap_or(u32::MAX),
                    ..Pass::default()
                });
            }
            let Some(pass) = passes.get_mut(epoch) else { continue };
            pass.violation = pass.violation.max(f64::from(lane.violation));
            pass.running += 1;
            // A sum of whole numbers, which is the same in whatever order groups end.
            pass.active += f64::from(lane.looked_at);
        }
    }
}

#[cfg(test)]
mod tests;
