//! A run's only source of randomness: starting weights, shuffling and dropout. candle's CPU
//! generator cannot be seeded, so numbers are drawn here and passed to candle.

use std::f64::consts::TAU;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use serde::{Deserialize, Serialize};

/// A seeded generator whose state can be saved.
pub struct Random(ChaCha8Rng);

/// A generator's position in its stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GeneratorState {
    seed: String,
    /// Words drawn so far, as decimal text: the number may not fit into a JSON number.
    position: String,
}

impl Random {
    /// A generator at the start of its stream.
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// The generator of a worker in an epoch: a stream of its own.
    pub fn of_worker(seed: u64, epoch: u32, worker: usize) -> Self {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        // The run's own generator is stream 0, and epochs are counted from 1.
        generator.set_stream(u64::from(epoch) << 32 | worker as u64);
        Self(generator)
    }

    /// The generator that was in this `state`, or `None` if the state is not valid.
    pub fn restore(state: &GeneratorState) -> Option<Self> {
        let mut seed = <ChaCha8Rng as SeedableRng>::Seed::default();
        if state.seed.len() != 2 * seed.len() {
            return None;
        }
        for (i, byte) in seed.iter_mut().enumerate() {
            *byte = u8::from_str_radix(state.seed.get(2 * i..2 * i + 2)?, 16).ok()?;
        }
        let mut generator = ChaCha8Rng::from_seed(seed);
        generator.set_word_pos(state.position.parse().ok()?);
        Some(Self(generator))
    }

    /// The generator's current state.
    pub fn state(&self) -> GeneratorState {
        let seed =
            self.0.get_seed().iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
        GeneratorState { seed, position: self.0.get_word_pos().to_string() }
    }

    /// Uniform in 0..1, in steps of 2⁻⁵³.
    fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// `n` numbers uniform in −`bound`..`bound`.
    #[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
    pub fn uniform(&mut self, n: usize, bound: f64) -> Vec<f32> {
        (0..n).map(|_| ((2.0 * self.unit() - 1.0) * bound) as f32).collect()
    }

    /// `n` numbers from N(0, 1), by Box and Muller's transform.
    #[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
    pub fn normal(&mut self, n: usize) -> Vec<f32> {
        (0..n)
            .map(|_| {
                // 1 − u is in 0 < x ≤ 1, so that the logarithm is finite.
                let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
                (radius * (TAU * self.unit()).cos()) as f32
            })
            .collect()
    }

    /// Dropout's factors for `n` units, inverted as in PyTorch: 0 for a `share` of them, on
    /// average, and 1/(1 − `share`) for the others.
    #[expect(clippy::cast_possible_truncation, reason = "factors are f32")]
    pub fn mask(&mut self, n: usize, share: f64) -> Vec<f32> {
        let kept = (1.0 / (1.0 - share)) as f32;
        (0..n).map(|_| if self.unit() < share { 0.0 } else { kept }).collect()
    }

    /// Shuffles in place (Fisher–Yates), every order equally likely.
    pub fn shuffle(&mut self, items: &mut [u32]) {
        for i in (1..items.len()).rev() {
            let j = self.below(i as u64 + 1);
            items.swap(i, usize::try_from(j).unwrap_or(i));
        }
    }

    /// A number below `n`, without bias: draws beyond the largest multiple of `n` are rejected.
    fn below(&mut self, n: u64) -> u64 {
        let limit = u64::MAX - u64::MAX % n;
        loop {
            let draw = self.0.next_u64();
            if draw < limit {
                return draw % n;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restored_generator_goes_on_where_it_was() {
        let mut random = Random::new(123);
        random.normal(7);
        let state = random.state();
        let json = serde_json::to_string(&state).expect("serialises");
        let mut restored =
            Random::restore(&serde_json::from_str(&json).expect("parses")).expect("restores");
        assert_eq!(restored.normal(5), random.normal(5));
        assert!(
            Random::restore(&GeneratorState { seed: "zz".into(), position: "0".into() }).is_none()
        );
    }

    #[test]
    fn normal_numbers_are_normal() {
        let numbers = Random::new(1).normal(100_000);
        let n = 100_000.0;
        let mean = numbers.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
        let variance = numbers.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
        // Four standard errors: 1/√n of the mean, √(2/n) of the variance.
        assert!(
            mean.abs() < 4.0 / n.sqrt() && (variance - 1.0).abs() < 4.0 * (2.0 / n).sqrt(),
            "{mean} {variance}"
        );
    }

    #[test]
    fn a_mask_keeps_the_mean() {
        let mask = Random::new(1).mask(100_000, 0.25);
        let dropped = mask.iter().filter(|&&m| m == 0.0).count() as f64 / 100_000.0;
        // Four standard errors of a share of 0.25.
        assert!((dropped - 0.25).abs() < 4.0 * (0.25_f64 * 0.75 / 100_000.0).sqrt(), "{dropped}");
        assert!(mask.iter().all(|&m| m == 0.0 || m == 4.0 / 3.0));
    }

    #[test]
    fn a_shuffle_keeps_every_row() {
        let mut rows: Vec<u32> = (0..1000).collect();
        Random::new(5).shuffle(&mut rows);
        assert!(!rows.is_sorted());
        rows.sort_unstable();
        assert!(rows.into_iter().eq(0..1000));
    }
}
