//! Cuts a stream into records: lines, or rows of quoted fields that may contain line ends.

use std::io::Read;

use failure::{Failure, Result};
use memchr::{memchr, memchr2_iter};

/// Bytes that are read at once. A record may be longer.
const BLOCK: usize = if cfg!(test) { 64 } else { 1 << 20 };
/// Bytes of the longest record that is accepted.
pub const LONGEST: usize = if cfg!(test) { 1 << 10 } else { 1 << 26 };

/// The records of a stream.
pub struct Records<'r> {
    reader: &'r mut dyn Read,
    place: &'r str,
    /// The separator of fields that may be quoted, so that a line end in one does not end a record.
    quoted: Option<u8>,
    buffer: Vec<u8>,
    /// Where the next record begins.
    start: usize,
    /// The line in which the next record begins, counted from 1.
    line: u64,
    /// Bytes that have been read.
    done: u64,
    ended: bool,
}

impl<'r> Records<'r> {
    /// The records of `reader`, which `place` names in errors. If fields may be `quoted`, a line end
    /// in one is part of it; a quote within an unquoted field means nothing here.
    pub fn new(reader: &'r mut dyn Read, place: &'r str, quoted: Option<u8>) -> Self {
        let (buffer, start, line, done) = (Vec::new(), 0, 1, 0);
        Self { reader, place, quoted, buffer, start, line, done, ended: false }
    }

    /// The next record that is not blank, without its line end, and the line in which it begins.
    pub fn next(&mut self) -> Result<Option<(u64, &[u8])>> {
        loop {
            let Some((length, lines)) = self.find()? else { return Ok(None) };
            let (start, line) = (self.start, self.line);
            self.start += length;
            self.line += lines;
            let record = self.buffer.get(start..self.start).unwrap_or_default();
            let record = record.strip_suffix(b"\n").unwrap_or(record);
            let record = record.strip_suffix(b"\r").unwrap_or(record);
            if !record.is_empty() {
                // Once more, since a borrow that is returned from a loop lasts for all of it.
                let end = start + record.len();
                return Ok(Some((line, self.buffer.get(start..end).unwrap_or_default())));
            }
        }
    }

    /// The length of the next record with its line end, and the number of lines in it.
    fn find(&mut self) -> Result<Option<(usize, u64)>> {
        // What has been searched already, and what was found there.
        let (mut searched, mut lines) = (0, 0);
        // Whether a quoted field is open, and where the last one was closed.
        let (mut open, mut closed) = (false, usize::MAX);
        loop {
            let record = self.buffer.get(self.start..).unwrap_or_default();
            let rest = record.get(searched..).unwrap_or_default();
            if let Some(separator) = self.quoted {
                for at in memchr2_iter(b'\n', b'"', rest).map(|at| searched + at) {
                    if record.get(at) == Some(&b'"') {
                        let before = at.checked_sub(1).and_then(|before| record.get(before));
                        // After the end of a quoted field, a quote is the second of two.
                        let opens = before.is_none_or(|byte| *byte == separator)
                            || at.checked_sub(1) == Some(closed);
                        if open {
                            (open, closed) = (false, at);
                        } else if opens {
                            open = true;
                        }
                        continue;
                    }
                    lines += 1;
                    if !open {
                        return Ok(Some((at + 1, lines)));
                    }
                }
            } else if let Some(at) = memchr(b'\n', rest) {
                return Ok(Some((searched + at + 1, 1)));
            }
            searched += rest.len();
            if self.ended {
                return match searched {
                    _ if open => Err(self.wrong("has a quoted field that does not end")),
                    0 => Ok(None),
                    length => Ok(Some((length, lines + 1))),
                };
            }
            if searched > LONGEST {
                let open = if open { ": a quoted field in it does not end" } else { "" };
                return Err(self.wrong(&format!("is longer than {LONGEST} bytes{open}")));
            }
            self.fill()?;
        }
    }

