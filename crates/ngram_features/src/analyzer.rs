//! Cuts a text into n-grams, with the rules of scikit-learn's analyzers.

use std::ops::Range;

use text::is_space;

use crate::fingerprint::{self, EXACT};
use crate::options::{Block, NgramOptions};

/// An n-gram of the text that an [`Analyzer`] has read.
#[derive(Clone, Copy)]
pub struct Gram {
    /// Its fingerprint, by which it is found.
    pub print: u64,
    /// Of words: the first one's number and how many there are. Of characters: the first and the
    /// last byte's place.
    place: (u32, u32),
}

/// Cuts texts into n-grams. It keeps its memory from one text to the next.
#[derive(Default)]
pub struct Analyzer {
    lowered: String,
    /// The places of the words, `\w+`, and their fingerprints.
    words: Vec<(u32, u32, u64)>,
    /// What lies between white space, each piece between two spaces; neighbours share one. Eight
    /// more bytes follow, so that a word of eight can be read everywhere.
    padded: Vec<u8>,
    /// Where the pieces begin and end in `padded`, with their spaces, and where they begin in
    /// `lowered`.
    pieces: Vec<(u32, u32, u32)>,
}

impl Analyzer {
    /// Reads a text.
    pub fn read(&mut self, text: &str, options: &NgramOptions) {
        self.lowered.clear();
        if !options.lowercase {
            self.lowered.push_str(text);
        } else if text.is_ascii() {
            self.lowered.push_str(text);
            self.lowered.make_ascii_lowercase();
        } else {
            self.lowered.push_str(&text.to_lowercase());
        }
        self.words.clear();
        if options.word.is_some() {
            self.find_words();
        }
        self.padded.clear();
        self.pieces.clear();
        if options.char_wb.is_some() {
            self.pad();
        }
    }

