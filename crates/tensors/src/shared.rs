//! The stage's work, shared by several processes: `rows` finds each chunk's labels, `layout` makes
//! the files with room for the features, and `features` writes each chunk's into its place.

use failure::Result;
use formats::arrays::RowsAt;
use formats::table;
use schema::Labels;
use serde::{Deserialize, Serialize};
use stage::shards::{chunk_among, chunks_in};
use stage::{Next, Shared, Stage, Step};
use text::PARTS;

use crate::{
    Empty, Features, MadePart, PartRows, SHOWN, TensorsOptions, features, lookup, matrix,
    matrix_of, table_of,
};

/// How the stage's work is shared.
pub const SHARED: Shared = Shared { steps, work, check: stage::nothing_to_check };

const ROWS: &str = "rows";
const LAYOUT: &str = "layout";
const FEATURES: &str = "features";

/// Where each part's features go.
#[derive(Serialize, Deserialize)]
struct Layout {
    dimension: usize,
    parts: Vec<PartLayout>,
}

#[derive(Serialize, Deserialize)]
struct PartLayout {
    /// The byte of its file in which its matrix begins.
    start: u64,
    /// Where each of its chunks begins in the matrix, in rows.
    chunks: Vec<usize>,
    dropped: usize,
}

/// The rows of each part.
fn sizes(stage: &Stage) -> Result<Vec<usize>> {
    PARTS.iter().map(|part| table::rows(&table_of(stage, part)?)).collect()
}

fn chunk_rows(stage: &Stage) -> usize {
    stage.chunk_rows().unwrap_or(usize::MAX)
}

fn steps(stage: &Stage) -> Result<Vec<Step>> {
    let chunks = sizes(stage)?.into_iter().map(|rows| chunks_in(chunk_rows(stage), rows)).sum();
    Ok(vec![Step::new(ROWS, chunks), Step::new(LAYOUT, 1), Step::new(FEATURES, chunks)])
}

fn work(stage: &Stage, step: &str, chunk: usize) -> Result<Next> {
    if step == LAYOUT {
        return layout(stage).map(|()| Next::Step);
    }
    let sizes = sizes(stage)?;
    let (part, range) =
        chunk_among(chunk, chunk_rows(stage), &sizes).ok_or_else(|| stage.no_chunk(step, chunk))?;
    let name = PARTS.get(part).copied().unwrap_or_default();
    let path = table_of(stage, name)?;
    let options: TensorsOptions = stage.options()?;
    if step == ROWS {
        let labels = Labels::read(&stage.input("split", Labels::FILE)?)?;
        let lookup = (options.empty == Empty::Drop).then(|| lookup(stage)).transpose()?;
        let rows = PartRows::read(&path, range, &labels, lookup.as_ref())?;
        return stage.write_json_piece(ROWS, chunk, &rows).map(|()| Next::Step);
    }
    let lookup = lookup(stage)?;
    let layout: Layout = stage.read_json_piece(LAYOUT, 0)?;
    let rows: PartRows = stage.read_json_piece(ROWS, chunk)?;
    let before: usize = sizes.iter().take(part).map(|&r| chunks_in(chunk_rows(stage), r)).sum();
    let place = layout.parts.get(part).and_then(|part| {
        let row = part.chunks.get(chunk - before)?;
        Some(part.start + (row * layout.dimension * size_of::<f32>()) as u64)
    });
    let place = place.ok_or_else(|| stage.no_chunk(step, chunk))?;
    let mut writer = RowsAt::open(&matrix_of(stage, name), place)?;
    let push = |values: &[f32]| writer.push(values);
    let made = features(&path, range, &rows, &lookup, options.empty, push)?;
    writer.finish()?;
    stage.write_json_piece(FEATURES, chunk, &made).map(|()| Next::Step)
}

/// Makes the files, with room for the features.
fn layout(stage: &Stage) -> Result<()> {
    let dimension = lookup(stage)?.dimension();
    let mut parts = Vec::new();
    let mut chunk = 0;
    for (part, rows) in PARTS.iter().zip(sizes(stage)?) {
        let mut all = PartRows { ids: Vec::new(), labels: Vec::new(), dropped: 0 };
        let mut chunks = Vec::new();
        for _ in 0..chunks_in(chunk_rows(stage), rows) {
            chunks.push(all.ids.len());
            let rows: PartRows = stage.read_json_piece(ROWS, chunk)?;
            all.ids.extend(rows.ids);
            all.labels.extend(rows.labels);
            all.dropped += rows.dropped;
            chunk += 1;
        }
        let start = stage
            .make_once(&matrix_of(stage, part), |path| matrix(path, &all, dimension)?.reserve())?;
        parts.push(PartLayout { start, chunks, dropped: all.dropped });
    }
    stage.write_json_piece(LAYOUT, 0, &Layout { dimension, parts })
}

/// What the summary says of the parts, whose files are complete.
pub fn parts(stage: &Stage) -> Result<Vec<MadePart>> {
    let layout: Layout = stage.read_json_piece(LAYOUT, 0)?;
    let mut made = Vec::new();
    let mut chunk = 0;
    for PartLayout { chunks, dropped, .. } in layout.parts {
        let mut part = MadePart {
            dimension: layout.dimension,
            labels: Vec::new(),
            dropped,
            without: 0,
            first: Vec::new(),
        };
        for _ in chunks {
            let rows: PartRows = stage.read_json_piece(ROWS, chunk)?;
            let Features { without, first } = stage.read_json_piece(FEATURES, chunk)?;
            part.labels.extend(rows.labels);
            part.without += without;
            part.first.extend(first);
            chunk += 1;
        }
        part.first.truncate(SHOWN.0);
        made.push(part);
    }
    Ok(made)
}
