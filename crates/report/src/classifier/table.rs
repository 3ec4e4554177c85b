//! Tables in few bytes: keys, idf, rows.
//!
//! A key is a fingerprint's first bits, [`SPARE`] more than it takes to number the entries: one
//! unknown word or n-gram in 2^26 counts as a known one. Keys are sorted, and the page has the gaps
//! between them, in LEB128 (seven bits a byte, the lowest first), most in four bytes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ngram_features::fingerprint;
use serde::Serialize;

/// Bits of a key besides those that number the entries.
const SPARE: u32 = 26;
/// The most bits of a key: a number of JavaScript has no more.
const MOST_BITS: u32 = 52;

/// The most bytes of the page that so many entries take: less than five for a key, one for its idf
/// and two for each class, in Base64.
pub const fn bytes(entries: usize, classes: usize) -> usize {
    entries.saturating_mul(6 + 2 * classes) / 3 * 4
}

/// The keys of a table, in ascending order.
#[derive(Serialize)]
pub struct Keys {
    /// Bits of a key.
    bits: u32,
    count: usize,
    /// The gaps before each key.
    gaps: String,
}

/// The idf of a table's entries.
#[derive(Serialize)]
pub struct IdfColumn {
    /// The different numbers, the most frequent ones first.
    values: Vec<f32>,
    /// The number of each entry's among them, in LEB128.
    of: String,
}

/// Rows of 16-bit numbers.
#[derive(Serialize)]
pub struct Rows {
    /// What a column's numbers are multiplied by.
    factors: Vec<f32>,
    /// Little endian.
    values: String,
}

impl Keys {
    /// The keys of words, and the place of each.
    pub fn of_words<'w>(words: impl Iterator<Item = (&'w str, usize)>) -> (Self, Vec<usize>) {
        let all: Vec<(u64, usize)> =
            words.map(|(word, place)| (fingerprint::of(word.as_bytes()), place)).collect();
        let bits = bits(all.len());
        Self::new(all.into_iter().map(|(print, place)| (print >> (u64::BITS - bits), place)), bits)
    }

    /// The keys of n-grams, the column of each, and the idf.
    pub fn of_ngrams(
        ngrams: impl Iterator<Item = (u64, usize, f32)>,
        hash_bits: Option<u32>,
    ) -> (Self, Vec<usize>, IdfColumn) {
        let all: Vec<(u64, usize, f32)> = ngrams.collect();
        let bits = hash_bits.unwrap_or_else(|| bits(all.len()));
        // A hashed n-gram's key is its column.
        let shift = if hash_bits.is_some() { 0 } else { u64::BITS - bits };
        let numbered = all.iter().enumerate();
        let (keys, order) =
            Self::new(numbered.map(|(number, entry)| (entry.0 >> shift, number)), bits);
        let in_order = || order.iter().filter_map(|&number| all.get(number));
        let columns = in_order().map(|entry| entry.1).collect();
        let idf = IdfColumn::new(in_order().map(|entry| entry.2));
        (keys, columns, idf)
    }

    fn new(all: impl Iterator<Item = (u64, usize)>, bits: u32) -> (Self, Vec<usize>) {
        let mut all: Vec<(u64, usize)> = all.collect();
        // Of entries with one key, the first counts.
        all.sort_unstable();
        all.dedup_by_key(|entry| entry.0);
        let mut gaps = Vec::new();
        let mut before = 0;
        for (key, _) in &all {
            leb128(key - before, &mut gaps);
            before = *key;
        }
        let keys = Self { bits, count: all.len(), gaps: STANDARD.encode(gaps) };
        (keys, all.into_iter().map(|entry| entry.1).collect())
    }
}

