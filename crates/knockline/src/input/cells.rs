//! CSV and TSV, row by row.

use std::cell::Cell;
use std::io::Read;
use std::rc::Rc;

use failure::{Failure, Result};

use super::{Batch, InputArguments, LARGEST, LabelColumn, PREDICTED, Reader, Rows, find_columns};

/// CSV or TSV.
pub struct CellReader {
    pub delimiter: u8,
    reader: csv::Reader<Box<dyn Read>>,
    pub header: csv::StringRecord,
    text: usize,
    label: Option<usize>,
    quotes: Rc<Cell<Option<OpenQuote>>>,
}

/// A quote that begins a cell and does not end with it.
#[derive(Clone, Copy)]
struct OpenQuote {
    /// The byte of the file, and the line.
    at: u64,
    line: u64,
}

/// Passes CSV on and looks for the first quote that is never closed, or closed within a text, which may
/// be that of a later row. The reader takes such rows as one.
struct QuoteFinder {
    reader: Reader,
    state: State,
    at: u64,
    line: u64,
    found: Rc<Cell<Option<OpenQuote>>>,
}

enum State {
    /// A cell begins.
    Start,
    /// In a cell without quotes.
    Plain,
    /// In quotes.
    Quoted(OpenQuote),
    /// After a quote in such a cell, which ends it or is doubled.
    Closed(OpenQuote),
}

impl QuoteFinder {
    fn take(&mut self, byte: u8) {
        let is_end = matches!(byte, b',' | b'\n' | b'\r');
        let open = OpenQuote { at: self.at, line: self.line };
        self.state = match self.state {
            State::Quoted(open) if byte == b'"' => State::Closed(open),
            State::Quoted(open) => State::Quoted(open),
            State::Closed(open) if byte == b'"' => State::Quoted(open),
            State::Start if byte == b'"' => State::Quoted(open),
            _ if is_end => State::Start,
            State::Closed(open) => {
                self.find(open);
                State::Plain
            }
            _ => State::Plain,
        };
        self.at += 1;
        self.line += u64::from(byte == b'\n');
    }

    fn find(&self, open: OpenQuote) {
        self.found.set(Some(self.found.get().unwrap_or(open)));
    }
}

impl Read for QuoteFinder {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        let n = self.reader.read(to)?;
        to.get(..n).unwrap_or_default().iter().for_each(|byte| self.take(*byte));
        if let State::Quoted(open) = self.state
            && n == 0
            && !to.is_empty()
        {
            self.find(open);
        }
        Ok(n)
    }
}

impl CellReader {
    pub fn open(
        reader: Reader,
        delimiter: u8,
        how: &InputArguments,
        label: &LabelColumn,
        (name, is_echoed): (&str, bool),
    ) -> Result<Self> {
        let mut builder = csv::ReaderBuilder::new();
        builder.delimiter(delimiter).has_headers(!how.no_header);
        // A quote in TSV is a character.
        builder.quoting(delimiter == b',');
        let quotes = Rc::new(Cell::new(None));
        let source: Box<dyn Read> = if delimiter == b',' {
            let (state, found) = (State::Start, Rc::clone(&quotes));
            Box::new(QuoteFinder { reader, state, at: 0, line: 1, found })
        } else {
            Box::new(reader)
        };
        let mut reader = builder.from_reader(source);
        if how.no_header {
            let number = |name: Option<&String>, option: &str| {
                let number = name.and_then(|name| name.parse::<usize>().ok());
                number.and_then(|number| number.checked_sub(1)).ok_or_else(|| {
                    Failure::usage(
                        "without a header, a column has a number and not a name",
                        option,
                        format_args!("give {option} N, counted from 1"),
                    )
                })
            };
            let text = number(how.text_column.as_ref(), "--text-column")?;
            let label = match label {
                LabelColumn::Unwanted => None,
                LabelColumn::Usual => Some(number(None, "--label-column")?),
                LabelColumn::Named(name) => Some(number(Some(name), "--label-column")?),
            };
            return Ok(Self {
                delimiter,
                reader,
                header: csv::StringRecord::new(),
                text,
                label,
                quotes,
            });
        }
        let header = reader.headers().map_err(|e| wrong_cells(&e, name))?.clone();
        let names: Vec<&str> = header.iter().collect();
        if is_echoed && let Some(column) = PREDICTED.into_iter().find(|name| names.contains(name)) {
            return Err(super::taken(column, name));
        }
        let (text, label) = find_columns(&names, how.text_column.as_deref(), label, name)?;
        Ok(Self { delimiter, reader, header, text, label, quotes })
    }

