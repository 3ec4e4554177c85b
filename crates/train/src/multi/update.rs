//! An optimizer's step on plain numbers, by the rules of [`crate::optimizer::Optimizer`].

#![allow(clippy::inline_always, reason = "see kernels::simd")]

use crate::optimizer::Rule;

/// A weight, its gradient, and what the optimizer remembers of it, each with `rows` × `width`
/// elements.
#[derive(Clone, Default)]
pub struct Weight {
    pub value: Vec<f32>,
    pub gradient: Vec<f32>,
    pub memory: [Vec<f32>; 2],
}

/// How a step changes weights.
#[derive(Clone, Copy)]
pub struct Update {
    pub rule: Rule,
    pub lr: f64,
    pub momentum: f64,
    pub weight_decay: f64,
    /// Steps done before this epoch.
    pub steps: u64,
}

/// Changes a weight by its gradient.
#[inline(always)]
pub fn step(weight: &mut Weight, update: &Update) {
    let Weight { value, gradient, memory: [first, second] } = weight;
    change(value, gradient, [first, second], update);
}

/// Changes values by their gradients.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
pub fn change(
    value: &mut [f32],
    gradient: &[f32],
    [first, second]: [&mut [f32]; 2],
    update: &Update,
) {
    let Update { rule, lr, momentum, weight_decay, steps } = *update;
    let (rate, decay) = (lr as f32, weight_decay as f32);
    match rule {
        Rule::Sgd if momentum > 0.0 => {
            let momentum = momentum as f32;
            for ((w, g), v) in value.iter_mut().zip(gradient.iter()).zip(first) {
                *v = *v * momentum + (g + *w * decay);
                *w -= *v * rate;
            }
        }
        Rule::Sgd => {
            for (w, g) in value.iter_mut().zip(gradient.iter()) {
                *w -= (g + *w * decay) * rate;
            }
        }
        Rule::AdamW => {
            let (beta1, beta2) = crate::optimizer::BETAS;
            let steps = i32::try_from(steps).unwrap_or(i32::MAX);
            let root = (1.0 - beta2.powi(steps)).sqrt() as f32;
            let rate = (lr / (1.0 - beta1.powi(steps))) as f32;
            let kept = (1.0 - lr * weight_decay) as f32;
            let (b1, b2, epsilon) = (beta1 as f32, beta2 as f32, crate::optimizer::EPSILON as f32);
            let (new1, new2) = ((1.0 - beta1) as f32, (1.0 - beta2) as f32);
            for (((w, g), m), v) in value.iter_mut().zip(gradient.iter()).zip(first).zip(second) {
                *m = *m * b1 + g * new1;
                *v = *v * b2 + g * g * new2;
                *w = *w * kept - *m / (v.sqrt() / root + epsilon) * rate;
            }
        }
    }
}
