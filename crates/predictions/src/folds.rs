//! Cuts train into folds.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// The fold of each row: every fold gets its share of each class, up to one row.
pub fn stratified(labels: &[u32], count: u32, seed: u64) -> Vec<u32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut order: Vec<(u32, u64, usize)> =
        labels.iter().enumerate().map(|(row, &label)| (label, random.next_u64(), row)).collect();
    order.sort_unstable();
    let mut folds = vec![0; labels.len()];
    for (&(.., row), fold) in order.iter().zip((0..count).cycle()) {
        if let Some(to) = folds.get_mut(row) {
            *to = fold;
        }
    }
    folds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fold_has_its_share_of_each_class() {
        let labels: Vec<u32> = (0..1003).map(|row| u32::from(row % 7 == 0)).collect();
        let folds = stratified(&labels, 4, 1);
        for class in 0..2 {
            let sizes: Vec<usize> = (0..4)
                .map(|fold| {
                    let of = folds.iter().zip(&labels);
                    of.filter(|&(&f, &label)| f == fold && label == class).count()
                })
                .collect();
            assert!(
                sizes.iter().max().zip(sizes.iter().min()).is_some_and(|(a, b)| a - b <= 1),
                "{sizes:?}"
            );
        }
        assert_eq!(folds, stratified(&labels, 4, 1));
        assert_ne!(folds, stratified(&labels, 4, 2));
    }
}
