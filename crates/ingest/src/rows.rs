//! From a stream of bytes to tables of rows: one thread unpacks, one cuts, checks and chooses rows, and one
//! makes the tables and writes them.
//!
//! Memory is bounded by the blocks that are on their way, however large the archive.

use std::io::Read;
use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use artifact::{Failure, Result};
use features::Category;
use formats::table::{self, HEADLINE_COLUMNS};
use polars::prelude::DataFrame;

/// So many bytes are read at once. A row may be longer.
const BLOCK: usize = 1 << 20;
/// No row is longer; what is longer is no table of headlines.
const LONGEST_ROW: usize = 1 << 26;
/// Rows of a table.
const TABLE_ROWS: usize = 1 << 16;
/// Bytes of a table, if its rows are long.
const TABLE_BYTES: usize = 1 << 26;
/// What waits between two threads.
const WAITING: usize = 2;

const COLUMNS: usize = HEADLINE_COLUMNS.len();

/// How many rows there were.
pub struct Counts {
    /// Rows of the archive.
    pub rows: u64,
    /// Rows that were kept.
    pub kept: u64,
    /// Kept rows of each wanted publisher, or nothing where all were wanted.
    pub publishers: Vec<(String, u64)>,
}

/// Reads rows until the stream ends, and gives those of the wanted `publishers` (or of all, if they are `["*"]`) to `write`, in
/// tables of equally many rows. `place` names the stream in errors; `progress` hears how many bytes are done.
pub fn read(
    reader: &mut dyn Read,
    place: &str,
    publishers: &[String],
    mut write: impl FnMut(DataFrame) -> Result<()> + Send,
    progress: impl FnMut(u64),
) -> Result<Counts> {
    let (blocks, cut) = sync_channel(WAITING);
    let (tables, made) = sync_channel(WAITING);
    std::thread::scope(|scope| {
        let chosen = scope.spawn(move || choose(&cut, place, publishers, &tables));
        let written = scope.spawn(move || made.into_iter().try_for_each(|table: Table| write(table.frame(place)?)));
        let read = blocks_of(reader, place, &blocks, progress);
        drop(blocks);
        // Who reads stops when nobody takes the rows; what is wrong with them is the reason.
        written.join().unwrap_or_else(|panic| resume_unwind(panic))?;
        let counts = chosen.join().unwrap_or_else(|panic| resume_unwind(panic))?;
        read.map(|()| counts)
    })
    .and_then(|counts| check(counts, place))
}

fn check(counts: Counts, place: &str) -> Result<Counts> {
    if counts.kept > 0 {
        return Ok(counts);
    }
    let none = "there are no rows".to_owned();
    let (what, remedy) = match counts.rows {
        0 => (none, "check the file"),
        rows => (format!("none of the {rows} rows is of a chosen publisher"), "check the option `ingest.publishers`"),
    };
    Err(Failure::input(what, place, remedy))
}

/// Sends the stream's bytes in blocks of whole rows, until its end or until nobody takes them.
fn blocks_of(reader: &mut dyn Read, place: &str, blocks: &SyncSender<Vec<u8>>, mut progress: impl FnMut(u64)) -> Result<()> {
    let mut rest = Vec::new();
    let mut done = 0;
    loop {
        let mut block = Vec::with_capacity(rest.len() + BLOCK);
        block.append(&mut rest);
        let before = block.len();
        let n = Read::take(&mut *reader, BLOCK as u64).read_to_end(&mut block).map_err(|e| {
            Failure::input(
                format_args!("cannot read: {e}"),
                format_args!("{place}, after byte {done}"),
                "get the archive again; it may be damaged",
            )
        })?;
        if done == 0 && block.starts_with(b"\xef\xbb\xbf") {
            block.drain(..3);
        }
        done += n as u64;
        progress(done);
        if n > 0 {
            let new = block.get(before.min(block.len())..).unwrap_or_default();
            match memchr::memrchr(b'\n', new) {
                Some(at) => rest = block.split_off(block.len() - new.len() + at + 1),
                None if block.len() > LONGEST_ROW => {
                    let what = format_args!("a row is longer than {LONGEST_ROW} bytes");
                    return Err(Failure::input(what, format_args!("{place}, before byte {done}"), "this is no table of headlines"));
                }
                None => {
                    rest = block;
                    continue;
                }
            }
        }
        if blocks.send(block).is_err() || n == 0 {
            return Ok(());
        }
    }
}

/// Cuts blocks into rows, and sends the chosen ones as tables.
fn choose(blocks: &Receiver<Vec<u8>>, place: &str, publishers: &[String], tables: &SyncSender<Table>) -> Result<Counts> {
    let all = publishers.iter().any(|p| p == "*");
    let wanted = if all { Vec::new() } else { publishers.iter().map(|p| (p.clone(), 0)).collect() };
    let mut choice = Choice { all, counts: Counts { rows: 0, kept: 0, publishers: wanted }, table: Table::default() };
    for block in blocks {
        let mut rest = &block[..];
        while !rest.is_empty() {
            let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            let (line, after) = rest.split_at(end);
            rest = after.get(1..).unwrap_or_default();
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                continue;
            }
            choice.counts.rows += 1;
            choice.line(line).map_err(|what| wrong_row(&what, place, choice.counts.rows))?;
            // If nobody takes them, writing has failed and says why.
            if choice.table.is_full() && tables.send(std::mem::take(&mut choice.table)).is_err() {
                return Ok(choice.counts);
            }
        }
    }
    if !choice.table.rows.is_empty() {
        let _ = tables.send(choice.table);
    }
    Ok(choice.counts)
}

