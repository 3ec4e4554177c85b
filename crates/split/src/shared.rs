//! The stage's work, shared by several processes: `plan` cuts the parts, `scatter` sorts each chunk's
//! rows by the row group that they go into, and `gather` makes each row group from all chunks' rows.

use std::fs::File;
use std::io::{BufWriter, Read, Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};

use failure::{Failure, Result};
use formats::table::{self, Writer};
use stage::shards::{chunk_among, chunk_of, chunks_in};
use stage::{Next, Shared, Stage, Step};
use text::PARTS;

use crate::scatter::Shards;
use crate::{Plan, headlines, tables};

/// How the stage's work is shared.
pub const SHARED: Shared = Shared { steps, work, check: stage::nothing_to_check };

const PLAN: &str = "plan";
/// The piece of the plan that has the place of each row, as u32.
const PLACES: usize = 1;
const SCATTER: &str = "scatter";
const GATHER: &str = "gather";

fn chunk_rows(stage: &Stage) -> usize {
    stage.chunk_rows().unwrap_or(usize::MAX)
}

/// The rows of a chunk of `gather`: whole row groups.
fn gathered_rows(stage: &Stage, group: usize) -> usize {
    (chunk_rows(stage) / group).max(1) * group
}

fn steps(stage: &Stage) -> Result<Vec<Step>> {
    let path = headlines(stage)?;
    let rows = table::rows(&path)?;
    // Before the plan is made, the sizes of the parts are not known. Chunks without a row are done
    // in no time.
    let gathered = rows / gathered_rows(stage, table::rows_at_once(&path)?) + PARTS.len();
    Ok(vec![
        Step::new(PLAN, 1),
        Step::new(SCATTER, chunks_in(chunk_rows(stage), rows)),
        Step::new(GATHER, gathered),
    ])
}

fn work(stage: &Stage, step: &str, chunk: usize) -> Result<Next> {
    match step {
        PLAN => plan(stage)?,
        SCATTER => scatter(stage, chunk)?,
        _ => gather(stage, chunk)?,
    }
    Ok(Next::Step)
}

fn plan(stage: &Stage) -> Result<()> {
    let (plan, places) = Plan::make(stage)?;
    stage.write_piece(PLAN, PLACES, |path| {
        let write = || {
            let mut file = BufWriter::new(File::create(path)?);
            places.iter().try_for_each(|place| file.write_all(&place.to_le_bytes()))?;
            file.flush()
        };
        write().map_err(|e| Failure::io("write", path, &e))
    })?;
    stage.write_json_piece(PLAN, 0, &plan)
}

fn scatter(stage: &Stage, chunk: usize) -> Result<()> {
    let path = headlines(stage)?;
    let plan: Plan = stage.read_json_piece(PLAN, 0)?;
    let rows = chunk_of(chunk, chunk_rows(stage), table::rows(&path)?);
    let mut shards = Shards::of(&path, plan.sizes.iter().copied(), Path::new(""))?;
    let bytes = read(&stage.earlier_piece(PLAN, PLACES)?, 4 * rows.start..4 * rows.end)?;
    let mut places = bytes.as_chunks().0.iter().map(|place| u32::from_le_bytes(*place));
    shards.put_rows(&path, rows, &mut places, |_| Ok(()))?;
    // First where each shard's rows begin in what follows, and where the last ones end.
    stage.write_piece(SCATTER, chunk, |path| {
        let write = || {
            let mut file = BufWriter::new(File::create(path)?);
            let mut end = 0_u64;
            file.write_all(&end.to_le_bytes())?;
            for rows in shards.rows() {
                end += rows.len() as u64;
                file.write_all(&end.to_le_bytes())?;
            }
            shards.rows().try_for_each(|rows| file.write_all(rows))?;
            file.flush()
        };
        write().map_err(|e| Failure::io("write", path, &e))
    })
}

fn gather(stage: &Stage, chunk: usize) -> Result<()> {
    let path = headlines(stage)?;
    let plan: Plan = stage.read_json_piece(PLAN, 0)?;
    let mut shards = Shards::of(&path, plan.sizes.iter().copied(), Path::new(""))?;
    let at_once = gathered_rows(stage, shards.group);
    let (table, rows) = chunk_among(chunk, at_once, &plan.sizes).unwrap_or_default();
    let before: usize = plan.sizes.iter().take(table).sum();
    let wanted = shards.at(before + rows.start)..shards.at(before + rows.end);
    let pieces = 0..chunks_in(chunk_rows(stage), table::rows(&path)?);
    let pieces: Result<Vec<PathBuf>> =
        pieces.map(|piece| stage.earlier_piece(SCATTER, piece)).collect();
    let pieces = pieces?;
    stage.write_piece(GATHER, chunk, |path| {
        let mut writer = Writer::create(path, &shards.schema)?;
        let mut start = rows.start;
        for shard in wanted {
            // Memory holds one row group at a time.
            for piece in &pieces {
                let bytes = shard_of(piece, shard, shards.len())?;
                shards.add(shard, &bytes);
            }
            let of_shard = shards.group.min(rows.end - start);
            writer.push(&shards.frame(shard, of_shard)?)?;
            shards.clear(shard);
            start += of_shard;
        }
        writer.finish()
    })
}

/// The rows of a shard in a piece of `scatter`.
fn shard_of(piece: &Path, shard: usize, shards: usize) -> Result<Vec<u8>> {
    let ends = read(piece, 8 * shard..8 * (shard + 2))?;
    let mut ends = ends
        .as_chunks()
        .0
        .iter()
        .map(|end| usize::try_from(u64::from_le_bytes(*end)).unwrap_or(usize::MAX));
    let (start, end) = (ends.next().unwrap_or(0), ends.next().unwrap_or(0));
    let header = 8 * (shards + 1);
    read(piece, header.saturating_add(start)..header.saturating_add(end))
}

/// Some bytes of a piece.
fn read(path: &Path, range: Range<usize>) -> Result<Vec<u8>> {
    let read = || {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(range.start as u64))?;
        let mut bytes = Vec::new();
        file.take(range.len() as u64).read_to_end(&mut bytes)?;
        if bytes.len() < range.len() {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(bytes)
    };
    read().map_err(|e: std::io::Error| Failure::io("read", path, &e))
}

/// Writes the tables from the row groups.
pub fn finish(stage: &Stage) -> Result<Plan> {
    let plan: Plan = stage.read_json_piece(PLAN, 0)?;
    let path = headlines(stage)?;
    let schema = table::schema(&path)?;
    let at_once = gathered_rows(stage, table::rows_at_once(&path)?);
    let mut chunk = 0;
    for (path, rows) in tables(stage, &plan) {
        let mut writer = Writer::create(&path, &schema)?;
        for _ in 0..chunks_in(at_once, rows) {
            writer.append(&stage.earlier_piece(GATHER, chunk)?)?;
            chunk += 1;
        }
        writer.finish()?;
    }
    Ok(plan)
}