impl IdfColumn {
    fn new(all: impl Iterator<Item = f32> + Clone) -> Self {
        let mut sorted: Vec<f32> = all.clone().collect();
        sorted.sort_unstable_by(f32::total_cmp);
        let mut values: Vec<(usize, f32)> = sorted
            .chunk_by(|a, b| a == b)
            .filter_map(|same| Some((same.len(), *same.first()?)))
            .collect();
        values.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.total_cmp(&b.1)));
        let values: Vec<f32> = values.into_iter().map(|value| value.1).collect();
        let mut of = Vec::new();
        let numbers: std::collections::HashMap<u32, u64> =
            values.iter().map(|value| value.to_bits()).zip(0..).collect();
        for idf in all {
            leb128(numbers.get(&idf.to_bits()).copied().unwrap_or_default(), &mut of);
        }
        Self { values, of: STANDARD.encode(of) }
    }
}

impl Rows {
    /// The rows of a table with so many columns.
    #[expect(clippy::cast_possible_truncation, reason = "between -32767 and 32767")]
    pub fn new(values: impl Iterator<Item = f32>, columns: usize) -> Self {
        let values: Vec<f32> = values.collect();
        let largest = |column: usize| {
            let of = values.iter().skip(column).step_by(columns.max(1));
            of.fold(0.0_f32, |largest, value| largest.max(value.abs()))
        };
        let factors: Vec<f32> =
            (0..columns).map(|column| largest(column) / f32::from(i16::MAX)).collect();
        let narrow = |(value, factor): (&f32, &f32)| {
            let number = if *factor > 0.0 { (value / factor).round() } else { 0.0 };
            (number.clamp(-32767.0, 32767.0) as i16).to_le_bytes()
        };
        let bytes: Vec<u8> = values.iter().zip(factors.iter().cycle()).flat_map(narrow).collect();
        Self { factors, values: STANDARD.encode(bytes) }
    }
}

/// Bits of a key for so many entries.
fn bits(entries: usize) -> u32 {
    (entries.max(1).next_power_of_two().trailing_zeros() + SPARE).min(MOST_BITS)
}

fn leb128(mut number: u64, to: &mut Vec<u8>) {
    loop {
        let low = u8::try_from(number & 0x7f).unwrap_or_default();
        number >>= 7;
        if number == 0 {
            to.push(low);
            return;
        }
        to.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of(text: &str) -> Vec<u8> {
        STANDARD.decode(text).expect("Base64")
    }

    #[test]
    fn numbers_are_leb128() {
        // Python, leb128 1.0: leb128.u.encode(624485), and of 0 and 2^40
        let mut made = Vec::new();
        leb128(624_485, &mut made);
        leb128(0, &mut made);
        leb128(1 << 40, &mut made);
        assert_eq!(made, [0xe5, 0x8e, 0x26, 0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20]);
    }

    #[test]
    fn of_entries_with_one_key_the_first_counts() {
        let entries = [(7, 3, 1.5), (2, 1, 1.5), (7, 2, 2.5), (200, 0, 2.5)];
        let (keys, columns, idf) = Keys::of_ngrams(entries.into_iter(), Some(8));
        assert_eq!((keys.bits, keys.count, columns), (8, 3, vec![1, 3, 0]));
        assert_eq!(bytes_of(&keys.gaps), [2, 5, 0xc1, 0x01]);
        assert_eq!((idf.values, bytes_of(&idf.of)), (vec![1.5, 2.5], vec![0, 0, 1]));
    }

    #[test]
    fn rows_are_rounded_column_by_column() {
        let rows = Rows::new([2.0, -0.5, -1.0, 0.25].into_iter(), 2);
        assert_eq!(rows.factors, [2.0, 0.5].map(|largest| largest / 32767.0));
        let numbers: Vec<i16> = bytes_of(&rows.values)
            .chunks_exact(2)
            .map(|two| i16::from_le_bytes([two[0], two[1]]))
            .collect();
        assert_eq!(numbers, [32767, -32767, -16384, 16384]);
        assert_eq!(bytes_of(&Rows::new([0.0, 0.0].into_iter(), 2).values), [0; 4]);
    }
}
