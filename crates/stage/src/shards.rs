//! Work that several processes share.
//!
//! A stage that can be shared has *steps*, one after the other, and a step has *chunks*, which any
//! number of processes do in any order. Each chunk makes a *piece*, a file in the folder of the
//! unfinished run. At the end, one process makes the result from the pieces:
//!
//! ```text
//! STAGE --chunk-rows N --list-steps …               the steps, and how many chunks each has
//! STAGE --chunk-rows N --step NAME --chunks A..B …  the chunks A to B - 1 of a step
//! STAGE --chunk-rows N …                            the result
//! ```
//!
//! The result has the same bytes as that of one process that shares nothing, so neither the number of
//! processes nor the size of chunks is part of a key. A piece is written whole or not at all: after a
//! kill, only the chunks without a piece are done again, and a chunk that two processes do at once has
//! the same piece from either. Beside a piece lies its digest: whoever lists the steps first drops pieces
//! that are damaged.

pub(crate) mod processes;

use std::hash::{BuildHasher as _, DefaultHasher, Hash as _, Hasher as _, RandomState};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use failure::{Failure, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Stage;
use crate::stage::bug;

/// How long another machine's file may take to appear.
const PATIENCE: Duration = Duration::from_mins(1);
/// The folder in an unfinished run's that is kept when the run is interrupted.
pub(crate) const CHECKPOINTS: &str = "checkpoints";
/// What the names of the folders of pieces in it begin with; the rest is the size of a chunk.
const PIECES: &str = "chunks-of-";

/// How a stage's work is shared.
#[derive(Clone, Copy)]
pub struct Shared {
    /// Lists the steps. It must give the same list whenever the inputs, the options and
    /// [`Stage::chunk_rows`] are the same.
    pub steps: fn(&Stage) -> Result<Vec<Step>>,
    /// Makes the piece of a chunk of a step with [`Stage::write_piece`].
    pub work: fn(&Stage, &str, usize) -> Result<Next>,
    /// Drops pieces that are worth nothing without another file that is damaged.
    pub check: fn(&Stage) -> Result<()>,
}

/// What a stage checks whose pieces need no other file.
pub fn nothing_to_check(_: &Stage) -> Result<()> {
    Ok(())
}

/// What comes after a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The other chunks, and the next step.
    Step,
    /// This step: those before it have nothing more to do.
    At(&'static str),
    /// The result: no further step has anything to do.
    Result,
}

/// A step, and how many chunks it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// The number of its chunks.
    pub chunks: usize,
}

impl Step {
    /// A step with so many chunks.
    pub fn new(name: &str, chunks: usize) -> Self {
        Self { name: name.to_owned(), chunks }
    }
}

/// The items of part `part` when `items` are shared by `parts`: ranges that differ by one at most.
pub fn share(items: usize, parts: usize, part: usize) -> Range<usize> {
    let start = |part: usize| part * (items / parts) + part.min(items % parts);
    start(part)..start(part + 1)
}

/// The rows of chunk `chunk`, of `rows` in all.
pub fn chunk_of(chunk: usize, chunk_rows: usize, rows: usize) -> Range<usize> {
    (chunk * chunk_rows).min(rows)..((chunk + 1) * chunk_rows).min(rows)
}

/// The table, and the rows in it, of a chunk when several tables are cut into chunks one after the
/// other. A table without rows has one chunk, so that it is read, too.
pub fn chunk_among(
    chunk: usize,
    chunk_rows: usize,
    tables: &[usize],
) -> Option<(usize, Range<usize>)> {
    let mut before = 0;
    for (table, &rows) in tables.iter().enumerate() {
        let chunks = chunks_in(chunk_rows, rows);
        if chunk < before + chunks {
            return Some((table, chunk_of(chunk - before, chunk_rows, rows)));
        }
        before += chunks;
    }
    None
}

/// How many chunks a table of so many rows has.
pub fn chunks_in(chunk_rows: usize, rows: usize) -> usize {
    rows.div_ceil(chunk_rows.max(1)).max(1)
}

impl Stage {
    /// The rows of a chunk, if several processes share this run.
    pub fn chunk_rows(&self) -> Option<usize> {
        self.chunk_rows
    }

    /// Where the piece of a chunk lies. It is below `checkpoints`, so that an interrupted run keeps
    /// its pieces, and no piece of another chunk size is taken for one of this run's.
    pub fn piece(&self, step: &str, chunk: usize) -> PathBuf {
        self.pieces().join(step).join(chunk.to_string())
    }

