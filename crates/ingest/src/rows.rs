//! From a stream of bytes to a table: rows are cut, checked and chosen in blocks, and polars
//! parses those that are kept.

use std::io::{Cursor, Read};

use artifact::{Failure, Result};
use features::Category;
use formats::table::{HEADLINE_COLUMNS, headline_schema};
use polars::prelude::{CsvParseOptions, CsvReadOptions, DataFrame, SerReader};

/// So many bytes are read, checked and parsed at once. A row may be longer.
const BLOCK: usize = 1 << 22;

const COLUMNS: usize = HEADLINE_COLUMNS.len();

/// Reads rows until the stream ends, and gives those that are wanted to `kept`. `place` names
/// the stream in errors; `progress` hears how many bytes are done.
pub fn read(reader: &mut dyn Read, place: &str, kept: &mut Kept, mut progress: impl FnMut(u64)) -> Result<()> {
    let mut buffer = Vec::with_capacity(BLOCK);
    let mut done = 0;
    loop {
        let n = Read::take(&mut *reader, BLOCK as u64).read_to_end(&mut buffer).map_err(|e| {
            Failure::input(
                format_args!("cannot read: {e}"),
                format_args!("{place}, after byte {done}"),
                "get the archive again; it may be damaged",
            )
        })?;
        if done == 0 && buffer.starts_with(b"\xef\xbb\xbf") {
            buffer.drain(..3);
        }
        done += n as u64;
        progress(done);
        let ended = n == 0;
        let end = match memchr::memrchr(b'\n', &buffer) {
            _ if ended => buffer.len(),
            Some(at) => at + 1,
            None => continue,
        };
        kept.block(buffer.get(..end).unwrap_or_default(), place)?;
        buffer.drain(..end);
        if ended {
            return Ok(());
        }
    }
}

/// How many rows there were.
pub struct Counts {
    /// Rows of the archive.
    pub rows: u64,
    /// Rows that were kept.
    pub kept: u64,
    /// Kept rows of each wanted publisher, or nothing where all were wanted.
    pub publishers: Vec<(String, u64)>,
}

/// The rows that were kept so far.
pub struct Kept {
    wanted: Vec<(String, u64)>,
    all: bool,
    rows: u64,
    kept: u64,
    bytes: Vec<u8>,
    frame: Option<DataFrame>,
}

impl Kept {
    /// Nothing yet. `publishers` are those whose rows are wanted, or `["*"]`.
    pub fn new(publishers: &[String]) -> Self {
        let all = publishers.iter().any(|p| p == "*");
        let wanted = if all { Vec::new() } else { publishers.iter().map(|p| (p.clone(), 0)).collect() };
        Self { wanted, all, rows: 0, kept: 0, bytes: Vec::new(), frame: None }
    }

    fn block(&mut self, block: &[u8], place: &str) -> Result<()> {
        let mut rest = block;
        while !rest.is_empty() {
            let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            let (line, after) = rest.split_at(end);
            rest = after.get(1..).unwrap_or_default();
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if !line.is_empty() {
                self.rows += 1;
                self.line(line).map_err(|what| wrong_row(&what, place, self.rows))?;
            }
        }
        if self.bytes.len() >= BLOCK { self.parse(place) } else { Ok(()) }
    }

    fn line(&mut self, line: &[u8]) -> Result<(), String> {
        let [id, _title, _url, publisher, category, _story, _hostname, timestamp] = cut(line)?;
        // Every row is checked, wanted or not: a damaged one could be of any publisher.
        std::str::from_utf8(line).map_err(|e| format!("is not UTF-8 at its byte {}", e.valid_up_to()))?;
        for (name, field) in [("id", id), ("timestamp", timestamp)] {
            let number = std::str::from_utf8(field).ok().and_then(|f| f.parse::<i64>().ok());
            number.ok_or_else(|| format!("has `{}` as its {name}, which is not a whole number", lossy(field)))?;
        }
        if std::str::from_utf8(category).ok().and_then(Category::from_letter).is_none() {
            return Err(format!("has the unknown category `{}`", lossy(category)));
        }
        if !self.all {
            match self.wanted.iter_mut().find(|(name, _)| name.as_bytes() == publisher) {
                Some((_, count)) => *count += 1,
                None => return Ok(()),
            }
        }
        self.kept += 1;
        self.bytes.extend_from_slice(line);
        self.bytes.push(b'\n');
        Ok(())
    }

