//! A file of JSON lines that is written line by line.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use failure::{Failure, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The open file.
pub struct Jsonl {
    path: PathBuf,
    file: File,
}

impl Jsonl {
    /// The rows of a file that an unfinished run left, up to the first line that is cut off or not
    /// such a row.
    pub fn read<T: DeserializeOwned>(path: &Path) -> Vec<T> {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.split_inclusive('\n')
            .filter(|l| l.ends_with('\n'))
            .map_while(|l| serde_json::from_str(l).ok())
            .collect()
    }

    /// Opens a file to add lines, and keeps the first `rows` lines of an unfinished run.
    pub fn open(path: &Path, rows: u32) -> Result<Self> {
        let fail = |e| Failure::io("write", path, &e);
        let kept: String = match std::fs::read_to_string(path) {
            Ok(text) => text.split_inclusive('\n').take(rows as usize).collect(),
            Err(_) => String::new(),
        };
        // Written under another name first: a kill in between must not lose the lines to keep.
        atomic::write_atomically(path, kept.as_bytes()).map_err(fail)?;
        let file = OpenOptions::new().append(true).open(path).map_err(fail)?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Waits until the lines are on the disk.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(|e| Failure::io("sync", &self.path, &e))
    }

    /// Adds a line.
    pub fn push(&mut self, row: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_string(row).map_err(|e| {
            Failure::failed(e, self.path.display(), "this is a bug; please report it")
        })?;
        line.push('\n');
        self.file.write_all(line.as_bytes()).map_err(|e| Failure::io("write", &self.path, &e))
    }
}
