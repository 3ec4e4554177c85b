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
    quotes: Rc<Quotes>,
}

/// What a [`QuoteCounter`] has seen.
#[derive(Default)]
struct Quotes {
    count: Cell<usize>,
    /// Whether the file has ended.
    ended: Cell<bool>,
}

/// Counts the quotes that are read.
struct QuoteCounter {
    reader: Reader,
    quotes: Rc<Quotes>,
}

impl Read for QuoteCounter {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        let n = self.reader.read(to)?;
        let Quotes { count, ended } = &*self.quotes;
        let read = to.get(..n).unwrap_or_default();
        count.set(count.get() + read.iter().map(|byte| usize::from(*byte == b'"')).sum::<usize>());
        ended.set(n == 0 && !to.is_empty());
        Ok(n)
    }
}

impl CellReader {
    pub fn open(
        reader: Reader,
        delimiter: u8,
        how: &InputArguments,
        label: &LabelColumn,
        name: &str,
    ) -> Result<Self> {
        let mut builder = csv::ReaderBuilder::new();
        builder.delimiter(delimiter).has_headers(!how.no_header);
        // A quote in TSV is a character.
        builder.quoting(delimiter == b',');
        let quotes = Rc::<Quotes>::default();
        let counted = QuoteCounter { reader, quotes: Rc::clone(&quotes) };
        let mut reader = builder.from_reader(Box::new(counted) as Box<dyn Read>);
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
        let taken = PREDICTED.into_iter().find(|name| names.contains(name));
        if let Some(column) = taken.filter(|_| *label == LabelColumn::Unwanted) {
            return Err(super::taken(column, name));
        }
        let (text, label) = find_columns(&names, how.text_column.as_deref(), label, name)?;
        Ok(Self { delimiter, reader, header, text, label, quotes })
    }

    /// Whether the file has ended within quotes, so that its last row may have swallowed others.
    fn is_open(&self) -> bool {
        self.delimiter == b',' && self.quotes.ended.get() && self.quotes.count.get() % 2 == 1
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
            match self.reader.read_record(&mut row) {
                Ok(true) => {}
                Ok(false) => break Ok(false),
                Err(e) if self.is_open() => break Err(open_quote(e.position(), name)),
                Err(e) => break Err(wrong_cells(&e, name)),
            }
            if self.is_open() && row.iter().any(|cell| cell.contains('\n')) {
                break Err(open_quote(row.position(), name));
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

fn open_quote(place: Option<&csv::Position>, name: &str) -> Failure {
    let line = place.map_or(0, csv::Position::line);
    Failure::input(
        "a quote is never closed, so that the rows after it are part of a cell",
        format_args!("{name}, line {line}"),
        "close it, or double a quote that is part of a text: \"\"",
    )
}

fn wrong_cells(error: &csv::Error, name: &str) -> Failure {
    let remedy = "give UTF-8 rows that all have the same number of columns";
    Failure::input(error, name, remedy)
}
