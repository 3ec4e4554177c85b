//! The same rows from ranges of the bytes: each range is cut and checked on its own, what only the
//! whole can tell (numbers of rows, repeated ids, how many bad rows there are) is settled in their
//! order, and tables are then made from the ranges' rows.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;

use failure::{Failure, Result};
use serde::{Deserialize, Serialize};

use crate::counts::{BadRows, Counts};
use crate::ids::Ids;
use crate::rows::{
    COLUMNS, CheckedRow, PublisherChoice, RowFilter, TABLE_BYTES, TABLE_ROWS, Table, WAITING,
    blocks_of, check, check_line, cut, lines, repeats,
};

/// Bytes of a row's record among those of all good rows: its id and its number in the range.
const GOOD: usize = 12;
/// Bytes of a row's record among those of the rows of chosen publishers: its place among the good
/// rows, its length and its publisher.
const CHOSEN: usize = 12;

/// The files of a range.
pub struct RangeFiles<'f> {
    /// The records of all good rows.
    pub good: &'f Path,
    /// The records of the rows of chosen publishers.
    pub chosen: &'f Path,
    /// These rows, each with a newline.
    pub rows: &'f Path,
}

/// What else a range has.
#[derive(Serialize, Deserialize)]
pub struct RangeSummary {
    /// How many lines it has, blank ones included.
    lines: u64,
    /// How many rows.
    rows: u64,
    /// The first bad rows: the number in the range, and what is wrong.
    bad: Vec<(u64, String)>,
}

/// The range of whole rows that begin in part `part` of `parts` of the file.
pub fn range_of(file: &mut File, part: usize, parts: usize) -> std::io::Result<Range<u64>> {
    let size = file.metadata()?.len();
    let (part, parts) = (part as u128, parts.max(1) as u128);
    let at = |part: u128| u64::try_from(u128::from(size) * part / parts).unwrap_or(size);
    let mut start_of_row = |at: u64| -> std::io::Result<u64> {
        if at == 0 || at >= size {
            return Ok(at.min(size));
        }
        file.seek(SeekFrom::Start(at - 1))?;
        let mut reader = BufReader::new(&mut *file);
        let mut skipped = Vec::new();
        std::io::BufRead::read_until(&mut reader, b'\n', &mut skipped)?;
        Ok((at - 1 + skipped.len() as u64).min(size))
    };
    Ok(start_of_row(at(part))?..start_of_row(at(part + 1))?)
}

/// Cuts and checks the rows of a range.
pub fn read_range(
    from: &Path,
    (part, parts): (usize, usize),
    place: &str,
    wanted: RowFilter<'_>,
    files: &RangeFiles<'_>,
) -> Result<RangeSummary> {
    let unreadable = |e: std::io::Error| Failure::io("read", from, &e);
    let mut file = File::open(from).map_err(unreadable)?;
    let range = range_of(&mut file, part, parts).map_err(unreadable)?;
    file.seek(SeekFrom::Start(range.start)).map_err(unreadable)?;
    let mut reader = file.take(range.end - range.start);
    let create = |path: &Path| {
        let file = File::create(path).map_err(|e| Failure::io("write", path, &e))?;
        Ok(BufWriter::with_capacity(1 << 20, file))
    };
    let mut out = [create(files.good)?, create(files.chosen)?, create(files.rows)?];
    let mut summary = RangeSummary { lines: 0, rows: 0, bad: Vec::new() };
    let (blocks, cut) = std::sync::mpsc::sync_channel(WAITING);
    std::thread::scope(|scope| {
        let is_first = range.start == 0;
        let read = scope.spawn(move || blocks_of(&mut reader, place, is_first, &blocks, |_| ()));
        let mut good = 0_u32;
        let mut write = |block: &[u8]| -> std::io::Result<()> {
            for line in lines(block) {
                summary.lines += 1;
                if line.is_empty() {
                    continue;
                }
                summary.rows += 1;
                let row = match check_line(line, wanted.labels) {
                    Ok(row) => row,
                    Err(what) => {
                        // After so many, the whole is refused.
                        if summary.bad.len() as u64 <= wanted.most_bad {
                            summary.bad.push((summary.lines, what));
                        }
                        continue;
                    }
                };
                let [good_out, chosen_out, rows_out] = &mut out;
                good_out.write_all(&row.numbers[0].to_le_bytes())?;
                let number = u32::try_from(summary.lines).unwrap_or(u32::MAX);
                good_out.write_all(&number.to_le_bytes())?;
                if let Some(publisher) = publisher_of(&row, wanted.publishers) {
                    chosen_out.write_all(&good.to_le_bytes())?;
                    let length = u32::try_from(row.text.len()).unwrap_or(u32::MAX);
                    chosen_out.write_all(&length.to_le_bytes())?;
                    chosen_out.write_all(&publisher.to_le_bytes())?;
                    rows_out.write_all(row.text.as_bytes())?;
                    rows_out.write_all(b"\n")?;
                }
                good += 1;
            }
            Ok(())
        };
        let written = cut.iter().try_for_each(|block: Vec<u8>| write(&block));
        drop(cut);
        let read = read.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        written
            .and_then(|()| out.iter_mut().try_for_each(Write::flush))
            .map_err(|e| Failure::io("write", files.rows, &e))?;
        read.map(|()| summary)
    })
}

