//! A multinomial logistic regression on the margins of several classifiers.
//!
//! Its inputs are each classifier's ln softmax(scale · margins), less their mean over the classes.
//! It minimises ½ ‖W‖² + C Σ −ln p of each row's own class; the biases are free, as in
//! scikit-learn's `LogisticRegression`. With many classes, each classifier has one weight instead of
//! a matrix.

mod lbfgs;

use std::path::Path;

use failure::{Failure, Result};
use formats::Arrays;
use formats::arrays::{self, Array};
use kernels::team;

use crate::odds::log_softmax;

/// With more classes than this, each classifier has one weight.
const FULL: usize = 32;
/// Rows whose gradients are summed at once; the sums are added in order.
const AT_ONCE: usize = 1024;

/// Turns the margins of a classifier into inputs, in place.
pub fn input(margins: &mut [f32], scale: f32) {
    log_softmax(margins, scale);
    let mean = margins.iter().sum::<f32>() / margins.len().max(1) as f32;
    for x in margins {
        *x -= mean;
    }
}

/// The regression.
#[derive(Clone, Debug, PartialEq)]
pub struct Stacking {
    classes: usize,
    members: usize,
    /// Full: a row for each class, with a weight for each input. Else: a weight for each member.
    weights: Vec<f32>,
    bias: Vec<f32>,
}

impl Stacking {
    const fn is_full(classes: usize) -> bool {
        classes <= FULL
    }

    /// Fits the regression to rows of inputs, each member's after the other's.
    #[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
    pub fn fit(inputs: &[f32], labels: &[u32], classes: usize, members: usize, c: f64) -> Self {
        let width = members * classes;
        let weights = if Self::is_full(classes) { width * classes } else { members };
        let mut parameters = vec![0.0; weights + classes];
        // Starting from the members' mean saves steps; the optimum is one and the same.
        let start = 1.0 / members.max(1) as f64;
        if Self::is_full(classes) {
            for class in 0..classes {
                for member in 0..members {
                    if let Some(w) = parameters.get_mut(class * width + member * classes + class) {
                        *w = start;
                    }
                }
            }
        } else {
            parameters.iter_mut().take(members).for_each(|w| *w = start);
        }
        let objective = |parameters: &[f64], gradient: &mut [f64]| {
            objective(inputs, labels, [classes, members], c, parameters, gradient)
        };
        lbfgs::minimise(&mut parameters, objective, 1e-7, 1000);
        let all: Vec<f32> = parameters.iter().map(|&w| w as f32).collect();
        let (weights, bias) = all.split_at(weights);
        Self { classes, members, weights: weights.to_vec(), bias: bias.to_vec() }
    }

    /// The regression with these weights and biases. `None` if they are not as many as
    /// [`Stacking::shape`] says, or not finite.
    pub fn new(weights: Vec<f32>, bias: Vec<f32>, members: usize) -> Option<Self> {
        let classes = bias.len();
        let is_sound = weights.len() == Self::shape(classes, members).iter().product::<usize>()
            && weights.iter().chain(&bias).all(|weight| weight.is_finite());
        is_sound.then_some(Self { classes, members, weights, bias })
    }

    /// The shape of the weights: \[K, members · K\], or \[1, members\] with many classes.
    pub const fn shape(classes: usize, members: usize) -> [usize; 2] {
        if Self::is_full(classes) { [classes, members * classes] } else { [1, members] }
    }

    /// The weights and the biases.
    pub fn weights(&self) -> (&[f32], &[f32]) {
        (&self.weights, &self.bias)
    }

    /// How many weights it has.
    pub fn parameters(&self) -> usize {
        self.weights.len() + self.bias.len()
    }

    /// Puts the margins for a row of inputs into `to`.
    pub fn margins(&self, inputs: &[f32], to: &mut [f32]) {
        to.copy_from_slice(&self.bias);
        if Self::is_full(self.classes) {
            for (to, weights) in to.iter_mut().zip(self.weights.chunks_exact(inputs.len().max(1))) {
                *to += weights.iter().zip(inputs).map(|(w, x)| w * x).sum::<f32>();
            }
        } else {
            for (inputs, weight) in inputs.chunks_exact(self.classes).zip(&self.weights) {
                to.iter_mut().zip(inputs).for_each(|(to, x)| *to += weight * x);
            }
        }
    }

