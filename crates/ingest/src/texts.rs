//! Labelled texts in the files that people have: CSV, TSV, JSON lines, parquet, fastText's format,
//! or a folder for each class; each also compressed, and several together.

mod columns;
mod container;
mod delimited;
mod fasttext;
mod format;
mod intake;
mod json_lines;
mod layout;
mod members;
mod parquet;
mod records;

use std::collections::HashSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use failure::{Failure, Result};
use fetch::{Downloads, Obtained};
use glob::Pattern;
use schema::Labels;
use stage::Stage;
use stage::files::{self, SourceFile};
use tempfile::NamedTempFile;

pub use columns::ColumnNames;
pub use format::Format;

use crate::archive;
use crate::counts::Counts;
use container::Unpacked;
use delimited::Dialect;
use intake::{Intake, LONGEST_TEXT, OptionalColumns, Place, Row};
use layout::{Layout, LayoutKind, depth_of, folders};
use members::Members;

/// What the options say about the files.
pub struct TextOptions {
    /// The format; `None` guesses each file's.
    pub format: Option<Format>,
    /// The separator of fields; `None` is the format's.
    pub separator: Option<u8>,
    /// Whether fields may be quoted; `None` is the format's.
    pub quoting: Option<bool>,
    /// Whether the first row names the columns.
    pub header: bool,
    /// The columns' names.
    pub columns: ColumnNames,
    /// The labels in order, if they are listed.
    pub labels: Option<Labels>,
    /// How many bad rows may be left out.
    pub most_bad: u64,
    /// The files of a zip archive to read; all if empty.
    pub members: Vec<Pattern>,
}

/// A file to read.
pub struct TextFile {
    /// Its name or its path within a folder, which is also its part.
    name: String,
    pub path: PathBuf,
    /// Where it came from, for messages.
    pub origin: String,
    /// The file as it was downloaded.
    obtained: Option<Obtained>,
}

impl TextFile {
    /// Whether it is not packed.
    pub fn is_plain(&self) -> bool {
        !archive::is_zip(&self.path) && !container::is_packed(&self.path)
    }
}

/// A file with bytes of our own, which is removed in the end.
pub struct OwnFile {
    file: TextFile,
    _kept: NamedTempFile,
}

impl OwnFile {
    /// The file to read.
    pub const fn file(&self) -> &TextFile {
        &self.file
    }
}

/// A file that has these bytes.
pub fn in_memory(name: &str, bytes: &[u8]) -> Result<OwnFile> {
    let fail = |e: std::io::Error| Failure::io("write", &std::env::temp_dir(), &e);
    let kept = NamedTempFile::new().map_err(fail)?;
    std::fs::write(kept.path(), bytes).map_err(fail)?;
    let (path, name) = (kept.path().to_owned(), name.to_owned());
    let file = TextFile { origin: name.clone(), name, path, obtained: None };
    Ok(OwnFile { file, _kept: kept })
}

/// The files that `sources` name, all of them.
pub fn files(sources: &[String], stage: &Stage) -> Result<Vec<TextFile>> {
    let mut all = Vec::new();
    for source in sources {
        if stage::is_url(source) {
            all.push(obtained(std::slice::from_ref(source), None, stage)?);
            continue;
        }
        let found = files::expand(source).map_err(|e| {
            Failure::input(
                format_args!("cannot read the source: {e}"),
                source,
                "check the path in the option `ingest.files` or `ingest.source`",
            )
        })?;
        // Of several folders, texts keep the name of theirs.
        let above = if sources.len() > 1 && Path::new(source).is_dir() {
            format!("{}/", stage::source_name(&[source.trim_end_matches('/')]))
        } else {
            String::new()
        };
        for SourceFile { name, path } in found {
            let shown = path.display().to_string();
            // A text in the folder of its class may well be a web page.
            if !name.contains('/') {
                obtained(std::slice::from_ref(&shown), None, stage)?;
            }
            let name = format!("{above}{name}");
            all.push(TextFile { name, path, origin: shown, obtained: None });
        }
    }
    let mut paths: HashSet<&Path> = HashSet::new();
    if let Some(twice) = all.iter().find(|file| !paths.insert(&file.path)) {
        return Err(Failure::usage(
            "the file is listed twice",
            &twice.origin,
            "list it once in the option `ingest.files`",
        ));
    }
    Ok(all)
}

