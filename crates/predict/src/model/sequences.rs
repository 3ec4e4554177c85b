//! Headlines as sequences of token ids, as `tokens` makes them.

use encoders::{Batch, Embeddings, Pass};
use headline_features::Lookup;
use nets::Table;

use super::Rows;

/// Headlines that a net takes at once.
const ROWS: usize = 128;

/// The embeddings of tokens. Id k + 1 is the word at place k; those beyond the data's words are words
/// that training did not see, whose given vectors are used.
pub struct Vectors<'v> {
    lookup: &'v Lookup,
    /// The data's words that a lookup has.
    words: usize,
    /// The embeddings of a run that has trained them.
    own: Option<&'v Table>,
}

impl<'v> Vectors<'v> {
    pub fn new(lookup: &'v Lookup, own: Option<&'v Table>) -> Self {
        Self { lookup, words: lookup.vectors().len() / lookup.dimension().max(1), own }
    }
}

impl Embeddings for Vectors<'_> {
    fn row(&self, id: u32) -> &[f32] {
        let Some(place) = (id as usize).checked_sub(1) else { return &[] };
        if let Some(other) = place.checked_sub(self.words) {
            return self.lookup.other_vector(other);
        }
        if let Some(own) = self.own {
            return own.row(id);
        }
        let dimension = self.lookup.dimension();
        let start = place * dimension;
        self.lookup.vectors().get(start..start + dimension).unwrap_or_default()
    }
}

/// Calls `take` with all headlines, some at a time.
pub fn each_batch(rows: &Rows<'_>, mut take: impl FnMut(&Batch, &mut Pass)) {
    let (mut batch, mut pass, mut ids) = (Batch::default(), Pass::default(), Vec::new());
    for first in (0..rows.ends.len()).step_by(ROWS) {
        batch.clear();
        for row in first..rows.ends.len().min(first + ROWS) {
            ids.clear();
            let id = |&place: &usize| u32::try_from(place + 1).unwrap_or_default();
            ids.extend(rows.places(row).iter().map(id));
            batch.push(&ids);
        }
        take(&batch, &mut pass);
    }
}
