//! The first stage: from the news archive to a table of headlines.
//!
//! In: the embedded sample, the UCI archive (`NewsAggregatorDataset.zip`, or the `newsCorpora.csv`
//! in it), or URLs of either. Out: `headlines.parquet`, the chosen publishers' rows in file order,
//! and `summary.json`.
//!
//! Always holds: the archive is streamed, never unpacked to disk or held in memory; a `"` is a
//! character like any other; a bad row is an error that names its number or, where `max_bad_rows`
//! allows it, is left out and counted.

mod archive;
mod grammar;
mod ids;
mod rows;
mod sample;

use std::io::Read;

use failure::{Failure, Result};
use fetch::Sources;
use formats::table;
use schema::IngestSummary;
use serde::Deserialize;
use stage::{Embedded, Stage, Unit};

use crate::rows::{RowFilter, Table};

/// The node that this crate runs.
pub const NODES: Embedded = Embedded {
    nodes: include_str!("../node.toml"),
    options: &[("options.toml", include_str!("../options.toml"))],
};

const SAMPLE: &str = "embedded sample";

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
}

/// Runs the stage.
pub fn run(stage: &Stage) -> Result<String> {
    let options: IngestOptions = stage.options()?;
    let mut table =
        table::Writer::create(&stage.output("headlines.parquet"), &table::headline_schema())?;
    let mut place = String::new();
    let mut consume = |reader: &mut dyn Read, size: u64, name: &str| {
        stage.progress.begin("reading", Some(size), Unit::Bytes);
        name.clone_into(&mut place);
        let wanted = RowFilter { publishers: &options.publishers, most_bad: options.max_bad_rows };
        let write = |rows: Table| {
            let [ids, timestamps] = rows.numbers();
            let frame = table::headlines(&ids, |at| rows.texts(at), &timestamps);
            table.push(
                &frame.map_err(|e| Failure::failed(e, name, "this is a bug; please report it"))?,
            )
        };
        rows::read(reader, name, wanted, write, |done| stage.progress.at(done, String::new))
    };
    let (counts, source) = if *options.source == ["sample"] {
        (archive::stream_bytes(sample::zip()?, SAMPLE, &mut consume)?, SAMPLE.to_owned())
    } else if let [one] = &*options.source
        && let Some(rows) = one.strip_prefix("sample:")
    {
        let rows = rows.parse().ok().filter(|&rows| rows > 0).ok_or_else(|| {
            Failure::usage(
                format_args!("`{one}` does not give a number of rows"),
                "option `ingest.source`",
                "write sample:1000000",
            )
        })?;
        let mut stream = sample::Stream::new(rows);
        let size = stream.size();
        (consume(&mut stream, size, one)?, one.clone())
    } else {
        let file = options.source.file(options.sha256.as_deref(), stage)?;
        let counts =
            archive::stream(&file.path, &file.origin, &mut consume).map_err(|e| file.explain(e))?;
        (counts, options.source.name())
    };
    check_counts(options.expect_rows, options.expect_kept, counts.rows, counts.kept, &place)?;
    table.finish()?;
    let line = format!("{} of {} headlines kept", counts.kept, counts.rows);
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
    let rows::Counts { rows, kept, publishers, bad: bad_rows, told: bad, .. } = counts;
    stage.write_json(
        "summary.json",
        &IngestSummary { source, rows, kept, publishers, bad_rows, bad },
    )?;
    Ok(line)
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
