use super::*;
use crate::random::Random;
use kernels::simd::on_every_kind;
use proptest::prelude::*;

/// The weights after an epoch.
struct Bits<'b>(&'b [f32], &'b Problem<'b>);
impl Work for Bits<'_> {
    type Out = Vec<u32>;
    #[inline(always)]
    fn run<V: Vector>(self) -> Vec<u32> {
        let mut matrix = packed(self.0, self.1.classes);
        let (w, problem) = (&mut matrix, self.1);
        let done = match problem.classes {
            2 => FewClassesEpoch::<2>(w, problem).run::<V>(),
            3 => FewClassesEpoch::<3>(w, problem).run::<V>(),
            4 => FewClassesEpoch::<4>(w, problem).run::<V>(),
            _ => ManyClassesEpoch { w, problem }.run::<V>(),
        };
        done.expect("trains");
        let mut w = self.0.to_vec();
        unpack(&matrix, &mut w, self.1.classes);
        w.iter().map(|w| w.to_bits()).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_kind_of_register_gives_the_same_bits(n in 1_usize..80, d in 1_usize..70, classes in 2_usize..23, batch_size in prop_oneof![Just(1_usize), 2_usize..5, 5_usize..80], seed: u64) {
        let mut random = Random::new(seed);
        let (w, x) = (random.normal(classes * d), random.normal(n * d));
        let y: Vec<u32> = (0..u32::try_from(classes).expect("few")).cycle().take(n).collect();
        let mut order: Vec<u32> = (0..).take(n).collect();
        random.shuffle(&mut order);
        let problem = Problem { x: &x, y: &y, classes, d, order: &order, batch_size, lr: 0.1 };
        let all = on_every_kind(|| Bits(&w, &problem));
        prop_assert!(all.iter().all(|bits| *bits == all[0]));
    }
}