    /// The quote of the row before this place that does not end with its cell.
    fn open_quote(&self) -> Option<OpenQuote> {
        self.quotes.get().filter(|quote| quote.at < self.reader.position().byte())
    }

    pub fn next(&mut self, batch: &mut Batch, most: usize, name: &str) -> Result<bool> {
        let mut rows = match std::mem::take(&mut batch.rows) {
            Rows::Cells(rows) => rows,
            _ => Vec::new(),
        };
        rows.clear();
        let mut bytes = 0;
        let result = loop {
            if batch.texts.len() >= most || bytes > LARGEST {
                break Ok(true);
            }
            let mut row = csv::StringRecord::new();
            let read = self.reader.read_record(&mut row);
            if let Some(quote) = self.open_quote() {
                break Err(open_quote(quote, name));
            }
            match read {
                Ok(true) => {}
                Ok(false) => break Ok(false),
                Err(e) => break Err(wrong_cells(&e, name)),
            }
            let cell = |at: usize| row.get(at).map(str::to_owned);
            let Some(text) = cell(self.text) else {
                break Err(few_cells(&row, name));
            };
            if let Some(at) = self.label {
                match cell(at) {
                    Some(label) => batch.labels.push(label),
                    None => break Err(few_cells(&row, name)),
                }
            }
            bytes += row.as_slice().len();
            batch.texts.push(text);
            rows.push(row);
        };
        batch.rows = Rows::Cells(rows);
        result
    }
}

fn few_cells(row: &csv::StringRecord, name: &str) -> Failure {
    let line = row.position().map_or(0, csv::Position::line);
    Failure::input(
        format_args!("the row has only {} columns", row.len()),
        format_args!("{name}, line {line}"),
        "give rows with the column of the text",
    )
}

fn open_quote(OpenQuote { line, .. }: OpenQuote, name: &str) -> Failure {
    Failure::input(
        "a cell begins with a quote and does not end with one",
        format_args!("{name}, line {line}"),
        "put a quote at both ends, and double those that are part of the text: \"\"",
    )
}

fn wrong_cells(error: &csv::Error, name: &str) -> Failure {
    let remedy = "give UTF-8 rows that all have the same number of columns";
    let line = error.position().map(|at| format!(", line {}", at.line())).unwrap_or_default();
    Failure::input(error, format_args!("{name}{line}"), remedy)
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Cursor};

    use proptest::prelude::*;

    use super::*;

    /// Where the first open quote of a file is: its byte and its line.
    fn found(text: &[u8], at_once: usize) -> Option<(u64, u64)> {
        let source: Box<dyn Read> = Box::new(Cursor::new(text.to_vec()));
        let found = Rc::new(Cell::new(None));
        let reader = BufReader::with_capacity(at_once, source);
        let mut finder =
            QuoteFinder { reader, state: State::Start, at: 0, line: 1, found: Rc::clone(&found) };
        let mut bytes = Vec::new();
        finder.read_to_end(&mut bytes).expect("reads");
        assert_eq!(bytes, text, "the bytes are passed on");
        found.get().map(|OpenQuote { at, line }| (at, line))
    }

    #[test]
    fn quotes_that_do_not_end_a_cell_are_found() {
        for (text, want) in [
            ("a,\"b\"\r\n\"c\"\"d\",e \"f\"\n", None),
            ("a\n\"b\nc\n", Some((2, 2))),
            ("a\n\"b,1\n\"c\",2\n", Some((2, 2))),
            ("a\n,\"b\"c\n\"", Some((3, 2))),
            ("\"", Some((0, 1))),
        ] {
            assert_eq!(found(text.as_bytes(), 8), want, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_csv_writes_has_none(
            rows in proptest::collection::vec(proptest::collection::vec("[a\",\n\r é]{0,6}", 2), 0..6), at_once in 1_usize..20
        ) {
            let mut writer = csv::Writer::from_writer(Vec::new());
            for row in &rows {
                writer.write_record(row).expect("writes");
            }
            let mut text = writer.into_inner().expect("writes");
            prop_assert_eq!(found(&text, at_once), None);
            let at = text.len() as u64;
            let line = text.split(|byte| *byte == b'\n').count() as u64;
            text.extend_from_slice("\"é,".as_bytes());
            prop_assert_eq!(found(&text, at_once), Some((at, line)));
        }
    }
}
