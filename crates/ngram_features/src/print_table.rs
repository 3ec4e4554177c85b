//! A table from fingerprints to numbers that is used as it lies in a file.
//!
//! The entries are sorted by their hash, the fingerprint mixed once more. The hash's first bits choose
//! a bucket of about four entries, and its next 32 bits, the *tag*, tell these apart. An unknown
//! fingerprint is taken for a known one with a probability of about 2⁻³⁰.

use formats::arrays::Values;

use kernels::simd::prefetch;

use crate::fingerprint::mix;

/// Entries per bucket, on average.
const PER_BUCKET: usize = 4;
/// The most bits that choose a bucket, so that 32 are left for the tag.
const MOST_BITS: u32 = 30;

/// The table. An entry has three numbers: its tag, and what is found.
pub struct PrintTable {
    /// How the fingerprints are mixed.
    pub seed: u64,
    bits: u32,
    /// Where each bucket begins, and the number of entries.
    pub buckets: Values<u32>,
    /// The entries.
    pub entries: Values<[u32; 3]>,
}

impl PrintTable {
    /// A table of fingerprints, each with what is found under it after a first number, which is
    /// ignored. Of equal fingerprints the first counts.
    pub fn build(all: impl Iterator<Item = (u64, [u32; 3])>) -> Self {
        let mut all: Vec<(u64, [u32; 3])> = all.collect();
        // A stable sort, so that the first of equal ones stays the first.
        all.sort_by_key(|entry| entry.0);
        all.dedup_by_key(|entry| entry.0);
        let wanted = (all.len() / PER_BUCKET).next_power_of_two().trailing_zeros();
        let bits = wanted.clamp(1, MOST_BITS);
        // Two entries of a bucket with the same tag are rare, and another seed parts them.
        (0_u64..).find_map(|seed| Self::with_seed(&all, bits, seed)).unwrap_or_else(|| Self {
            seed: 0,
            bits,
            buckets: Vec::new().into(),
            entries: Vec::new().into(),
        })
    }

    fn with_seed(all: &[(u64, [u32; 3])], bits: u32, seed: u64) -> Option<Self> {
        let mut hashed: Vec<(u64, [u32; 3])> =
            all.iter().map(|&(print, found)| (mix(print ^ seed), found)).collect();
        hashed.sort_unstable_by_key(|entry| entry.0);
        let place = |hash: u64| (bucket(hash, bits), tag(hash, bits));
        if hashed.windows(2).any(|two| matches!(two, [a, b] if place(a.0) == place(b.0))) {
            return None;
        }
        let mut buckets = vec![0_u32; (1 << bits) + 1];
        for (hash, _) in &hashed {
            if let Some(count) = buckets.get_mut(bucket(*hash, bits) + 1) {
                *count += 1;
            }
        }
        let mut sum = 0;
        for count in &mut buckets {
            sum += *count;
            *count = sum;
        }
        let entries = hashed.into_iter().map(|(hash, mut entry)| {
            if let Some(first) = entry.first_mut() {
                *first = tag(hash, bits);
            }
            entry
        });
        let entries: Vec<[u32; 3]> = entries.collect();
        Some(Self { seed, bits, buckets: buckets.into(), entries: entries.into() })
    }

    /// A table with the arrays of another. `None` if they do not fit together.
    pub fn from_arrays(seed: u64, buckets: Values<u32>, entries: Values<[u32; 3]>) -> Option<Self> {
        let count = buckets.len().checked_sub(1).filter(|count| count.is_power_of_two())?;
        let bits = count.trailing_zeros();
        let is_sound = (1..=MOST_BITS).contains(&bits)
            && buckets.first() == Some(&0)
            && buckets.is_sorted()
            && buckets.last().map(|&end| end as usize) == Some(entries.len());
        is_sound.then_some(Self { seed, bits, buckets, entries })
    }