    /// Reads another block.
    fn fill(&mut self) -> Result<()> {
        self.buffer.drain(..self.start);
        self.start = 0;
        let n = self.reader.take(BLOCK as u64).read_to_end(&mut self.buffer).map_err(|e| {
            Failure::input(
                format_args!("cannot read: {e}"),
                format_args!("{}, after byte {}", self.place, self.done),
                "get the file again; it may be damaged",
            )
        })?;
        if self.done == 0 {
            if self.buffer.starts_with(b"\xff\xfe") || self.buffer.starts_with(b"\xfe\xff") {
                return Err(Failure::input(
                    "the file is UTF-16",
                    self.place,
                    "convert it to UTF-8: iconv -f UTF-16 -t UTF-8",
                ));
            }
            if self.buffer.starts_with(b"\xef\xbb\xbf") {
                self.buffer.drain(..3);
            }
        }
        self.done += n as u64;
        self.ended = n == 0;
        Ok(())
    }

    fn wrong(&self, what: &str) -> Failure {
        Failure::input(
            format_args!("line {} {what}", self.line),
            format_args!("{}, line {}", self.place, self.line),
            "close the quote, or set `ingest.quoting` to false if a quote is a character like any other",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CSV: Option<u8> = Some(b',');

    fn all(text: &str, quoted: Option<u8>) -> std::result::Result<Vec<(u64, String)>, Failure> {
        let mut reader = text.as_bytes();
        let mut records = Records::new(&mut reader, "x.csv", quoted);
        let mut all = Vec::new();
        while let Some((line, record)) = records.next()? {
            all.push((line, String::from_utf8_lossy(record).into_owned()));
        }
        Ok(all)
    }

    #[test]
    fn a_quoted_field_may_contain_line_ends() {
        let text = "\u{feff}a,b\r\n\r\n\"1\n\"\"2\",x\n3,4";
        let want = [(1, "a,b"), (3, "\"1\n\"\"2\",x"), (5, "3,4")].map(|(n, s)| (n, s.to_owned()));
        assert_eq!(all(text, CSV).expect("reads"), want);
        assert_eq!(all(text, None).expect("reads").len(), 4);
        assert!(all("", CSV).expect("reads").is_empty());
    }

    #[test]
    fn a_quote_within_a_field_swallows_no_row() {
        let text = "5\" disk,a\ngood,b\n6\" disk,\"a\nb\"\n";
        let lines: Vec<u64> =
            all(text, CSV).expect("reads").iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [1, 2, 3]);
    }

    #[test]
    fn a_quote_that_does_not_end_is_named() {
        for text in ["a\n\"b\nc\n".to_owned(), format!("a\n\"b{}", "\nc".repeat(LONGEST))] {
            let failure = all(&text, CSV).unwrap_err();
            assert_eq!(failure.place, "x.csv, line 2");
            assert!(failure.what.contains("does not end"), "{failure}");
        }
        assert!(all(&"a".repeat(2 * LONGEST), None).unwrap_err().what.contains("longer than"));
        assert!(all("\u{fffe}", None).is_ok());
        let mut reader = &b"\xff\xfea\0"[..];
        assert!(Records::new(&mut reader, "x", None).next().unwrap_err().what.contains("UTF-16"));
    }

    proptest! {
        #[test]
        fn every_row_comes_once(rows in prop::collection::vec(prop::collection::vec("[a\",\n]{0,30}", 1..4), 1..20)) {
            let quote = |field: &String| format!("\"{}\"", field.replace('"', "\"\""));
            let rows: Vec<String> = rows.iter().map(|row| row.iter().map(quote).collect::<Vec<_>>().join(",")).collect();
            let seen = all(&rows.join("\n"), CSV).expect("reads");
            let mut line = 1;
            for (row, (number, record)) in rows.iter().zip(&seen) {
                prop_assert_eq!((number, record), (&line, row));
                line += row.matches('\n').count() as u64 + 1;
            }
            prop_assert_eq!(rows.len(), seen.len());
        }
    }
}
