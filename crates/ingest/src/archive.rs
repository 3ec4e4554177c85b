//! Opens the archive as a stream of its table's bytes.

use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::Path;

use failure::{Failure, Result};
use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

/// The archive's member that holds the headlines. The archive also has a `__MACOSX/._` twin of
/// it, so the whole name counts.
pub const MEMBER: &str = "newsCorpora.csv";

/// The largest ratio of unpacked to packed size that is accepted. Headlines unpack to about three
/// times their packed size and repeated ones to a hundred times, a zip bomb's zeros to a thousand
/// times.
const RATIO: u64 = 200;
/// An unpacked size up to which no ratio does harm, in bytes.
const SMALL: u64 = 1 << 28;

/// Consumes the stream: its bytes, their expected number, and the stream's name for messages.
pub type Consumer<'a, T> = &'a mut dyn FnMut(&mut dyn Read, u64, &str) -> Result<T>;

/// Whether the file at `path` begins as a zip archive does.
pub fn is_zip(path: &Path) -> bool {
    let mut magic = [0; 4];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    // The first member, the end of an empty archive, or the mark of one in several files. A table
    // may begin with PK, too.
    read.is_ok() && [*b"PK\x03\x04", *b"PK\x05\x06", *b"PK\x07\x08"].contains(&magic)
}

/// The names of the files in the zip archive at `path`, without hidden ones; none if it is not one.
pub fn names(path: &Path) -> Vec<String> {
    let archive = File::open(path).ok().and_then(|file| ZipArchive::new(BufReader::new(file)).ok());
    archive.map_or_else(Vec::new, |archive| {
        let names = archive.file_names().flatten().filter(|name| !is_hidden(name));
        names.map(Into::into).collect()
    })
}

fn is_hidden(name: &str) -> bool {
    name.split('/').any(|part| part.starts_with('.') || part == "__MACOSX" || part.is_empty())
}

/// Whether the file at `path` is a zip archive with the table of headlines.
pub fn has_news(path: &Path) -> bool {
    let archive = File::open(path).ok().and_then(|file| ZipArchive::new(BufReader::new(file)).ok());
    archive.is_some_and(|archive| archive.index_for_name(MEMBER).is_some())
}

/// Streams the table in the archive at `path`.
pub fn stream<T>(path: &Path, origin: &str, consume: Consumer<'_, T>) -> Result<T> {
    let file = File::open(path).map_err(|e| Failure::io("read", path, &e))?;
    member(BufReader::with_capacity(1 << 17, file), origin, consume)
}

/// Streams the table of a zip archive that is in memory.
pub fn stream_bytes<T>(bytes: Vec<u8>, origin: &str, consume: Consumer<'_, T>) -> Result<T> {
    member(Cursor::new(bytes), origin, consume)
}

/// Calls `take` with the stream, the name and the place in errors of each of a zip archive's
/// files, sorted by name. Hidden files are left out and, if some names are wanted, all others.
pub fn members<R: Read + Seek>(
    reader: R,
    origin: &str,
    is_wanted: impl Fn(&str) -> bool,
    take: &mut dyn FnMut(&mut dyn Read, &str, &str) -> Result<()>,
) -> Result<()> {
    let (mut archive, length) = open(reader, origin)?;
    let mut names: Vec<String> =
        archive.file_names().filter_map(std::result::Result::ok).map(Into::into).collect();
    names.retain(|name| !is_hidden(name));
    // Beside files of rows, others describe them.
    if names.iter().any(|name| is_wanted(name)) {
        names.retain(|name| is_wanted(name));
    }
    names.sort_unstable();
    if names.is_empty() {
        return Err(Failure::input("the archive has no files", origin, "give one with data"));
    }
    for name in names {
        let Some(index) = archive.index_for_name(&name) else { continue };
        let mut take = |reader: &mut dyn Read, _, place: &str| take(reader, &name, place);
        stream_member(&mut archive, index, &name, origin, length, &mut take)?;
    }
    Ok(())
}

fn refuse(error: &ZipError, origin: &str) -> Failure {
    let remedy = match error {
        ZipError::UnsupportedArchive(_) | ZipError::CompressionMethodNotSupported(_) => {
            "unpack it with another program, and give the table itself"
        }
        _ => "get the archive again; it may have been cut off",
    };
    Failure::input(format_args!("cannot read the zip archive: {error}"), origin, remedy)
}

/// The archive, and its length in bytes.
fn open<R: Read + Seek>(mut reader: R, origin: &str) -> Result<(ZipArchive<R>, u64)> {
    let length = reader.seek(SeekFrom::End(0)).map_err(|e| refuse(&e.into(), origin))?;
    Ok((ZipArchive::new(reader).map_err(|e| refuse(&e, origin))?, length))
}

