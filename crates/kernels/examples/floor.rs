//! The least time that an epoch takes on this machine: the multiply-adds alone, without softmax,
//! updates, batch norm or meetings. For `cargo xtask bench`; prints a JSON object.
//!
//!     cargo run --package kernels --example floor -- ROWS FEATURES HIDDEN BATCH THREADS

#![allow(
    clippy::inline_always,
    clippy::needless_range_loop,
    clippy::indexing_slicing,
    reason = "as in the kernels"
)]

use std::hint::black_box;
use std::time::Instant;

use kernels::gemm::{Initial, Left, gemm};
use kernels::linear::{GROUP, Group, Matrix, dots, packed, vector};
use kernels::simd::{LANES, Vector, Work, dispatch};
use kernels::team;

/// Rows that share the loads of the weights.
const AT_ONCE: usize = 4;

/// Takes every row of X once, in a jumping order: computes its products with the weights, and adds
/// the row, times a factor, to each class of a gradient.
struct SingleLayer<'s> {
    x: &'s [f32],
    d: usize,
    order: &'s [usize],
    w: &'s Matrix,
}

impl Work for SingleLayer<'_> {
    type Out = f32;
    #[inline(always)]
    fn run<V: Vector>(self) -> f32 {
        let Self { x, d, order, w } = self;
        let mut gradient = vec![Group::ZERO; w.len()];
        let mut sum = 0.0;
        let row = |i: usize| &x[order[i % order.len()] * d..][..d];
        for block in (0..order.len()).step_by(AT_ONCE) {
            let rows = [row(block), row(block + 1), row(block + 2), row(block + 3)];
            let logits = dots::<V, AT_ONCE, GROUP>(w, rows);
            sum += logits[0][0];
            let ahead = [row(block + 4), row(block + 5), row(block + 6), row(block + 7)];
            let factor = V::all(1e-3);
            for (j, g) in gradient.iter_mut().enumerate() {
                for r in 0..AT_ONCE {
                    V::prefetch(ahead[r].as_ptr().wrapping_add(j * LANES));
                }
                for k in 0..GROUP {
                    let mut sums = V::load(&g.0[k]);
                    for r in 0..AT_ONCE {
                        sums = vector::<V>(rows[r], j).mul_add(factor, sums);
                    }
                    sums.store(&mut g.0[k]);
                }
            }
        }
        sum + gradient[0].0[0][0]
    }
}

/// The matrix products of an epoch of the multi-layer net: forward, and the gradients by weights
/// and units.
struct MultiLayer {
    steps: usize,
    batch: usize,
    d: usize,
    hidden: usize,
    /// This thread's hidden units, in whole vectors.
    width: usize,
}

impl Work for MultiLayer {
    type Out = f32;
    #[inline(always)]
    fn run<V: Vector>(self) -> f32 {
        let Self { steps, batch, d, hidden, width } = self;
        let (x, h) = (vec![0.5; batch * d], vec![0.5; batch * hidden]);
        let (fc, mid) = (vec![0.5; d * width], vec![0.5; hidden * width]);
        let mut out = vec![0.0; d.max(hidden).max(batch) * width];
        let own = vec![0.5; batch * width];
        let forward = |at, inner| Left { at, rows: batch, inner, down: inner, right: 1 };
        let backward = |at, rows| Left { at, rows, inner: batch, down: 1, right: rows };
        for _ in 0..steps {
            gemm::<V>(&mut out, width, forward(&x, d), &fc, Initial::Zero);
            gemm::<V>(&mut out, width, forward(&h, hidden), &mid, Initial::Zero);
            gemm::<V>(&mut out, width, forward(&h, hidden), &mid, Initial::Zero);
            gemm::<V>(&mut out, width, backward(&h, hidden), &own, Initial::Zero);
            gemm::<V>(&mut out, width, backward(&x, d), &own, Initial::Zero);
            black_box(&mut out);
        }
        out[0]
    }
}

fn main() {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    let [rows, d, hidden, batch, threads] = numbers[..] else {
        eprintln!("usage: floor ROWS FEATURES HIDDEN BATCH THREADS");
        std::process::exit(2);
    };
    let x: Vec<f32> = (0..rows * d).map(|i| (i % 17) as f32 / 17.0 - 0.5).collect();
    let w = packed(&vec![0.1; GROUP * d], GROUP);
    // A step that has no divisor in common with the number of rows visits each of them once.
    let step = (rows / 2..rows)
        .find(|step| (2..=*step).all(|p| !(step % p == 0 && rows % p == 0)))
        .unwrap_or(1);
    let order: Vec<usize> = (0..rows).map(|i| i * step % rows).collect();
    let best = |work: &dyn Fn()| {
        let time = || {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64()
        };
        (0..9).map(|_| time()).fold(f64::INFINITY, f64::min)
    };
    let single = best(&|| {
        black_box(dispatch(SingleLayer { x: &x, d, order: &order, w: &w }));
    });
    let vectors = hidden.div_ceil(LANES);
    let multi = best(&|| {
        team::run(threads, |member| {
            let width = member.share(vectors).len() * LANES;
            black_box(dispatch(MultiLayer { steps: rows.div_ceil(batch), batch, d, hidden, width }))
        });
    });
    println!("{{\"single\": {single}, \"multi\": {multi}}}");
}
