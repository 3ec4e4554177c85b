//! Reorders a table's rows without holding the table in memory.
//!
//! Each row goes into the shard of its place; a shard has as many rows as a row group of the
//! written table. A shard is then sorted and written. While all rows fit into [`BUDGET`], nothing
//! touches the disk. Beyond that, the shards' rows are appended to files beside the result, so that
//! every byte is written and read once more, and memory stays bounded.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use failure::{Failure, Result};
use formats::table;
use polars::prelude::{DataFrame, DataType, PlSmallStr, SchemaRef};

/// Bytes of rows that wait in memory, over all shards.
const BUDGET: usize = 1 << 26;

/// The place of a row that is in no table.
pub const NOWHERE: u32 = u32::MAX;

/// Writes the rows of the table at `from` into the tables `to`, each with its number of rows. Row i
/// goes to `places[i]`, counted across all tables, if that is not [`NOWHERE`]. `scratch` is a folder for temporary files, which
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
    let mut shards = Shards::of(from, to.iter().map(|(_, rows)| *rows), scratch)?;
    let mut places = places.iter().copied();
    shards.put_rows(from, 0..usize::MAX, &mut places, |shards| {
        if shards.waiting > budget { shards.spill() } else { Ok(()) }
    })?;
    let group = shards.group;
    let mut shard = 0;
    for (path, rows) in to {
        let mut writer = table::Writer::create(path, &shards.schema)?;
        for start in (0..*rows).step_by(group) {
            writer.push(&shards.frame(shard, group.min(rows - start))?)?;
            shard += 1;
        }
        writer.finish()?;
    }
    shards.end()
}

/// The rows read so far, by the shard of their place.
pub struct Shards {
    /// The first place of each shard, and its encoded rows so far: place within the shard, numbers,
    /// texts with their lengths.
    all: Vec<(usize, Vec<u8>)>,
    /// The columns.
    pub schema: SchemaRef,
    /// The most rows of a shard.
    pub group: usize,
    /// Bytes in memory.
    waiting: usize,
    spilled: bool,
    scratch: PathBuf,
}

impl Shards {
    /// Empty shards for the rows of the table at `from`, which go into tables of these sizes.
    pub fn of(from: &Path, tables: impl Iterator<Item = usize>, scratch: &Path) -> Result<Self> {
        let schema = table::schema(from)?;
        let group = table::rows_at_once(from)?;
        let mut all = Vec::new();
        let mut first = 0;
        for rows in tables {
            all.extend((0..rows).step_by(group).map(|start| (first + start, Vec::new())));
            first += rows;
        }
        Ok(Self { all, schema, group, waiting: 0, spilled: false, scratch: scratch.to_owned() })
    }

    /// Puts some rows of the table at `from` into their shards, and calls `after` after each.
    pub fn put_rows(
        &mut self,
        from: &Path,
        range: Range<usize>,
        places: &mut impl Iterator<Item = u32>,
        mut after: impl FnMut(&mut Self) -> Result<()>,
    ) -> Result<()> {
        let schema = self.schema.clone();
        let names: Vec<&str> = schema.iter_names().map(PlSmallStr::as_str).collect();
        let (numbers, texts): (Vec<&str>, Vec<&str>) =
            names.iter().partition(|name| schema.get(name) == Some(&DataType::Int64));
        table::groups_in(from, &names, range, |frame| {
            let numbers = numbers
                .iter()
                .map(|name| Ok(table::integers(frame, name, from)?.no_null_iter().collect()))
                .collect::<Result<Vec<Vec<i64>>>>()?;
            let texts = texts
                .iter()
                .map(|name| Ok(table::texts(frame, name, from)?.no_null_iter().collect()))
                .collect::<Result<Vec<Vec<&str>>>>()?;
            for row in 0..frame.height() {
                let Some(place) = places.next() else { break };
                if place == NOWHERE {
                    continue;
                }
                self.put(
                    place,
                    numbers.iter().filter_map(|column| column.get(row).copied()),
                    texts.iter().filter_map(|column| column.get(row).copied()),
                );
                after(self)?;
            }
            Ok(())
        })
    }