/// The first of `sources` that can be obtained.
pub fn obtained(sources: &[String], sha256: Option<&str>, stage: &Stage) -> Result<TextFile> {
    let downloads = Downloads { folder: stage.downloads(), offline: stage.offline };
    let file = fetch::obtain(sources, sha256, downloads, &stage.progress)?;
    let names: Vec<&str> = sources.iter().map(String::as_str).collect();
    Ok(TextFile {
        name: stage::source_name(&names),
        path: file.path.clone(),
        origin: file.origin.clone(),
        obtained: Some(file),
    })
}

/// Whether a file is the news archive.
pub fn are_news(file: &TextFile, options: &TextOptions, stage: &Stage) -> Result<bool> {
    if let Some(format) = options.format {
        return Ok(format == Format::News);
    }
    if archive::has_news(&file.path) {
        return Ok(true);
    }
    // Named columns are those of another table.
    if options.columns.any() || !options.header {
        return Ok(false);
    }
    let mut is_news = false;
    container::open(&file.path, &file.name, &file.origin, &stage.progress, |member| {
        is_news |= Format::is_news(member.name, &member.head);
        Ok(())
    })
    .map_err(|e| file.explain(e))?;
    Ok(is_news)
}

/// Streams the news archive's table, from the archive or from a file that holds the table alone.
pub fn stream_news<T>(
    file: &TextFile,
    options: &TextOptions,
    stage: &Stage,
    consume: archive::Consumer<'_, T>,
) -> Result<T> {
    let as_archive = options.format == Some(Format::News) && archive::is_zip(&file.path);
    if as_archive || archive::has_news(&file.path) {
        return archive::stream(&file.path, &file.origin, consume);
    }
    let mut counts = None;
    container::open(&file.path, &file.name, &file.origin, &stage.progress, |member| {
        // The progress of a packed file is that of its packed bytes.
        let size = std::fs::metadata(&file.path).map_or(0, |metadata| metadata.len());
        let is_news = options.format.is_some() || Format::is_news(member.name, &member.head);
        if counts.is_none() && is_news {
            counts = Some(consume(member.reader, size, member.place)?);
        }
        Ok(())
    })?;
    counts.ok_or_else(|| Failure::input("there are no rows", &file.origin, "check the file"))
}

/// Reads the rows of all `files` into `headlines.parquet`. Returns the labels, and the formats.
pub fn read(
    files: &[TextFile],
    options: &TextOptions,
    stage: &Stage,
) -> Result<(Counts, Labels, String)> {
    let Layout { files, kind, columns, others } = Layout::of(files, options)?;
    if let [first, ..] = &others[..] {
        stage.progress.warn(format!(
            "{} files are in no folder of a class and are left out: {} …",
            others.len(),
            first.name
        ));
    }
    let path = stage.output("headlines.parquet");
    let mut intake = Intake::new(&path, options.labels.clone(), options.most_bad, columns)?;
    let place = match &files[..] {
        [one] => one.origin.clone(),
        [first, .., last] => format!("{} to {}, {} files", first.origin, last.origin, files.len()),
        [] => String::new(),
    };
    let mut formats: Vec<Format> = Vec::new();
    let mut members = Members::new(&options.members, &files);
    for (number, file) in (1..).zip(&files) {
        if kind == LayoutKind::Folders {
            file.text(number, &mut intake, columns)?;
            continue;
        }
        container::open(&file.path, &file.name, &file.origin, &stage.progress, |member| {
            if let LayoutKind::ZippedFolders { depth } = kind {
                if depth_of(member.name) == depth {
                    member_text(member, &mut intake, columns)?;
                }
                return Ok(());
            }
            let is_one_of_several = kind == LayoutKind::ZippedTables;
            if !members.take(&file.path, member.name) {
                return Ok(());
            }
            let name = if is_one_of_several { member.name } else { &file.name }.to_owned();
            let part = columns.part.then_some(name.as_str());
            let format = rows(member, part, options, &mut intake)?;
            if !formats.contains(&format) {
                formats.push(format);
            }
            Ok(())
        })
        .map_err(|e| file.explain(e))?;
    }
    members.finish(&place)?;
    let (counts, labels) = intake.finish(&place)?;
    // Texts in folders have no file of rows.
    if formats.is_empty() {
        formats.push(Format::Folders);
    }
    let formats: Vec<&str> = formats.iter().map(|format| format.name()).collect();
    Ok((counts, labels, formats.join(", ")))
}

