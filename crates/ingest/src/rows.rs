//! Turns a stream of bytes into tables of rows: one thread unpacks, one cuts, checks and chooses
//! rows, and one makes the tables and writes them.
//!
//! Memory is bounded by the blocks between the threads and the gaps between the ids (40 MB at
//! most), however large the archive.

use std::io::Read;
use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use failure::{Failure, Result};
use schema::Labels;

use crate::counts::{BadRows, Counts};
use crate::ids::Ids;

/// Bytes that are read at once. A row may be longer.
const BLOCK: usize = if cfg!(fuzzing) { 64 } else { 1 << 20 };
/// Bytes of the longest row that is accepted; no table of headlines has a longer one.
const LONGEST_ROW: usize = if cfg!(fuzzing) { 1 << 12 } else { 1 << 26 };
/// Maximum number of rows in a table.
pub(crate) const TABLE_ROWS: usize = if cfg!(fuzzing) { 3 } else { 1 << 16 };
/// Bytes of text at which a table is full, even with fewer rows.
pub(crate) const TABLE_BYTES: usize = 1 << 26;
/// Maximum number of blocks or tables that wait between two threads.
pub(crate) const WAITING: usize = 2;

/// Columns of the archive's table.
pub const COLUMNS: usize = 8;
/// Bytes of the longest title that is accepted.
const LONGEST_TITLE: usize = 1 << 16;

/// Which rows are wanted.
#[derive(Clone, Copy)]
pub struct RowFilter<'w> {
    /// The publishers, or `["*"]` for all.
    pub publishers: &'w [String],
    /// The categories. A row with another one is bad.
    pub labels: &'w Labels,
    /// How many bad rows may be left out.
    pub most_bad: u64,
}

/// Reads rows until the stream ends, and passes the wanted ones to `write`, in tables of equally
/// many rows. `place` names the stream in errors; `progress` receives the number of bytes read.
pub fn read(
    reader: &mut dyn Read,
    place: &str,
    wanted: RowFilter<'_>,
    mut write: impl FnMut(Table) -> Result<()> + Send,
    progress: impl FnMut(u64),
) -> Result<Counts> {
    let (blocks, cut) = sync_channel(WAITING);
    let (tables, made) = sync_channel(WAITING);
    std::thread::scope(|scope| {
        let chosen = scope.spawn(move || choose(&cut, place, wanted, &tables));
        let written = scope.spawn(move || made.into_iter().try_for_each(&mut write));
        let read = blocks_of(reader, place, true, &blocks, progress);
        drop(blocks);
        // The reader stops when a later thread has failed, so that thread's error comes first.
        written.join().unwrap_or_else(|panic| resume_unwind(panic))?;
        let counts = chosen.join().unwrap_or_else(|panic| resume_unwind(panic))?;
        read.map(|()| counts)
    })
    .and_then(|counts| check(counts, place))
}

pub(crate) fn check(counts: Counts, place: &str) -> Result<Counts> {
    if counts.kept > 0 {
        return Ok(counts);
    }
    if counts.rows == counts.bad {
        return Err(counts.nothing_kept(place, "check the file"));
    }
    let what = format_args!("none of the {} rows is from a chosen publisher", counts.rows);
    Err(Failure::input(what, place, "check the option `ingest.publishers`"))
}

/// Sends the stream's bytes in blocks of whole rows, until its end or until the receiver is gone.
/// `is_start` says whether it begins with the table's first byte.
pub(crate) fn blocks_of(
    reader: &mut dyn Read,
    place: &str,
    is_start: bool,
    blocks: &SyncSender<Vec<u8>>,
    mut progress: impl FnMut(u64),
) -> Result<()> {
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
        if is_start && done == 0 && block.starts_with(b"\xef\xbb\xbf") {
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
                    return Err(Failure::input(
                        what,
                        format_args!("{place}, before byte {done}"),
                        "give a table of headlines, one on each line",
                    ));
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
fn choose(
    blocks: &Receiver<Vec<u8>>,
    place: &str,
    wanted: RowFilter<'_>,
    tables: &SyncSender<Table>,
) -> Result<Counts> {
    let mut choice = PublisherChoice::new(wanted);
    for block in blocks {
        for line in lines(&block) {
            choice.number += 1;
            if line.is_empty() {
                continue;
            }
            choice.rows += 1;
            if let Err(what) = choice.line(line) {
                choice.bad.add(&what, place, "row", choice.number)?;
            }
            // If the receiver is gone, writing has failed and reports why.
            if choice.table.is_full() && tables.send(std::mem::take(&mut choice.table)).is_err() {
                return Ok(choice.counts());
            }
        }
    }
    if !choice.table.rows.is_empty() {
        let _ = tables.send(std::mem::take(&mut choice.table));
    }
    Ok(choice.counts())
}

/// The choice of rows, and the rows chosen so far.
pub(crate) struct PublisherChoice<'c> {
    all: bool,
    labels: &'c Labels,
    rows: u64,
    kept: u64,
    publishers: Vec<(String, u64)>,
    bad: BadRows,
    /// The number of the current row, as an editor counts lines: including blank ones.
    number: u64,
    ids: Ids,
    table: Table,
}

/// The lines of a block, without their ends.
pub(crate) fn lines(block: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = block;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let (line, after) = rest.split_at(end);
        rest = after.get(1..).unwrap_or_default();
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    })
}

