//! Confidence intervals of proportions.

/// Wilson's 95 % score interval of a proportion (Wilson, 1927).
///
/// `share` is the proportion of hits among `n` trials. Unlike the normal approximation, the
/// interval stays within 0 and 1.
pub fn wilson(share: f64, n: usize) -> (f64, f64) {
    const Z: f64 = 1.959_963_984_540_054;
    if n == 0 {
        return (0.0, 1.0);
    }
    let n = n as f64;
    // The number of hits is whole, even if the share was rounded when it was written as a decimal.
    let p = (share * n).round() / n;
    let centre = p + Z * Z / (2.0 * n);
    let spread = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    ((centre - spread) / scale, (centre + spread) / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_wilson_s() {
        // statsmodels: proportion_confint(1124, 1336, method="wilson"), and (10, 10)
        let (low, high) = wilson(1124.0 / 1336.0, 1336);
        assert!((low - 0.820_750).abs() < 1e-6 && (high - 0.859_928).abs() < 1e-6, "{low} {high}");
        let (low, high) = wilson(1.0, 10);
        assert!((low - 0.722_467).abs() < 1e-6 && (high - 1.0).abs() < 1e-9, "{low} {high}");
        assert_eq!(wilson(0.0, 0), (0.0, 1.0));
    }
}
