//! Probabilities from margins, and how good they are.

/// ln of the softmax of `scale` · margins, in place.
pub fn log_softmax(margins: &mut [f32], scale: f32) {
    let highest = margins.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = margins.iter().map(|margin| ((margin - highest) * scale).exp()).sum();
    let logarithm = sum.ln();
    for margin in margins {
        *margin = (*margin - highest) * scale - logarithm;
    }
}

/// The mean cross-entropy of softmax(`scale` · margins), in nats, and its first two derivatives by
/// the scale. As Platt proposed, a row is of its class with a probability a little below 1, else
/// rows that are all right would make the best scale infinite.
fn cross_entropy(margins: &[f32], labels: &[u32], scale: f64) -> [f64; 3] {
    let classes = margins.len() / labels.len().max(1);
    let doubt = 1.0 / (labels.len() as f64 + 2.0);
    let mut sums = [0.0; 3];
    for (row, &label) in margins.chunks_exact(classes.max(1)).zip(labels) {
        let highest = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let (mut sum, mut first, mut second) = (0.0, 0.0, 0.0);
        for &margin in row {
            let z = f64::from(margin) - highest;
            let e = (scale * z).exp();
            sum += e;
            first += e * z;
            second += e * z * z;
        }
        let (mean, square) = (first / sum, second / sum);
        let own = row.get(label as usize).map_or(0.0, |&margin| f64::from(margin) - highest);
        let all: f64 = row.iter().map(|&margin| f64::from(margin) - highest).sum();
        let own = own + doubt * (all / classes as f64 - own);
        sums[0] += sum.ln() - scale * own;
        sums[1] += mean - own;
        sums[2] += square - mean * mean;
    }
    sums.map(|sum| sum / labels.len().max(1) as f64)
}

/// The scale, the inverse of a temperature, whose softmax of the margins has the least
/// cross-entropy: Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks"
/// (2017). It is at least 0.01 and at most 1000, for margins that separate the classes.
#[expect(clippy::cast_possible_truncation, reason = "margins are f32")]
pub fn calibrated_scale(margins: &[f32], labels: &[u32]) -> f32 {
    const LIMITS: [f64; 2] = [0.01, 1000.0];
    // The cross-entropy is convex, so its slope has one sign on each side of its minimum.
    let [mut low, mut high] = LIMITS;
    let mut at = 1.0;
    for _ in 0..100 {
        let [_, slope, curvature] = cross_entropy(margins, labels, at);
        // Margins that are all equal say nothing, whatever the scale.
        if slope == 0.0 || curvature <= 0.0 {
            return at as f32;
        }
        if slope > 0.0 {
            high = at;
        } else {
            low = at;
        }
        let newton = at - slope / curvature;
        let next = if newton > low && newton < high { newton } else { f64::midpoint(low, high) };
        if (next - at).abs() <= 1e-9 * at {
            break;
        }
        at = next;
    }
    at as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_softmax_is_scipy_s() {
        // scipy 1.17: softmax(2 * np.array([1.0, -0.5, 0.25]))
        let want = [0.785_597, 0.039_112_57, 0.175_290_39];
        let mut l = [1.0, -0.5, 0.25];
        log_softmax(&mut l, 2.0);
        assert!(l.iter().zip(want).all(|(l, want)| (l - f32::ln(want)).abs() < 1e-5), "{l:?}");
    }

    #[test]
    fn the_scale_has_the_least_cross_entropy() {
        let margins = [1.0, -1.0, 0.5, 0.2, -0.3, 0.4, -1.0, 0.1];
        let labels = [0, 0, 1, 0];
        let best = calibrated_scale(&margins, &labels);
        let at = |scale: f32| cross_entropy(&margins, &labels, f64::from(scale))[0];
        assert!(at(best) < at(best * 1.01) && at(best) < at(best * 0.99), "{best}");
        // Separated classes get no extreme scale, and margins that say nothing leave it at 1.
        let separated: Vec<f32> =
            (0..20).flat_map(|i| [1.0 - (i % 2) as f32, (i % 2) as f32]).collect();
        let labels: Vec<u32> = (0..20).map(|i| i % 2).collect();
        let scale = calibrated_scale(&separated, &labels);
        assert!((2.0..10.0).contains(&scale), "{scale}");
        assert_eq!(calibrated_scale(&[0.5; 40], &labels), 1.0);
        // Margins that say the opposite get the least.
        assert!(calibrated_scale(&[1.0, 0.0, 0.0, 1.0], &[1, 0]) < 0.011);
    }
}