/// A row without a mistake of its own.
pub(crate) struct CheckedRow<'r> {
    pub text: &'r str,
    fields: [&'r [u8]; COLUMNS],
    pub publisher: &'r [u8],
    /// Its id and its time stamp.
    pub numbers: [i64; 2],
}

/// Checks a row by itself. Every row is checked, wanted or not: a damaged one could be of any
/// publisher.
pub(crate) fn check_line<'l>(
    line: &'l [u8],
    labels: &Labels,
) -> std::result::Result<CheckedRow<'l>, String> {
    let fields = cut(line)?;
    let [id, title, _url, publisher, category, _story, _hostname, timestamp] = fields;
    let text = std::str::from_utf8(line)
        .map_err(|e| format!("is not UTF-8 at byte {}", e.valid_up_to()))?;
    let number = |name: &str, field: &[u8]| {
        let number = std::str::from_utf8(field).ok().and_then(|f| f.parse::<i64>().ok());
        number.ok_or_else(|| {
            format!("has `{}` as its {name}, which is not a whole number", lossy(field))
        })
    };
    let numbers = [number("id", id)?, number("timestamp", timestamp)?];
    if std::str::from_utf8(category).ok().and_then(|c| labels.find(c)).is_none() {
        return Err(format!("has the unknown category `{}`", lossy(category)));
    }
    if title.len() > LONGEST_TITLE {
        return Err(format!(
            "has a title of {} bytes; at most {LONGEST_TITLE} are allowed",
            title.len()
        ));
    }
    if let Some(at) = memchr::memchr(0, line) {
        return Err(format!("has a zero byte at byte {at}"));
    }
    Ok(CheckedRow { text, fields, publisher, numbers })
}

/// What is wrong with a row that repeats an id.
pub(crate) fn repeats(id: i64) -> String {
    format!("repeats the id {id} of an earlier row")
}

impl<'c> PublisherChoice<'c> {
    pub fn new(wanted: RowFilter<'c>) -> Self {
        let all = wanted.publishers.iter().any(|p| p == "*");
        let publishers = if all { &[] } else { wanted.publishers };
        Self {
            all,
            labels: wanted.labels,
            rows: 0,
            kept: 0,
            publishers: publishers.iter().map(|p| (p.clone(), 0)).collect(),
            bad: BadRows::new(wanted.most_bad, false),
            number: 0,
            ids: Ids::default(),
            table: Table::default(),
        }
    }

    pub fn counts(self) -> Counts {
        Counts {
            rows: self.rows,
            kept: self.kept,
            publishers: self.publishers,
            bad: self.bad.count,
            told: self.bad.told,
            ids_checked: !self.ids.is_full(),
        }
    }

    fn line(&mut self, line: &[u8]) -> std::result::Result<(), String> {
        let CheckedRow { text, fields, publisher, numbers } = check_line(line, self.labels)?;
        if !self.ids.insert(numbers[0]) {
            return Err(repeats(numbers[0]));
        }
        if !self.all {
            match self.publishers.iter_mut().find(|(name, _)| name.as_bytes() == publisher) {
                Some((_, count)) => *count += 1,
                None => return Ok(()),
            }
        }
        self.kept += 1;
        self.table.push(text, fields.map(<[u8]>::len), numbers);
        Ok(())
    }
}

/// Rows that will become a table.
#[derive(Debug, Default)]
pub struct Table {
    /// The rows' lines, each with a newline.
    text: String,
    /// Where each row's fields begin in `text`, and where the last field ends.
    rows: Vec<[usize; COLUMNS + 1]>,
    /// Each row's id and time stamp.
    numbers: Vec<[i64; 2]>,
}

impl Table {
    pub fn push(&mut self, line: &str, lengths: [usize; COLUMNS], numbers: [i64; 2]) {
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

    /// The ids and the time stamps, row by row.
    pub fn numbers(&self) -> [Vec<i64>; 2] {
        [0, 1].map(|which| self.numbers.iter().filter_map(|n| n.get(which).copied()).collect())
    }

    /// The fields of a column, row by row; column 0 is the one after the id.
    pub fn texts(&self, at: usize) -> impl Iterator<Item = &str> {
        let field = move |row: &[usize; COLUMNS + 1]| {
            Some(self.text.get(*row.get(at + 1)?..*row.get(at + 2)? - 1).unwrap_or_default())
        };
        self.rows.iter().filter_map(field)
    }
}

/// A row's eight fields.
pub(crate) fn cut(line: &[u8]) -> Result<[&[u8]; COLUMNS], String> {
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
mod tests;
