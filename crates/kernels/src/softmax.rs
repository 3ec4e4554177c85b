//! The softmax, with the same bits on every machine.

#![allow(
    clippy::inline_always,
    clippy::needless_range_loop,
    reason = "see simd.rs: an iterator's closure may not be inlined"
)]

use crate::linear::GROUP;

/// exp(zᵢ) / Σ exp(zⱼ) of the first `K` logits, and 0 for the others; or `None` if a logit is not
/// finite. The largest is subtracted first, so that no exponential overflows.
#[inline(always)]
#[expect(clippy::indexing_slicing, reason = "constant indices")]
pub fn softmax<const K: usize>(logits: [f32; GROUP]) -> Option<[f32; GROUP]> {
    let mut z = logits;
    for k in K..GROUP {
        // Neither larger than the others nor less finite.
        z[k] = z[0];
    }
    let [a, b, c, d] = z;
    if !(a + b + c + d).is_finite() {
        return None;
    }
    let largest = larger(larger(a, b), larger(c, d));
    let mut powers = [0.0; GROUP];
    for k in 0..K {
        powers[k] = exp(z[k] - largest);
    }
    let scale = 1.0 / sum_of_group(powers);
    for k in 0..K {
        powers[k] *= scale;
    }
    Some(powers)
}

/// Turns any number of logits into their softmax, with the bits of [`softmax()`]. Returns `false`
/// if a logit is not finite.
#[inline(always)]
pub fn softmax_in_place(z: &mut [f32]) -> bool {
    let mut largest = f32::MIN;
    let mut finite = true;
    for z in z.iter() {
        largest = larger(*z, largest);
        finite &= z.is_finite();
    }
    if !finite {
        return false;
    }
    for z in z.iter_mut() {
        *z = exp(*z - largest);
    }
    let (groups, rest) = z.as_chunks::<GROUP>();
    let mut last = [0.0; GROUP];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    let mut sum = 0.0;
    for group in groups {
        sum += sum_of_group(*group);
    }
    let scale = 1.0 / (sum + sum_of_group(last));
    for z in z.iter_mut() {
        *z *= scale;
    }
    true
}

#[inline(always)]
fn sum_of_group([a, b, c, d]: [f32; GROUP]) -> f32 {
    (a + b) + (c + d)
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
pub fn exp(x: f32) -> f32 {
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
    use proptest::prelude::*;

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
        assert!(softmax::<4>([0.0, f32::NAN, 0.0, 0.0]).is_none());
        assert!(softmax::<4>([0.0, f32::INFINITY, 0.0, f32::NEG_INFINITY]).is_none());
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(!softmax_in_place(&mut [1.0, 2.0, bad, 0.0, 5.0]));
        }
        // What lies beyond the classes does not count.
        assert!(softmax::<2>([1.0, 2.0, f32::NAN, f32::INFINITY]).is_some());
    }

    proptest! {
        #[test]
        fn any_number_of_classes_has_the_definition_s_softmax(
            z in prop::collection::vec(-30.0_f32..30.0, 2..70)
        ) {
            let mut p = z.clone();
            prop_assert!(softmax_in_place(&mut p));
            let largest = z.iter().copied().fold(f32::MIN, f32::max);
            let power = |z: &f32| f64::from(z - largest).exp();
            let sum: f64 = z.iter().map(power).sum();
            for (p, z) in p.iter().zip(&z) {
                prop_assert!((f64::from(*p) - power(z) / sum).abs() < 1e-6);
            }
        }

        #[test]
        fn few_classes_have_the_same_bits_either_way(z in prop::array::uniform4(-30.0_f32..30.0)) {
            for (classes, few) in [(2, softmax::<2>(z)), (3, softmax::<3>(z)), (4, softmax::<4>(z))] {
                let few = few.expect("finite logits");
                let mut many = z[..classes].to_vec();
                prop_assert!(softmax_in_place(&mut many));
                prop_assert_eq!(&few[..classes], &many[..]);
                prop_assert!(few[classes..].iter().all(|p| *p == 0.0));
            }
        }
    }
}
