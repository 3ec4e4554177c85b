//! Takes rows from any format, checks them by the same rules, and writes the table of headlines.

use std::collections::BTreeSet;
use std::path::Path;

use failure::{Failure, Result};
use formats::table::{self, GROUP_ROWS, Writer};
use polars::prelude::{DataType, Schema, SchemaRef};
use schema::Labels;

use crate::counts::{BadRows, Counts};
use crate::ids::Ids;

/// Bytes of the longest text that is accepted.
pub const LONGEST_TEXT: usize = 1 << 20;
/// Bytes of the longest label, group or part.
const LONGEST_NAME: usize = 1 << 12;
/// Bytes of text at which rows are written, even if they are few.
const TABLE_BYTES: usize = 1 << 26;

/// A row's fields; `None` for a column that the data does not have.
#[derive(Clone, Copy)]
pub struct Row<'r> {
    pub id: Option<i64>,
    pub text: &'r str,
    pub label: &'r str,
    pub group: Option<&'r str>,
    pub part: Option<&'r str>,
}

/// Where a row is: its file, and its number there.
#[derive(Clone, Copy)]
pub struct Place<'p> {
    pub file: &'p str,
    /// What is counted: rows, or the lines in which rows begin.
    pub unit: &'static str,
    pub number: u64,
}

/// Which optional columns the table has.
#[derive(Clone, Copy)]
pub struct OptionalColumns {
    pub group: bool,
    pub part: bool,
    /// Whether there are several files, so that messages name them.
    pub several: bool,
}

/// The rules, and the rows so far.
pub struct Intake {
    /// The labels, if the user lists them.
    listed: Option<Labels>,
    /// The labels that have occurred.
    seen: BTreeSet<String>,
    bad: BadRows,
    rows: u64,
    kept: u64,
    ids: Ids,
    columns: OptionalColumns,
    schema: SchemaRef,
    numbers: Vec<i64>,
    /// The columns of texts: all texts, and where each ends.
    texts: Vec<(String, Vec<usize>)>,
    writer: Writer,
}

impl Intake {
    /// An intake that writes to `path`.
    pub fn new(
        path: &Path,
        listed: Option<Labels>,
        most_bad: u64,
        columns: OptionalColumns,
    ) -> Result<Self> {
        let optional = [("story", columns.group), ("part", columns.part)];
        let optional = optional.into_iter().filter(|(_, is_there)| *is_there).map(|(name, _)| name);
        let names: Vec<&str> = ["title", "category"].into_iter().chain(optional).collect();
        let texts = names.iter().map(|name| ((*name).into(), DataType::String));
        let schema: Schema = std::iter::once(("id".into(), DataType::Int64)).chain(texts).collect();
        let writer = Writer::create(path, &schema)?;
        Ok(Self {
            listed,
            seen: BTreeSet::new(),
            bad: BadRows::new(most_bad, columns.several),
            rows: 0,
            kept: 0,
            ids: Ids::default(),
            columns,
            schema: schema.into(),
            numbers: Vec::new(),
            texts: vec![Default::default(); names.len()],
            writer,
        })
    }

    /// The number of the next row, counted over all files.
    pub fn number(&mut self) -> u64 {
        self.rows += 1;
        self.rows
    }

    /// Takes the next row, or what is wrong with it.
    pub fn take(
        &mut self,
        row: std::result::Result<Row<'_>, String>,
        place: Place<'_>,
    ) -> Result<()> {
        let number = self.number();
        self.take_numbered(number, row, place)
    }