/// The rows that are kept.
struct Choice {
    all: bool,
    counts: Counts,
    table: Table,
}

impl Choice {
    fn line(&mut self, line: &[u8]) -> std::result::Result<(), String> {
        let fields = cut(line)?;
        let [id, _title, _url, publisher, category, _story, _hostname, timestamp] = fields;
        // Every row is checked, wanted or not: a damaged one could be of any publisher.
        let text = std::str::from_utf8(line).map_err(|e| format!("is not UTF-8 at its byte {}", e.valid_up_to()))?;
        let number = |name: &str, field: &[u8]| {
            let number = std::str::from_utf8(field).ok().and_then(|f| f.parse::<i64>().ok());
            number.ok_or_else(|| format!("has `{}` as its {name}, which is not a whole number", lossy(field)))
        };
        let numbers = [number("id", id)?, number("timestamp", timestamp)?];
        if std::str::from_utf8(category).ok().and_then(Category::from_letter).is_none() {
            return Err(format!("has the unknown category `{}`", lossy(category)));
        }
        if !self.all {
            match self.counts.publishers.iter_mut().find(|(name, _)| name.as_bytes() == publisher) {
                Some((_, count)) => *count += 1,
                None => return Ok(()),
            }
        }
        self.counts.kept += 1;
        self.table.push(text, fields.map(<[u8]>::len), numbers);
        Ok(())
    }
}

/// Rows that are to become a table.
#[derive(Default)]
struct Table {
    /// Their lines, one behind the other.
    text: String,
    /// Where each row's fields begin in it, and where the last one ends.
    rows: Vec<[usize; COLUMNS + 1]>,
    /// Each row's id and time stamp.
    numbers: Vec<[i64; 2]>,
}

impl Table {
    fn push(&mut self, line: &str, lengths: [usize; COLUMNS], numbers: [i64; 2]) {
        let mut starts = [self.text.len(); COLUMNS + 1];
        let mut at = self.text.len();
        for (start, length) in starts.iter_mut().skip(1).zip(lengths) {
            at += length + 1;
            *start = at;
        }
        self.text.push_str(line);
        self.text.push('\n');
        self.rows.push(starts);
        self.numbers.push(numbers);
    }

    fn is_full(&self) -> bool {
        self.rows.len() >= TABLE_ROWS || self.text.len() >= TABLE_BYTES
    }

    fn frame(&self, place: &str) -> Result<DataFrame> {
        let numbers = |which: usize| self.numbers.iter().filter_map(|n| n.get(which).copied()).collect::<Vec<_>>();
        // The first field is the id.
        let field =
            |at: usize, row: &[usize; COLUMNS + 1]| Some(self.text.get(*row.get(at + 1)?..*row.get(at + 2)? - 1).unwrap_or_default());
        let texts = |at: usize| self.rows.iter().filter_map(move |row| field(at, row));
        let frame = table::headlines(&numbers(0), texts, &numbers(1));
        frame.map_err(|e| Failure::failed(e, place, "this is a bug; please report it"))
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
    use std::io::Cursor;
    use std::path::Path;

    const ROW: &str = "1\tFed's \"hawk\" speaks\thttp://a\tReuters\tb\tdX\twww.a\t1394470370698\n";

    fn parse(text: &[u8]) -> Result<(DataFrame, Counts)> {
        read_all(&mut Cursor::new(text), &["Reuters".into(), "Daily Mail".into()])
    }

    fn read_all(reader: &mut dyn Read, publishers: &[String]) -> Result<(DataFrame, Counts)> {
        let mut whole = DataFrame::empty();
        let keep = |frame: DataFrame| {
            whole.vstack_mut(&frame).expect("the same columns");
            Ok(())
        };
        let counts = read(reader, "x.csv", publishers, keep, |_| ())?;
        Ok((whole, counts))
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

    #[test]
    fn many_rows_come_in_tables_of_the_same_size_and_a_failed_write_ends_it() {
        let text: String = (0..2 * TABLE_ROWS + 7).map(|i| ROW.replace("1\tFed", &format!("{i}\tFed"))).collect();
        let mut sizes = Vec::new();
        let mut size = |frame: DataFrame| {
            sizes.push(frame.height());
            Ok(())
        };
        let counts = read(&mut Cursor::new(&text), "x.csv", &["*".into()], &mut size, |_| ()).expect("reads");
        assert_eq!((counts.kept, &sizes[..]), (2 * TABLE_ROWS as u64 + 7, &[TABLE_ROWS, TABLE_ROWS, 7][..]));
        let full = |_| Err(Failure::failed("the disk is full", "x.parquet", "make room"));
        let failure = read(&mut Cursor::new(&text), "x.csv", &["*".into()], full, |_| ()).err().expect("fails");
        assert_eq!(failure.what, "the disk is full");
    }

    #[test]
    fn a_row_without_end_is_refused() {
        let failure = read_all(&mut std::io::repeat(b'x'), &["*".into()]).err().expect("refused");
        assert_eq!(failure.what, "a row is longer than 67108864 bytes");
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
            let (frame, _) = read_all(&mut Slow(text.as_bytes(), step), &["*".into()]).expect("reads");
            prop_assert_eq!(titles(&frame), titles_in);
        }
    }
}