    /// The number of shards.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// The rows of each shard, as they are in memory.
    pub fn rows(&self) -> impl Iterator<Item = &[u8]> {
        self.all.iter().map(|(_, rows)| &rows[..])
    }

    /// Adds rows to a shard that [`Shards::rows`] returned for it.
    pub fn add(&mut self, shard: usize, rows: &[u8]) {
        if let Some((_, all)) = self.all.get_mut(shard) {
            all.extend_from_slice(rows);
        }
    }

    /// Drops the rows of a shard.
    pub fn clear(&mut self, shard: usize) {
        if let Some((_, rows)) = self.all.get_mut(shard) {
            *rows = Vec::new();
        }
    }

    /// The shard that begins with this place.
    pub fn at(&self, place: usize) -> usize {
        self.all.partition_point(|(first, _)| *first < place)
    }

    fn put<'t>(
        &mut self,
        place: u32,
        numbers: impl Iterator<Item = i64>,
        texts: impl Iterator<Item = &'t str>,
    ) {
        let shard = self.all.partition_point(|(first, _)| *first <= place as usize);
        let Some((first, rows)) = shard.checked_sub(1).and_then(|shard| self.all.get_mut(shard))
        else {
            return;
        };
        let before = rows.len();
        let within = u32::try_from(place as usize - *first).unwrap_or(u32::MAX);
        rows.extend_from_slice(&within.to_le_bytes());
        for number in numbers {
            rows.extend_from_slice(&number.to_le_bytes());
        }
        for text in texts {
            rows.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
            rows.extend_from_slice(text.as_bytes());
        }
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
    pub fn frame(&mut self, shard: usize, rows: usize) -> Result<DataFrame> {
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
        let (mut numbers, mut texts) = (0, 0);
        for (_, kind) in self.schema.iter() {
            *if *kind == DataType::Int64 { &mut numbers } else { &mut texts } += 1;
        }
        let mut numbers = vec![vec![0; rows]; numbers];
        let mut texts = vec![vec![None; rows]; texts];
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            parse(&mut rest, &mut numbers, &mut texts).ok_or_else(lost)?;
        }
        if texts.iter().any(|column| column.iter().any(Option::is_none)) {
            return Err(lost());
        }
        let texts = |at: usize| texts.get(at).into_iter().flatten().copied().flatten();
        let numbers = |at: usize| numbers.get(at).map_or(&[][..], Vec::as_slice);
        let frame = table::of_columns(&self.schema, rows, numbers, texts);
        frame.map_err(|e| Failure::failed(e, path.display(), "this is a bug; please report it"))
    }

    fn end(self) -> Result<()> {
        if !self.spilled {
            return Ok(());
        }
        std::fs::remove_dir_all(&self.scratch).map_err(|e| Failure::io("remove", &self.scratch, &e))
    }
}

/// Takes a row, as [`Shards::put`] wrote it, and puts it into the columns at its place.
fn parse<'b>(
    rest: &mut &'b [u8],
    numbers: &mut [Vec<i64>],
    texts: &mut [Vec<Option<&'b str>>],
) -> Option<()> {
    let place = u32::from_le_bytes(*rest.split_off(..4)?.first_chunk()?) as usize;
    for column in numbers {
        *column.get_mut(place)? = i64::from_le_bytes(*rest.split_off(..8)?.first_chunk()?);
    }
    for column in texts {
        let length = u32::from_le_bytes(*rest.split_off(..4)?.first_chunk()?) as usize;
        *column.get_mut(place)? = Some(std::str::from_utf8(rest.split_off(..length)?).ok()?);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numpy::RandomState;
    use formats::table::{GROUP_ROWS, HEADLINE_COLUMNS};
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
