//! A batch as the exercise wants it (problem 75).

use schema::{Collated, FirstSequence};

/// Puts rows into a batch: the longest first, each padded with 0 to the length of the longest.
/// Rows of the same length stay in order.
pub fn collate(rows: &[FirstSequence]) -> Collated {
    let mut sorted: Vec<&FirstSequence> = rows.iter().collect();
    sorted.sort_by_key(|row| std::cmp::Reverse(row.ids.len()));
    let longest = sorted.first().map_or(0, |row| row.ids.len());
    let padded = |row: &&FirstSequence| {
        let mut ids = row.ids.clone();
        ids.resize(longest, 0);
        ids
    };
    Collated {
        id: sorted.iter().map(|row| row.id).collect(),
        input_ids: sorted.iter().map(padded).collect(),
        lengths: sorted.iter().map(|row| row.ids.len()).collect(),
        label: sorted.iter().map(|row| row.y).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_comes_first_and_the_others_are_padded() {
        // Four rows of 4, 9, 8 and 3 tokens, the lengths of the exercise's example.
        let row = |id, y, length: u32| FirstSequence {
            id,
            text: String::new(),
            y,
            ids: (1..=length).collect(),
        };
        let batch = collate(&[row(1, 0, 4), row(2, 1, 9), row(3, 0, 8), row(4, 1, 3)]);
        assert_eq!(batch.id, [2, 3, 1, 4]);
        assert_eq!(batch.label, [1, 0, 0, 1]);
        assert_eq!(batch.lengths, [9, 8, 4, 3]);
        assert_eq!(
            batch.input_ids,
            [
                [1, 2, 3, 4, 5, 6, 7, 8, 9],
                [1, 2, 3, 4, 5, 6, 7, 8, 0],
                [1, 2, 3, 4, 0, 0, 0, 0, 0],
                [1, 2, 3, 0, 0, 0, 0, 0, 0],
            ]
        );
        assert_eq!(collate(&[]).input_ids.len(), 0);
    }
}
