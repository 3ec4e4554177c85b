//! Texts to classify, in the files that people have.

mod cells;

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use answers::Titles;
use clap::ValueEnum;
use failure::{Failure, Result};
use serde_json::{Map, Value};

use cells::CellReader;

/// The most bytes of a line or of a text.
const LONGEST: u64 = 1 << 24;
/// Bytes after which a batch ends.
const LARGEST: usize = 1 << 24;

/// A format of texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A text per line
    Lines,
    /// A JSON object per line
    Jsonl,
    /// Comma-separated, with a header
    Csv,
    /// Tab-separated, with a header
    Tsv,
    /// fastText's: `__label__` and the label, then the text
    Fasttext,
    /// Parquet
    Parquet,
}

impl Format {
    /// The format that a file's name says it has.
    pub fn of(path: &Path) -> Self {
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        match extension.to_ascii_lowercase().as_str() {
            "jsonl" | "ndjson" | "json" => Self::Jsonl,
            "csv" => Self::Csv,
            "tsv" => Self::Tsv,
            "parquet" => Self::Parquet,
            _ => Self::Lines,
        }
    }
}

/// A file, or stdin.
type Reader = BufReader<Box<dyn Read>>;

/// Where texts come from.
#[derive(clap::Args)]
pub struct InputArguments {
    /// The format of the files [default: by the name's ending]
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// The column, or the JSON key, of the text; without a header, its number from 1
    /// [default: text, title, headline or sentence]
    #[arg(long, value_name = "NAME")]
    pub text_column: Option<String>,
    /// CSV and TSV have no header
    #[arg(long)]
    pub no_header: bool,
}

/// The column of labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LabelColumn {
    /// Labels are not wanted.
    Unwanted,
    /// The column with one of the usual names.
    Usual,
    /// The column of this name, or number.
    Named(String),
}

/// The names that a column of texts, or of labels, usually has.
const TEXTS: [&str; 4] = ["text", "title", "headline", "sentence"];
const LABELS: [&str; 3] = ["label", "category", "class"];

/// Some texts, and the rows that they came in.
#[derive(Default)]
pub struct Batch {
    /// The texts.
    pub texts: Vec<String>,
    /// Their labels, if labels are wanted.
    pub labels: Vec<String>,
    /// Their rows.
    pub rows: Rows,
}

/// The rows that texts came in.
#[derive(Default)]
pub enum Rows {
    /// Nothing but the text.
    #[default]
    None,
    /// JSON objects, as they were written.
    Json(Vec<String>),
    /// Cells.
    Cells(Vec<csv::StringRecord>),
    /// A table.
    #[cfg(feature = "parquet")]
    Table(polars::prelude::DataFrame),
}

/// The key of an answer in JSON.
pub const PREDICTION: &str = "prediction";
/// The columns of an answer in CSV.
pub const PREDICTED: [&str; 2] = ["predicted", "probability"];

/// Texts, some at a time.
pub struct Input {
    name: String,
    kind: Kind,
    text: Option<String>,
    label: LabelColumn,
    is_echoed: bool,
}

enum Kind {
    Lines(Box<Titles>),
    Fasttext(Reader, u64),
    Jsonl(Reader, u64),
    Cells(Box<CellReader>),
    #[cfg(feature = "parquet")]
    Parquet(crate::parquet::TableReader),
}

impl Input {
    /// These texts.
    pub fn given(texts: Vec<String>) -> Self {
        Self::of("command line".into(), Kind::Lines(Box::new(Titles::given(texts))))
    }

    fn of(name: String, kind: Kind) -> Self {
        Self { name, kind, text: None, label: LabelColumn::Unwanted, is_echoed: false }
    }

