//! The stage's work on the news archive, shared by several processes: `unpack` makes a plain file of
//! it, if it is not one, `read` cuts and checks the rows of a range of its bytes, `settle` decides which
//! rows are in which table, and `encode` makes the tables. Other formats are read by one process.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use failure::{Failure, Result};
use formats::table::{self, Writer};
use schema::Labels;
use serde::{Deserialize, Serialize};
use stage::{Next, Shared, Stage, Step};

use crate::archive::Consumer;
use crate::ranges::{self, RangeFiles, Whole};
use crate::{IngestOptions, Ingested, Source, listed, source};

/// How the stage's work is shared.
pub const SHARED: Shared = Shared { steps, work, check: stage::nothing_to_check };

const UNPACK: &str = "unpack";
const READ: &str = "read";
const SETTLE: &str = "settle";
const ENCODE: &str = "encode";
/// Pieces beside that of a chunk of `read`, which is written last.
const GOOD: &str = "read-good";
const CHOSEN: &str = "read-chosen";
const ROWS: &str = "read-rows";
/// The piece of `unpack` with the table, if its source is packed.
const TABLE: usize = 1;
/// Bytes of a row, to estimate how many there are.
const ROW_BYTES: u64 = 128;
/// How much larger a table is than its archive, to estimate that.
const UNPACKED: u64 = 4;
/// The most chunks.
const MOST: u64 = 1024;

/// The table, unpacked.
#[derive(Serialize, Deserialize)]
struct Unpacked {
    /// Its name in the summary.
    source: String,
    /// Its name in errors.
    place: String,
    /// Where it lies, if not among the pieces.
    path: Option<PathBuf>,
    /// How many chunks it has.
    chunks: usize,
}

/// Whether several processes have shared this run, as they do if the source is the news archive.
pub fn is_shared(stage: &Stage) -> bool {
    stage.chunk_rows().is_some() && stage.piece(UNPACK, 0).exists()
}

fn steps(stage: &Stage) -> Result<Vec<Step>> {
    let chunks = if stage.piece(UNPACK, 0).exists() {
        stage.read_json_piece::<Unpacked>(UNPACK, 0)?.chunks
    } else {
        let options: IngestOptions = stage.options()?;
        match chunks(stage, &source(&options, stage)?)? {
            Some(chunks) => chunks,
            None => return Ok(Vec::new()),
        }
    };
    Ok(vec![
        Step::new(UNPACK, 1),
        Step::new(READ, chunks),
        Step::new(SETTLE, 1),
        Step::new(ENCODE, chunks),
    ])
}

/// How many chunks the source has, by an estimate of its rows; `None` if it is not the news archive.
fn chunks(stage: &Stage, source: &Source) -> Result<Option<usize>> {
    let rows = match source {
        Source::Sample => 5600,
        Source::Generated(rows, _) => *rows,
        Source::News(file) => {
            let bytes = std::fs::metadata(&file.path)
                .map_err(|e| Failure::io("read", &file.path, &e))?
                .len();
            let unpacked = if file.is_plain() { bytes } else { bytes.saturating_mul(UNPACKED) };
            unpacked / ROW_BYTES
        }
        Source::Reviews | Source::Texts(_) => return Ok(None),
    };
    let of_chunk = stage.chunk_rows().unwrap_or(usize::MAX) as u64;
    Ok(usize::try_from(rows.div_ceil(of_chunk).clamp(1, MOST)).ok())
}

fn work(stage: &Stage, step: &str, chunk: usize) -> Result<Next> {
    let options: IngestOptions = stage.options()?;
    match step {
        UNPACK => unpack(stage, &options)?,
        READ => read(stage, &options, chunk)?,
        SETTLE => settle(stage, &options)?,
        _ => encode(stage, chunk)?,
    }
    Ok(Next::Step)
}

