//! From a stream of bytes to tables of rows: one thread unpacks, one cuts, checks and chooses rows, and one
//! makes the tables and writes them.
//!
//! Memory is bounded by the blocks that are on their way and the gaps between the ids (40 MB at most), however large the archive.

use std::io::Read;
use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use artifact::{Failure, Result};
use features::Category;

use crate::ids::Ids;

/// So many bytes are read at once. A row may be longer.
const BLOCK: usize = if cfg!(fuzzing) { 64 } else { 1 << 20 };
/// No row is longer; what is longer is no table of headlines.
const LONGEST_ROW: usize = if cfg!(fuzzing) { 1 << 12 } else { 1 << 26 };
/// Rows of a table.
const TABLE_ROWS: usize = if cfg!(fuzzing) { 3 } else { 1 << 16 };
/// Bytes of a table, if its rows are long.
const TABLE_BYTES: usize = 1 << 26;
/// What waits between two threads.
const WAITING: usize = 2;

/// Columns of the archive's table.
pub const COLUMNS: usize = 8;
/// No title of a newspaper is longer, in bytes.
const LONGEST_TITLE: usize = 1 << 16;
/// Bad rows that are told of.
const TOLD: usize = 8;

/// How many rows there were.
pub struct Counts {
    /// Rows of the archive.
    pub rows: u64,
    /// Rows that were kept.
    pub kept: u64,
    /// Kept rows of each wanted publisher, or nothing where all were wanted.
    pub publishers: Vec<(String, u64)>,
    /// Rows that were left out because something is wrong with them.
    pub bad: u64,
    /// What is wrong with the first of them.
    pub told: Vec<String>,
    /// Whether every id was held against those before it. Ids that leave a million gaps would take too much memory.
    pub ids_checked: bool,
}

/// Which rows are wanted.
#[derive(Clone, Copy)]
pub struct Wanted<'w> {
    /// The publishers, or `["*"]` for all.
    pub publishers: &'w [String],
    /// So many rows may be wrong, and are left out.
    pub most_bad: u64,
}