    /// The texts of a file, or of stdin if there is no path. `is_echoed` says of a format whether the
    /// answers will stand beside the rows.
    pub fn open(
        path: Option<&PathBuf>,
        how: &InputArguments,
        label: LabelColumn,
        is_echoed: impl FnOnce(Format) -> bool,
    ) -> Result<Self> {
        let name = path.map_or_else(|| "stdin".to_owned(), |path| path.display().to_string());
        let mut format =
            how.format.unwrap_or_else(|| path.map_or(Format::Lines, |path| Format::of(path)));
        let wants_labels = label != LabelColumn::Unwanted;
        let source: Box<dyn Read> = match path {
            None => Box::new(std::io::stdin()),
            Some(path) => {
                let cannot = |e: &dyn std::fmt::Display| {
                    Failure::input(format_args!("cannot read: {e}"), &name, "give a file of texts")
                };
                let file = File::open(path).map_err(|e| cannot(&e))?;
                if file.metadata().is_ok_and(|m| m.is_dir()) {
                    return Err(cannot(&"it is a folder"));
                }
                Box::new(file)
            }
        };
        let mut reader = BufReader::with_capacity(1 << 18, source);
        if format == Format::Lines && wants_labels {
            format = Format::Fasttext;
        }
        let is_echoed = is_echoed(format);
        let kind = match format {
            Format::Lines => Kind::Lines(Box::new(match path {
                None => Titles::stdin(),
                Some(path) => Titles::files(std::slice::from_ref(path))?,
            })),
            Format::Fasttext => Kind::Fasttext(reader, 0),
            Format::Jsonl => Kind::Jsonl(reader, 0),
            Format::Csv | Format::Tsv => {
                skip_mark(&mut reader);
                let delimiter = if format == Format::Csv { b',' } else { b'\t' };
                let named = (name.as_str(), is_echoed);
                Kind::Cells(Box::new(CellReader::open(reader, delimiter, how, &label, named)?))
            }
            #[cfg(feature = "parquet")]
            Format::Parquet => {
                let Some(path) = path else {
                    return Err(Failure::usage(
                        "parquet cannot be read from stdin",
                        "--format",
                        "give --file PATH",
                    ));
                };
                let text = how.text_column.as_deref();
                let reader = crate::parquet::TableReader::open(path, text, &label, is_echoed)?;
                Kind::Parquet(reader)
            }
            #[cfg(not(feature = "parquet"))]
            Format::Parquet => {
                return Err(Failure::usage(
                    "this build of knockline reads no parquet",
                    name,
                    "build it with --features parquet, or give CSV or JSON lines",
                ));
            }
        };
        Ok(Self { name, kind, text: how.text_column.clone(), label, is_echoed })
    }

    /// The delimiter of CSV or TSV.
    pub fn delimiter(&self) -> Option<u8> {
        match &self.kind {
            Kind::Cells(of) => Some(of.delimiter),
            _ => None,
        }
    }

    /// The header of CSV or TSV, if there is one.
    pub fn header(&self) -> Option<&csv::StringRecord> {
        match &self.kind {
            Kind::Cells(of) if !of.header.is_empty() => Some(&of.header),
            _ => None,
        }
    }

    /// Puts the next texts into `batch`, at most `most`. `false` if there are no more. After an
    /// error, `batch` has the texts before it.
    pub fn next(&mut self, batch: &mut Batch, most: usize) -> Result<bool> {
        batch.texts.clear();
        batch.labels.clear();
        let mut bytes = 0;
        let full = |count: usize, bytes: usize| count >= most || bytes > LARGEST;
        match &mut self.kind {
            Kind::Lines(titles) => {
                batch.rows = Rows::None;
                loop {
                    let mut text = String::new();
                    if !titles.next(&mut text)? {
                        return Ok(false);
                    }
                    bytes += text.len();
                    batch.texts.push(text);
                    // What is there is answered before more is waited for.
                    if full(batch.texts.len(), bytes) || !titles.has_buffered_line() {
                        return Ok(true);
                    }
                }
            }
            Kind::Fasttext(reader, number) => {
                batch.rows = Rows::None;
                while !full(batch.texts.len(), bytes) {
                    let Some(line) = line(reader, number, &self.name)? else { return Ok(false) };
                    if line.trim().is_empty() {
                        continue;
                    }
                    let found = line.trim_start().strip_prefix("__label__");
                    let found = found.and_then(|rest| rest.split_once(char::is_whitespace));
                    let Some((label, text)) = found else {
                        return Err(Failure::input(
                            "the line does not begin with `__label__` and a label",
                            format_args!("{}, line {number}", self.name),
                            "give fastText's format, or CSV, JSON lines or parquet with --format",
                        ));
                    };
                    if text.trim_start().starts_with("__label__") {
                        return Err(Failure::input(
                            "the line has more than one label",
                            format_args!("{}, line {number}", self.name),
                            "give one label per line",
                        ));
                    }
                    bytes += text.len();
                    batch.labels.push(label.to_owned());
                    batch.texts.push(text.to_owned());
                }
                Ok(true)
            }
            Kind::Jsonl(reader, number) => {
                let mut rows = match std::mem::take(&mut batch.rows) {
                    Rows::Json(rows) => rows,
                    _ => Vec::new(),
                };
                rows.clear();
                let mut more = true;
                let read = loop {
                    if full(batch.texts.len(), bytes) {
                        break Ok(());
                    }
                    let columns = (self.text.as_deref(), &self.label);
                    match json_row(reader, number, &self.name, columns, self.is_echoed) {
                        Ok(Some((text, label, row))) => {
                            bytes += row.len();
                            batch.texts.push(text);
                            batch.labels.extend(label);
                            rows.push(row);
                            // An answer is not held back until the next line arrives.
                            if !reader.buffer().contains(&b'\n') {
                                break Ok(());
                            }
                        }
                        Ok(None) => {
                            more = false;
                            break Ok(());
                        }
                        Err(failure) => break Err(failure),
                    }
                };
                batch.rows = Rows::Json(rows);
                read.map(|()| more)
            }
            Kind::Cells(of) => of.next(batch, most, &self.name),
            #[cfg(feature = "parquet")]
            Kind::Parquet(of) => of.next(batch, most),
        }
    }
}

