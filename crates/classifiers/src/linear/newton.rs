//! Newton's method for one machine at a time, on all threads.
//!
//! Dual coordinate descent is faster on one thread, but a step of it needs the one before, so that
//! threads can only share machines. Here they share every product with the rows: by rows for the
//! margins, and by columns, of which there is a copy, for the gradient. Each number of a product is
//! one thread's, and sums have one order, so the result does not depend on the number of threads.
//!
//! The direction comes from conjugate gradients with a diagonal preconditioner, the step from a
//! backtracking line search (Nocedal and Wright, "Numerical Optimization", 2006, algorithms 7.1 and
//! 3.1); the rule to stop is liblinear's for its primal solvers.

use kernels::team;

use super::lanes::{LanePass, Solved};
use super::{Data, Loss, Problem, ratio};
use crate::Rows;

/// The sparse features by column.
pub struct Columns {
    starts: Vec<usize>,
    rows: Vec<u32>,
    values: Vec<f32>,
}

impl Columns {
    /// Those of these rows.
    pub fn of(rows: Rows<'_>) -> Self {
        let sparse = rows.sparse;
        let mut starts = vec![0_usize; sparse.columns + 1];
        for &column in (0..rows.len()).flat_map(|row| sparse.row(row).0) {
            if let Some(count) = starts.get_mut(column as usize + 1) {
                *count += 1;
            }
        }
        let mut end = 0;
        for start in &mut starts {
            end += *start;
            *start = end;
        }
        let mut next = starts.clone();
        let mut all =
            Self { starts, rows: vec![0; sparse.entries()], values: vec![0.0; sparse.entries()] };
        for (row, number) in (0..rows.len()).zip(0_u32..) {
            let (columns, values) = sparse.row(row);
            for (&column, &value) in columns.iter().zip(values) {
                let Some(place) = next.get_mut(column as usize) else { continue };
                if let (Some(row), Some(to)) =
                    (all.rows.get_mut(*place), all.values.get_mut(*place))
                {
                    (*row, *to) = (number, value);
                }
                *place += 1;
            }
        }
        all
    }

    /// The rows that a column is in, and its values there.
    #[inline]
    fn column(&self, column: usize) -> (&[u32], &[f32]) {
        let range = match (self.starts.get(column), self.starts.get(column + 1)) {
            (Some(&start), Some(&end)) => start..end,
            _ => 0..0,
        };
        let rows = self.rows.get(range.clone()).unwrap_or_default();
        (rows, self.values.get(range).unwrap_or_default())
    }

    /// Where to cut the columns, so that all pieces have about as many entries.
    fn cuts(&self, pieces: usize) -> Vec<usize> {
        let entries = self.rows.len();
        (1..pieces)
            .map(|piece| self.starts.partition_point(|&start| start < entries * piece / pieces))
            .map(|cut| cut.min(self.starts.len().saturating_sub(1)))
            .collect()
    }
}

/// Fills `to`, which is cut at `cuts` into a piece for each thread; `make` gets the number of a
/// piece's first item.
fn fill(to: &mut [f64], cuts: &[usize], make: impl Fn(usize, &mut [f64]) + Sync) {
    let make = &make;
    std::thread::scope(|scope| {
        let (mut rest, mut first) = (to, 0);
        for &cut in cuts {
            let (piece, after) = rest.split_at_mut(cut.saturating_sub(first).min(rest.len()));
            let at = first;
            first += piece.len();
            scope.spawn(move || make(at, piece));
            rest = after;
        }
        make(first, rest);
    });
}

/// A sum of products, with several sums that do not wait for each other.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    sum_of(a, b, |a| a)
}