fn unpack(stage: &Stage, options: &IngestOptions) -> Result<()> {
    let source = source(options, stage)?;
    let chunks = chunks(stage, &source)?.ok_or_else(|| stage.no_chunk(UNPACK, 0))?;
    let mut unpacked = Unpacked { source: source.name(), place: String::new(), path: None, chunks };
    if let Source::News(file) = &source
        && file.is_plain()
        // A file with a checksum is read once, as it is checked.
        && options.sha256.is_none()
    {
        unpacked.place.clone_from(&file.origin);
        let path = std::path::absolute(&file.path);
        unpacked.path = Some(path.map_err(|e| Failure::io("read", &file.path, &e))?);
    } else {
        stage.write_piece(UNPACK, TABLE, |path| {
            let mut copy = |reader: &mut dyn Read, _: u64, name: &str| {
                name.clone_into(&mut unpacked.place);
                let unreadable = |e: std::io::Error| {
                    let remedy = "get the archive again; it may be damaged";
                    Failure::input(format_args!("cannot read: {e}"), name, remedy)
                };
                let mut file = File::create(path).map_err(|e| Failure::io("write", path, &e))?;
                std::io::copy(reader, &mut file).map_err(unreadable)
            };
            let consume: Consumer<'_, u64> = &mut copy;
            source.stream(stage, options, consume).map(drop)
        })?;
    }
    stage.write_json_piece(UNPACK, 0, &unpacked)
}

fn unpacked(stage: &Stage) -> Result<(Unpacked, PathBuf)> {
    let unpacked: Unpacked = stage.read_json_piece(UNPACK, 0)?;
    let path = unpacked.path.clone().unwrap_or_else(|| stage.piece(UNPACK, TABLE));
    Ok((unpacked, path))
}

fn read(stage: &Stage, options: &IngestOptions, chunk: usize) -> Result<()> {
    let (Unpacked { place, chunks, .. }, path) = unpacked(stage)?;
    let labels = news_labels(options)?;
    let wanted = options.row_filter(&labels);
    let mut summary = None;
    // The three files appear, and then the chunk's own piece.
    stage.write_piece(GOOD, chunk, |good| {
        stage.write_piece(CHOSEN, chunk, |chosen| {
            stage.write_piece(ROWS, chunk, |rows| {
                let files = RangeFiles { good, chosen, rows };
                let read = ranges::read_range(&path, (chunk, chunks), &place, wanted, &files)?;
                summary = Some(read);
                Ok(())
            })
        })
    })?;
    stage.write_json_piece(READ, chunk, &summary)
}

fn settle(stage: &Stage, options: &IngestOptions) -> Result<()> {
    let (Unpacked { place, chunks, .. }, _) = unpacked(stage)?;
    let labels = news_labels(options)?;
    let summary = |chunk| stage.read_json_piece(READ, chunk);
    let files = |chunk| [stage.piece(GOOD, chunk), stage.piece(CHOSEN, chunk)];
    let whole = ranges::settle(chunks, &place, options.row_filter(&labels), summary, files)?;
    stage.write_json_piece(SETTLE, 0, &whole)
}

fn encode(stage: &Stage, chunk: usize) -> Result<()> {
    let (Unpacked { chunks, place, .. }, _) = unpacked(stage)?;
    let whole: Whole = stage.read_json_piece(SETTLE, 0)?;
    let files = |chunk| [stage.piece(CHOSEN, chunk), stage.piece(ROWS, chunk)];
    stage.write_piece(ENCODE, chunk, |path| {
        let mut writer = Writer::create(path, &table::headline_schema())?;
        let tables = whole.tables();
        for which in tables * chunk / chunks..tables * (chunk + 1) / chunks {
            let rows = ranges::table(&whole, which, files)?;
            writer.push(&crate::frame(&rows, &place)?)?;
        }
        writer.finish()
    })
}

/// Writes `headlines.parquet` from the pieces.
pub fn finish(stage: &Stage, options: &IngestOptions) -> Result<Ingested> {
    let (Unpacked { source, place, chunks, .. }, _) = unpacked(stage)?;
    let mut writer = Writer::create(&stage.output("headlines.parquet"), &table::headline_schema())?;
    for chunk in 0..chunks {
        writer.append(&stage.earlier_piece(ENCODE, chunk)?)?;
    }
    writer.finish()?;
    let whole: Whole = stage.read_json_piece(SETTLE, 0)?;
    let labels = news_labels(options)?;
    Ok(Ingested { counts: whole.into_counts(), labels, source, place, format: None })
}

fn news_labels(options: &IngestOptions) -> Result<Labels> {
    Ok(listed(options)?.unwrap_or_else(Labels::news))
}