    /// The folder of this run's pieces. Its name tells runs apart that a person starts in one folder; a
    /// run by xtask has a folder of its own, by its key.
    pub(crate) fn pieces(&self) -> PathBuf {
        let rows = self.chunk_rows.unwrap_or_default();
        let mut hasher = DefaultHasher::new();
        serde_json::to_string(&self.options).unwrap_or_default().hash(&mut hasher);
        for read in &self.declared.reads {
            for file in &read.files {
                let path = self.input(read.node.as_str(), file).ok();
                let size = path.and_then(|path| std::fs::metadata(path).ok()).map(|m| m.len());
                size.hash(&mut hasher);
            }
        }
        self.out.join(CHECKPOINTS).join(format!("{PIECES}{rows}-{:016x}", hasher.finish()))
    }

    /// Writes a piece with `write`, whole or not at all.
    pub fn write_piece(
        &self,
        step: &str,
        chunk: usize,
        write: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<()> {
        let path = self.piece(step, chunk);
        let partials @ [partial, partial_digest] = &[self.partial(&path)?, self.partial(&path)?];
        let finish = || {
            std::fs::File::open(partial)?.sync_all()?;
            std::fs::write(partial_digest, digest(partial)?)?;
            // First, because the piece says that the chunk is done.
            std::fs::rename(partial_digest, digest_of(&path))?;
            atomic::rename(partial, &path)
        };
        let written =
            write(partial).and_then(|()| finish().map_err(|e| Failure::io("write", &path, &e)));
        if written.is_err() {
            for partial in partials {
                let _ = std::fs::remove_file(partial);
            }
        }
        written
    }

    /// Makes a file of the result in which the chunks of a later step write to their places. If it
    /// exists, it stays: another process has made it, and chunks may be in it.
    pub fn make_once<T>(&self, path: &Path, make: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
        let partial = self.partial(&self.piece("files", 0))?;
        let done = make(&partial).and_then(|made| {
            let linked = std::fs::File::open(&partial)
                .and_then(|file| file.sync_all())
                .and_then(|()| std::fs::hard_link(&partial, path));
            let folder = path.parent().map(std::fs::File::open);
            if let Some(Ok(folder)) = folder {
                // Not every system can sync a folder.
                let _ = folder.sync_all();
            }
            match linked {
                Ok(()) => Ok(made),
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(made),
                Err(e) => Err(Failure::failed(
                    format_args!("cannot link the file to its name: {e}"),
                    path.display(),
                    "keep the artifacts on a file system with hard links, or run without an executor",
                )),
            }
        });
        let _ = std::fs::remove_file(&partial);
        done
    }

    /// A path for an unfinished file beside `path`, which no other process uses.
    fn partial(&self, path: &Path) -> Result<PathBuf> {
        let folder = path.parent().unwrap_or(&self.out);
        std::fs::create_dir_all(folder).map_err(|e| Failure::io("create folder", folder, &e))?;
        // Other machines have processes of the same number.
        let unique = RandomState::new().hash_one(std::process::id());
        Ok(path.with_extension(format!("{unique:x}.partial")))
    }

    /// Writes a piece as JSON.
    pub fn write_json_piece(&self, step: &str, chunk: usize, value: &impl Serialize) -> Result<()> {
        self.write_piece(step, chunk, |path| {
            let json =
                serde_json::to_vec(value).map_err(|e| bug(e, &path.display().to_string()))?;
            std::fs::write(path, json).map_err(|e| Failure::io("write", path, &e))
        })
    }

    /// Whether a file is there that another process has made.
    pub fn is_there(&self, path: &Path) -> bool {
        let folder = path.parent().unwrap_or(&self.out);
        self.wait_for(folder, || path.exists().then_some(())).is_some()
    }

    /// What `look` finds in a folder, if other processes have made it. On a file system that machines
    /// share, it may take a while to appear.
    pub fn wait_for<T>(&self, folder: &Path, look: impl Fn() -> Option<T>) -> Option<T> {
        let start = Instant::now();
        loop {
            let found = look();
            // Without xtask, whoever started this process knows what is done.
            if found.is_some() || self.artifacts.is_some() || start.elapsed() > PATIENCE {
                return found;
            }
            // Listing a folder makes its server tell what is new in it.
            let _ = std::fs::read_dir(folder);
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// The piece of a chunk that an earlier step has made.
    pub fn earlier_piece(&self, step: &str, chunk: usize) -> Result<PathBuf> {
        let path = self.piece(step, chunk);
        if self.is_there(&path) {
            return Ok(path);
        }
        Err(Failure::usage(
            format_args!("step `{step}` is not done"),
            path.display(),
            "do it first; --list-steps lists what is not done",
        ))
    }

    /// Waits until no other process is in the part of a step that only one may be in.
    pub fn lock_step(&self) -> Result<std::fs::File> {
        let path = self.pieces().join("lock");
        let lock = || {
            std::fs::create_dir_all(self.pieces())?;
            let options =
                std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
            options.lock().map(|()| options)
        };
        lock().map_err(|e| Failure::io("lock", &path, &e))
    }

    /// Reads a piece that [`Stage::write_json_piece`] wrote.
    pub fn read_json_piece<T: DeserializeOwned>(&self, step: &str, chunk: usize) -> Result<T> {
        let path = self.earlier_piece(step, chunk)?;
        let json = std::fs::read(&path).map_err(|e| Failure::io("read", &path, &e))?;
        serde_json::from_slice(&json).map_err(|e| {
            Failure::failed(
                format_args!("a piece of a shared run is damaged: {e}"),
                path.display(),
                "run the same command with --fresh",
            )
        })
    }

    /// The failure of a stage that is asked for a chunk that its steps do not have.
    pub fn no_chunk(&self, step: &str, chunk: usize) -> Failure {
        bug(format_args!("there is no chunk {chunk} of `{step}`"), &format!("node `{}`", self.node))
    }

    /// Drops the pieces of a step that are damaged.
    pub(crate) fn drop_damaged(&self, step: &Step) -> Result<()> {
        let folder = self.pieces().join(&step.name);
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name();
            let Some(number) = name.to_str().and_then(|name| name.parse::<usize>().ok()) else {
                continue;
            };
            let known = std::fs::read_to_string(digest_of(&path)).ok();
            let found = digest(&path).map_err(|e| Failure::io("read", &path, &e))?;
            if known.as_ref() != Some(&found) {
                let text = format!("{} is damaged, and is made again", path.display());
                self.progress.send(&crate::Event::Warn { text });
                if number >= step.chunks {
                    // It belongs to the piece of a chunk.
                    return self.drop_step(&step.name);
                }
                std::fs::remove_file(&path).map_err(|e| Failure::io("remove", &path, &e))?;
            }
        }
        Ok(())
    }

    /// Drops the pieces of a step, if it has any.
    pub fn drop_step(&self, step: &str) -> Result<()> {
        let folder = self.pieces().join(step);
        match std::fs::remove_dir_all(&folder) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(Failure::io("remove", &folder, &e))
            }
            _ => Ok(()),
        }
    }

