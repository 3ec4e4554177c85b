//! Vectors that need no file: a random vector for each word, derived from a hash of the word.
//!
//! Each component is +1 or −1 with equal probability, so its variance is 1. Such sign vectors
//! preserve distances as Gaussian ones do (Achlioptas, "Database-friendly random projections",
//! 2003), and are the same on every machine. Their mean over a headline is random indexing
//! (Kanerva, Kristoferson and Holst, 2000): it encodes which words are equal and nothing more.

use crate::vocabulary::FoundVectors;

/// Gives every word its vector.
pub fn fill(words: &[(String, u32)], found: &mut FoundVectors<'_>, seed: u64) {
    let dimension = found.dimension();
    let mut bits = vec![0_u8; dimension.div_ceil(8)];
    for (place, (word, _)) in words.iter().enumerate() {
        let mut hasher = blake3::Hasher::new_derive_key("knockline 2026 embed hash vectors");
        hasher.update(&seed.to_le_bytes()).update(word.as_bytes());
        hasher.finalize_xof().fill(&mut bits);
        let signs = bits
            .iter()
            .flat_map(|byte| (0..8).map(move |bit| if byte >> bit & 1 == 1 { 1.0 } else { -1.0 }));
        let _always_finite = found.put(place, signs.take(dimension));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocabulary::Vocabulary;

    fn vectors(text: &str, dimension: usize, seed: u64) -> Vec<f32> {
        let vocabulary = Vocabulary::count([text].into_iter());
        let mut found = FoundVectors::new(&vocabulary, dimension);
        fill(&vocabulary.words, &mut found, seed);
        found.into_matrix().1
    }

    #[test]
    fn a_word_s_vector_depends_only_on_the_word_and_the_seed() {
        assert_eq!(vectors("apple", 300, 1), vectors("apple", 300, 1));
        assert_eq!(vectors("apple", 300, 1)[..], vectors("apple pear", 300, 1)[..300]);
        assert_ne!(vectors("apple", 300, 1), vectors("apple", 300, 2));
        assert_ne!(vectors("apple", 300, 1), vectors("Apple", 300, 1));
    }

    #[test]
    fn the_mean_is_near_0_and_the_variance_1() {
        let words: String = (0..200).map(|i| format!("w{i} ")).collect();
        let all = vectors(&words, 300, 123);
        let mean = all.iter().map(|&x| f64::from(x)).sum::<f64>() / 60_000.0;
        // Four standard errors of the mean of 60,000 signs.
        assert!(mean.abs() < 4.0 / 60_000_f64.sqrt(), "{mean}");
        assert!(all.iter().all(|x| x.abs().to_bits() == 1.0_f32.to_bits()));
    }
}
