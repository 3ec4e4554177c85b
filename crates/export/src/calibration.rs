//! The temperature of a net that training has not calibrated.

use std::path::Path;

use classifiers::odds::calibrated_scale;
use failure::{Failure, Result};
use schema::{Calibration, Labels};

/// Probabilities as training made them.
pub const fn none() -> Calibration {
    Calibration { scale: 1.0, of_regression: None }
}

/// The temperature with the least cross-entropy on valid, from the run's predictions.
pub fn on_valid(run: &Path, labels: &Labels) -> Result<Calibration> {
    let path = run.join(predictions::FILE);
    let wrong = |e: &dyn std::fmt::Display| Failure::artifact(e, &path);
    let (of, logits) = predictions::read(&path, "valid", labels)?;
    let of: Vec<u32> = of
        .into_iter()
        .map(|label| u32::try_from(label).ok().filter(|&label| (label as usize) < labels.len()))
        .collect::<Option<_>>()
        .ok_or_else(|| wrong(&"a label is not one of the run's"))?;
    // The logarithm of a probability is a logit; of those that were rounded to 0, a small one.
    let logits: Vec<f32> = logits.into_iter().map(|p| p.max(1e-30).ln()).collect();
    let scale = if of.is_empty() { 1.0 } else { calibrated_scale(&logits, &of) };
    Ok(Calibration { scale, of_regression: None })
}
