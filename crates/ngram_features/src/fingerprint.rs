//! 64-bit fingerprints of n-grams, the same on every machine. Models and the report's page look up
//! words and n-grams by them, the page in JavaScript (crates/report/templates/classifier.js); the
//! column of a hashed n-gram follows from its fingerprint.
//!
//! N-grams of up to seven bytes, which nearly all n-grams of characters have, get different
//! fingerprints for certain: the function is one-to-one on them. Others share one with a probability
//! of 2⁻⁶⁴, and then count as the same n-gram.

/// The most bytes of n-grams that all have different fingerprints.
pub const EXACT: usize = 7;

/// The finalizer of MurmurHash3 by Austin Appleby (public domain), which is one-to-one.
#[inline]
pub(crate) const fn mix(mut x: u64) -> u64 {
    x ^= x >> 33;
    x = x.wrapping_mul(0xff51_afd7_ed55_8ccd);
    x ^= x >> 33;
    x = x.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 33)
}

/// The fingerprint of the first `length` bytes of `word`, at most [`EXACT`]; the others are ignored.
#[inline]
pub const fn short(word: u64, length: usize) -> u64 {
    let bits = 8 * length as u64;
    mix((word & ((1 << bits) - 1)) | ((length as u64) << 56))
}

/// The fingerprint of `bytes`. It is not 0.
#[inline]
pub fn of(bytes: &[u8]) -> u64 {
    let word = |chunk: &[u8]| {
        let mut padded = [0; 8];
        for (to, from) in padded.iter_mut().zip(chunk) {
            *to = *from;
        }
        u64::from_le_bytes(padded)
    };
    if (1..=EXACT).contains(&bytes.len()) {
        return short(word(bytes), bytes.len());
    }
    let start = mix(bytes.len() as u64 | 1 << 63);
    bytes.chunks(8).fold(start, |hash, chunk| mix(hash ^ word(chunk)).rotate_left(25)).max(1)
}

/// The fingerprint of a sequence of words, from its beginning's and its last word's.
#[inline]
pub fn extended(before: u64, word: u64) -> u64 {
    mix(before.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ word.rotate_left(31)).max(1)
}

/// The column of a hashed n-gram: the fingerprint's first `bits` bits.
#[inline]
pub fn bucket(print: u64, bits: u32) -> u32 {
    u32::try_from(print >> (u64::BITS - bits)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn the_finalizer_is_murmur_s() {
        // Python, mmh3 5: fmix64(1), of the published algorithm
        assert_eq!(mix(1), 0xb456_bcfc_34c2_cb2c);
        assert_eq!(mix(0), 0);
    }

    #[test]
    fn all_n_grams_of_two_bytes_differ() {
        let all: HashSet<u64> = (0..=u16::MAX).map(|n| of(&n.to_le_bytes())).collect();
        assert_eq!(all.len(), 1 << 16);
    }

    proptest! {
        #[test]
        fn a_window_of_a_word_is_its_bytes(bytes in any::<[u8; 8]>(), length in 1..=EXACT) {
            prop_assert_eq!(short(u64::from_le_bytes(bytes), length), of(&bytes[..length]));
        }

        #[test]
        fn different_n_grams_differ(a in proptest::collection::vec(any::<u8>(), 0..40), b in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(a == b, of(&a) == of(&b));
            prop_assert!(of(&a) != 0);
        }
    }
}