    /// Hands the kept bytes to polars. Without quoting: with it, a stray `"` swallows lines.
    fn parse(&mut self, place: &str) -> Result<()> {
        let bug =
            |e: polars::error::PolarsError| Failure::input(format_args!("cannot parse: {e}"), place, "please report this with the row");
        let parse = CsvParseOptions { separator: b'\t', quote_char: None, missing_is_null: false, ..CsvParseOptions::default() };
        let bytes = std::mem::take(&mut self.bytes);
        let rows = CsvReadOptions::default()
            .with_has_header(false)
            .with_schema(Some(headline_schema()))
            .with_parse_options(parse)
            .into_reader_with_file_handle(Cursor::new(bytes))
            .finish()
            .map_err(bug)?;
        match &mut self.frame {
            None => self.frame = Some(rows),
            Some(frame) => drop(frame.vstack_mut(&rows).map_err(bug)?),
        }
        Ok(())
    }

    /// The table of all kept rows.
    pub fn finish(mut self, place: &str) -> Result<(DataFrame, Counts)> {
        if self.kept == 0 {
            let what = if self.rows == 0 {
                "there are no rows".to_owned()
            } else {
                format!("none of the {} rows is of a chosen publisher", self.rows)
            };
            return Err(Failure::input(
                what,
                place,
                if self.rows == 0 { "check the file" } else { "check the option `ingest.publishers`" },
            ));
        }
        if !self.bytes.is_empty() {
            self.parse(place)?;
        }
        let frame = self.frame.unwrap_or_default();
        if frame.height() as u64 != self.kept {
            return Err(Failure::failed(
                format_args!("{} rows were parsed, not {}", frame.height(), self.kept),
                place,
                "please report this",
            ));
        }
        Ok((frame, Counts { rows: self.rows, kept: self.kept, publishers: self.wanted }))
    }
}

/// A row's eight fields.
fn cut(line: &[u8]) -> Result<[&[u8]; COLUMNS], String> {
    let mut fields = [&[][..]; COLUMNS];
    let mut start = 0;
    let mut count = 0;
    for end in memchr::memchr_iter(b'\t', line).chain([line.len()]) {
        if let (Some(field), Some(bytes)) = (fields.get_mut(count), line.get(start..end)) {
            *field = bytes;
        }
        start = end + 1;
        count += 1;
    }
    if count == COLUMNS { Ok(fields) } else { Err(format!("has {count} columns, not {COLUMNS}")) }
}

fn lossy(field: &[u8]) -> String {
    String::from_utf8_lossy(field).chars().take(40).collect()
}

fn wrong_row(what: &str, place: &str, row: u64) -> Failure {
    Failure::input(format_args!("row {row} {what}"), format_args!("{place}, row {row}"), "mend or remove the row, or get the archive again")
}

#[cfg(test)]
mod tests {
    use super::*;
    use formats::table::{integers, texts};
    use proptest::prelude::*;
    use std::path::Path;

    const ROW: &str = "1\tFed's \"hawk\" speaks\thttp://a\tReuters\tb\tdX\twww.a\t1394470370698\n";

    fn parse(text: &[u8]) -> Result<(DataFrame, Counts)> {
        let mut kept = Kept::new(&["Reuters".into(), "Daily Mail".into()]);
        read(&mut Cursor::new(text), "x.csv", &mut kept, |_| ())?;
        kept.finish("x.csv")
    }

