//! Loss and accuracy, from logits.

use candle_core::Result;
use nets::{Net, each_row, largest, log_sum_exp};
use schema::Score;

use crate::data::Part;

/// The net's score on `part`. Sums are f64, so that many rows do not cost precision.
pub fn score(net: &Net, part: &Part) -> Result<Score> {
    let (mut loss, mut right) = (0.0, 0_usize);
    let mut labels = part.labels.iter();
    each_row(net, part.rows()?, |logits| {
        let label = labels.next().map_or(0, |&l| l as usize);
        let logit = logits.get(label).copied().unwrap_or(f32::NAN);
        loss += log_sum_exp(logits) - f64::from(logit);
        right += usize::from(largest(logits) == label);
    })?;
    let n = part.len() as f64;
    Ok(Score { loss: loss / n, accuracy: right as f64 / n })
}