/// A sum of products of values, which `wide` makes f64, with several sums that do not wait for each
/// other.
#[inline]
fn sum_of<T: Copy>(a: &[T], b: &[f64], wide: impl Fn(T) -> f64) -> f64 {
    let mut sums = [0.0; 8];
    let (a_by_eight, a_rest) = a.as_chunks::<8>();
    let (b_by_eight, b_rest) = b.as_chunks::<8>();
    for (a, b) in a_by_eight.iter().zip(b_by_eight) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += wide(*a) * b;
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| wide(*a) * b).sum();
    sums.iter().sum::<f64>() + rest
}

/// A sum of values times the numbers at these places, as [`sum_of`] takes it.
#[inline]
fn gathered(places: &[u32], values: &[f32], numbers: &[f64], power: impl Fn(f64) -> f64) -> f64 {
    let term = |place: &u32, value: &f32| {
        power(f64::from(*value)) * numbers.get(*place as usize).copied().unwrap_or(0.0)
    };
    let mut sums = [0.0; 4];
    let (places_by_four, places_rest) = places.as_chunks::<4>();
    let (values_by_four, values_rest) = values.as_chunks::<4>();
    for (places, values) in places_by_four.iter().zip(values_by_four) {
        for (sum, (place, value)) in sums.iter_mut().zip(places.iter().zip(values)) {
            *sum += term(place, value);
        }
    }
    let rest = places_rest.iter().zip(values_rest);
    sums.iter().sum::<f64>() + rest.map(|(place, value)| term(place, value)).sum::<f64>()
}

/// `to` += `by` · `values`.
fn add(to: &mut [f64], by: f64, values: &[f64]) {
    for (to, value) in to.iter_mut().zip(values) {
        *to += by * value;
    }
}

/// A machine and its rows. Its variables are the weights of the columns, of the dense features, and
/// the bias.
struct Machine<'m> {
    rows: Rows<'m>,
    columns: &'m Columns,
    loss: Loss,
    /// What the n-grams are weighted by.
    scale: Vec<f64>,
    /// 1 for the class's rows, −1 for others.
    signs: Vec<f64>,
    /// C of each row; 0 for rows of the fold that is left out.
    costs: Vec<f64>,
    row_cuts: Vec<usize>,
    column_cuts: Vec<usize>,
    dense_cuts: Vec<usize>,
}

impl Machine<'_> {
    fn variables(&self) -> usize {
        self.scale.len() + self.rows.dense.dimension + 1
    }

    /// X v.
    fn by_rows(&self, v: &[f64], to: &mut [f64]) {
        let (sparse, rest) = v.split_at(self.scale.len());
        let (dense, bias) = rest.split_at(self.rows.dense.dimension);
        let scaled: Vec<f64> = sparse.iter().zip(&self.scale).map(|(v, s)| v * s).collect();
        let bias = bias.first().copied().unwrap_or_default();
        fill(to, &self.row_cuts, |first, to| {
            for (row, to) in (first..).zip(to) {
                let (columns, values) = self.rows.sparse.row(row);
                let of_sparse = gathered(columns, values, &scaled, |x| x);
                *to = of_sparse + sum_of(self.rows.dense(row), dense, f64::from) + bias;
            }
        });
    }

    /// Xᵀ d, or with `squared` the same for squared values.
    fn by_columns(&self, d: &[f64], to: &mut [f64], squared: bool) {
        let (sparse, rest) = to.split_at_mut(self.scale.len());
        let (dense, bias) = rest.split_at_mut(self.rows.dense.dimension);
        let power = |x: f64| if squared { x * x } else { x };
        fill(sparse, &self.column_cuts, |first, to| {
            for (column, to) in (first..).zip(to) {
                let scale = self.scale.get(column).copied().unwrap_or_default();
                let (rows, values) = self.columns.column(column);
                let sum = gathered(rows, values, d, power);
                *to = power(scale) * sum;
            }
        });
        fill(dense, &self.dense_cuts, |first, to| {
            to.fill(0.0);
            for (row, d) in d.iter().enumerate().filter(|(_, d)| **d != 0.0) {
                let values = self.rows.dense(row).get(first..).unwrap_or_default();
                for (to, &x) in to.iter_mut().zip(values) {
                    *to += d * power(f64::from(x));
                }
            }
        });
        if let Some(bias) = bias.first_mut() {
            *bias = d.iter().sum();
        }
    }

    /// The losses of margins.
    fn losses(&self, margins: impl Iterator<Item = f64>) -> f64 {
        let rows = margins.zip(&self.signs).zip(&self.costs);
        rows.map(|((margin, sign), cost)| {
            let z = sign * margin;
            cost * match self.loss {
                Loss::SquaredHinge => (1.0 - z).max(0.0).powi(2),
                Loss::Logistic => (-z.abs()).exp().ln_1p() + (-z).max(0.0),
            }
        })
        .sum()
    }

    /// The first and second derivative of each row's loss by its margin.
    fn derivatives(&self, margins: &[f64], first: &mut [f64], second: &mut [f64]) {
        let rows = margins.iter().zip(&self.signs).zip(&self.costs);
        for ((((margin, sign), cost), first), second) in rows.zip(first).zip(second) {
            let z = sign * margin;
            (*first, *second) = match self.loss {
                Loss::SquaredHinge if z < 1.0 => (-2.0 * cost * sign * (1.0 - z), 2.0 * cost),
                Loss::SquaredHinge => (0.0, 0.0),
                Loss::Logistic => {
                    let p = 1.0 / (1.0 + z.exp());
                    (-cost * sign * p, cost * p * (1.0 - p))
                }
            };
        }
    }
}

