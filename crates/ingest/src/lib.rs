//! The first stage: from the news archive, or from anybody's labelled texts, to a table of
//! headlines and a list of labels.
//!
//! In: the embedded sample, the UCI archive (`NewsAggregatorDataset.zip`, or the `newsCorpora.csv`
//! in it), files of labelled texts, or URLs of any of them. Out: `headlines.parquet`,
//! the wanted rows in file order, `labels.json` and `summary.json`.
//!
//! Always holds: the archive is streamed, never unpacked to disk or held in memory; a `"` in it is
//! a character like any other; a bad row is an error that names its number or, where
//! `max_bad_rows` allows it, is left out and counted.

mod archive;
mod counts;
mod grammar;
mod ids;
mod ranges;
mod rows;
mod sample;
mod shared;
mod texts;

use std::io::Read;

use failure::{Failure, Result};
use fetch::Sources;
use formats::table;
use polars::prelude::DataFrame;
use schema::{IngestSummary, Labels};
use serde::Deserialize;
use stage::{Embedded, Stage, Unit};

use crate::counts::Counts;
use crate::rows::{RowFilter, Table};
use crate::texts::{ColumnNames, Format, TextFile, TextOptions};

pub use shared::SHARED;

/// The node that this crate runs.
pub const NODES: Embedded = Embedded {
    nodes: include_str!("../node.toml"),
    options: &[("options.toml", include_str!("../options.toml"))],
};

const SAMPLE: &str = "embedded sample";
/// The other sample: film reviews.
const REVIEWS: &str = "sample-reviews";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IngestOptions {
    source: Sources,
    sha256: Option<String>,
    #[serde(rename = "expect.rows")]
    expect_rows: Option<u64>,
    #[serde(rename = "expect.kept")]
    expect_kept: Option<u64>,
    publishers: Vec<String>,
    max_bad_rows: u64,
    files: Option<Vec<String>>,
    members: Option<Vec<String>>,
    format: String,
    labels: Option<Vec<String>>,
    separator: Option<String>,
    quoting: Option<bool>,
    header: bool,
    #[serde(rename = "columns.text")]
    text: Option<Vec<String>>,
    #[serde(rename = "columns.label")]
    label: Option<String>,
    #[serde(rename = "columns.id")]
    id: Option<String>,
    #[serde(rename = "columns.group")]
    group: Option<String>,
    #[serde(rename = "columns.part")]
    part: Option<String>,
}

/// The rows that were read.
struct Ingested {
    counts: Counts,
    labels: Labels,
    /// The source's name, for the summary.
    source: String,
    /// Where the rows come from, for errors.
    place: String,
    /// The format, if it is not the news archive's.
    format: Option<String>,
}

/// Runs the stage.
pub fn run(stage: &Stage) -> Result<String> {
    let options: IngestOptions = stage.options()?;
    let read = ingest(&options, stage)?;
    let Ingested { counts, labels, source, place, format } = read;
    check_counts(options.expect_rows, options.expect_kept, counts.rows, counts.kept, &place)?;
    stage.write_json(Labels::FILE, &labels)?;
    let mut line = format!("{} of {} headlines kept", counts.kept, counts.rows);
    if format.is_some() {
        line = format!("{line}, {} labels", labels.len());
        if let Some((one, other)) = labels.nearly_equal() {
            stage.progress.warn(format!(
                "the labels `{one}` and `{other}` differ only in case or white space"
            ));
        }
    }
    for what in &counts.told {
        stage.progress.warn(format!("left out: {what}"));
    }
    let more = counts.bad - counts.told.len() as u64;
    if more > 0 {
        stage.progress.warn(format!("left out: {more} more"));
    }
    if !counts.ids_checked {
        stage.progress.warn("the ids have more than a million gaps between them, so not every id was checked for duplicates");
    }
    let line =
        if counts.bad > 0 { format!("{line}, {} bad ones left out", counts.bad) } else { line };
    let Counts { rows, kept, publishers, bad: bad_rows, told: bad, .. } = counts;
    stage.write_json(
        "summary.json",
        &IngestSummary { source, format, rows, kept, publishers, bad_rows, bad },
    )?;
    Ok(line)
}

