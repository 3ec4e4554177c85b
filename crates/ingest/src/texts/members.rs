//! Which files of a zip archive of tables are read.

use std::path::{Path, PathBuf};

use failure::{Failure, Result};
use glob::Pattern;

use super::{Format, TextFile};
use crate::archive;

/// The most names of an archive's files that an error lists.
const LISTED: usize = 12;

/// The choice of files, each of whose patterns must fit one.
pub struct Members<'m> {
    patterns: &'m [Pattern],
    unmatched: Vec<&'m Pattern>,
    archives: Vec<PathBuf>,
}

impl<'m> Members<'m> {
    /// All files if there are no `patterns`, or no archives among `files`.
    pub fn new(patterns: &'m [Pattern], files: &[&TextFile]) -> Self {
        let archives: Vec<PathBuf> = files
            .iter()
            .map(|file| file.path.clone())
            .filter(|path| archive::is_zip(path))
            .collect();
        let patterns = if archives.is_empty() { &[] } else { patterns };
        Self { patterns, unmatched: patterns.iter().collect(), archives }
    }

    /// Whether to read the file `name` of the archive at `path`. What is in no archive is read.
    pub fn take(&mut self, path: &Path, name: &str) -> bool {
        if self.patterns.is_empty() || !self.archives.iter().any(|archive| archive == path) {
            return true;
        }
        self.unmatched.retain(|pattern| !pattern.matches(name));
        self.patterns.iter().any(|pattern| pattern.matches(name))
    }

    /// Refuses a pattern that no file fits.
    pub fn finish(self, place: &str) -> Result<()> {
        let Some(pattern) = self.unmatched.first() else { return Ok(()) };
        let names = self.archives.iter().flat_map(|path| archive::names(path));
        let names: Vec<String> = names.filter(|name| Format::is_named(name)).take(LISTED).collect();
        let names = if names.is_empty() { "no tables".to_owned() } else { names.join(", ") };
        Err(Failure::input(
            format_args!("no file of the archive is called `{pattern}`; it has {names}"),
            format_args!("option `ingest.members`, {place}"),
            "name tables of the archive, or remove the option",
        ))
    }
}