    fn find_words(&mut self) {
        let text = self.lowered.as_str();
        let mut start = None;
        let mut end_of = |start: usize, end: usize, bytes: &[u8]| {
            self.words.push((small(start), small(end), fingerprint::of(bytes)));
        };
        let bytes = text.as_bytes();
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            let (is_word, length) = if byte.is_ascii() {
                (byte.is_ascii_alphanumeric() || byte == b'_', 1)
            } else {
                let c = text.get(at..).and_then(|rest| rest.chars().next());
                c.map_or((false, 1), |c| (c.is_alphanumeric(), c.len_utf8()))
            };
            match (is_word, start) {
                (true, None) => start = Some(at),
                (false, Some(from)) => {
                    end_of(from, at, bytes.get(from..at).unwrap_or_default());
                    start = None;
                }
                _ => {}
            }
            at += length;
        }
        if let Some(from) = start {
            end_of(from, at, bytes.get(from..).unwrap_or_default());
        }
    }

    fn pad(&mut self) {
        self.padded.push(b' ');
        for piece in self.lowered.split(is_space).filter(|piece| !piece.is_empty()) {
            let start = self.padded.len() - 1;
            self.padded.extend_from_slice(piece.as_bytes());
            self.padded.push(b' ');
            let in_text = piece.as_ptr() as usize - self.lowered.as_ptr() as usize;
            self.pieces.push((small(start), small(self.padded.len()), small(in_text)));
        }
        self.padded.extend_from_slice(&[0; 8]);
    }

    /// Passes every n-gram of a block to `take`, some of them several times.
    #[inline]
    pub fn each(&self, block: Block, [least, most]: [usize; 2], take: impl FnMut(Gram)) {
        match block {
            Block::Word => self.each_of_words([least, most], take),
            Block::CharWb => self.each_of_characters([least, most], take),
        }
    }

    #[inline]
    fn each_of_words(&self, [least, most]: [usize; 2], mut take: impl FnMut(Gram)) {
        for first in 0..self.words.len() {
            let mut print = 0;
            for (n, &(.., word)) in self.words.iter().skip(first).take(most).enumerate() {
                print = if n == 0 { word } else { fingerprint::extended(print, word) };
                if n + 1 >= least {
                    take(Gram { print, place: (small(first), small(n + 1)) });
                }
            }
        }
    }

    #[inline]
    fn each_of_characters(&self, [least, most]: [usize; 2], mut take: impl FnMut(Gram)) {
        for &(start, end, _) in &self.pieces {
            let (from, to) = (start as usize, end as usize);
            let Some(piece) = self.padded.get(from..to) else { continue };
            if !piece.is_ascii() {
                self.each_of_a_piece(from, to, [least, most], &mut take);
                continue;
            }
            // A piece that is shorter than the longest n-gram counts as a whole, once.
            if piece.len() <= most {
                take(Gram { print: fingerprint::of(piece), place: (start, end) });
            }
            let most = most.min(piece.len() - 1);
            for at in from..(to + 1).saturating_sub(least) {
                let longest = most.min(to - at);
                let word = self.padded.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
                let word = word.map_or(0, u64::from_le_bytes);
                for n in least..=longest {
                    let print = if n <= EXACT {
                        fingerprint::short(word, n)
                    } else {
                        fingerprint::of(self.padded.get(at..at + n).unwrap_or_default())
                    };
                    take(Gram { print, place: (small(at), small(at + n)) });
                }
            }
        }
    }

    /// The same for a piece with characters of several bytes.
    fn each_of_a_piece(
        &self,
        from: usize,
        to: usize,
        [least, most]: [usize; 2],
        take: &mut impl FnMut(Gram),
    ) {
        let piece = self.padded.get(from..to).unwrap_or_default();
        let is_start = |(_, byte): &(usize, &u8)| !(0x80..0xc0).contains(*byte);
        let mut starts: Vec<usize> =
            piece.iter().enumerate().filter(is_start).map(|(at, _)| from + at).collect();
        let characters = starts.len();
        starts.push(to);
        let mut gram = |start: usize, end: usize| {
            let print = fingerprint::of(self.padded.get(start..end).unwrap_or_default());
            take(Gram { print, place: (small(start), small(end)) });
        };
        if characters <= most {
            gram(from, to);
        }
        for n in least..=most.min(characters - 1) {
            starts.iter().zip(starts.iter().skip(n)).for_each(|(&start, &end)| gram(start, end));
        }
    }

    /// The text in lower case, if the options want it.
    pub fn lowered(&self) -> &str {
        &self.lowered
    }

    /// Where an n-gram is in [`Analyzer::lowered`], in bytes, without the spaces that pad a piece.
    pub fn place(&self, block: Block, gram: Gram) -> Range<usize> {
        let (first, second) = (gram.place.0 as usize, gram.place.1 as usize);
        match block {
            Block::Word => {
                let words = self.words.get(first..first + second).unwrap_or_default();
                let ends = words.first().zip(words.last());
                ends.map_or(0..0, |(first, last)| first.0 as usize..last.1 as usize)
            }
            Block::CharWb => {
                let number = self.pieces.partition_point(|piece| piece.0 as usize <= first);
                let piece = number.checked_sub(1).and_then(|number| self.pieces.get(number));
                // A space between two pieces belongs to both; it has no place of its own.
                let Some(&(start, end, in_text)) = piece else { return 0..0 };
                let (start, end, in_text) =
                    (start as usize + 1, end as usize - 1, in_text as usize);
                let clipped = |at: usize| at.clamp(start, end) - start + in_text;
                clipped(first)..clipped(second)
            }
        }
    }

    /// The n-gram as text; words are separated by spaces.
    pub fn text(&self, block: Block, gram: Gram) -> String {
        let (first, second) = (gram.place.0 as usize, gram.place.1 as usize);
        match block {
            Block::Word => {
                let words = self.words.iter().skip(first).take(second);
                let words =
                    words.filter_map(|&(from, to, _)| self.lowered.get(from as usize..to as usize));
                words.collect::<Vec<_>>().join(" ")
            }
            Block::CharWb => {
                let bytes = self.padded.get(first..second).unwrap_or_default();
                String::from_utf8_lossy(bytes).into_owned()
            }
        }
    }
}

