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

/// Streams the table at `path`, which is a zip archive or the table itself.
pub fn stream<T>(path: &Path, origin: &str, consume: Consumer<'_, T>) -> Result<T> {
    let fail = |e: std::io::Error| Failure::io("read", path, &e);
    let mut file = File::open(path).map_err(fail)?;
    let mut magic = Vec::new();
    (&mut file).take(4).read_to_end(&mut magic).map_err(fail)?;
    file.rewind().map_err(fail)?;
    if magic.starts_with(b"PK") {
        return member(BufReader::with_capacity(1 << 17, file), origin, consume);
    }
    if magic.starts_with(b"\x1f\x8b") {
        return Err(Failure::input(
            "this is a gzip file",
            path.display(),
            "give the .zip archive or the .csv table",
        ));
    }
    let size = file.metadata().map_err(fail)?.len();
    consume(&mut file, size, origin)
}

/// Streams the table of a zip archive that is in memory.
pub fn stream_bytes<T>(bytes: Vec<u8>, origin: &str, consume: Consumer<'_, T>) -> Result<T> {
    member(Cursor::new(bytes), origin, consume)
}

fn member<R: Read + Seek, T>(mut reader: R, origin: &str, consume: Consumer<'_, T>) -> Result<T> {
    let refuse = |e: ZipError| {
        let remedy = match e {
            ZipError::UnsupportedArchive(_) | ZipError::CompressionMethodNotSupported(_) => {
                "unpack it with another program, and give the table itself"
            }
            _ => "get the archive again; it may have been cut off",
        };
        Failure::input(format_args!("cannot read the zip archive: {e}"), origin, remedy)
    };
    let length = reader.seek(SeekFrom::End(0)).map_err(|e| refuse(e.into()))?;
    let mut archive = ZipArchive::new(reader).map_err(refuse)?;
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
    let mut file = archive.by_index(index).map_err(refuse)?;
    // The sizes in the header may exceed what the archive holds.
    let (size, packed) = (file.size(), file.compressed_size().min(length));
    let method = file.compression();
    if !matches!(method, CompressionMethod::Stored | CompressionMethod::Deflated) {
        let remedy = "unpack it with another program, and give the table itself";
        return Err(Failure::input(
            format_args!("it is compressed with {method}, which is not supported"),
            format_args!("{origin}, {MEMBER}"),
            remedy,
        ));
    }
    let wrong = |what: String| {
        Failure::input(
            what,
            format_args!("{origin}, {MEMBER}"),
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
    consume(&mut file, size, &format!("{origin}, {MEMBER}"))
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
