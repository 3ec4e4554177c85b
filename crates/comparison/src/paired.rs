//! Differences between runs on the same splits.

use schema::Spread;

/// The mean of paired differences and its 95 % interval; `None` for fewer than two, or if all are
/// equal: an interval of no width would only look certain.
///
/// The splits share rows, so that the differences are not independent, and a plain t interval would
/// be too narrow. This is the corrected one of Nadeau and Bengio, "Inference for the Generalization
/// Error" (2003): `ratio` is the number of scored rows divided by that of training rows.
pub fn paired(differences: &[f64], ratio: f64) -> Option<(f64, [f64; 2])> {
    let Spread { mean, deviation } = Spread::of(differences)?;
    if deviation == 0.0 {
        return None;
    }
    let n = differences.len();
    let half = quantile(n - 1) * deviation * (1.0 / n as f64 + ratio).sqrt();
    Some((mean, [mean - half, mean + half]))
}

/// The 0.975 quantile of Student's t distribution.
fn quantile(freedom: usize) -> f64 {
    // scipy 1.17: t.ppf(0.975, range(1, 31))
    const FIRST: [f64; 30] = [
        12.706_205, 4.302_653, 3.182_446, 2.776_445, 2.570_582, 2.446_912, 2.364_624, 2.306_004,
        2.262_157, 2.228_139, 2.200_985, 2.178_813, 2.160_369, 2.144_787, 2.131_450, 2.119_905,
        2.109_816, 2.100_922, 2.093_024, 2.085_963, 2.079_614, 2.073_873, 2.068_658, 2.063_899,
        2.059_539, 2.055_529, 2.051_831, 2.048_407, 2.045_230, 2.042_272,
    ];
    const Z: f64 = 1.959_963_984_540_054;
    // Beyond the table, the beginning of the expansion in 1 / freedom (Abramowitz and Stegun,
    // 26.7.5).
    let (z, n) = (Z, freedom as f64);
    FIRST.get(freedom.wrapping_sub(1)).copied().unwrap_or_else(|| {
        let first = (z.powi(3) + z) / 4.0;
        let second = (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0;
        z + first / n + second / (n * n)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_scipy_s() {
        for (freedom, want) in
            [(31, 2.039_513), (50, 2.008_559), (100, 1.983_972), (999, 1.962_341)]
        {
            assert!((quantile(freedom) - want).abs() < 1e-4, "{freedom}: {}", quantile(freedom));
        }
    }

    #[test]
    fn the_interval_of_differences_is_corrected_for_shared_rows() {
        // numpy, scipy: m ± t.ppf(0.975, 3) · sqrt((1/4 + 1/8) · var(d, ddof=1))
        let (mean, [low, high]) =
            paired(&[0.01, 0.02, 0.015, 0.005], 0.125).expect("four differences");
        assert!((mean - 0.0125).abs() < 1e-12);
        assert!(
            (low + 0.000_079_7).abs() < 1e-6 && (high - 0.025_079_7).abs() < 1e-6,
            "{low} {high}"
        );
        assert!(paired(&[0.1], 0.1).is_none());
    }
}