/// Skips a byte order mark.
fn skip_mark(reader: &mut Reader) {
    let mark = "\u{feff}".as_bytes();
    if reader.fill_buf().is_ok_and(|bytes| bytes.starts_with(mark)) {
        reader.consume(mark.len());
    }
}

/// The next line, without its end.
fn line(reader: &mut Reader, number: &mut u64, name: &str) -> Result<Option<String>> {
    *number += 1;
    let wrong = |what: &dyn std::fmt::Display| {
        let place = format!("{name}, line {number}");
        Failure::input(what, place, "give UTF-8 with lines of at most 16 MiB")
    };
    if *number == 1 {
        skip_mark(reader);
    }
    let mut bytes = Vec::new();
    let read = reader.by_ref().take(LONGEST + 1).read_until(b'\n', &mut bytes);
    match read {
        Ok(0) => return Ok(None),
        Ok(n) if n as u64 > LONGEST => return Err(wrong(&"the line is too long")),
        Ok(_) => {}
        Err(e) => return Err(wrong(&format_args!("cannot read: {e}"))),
    }
    while bytes.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        bytes.pop();
    }
    let text = String::from_utf8(bytes);
    text.map(Some).map_err(|e| wrong(&format_args!("the line is not UTF-8: {}", e.utf8_error())))
}

/// The place of a column among names: the wanted one, or one of the usual ones.
fn find_column(names: &[&str], wanted: Option<&str>, usual: &[&str]) -> Option<usize> {
    let place = |name: &str| names.iter().position(|of| *of == name);
    let alike = |name: &&str| names.iter().position(|of| of.eq_ignore_ascii_case(name));
    wanted.map_or_else(|| usual.iter().find_map(alike), place)
}

/// The place of the texts, and of the labels if they are wanted, among the names of columns.
pub fn find_columns(
    names: &[&str],
    text: Option<&str>,
    label: &LabelColumn,
    file: &str,
) -> Result<(usize, Option<usize>)> {
    let missing = |what: &str, wanted: Option<&str>, option: &str| {
        let wanted = wanted.map_or_else(|| format!("of {what}s"), |name| format!("`{name}`"));
        let known = names.get(..names.len().min(20)).unwrap_or_default().join(", ");
        let known = if names.is_empty() { "there are none" } else { &format!("there are {known}") };
        Failure::input(
            format_args!("there is no column {wanted}; {known}"),
            file,
            format_args!("name the column of {what}s with {option}"),
        )
    };
    let of_text =
        find_column(names, text, &TEXTS).ok_or_else(|| missing("text", text, "--text-column"))?;
    let label = match label {
        LabelColumn::Unwanted => return Ok((of_text, None)),
        LabelColumn::Usual => None,
        LabelColumn::Named(name) => Some(name.as_str()),
    };
    let of_label = find_column(names, label, &LABELS);
    let of_label = of_label.ok_or_else(|| missing("label", label, "--label-column"))?;
    Ok((of_text, Some(of_label)))
}

/// A text, its label and its row.
type JsonRow = (String, Option<String>, String);

fn json_row(
    reader: &mut Reader,
    number: &mut u64,
    name: &str,
    (text, wanted): (Option<&str>, &LabelColumn),
    is_echoed: bool,
) -> Result<Option<JsonRow>> {
    let line = loop {
        match line(reader, number, name)? {
            None => return Ok(None),
            Some(line) if line.trim().is_empty() => {}
            Some(line) => break line,
        }
    };
    let place = format!("{name}, line {number}");
    let row: Map<String, Value> = serde_json::from_str(&line).map_err(|e| {
        let remedy = "give one JSON object per line";
        Failure::input(format_args!("not a JSON object: {e}"), &place, remedy)
    })?;
    let names: Vec<&str> = row.keys().map(String::as_str).collect();
    let (of_text, of_label) = find_columns(&names, text, wanted, &place)?;
    let value = |at: usize| match row.values().nth(at) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Number(number)) => Ok(number.to_string()),
        Some(Value::Bool(value)) => Ok(value.to_string()),
        other => Err(Failure::input(
            format_args!("{} is not a text", other.unwrap_or(&Value::Null)),
            &place,
            "give a string",
        )),
    };
    let text = value(of_text)?;
    let label = of_label.map(value).transpose()?;
    if is_echoed && row.contains_key(PREDICTION) {
        return Err(taken(PREDICTION, &place));
    }
    Ok(Some((text, label, line.trim().to_owned())))
}

/// A row has a name that the answer will have.
pub fn taken(name: &str, place: &str) -> Failure {
    let what = format_args!("`{name}` is there already");
    Failure::input(what, place, "rename it or leave it out: the answer has this name")
}
