//! From logits to probabilities.

/// Turns logits into exp(zᵢ) / Σ exp(zⱼ), computed in f64.
#[expect(clippy::cast_possible_truncation, reason = "probabilities are stored as f32")]
pub fn softmax(logits: &mut [f32]) {
    let log_sum = log_sum_exp(logits);
    for z in logits {
        *z = (f64::from(*z) - log_sum).exp() as f32;
    }
}

/// ln Σ exp(zᵢ). The largest logit is subtracted first, so that no exponential overflows.
pub fn log_sum_exp(logits: &[f32]) -> f64 {
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "so that four logits take no loop")]
    fn any(logits: &[f32]) -> f64 {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits.iter().map(|&z| f64::from(z - largest).exp()).sum();
        f64::from(largest) + sum.ln()
    }
    match <&[f32; 4]>::try_from(logits) {
        Ok(four) => any(four),
        Err(_) => any(logits),
    }
}

/// The cross-entropy of a row with these logits and this label, in nats.
#[inline]
pub fn cross_entropy(logits: &[f32], label: u32) -> f64 {
    let own = logits.get(label as usize).copied().unwrap_or(f32::NAN);
    log_sum_exp(logits) - f64::from(own)
}

/// Cross-entropy and hits, added up over rows. Sums are f64, so that many rows do not cost precision.
#[derive(Clone, Copy, Default)]
pub struct Tally {
    loss: f64,
    right: usize,
    rows: usize,
}

impl Tally {
    /// Adds a row with these logits and this label.
    #[inline]
    pub fn add(&mut self, logits: &[f32], label: u32) {
        self.loss += cross_entropy(logits, label);
        self.right += usize::from(largest(logits) == label as usize);
        self.rows += 1;
    }

    /// Adds rows with these cross-entropies, of which so many are right. Sums depend on their order, so
    /// rows that others have scored are added one by one.
    pub fn add_scored(&mut self, losses: &[f64], right: usize) {
        for loss in losses {
            self.loss += loss;
        }
        self.right += right;
        self.rows += losses.len();
    }

    /// The mean cross-entropy, in nats, and the share of rows whose largest logit is their label's.
    pub fn means(&self) -> (f64, f64) {
        let n = self.rows as f64;
        (self.loss / n, self.right as f64 / n)
    }
}

/// The index of the largest value; of equal values the first, like PyTorch's `argmax`.
pub fn largest(values: &[f32]) -> usize {
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "so that four values take no loop")]
    fn any(values: &[f32]) -> usize {
        let mut best = (0, f32::NEG_INFINITY);
        for (i, &value) in values.iter().enumerate() {
            if value > best.1 {
                best = (i, value);
            }
        }
        best.0
    }
    match <&[f32; 4]>::try_from(values) {
        Ok(four) => any(four),
        Err(_) => any(values),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_is_the_mean_of_its_rows() {
        let mut tally = Tally::default();
        // −ln softmax: ln 2 for two equal logits; ln(1 + e²) for the smaller of 1 and −1. Of equal
        // logits the first is the largest.
        tally.add(&[0.5, 0.5], 0);
        tally.add(&[1.0, -1.0], 1);
        let (loss, accuracy) = tally.means();
        let want = f64::midpoint(2.0_f64.ln(), 2.0_f64.exp().ln_1p());
        assert!((loss - want).abs() < 1e-7 && accuracy == 0.5, "{loss} {want}");
    }

    #[test]
    fn the_log_of_the_sum_of_exponentials_does_not_overflow() {
        // ln(e^1000 + 3 e^999) = 1000 + ln(1 + 3/e)
        let expected = 1000.0 + (1.0 + 3.0 * (-1.0_f64).exp()).ln();
        assert!((log_sum_exp(&[1000.0, 999.0, 999.0, 999.0]) - expected).abs() < 1e-9);
    }

    #[test]
    fn the_first_of_equal_values_is_the_largest() {
        assert_eq!(largest(&[1.0, 3.0, 3.0, 2.0]), 1);
        assert_eq!(largest(&[0.0; 4]), 0);
    }
}