/// Where the rows come from.
enum Source {
    /// The embedded sample.
    Sample,
    /// So many made-up headlines, and the name of the source.
    Generated(u64, String),
    /// The other embedded sample.
    Reviews,
    /// The news archive.
    News(TextFile),
    /// Labelled texts.
    Texts(Vec<TextFile>),
}

/// The source that the options name.
fn source(options: &IngestOptions, stage: &Stage) -> Result<Source> {
    let files = match (&options.files, &options.source[..]) {
        (Some(files), _) => texts::files(files, stage)?,
        (None, [one]) if one == "sample" => return Ok(Source::Sample),
        (None, [one]) if one == REVIEWS => return Ok(Source::Reviews),
        (None, [one]) if let Some(rows) = one.strip_prefix("sample:") => {
            let rows = rows.parse().ok().filter(|&rows| rows > 0).ok_or_else(|| {
                Failure::usage(
                    format_args!("`{one}` does not give a number of rows"),
                    "option `ingest.source`",
                    "write sample:1000000, or sample-reviews",
                )
            })?;
            return Ok(Source::Generated(rows, one.clone()));
        }
        (None, [one]) if !stage::is_url(one) && options.sha256.is_none() => {
            texts::files(std::slice::from_ref(one), stage)?
        }
        (None, sources) => vec![texts::obtained(sources, options.sha256.as_deref(), stage)?],
    };
    match <[TextFile; 1]>::try_from(files) {
        Ok([file]) if texts::are_news(&file, &text_options(options)?, stage)? => {
            Ok(Source::News(file))
        }
        Ok([file]) => Ok(Source::Texts(vec![file])),
        Err(files) => Ok(Source::Texts(files)),
    }
}

impl Source {
    /// Its name, for the summary.
    fn name(&self) -> String {
        match self {
            Self::Sample => SAMPLE.to_owned(),
            Self::Generated(_, name) => name.clone(),
            Self::Reviews => REVIEWS.to_owned(),
            Self::News(file) => file.name().to_owned(),
            Self::Texts(files) => names(files),
        }
    }

    /// Passes on the news archive's table.
    fn stream<T>(
        &self,
        stage: &Stage,
        options: &IngestOptions,
        consume: archive::Consumer<'_, T>,
    ) -> Result<T> {
        match self {
            Self::Sample => archive::stream_bytes(sample::zip()?, SAMPLE, consume),
            Self::Generated(rows, name) => {
                let mut stream = sample::Stream::new(*rows);
                let size = stream.size();
                consume(&mut stream, size, name)
            }
            Self::News(file) => texts::stream_news(file, &text_options(options)?, stage, consume)
                .map_err(|e| file.explain(e)),
            Self::Reviews | Self::Texts(_) => Err(Failure::failed(
                "this is not the news archive",
                self.name(),
                "this is a bug; please report it",
            )),
        }
    }
}

/// The names of files of labelled texts, or of the first and the last.
fn names(files: &[TextFile]) -> String {
    match files {
        [one] => one.name().to_owned(),
        [one, other] => format!("{}, {}", one.name(), other.name()),
        [first, .., last] => format!("{} … {} ({} files)", first.name(), last.name(), files.len()),
        [] => String::new(),
    }
}

impl IngestOptions {
    /// The rows of the news archive that are wanted.
    fn row_filter<'o>(&'o self, labels: &'o Labels) -> RowFilter<'o> {
        RowFilter { publishers: &self.publishers, labels, most_bad: self.max_bad_rows }
    }
}

/// Reads the rows and writes `headlines.parquet`.
fn ingest(options: &IngestOptions, stage: &Stage) -> Result<Ingested> {
    let text_options = text_options(options)?;
    if shared::is_shared(stage) {
        return shared::finish(stage, options);
    }
    let source = source(options, stage)?;
    match &source {
        Source::Reviews => {
            let file = texts::in_memory("reviews.tsv", sample::reviews::table().as_bytes())?;
            labelled(&source, std::slice::from_ref(file.file()), &text_options, stage)
        }
        Source::Texts(files) => labelled(&source, files, &text_options, stage),
        _ => news(&source, options, stage),
    }
}