    /// Whether every entry's second number, a row or a column, is below `count`.
    pub fn is_below(&self, count: usize) -> bool {
        self.entries.iter().all(|&[_, place, _]| (place as usize) < count)
    }

    /// The table's arrays, to look up many fingerprints.
    #[inline]
    pub fn view(&self) -> PrintView<'_> {
        let Self { seed, bits, buckets, entries } = self;
        PrintView { seed: *seed, bits: *bits, buckets, entries }
    }

    /// The entry of a fingerprint.
    #[inline]
    pub fn find(&self, print: u64) -> Option<&[u32; 3]> {
        self.view().find(print)
    }
}

/// A table's arrays.
#[derive(Clone, Copy)]
pub struct PrintView<'t> {
    seed: u64,
    bits: u32,
    buckets: &'t [u32],
    entries: &'t [[u32; 3]],
}

impl<'t> PrintView<'t> {
    /// The entry of a fingerprint.
    #[inline]
    pub fn find(&self, print: u64) -> Option<&'t [u32; 3]> {
        self.find_hash(self.hash(print))
    }

    /// What a fingerprint is looked up by.
    #[inline]
    pub const fn hash(&self, print: u64) -> u64 {
        mix(print ^ self.seed)
    }

    /// The entry of a fingerprint with this hash.
    #[inline]
    pub fn find_hash(&self, hash: u64) -> Option<&'t [u32; 3]> {
        let (at, tag) = (bucket(hash, self.bits), tag(hash, self.bits));
        let range = *self.buckets.get(at)? as usize..*self.buckets.get(at + 1)? as usize;
        self.entries.get(range)?.iter().find(|entry| entry.first() == Some(&tag))
    }

    /// Prefetches what `find_hash` looks at first.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        let at = bucket(hash, self.bits);
        prefetch(self.buckets.get(at..=at).unwrap_or_default());
    }

    /// Prefetches what `find_hash` looks at then.
    #[inline]
    pub fn prefetch_entries(&self, hash: u64) {
        if let Some(&start) = self.buckets.get(bucket(hash, self.bits)) {
            let start = start as usize;
            prefetch(self.entries.get(start..=start).unwrap_or_default());
        }
    }
}

#[inline]
fn bucket(hash: u64, bits: u32) -> usize {
    usize::try_from(hash >> (u64::BITS - bits)).unwrap_or(usize::MAX)
}

#[inline]
const fn tag(hash: u64, bits: u32) -> u32 {
    ((hash << bits) >> u32::BITS) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        #[test]
        fn it_finds_what_a_hash_map_finds(
            all in proptest::collection::vec((0_u64..300, any::<u32>()), 0..400), others in proptest::collection::vec(any::<u64>(), 9)
        ) {
            let table = PrintTable::build(all.iter().map(|&(print, value)| (print, [7, value, 9])));
            let mut map = HashMap::new();
            for (print, value) in all {
                map.entry(print).or_insert(value);
            }
            let PrintTable { seed, buckets, entries, .. } = table;
            prop_assert_eq!(entries.len(), map.len());
            let table = PrintTable::from_arrays(seed, buckets, entries).expect("sound");
            for print in (0..300).chain(others) {
                prop_assert_eq!(table.find(print).map(|entry| entry[1]), map.get(&print).copied());
            }
        }
    }

    #[test]
    fn arrays_that_do_not_fit_together_are_refused() {
        let made = |buckets: &[u32], entries: usize| {
            PrintTable::from_arrays(0, buckets.to_vec().into(), vec![[0; 3]; entries].into())
                .is_some()
        };
        assert!(made(&[0, 1, 3], 3) && made(&[0, 0, 0], 0));
        for buckets in [&[][..], &[0], &[0, 3], &[1, 1, 3], &[0, 4, 3], &[0, 1, 2], &[0, 1, 2, 3]] {
            assert!(!made(buckets, 3), "{buckets:?}");
        }
    }
}