/// The place of a row's publisher among the chosen ones, or 0 if all are chosen.
fn publisher_of(row: &CheckedRow<'_>, chosen: &[String]) -> Option<u32> {
    if chosen.iter().any(|p| p == "*") {
        return Some(0);
    }
    let place = chosen.iter().position(|name| name.as_bytes() == row.publisher)?;
    u32::try_from(place).ok()
}

/// Which rows go into which table.
#[derive(Serialize, Deserialize)]
pub struct Whole {
    counts: Counts,
    /// For each table, the rows of each range that are in it, as places among the chosen ones of the
    /// range, first and after the last.
    tables: Vec<Vec<(usize, usize, usize)>>,
    /// Chosen rows that are bad, because they repeat an id: the range, and the place in it.
    repeated: Vec<(usize, usize)>,
}

impl Whole {
    /// The number of tables.
    pub fn tables(&self) -> usize {
        self.tables.len()
    }

    /// What the summary says.
    pub fn into_counts(self) -> Counts {
        self.counts
    }
}

/// Settles what only the whole can tell. `range` gives the summary and the files of each range.
pub fn settle<'f>(
    ranges: usize,
    place: &str,
    wanted: RowFilter<'_>,
    mut range: impl FnMut(usize) -> Result<RangeSummary>,
    files: impl Fn(usize) -> [std::path::PathBuf; 2] + 'f,
) -> Result<Whole> {
    let all = wanted.publishers.iter().any(|p| p == "*");
    let mut whole = Whole {
        counts: PublisherChoice::new(wanted).counts(),
        tables: Vec::new(),
        repeated: Vec::new(),
    };
    let mut bad_rows = BadRows::new(wanted.most_bad, false);
    let mut ids = Ids::default();
    let mut filling = Filling::default();
    let mut lines_before = 0;
    for at in 0..ranges {
        let RangeSummary { lines, rows, bad } = range(at)?;
        let [good, chosen] = files(at);
        let mut bad = bad.into_iter().peekable();
        let mut chosen = Records::<CHOSEN>::open(&chosen)?;
        let mut next = chosen.next()?;
        let mut chosen_place = 0;
        let mut good = Records::<GOOD>::open(&good)?;
        let mut good_place = 0;
        while let Some(record) = good.next()? {
            let (id, number) = (i64_at(&record), u32_at(&record, 8));
            while let Some((number, what)) = bad.next_if(|(bad, _)| *bad < u64::from(number)) {
                bad_rows.add(&what, place, "row", lines_before + number)?;
            }
            let is_new = ids.insert(id);
            if !is_new {
                let what = repeats(id);
                bad_rows.add(&what, place, "row", lines_before + u64::from(number))?;
            }
            if let Some(record) = next.filter(|record| u32_at(record, 0) == good_place) {
                if is_new {
                    whole.counts.kept += 1;
                    let publisher = u32_at(&record, 8) as usize;
                    if let Some((_, count)) = whole.counts.publishers.get_mut(publisher)
                        && !all
                    {
                        *count += 1;
                    }
                    filling.add(at, chosen_place, u32_at(&record, 4) as usize + 1);
                } else {
                    whole.repeated.push((at, chosen_place));
                }
                chosen_place += 1;
                next = chosen.next()?;
            }
            good_place += 1;
        }
        for (number, what) in bad {
            bad_rows.add(&what, place, "row", lines_before + number)?;
        }
        whole.counts.rows += rows;
        lines_before += lines;
    }
    whole.tables = filling.end();
    whole.counts.bad = bad_rows.count;
    whole.counts.told = bad_rows.told;
    whole.counts.ids_checked = !ids.is_full();
    whole.counts = check(whole.counts, place)?;
    Ok(whole)
}

