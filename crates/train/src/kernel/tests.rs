use super::*;
use crate::random::Random;
use crate::simd::on_every_kind;
use proptest::prelude::*;

#[test]
fn the_exponential_is_the_library_s_to_two_units_in_the_last_place() {
    for i in 0..=870_000_u32 {
        let x = -(i as f32) * 1e-4;
        let (is, want) = (f64::from(exp(x)), f64::from(x).exp());
        assert!((is - want).abs() <= 2.0 * f64::from(f32::EPSILON) * want, "exp({x}) is {is}, not {want}");
    }
    assert_eq!((exp(0.0), exp(-1e9)), (1.0, exp(-87.0)));
}

#[test]
fn a_logit_that_is_no_number_is_seen() {
    assert!(probabilities([0.0, f32::NAN, 0.0, 0.0]).is_none());
    assert!(probabilities([0.0, f32::INFINITY, 0.0, f32::NEG_INFINITY]).is_none());
    assert!(probabilities([3.0, -3e8, 2.0, 1.0]).is_some_and(|p| (p.iter().sum::<f32>() - 1.0).abs() < 1e-6));
}

/// The weights after an epoch.
struct Bits<'b>(&'b [f32], &'b Problem<'b>);
impl Work for Bits<'_> {
    type Out = Vec<u32>;
    #[inline(always)]
    fn run<V: Vector>(self) -> Vec<u32> {
        let mut matrix = packed(self.0, self.1.d);
        Epoch(&mut matrix, self.1).run::<V>().expect("trains");
        let mut w = self.0.to_vec();
        unpack(&matrix, &mut w, self.1.d);
        w.iter().map(|w| w.to_bits()).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_kind_of_register_gives_the_same_bits(n in 1_usize..40, d in 1_usize..70, batch_size in 1_usize..50, seed: u64) {
        let mut random = Random::new(seed);
        let (w, x) = (random.normal(CLASSES * d), random.normal(n * d));
        let y: Vec<u32> = random.uniform(n, 2.0).iter().map(|u| if *u < -1.0 { 0 } else if *u < 0.0 { 1 } else if *u < 1.0 { 2 } else { 3 }).collect();
        let mut order: Vec<u32> = (0..).take(n).collect();
        random.shuffle(&mut order);
        let problem = Problem { x: &x, y: &y, d, order: &order, batch_size, lr: 0.1 };
        let all = on_every_kind(|| Bits(&w, &problem));
        prop_assert!(all.iter().all(|bits| *bits == all[0]));
    }
}
