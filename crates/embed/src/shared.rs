//! The counting of words, shared by several processes. The vectors are read once, by the process that
//! makes the result.

use failure::Result;
use formats::table;
use stage::shards::{chunk_among, chunks_in};
use stage::{Next, Shared, Stage, Step};
use text::PARTS;

use crate::vocabulary::Counter;
use crate::{EmbedOptions, count, lowercase, table_of, tokenizer};

/// How the stage's work is shared.
pub const SHARED: Shared = Shared { steps, work, check: stage::nothing_to_check };

const COUNT: &str = "count";

fn sizes(stage: &Stage) -> Result<Vec<usize>> {
    (0..PARTS.len()).map(|part| table::rows(&table_of(stage, part)?)).collect()
}

fn steps(stage: &Stage) -> Result<Vec<Step>> {
    let chunk_rows = stage.chunk_rows().unwrap_or(usize::MAX);
    let chunks = sizes(stage)?.into_iter().map(|rows| chunks_in(chunk_rows, rows)).sum();
    Ok(vec![Step::new(COUNT, chunks)])
}

fn work(stage: &Stage, step: &str, chunk: usize) -> Result<Next> {
    let chunk_rows = stage.chunk_rows().unwrap_or(usize::MAX);
    let (part, rows) = chunk_among(chunk, chunk_rows, &sizes(stage)?)
        .ok_or_else(|| stage.no_chunk(step, chunk))?;
    let options: EmbedOptions = stage.options()?;
    let tokenizer = tokenizer(&options)?;
    let mut counter = Counter::new(lowercase(&options)?, &tokenizer);
    count(stage, part, rows, &mut counter)?;
    stage.write_json_piece(COUNT, chunk, &counter.into_counts()).map(|()| Next::Step)
}

/// Adds the counts of all chunks.
pub fn add_all(stage: &Stage, counter: &mut Counter<'_>) -> Result<()> {
    for step in steps(stage)? {
        for chunk in 0..step.chunks {
            counter.add_counts(stage.read_json_piece(COUNT, chunk)?);
        }
    }
    Ok(())
}