    fn titles(frame: &DataFrame) -> Vec<String> {
        texts(frame, "title", Path::new("x")).expect("titles").no_null_iter().map(str::to_owned).collect()
    }

    #[test]
    fn quotes_are_characters_and_other_publishers_are_left_out() {
        let text =
            [ROW, &ROW.replace("Reuters", "Reuters UK"), &ROW.replace("1\tFed's", "2\t\"open").replace("Reuters", "Daily Mail")].concat();
        let (frame, counts) = parse(text.as_bytes()).expect("parses");
        assert_eq!(titles(&frame), ["Fed's \"hawk\" speaks", "\"open \"hawk\" speaks"]);
        assert_eq!((counts.rows, counts.kept), (3, 2));
        assert_eq!(counts.publishers, [("Reuters".to_owned(), 1), ("Daily Mail".to_owned(), 1)]);
        let ids: Vec<i64> = integers(&frame, "id", Path::new("x")).expect("ids").no_null_iter().collect();
        assert_eq!(ids, [1, 2]);
    }

    #[test]
    fn a_wrong_row_is_named() {
        for (text, want) in [
            (ROW.replace("\tdX", ""), "row 2 has 7 columns, not 8"),
            (ROW.replace("\tdX", "\tdX\tdY"), "row 2 has 9 columns, not 8"),
            (ROW.replace("\tb\t", "\tz\t"), "row 2 has the unknown category `z`"),
            (ROW.replace("1\tFed", "one\tFed"), "row 2 has `one` as its id, which is not a whole number"),
        ] {
            let other = text.replace("Reuters", "Another");
            assert_eq!(parse([ROW, &other].concat().as_bytes()).err().expect("refused").what, want);
            let failure = parse([ROW, &text].concat().as_bytes()).err().expect("refused");
            assert_eq!((failure.what.as_str(), failure.place.as_str()), (want, "x.csv, row 2"));
        }
        let invalid = [ROW.as_bytes(), &ROW.as_bytes()[..3], b"\xff", &ROW.as_bytes()[3..]].concat();
        assert_eq!(parse(&invalid).err().expect("refused").what, "row 2 is not UTF-8 at its byte 3");
    }

    #[test]
    fn line_ends_byte_order_marks_and_a_missing_last_newline_do_not_matter() {
        let plain = parse([ROW, ROW].concat().as_bytes()).expect("parses").0;
        let dos = ["\u{feff}", &ROW.replace('\n', "\r\n"), ROW.trim_end()].concat();
        assert!(parse(dos.as_bytes()).expect("parses").0.equals(&plain));
    }

    #[test]
    fn an_empty_title_stays_an_empty_text() {
        let (frame, _) = parse(ROW.replace("Fed's \"hawk\" speaks", "").as_bytes()).expect("parses");
        assert_eq!(titles(&frame), [""]);
    }

    #[test]
    fn nothing_kept_is_an_error() {
        assert!(parse(b"").err().expect("refused").what.contains("no rows"));
        assert!(parse(ROW.replace("Reuters", "X").as_bytes()).err().expect("refused").what.contains("none of the 1 rows"));
    }

    /// A reader that gives a few bytes at a time.
    struct Slow<'a>(&'a [u8], usize);
    impl Read for Slow<'_> {
        fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
            let n = self.1.min(buf.len()).min(self.0.len());
            buf[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    proptest! {
        #[test]
        fn any_title_comes_back(titles_in in prop::collection::vec("[^\\t\\n\\r]{0,30}", 1..20), step in 1_usize..70) {
            let text: String = titles_in.iter().map(|t| ROW.replace("Fed's \"hawk\" speaks", t)).collect();
            let mut kept = Kept::new(&["*".into()]);
            read(&mut Slow(text.as_bytes(), step), "x.csv", &mut kept, |_| ()).expect("reads");
            let (frame, _) = kept.finish("x.csv").expect("parses");
            prop_assert_eq!(titles(&frame), titles_in);
        }
    }
}
