//! CSV (RFC 4180) and TSV. This module cuts the stream into rows, so that a bad one can be named
//! and left out; polars reads their fields.

use std::io::{Cursor, Read};

use failure::{Failure, Result};
use formats::table;
use polars::prelude::{
    CsvReadOptions, DataFrame, DataType, PlSmallStr, PolarsResult, Schema, SerReader,
};

use super::TextOptions;
use super::columns::{Columns, number};
use super::intake::{Intake, Place, Row};
use super::records::Records;

/// Bytes and rows that polars reads at once.
const BYTES: usize = 1 << 22;
const ROWS: usize = 1 << 16;
/// More columns than any table of texts has.
const MOST_COLUMNS: usize = 1 << 14;

/// How fields are separated.
#[derive(Clone, Copy)]
pub struct Dialect {
    pub separator: u8,
    /// Whether a field in quotes may contain separators and line ends.
    pub quoting: bool,
    /// Whether the first row names the columns.
    pub header: bool,
}

/// Reads all rows of `reader`. `part` is that of rows without a column of parts.
pub fn read(
    reader: &mut dyn Read,
    place: &str,
    part: Option<&str>,
    dialect: Dialect,
    options: &TextOptions,
    intake: &mut Intake,
) -> Result<()> {
    let quoted = dialect.quoting.then_some(dialect.separator);
    let mut records = Records::new(reader, place, quoted);
    let mut block = Block {
        dialect,
        place,
        part,
        width: 0,
        columns: None,
        bytes: Vec::new(),
        rows: Vec::new(),
    };
    while let Some((line, record)) = records.next()? {
        let width = std::str::from_utf8(record)
            .map_err(|e| format!("is not UTF-8 at byte {}", e.valid_up_to()))
            .and_then(|_| width(record, dialect));
        if block.columns.is_none() {
            // Without it nothing can be read, so it cannot be left out.
            let wrong = |what: String| {
                Failure::input(
                    format_args!("line {line} {what}"),
                    format_args!("{place}, line {line}"),
                    "correct the first row, which shows the columns",
                )
            };
            block.width = width.clone().map_err(wrong)?;
            if block.width > MOST_COLUMNS {
                let what =
                    format!("has {} columns; at most {MOST_COLUMNS} are supported", block.width);
                return Err(wrong(what));
            }
            let names: Vec<String> = if dialect.header {
                block.header(record)?
            } else {
                (0..block.width).map(column).collect()
            };
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            block.columns = Some(options.columns.find(&names, place)?);
            if dialect.header {
                continue;
            }
        }
        let wrong = match width {
            Ok(width) if width == block.width => None,
            Ok(width) => Some(format!("has {width} columns, not {}", block.width)),
            Err(what) => Some(what),
        };
        if wrong.is_none() {
            if block.bytes.is_empty() {
                block.begin();
            }
            block.bytes.extend_from_slice(record);
            block.bytes.push(b'\n');
        }
        block.rows.push(BlockRow { line, number: intake.number(), wrong });
        if block.rows.len() == ROWS || block.bytes.len() >= BYTES {
            block.pass_on(intake)?;
        }
    }
    block.pass_on(intake)
}

/// A row of a block.
struct BlockRow {
    /// The line in which it begins.
    line: u64,
    /// Its number, counted over all files.
    number: u64,
    /// What is wrong with it, if it is not among the rows that polars reads.
    wrong: Option<String>,
}

/// Rows that polars reads together.
struct Block<'b> {
    dialect: Dialect,
    place: &'b str,
    part: Option<&'b str>,
    width: usize,
    columns: Option<Columns>,
    bytes: Vec<u8>,
    rows: Vec<BlockRow>,
}

