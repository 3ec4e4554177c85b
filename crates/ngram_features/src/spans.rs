//! Where the n-grams of a text are.

use std::collections::HashMap;
use std::ops::Range;

use crate::analyzer::Analyzer;
use crate::features::Features;

/// The places of a text's n-grams, by column.
#[derive(Default)]
pub struct Spans {
    analyzer: Analyzer,
    places: HashMap<usize, Vec<Range<usize>>>,
}

impl Spans {
    /// Finds all known n-grams of a text.
    pub fn find(&mut self, features: &Features, text: &str) {
        let Self { analyzer, places } = self;
        places.clear();
        analyzer.read(text, &features.options);
        let back = Back::of(text, analyzer.lowered());
        for (block, range, lookup) in features.lookups() {
            analyzer.each(block, range, |gram| {
                if let Some((place, _)) = lookup.find(gram.print).filter(|(_, idf)| *idf != 0.0) {
                    let column = lookup.column(place) as usize;
                    let place = back.place(analyzer.place(block, gram));
                    places.entry(column).or_default().push(place);
                }
            });
        }
    }

    /// The places of the n-gram with this column, in bytes.
    pub fn of(&self, column: usize) -> &[Range<usize>] {
        self.places.get(&column).map_or(&[], Vec::as_slice)
    }
}

/// From a place in a text in lower case back to the text, whose characters may have other lengths: for
/// each byte, where the character that it comes from begins and ends.
struct Back(Option<Vec<(usize, usize)>>);

impl Back {
    fn of(text: &str, lowered: &str) -> Self {
        if text.len() == lowered.len() && text.is_ascii() {
            return Self(None);
        }
        let mut back = Vec::with_capacity(lowered.len());
        for (at, c) in text.char_indices() {
            let length = if text == lowered {
                c.len_utf8()
            } else {
                c.to_lowercase().map(char::len_utf8).sum::<usize>()
            };
            back.extend(std::iter::repeat_n((at, at + c.len_utf8()), length));
        }
        Self(Some(back))
    }

    fn place(&self, place: Range<usize>) -> Range<usize> {
        let Some(back) = &self.0 else { return place };
        let first = back.get(place.start);
        let last = place.end.checked_sub(1).and_then(|last| back.get(last));
        match (first, last) {
            (Some(first), Some(last)) if place.start < place.end => first.0..last.1,
            _ => 0..0,
        }
    }
}

#[cfg(test)]
#[cfg(feature = "tables")]
mod tests {
    use super::*;
    use crate::{Counter, NgramOptions};

    #[test]
    fn n_grams_are_where_the_text_has_them() {
        let options = NgramOptions { char_wb: Some([2, 3]), ..NgramOptions::default() };
        let text = "Fed’s İ RAISES fed";
        let mut counter = Counter::new(&options);
        counter.add(text);
        let features = counter.finish([]);
        let mut spans = Spans::default();
        spans.find(&features, text);
        let mut seen = 0;
        for (column, (block, name)) in features.names().enumerate() {
            for place in spans.of(column) {
                let part = text.get(place.clone()).expect("whole characters").to_lowercase();
                let name = name.trim();
                // `İ` becomes two characters, of which an n-gram may have only one.
                let is_same = part == name || part.replace('’', " ") == name;
                assert!(is_same || part.contains('\u{307}'), "{block:?} {name} {part}");
                seen += 1;
            }
        }
        assert!(seen > 30, "{seen}");
        let fed = features.names().position(|(_, name)| name == "fed").expect("a word");
        assert_eq!(spans.of(fed), [0..3, 18..21]);
        assert!(spans.of(9999).is_empty());
    }
}
