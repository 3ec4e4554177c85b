//! Digests of files that were read before, so that a run with nothing to do does not read them
//! again.
//!
//! An entry is valid for one state of a file: its device, inode, size, and the times of the last
//! change to its content and to its metadata. A write updates the last of these, and no program can
//! set it back. There are two exceptions, and the index does not trust a state that could be one of
//! them:
//!
//! - Two writes within one tick of the file system's clock leave the same time.
//! - A write through a memory map updates the time only if it is the first to its page since the
//!   page was last written to the disk. Linux writes the page after 30 seconds
//!   (`vm.dirty_expire_centisecs`), and on some file systems never.
//!
//! So an entry is neither made nor used until the file has been left alone for [`SETTLED`], and
//! never on a file system that is not known to keep the rule. One case remains: a page that stays
//! dirty for longer because the disk is too busy to take it. [`Index::paranoid`] trusts nothing.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::Digest;
use crate::filesystem::keeps_change_times;

/// How long a file must have been left alone before its state identifies its content.
///
/// Twice the time after which Linux writes a dirty page to the disk.
pub const SETTLED: Duration = Duration::from_mins(1);
/// The index is emptied beyond this many entries.
const MOST: usize = 50_000;

/// The state of a file as text, because the keys of JSON objects are strings.
type FileState = String;

/// A source of digests of files.
pub trait Digests: Sync {
    /// The BLAKE3 digest of the file at `path`.
    fn digest(&self, path: &Path) -> io::Result<Digest>;
    /// The SHA-256 of the file at `path`, in hex.
    fn sha256(&self, path: &Path) -> io::Result<String>;
}

/// Known digests, in memory and in a file.
pub struct Index {
    path: Option<PathBuf>,
    settled: Duration,
    paranoid: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Default, Serialize, Deserialize)]
struct Inner {
    entries: HashMap<FileState, Digest>,
    /// SHA-256 by the BLAKE3 digest of the same content.
    #[serde(default)]
    sha256: HashMap<String, String>,
    #[serde(skip)]
    changed: bool,
}

impl Default for Index {
    /// An empty index that is saved nowhere.
    fn default() -> Self {
        Self {
            path: None,
            settled: SETTLED,
            paranoid: AtomicBool::new(false),
            inner: Mutex::default(),
        }
    }
}

impl Index {
    /// The index saved at `path`; an empty one if there is none or it cannot be read.
    pub fn open(path: &Path) -> Self {
        let inner = fs::read(path)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        Self { path: Some(path.to_owned()), inner: Mutex::new(inner), ..Self::default() }
    }

    /// Makes the index read every file again, even if it knows the digest.
    pub fn paranoid(self, paranoid: bool) -> Self {
        self.set_paranoid(paranoid);
        self
    }

    /// The same for an index that is in use.
    pub fn set_paranoid(&self, paranoid: bool) {
        self.paranoid.fetch_or(paranoid, Ordering::Relaxed);
    }

    /// Replaces [`SETTLED`], for tests that cannot wait.
    pub fn settled_after(mut self, settled: Duration) -> Self {
        self.settled = settled;
        self
    }

    /// The state of the file at `path`. `None` if there is no such file, or if this system has no
    /// time stamp that a program cannot set.
    pub fn state(path: &Path) -> Option<String> {
        state(&fs::metadata(path).ok()?)
    }

    /// The state of the file at `path` and of every link on the way to it, and where the path
    /// leads.
    ///
    /// A path that was redirected to another file and back has a new state. A folder on the way
    /// that was renamed and renamed back is not noticed.
    pub fn state_of_the_way(path: &Path) -> Option<String> {
        let links =
            path.ancestors().filter(|path| path.symlink_metadata().is_ok_and(|m| m.is_symlink()));
        let links: Vec<String> =
            links.filter_map(|link| state(&fs::symlink_metadata(link).ok()?)).collect();
        Some(format!("{} {} {links:?}", Self::state(path)?, fs::canonicalize(path).ok()?.display()))
    }

