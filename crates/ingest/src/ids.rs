//! The ids seen so far, to find one that comes twice.

use std::collections::BTreeMap;

/// Ranges that are kept: some 40 MB of them.
const MOST: usize = 1 << 20;

/// Whole numbers as ranges: an archive's ids follow each other, so that there are few.
#[derive(Debug, Default)]
pub struct Ids {
    /// From the first number of a range to its last.
    ranges: BTreeMap<i64, i64>,
}

impl Ids {
    /// Whether there are so many gaps between the ids that further ones are not looked for.
    pub fn is_full(&self) -> bool {
        self.ranges.len() >= MOST
    }

    /// Takes `id`; `false` if it was there.
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
                // It goes on behind the range before it, and may close the gap to the next one.
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
        fn it_is_a_set(ids in prop::collection::vec(prop_oneof![0_i64..40, Just(i64::MIN), Just(i64::MAX), Just(i64::MAX - 1)], 0..80)) {
            let (mut ours, mut theirs) = (Ids::default(), HashSet::new());
            for id in ids {
                prop_assert_eq!(ours.insert(id), theirs.insert(id));
            }
            let covered: i128 = ours.ranges.iter().map(|(&a, &b)| i128::from(b) - i128::from(a) + 1).sum();
            prop_assert_eq!(covered, theirs.len() as i128);
        }
    }

    #[test]
    fn numbers_that_follow_each_other_are_one_range() {
        let mut ids = Ids::default();
        assert!((0..1000).chain(2000..3000).chain(1000..2000).all(|id| ids.insert(id)));
        assert_eq!(ids.ranges.len(), 1);
    }
}
