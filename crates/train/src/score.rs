//! Loss, accuracy and probabilities, from logits.

use candle_core::{Result, Tensor};
use features::Category;
use serde::{Deserialize, Serialize};

use crate::data::Part;
use crate::net::Net;

/// Rows whose logits are computed at once, so that hidden layers stay small.
const ROWS: usize = 1 << 14;

/// How good a net is on a part.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Mean cross-entropy, in nats.
    pub loss: f64,
    /// Share of right predictions.
    pub accuracy: f64,
}

/// The net's probabilities for every row of `part`.
pub fn probabilities(net: &mut Net, part: &Part) -> Result<Vec<[f32; Category::COUNT]>> {
    let mut rows = Vec::with_capacity(part.len());
    each(net, &part.x, |logits| {
        let log_sum = log_sum_exp(logits);
        #[expect(clippy::cast_possible_truncation, reason = "probabilities are stored as f32")]
        rows.push(logits.map(|z| (f64::from(z) - log_sum).exp() as f32));
    })?;
    Ok(rows)
}

/// The net's score on `part`. Sums are f64, so that they do not depend on the number of rows.
pub fn score(net: &mut Net, part: &Part) -> Result<Score> {
    let (mut loss, mut right) = (0.0, 0_usize);
    let mut labels = part.labels.iter();
    each(net, &part.x, |logits| {
        let label = labels.next().map_or(0, |&l| l as usize);
        let logit = logits.get(label).copied().unwrap_or(f32::NAN);
        loss += log_sum_exp(logits) - f64::from(logit);
        right += usize::from(largest(&logits) == label);
    })?;
    let n = part.len() as f64;
    Ok(Score { loss: loss / n, accuracy: right as f64 / n })
}

/// The place of the largest value; of equal ones the first, as `argmax` in PyTorch.
pub fn largest(values: &[f32; Category::COUNT]) -> usize {
    let mut best = (0, f32::NEG_INFINITY);
    for (i, &value) in values.iter().enumerate() {
        if value > best.1 {
            best = (i, value);
        }
    }
    best.0
}

fn log_sum_exp(logits: [f32; Category::COUNT]) -> f64 {
    let largest = logits.into_iter().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&z| f64::from(z - largest).exp()).sum();
    f64::from(largest) + sum.ln()
}

fn each(net: &mut Net, x: &Tensor, mut row: impl FnMut([f32; Category::COUNT])) -> Result<()> {
    let n = x.dim(0)?;
    for start in (0..n).step_by(ROWS) {
        let logits = net.forward(&x.narrow(0, start, ROWS.min(n - start))?, false)?;
        let values: Vec<f32> = logits.flatten_all()?.to_vec1()?;
        values.as_chunks::<{ Category::COUNT }>().0.iter().for_each(|&logits| row(logits));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_of_the_sum_of_exponentials_does_not_overflow() {
        // ln(e^1000 + 3 e^999) = 1000 + ln(1 + 3/e)
        let expected = 1000.0 + (1.0 + 3.0 * (-1.0_f64).exp()).ln();
        assert!((log_sum_exp([1000.0, 999.0, 999.0, 999.0]) - expected).abs() < 1e-9);
    }

    #[test]
    fn the_first_of_equal_values_is_the_largest() {
        assert_eq!(largest(&[1.0, 3.0, 3.0, 2.0]), 1);
        assert_eq!(largest(&[0.0; 4]), 0);
    }
}