/// Reads rows until the stream ends, and gives the wanted ones to `write`, in tables of equally many rows. `place` names the stream in
/// errors; `progress` hears how many bytes are done.
pub fn read(
    reader: &mut dyn Read,
    place: &str,
    wanted: Wanted<'_>,
    mut write: impl FnMut(Table) -> Result<()> + Send,
    progress: impl FnMut(u64),
) -> Result<Counts> {
    let (blocks, cut) = sync_channel(WAITING);
    let (tables, made) = sync_channel(WAITING);
    std::thread::scope(|scope| {
        let chosen = scope.spawn(move || choose(&cut, place, wanted, &tables));
        let written = scope.spawn(move || made.into_iter().try_for_each(&mut write));
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
        rows if rows == counts.bad => (format!("all of the {rows} rows are wrong: {}", counts.told.join("; ")), "check the file"),
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
fn choose(blocks: &Receiver<Vec<u8>>, place: &str, wanted: Wanted<'_>, tables: &SyncSender<Table>) -> Result<Counts> {
    let all = wanted.publishers.iter().any(|p| p == "*");
    let publishers = if all { Vec::new() } else { wanted.publishers.iter().map(|p| (p.clone(), 0)).collect() };
    let counts = Counts { rows: 0, kept: 0, publishers, bad: 0, told: Vec::new(), ids_checked: true };
    let mut choice = Choice { all, counts, number: 0, ids: Ids::default(), table: Table::default() };
    for block in blocks {
        let mut rest = &block[..];
        while !rest.is_empty() {
            let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            let (line, after) = rest.split_at(end);
            rest = after.get(1..).unwrap_or_default();
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            choice.number += 1;
            if line.is_empty() {
                continue;
            }
            choice.counts.rows += 1;
            if let Err(what) = choice.line(line) {
                choice.bad(&what, place, wanted.most_bad)?;
            }
            // If nobody takes them, writing has failed and says why.
            if choice.table.is_full() && tables.send(std::mem::take(&mut choice.table)).is_err() {
                return Ok(choice.counts);
            }
        }
    }
    choice.counts.ids_checked = !choice.ids.is_full();
    if !choice.table.rows.is_empty() {
        let _ = tables.send(choice.table);
    }
    Ok(choice.counts)
}

/// The rows that are kept.
struct Choice {
    all: bool,
    counts: Counts,
    /// Of the row at hand, as an editor counts lines: blank ones, too.
    number: u64,
    ids: Ids,
    table: Table,
}

impl Choice {
    /// Leaves the row out, if that is allowed.
    fn bad(&mut self, what: &str, place: &str, most: u64) -> Result<()> {
        let row = self.number;
        self.counts.bad += 1;
        if self.counts.bad > most {
            let before = if most > 0 { format!(", and {most} rows before it are bad, too") } else { String::new() };
            return Err(Failure::input(
                format_args!("row {row} {what}{before}"),
                format_args!("{place}, row {row}"),
                "mend or remove the row, get the archive again, or let more rows be left out: `ingest.max_bad_rows`",
            ));
        }
        if self.counts.told.len() < TOLD {
            self.counts.told.push(format!("row {row} {what}"));
        }
        Ok(())
    }

    fn line(&mut self, line: &[u8]) -> std::result::Result<(), String> {
        let fields = cut(line)?;
        let [id, title, _url, publisher, category, _story, _hostname, timestamp] = fields;
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
        if title.len() > LONGEST_TITLE {
            return Err(format!("has a title of {} bytes; {LONGEST_TITLE} are possible", title.len()));
        }
        if let Some(at) = memchr::memchr(0, line) {
            return Err(format!("has a zero byte, its byte {at}"));
        }
        if !self.ids.insert(numbers[0]) {
            return Err(format!("has the id {}, as a row before it", numbers[0]));
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
#[derive(Debug, Default)]
pub struct Table {
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

    /// The ids and the time stamps.
    pub fn numbers(&self) -> [Vec<i64>; 2] {
        [0, 1].map(|which| self.numbers.iter().filter_map(|n| n.get(which).copied()).collect())
    }

    /// The texts at a place behind the id, row by row.
    pub fn texts(&self, at: usize) -> impl Iterator<Item = &str> {
        let field = move |row: &[usize; COLUMNS + 1]| Some(self.text.get(*row.get(at + 1)?..*row.get(at + 2)? - 1).unwrap_or_default());
        self.rows.iter().filter_map(field)
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Cursor;

    const ROW: &str = "1\tFed's \"hawk\" speaks\thttp://a\tReuters\tb\tdX\twww.a\t1394470370698\n";

    type Read = (Vec<Table>, Counts);

    fn parse(text: &[u8]) -> Result<Read> {
        read_all(&mut Cursor::new(text), &["Reuters".into(), "Daily Mail".into()], 0)
    }

    fn read_all(reader: &mut dyn std::io::Read, publishers: &[String], most_bad: u64) -> Result<Read> {
        let mut tables = Vec::new();
        let keep = |table: Table| {
            tables.push(table);
            Ok(())
        };
        let counts = read(reader, "x.csv", Wanted { publishers, most_bad }, keep, |_| ())?;
        Ok((tables, counts))
    }

    fn titles(tables: &[Table]) -> Vec<&str> {
        tables.iter().flat_map(|table| table.texts(0)).collect()
    }

    fn ids(tables: &[Table]) -> Vec<i64> {
        tables.iter().flat_map(|table| table.numbers()[0].clone()).collect()
    }

    /// A row with this id.
    fn row(id: usize) -> String {
        ROW.replace("1\tFed", &format!("{id}\tFed"))
    }

    #[test]
    fn quotes_are_characters_and_other_publishers_are_left_out() {
        let text = [ROW, &row(3).replace("Reuters", "Reuters UK"), &ROW.replace("1\tFed's", "2\t\"open").replace("Reuters", "Daily Mail")]
            .concat();
        let (tables, counts) = parse(text.as_bytes()).expect("parses");
        assert_eq!(titles(&tables), ["Fed's \"hawk\" speaks", "\"open \"hawk\" speaks"]);
        assert_eq!((counts.rows, counts.kept), (3, 2));
        assert_eq!(counts.publishers, [("Reuters".to_owned(), 1), ("Daily Mail".to_owned(), 1)]);
        assert_eq!(ids(&tables), [1, 2]);
    }

    #[test]
    fn a_wrong_row_is_named() {
        for (text, want) in [
            (ROW.replace("\tdX", ""), "row 2 has 7 columns, not 8"),
            (ROW.replace("\tdX", "\tdX\tdY"), "row 2 has 9 columns, not 8"),
            (ROW.replace("\tb\t", "\tz\t"), "row 2 has the unknown category `z`"),
            (ROW.replace("1\tFed", "one\tFed"), "row 2 has `one` as its id, which is not a whole number"),
            (ROW.to_owned(), "row 2 has the id 1, as a row before it"),
            (row(2).replace("hawk", "ha\0wk"), "row 2 has a zero byte, its byte 11"),
            (row(2).replace("hawk", &"x".repeat(70_000)), "row 2 has a title of 70015 bytes; 65536 are possible"),
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
        let plain = parse([ROW, &row(2)].concat().as_bytes()).expect("parses").0;
        let dos = ["\u{feff}", &ROW.replace('\n', "\r\n"), row(2).trim_end()].concat();
        let tables = parse(dos.as_bytes()).expect("parses").0;
        assert_eq!((ids(&tables), titles(&tables)), (ids(&plain), titles(&plain)));
        assert_eq!(tables[0].numbers()[1], [1_394_470_370_698; 2]);
    }

    #[test]
    fn an_empty_title_stays_an_empty_text() {
        let (tables, _) = parse(ROW.replace("Fed's \"hawk\" speaks", "").as_bytes()).expect("parses");
        assert_eq!(titles(&tables), [""]);
    }

    #[test]
    fn some_bad_rows_may_be_left_out_and_one_more_is_an_error() {
        let text = [&row(1), "x\n", &row(2), "\r\n", &row(1), &row(3)].concat();
        let (tables, counts) = read_all(&mut Cursor::new(&text), &["*".into()], 2).expect("reads");
        assert_eq!((ids(&tables), counts.rows, counts.kept, counts.bad), (vec![1, 2, 3], 5, 3, 2));
        assert_eq!(counts.told, ["row 2 has 1 columns, not 8", "row 5 has the id 1, as a row before it"]);
        let failure = read_all(&mut Cursor::new(&text), &["*".into()], 1).err().expect("refused");
        assert_eq!(failure.what, "row 5 has the id 1, as a row before it, and 1 rows before it are bad, too");
        let all = read_all(&mut Cursor::new("x\ny\n"), &["*".into()], 9).err().expect("refused");
        assert_eq!(all.what, "all of the 2 rows are wrong: row 1 has 1 columns, not 8; row 2 has 1 columns, not 8");
    }

    #[test]
    fn nothing_kept_is_an_error() {
        assert!(parse(b"").err().expect("refused").what.contains("no rows"));
        assert!(parse(ROW.replace("Reuters", "X").as_bytes()).err().expect("refused").what.contains("none of the 1 rows"));
    }

    #[test]
    fn many_rows_come_in_tables_of_the_same_size_and_a_failed_write_ends_it() {
        let text: String = (0..2 * TABLE_ROWS + 7).map(row).collect();
        let mut sizes = Vec::new();
        let mut size = |table: Table| {
            sizes.push(table.rows.len());
            Ok(())
        };
        let every = ["*".to_owned()];
        let wanted = Wanted { publishers: &every, most_bad: 0 };
        let counts = read(&mut Cursor::new(&text), "x.csv", wanted, &mut size, |_| ()).expect("reads");
        assert_eq!((counts.kept, &sizes[..]), (2 * TABLE_ROWS as u64 + 7, &[TABLE_ROWS, TABLE_ROWS, 7][..]));
        let full = |_| Err(Failure::failed("the disk is full", "x.parquet", "make room"));
        let failure = read(&mut Cursor::new(&text), "x.csv", wanted, full, |_| ()).err().expect("fails");
        assert_eq!(failure.what, "the disk is full");
    }

    #[test]
    fn a_row_without_end_is_refused() {
        let failure = read_all(&mut std::io::repeat(b'x'), &["*".into()], 0).err().expect("refused");
        assert_eq!(failure.what, "a row is longer than 67108864 bytes");
    }

    /// A reader that gives a few bytes at a time.
    struct Slow<'a>(&'a [u8], usize);
    impl std::io::Read for Slow<'_> {
        fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
            let n = self.1.min(buf.len()).min(self.0.len());
            buf[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    proptest! {
        #[test]
        fn any_title_comes_back(titles_in in prop::collection::vec("[^\\t\\n\\r\\x00]{0,30}", 1..20), step in 1_usize..70) {
            let text: String = titles_in.iter().enumerate().map(|(i, t)| row(i).replace("Fed's \"hawk\" speaks", t)).collect();
            let (tables, _) = read_all(&mut Slow(text.as_bytes(), step), &["*".into()], 0).expect("reads");
            prop_assert_eq!(titles(&tables), titles_in);
        }
    }
}