/// The fingerprint of an n-gram that is given as text.
pub fn print_of(block: Block, gram: &str) -> u64 {
    match block {
        Block::CharWb => fingerprint::of(gram.as_bytes()),
        Block::Word => {
            let prints = gram.split(' ').map(|word| fingerprint::of(word.as_bytes()));
            prints.reduce(fingerprint::extended).unwrap_or(1)
        }
    }
}

/// A place in a text, whose length is limited far below.
#[expect(clippy::cast_possible_truncation, reason = "no text has 4 GiB")]
const fn small(place: usize) -> u32 {
    place as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn grams(text: &str, block: Block, range: [usize; 2]) -> Vec<String> {
        let options =
            NgramOptions { word: Some(range), char_wb: Some(range), ..NgramOptions::default() };
        let mut analyzer = Analyzer::default();
        analyzer.read(text, &options);
        let mut all = Vec::new();
        analyzer.each(block, range, |gram| {
            let text = analyzer.text(block, gram);
            assert_eq!(print_of(block, &text), gram.print, "{text}");
            all.push(text);
        });
        all.sort();
        all
    }

    #[test]
    fn n_grams_are_scikit_learn_s() {
        // scikit-learn 1.9: sorted(CountVectorizer(analyzer="word", token_pattern=r"\w+",
        //     ngram_range=(1, 2)).build_analyzer()("Fed's Plosser: U.S."))
        assert_eq!(
            grams("Fed's Plosser: U.S.", Block::Word, [1, 2]),
            ["fed", "fed s", "plosser", "plosser u", "s", "s", "s plosser", "u", "u s"]
        );
        // sorted(CountVectorizer(analyzer="char_wb", ngram_range=(2, 4)).build_analyzer()("a  Éte\tx"))
        assert_eq!(
            grams("a  Éte\tx", Block::CharWb, [2, 4]),
            [
                " a", " a ", " x", " x ", " é", " ét", " éte", "a ", "e ", "te", "te ", "x ", "ét",
                "éte", "éte "
            ]
        );
        // … ngram_range=(4, 9) … ("a bcdefgh")
        assert_eq!(
            grams("a bcdefgh", Block::CharWb, [4, 9]),
            [
                " a ",
                " bcd",
                " bcde",
                " bcdef",
                " bcdefg",
                " bcdefgh",
                " bcdefgh ",
                "bcde",
                "bcdef",
                "bcdefg",
                "bcdefgh",
                "bcdefgh ",
                "cdef",
                "cdefg",
                "cdefgh",
                "cdefgh ",
                "defg",
                "defgh",
                "defgh ",
                "efgh",
                "efgh ",
                "fgh "
            ]
        );
        assert!(grams(" \t ", Block::CharWb, [1, 3]).is_empty());
        assert!(grams("?!", Block::Word, [1, 1]).is_empty());
    }

    proptest! {
        /// The rules as scikit-learn's source states them, character by character.
        #[test]
        fn characters_are_cut_as_written_out(text in "[a-cé日 ]{0,20}", least in 1_usize..5, more in 0_usize..6) {
            let most = least + more;
            let mut want = Vec::new();
            for word in text.split_whitespace() {
                let word: Vec<char> = format!(" {word} ").chars().collect();
                for n in least..=most {
                    let windows = word.len().saturating_sub(n) + 1;
                    (0..windows).for_each(|at| want.push(word.iter().skip(at).take(n).collect::<String>()));
                    if n >= word.len() { break; }
                }
            }
            want.sort();
            prop_assert_eq!(grams(&text, Block::CharWb, [least, most]), want);
        }
    }
}
