//! The files that a source names: a file, a folder or a pattern.

use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};

/// Folders below each other that are entered: more are likely a circle of links.
const DEEPEST: usize = 16;

/// One of a source's files.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourceFile {
    /// Its name or, in a folder, its path below the folder, with `/`.
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
}

/// The files that `source` names, sorted by name: a file itself; a folder's files, except hidden
/// ones; or the files that match a pattern such as `data/*.tsv`.
pub fn expand(source: &str) -> Result<Vec<SourceFile>> {
    let path = Path::new(source);
    let mut files = Vec::new();
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => walk(path, "", 0, &mut files)?,
        Ok(_) => {
            files.push(SourceFile { name: crate::source_name(&[source]), path: path.to_owned() });
        }
        Err(e) if e.kind() == ErrorKind::NotFound && source.contains(WILD) => {
            let (base, pattern) = split_pattern(path);
            let whole = Path::new(&glob::Pattern::escape(&base.to_string_lossy())).join(&pattern);
            let matches = glob::glob(&whole.to_string_lossy())
                .map_err(|e| Error::new(ErrorKind::InvalidInput, e))?;
            for path in matches {
                let path = path.map_err(Error::from)?;
                if path.is_file() {
                    let name = path.strip_prefix(&base).unwrap_or(&path);
                    let name = name.to_string_lossy().replace('\\', "/");
                    files.push(SourceFile { name, path });
                }
            }
        }
        Err(e) => return Err(e),
    }
    if files.is_empty() {
        return Err(Error::new(ErrorKind::NotFound, "no file is there"));
    }
    files.sort_unstable();
    Ok(files)
}

/// What makes a path a pattern.
const WILD: [char; 3] = ['*', '?', '['];

/// The folder that a pattern's files lie below, and the rest of the pattern. The folder exists: its
/// own name may have the letters of a pattern.
fn split_pattern(path: &Path) -> (PathBuf, PathBuf) {
    let mut base = PathBuf::new();
    let mut rest = path.components();
    for part in path.components() {
        let next = base.join(part);
        if part.as_os_str().to_string_lossy().contains(WILD) && !next.is_dir() {
            break;
        }
        base = next;
        rest.next();
    }
    (base, rest.as_path().to_owned())
}

fn walk(folder: &Path, above: &str, depth: usize, files: &mut Vec<SourceFile>) -> Result<()> {
    if depth > DEEPEST {
        return Err(Error::other(format!("{} is too deep", folder.display())));
    }
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        let name = format!("{above}{name}");
        let metadata = std::fs::metadata(&path)
            .map_err(|e| Error::new(e.kind(), format!("{}: {e}", path.display())))?;
        if metadata.is_dir() {
            walk(&path, &format!("{name}/"), depth + 1, files)?;
        } else if metadata.is_file() {
            files.push(SourceFile { name, path });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_a_pattern_and_a_file_name_files() {
        let dir = tempfile::tempdir().expect("a folder");
        for name in ["b/2.txt", "b/10.txt", "a/x.txt", ".git/y", "top.tsv", "a/.hidden"] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("creates");
            std::fs::write(path, name).expect("writes");
        }
        let names = |below: &str| {
            let found = expand(&dir.path().join(below).display().to_string());
            found.map(|files| files.into_iter().map(|file| file.name).collect::<Vec<_>>())
        };
        assert_eq!(names("").expect("files"), ["a/x.txt", "b/10.txt", "b/2.txt", "top.tsv"]);
        assert_eq!(names("b/*.txt").expect("files"), ["10.txt", "2.txt"]);
        assert_eq!(names("top.tsv").expect("files"), ["top.tsv"]);
        assert_eq!(names("*/*.txt").expect("files"), ["a/x.txt", "b/10.txt", "b/2.txt"]);
        std::fs::create_dir(dir.path().join("odd[1]")).expect("creates");
        std::fs::write(dir.path().join("odd[1]/y.csv"), "").expect("writes");
        assert_eq!(names("odd[1]/*.csv").expect("files"), ["y.csv"]);
        for missing in ["*.csv", "c", "c.tsv"] {
            assert_eq!(names(missing).unwrap_err().kind(), ErrorKind::NotFound, "{missing}");
        }
    }
}
