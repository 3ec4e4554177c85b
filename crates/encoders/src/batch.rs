//! A batch of sequences without padding.

/// No number of a token in the batch.
const NONE: u32 = u32::MAX;

/// Sequences one after the other, and the different tokens in them.
///
/// Token id 0 is padding: it is left out wherever it stands, so it can reach no result.
#[derive(Default)]
pub struct Batch {
    /// The different token ids, in the order in which they first come.
    tokens: Vec<u32>,
    /// Each sequence's tokens, as indices into `tokens`.
    places: Vec<u32>,
    /// Where the sequences end in `places`.
    ends: Vec<usize>,
    /// For each token id its index in `tokens`.
    numbers: Vec<u32>,
}

impl Batch {
    /// Removes all sequences.
    pub fn clear(&mut self) {
        for &token in &self.tokens {
            if let Some(number) = self.numbers.get_mut(token as usize) {
                *number = NONE;
            }
        }
        self.tokens.clear();
        self.places.clear();
        self.ends.clear();
    }

    /// Adds a sequence of token ids.
    pub fn push(&mut self, ids: &[u32]) {
        for &id in ids.iter().filter(|&&id| id != 0) {
            let at = id as usize;
            if at >= self.numbers.len() {
                self.numbers.resize(at + 1, NONE);
            }
            let Some(number) = self.numbers.get_mut(at) else { continue };
            if *number == NONE {
                *number = u32::try_from(self.tokens.len()).unwrap_or(NONE);
                self.tokens.push(id);
            }
            self.places.push(*number);
        }
        self.ends.push(self.places.len());
    }

    /// How many sequences there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The different token ids.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The tokens of a sequence, as indices into [`Batch::tokens`].
    #[inline]
    pub fn row(&self, row: usize) -> &[u32] {
        let start = row.checked_sub(1).and_then(|before| self.ends.get(before)).copied();
        let end = self.ends.get(row).copied().unwrap_or_default();
        self.places.get(start.unwrap_or_default()..end).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_listed_once_and_padding_never() {
        let mut batch = Batch::default();
        for _ in 0..2 {
            batch.clear();
            batch.push(&[7, 3, 7, 0, 0]);
            batch.push(&[0]);
            batch.push(&[3, 9]);
            assert_eq!((batch.len(), batch.tokens()), (3, &[7, 3, 9][..]));
            assert_eq!([batch.row(0), batch.row(1), batch.row(2)], [&[0, 1, 0][..], &[], &[1, 2]]);
        }
    }
}
