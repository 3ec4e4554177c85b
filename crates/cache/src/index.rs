//! Digests of files that were read before, so that a no-op run need not read them again.
//!
//! An entry holds for one state of a file: its device, inode, size, and the times of its last
//! change to content and to metadata. A write through the file system moves the last of these,
//! which no program can set back, so an entry can be too old but not wrong. A file that changed
//! a moment ago is not entered: within one tick of the clock it could change again unseen.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::Digest;

/// Longer than a tick of any file system's clock that is used for work; FAT's, of two seconds,
/// has no inodes.
const TICK: Duration = Duration::from_millis(50);
/// Entries that were not used are dropped beyond this many.
const MOST: usize = 50_000;

/// The state of a file, as text: JSON objects have text keys.
type State = String;

/// Known digests, in memory and in a file.
#[derive(Default)]
pub struct Index {
    path: Option<PathBuf>,
    inner: Mutex<Inner>,
}

#[derive(Default, Serialize, Deserialize)]
struct Inner {
    entries: HashMap<State, Digest>,
    #[serde(skip)]
    changed: bool,
}

impl Index {
    /// The index kept at `path`. One that is not there or not readable is empty: it only saves
    /// time.
    pub fn open(path: &Path) -> Self {
        let inner = fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        Self { path: Some(path.to_owned()), inner: Mutex::new(inner) }
    }

    /// The state of the file at `path`; where it is as it was, so is the content. `None` if it is not there, or
    /// if this system has no time stamp that a program cannot set.
    pub fn state(path: &Path) -> Option<String> {
        state(&fs::metadata(path).ok()?)
    }

    /// The digest of the file at `path`.
    pub fn digest(&self, path: &Path) -> io::Result<Digest> {
        let before = fs::metadata(path)?;
        let state = state(&before);
        if let Some(known) = state.as_ref().and_then(|s| self.lock().entries.get(s).cloned()) {
            return Ok(known);
        }
        let digest = Digest::of_file(path)?;
        let settled = |m: &Metadata| changed_at(m).is_some_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age > TICK));
        // The same state before and after: the digest is that state's.
        if let Some(state) = state
            && settled(&before)
            && self::state(&fs::metadata(path)?) == Some(state.clone())
        {
            let mut inner = self.lock();
            inner.entries.insert(state, digest.clone());
            inner.changed = true;
        }
        Ok(digest)
    }

    /// Keeps the index for the next run. A failure costs time, nothing else.
    pub fn save(&self) {
        let mut inner = self.lock();
        let Some(path) = self.path.as_ref().filter(|_| inner.changed) else { return };
        if inner.entries.len() > MOST {
            inner.entries.clear();
        }
        let partial = path.with_extension(format!("{}.partial", std::process::id()));
        let written = serde_json::to_vec(&*inner).map_err(io::Error::other).and_then(|bytes| fs::write(&partial, bytes));
        if written.and_then(|()| fs::rename(&partial, path)).is_err() {
            let _ = fs::remove_file(&partial);
        }
        inner.changed = false;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(unix)]
#[expect(clippy::unnecessary_wraps, reason = "elsewhere there is none")]
fn state(metadata: &Metadata) -> Option<State> {
    use std::os::unix::fs::MetadataExt;
    let m = metadata;
    Some(format!("{}:{}:{}:{}.{}:{}.{}", m.dev(), m.ino(), m.size(), m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec()))
}

#[cfg(unix)]
fn changed_at(metadata: &Metadata) -> Option<SystemTime> {
    use std::os::unix::fs::MetadataExt;
    let (seconds, nanos) = (u64::try_from(metadata.ctime()).ok()?, u32::try_from(metadata.ctime_nsec()).ok()?);
    Some(SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos))
}

/// Elsewhere there is no time stamp that a program cannot set, so every file is read.
#[cfg(not(unix))]
fn state(_: &Metadata) -> Option<State> {
    None
}

#[cfg(not(unix))]
fn changed_at(_: &Metadata) -> Option<SystemTime> {
    None
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_change_that_hides_behind_an_old_time_stamp_is_seen() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("x");
        fs::write(&file, "one").expect("writes");
        std::thread::sleep(2 * TICK);
        let index = Index::open(&dir.path().join("index.json"));
        let first = index.digest(&file).expect("reads");
        let stamp = fs::metadata(&file).and_then(|m| m.modified()).expect("a time stamp");
        fs::write(&file, "two").expect("writes");
        fs::File::options().write(true).open(&file).and_then(|f| f.set_modified(stamp)).expect("sets the time");
        assert_ne!(index.digest(&file).expect("reads"), first);
    }

    #[test]
    fn an_index_is_kept_and_survives_renames_and_garbage() {
        let dir = tempfile::tempdir().expect("a folder");
        let (file, kept) = (dir.path().join("x"), dir.path().join("index.json"));
        fs::write(&file, "one").expect("writes");
        std::thread::sleep(2 * TICK);
        let index = Index::open(&kept);
        index.digest(&file).expect("reads");
        index.save();
        assert_eq!(Index::open(&kept).lock().entries.len(), 1);
        fs::write(&kept, "garbage").expect("writes");
        assert_eq!(Index::open(&kept).digest(&file).expect("reads"), Digest::of(b"one"));
    }

    #[test]
    fn a_file_that_changed_just_now_is_not_entered() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::write(dir.path().join("x"), "one").expect("writes");
        let index = Index::default();
        index.digest(&dir.path().join("x")).expect("reads");
        assert!(index.lock().entries.is_empty());
    }
}