    /// Writes the regression to `path`.
    pub fn write(&self, path: &Path) -> Result<()> {
        let shape = [self.weights.len() / self.columns(), self.columns()];
        let arrays = [
            ("weight", Array::f32(&shape, &self.weights)),
            ("bias", Array::f32(&[self.classes], &self.bias)),
        ];
        arrays::write(path, arrays, None)
    }

    fn columns(&self) -> usize {
        if Self::is_full(self.classes) { self.members * self.classes } else { self.members }
    }

    /// Reads the regression at `path`.
    pub fn read(path: &Path, classes: usize, members: usize) -> Result<Self> {
        let arrays = Arrays::read(path)?;
        let (_, weights) = arrays.f32("weight", &Self::shape(classes, members).map(Some))?;
        let (_, bias) = arrays.f32("bias", &[Some(classes)])?;
        Self::new(weights, bias, members)
            .ok_or_else(|| Failure::artifact("a weight is not finite", path))
    }
}

/// The objective at `parameters`, and its gradient.
fn objective(
    inputs: &[f32],
    labels: &[u32],
    [classes, members]: [usize; 2],
    c: f64,
    parameters: &[f64],
    gradient: &mut [f64],
) -> f64 {
    let width = members * classes;
    let full = Stacking::is_full(classes);
    let split = if full { width * classes } else { members };
    let (weights, bias) = parameters.split_at(split);
    let mut value = 0.5 * weights.iter().map(|w| w * w).sum::<f64>();
    gradient.fill(0.0);
    for (to, w) in gradient.iter_mut().zip(weights) {
        *to = *w;
    }
    let blocks = inputs.chunks(AT_ONCE * width).zip(labels.chunks(AT_ONCE));
    let blocks: Vec<(&[f32], &[u32])> = blocks.collect();
    let make = |(): &mut (), &(inputs, labels): &(&[f32], &[u32])| {
        let mut sums = vec![0.0; parameters.len()];
        let mut loss = 0.0;
        let mut z = vec![0.0; classes];
        for (x, &label) in inputs.chunks_exact(width).zip(labels) {
            z.copy_from_slice(bias);
            if full {
                for (z, w) in z.iter_mut().zip(weights.chunks_exact(width)) {
                    *z += w.iter().zip(x).map(|(w, &x)| w * f64::from(x)).sum::<f64>();
                }
            } else {
                for (x, w) in x.chunks_exact(classes).zip(weights) {
                    z.iter_mut().zip(x).for_each(|(z, &x)| *z += w * f64::from(x));
                }
            }
            let highest = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let own = z.get(label as usize).copied().unwrap_or_default();
            let mut sum = 0.0;
            for z in &mut z {
                *z = (*z - highest).exp();
                sum += *z;
            }
            loss += sum.ln() + highest - own;
            // The gradient by z: p − 1 for the row's own class, p for the others.
            for (class, z) in z.iter_mut().enumerate() {
                *z = *z / sum - f64::from(u8::from(class == label as usize));
            }
            let (of_weights, of_bias) = sums.split_at_mut(split);
            of_bias.iter_mut().zip(&z).for_each(|(to, z)| *to += z);
            if full {
                for (to, z) in of_weights.chunks_exact_mut(width).zip(&z) {
                    to.iter_mut().zip(x).for_each(|(to, &x)| *to += z * f64::from(x));
                }
            } else {
                for (to, x) in of_weights.iter_mut().zip(x.chunks_exact(classes)) {
                    *to += z.iter().zip(x).map(|(z, &x)| z * f64::from(x)).sum::<f64>();
                }
            }
        }
        (loss, sums)
    };
    let take = |(loss, sums): (f64, Vec<f64>)| {
        value += c * loss;
        gradient.iter_mut().zip(sums).for_each(|(to, sum)| *to += c * sum);
        Ok::<(), std::convert::Infallible>(())
    };
    let Ok(()) = team::in_order(blocks.iter(), || (), make, take);
    value
}

#[cfg(test)]
mod tests;
