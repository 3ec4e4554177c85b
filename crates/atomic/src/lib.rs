//! Writes files whole or not at all: after a kill or a power cut, a path has the old file or the
//! new one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Writes `bytes` to the file at `path`.
///
/// # Errors
/// Returns the system's error; the old file is then unchanged.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_atomically(path, &partial(path), |file| file.write_all(bytes))
}

/// Replaces the file at `path` with what `write` writes.
///
/// Until the new file is complete and synced, it is called `partial`, a path in the same folder that
/// nothing else uses: a file of that name is what an earlier, killed writer left, and is removed.
///
/// # Errors
/// Returns the error of `write` or of the system. The old file is then unchanged, and `partial` is
/// removed.
pub fn replace_atomically(
    path: &Path,
    partial: &Path,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let mut file = create(partial)?;
    let written = write(&mut file).and_then(|()| file.sync_all());
    drop(file);
    finish(partial, written.and_then(|()| rename(partial, path)))
}

/// Writes `bytes` to the file at `path` without a sync, for a file that is written often and that a
/// power cut may take: readers see the old file or the new one.
///
/// # Errors
/// Returns the system's error; the old file is then unchanged.
pub fn write_unsynced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let partial = partial(path);
    let written = create(&partial)?.write_all(bytes);
    finish(&partial, written.and_then(|()| fs::rename(&partial, path)))
}

/// Copies a file with its permissions.
///
/// # Errors
/// Returns the system's error; a file at `to` is then unchanged.
pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
    replace_atomically(to, &partial(to), |file| {
        let mut source = File::open(from)?;
        io::copy(&mut source, file)?;
        file.set_permissions(source.metadata()?.permissions())
    })
}

/// Creates a partial file. A link of that name is replaced, not followed.
fn create(partial: &Path) -> io::Result<File> {
    match fs::remove_file(partial) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => File::create_new(partial),
    }
}

/// Removes a partial file after a failure: nobody can use it.
fn finish(partial: &Path, done: io::Result<()>) -> io::Result<()> {
    if done.is_err() {
        let _ = fs::remove_file(partial);
    }
    done
}

/// Renames a file or a folder, and syncs its old and its new parent folder, so that the new name
/// survives a power cut.
///
/// # Errors
/// Returns the system's error.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    let (new, old) = (folder(to), folder(from));
    sync(new);
    if old != new {
        sync(old);
    }
    Ok(())
}

/// The folder that a path lies in.
fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

fn sync(folder: &Path) {
    // Not every system can open a folder to sync it.
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
}

/// The name of a file until it is complete, if only one process writes it.
pub fn partial(path: &Path) -> PathBuf {
    path.with_extension("partial")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_file_stays_until_the_new_one_is_whole() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("x.json");
        write_atomically(&path, b"old").expect("writes");
        let failed = replace_atomically(&path, &partial(&path), |file| {
            file.write_all(b"half")?;
            Err(io::Error::other("full"))
        });
        assert_eq!(failed.expect_err("fails").to_string(), "full");
        assert_eq!(fs::read(&path).expect("reads"), b"old");
        assert_eq!(
            fs::read_dir(dir.path()).expect("a folder").count(),
            1,
            "nothing is left beside it"
        );
        write_atomically(&path, b"new").expect("writes");
        assert_eq!(fs::read(&path).expect("reads"), b"new");
        assert!(write_atomically(&dir.path().join("no/x"), b"").is_err());
    }
}
