//! The softmax of four logits, with the same bits on every machine.

#![allow(
    clippy::inline_always,
    clippy::needless_range_loop,
    reason = "see simd.rs: an iterator's closure may not be inlined"
)]

/// How many logits there are.
pub const CLASSES: usize = 4;

/// exp(zᵢ) / Σ exp(zⱼ), or `None` if a logit is not finite. The largest is subtracted first, so
/// that no exponential overflows.
#[inline(always)]
#[expect(clippy::indexing_slicing, reason = "constant indices")]
pub fn softmax(logits: [f32; CLASSES]) -> Option<[f32; CLASSES]> {
    let [a, b, c, d] = logits;
    if !(a + b + c + d).is_finite() {
        return None;
    }
    let largest = larger(larger(a, b), larger(c, d));
    let mut powers = [0.0; CLASSES];
    for k in 0..CLASSES {
        powers[k] = exp(logits[k] - largest);
    }
    let [e, f, g, h] = powers;
    let scale = 1.0 / ((e + f) + (g + h));
    for k in 0..CLASSES {
        powers[k] *= scale;
    }
    Some(powers)
}

/// The larger of two finite numbers, in one instruction. `f32::max` takes more, since it handles
/// NaN.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// eˣ for x ≤ 0, to two units in the last place: 2ⁿ times a polynomial on [−ln 2 / 2, ln 2 / 2] (S.
/// L. Moshier's Cephes, `expf`). Not the system's function, so that every machine gives the same
/// bits.
#[inline(always)]
#[expect(clippy::excessive_precision, reason = "as published")]
fn exp(x: f32) -> f32 {
    // Below this the result is no longer a normal number.
    const LEAST: f32 = -87.0;
    // 1.5 · 2²³: adding it rounds to a whole number, which is then in the sum's last bits.
    const ROUND: f32 = 12_582_912.0;
    const ONE: u32 = 127;
    let x = larger(x, LEAST);
    let rounded = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = n.mul_add(-0.693_359_375, x);
    let r = n.mul_add(2.121_944_4e-4, r);
    let mut p = 1.987_569_15e-4_f32;
    for c in [
        1.398_199_950_7e-3,
        8.333_451_907_3e-3,
        4.166_579_589_4e-2,
        1.666_666_545_9e-1,
        5.000_000_120_1e-1,
    ] {
        p = p.mul_add(r, c);
    }
    let p = p.mul_add(r * r, r) + 1.0;
    p * f32::from_bits(rounded.to_bits().wrapping_add(ONE) << 23)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_the_library_s_to_two_units_in_the_last_place() {
        for i in 0..=870_000_u32 {
            let x = -(i as f32) * 1e-4;
            let (is, want) = (f64::from(exp(x)), f64::from(x).exp());
            assert!(
                (is - want).abs() <= 2.0 * f64::from(f32::EPSILON) * want,
                "exp({x}) is {is}, not {want}"
            );
        }
        assert_eq!((exp(0.0), exp(-1e9)), (1.0, exp(-87.0)));
    }

    #[test]
    fn a_logit_that_is_no_number_is_seen() {
        assert!(softmax([0.0, f32::NAN, 0.0, 0.0]).is_none());
        assert!(softmax([0.0, f32::INFINITY, 0.0, f32::NEG_INFINITY]).is_none());
        assert!(
            softmax([3.0, -3e8, 2.0, 1.0])
                .is_some_and(|p| (p.iter().sum::<f32>() - 1.0).abs() < 1e-6)
        );
    }
}