fn member<R: Read + Seek, T>(reader: R, origin: &str, consume: Consumer<'_, T>) -> Result<T> {
    let (mut archive, length) = open(reader, origin)?;
    let Some(index) = archive.index_for_name(MEMBER) else {
        let shown = |name: &str| name.chars().take(80).collect::<String>();
        let names: Vec<_> = archive
            .file_names()
            .filter_map(std::result::Result::ok)
            .take(10)
            .map(|name| shown(&name))
            .collect();
        return Err(Failure::input(
            format_args!("the archive has no {MEMBER}; it has {}", names.join(", ")),
            origin,
            "give the UCI News Aggregator archive, or the table itself",
        ));
    };
    stream_member(&mut archive, index, MEMBER, origin, length, consume)
}

/// Streams a member of an archive of so many bytes.
fn stream_member<R: Read + Seek, T>(
    archive: &mut ZipArchive<R>,
    index: usize,
    name: &str,
    origin: &str,
    length: u64,
    consume: Consumer<'_, T>,
) -> Result<T> {
    let mut file = archive.by_index(index).map_err(|e| refuse(&e, origin))?;
    // The sizes in the header may exceed what the archive holds.
    let (size, packed) = (file.size(), file.compressed_size().min(length));
    let method = file.compression();
    if !matches!(method, CompressionMethod::Stored | CompressionMethod::Deflated) {
        let remedy = "unpack it with another program, and give the table itself";
        return Err(Failure::input(
            format_args!("it is compressed with {method}, which is not supported"),
            format_args!("{origin}, {name}"),
            remedy,
        ));
    }
    let wrong = |what: String| {
        Failure::input(
            what,
            format_args!("{origin}, {name}"),
            "get the archive again from a source that you trust",
        )
    };
    if file.is_symlink() {
        return Err(wrong("it is a symbolic link, not a file".into()));
    }
    if size > SMALL && size / RATIO > packed {
        return Err(wrong(format!(
            "{packed} bytes claim to unpack to {size}; headlines never compress that well"
        )));
    }
    // `zip` refuses a member that unpacks to more than its declared size.
    consume(&mut file, size, &format!("{origin}, {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use zip::write::{SimpleFileOptions, ZipWriter};

    fn zip(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in members {
            writer.start_file(*name, SimpleFileOptions::default()).expect("starts");
            writer.write_all(bytes).expect("writes");
        }
        writer.finish().expect("finishes").into_inner()
    }

    fn read(bytes: Vec<u8>) -> Result<Vec<u8>> {
        stream_bytes(bytes, "a.zip", &mut |reader, _, _| {
            let mut all = Vec::new();
            reader
                .read_to_end(&mut all)
                .map_err(|e| Failure::io("read", Path::new("a.zip"), &e))?;
            Ok(all)
        })
    }

    #[test]
    fn a_member_is_found_by_its_whole_name() {
        let archive = zip(&[
            ("__MACOSX/._newsCorpora.csv", b"no"),
            ("x/newsCorpora.csv", b"no"),
            (MEMBER, b"yes"),
        ]);
        assert_eq!(read(archive).expect("reads"), b"yes");
    }

    #[test]
    fn the_error_for_a_missing_member_lists_the_archive_s_members() {
        let failure = read(zip(&[("readme.txt", b"hello")])).unwrap_err();
        assert_eq!(failure.what, "the archive has no newsCorpora.csv; it has readme.txt");
    }

    #[test]
    fn a_truncated_archive_is_refused() {
        let mut archive = zip(&[(MEMBER, &[b'x'; 1000])]);
        archive.truncate(60);
        assert!(read(archive).unwrap_err().what.starts_with("cannot read the zip archive"));
    }

    #[test]
    fn a_member_that_is_larger_than_it_claims_is_refused() {
        let mut archive = zip(&[(MEMBER, &[b'x'; 1000])]);
        let central = archive.windows(4).rposition(|w| w == b"PK\x01\x02").expect("a header");
        archive[central + 24..central + 28].copy_from_slice(&100_u32.to_le_bytes());
        assert!(read(archive).unwrap_err().what.contains("larger than its declared"));
    }

    #[test]
    fn a_flipped_byte_is_found_by_the_checksum() {
        let text: Vec<u8> = (0..4000_u32).flat_map(|i| i.to_string().into_bytes()).collect();
        let mut archive = zip(&[(MEMBER, &text)]);
        archive[2000] ^= 0x10;
        assert!(read(archive).is_err());
    }
}