/// The tables so far, filled as [`Table::is_full`] says.
#[derive(Default)]
struct Filling {
    done: Vec<Vec<(usize, usize, usize)>>,
    table: Vec<(usize, usize, usize)>,
    rows: usize,
    bytes: usize,
}

impl Filling {
    fn add(&mut self, range: usize, place: usize, bytes: usize) {
        match self.table.last_mut() {
            // Repeated rows in between are left out when the table is made.
            Some((last, _, end)) if *last == range => *end = place + 1,
            _ => self.table.push((range, place, place + 1)),
        }
        self.rows += 1;
        self.bytes += bytes;
        if self.rows >= TABLE_ROWS || self.bytes >= TABLE_BYTES {
            self.done.push(std::mem::take(&mut self.table));
            (self.rows, self.bytes) = (0, 0);
        }
    }

    fn end(mut self) -> Vec<Vec<(usize, usize, usize)>> {
        if !self.table.is_empty() {
            self.done.push(self.table);
        }
        self.done
    }
}

/// Makes a table. `files` gives the files of each range: the chosen rows' records, and the rows.
pub fn table(
    whole: &Whole,
    which: usize,
    files: impl Fn(usize) -> [std::path::PathBuf; 2],
) -> Result<Table> {
    let mut table = Table::default();
    for &(range, first, end) in whole.tables.get(which).into_iter().flatten() {
        let [chosen, rows] = files(range);
        let damaged = || {
            Failure::failed(
                "a piece of a shared run is damaged",
                rows.display(),
                "run the same command with --fresh",
            )
        };
        let mut records = Records::<CHOSEN>::open(&chosen)?;
        let (mut start, mut lengths) = (0, Vec::new());
        for place in 0..end {
            let length = u32_at(&records.next()?.ok_or_else(damaged)?, 4) as usize + 1;
            if place < first { start += length as u64 } else { lengths.push(length) }
        }
        let mut file = File::open(&rows).map_err(|e| Failure::io("read", &rows, &e))?;
        let mut bytes = vec![0; lengths.iter().sum()];
        file.seek(SeekFrom::Start(start))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(|e| Failure::io("read", &rows, &e))?;
        let mut rest = &bytes[..];
        for (place, length) in (first..end).zip(lengths) {
            let (line, after) = rest.split_at(length);
            rest = after;
            if whole.repeated.binary_search(&(range, place)).is_ok() {
                continue;
            }
            let line = line.get(..length - 1).unwrap_or_default();
            let (fields, numbers) = numbers_of(line).ok_or_else(damaged)?;
            let text = std::str::from_utf8(line).map_err(|_| damaged())?;
            table.push(text, fields, numbers);
        }
    }
    Ok(table)
}

/// The lengths of a checked row's fields, and its id and time stamp.
fn numbers_of(line: &[u8]) -> Option<([usize; COLUMNS], [i64; 2])> {
    let fields = cut(line).ok()?;
    let number = |field: &[u8]| std::str::from_utf8(field).ok()?.parse().ok();
    Some((fields.map(<[u8]>::len), [number(fields[0])?, number(fields[COLUMNS - 1])?]))
}

/// A file of records of `N` bytes.
struct Records<'p, const N: usize> {
    file: BufReader<File>,
    path: &'p Path,
}

impl<'p, const N: usize> Records<'p, N> {
    fn open(path: &'p Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Failure::io("read", path, &e))?;
        Ok(Self { file: BufReader::with_capacity(1 << 18, file), path })
    }

    fn next(&mut self) -> Result<Option<[u8; N]>> {
        let mut record = [0; N];
        match self.file.read_exact(&mut record) {
            Ok(()) => Ok(Some(record)),
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
            Err(e) => Err(Failure::io("read", self.path, &e)),
        }
    }
}

fn i64_at(record: &[u8]) -> i64 {
    record.first_chunk().map_or(0, |bytes| i64::from_le_bytes(*bytes))
}