    /// The same for a row whose number was taken before.
    pub fn take_numbered(
        &mut self,
        number: u64,
        row: std::result::Result<Row<'_>, String>,
        place: Place<'_>,
    ) -> Result<()> {
        let checked = row.and_then(|row| self.check(row));
        let row = match checked {
            Ok(row) => row,
            Err(what) => return self.bad.add(&what, place.file, place.unit, place.number),
        };
        self.kept += 1;
        if !self.seen.contains(row.label) {
            self.seen.insert(row.label.to_owned());
            if self.seen.len() > Labels::MOST {
                let what = format_args!("there are more than {} labels", Labels::MOST);
                return Err(Failure::input(what, place.file, WHICH_COLUMN));
            }
        }
        // Without ids, the data's rows are numbered.
        self.numbers.push(row.id.unwrap_or_else(|| i64::try_from(number).unwrap_or(i64::MAX)));
        let optional = [(self.columns.group, row.group), (self.columns.part, row.part)];
        let optional = optional.into_iter().filter(|(is_there, _)| *is_there);
        let fields = [row.text, row.label]
            .into_iter()
            .chain(optional.map(|(_, text)| text.unwrap_or_default()));
        for ((all, ends), text) in self.texts.iter_mut().zip(fields) {
            all.push_str(text);
            ends.push(all.len());
        }
        let bytes: usize = self.texts.iter().map(|(all, _)| all.len()).sum();
        if self.numbers.len() >= GROUP_ROWS || bytes >= TABLE_BYTES { self.write() } else { Ok(()) }
    }

    fn check<'r>(&mut self, row: Row<'r>) -> std::result::Result<Row<'r>, String> {
        let is_blank = |text: &str| text.chars().all(char::is_whitespace);
        if is_blank(row.text) {
            return Err("has no text".to_owned());
        }
        if is_blank(row.label) {
            return Err("has no label".to_owned());
        }
        if row.text.len() > LONGEST_TEXT {
            let length = row.text.len();
            return Err(format!(
                "has a text of {length} bytes; at most {LONGEST_TEXT} are allowed"
            ));
        }
        if let Some(at) = memchr::memchr(0, row.text.as_bytes()) {
            return Err(format!("has a zero byte at byte {at} of its text"));
        }
        let names = [("label", Some(row.label)), ("group", row.group), ("part", row.part)];
        for (what, name) in names.into_iter().filter_map(|(what, name)| Some((what, name?))) {
            if name.len() > LONGEST_NAME {
                let length = name.len();
                return Err(format!(
                    "has a {what} of {length} bytes; at most {LONGEST_NAME} are allowed"
                ));
            }
            if name.contains('\0') {
                return Err(format!("has a zero byte in its {what}"));
            }
        }
        if self.listed.as_ref().is_some_and(|listed| listed.find(row.label).is_none()) {
            let label: String = row.label.chars().take(40).collect();
            return Err(format!("has the label `{label}`, which is not in `ingest.labels`"));
        }
        match row.id {
            Some(id) if !self.ids.insert(id) => {
                Err(format!("repeats the id {id} of an earlier row"))
            }
            _ => Ok(row),
        }
    }

    fn write(&mut self) -> Result<()> {
        let numbers = std::mem::take(&mut self.numbers);
        let texts = |at: usize| {
            let (all, ends) = self.texts.get(at).map_or(("", &[][..]), |(all, ends)| (all, ends));
            let starts = std::iter::once(&0).chain(ends);
            starts.zip(ends).map(|(start, end)| all.get(*start..*end).unwrap_or_default())
        };
        let frame = table::of_columns(&self.schema, numbers.len(), |_| &numbers, texts);
        let bug = |e| Failure::failed(e, "headlines.parquet", "this is a bug; please report it");
        self.writer.push(&frame.map_err(bug)?)?;
        for (all, ends) in &mut self.texts {
            all.clear();
            ends.clear();
        }
        Ok(())
    }

    /// Ends the table. `place` names the data in errors.
    pub fn finish(mut self, place: &str) -> Result<(Counts, Labels)> {
        if !self.numbers.is_empty() {
            self.write()?;
        }
        self.writer.finish()?;
        let counts = Counts {
            rows: self.rows,
            kept: self.kept,
            publishers: Vec::new(),
            bad: self.bad.count,
            told: self.bad.told,
            ids_checked: !self.ids.is_full(),
        };
        if counts.kept == 0 {
            return Err(
                counts.nothing_kept(place, "check the file, and the options `ingest.columns`")
            );
        }
        let labels = self.listed.map_or_else(|| Labels::sorted(self.seen), Ok);
        let labels = labels.map_err(|what| Failure::input(what, place, WHICH_COLUMN))?;
        Ok((counts, labels))
    }
}

const WHICH_COLUMN: &str =
    "check which column holds the labels, and name it in the option `ingest.columns.label`";