    /// Whether every chunk of a step has a piece.
    pub(crate) fn is_done(&self, step: &Step) -> bool {
        (0..step.chunks).all(|chunk| self.piece(&step.name, chunk).exists())
    }

    /// Removes all pieces, and what killed processes left of others, also those of other chunk sizes.
    /// Checkpoints of the stage's own stay.
    pub(crate) fn drop_pieces(&self) -> Result<()> {
        let folder = self.out.join(CHECKPOINTS);
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(PIECES) {
                let pieces = entry.path();
                std::fs::remove_dir_all(&pieces).map_err(|e| Failure::io("remove", &pieces, &e))?;
                // It stays if there is something else in it.
                let _ = std::fs::remove_dir(&folder);
            }
        }
        Ok(())
    }
}

/// Where the digest of a piece lies.
fn digest_of(piece: &Path) -> PathBuf {
    piece.with_extension("blake3")
}

/// The digest of a file, in hex.
fn digest(path: &Path) -> std::io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(std::fs::File::open(path)?)?;
    Ok(hasher.finalize().to_hex().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_cover_every_row_once() {
        for tables in [vec![0], vec![1], vec![10], vec![7, 0, 20], vec![0, 0, 0], vec![6, 3]] {
            for chunk_rows in [1, 3, 100] {
                let all: usize = tables.iter().map(|&rows| chunks_in(chunk_rows, rows)).sum();
                let mut seen = vec![0; tables.len()];
                for chunk in 0..all {
                    let (table, rows) = chunk_among(chunk, chunk_rows, &tables).expect("a chunk");
                    assert_eq!(rows.start, seen[table], "{tables:?}");
                    assert!(rows.len() <= chunk_rows);
                    seen[table] = rows.end;
                }
                assert_eq!(seen, tables);
                assert_eq!(chunk_among(all, chunk_rows, &tables), None);
            }
        }
    }

    #[test]
    fn every_item_is_in_one_part() {
        for items in [0, 1, 2, 7, 100] {
            for parts in [1, 2, 4, 7, 200] {
                let all: Vec<Range<usize>> = (0..parts).map(|at| share(items, parts, at)).collect();
                let seen: Vec<usize> = all.iter().cloned().flatten().collect();
                assert_eq!(seen, (0..items).collect::<Vec<_>>());
                let sizes = all.iter().map(ExactSizeIterator::len);
                assert!(sizes.clone().max() <= sizes.min().map(|least| least + 1));
            }
        }
    }
}
