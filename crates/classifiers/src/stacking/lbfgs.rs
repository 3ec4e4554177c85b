//! Minimises a smooth convex function by L-BFGS: Liu and Nocedal, "On the limited memory BFGS method
//! for large scale optimization" (1989), with a line search that halves the step.

use std::collections::VecDeque;

/// How many steps the method remembers.
const MEMORY: usize = 10;

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Moves `x` to the minimum of `f`, which returns its value and puts the gradient into its second
/// argument. Ends when no component of the gradient is larger than `tolerance` times the gradient's
/// largest one at the start, when no step lowers the value, or after `steps`.
pub fn minimise(
    x: &mut [f64],
    f: impl Fn(&[f64], &mut [f64]) -> f64,
    tolerance: f64,
    steps: usize,
) {
    let largest = |g: &[f64]| g.iter().fold(0.0, |most: f64, g| most.max(g.abs()));
    let mut gradient = vec![0.0; x.len()];
    let mut value = f(x, &mut gradient);
    let enough = tolerance * largest(&gradient);
    let mut memory: VecDeque<(Vec<f64>, Vec<f64>, f64)> = VecDeque::new();
    let mut next = x.to_vec();
    let mut next_gradient = gradient.clone();
    for _ in 0..steps {
        if largest(&gradient) <= enough {
            return;
        }
        // The two-loop recursion.
        let mut direction: Vec<f64> = gradient.iter().map(|g| -g).collect();
        let mut factors = Vec::new();
        for (step, change, product) in memory.iter().rev() {
            let factor = dot(step, &direction) / product;
            direction.iter_mut().zip(change).for_each(|(d, y)| *d -= factor * y);
            factors.push(factor);
        }
        let scale = match memory.back() {
            Some((_, change, product)) => product / dot(change, change),
            None => 1.0 / largest(&gradient).max(1.0),
        };
        for d in &mut direction {
            *d *= scale;
        }
        for ((step, change, product), factor) in memory.iter().zip(factors.iter().rev()) {
            let back = dot(change, &direction) / product;
            direction.iter_mut().zip(step).for_each(|(d, s)| *d += (factor - back) * s);
        }
        let slope = dot(&direction, &gradient);
        let mut length = 1.0;
        let accepted = loop {
            for ((next, x), d) in next.iter_mut().zip(&*x).zip(&direction) {
                *next = x + length * d;
            }
            let at = f(&next, &mut next_gradient);
            // Armijo's condition.
            if at <= value + 1e-4 * length * slope {
                break Some(at);
            }
            length *= 0.5;
            if length < 1e-12 {
                break None;
            }
        };
        let Some(at) = accepted else { return };
        let step: Vec<f64> = next.iter().zip(&*x).map(|(next, x)| next - x).collect();
        let change: Vec<f64> = next_gradient.iter().zip(&gradient).map(|(a, b)| a - b).collect();
        let product = dot(&step, &change);
        if product > 1e-300 {
            memory.push_back((step, change, product));
            if memory.len() > MEMORY {
                memory.pop_front();
            }
        }
        x.copy_from_slice(&next);
        gradient.copy_from_slice(&next_gradient);
        value = at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quadratic_function_has_its_minimum() {
        let f = |x: &[f64], g: &mut [f64]| {
            let mut value = 0.0;
            for ((i, x), g) in (0..).zip(x).zip(g) {
                let (scale, off) = (10_f64.powi(i), x - f64::from(i));
                value += 0.5 * scale * off * off;
                *g = scale * off;
            }
            value
        };
        let mut x = [9.0; 5];
        minimise(&mut x, f, 1e-10, 200);
        assert!(x.iter().zip(0..).all(|(x, i)| (x - f64::from(i)).abs() < 1e-5), "{x:?}");
    }
}
