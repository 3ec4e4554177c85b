//! The order of an epoch's rows.

use crate::random::Random;

/// Batches whose rows are sorted together. In larger groups rows are closer in length, in smaller
/// ones their neighbours differ more from epoch to epoch.
const BATCHES: usize = 64;

/// Groups shuffled rows into batches of similar length. The batches come in a random order; the
/// last one, which may be smaller than the others, stays the last.
pub fn by_length(
    order: &mut Vec<u32>,
    batch_size: usize,
    length: impl Fn(u32) -> usize,
    random: &mut Random,
) {
    if batch_size < 2 {
        return;
    }
    let whole = order.len() / batch_size;
    // Taken out before the sorting, since it would have the longest rows otherwise.
    let rest = order.split_off(whole * batch_size);
    for group in order.chunks_mut(batch_size.saturating_mul(BATCHES)) {
        // Rows of the same length stay in their random order.
        group.sort_by_key(|&row| length(row));
    }
    let mut batches: Vec<u32> = (0..).take(whole).collect();
    random.shuffle(&mut batches);
    let batch = |number: u32| {
        let start = number as usize * batch_size;
        order.get(start..start + batch_size).unwrap_or_default()
    };
    *order = batches.into_iter().flat_map(batch).chain(&rest).copied().collect();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_alike_in_length_and_every_row_is_there_once() {
        let length = |row: u32| (row * 7 % 23) as usize;
        let grouped = |seed| {
            let mut random = Random::new(seed);
            let mut order: Vec<u32> = (0..1003).collect();
            random.shuffle(&mut order);
            by_length(&mut order, 10, length, &mut random);
            order
        };
        let order = grouped(1);
        let spread: usize = order
            .chunks(10)
            .map(|rows| {
                let lengths = || rows.iter().map(|&row| length(row));
                lengths().max().unwrap_or(0) - lengths().min().unwrap_or(0)
            })
            .sum();
        // Batches of random rows would have a spread of about 19 each.
        assert!(spread < 101 * 2, "{spread}");
        assert!(!order.is_sorted_by_key(|&row| length(row)));
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..1003));
        // The last three are any rows, not the longest.
        let last = |seed| grouped(seed).split_off(1000);
        assert!((1..20).any(|seed| last(seed).iter().all(|&row| length(row) < 12)));
        assert_eq!(grouped(1), order);
        assert_ne!(grouped(2), order);
    }
}