/// Solves a machine.
#[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
pub fn solve(data: Data<'_>, problem: Problem, columns: &Columns) -> Solved<1> {
    let Data { rows, options, .. } = data;
    let squares = ratio::squared::<1>(data, &[problem]);
    let machine = machine(data, problem, columns, &squares);
    let n = machine.variables();
    let (mut w, mut gradient) = (vec![0.0; n], vec![0.0; n]);
    let mut margins = vec![0.0; rows.len()];
    let [mut first, mut second, mut of_step] = [(); 3].map(|()| vec![0.0; rows.len()]);
    let mut diagonal = vec![0.0; n];
    let least = {
        let count = |sign: f64| {
            let of = machine.signs.iter().zip(&machine.costs);
            of.filter(|(s, cost)| **s == sign && **cost > 0.0).count() as f64
        };
        let (mine, rest) = (count(1.0), count(-1.0));
        options.gradient_tolerance * mine.min(rest).max(1.0) / (mine + rest).max(1.0)
    };
    let mut value = machine.losses(margins.iter().copied());
    let (mut passes, mut converged, mut start) = (Vec::new(), false, None);
    for _ in 0..options.epochs {
        machine.derivatives(&margins, &mut first, &mut second);
        machine.by_columns(&first, &mut gradient, false);
        add(&mut gradient, 1.0, &w);
        let length = dot(&gradient, &gradient).sqrt();
        let start = *start.get_or_insert(length);
        let looked_at = u32::try_from(rows.len()).unwrap_or(u32::MAX);
        passes.push([Some(LanePass { violation: length as f32, looked_at })]);
        if length <= least * start || !length.is_finite() {
            converged = length.is_finite();
            break;
        }
        machine.by_columns(&second, &mut diagonal, true);
        // As exact as Newton's method needs for its speed near the optimum.
        let goal = length * (length / start).sqrt().min(0.1);
        let step = direction(&machine, &gradient, &second, &diagonal, goal);
        machine.by_rows(&step, &mut of_step);
        let slope = dot(&gradient, &step);
        let (by_w, by_step) = (dot(&w, &step), dot(&step, &step));
        let own = dot(&w, &w);
        // Halved until the value falls by a part of what the slope promises.
        let mut size = 1.0;
        let found = (0..40).find_map(|_| {
            let moved = margins.iter().zip(&of_step).map(|(m, s)| m + size * s);
            let losses = machine.losses(moved);
            let norm = own + size * (2.0 * by_w + size * by_step);
            let new = 0.5f64.mul_add(norm, losses);
            if new <= value + 1e-4 * size * slope + 1e-12 * value.abs() {
                return Some(new);
            }
            size *= 0.5;
            None
        });
        // Rounding leaves nothing to gain.
        let Some(new) = found else {
            converged = true;
            break;
        };
        value = new;
        add(&mut w, size, &step);
        add(&mut margins, size, &of_step);
    }
    let sparse = machine.scale.iter().zip(&w).zip(&squares);
    let weights = sparse.map(|((scale, w), square)| [[(scale * w) as f32], *square]).collect();
    let dense = w.iter().skip(machine.scale.len()).take(rows.dense.dimension);
    Solved {
        weights,
        dense: dense.map(|w| [*w as f32]).collect(),
        bias: [w.last().map_or(0.0, |bias| *bias as f32)],
        passes,
        converged: [converged],
    }
}

