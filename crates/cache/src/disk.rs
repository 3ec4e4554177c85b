//! Operations on files and folders after which a power cut leaves the old state or the new one, and
//! nothing in between.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use failure::{Failure, Result};

use crate::Digest;
use crate::digest::on_all_processors;
use crate::fault;

/// The paths of all files below `folder`, relative to it.
pub fn paths(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(relative) = todo.pop() {
        let here = folder.join(&relative);
        let fail = |e: io::Error| Failure::io("read folder", &here, &e);
        for entry in fs::read_dir(&here).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let path = relative.join(entry.file_name());
            if entry.file_type().map_err(fail)?.is_dir() {
                todo.push(path);
            } else {
                found.push(path);
            }
        }
    }
    Ok(found)
}

/// The same paths as in a manifest, with `/` between their parts.
fn files(folder: &Path) -> Result<Vec<String>> {
    let text = |path: PathBuf| {
        let parts: Option<Vec<&str>> =
            path.components().map(|part| part.as_os_str().to_str()).collect();
        let strange = || {
            Failure::failed(
                "a file's name is not UTF-8",
                folder.join(&path).display(),
                "rename it, or move it away",
            )
        };
        parts.map(|parts| parts.join("/")).ok_or_else(strange)
    };
    paths(folder)?.into_iter().map(text).collect()
}

/// Syncs and digests every file below `folder`, sorted by path. Files at the paths `own` are
/// removed first.
pub fn digest_all(folder: &Path, own: &[&str]) -> Result<Vec<(String, u64, Digest)>> {
    let mut paths = files(folder)?;
    for own in own {
        if let Some(at) = paths.iter().position(|path| path == own) {
            paths.remove(at);
            fs::remove_file(folder.join(own))
                .map_err(|e| Failure::io("remove", &folder.join(own), &e))?;
        }
    }
    paths.sort_unstable();
    let one = |relative: &String| -> Result<(String, u64, Digest)> {
        let path = folder.join(relative);
        let fail = |e: io::Error| Failure::io("read", &path, &e);
        let file = File::open(&path).map_err(fail)?;
        file.sync_all().map_err(fail)?;
        let size = file.metadata().map_err(fail)?.len();
        Ok((relative.clone(), size, Digest::of_file(&path).map_err(fail)?))
    };
    on_all_processors(&paths, one).into_iter().collect()
}

/// The folders in `folder`.
pub fn folders(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect()
}

/// Writes a file whole or not at all.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    fault::step();
    let written = atomic::replace_atomically(path, &atomic::partial(path), |file| {
        fault::step();
        file.write_all(bytes)?;
        fault::step();
        Ok(())
    });
    written.map_err(|e| Failure::io("write", path, &e))
}

/// Renames a file or a folder, so that the new name survives a power cut.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    fault::step();
    atomic::rename(from, to)
        .map_err(|e| Failure::io(&format!("rename to {}", to.display()), from, &e))
}

/// Creates a folder and the folders above it.
pub fn make(folder: &Path) -> Result<()> {
    fault::step();
    fs::create_dir_all(folder).map_err(|e| Failure::io("create folder", folder, &e))
}

/// Removes a folder and its content, if it exists.
pub fn remove(folder: &Path) -> Result<()> {
    fault::step();
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Failure::io("remove", folder, &e)),
        _ => Ok(()),
    }
}
