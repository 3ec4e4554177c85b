//! Whether probabilities can be taken at their word: of the predictions with a probability near
//! 0.8, four in five should be correct.

use serde::Serialize;

/// How many bins the probabilities fall into.
const BINS: usize = 15;

/// Predictions by their probability, in bins of equal width, as Guo et al. (2017), "On calibration
/// of modern neural networks", section 2, have them.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct Calibration {
    /// The expected calibration error: the mean distance between a bin's probability and its
    /// accuracy, weighted by the predictions in it.
    pub error: f64,
    /// The bins that have predictions.
    pub bins: Vec<Bin>,
    #[serde(skip)]
    sums: [Sums; BINS],
}

/// Predictions with similar probabilities.
#[derive(Debug, PartialEq, Serialize)]
pub struct Bin {
    /// The bounds of the probabilities.
    pub low: f64,
    /// The upper one, which belongs to the bin.
    pub high: f64,
    /// How many predictions there are.
    pub n: usize,
    /// Their mean probability.
    pub probability: f64,
    /// The share of correct ones.
    pub accuracy: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Sums {
    n: usize,
    right: usize,
    probability: f64,
}

impl Calibration {
    /// Adds a prediction with this probability.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 15")]
    pub fn add(&mut self, probability: f32, is_right: bool) {
        let probability = f64::from(probability);
        let bin = ((probability * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
        if let Some(sums) = self.sums.get_mut(bin) {
            sums.n += 1;
            sums.right += usize::from(is_right);
            sums.probability += probability;
        }
    }

    /// Computes the bins and the error.
    pub fn finish(&mut self) {
        let total: usize = self.sums.iter().map(|sums| sums.n).sum();
        let bin = |(at, sums): (usize, &Sums)| Bin {
            low: at as f64 / BINS as f64,
            high: (at + 1) as f64 / BINS as f64,
            n: sums.n,
            probability: sums.probability / sums.n as f64,
            accuracy: sums.right as f64 / sums.n as f64,
        };
        self.bins = self.sums.iter().enumerate().filter(|(_, sums)| sums.n > 0).map(bin).collect();
        let distance = |bin: &Bin| (bin.probability - bin.accuracy).abs() * bin.n as f64;
        self.error = self.bins.iter().map(distance).sum::<f64>() / total.max(1) as f64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_is_the_mean_distance_from_the_accuracy() {
        let mut calibration = Calibration::default();
        // Nine of ten at 0.75 are right: 0.15 too modest. One of two at 1.0: 0.5 too sure.
        (0..10).for_each(|i| calibration.add(0.75, i > 0));
        calibration.add(1.0, true);
        calibration.add(1.0, false);
        calibration.finish();
        assert!((calibration.error - (10.0 * 0.15 + 2.0 * 0.5) / 12.0).abs() < 1e-6);
        let seen: Vec<_> = calibration.bins.iter().map(|bin| (bin.n, bin.accuracy)).collect();
        assert_eq!(seen, [(10, 0.9), (2, 0.5)]);
        // A bin's upper bound belongs to it.
        assert_eq!(calibration.bins.last().map(|bin| bin.high), Some(1.0));
    }
}
