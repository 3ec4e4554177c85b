//! The ids seen so far, to find duplicates.

use std::collections::BTreeMap;

/// Maximum number of ranges; they take about 40 MB.
const MOST: usize = 1 << 20;

/// A set of integers, stored as ranges: an archive's ids are mostly consecutive, so ranges are few.
#[derive(Debug, Default)]
pub struct Ids {
    /// Maps the first number of each range to its last.
    ranges: BTreeMap<i64, i64>,
}

impl Ids {
    /// Whether the ids have so many gaps that further duplicates go undetected.
    pub fn is_full(&self) -> bool {
        self.ranges.len() >= MOST
    }

    /// Adds `id`; `false` if the set already contains it.
    pub fn insert(&mut self, id: i64) -> bool {
        if self.is_full() {
            return true;
        }
        let mut before = self.ranges.range_mut(..=id).next_back();
        if let Some((_, last)) = &mut before {
            if **last >= id {
                return false;
            }
            if id.checked_sub(1) == Some(**last) {
                // The id extends the range before it, and may close the gap to the next one.
                **last = id;
                let first = before.map(|(&first, _)| first);
                if let (Some(first), Some(end)) =
                    (first, id.checked_add(1).and_then(|next| self.ranges.remove(&next)))
                {
                    self.ranges.insert(first, end);
                }
                return true;
            }
        }
        let end = id.checked_add(1).and_then(|next| self.ranges.remove(&next)).unwrap_or(id);
        self.ranges.insert(id, end);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    proptest! {
        #[test]
        fn ids_behave_as_a_set(ids in prop::collection::vec(prop_oneof![0_i64..40, Just(i64::MIN), Just(i64::MAX), Just(i64::MAX - 1)], 0..80)) {
            let (mut ours, mut theirs) = (Ids::default(), HashSet::new());
            for id in ids {
                prop_assert_eq!(ours.insert(id), theirs.insert(id));
            }
            let covered: i128 = ours.ranges.iter().map(|(&a, &b)| i128::from(b) - i128::from(a) + 1).sum();
            prop_assert_eq!(covered, theirs.len() as i128);
        }
    }

    #[test]
    fn consecutive_numbers_form_one_range() {
        let mut ids = Ids::default();
        assert!((0..1000).chain(2000..3000).chain(1000..2000).all(|id| ids.insert(id)));
        assert_eq!(ids.ranges.len(), 1);
    }
}