/// The machine of a problem, with `squares` of the n-grams' weights.
fn machine<'m>(
    data: Data<'m>,
    problem: Problem,
    columns: &'m Columns,
    squares: &[[f32; 1]],
) -> Machine<'m> {
    let Data { rows, options, .. } = data;
    let threads = team::available();
    let cuts = |count: usize| (1..threads).map(|i| team::share(i, threads, count).start).collect();
    let is_mine = |row: usize| rows.sparse.labels.get(row) == Some(&problem.class);
    let [of_class, of_others] = data.costs(problem);
    let cost = |row: usize| match (data.has(problem, row), is_mine(row)) {
        (false, _) => 0.0,
        (true, true) => of_class,
        (true, false) => of_others,
    };
    Machine {
        rows,
        columns,
        loss: options.loss,
        scale: squares.iter().map(|[square]| f64::from(*square).sqrt()).collect(),
        signs: (0..rows.len()).map(|row| if is_mine(row) { 1.0 } else { -1.0 }).collect(),
        costs: (0..rows.len()).map(cost).collect(),
        row_cuts: cuts(rows.len()),
        column_cuts: columns.cuts(threads),
        dense_cuts: cuts(rows.dense.dimension),
    }
}

/// Solves H s = −g by conjugate gradients until the residual is no longer than `goal`, where H is the
/// identity plus Xᵀ D X for the rows' second derivatives D.
fn direction(
    machine: &Machine<'_>,
    gradient: &[f64],
    second: &[f64],
    diagonal: &[f64],
    goal: f64,
) -> Vec<f64> {
    /// More steps than a useful direction takes.
    const MOST: usize = 500;
    let n = gradient.len();
    let mut s = vec![0.0; n];
    let mut residual: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let precondition = |residual: &[f64]| -> Vec<f64> {
        residual.iter().zip(diagonal).map(|(r, d)| r / (1.0 + d)).collect()
    };
    let mut z = precondition(&residual);
    let mut p = z.clone();
    let mut of_rows = vec![0.0; second.len()];
    let mut product = vec![0.0; n];
    let mut rz = dot(&residual, &z);
    for _ in 0..MOST {
        if dot(&residual, &residual).sqrt() <= goal {
            break;
        }
        machine.by_rows(&p, &mut of_rows);
        for (x, d) in of_rows.iter_mut().zip(second) {
            *x *= d;
        }
        machine.by_columns(&of_rows, &mut product, false);
        add(&mut product, 1.0, &p);
        let step = rz / dot(&p, &product);
        if !step.is_finite() {
            break;
        }
        add(&mut s, step, &p);
        add(&mut residual, -step, &product);
        z = precondition(&residual);
        let next = dot(&residual, &z);
        let share = next / rz;
        rz = next;
        for (p, z) in p.iter_mut().zip(&z) {
            *p = z + share * *p;
        }
    }
    s
}