    /// Reads the file at `path` even if its digest is known, and corrects the index.
    pub fn read_again(&self, path: &Path) -> io::Result<Digest> {
        let before = fs::metadata(path)?;
        let digest = Digest::of_file(path)?;
        let Some(state) = state(&before) else { return Ok(digest) };
        let mut inner = self.lock();
        if self.is_settled(&before, path)
            && self::state(&fs::metadata(path)?).as_ref() == Some(&state)
        {
            // The state is the same before and after, so it is the digest of this state.
            inner.changed |= inner.entries.insert(state, digest.clone()).as_ref() != Some(&digest);
        } else {
            inner.changed |= inner.entries.remove(&state).is_some();
        }
        Ok(digest)
    }

    /// Whether the state of a file with this metadata identifies its content.
    fn is_settled(&self, metadata: &Metadata, path: &Path) -> bool {
        let age = changed_at(metadata).and_then(|at| SystemTime::now().duration_since(at).ok());
        age.is_some_and(|age| age > self.settled)
            && (self.settled < SETTLED || keeps_change_times(path))
    }

    /// Digests that read every file again and correct the index.
    pub fn again(&self) -> Again<'_> {
        Again(self)
    }

    /// The SHA-256 of the file at `path`, which was just found to have the digest `digest`.
    fn sha256_of(&self, path: &Path, digest: &Digest) -> io::Result<String> {
        if let Some(known) = self.lock().sha256.get(digest.as_str()) {
            return Ok(known.clone());
        }
        let (digest, sum) = Digest::with_sha256(path)?;
        let mut inner = self.lock();
        inner.sha256.insert(digest.into(), sum.clone());
        inner.changed = true;
        Ok(sum)
    }

    /// Saves the index for the next run. A failure only costs time.
    pub fn save(&self) {
        let mut inner = self.lock();
        let Some(path) = self.path.as_ref().filter(|_| inner.changed) else { return };
        if inner.entries.len() > MOST {
            inner.entries.clear();
        }
        // Another process may save its index at the same time.
        let partial = path.with_extension(format!("{}.partial", std::process::id()));
        if let Ok(bytes) = serde_json::to_vec(&*inner) {
            let _ = atomic::replace_atomically(path, &partial, |file| file.write_all(&bytes));
        }
        inner.changed = false;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Digests for Index {
    fn digest(&self, path: &Path) -> io::Result<Digest> {
        let metadata = fs::metadata(path)?;
        let known = || state(&metadata).and_then(|state| self.lock().entries.get(&state).cloned());
        match known()
            .filter(|_| !self.paranoid.load(Ordering::Relaxed) && self.is_settled(&metadata, path))
        {
            Some(digest) => Ok(digest),
            None => self.read_again(path),
        }
    }

    fn sha256(&self, path: &Path) -> io::Result<String> {
        self.sha256_of(path, &self.digest(path)?)
    }
}

/// Digests that are read from the files, even if an index knows them.
pub struct Again<'i>(&'i Index);

impl Digests for Again<'_> {
    fn digest(&self, path: &Path) -> io::Result<Digest> {
        self.0.read_again(path)
    }

    fn sha256(&self, path: &Path) -> io::Result<String> {
        self.0.sha256_of(path, &self.digest(path)?)
    }
}

#[cfg(unix)]
#[expect(clippy::unnecessary_wraps, reason = "elsewhere there is none")]
fn state(metadata: &Metadata) -> Option<FileState> {
    use std::os::unix::fs::MetadataExt;
    let m = metadata;
    Some(format!(
        "{}:{}:{}:{}.{}:{}.{}",
        m.dev(),
        m.ino(),
        m.size(),
        m.mtime(),
        m.mtime_nsec(),
        m.ctime(),
        m.ctime_nsec()
    ))
}

#[cfg(unix)]
fn changed_at(metadata: &Metadata) -> Option<SystemTime> {
    use std::os::unix::fs::MetadataExt;
    let (seconds, nanos) =
        (u64::try_from(metadata.ctime()).ok()?, u32::try_from(metadata.ctime_nsec()).ok()?);
    Some(SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos))
}

/// Other systems have no time stamp that a program cannot set, so every file is read.
#[cfg(not(unix))]
fn state(_: &Metadata) -> Option<FileState> {
    None
}

#[cfg(not(unix))]
fn changed_at(_: &Metadata) -> Option<SystemTime> {
    None
}

#[cfg(all(test, unix))]
mod tests;
