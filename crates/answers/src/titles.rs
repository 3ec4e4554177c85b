//! The headlines to classify: arguments, or lines of files or stdin.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;

use failure::{Failure, Result};

/// The most bytes of a headline. Without a limit, a longer line would be read into memory whole.
const LONGEST: usize = 1 << 20;
/// Bytes that are read at once.
const BUFFER: usize = 1 << 18;

/// Headlines, one after the other.
pub struct Titles {
    given: VecDeque<String>,
    sources: VecDeque<TitleSource>,
}

struct TitleSource {
    name: String,
    reader: BufReader<Box<dyn Read>>,
    line: u64,
}

impl Titles {
    /// These headlines.
    pub fn given(texts: Vec<String>) -> Self {
        Self { given: texts.into(), sources: VecDeque::new() }
    }

    /// The lines of stdin.
    pub fn stdin() -> Self {
        Self::of("stdin".into(), Box::new(std::io::stdin()))
    }

    /// The lines of files, one file after the other. All files are opened first, so that a missing
    /// one is reported before any line is answered.
    pub fn files(paths: &[PathBuf]) -> Result<Self> {
        let mut all = Self::given(Vec::new());
        for path in paths {
            let cannot = |e: &dyn std::fmt::Display| {
                Failure::input(format_args!("cannot read: {e}"), path.display(), "give a text file")
            };
            let file = File::open(path).map_err(|e| cannot(&e))?;
            if file.metadata().is_ok_and(|m| m.is_dir()) {
                return Err(cannot(&"it is a folder"));
            }
            all.sources.extend(Self::of(path.display().to_string(), Box::new(file)).sources);
        }
        Ok(all)
    }

    fn of(name: String, reader: Box<dyn Read>) -> Self {
        let source =
            TitleSource { name, reader: BufReader::with_capacity(BUFFER, reader), line: 0 };
        Self { given: VecDeque::new(), sources: VecDeque::from([source]) }
    }

    /// Puts the next headline into `title`, without its line end, or returns `false` if there is
    /// none.
    ///
    /// An empty line is a headline, too, so that answers and lines stay side by side.
    pub fn next(&mut self, title: &mut String) -> Result<bool> {
        if let Some(given) = self.given.pop_front() {
            *title = given;
            return Ok(true);
        }
        while let Some(source) = self.sources.front_mut() {
            if source.next(title)? {
                return Ok(true);
            }
            self.sources.pop_front();
        }
        Ok(false)
    }

    /// Whether another headline is available without waiting for input.
    pub fn has_buffered_line(&self) -> bool {
        !self.given.is_empty()
            || self.sources.front().is_some_and(|s| s.reader.buffer().contains(&b'\n'))
    }
}

impl TitleSource {
    fn next(&mut self, title: &mut String) -> Result<bool> {
        self.line += 1;
        let mut bytes = std::mem::take(title).into_bytes();
        bytes.clear();
        let read = self.reader.by_ref().take(LONGEST as u64 + 1).read_until(b'\n', &mut bytes);
        match read {
            Ok(0) => return Ok(false),
            Ok(n) if n > LONGEST => {
                return Err(self.wrong(format_args!("the line is longer than {LONGEST} bytes")));
            }
            Ok(_) => {}
            Err(e) => return Err(self.wrong(format_args!("cannot read: {e}"))),
        }
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
        }
        if self.line == 1 && bytes.starts_with("\u{feff}".as_bytes()) {
            bytes.drain(..3);
        }
        *title = String::from_utf8(bytes)
            .map_err(|e| self.wrong(format_args!("the line is not UTF-8: {}", e.utf8_error())))?;
        Ok(true)
    }

    fn wrong(&self, what: std::fmt::Arguments<'_>) -> Failure {
        Failure::input(
            what,
            format_args!("{}, line {}", self.name, self.line),
            "give UTF-8 text with one headline per line",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Cursor;

    fn all(bytes: &[u8]) -> Result<Vec<String>> {
        let mut titles = Titles::of("x".into(), Box::new(Cursor::new(bytes.to_vec())));
        let mut found = Vec::new();
        let mut title = String::new();
        while titles.next(&mut title)? {
            found.push(title.clone());
        }
        Ok(found)
    }

    #[test]
    fn line_ends_and_a_byte_order_mark_are_no_part_of_a_headline() {
        assert_eq!(
            all("\u{feff}one\r\n\ntwo\rx\n三".as_bytes()).expect("reads"),
            ["one", "", "two\rx", "三"]
        );
        assert_eq!(all(b"").expect("reads"), [""; 0]);
    }

    #[test]
    fn a_bad_line_is_named() {
        let failure = all(b"one\ntw\xffo\n").unwrap_err();
        assert_eq!((failure.place.as_str(), failure.exit), ("x, line 2", failure::Exit::BadInput));
        let long = vec![b'a'; LONGEST + 1];
        assert!(all(&long).unwrap_err().what.contains("longer than 1048576 bytes"));
        assert_eq!(all(&long[..LONGEST]).expect("reads").len(), 1);
    }

    proptest! {
        #[test]
        fn every_line_comes_once_and_in_order(lines in proptest::collection::vec("[^\\n\\r\u{feff}]{0,12}", 0..20)) {
            let text: String = lines.iter().map(|l| format!("{l}\n")).collect();
            prop_assert_eq!(all(text.as_bytes()).expect("reads"), lines);
        }
    }
}
