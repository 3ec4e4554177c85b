//! The words of a headline: each of Python's 32 `string.punctuation` characters becomes a
//! space, then the title is split at white space as Python's `str.split()` does. Case is kept.

/// The words of `title`, in order.
pub fn tokens(title: &str) -> impl Iterator<Item = &str> {
    Tokens { rest: title }
}

struct Tokens<'t> {
    rest: &'t str,
}

impl<'t> Iterator for Tokens<'t> {
    type Item = &'t str;

    fn next(&mut self) -> Option<&'t str> {
        let start = self.seek(true)?;
        self.rest = self.rest.get(start..)?;
        let end = self.seek(false).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest;
        Some(word)
    }
}

impl Tokens<'_> {
    /// The position of the next character that is part of a word, or of the next one that is not.
    fn seek(&self, of_a_word: bool) -> Option<usize> {
        let mut at = 0;
        while let Some(&byte) = self.rest.as_bytes().get(at) {
            // Nearly all characters are ASCII, and a table tells what they are; the others are
            // decoded.
            let (separates, length) = if byte.is_ascii() {
                (SEPARATORS.get(usize::from(byte)).copied().unwrap_or(false), 1)
            } else {
                let c = self.rest.get(at..)?.chars().next()?;
                (is_space(c), c.len_utf8())
            };
            if separates != of_a_word {
                return Some(at);
            }
            at += length;
        }
        None
    }
}

/// The ASCII characters that separate words.
#[expect(clippy::indexing_slicing, reason = "an index outside the table would not compile")]
const SEPARATORS: [bool; 128] = {
    let mut table = [false; 128];
    let mut c = 0_u8;
    while c < 128 {
        table[c as usize] = c.is_ascii_punctuation() || matches!(c, 0x9..=0xd | 0x1c..=0x20);
        c += 1;
    }
    table
};

/// Python's idea of white space is Unicode's `White_Space` and the four ASCII information
/// separators, which Unicode leaves out (CPython, `Objects/unicodetype_db.h`).
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(title: &str) -> Vec<&str> {
        tokens(title).collect()
    }

    #[test]
    fn punctuation_becomes_a_space() {
        assert_eq!(
            words("Fed's Plosser: rates 'too low'"),
            ["Fed", "s", "Plosser", "rates", "too", "low"]
        );
        assert_eq!(words("US-STOCKS/up 1.5%"), ["US", "STOCKS", "up", "1", "5"]);
        assert!(words("... --- !!!").is_empty());
    }

    #[test]
    fn ascii_punctuation_is_python_s() {
        // Python 3: string.punctuation
        let python = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";
        let rust: String = (0u8..128).map(char::from).filter(char::is_ascii_punctuation).collect();
        assert_eq!(rust, python);
    }

    #[test]
    fn white_space_is_python_s() {
        // Python 3.11: [c for c in range(0x110000) if chr(c).isspace()]
        let python: Vec<u32> = [
            (0x9..=0xd).collect::<Vec<_>>(),
            (0x1c..=0x20).collect(),
            vec![0x85, 0xa0, 0x1680],
            (0x2000..=0x200a).collect(),
            vec![0x2028, 0x2029, 0x202f, 0x205f, 0x3000],
        ]
        .concat();
        let rust: Vec<u32> = ('\0'..=char::MAX).filter(|&c| is_space(c)).map(u32::from).collect();
        assert_eq!(rust, python);
    }

    proptest! {
        /// The obvious way, in two steps, as the Python answers write it.
        #[test]
        fn two_steps_give_the_same(title in "\\PC*|[ -~\\t\\x1c\u{3000}é“]{0,40}") {
            let spaced: String = title.chars().map(|c| if c.is_ascii_punctuation() { ' ' } else { c }).collect();
            let expected: Vec<&str> = spaced.split(is_space).filter(|w| !w.is_empty()).collect();
            prop_assert_eq!(words(&title), expected);
        }
    }
}