impl Block<'_> {
    /// Begins the bytes with a row that is dropped: polars takes a table whose first bytes are those
    /// of a compressed file, such as `x^`, for one.
    fn begin(&mut self) {
        self.bytes.push(b'k');
        self.bytes.extend(std::iter::repeat_n(self.dialect.separator, self.width - 1));
        self.bytes.push(b'\n');
    }

    /// The columns' names.
    fn header(&mut self, record: &[u8]) -> Result<Vec<String>> {
        self.begin();
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.extend_from_slice(record);
        let frame = self.parse(bytes, &(0..self.width).collect::<Vec<_>>());
        let texts = frame.and_then(|frame| {
            let name = |at: usize| {
                Ok(frame.column(&column(at))?.str()?.get(0).unwrap_or_default().trim().to_owned())
            };
            (0..self.width).map(name).collect()
        });
        texts.map_err(|e| self.unread(&e))
    }

    fn parse(&self, bytes: Vec<u8>, wanted: &[usize]) -> PolarsResult<DataFrame> {
        let schema: Schema =
            (0..self.width).map(|at| (PlSmallStr::from(column(at)), DataType::String)).collect();
        let names: Vec<PlSmallStr> = wanted.iter().map(|at| column(*at).into()).collect();
        let Dialect { separator, quoting, .. } = self.dialect;
        CsvReadOptions::default()
            .with_has_header(false)
            .with_schema(Some(schema.into()))
            .with_columns(Some(names.into()))
            .map_parse_options(|options| {
                options
                    .with_separator(separator)
                    .with_quote_char(quoting.then_some(b'"'))
                    .with_missing_is_null(false)
            })
            .into_reader_with_file_handle(Cursor::new(bytes))
            .finish()
            .map(|frame| frame.slice(1, usize::MAX))
    }

    fn pass_on(&mut self, intake: &mut Intake) -> Result<()> {
        let Some(columns) = self.columns.clone().filter(|_| !self.rows.is_empty()) else {
            return Ok(());
        };
        let mut wanted: Vec<usize> = columns.all().collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut good = self.rows.iter().filter(|row| row.wrong.is_none()).count();
        let frame = if good > 0 {
            let bytes = std::mem::take(&mut self.bytes);
            self.parse(bytes, &wanted).map_err(|e| self.unread(&e))?
        } else {
            DataFrame::empty()
        };
        if frame.height() != good {
            let what = format_args!("{good} rows were read as {}", frame.height());
            return Err(Failure::failed(what, self.place, "this is a bug; please report it"));
        }
        if good == 0 {
            for BlockRow { line, number, wrong } in self.rows.drain(..) {
                let place = Place { file: self.place, unit: "line", number: line };
                intake.take_numbered(number, Err(wrong.unwrap_or_default()), place)?;
            }
            return Ok(());
        }
        good = 0;
        let path = std::path::Path::new(self.place);
        let texts = |at: usize| table::texts(&frame, &column(at), path);
        let of_text: Vec<_> = columns.texts.iter().map(|at| texts(*at)).collect::<Result<_>>()?;
        let label = texts(columns.label)?;
        let [id, group, part] = [columns.id, columns.group, columns.part].map(|at| at.map(texts));
        let (id, group, part) = (id.transpose()?, group.transpose()?, part.transpose()?);
        let mut joined = String::new();
        for BlockRow { line, number: at, wrong } in self.rows.drain(..) {
            let place = Place { file: self.place, unit: "line", number: line };
            if let Some(what) = wrong {
                intake.take_numbered(at, Err(what), place)?;
                continue;
            }
            let row = good;
            good += 1;
            let text = match &of_text[..] {
                [one] => one.get(row).unwrap_or_default(),
                several => {
                    joined.clear();
                    super::join(
                        &mut joined,
                        several.iter().map(|texts| texts.get(row).unwrap_or_default()),
                    );
                    &joined
                }
            };
            let fields = Row {
                id: None,
                text,
                label: label.get(row).unwrap_or_default(),
                group: group.map(|group| group.get(row).unwrap_or_default()),
                part: part.map_or(self.part, |part| part.get(row)),
            };
            let id = id.map(|id| number(id.get(row).unwrap_or_default())).transpose();
            intake.take_numbered(at, id.map(|id| Row { id, ..fields }), place)?;
        }
        Ok(())
    }

    fn unread(&self, error: &polars::prelude::PolarsError) -> Failure {
        Failure::input(error, self.place, "check that the file is a table of separated fields")
    }
}

fn column(at: usize) -> String {
    format!("column_{}", at + 1)
}

/// How many fields a row has, or what is wrong with its quotes.
fn width(record: &[u8], dialect: Dialect) -> std::result::Result<usize, String> {
    let Dialect { separator, quoting, .. } = dialect;
    if !quoting || memchr::memchr(b'"', record).is_none() {
        return Ok(memchr::memchr_iter(separator, record).count() + 1);
    }
    let (mut fields, mut rest) = (1, record);
    loop {
        let end = if let Some(quoted) = rest.strip_prefix(b"\"") {
            let mut length = 0;
            loop {
                let Some(quote) = memchr::memchr(b'"', quoted.get(length..).unwrap_or_default())
                else {
                    return Err(format!("has a quote in column {fields} that does not end"));
                };
                length += quote + 1;
                if quoted.get(length) != Some(&b'"') {
                    break;
                }
                length += 1;
            }
            length + 1
        } else {
            let end = memchr::memchr2(separator, b'"', rest).unwrap_or(rest.len());
            if rest.get(end) == Some(&b'"') {
                return Err(format!("has a quote within column {fields}, which is not in quotes"));
            }
            end
        };
        match rest.get(end) {
            None => return Ok(fields),
            Some(next) if *next == separator => {
                rest = rest.get(end + 1..).unwrap_or_default();
                fields += 1;
            }
            Some(_) => return Err(format!("has text after the quote that ends column {fields}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_and_wrong_quotes_found() {
        let csv = Dialect { separator: b',', quoting: true, header: true };
        let count = |record: &str| width(record.as_bytes(), csv);
        for (record, fields) in
            [("a", 1), ("a,b,", 3), ("\"a,\"\"b\",c", 2), ("\"\",\"\"", 2), ("\"a\nb\"", 1)]
        {
            assert_eq!(count(record), Ok(fields), "{record}");
        }
        assert!(count("a,b\"c").unwrap_err().contains("within column 2"));
        assert!(count("\"a\"b,c").unwrap_err().contains("ends column 1"));
        assert!(count("\"a").unwrap_err().contains("does not end"));
        let tsv = Dialect { separator: b'\t', quoting: false, header: true };
        assert_eq!(width(b"\"a\tb\"c\t", tsv), Ok(3));
    }
}
