//! Reorders a table's rows without holding the table in memory.
//!
//! Each row goes into the shard of its place; a shard has as many rows as a row group of the
//! written table. A shard is then sorted and written. While all rows fit into [`BUDGET`], nothing
//! touches the disk. Beyond that, the shards' rows are appended to files beside the result, so that
//! every byte is written and read once more, and memory stays bounded.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use failure::{Failure, Result};
use formats::table::{self, GROUP_ROWS, HEADLINE_COLUMNS, TEXT_COLUMNS, headline_schema};
use polars::prelude::DataFrame;

/// Bytes of rows that wait in memory, over all shards.
const BUDGET: usize = 1 << 26;

/// Writes the rows of the table at `from` into the tables `to`, each with its number of rows. Row i
/// goes to `places[i]`, counted across all tables. `scratch` is a folder for temporary files, which
/// is removed at the end.
pub fn scatter(from: &Path, places: &[u32], to: &[(PathBuf, usize)], scratch: &Path) -> Result<()> {
    within(from, places, to, scratch, BUDGET)
}

fn within(
    from: &Path,
    places: &[u32],
    to: &[(PathBuf, usize)],
    scratch: &Path,
    budget: usize,
) -> Result<()> {
    // Rows that a killed run has left behind would be taken for rows of this one.
    match std::fs::remove_dir_all(scratch) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(Failure::io("remove", scratch, &e));
        }
        _ => {}
    }
    let mut shards = Shards::new(to.iter().map(|(_, rows)| *rows), scratch);
    let mut places_left = places.iter();
    table::groups(from, &HEADLINE_COLUMNS, |frame| {
        let texts = HEADLINE_COLUMNS.iter().skip(1).take(TEXT_COLUMNS);
        let texts = texts
            .map(|name| Ok(table::texts(frame, name, from)?.no_null_iter().collect()))
            .collect::<Result<Vec<Vec<&str>>>>()?;
        let (ids, stamps) =
            (table::integers(frame, "id", from)?, table::integers(frame, "timestamp", from)?);
        for (row, (id, stamp)) in ids.no_null_iter().zip(stamps.no_null_iter()).enumerate() {
            let Some(&place) = places_left.next() else { break };
            shards.put(
                place,
                id,
                texts.iter().filter_map(|column| column.get(row).copied()),
                stamp,
            );
            if shards.waiting > budget {
                shards.spill()?;
            }
        }
        Ok(())
    })?;
    let mut shard = 0;
    for (path, rows) in to {
        let mut writer = table::Writer::create(path, &headline_schema())?;
        for start in (0..*rows).step_by(GROUP_ROWS) {
            writer.push(&shards.frame(shard, GROUP_ROWS.min(rows - start))?)?;
            shard += 1;
        }
        writer.finish()?;
    }
    shards.end()
}

/// The rows read so far, by the shard of their place.
struct Shards {
    /// The first place of each shard, and its encoded rows so far: place within the shard, id,
    /// texts with their lengths, time stamp.
    all: Vec<(usize, Vec<u8>)>,
    /// Bytes in memory.
    waiting: usize,
    spilled: bool,
    scratch: PathBuf,
}

impl Shards {
    fn new(tables: impl Iterator<Item = usize>, scratch: &Path) -> Self {
        let mut all = Vec::new();
        let mut first = 0;
        for rows in tables {
            all.extend((0..rows).step_by(GROUP_ROWS).map(|start| (first + start, Vec::new())));
            first += rows;
        }
        Self { all, waiting: 0, spilled: false, scratch: scratch.to_owned() }
    }

    fn put<'t>(
        &mut self,
        place: u32,
        id: i64,
        texts: impl Iterator<Item = &'t str>,
        timestamp: i64,
    ) {
        let shard = self.all.partition_point(|(first, _)| *first <= place as usize);
        let Some((first, rows)) = shard.checked_sub(1).and_then(|shard| self.all.get_mut(shard))
        else {
            return;
        };
        let before = rows.len();
        let within = u32::try_from(place as usize - *first).unwrap_or(u32::MAX);
        rows.extend_from_slice(&within.to_le_bytes());
        rows.extend_from_slice(&id.to_le_bytes());
        for text in texts {
            rows.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
            rows.extend_from_slice(text.as_bytes());
        }
        rows.extend_from_slice(&timestamp.to_le_bytes());
        self.waiting += rows.len() - before;
    }

    fn file(&self, shard: usize) -> PathBuf {
        self.scratch.join(shard.to_string())
    }

    /// Moves the rows in memory into the shards' files.
    fn spill(&mut self) -> Result<()> {
        std::fs::create_dir_all(&self.scratch)
            .map_err(|e| Failure::io("create folder", &self.scratch, &e))?;
        self.spilled = true;
        for shard in 0..self.all.len() {
            let path = self.file(shard);
            let Some((_, rows)) = self.all.get_mut(shard) else { continue };
            let file: std::io::Result<File> =
                OpenOptions::new().create(true).append(true).open(&path);
            file.and_then(|mut file| file.write_all(rows))
                .map_err(|e| Failure::io("write", &path, &e))?;
            rows.clear();
        }
        self.waiting = 0;
        Ok(())
    }

    /// A shard's rows in order.
    fn frame(&mut self, shard: usize, rows: usize) -> Result<DataFrame> {
        let path = self.file(shard);
        let mut bytes = if self.spilled {
            std::fs::read(&path).map_err(|e| Failure::io("read", &path, &e))?
        } else {
            Vec::new()
        };
        if let Some((_, waiting)) = self.all.get_mut(shard) {
            bytes.append(waiting);
        }
        let lost = || {
            Failure::failed(
                "a row of a shard is missing or damaged",
                path.display(),
                "this is a bug; please report it",
            )
        };
        let mut parsed: Vec<Option<Row<'_>>> = vec![None; rows];
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (place, row) = Row::parse(&mut rest).ok_or_else(lost)?;
            *parsed.get_mut(place as usize).ok_or_else(lost)? = Some(row);
        }
        let parsed: Vec<Row<'_>> = parsed.into_iter().collect::<Option<_>>().ok_or_else(lost)?;
        let [ids, timestamps] = [|row: &Row<'_>| row.id, |row: &Row<'_>| row.timestamp]
            .map(|of| parsed.iter().map(of).collect::<Vec<_>>());
        let texts = |at: usize| parsed.iter().filter_map(move |row| row.texts.get(at).copied());
        let frame = table::headlines(&ids, texts, &timestamps);
        frame.map_err(|e| Failure::failed(e, path.display(), "this is a bug; please report it"))
    }

    fn end(self) -> Result<()> {
        if !self.spilled {
            return Ok(());
        }
        std::fs::remove_dir_all(&self.scratch).map_err(|e| Failure::io("remove", &self.scratch, &e))
    }
}

