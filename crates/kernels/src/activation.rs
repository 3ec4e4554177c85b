//! Sigmoid and hyperbolic tangent, with the same bits on every machine. A loop over them can use
//! vector registers.

#![allow(clippy::inline_always, reason = "see simd.rs")]

use crate::softmax::exp;

/// 1 / (1 + e⁻ˣ), to 2 · 10⁻⁷.
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    let power = exp(-x.abs());
    let scale = 1.0 / (1.0 + power);
    // NaN is neither, and stays.
    let sigmoid = if x < 0.0 { power * scale } else { scale };
    if x.is_nan() { x } else { sigmoid }
}

/// (eˣ − e⁻ˣ) / (eˣ + e⁻ˣ), to 2 · 10⁻⁷.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let power = exp(-2.0 * x.abs());
    let tanh = (1.0 - power) / (1.0 + power);
    if x.is_nan() { x } else { tanh.copysign(x) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_the_library_s_to_two_ten_millionths() {
        for i in -400_000..=400_000_i32 {
            let x = i as f32 * 1e-4;
            let exact = f64::from(x);
            assert!((f64::from(tanh(x)) - exact.tanh()).abs() < 2e-7, "tanh {x}");
            let want = 1.0 / (1.0 + (-exact).exp());
            assert!((f64::from(sigmoid(x)) - want).abs() < 2e-7, "sigmoid {x}");
        }
        assert_eq!((tanh(1e9), tanh(-1e9), sigmoid(1e9)), (1.0, -1.0, 1.0));
        assert!(sigmoid(-1e9) < 1e-37 && tanh(f32::NAN).is_nan() && sigmoid(f32::NAN).is_nan());
    }
}
