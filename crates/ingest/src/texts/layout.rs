//! Which of the files are tables, and which are texts in the folders of their classes.

use failure::Result;

use super::format::Format;
use super::intake::OptionalColumns;
use super::{TextFile, TextOptions, refuse_columns};
use crate::archive;

/// How the rows lie in the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayoutKind {
    /// Each file has rows.
    Tables,
    /// One zip archive has several files of rows.
    ZippedTables,
    /// Each file is a text in the folder of its class.
    Folders,
    /// The same in a zip archive; the texts lie below so many folders.
    ZippedFolders { depth: usize },
}

/// The files to read, and what they give.
pub struct Layout<'l> {
    pub files: Vec<&'l TextFile>,
    pub kind: LayoutKind,
    pub columns: OptionalColumns,
    /// Files beside the folders of the classes, which are not texts.
    pub others: Vec<&'l TextFile>,
}

impl<'l> Layout<'l> {
    /// The layout of `files`.
    pub fn of(files: &'l [TextFile], options: &TextOptions) -> Result<Self> {
        let zipped = match files {
            [one] => archive::names(&one.path),
            _ => Vec::new(),
        };
        let names = || files.iter().map(|file| file.name.as_str());
        let are_folders = |names: &mut dyn Iterator<Item = &str>| match options.format {
            Some(format) => format == Format::Folders,
            None => Format::are_folders(&names.collect::<Vec<_>>()),
        };
        let kind = if !zipped.is_empty() && are_folders(&mut zipped.iter().map(String::as_str)) {
            LayoutKind::ZippedFolders { depth: deepest(zipped.iter().map(String::as_str)) }
        } else if zipped.is_empty() && are_folders(&mut names()) {
            LayoutKind::Folders
        } else if zipped.iter().filter(|name| Format::is_named(name)).count() > 1 {
            LayoutKind::ZippedTables
        } else {
            LayoutKind::Tables
        };
        // The texts are the files that lie deepest; the others describe them.
        let depth = deepest(names());
        let is_read =
            |file: &&TextFile| kind != LayoutKind::Folders || depth_of(&file.name) == depth;
        let (read, others): (Vec<&TextFile>, Vec<&TextFile>) = files.iter().partition(is_read);
        let is_in_part = |name: &str| folders(name).is_some_and(|(part, _)| !part.is_empty());
        let has_parts = match kind {
            LayoutKind::Tables => read.len() > 1,
            LayoutKind::ZippedTables => true,
            LayoutKind::Folders => read.iter().any(|file| is_in_part(&file.name)),
            LayoutKind::ZippedFolders { .. } => zipped.iter().any(|name| is_in_part(name)),
        };
        if matches!(kind, LayoutKind::Folders | LayoutKind::ZippedFolders { .. }) {
            refuse_columns(options, Format::Folders)?;
        }
        let columns = OptionalColumns {
            group: options.columns.group.is_some(),
            part: options.columns.part.is_some() || has_parts,
            several: read.len() > 1 || kind == LayoutKind::ZippedTables,
        };
        Ok(Self { files: read, kind, columns, others })
    }
}

/// How many folders a file lies below.
pub fn depth_of(name: &str) -> usize {
    name.matches('/').count()
}

fn deepest<'n>(names: impl Iterator<Item = &'n str>) -> usize {
    names.map(depth_of).max().unwrap_or(0)
}

/// The part and the label that a file's folders give: `test/pos/1.txt` is of the part `test` and
/// the label `pos`.
pub fn folders(name: &str) -> Option<(&str, &str)> {
    let (folders, _) = name.rsplit_once('/')?;
    Some(folders.rsplit_once('/').unwrap_or(("", folders)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_name_the_label_and_the_part() {
        assert_eq!(folders("pos/1.txt"), Some(("", "pos")));
        assert_eq!(folders("aclImdb/test/neg/1_2.txt"), Some(("aclImdb/test", "neg")));
        assert_eq!(folders("1.txt"), None);
    }
}