/// Reads labelled texts.
fn labelled(
    source: &Source,
    files: &[TextFile],
    options: &TextOptions,
    stage: &Stage,
) -> Result<Ingested> {
    let (counts, labels, format) = texts::read(files, options, stage)?;
    Ok(Ingested {
        counts,
        labels,
        place: names(files),
        source: source.name(),
        format: Some(format),
    })
}

/// Reads the news archive's table.
fn news(source: &Source, options: &IngestOptions, stage: &Stage) -> Result<Ingested> {
    let labels = listed(options)?.unwrap_or_else(Labels::news);
    let mut table =
        table::Writer::create(&stage.output("headlines.parquet"), &table::headline_schema())?;
    let mut place = String::new();
    let counts =
        source.stream(stage, options, &mut |reader: &mut dyn Read, size: u64, name: &str| {
            stage.progress.begin("reading", Some(size), Unit::Bytes);
            name.clone_into(&mut place);
            let write = |rows: Table| table.push(&frame(&rows, name)?);
            let wanted = options.row_filter(&labels);
            rows::read(reader, name, wanted, write, |done| stage.progress.at(done, String::new))
        })?;
    table.finish()?;
    Ok(Ingested { counts, labels, source: source.name(), place, format: None })
}

/// The rows as a table; `place` names their source in errors.
fn frame(rows: &Table, place: &str) -> Result<DataFrame> {
    let [ids, timestamps] = rows.numbers();
    let frame = table::of_columns(
        &table::headline_schema(),
        ids.len(),
        |at| if at == 0 { &ids } else { &timestamps },
        |at| rows.texts(at),
    );
    frame.map_err(|e| Failure::failed(e, place, "this is a bug; please report it"))
}

/// The labels that the options list.
fn listed(options: &IngestOptions) -> Result<Option<Labels>> {
    let labels = options.labels.clone().map(Labels::new).transpose();
    labels.map_err(|what| {
        Failure::usage(what, "option `ingest.labels`", "list each label once, or leave it out")
    })
}

fn text_options(options: &IngestOptions) -> Result<TextOptions> {
    let separator = match options.separator.as_deref().map(str::as_bytes) {
        None => None,
        Some([one]) if !matches!(one, b'"' | b'\n' | b'\r') => Some(*one),
        Some(_) => {
            return Err(Failure::usage(
                "the separator must be one ASCII character",
                "option `ingest.separator`",
                "write \",\", \";\" or \"\\t\"",
            ));
        }
    };
    let members = options.members.iter().flatten().map(|text| {
        glob::Pattern::new(text).map_err(|e| {
            Failure::usage(
                format_args!("`{text}` is not a file name or a pattern: {e}"),
                "option `ingest.members`",
                "write names of files in the archive, such as SST-2/train.tsv or */dev.tsv",
            )
        })
    });
    Ok(TextOptions {
        format: Format::from_name(&options.format),
        separator,
        quoting: options.quoting,
        header: options.header,
        columns: ColumnNames {
            text: options.text.clone(),
            label: options.label.clone(),
            id: options.id.clone(),
            group: options.group.clone(),
            part: options.part.clone(),
        },
        labels: listed(options)?,
        most_bad: options.max_bad_rows,
        members: members.collect::<Result<_>>()?,
    })
}

// `rows` cuts a row into columns by itself; both have to agree on their number.
const _: () = assert!(rows::COLUMNS == table::HEADLINE_COLUMNS.len());

fn check_counts(
    rows: Option<u64>,
    kept: Option<u64>,
    is_rows: u64,
    is_kept: u64,
    place: &str,
) -> Result<()> {
    for (what, want, is) in [("rows", rows, is_rows), ("kept rows", kept, is_kept)] {
        if let Some(want) = want.filter(|&want| want != is) {
            return Err(Failure::input(
                format_args!("{is} {what}, not the expected {want}"),
                place,
                "check that this is the complete archive, or change `ingest.expect`",
            ));
        }
    }
    Ok(())
}
