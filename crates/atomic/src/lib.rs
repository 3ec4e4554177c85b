//! Files that are there whole or not at all: a process that is killed, or a power cut, leaves the
//! old file or the new one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Writes `bytes` as the file at `path`.
///
/// # Errors
/// As the system has it; the old file is still there then.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_atomically(path, &partial(path), |file| file.write_all(bytes))
}

/// Has `write` write the file at `path`, which is called `partial` in the same folder until it is
/// whole and on the disk.
///
/// # Errors
/// That of `write`, or the system's. The old file is still there then, and `partial` is not.
pub fn replace_atomically(
    path: &Path,
    partial: &Path,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let written = File::create(partial).and_then(|mut file| {
        write(&mut file)?;
        file.sync_all()
    });
    let replaced = written.and_then(|()| rename(partial, path));
    if replaced.is_err() {
        // Half a file is of no use to anybody.
        let _ = fs::remove_file(partial);
    }
    replaced
}

/// Renames a file or a folder, and syncs the folders that it leaves and comes to, so that the new
/// name outlives a power cut.
///
/// # Errors
/// As the system has it.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    for folder in [to.parent(), from.parent()].into_iter().flatten() {
        // Not every system lets a folder be opened to sync it.
        if let Ok(folder) = File::open(folder) {
            let _ = folder.sync_all();
        }
    }
    Ok(())
}

/// What a file is called until it is whole, where only one process writes it.
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
