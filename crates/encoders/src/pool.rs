//! From an LSTM's states to features.

use kernels::softmax::softmax_in_place;

/// What becomes of an LSTM's states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    /// Each unit's largest value.
    Max,
    /// A weighted mean; the weights are a softmax over the states' products with a query vector.
    Attention,
    /// The last state of each direction.
    Last,
}

/// The states of a sequence in one direction: `rows[step]` is where the state of that step starts.
pub struct Steps<'s> {
    pub states: &'s [f32],
    pub rows: &'s [usize],
    pub units: usize,
}

impl<'s> Steps<'s> {
    fn state(&self, step: usize) -> &'s [f32] {
        let start = self.rows.get(step).copied().unwrap_or_default();
        self.states.get(start..start + self.units).unwrap_or_default()
    }
}

/// The states of both directions. Step `s` of the second is at place `length` − 1 − `s`.
pub struct Both<'s>(pub [Steps<'s>; 2]);

impl<'s> Both<'s> {
    fn len(&self) -> usize {
        self.0[0].rows.len()
    }

    /// The states at a place in the sequence.
    fn at(&self, place: usize) -> [&'s [f32]; 2] {
        [self.0[0].state(place), self.0[1].state(self.len() - 1 - place)]
    }

    /// The weights of the attention, for each place.
    fn attention(&self, query: &[f32]) -> Vec<f32> {
        let units = self.0[0].units;
        let mut weights: Vec<f32> = (0..self.len())
            .map(|place| {
                let pairs = self.at(place).into_iter().zip(query.chunks_exact(units));
                pairs.map(|(state, query)| product(state, query)).sum()
            })
            .collect();
        if !softmax_in_place(&mut weights) {
            weights.fill(f32::NAN);
        }
        weights
    }
}

/// Whether a value is larger, or is NaN: a net that has diverged must not look sound.
#[expect(clippy::neg_cmp_op_on_partial_ord, reason = "NaN")]
fn is_larger(value: f32, than: f32) -> bool {
    !(value <= than)
}

fn product(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

impl Pool {
    /// The features of a sequence, of both directions; zeros without states.
    pub fn forward(self, of: &Both<'_>, query: &[f32], features: &mut [f32]) {
        features.fill(0.0);
        let units = of.0[0].units;
        let Some(last) = of.len().checked_sub(1) else { return };
        match self {
            Self::Max => {
                for (steps, to) in of.0.iter().zip(features.chunks_exact_mut(units)) {
                    to.copy_from_slice(steps.state(0));
                    for step in 1..=last {
                        for (to, value) in to.iter_mut().zip(steps.state(step)) {
                            *to = if is_larger(*value, *to) { *value } else { *to };
                        }
                    }
                }
            }
            Self::Attention => {
                for (place, weight) in of.attention(query).into_iter().enumerate() {
                    let pairs = of.at(place).into_iter().zip(features.chunks_exact_mut(units));
                    for (state, to) in pairs {
                        to.iter_mut().zip(state).for_each(|(to, value)| *to += weight * value);
                    }
                }
            }
            Self::Last => {
                for (steps, to) in of.0.iter().zip(features.chunks_exact_mut(units)) {
                    to.copy_from_slice(steps.state(last));
                }
            }
        }
    }

    /// Adds the gradients of the states, and of the query, from those of the features. The
    /// gradients of the states lie where the states do.
    pub fn backward(
        self,
        of: &Both<'_>,
        query: &[f32],
        by_features: &[f32],
        by_states: [&mut [f32]; 2],
        by_query: &mut [f32],
    ) {
        let units = of.0[0].units;
        let (length, mut by_states) = (of.len(), by_states);
        let Some(last) = length.checked_sub(1) else { return };
        let directions = of.0.iter().zip(&mut by_states).zip(by_features.chunks_exact(units));
        match self {
            Self::Max => {
                for ((steps, to), by_features) in directions {
                    for (unit, gradient) in by_features.iter().enumerate() {
                        let value = |step: usize| steps.state(step).get(unit).copied();
                        // Of equal values the first.
                        let best =
                            (1..=last).fold(0, |best, step| match (value(step), value(best)) {
                                (Some(one), Some(other)) if is_larger(one, other) => step,
                                _ => best,
                            });
                        let start = steps.rows.get(best).copied().unwrap_or_default();
                        if let Some(to) = to.get_mut(start + unit) {
                            *to += gradient;
                        }
                    }
                }
            }
            Self::Last => {
                for ((steps, to), by_features) in directions {
                    let start = steps.rows.get(last).copied().unwrap_or_default();
                    add(to, start, 1.0, by_features);
                }
            }
            Self::Attention => {
                let weights = of.attention(query);
                let by_weights: Vec<f32> = (0..length)
                    .map(|place| {
                        let pairs = of.at(place).into_iter().zip(by_features.chunks_exact(units));
                        pairs.map(|(state, by)| product(state, by)).sum()
                    })
                    .collect();
                let mean = product(&weights, &by_weights);
                for (place, (weight, by_weight)) in weights.iter().zip(by_weights).enumerate() {
                    let by_score = weight * (by_weight - mean);
                    let steps = [place, last - place];
                    for direction in 0..2 {
                        let part = direction * units..(direction + 1) * units;
                        let (Some(of), Some(to), Some(&step)) = (
                            of.0.get(direction),
                            by_states.get_mut(direction),
                            steps.get(direction),
                        ) else {
                            continue;
                        };
                        let start = of.rows.get(step).copied().unwrap_or_default();
                        add(to, start, *weight, by_features.get(part.clone()).unwrap_or_default());
                        add(to, start, by_score, query.get(part.clone()).unwrap_or_default());
                        add(by_query, part.start, by_score, of.state(step));
                    }
                }
            }
        }
    }
}

/// Adds multiples of values from index `start` on.
fn add(to: &mut [f32], start: usize, factor: f32, values: &[f32]) {
    for (to, value) in to.iter_mut().skip(start).zip(values) {
        *to += factor * value;
    }
}
