//! How many rows the data has, and which are bad.

use failure::{Failure, Result};
use serde::{Deserialize, Serialize};

/// Maximum number of bad rows that are described.
const TOLD: usize = 8;

/// How many rows there were.
#[derive(Serialize, Deserialize)]
pub struct Counts {
    /// All rows, without blank lines.
    pub rows: u64,
    /// Rows that were kept.
    pub kept: u64,
    /// Kept rows of each chosen publisher; empty if all publishers were wanted.
    pub publishers: Vec<(String, u64)>,
    /// Bad rows that were left out.
    pub bad: u64,
    /// What is wrong with the first bad rows.
    pub told: Vec<String>,
    /// Whether every id was checked for duplicates. Ids with more than a million gaps would take
    /// too much memory.
    pub ids_checked: bool,
}

impl Counts {
    /// The failure if no row was kept, though all were wanted; see `remedy` for a file with rows.
    pub fn nothing_kept(&self, place: &str, remedy: &str) -> Failure {
        match self.rows {
            0 => Failure::input("there are no rows", place, "check the file"),
            rows => {
                let what = format_args!("all of the {rows} rows are bad: {}", self.told.join("; "));
                Failure::input(what, place, remedy)
            }
        }
    }
}

/// The bad rows so far.
pub struct BadRows {
    /// How many there are.
    pub count: u64,
    /// What is wrong with the first of them.
    pub told: Vec<String>,
    most: u64,
    /// Whether there are several files, so that each has to be named.
    several: bool,
}

impl BadRows {
    /// `most` may be left out.
    pub fn new(most: u64, several: bool) -> Self {
        Self { count: 0, told: Vec::new(), most, several }
    }

    /// Leaves a row out, or fails if too many have been left out already. The row is the `number`th
    /// `unit` of `file`.
    pub fn add(&mut self, what: &str, file: &str, unit: &str, number: u64) -> Result<()> {
        self.count += 1;
        if self.count > self.most {
            let before = if self.most > 0 {
                format!(", and {} earlier rows are bad, too", self.most)
            } else {
                String::new()
            };
            return Err(Failure::input(
                format_args!("{unit} {number} {what}{before}"),
                format_args!("{file}, {unit} {number}"),
                if what.starts_with("is not UTF-8") {
                    "convert the file to UTF-8, if it has another encoding: iconv -f LATIN1 -t UTF-8; or correct the row"
                } else {
                    "correct or remove the row, get the file again, or raise `ingest.max_bad_rows`"
                },
            ));
        }
        if self.told.len() < TOLD {
            // Without its folder, since this is in an artifact.
            let name = file.rsplit('/').next().unwrap_or(file);
            let of = if self.several { format!("{name}, ") } else { String::new() };
            self.told.push(format!("{of}{unit} {number} {what}"));
        }
        Ok(())
    }
}