#[derive(Clone, Copy)]
struct Row<'b> {
    id: i64,
    texts: [&'b str; TEXT_COLUMNS],
    timestamp: i64,
}

impl<'b> Row<'b> {
    /// A row and its place, as [`Shards::put`] wrote them.
    fn parse(rest: &mut &'b [u8]) -> Option<(u32, Self)> {
        let place = u32::from_le_bytes(*rest.split_off(..4)?.first_chunk()?);
        let id = i64::from_le_bytes(*rest.split_off(..8)?.first_chunk()?);
        let mut texts = [""; TEXT_COLUMNS];
        for text in &mut texts {
            let length = u32::from_le_bytes(*rest.split_off(..4)?.first_chunk()?) as usize;
            *text = std::str::from_utf8(rest.split_off(..length)?).ok()?;
        }
        let timestamp = i64::from_le_bytes(*rest.split_off(..8)?.first_chunk()?);
        Some((place, Self { id, texts, timestamp }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numpy::RandomState;
    use polars::prelude::{IntoColumn, NamedFrom, Series};

    #[test]
    fn rows_go_to_their_places_in_memory_and_through_the_disk() {
        let dir = tempfile::tempdir().expect("a folder");
        let from = dir.path().join("from.parquet");
        let n = 2 * GROUP_ROWS + 1000;
        let ids: Vec<i64> = (0..).take(n).collect();
        let column = |(at, name): (usize, &&str)| match at {
            0 | 7 => Series::new((*name).into(), &ids).into_column(),
            _ => Series::new(
                (*name).into(),
                ids.iter().map(|i| format!("{name} é{i}")).collect::<Vec<_>>(),
            )
            .into_column(),
        };
        let mut whole =
            DataFrame::new(n, HEADLINE_COLUMNS.iter().enumerate().map(column).collect())
                .expect("a table");
        table::write(&from, &mut whole).expect("writes");
        let places: Vec<u32> = RandomState::new(1)
            .permutation(n)
            .into_iter()
            .map(|p| u32::try_from(p).expect("small"))
            .collect();
        let mut order = vec![0; n];
        for (row, place) in places.iter().enumerate() {
            order[*place as usize] = row;
        }
        let sizes = [GROUP_ROWS + 900, GROUP_ROWS - 1, 101];
        let mut bytes: Vec<Vec<u8>> = Vec::new();
        for budget in [usize::MAX, 1 << 20] {
            // As a killed run leaves it.
            std::fs::create_dir(dir.path().join("scratch")).expect("a folder");
            std::fs::write(dir.path().join("scratch/0"), "half a row").expect("writes");
            let to: Vec<(PathBuf, usize)> =
                sizes.iter().map(|n| (dir.path().join(n.to_string()), *n)).collect();
            within(&from, &places, &to, &dir.path().join("scratch"), budget).expect("scatters");
            assert!(!dir.path().join("scratch").exists());
            let mut start = 0;
            for (path, rows) in &to {
                let frame = table::read(path, &["id", "title"]).expect("reads");
                let ids: Vec<i64> =
                    table::integers(&frame, "id", path).expect("ids").no_null_iter().collect();
                let want: Vec<i64> = order[start..start + rows]
                    .iter()
                    .map(|&row| i64::try_from(row).expect("small"))
                    .collect();
                assert_eq!(ids, want);
                let titles = table::texts(&frame, "title", path).expect("titles").no_null_iter();
                assert!(titles.zip(&want).all(|(title, id)| title == format!("title é{id}")));
                start += rows;
                bytes.push(std::fs::read(path).expect("reads"));
            }
        }
        assert_eq!(bytes[..3], bytes[3..]);
    }
}