/// Reads the rows of a file or of a member of a zip archive. Returns its format.
fn rows(
    member: Unpacked<'_>,
    part: Option<&str>,
    options: &TextOptions,
    intake: &mut Intake,
) -> Result<Format> {
    let Unpacked { name, place, head, reader, path } = member;
    let is_other = options.columns.any() || !options.header;
    let format = options.format.unwrap_or_else(|| match Format::guess(name, &head) {
        Format::News if is_other => Format::Tsv,
        format => format,
    });
    refuse_columns(options, format)?;
    let dialect = |separator, quoting| Dialect {
        separator: options.separator.unwrap_or(separator),
        quoting: options.quoting.unwrap_or(quoting),
        header: options.header,
    };
    match format {
        Format::Csv => {
            delimited::read(reader, place, part, dialect(b',', true), options, intake)?;
        }
        Format::Tsv => {
            delimited::read(reader, place, part, dialect(b'\t', false), options, intake)?;
        }
        Format::JsonLines => json_lines::read(reader, place, part, options, intake)?,
        Format::Parquet => parquet::read(path, reader, place, part, options, intake)?,
        Format::FastText => fasttext::read(reader, place, part, intake)?,
        Format::News => {
            return Err(Failure::input(
                "the news archive is one file, and there are several",
                place,
                "give it alone, in the option `ingest.source`",
            ));
        }
        Format::Folders => {
            return Err(Failure::input(
                "the format is `folders`, but this file is in no folder",
                place,
                "give the folder that has a folder for each class",
            ));
        }
    }
    Ok(format)
}

/// Takes a member of a zip archive as a text; the folder that it is in is its label.
fn member_text(member: Unpacked<'_>, intake: &mut Intake, columns: OptionalColumns) -> Result<()> {
    let Unpacked { name, place, reader, .. } = member;
    let mut bytes = Vec::new();
    reader.take(LONGEST_TEXT as u64 + 1).read_to_end(&mut bytes).map_err(|e| {
        Failure::input(
            format_args!("cannot read: {e}"),
            place,
            "get the file again; it may be damaged",
        )
    })?;
    let text = String::from_utf8(bytes)
        .map_err(|e| format!("is not UTF-8 at byte {}", e.utf8_error().valid_up_to()));
    let row = text.as_ref().map_err(Clone::clone).and_then(|text| whole(name, text, columns));
    intake.take(row, Place { file: place, unit: "text", number: 1 })
}

/// A row from a whole text and the name of its file.
fn whole<'r>(
    name: &'r str,
    text: &'r str,
    columns: OptionalColumns,
) -> std::result::Result<Row<'r>, String> {
    let (part, label) =
        folders(name).ok_or_else(|| "is not in the folder of a class".to_owned())?;
    let part = columns.part.then_some(part);
    Ok(Row { id: None, text: text.trim_end_matches(['\r', '\n']), label, group: None, part })
}

/// Refuses names of columns for a format that has none.
fn refuse_columns(options: &TextOptions, format: Format) -> Result<()> {
    if !options.columns.any() || !matches!(format, Format::FastText | Format::Folders) {
        return Ok(());
    }
    Err(Failure::usage(
        format_args!("the format `{}` has no columns", format.name()),
        "option `ingest.columns`",
        "remove it, or set `ingest.format` if the files have another format",
    ))
}

impl TextFile {
    /// Whether it is a downloaded file, whose path a failure has to name.
    pub fn explain(&self, failure: Failure) -> Failure {
        match &self.obtained {
            Some(obtained) => obtained.explain(failure),
            None => failure,
        }
    }

    /// The file's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Takes the whole file as a text; the folder that it is in is its label.
    fn text(&self, number: u64, intake: &mut Intake, columns: OptionalColumns) -> Result<()> {
        let fail = |e: std::io::Error| Failure::io("read", &self.path, &e);
        let length = std::fs::metadata(&self.path).map_err(fail)?.len();
        let row = if length > LONGEST_TEXT as u64 {
            Err(format!("has a text of {length} bytes; at most {LONGEST_TEXT} are allowed"))
        } else {
            let bytes = std::fs::read(&self.path).map_err(fail)?;
            String::from_utf8(bytes)
                .map_err(|e| format!("is not UTF-8 at byte {}", e.utf8_error().valid_up_to()))
        };
        let row =
            row.as_ref().map_err(Clone::clone).and_then(|text| whole(&self.name, text, columns));
        intake.take(row, Place { file: &self.origin, unit: "text", number })
    }
}

/// Joins texts by spaces.
fn join<'t>(joined: &mut String, texts: impl Iterator<Item = &'t str>) {
    for (number, text) in texts.enumerate() {
        if number > 0 {
            joined.push(' ');
        }
        joined.push_str(text);
    }
}