fn u32_at(record: &[u8], at: usize) -> u32 {
    let bytes = record.get(at..).and_then(|rest| rest.first_chunk());
    bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use schema::Labels;

    type Read = (Vec<String>, u64, u64, Vec<(String, u64)>, Vec<String>);

    /// What a reading gives: the tables' titles and ids, or the error.
    fn shown(tables: &[Table], counts: &Counts) -> Read {
        let rows = tables.iter().map(|table| {
            let titles: Vec<&str> = table.texts(0).collect();
            format!("{:?} {titles:?}", table.numbers())
        });
        (rows.collect(), counts.rows, counts.kept, counts.publishers.clone(), counts.told.clone())
    }

    fn whole(text: &[u8], wanted: RowFilter<'_>) -> std::result::Result<Read, String> {
        let mut tables = Vec::new();
        let keep = |table: Table| {
            tables.push(table);
            Ok(())
        };
        let counts = crate::rows::read(&mut &*text, "x.csv", wanted, keep, |_| ());
        counts.map(|counts| shown(&tables, &counts)).map_err(|e| format!("{}, {}", e.what, e.place))
    }

    fn in_ranges(
        text: &[u8],
        parts: usize,
        wanted: RowFilter<'_>,
    ) -> std::result::Result<Read, String> {
        let dir = tempfile::tempdir().expect("a folder");
        let from = dir.path().join("table");
        std::fs::write(&from, text).expect("writes");
        let file = |name: &str, part: usize| dir.path().join(format!("{name}-{part}"));
        let read = || -> Result<Read> {
            let mut summaries = Vec::new();
            for part in 0..parts {
                let [good, chosen, rows] = ["good", "chosen", "rows"].map(|name| file(name, part));
                let files = RangeFiles { good: &good, chosen: &chosen, rows: &rows };
                summaries.push(read_range(&from, (part, parts), "x.csv", wanted, &files)?);
            }
            let mut summaries = summaries.into_iter();
            let summary = |_| Ok(summaries.next().expect("a summary"));
            let files = |part| ["good", "chosen"].map(|name| file(name, part));
            let whole = settle(parts, "x.csv", wanted, summary, files)?;
            let files = |part| ["chosen", "rows"].map(|name| file(name, part));
            let tables: Result<Vec<Table>> =
                (0..whole.tables()).map(|which| table(&whole, which, files)).collect();
            Ok(shown(&tables?, &whole.into_counts()))
        };
        read().map_err(|e| format!("{}, {}", e.what, e.place))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn ranges_give_what_the_whole_gives(
            rows in prop::collection::vec((0_i64..60, 0_usize..3, prop_oneof![8 => Just(0_u8), 1 => 1_u8..4], "[a-zé\"]{0,12}"), 0..60),
            parts in 1_usize..9,
            most_bad in prop_oneof![Just(0_u64), Just(3), Just(100)],
            end in any::<bool>(),
            all in any::<bool>(),
        ) {
            let publishers = ["Reuters", "Daily Mail", "Another"];
            let mut text = String::new();
            for (id, publisher, kind, title) in &rows {
                let publisher = publishers[*publisher];
                let line = match kind {
                    0 => format!("{id}\t{title}\thttp://a\t{publisher}\tb\ts\ta\t13944\n"),
                    1 => "\n".to_owned(),
                    2 => format!("{id}\t{title}\n"),
                    _ => format!("{id}\t{title}\thttp://a\t{publisher}\tb\ts\ta\t13944\r\n"),
                };
                text.push_str(&line);
            }
            if !end {
                text.pop();
            }
            let chosen: Vec<String> =
                if all { vec!["*".into()] } else { vec!["Reuters".into(), "Daily Mail".into()] };
            let wanted = RowFilter { publishers: &chosen, labels: &Labels::news(), most_bad };
            prop_assert_eq!(in_ranges(text.as_bytes(), parts, wanted), whole(text.as_bytes(), wanted));
        }
    }

    #[test]
    fn tables_are_cut_where_they_are_cut_in_the_whole() {
        let row = |id: usize| format!("{id}\tt{id}\thttp://a\tReuters\tb\ts\ta\t13944\n");
        let mut text: String = (0..TABLE_ROWS + 5).map(row).collect();
        text += &row(3);
        text += &row(TABLE_ROWS + 9);
        let chosen = ["Reuters".to_owned()];
        let wanted = RowFilter { publishers: &chosen, labels: &Labels::news(), most_bad: 1 };
        let wanted_result = whole(text.as_bytes(), wanted);
        assert_eq!(wanted_result.as_ref().map(|read| read.0.len()), Ok(2));
        assert_eq!(in_ranges(text.as_bytes(), 7, wanted), wanted_result);
    }
}
