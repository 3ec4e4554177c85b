//! Opens a source file as a stream of its bytes, unpacked: plain, gzip, Zstandard or zip.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::path::Path;

use failure::{Failure, Result};
use flate2::read::MultiGzDecoder;
use stage::{Progress, Unit};

use super::format::{Format, without_packing};
use crate::archive;

/// Bytes that are looked at to guess a format.
const HEAD: usize = 1 << 16;

/// The first bytes of packed files.
const GZIP: &[u8] = b"\x1f\x8b";
const ZSTANDARD: &[u8] = b"\x28\xb5\x2f\xfd";

/// Whether the file at `path` is packed with gzip or Zstandard.
pub fn is_packed(path: &Path) -> bool {
    let mut magic = Vec::new();
    let read = File::open(path).and_then(|file| file.take(4).read_to_end(&mut magic));
    read.is_ok() && (magic.starts_with(GZIP) || magic.starts_with(ZSTANDARD))
}

/// An unpacked file, or a member of a zip archive.
pub struct Unpacked<'u> {
    /// Its name, without the ending of a compressed file.
    pub name: &'u str,
    /// Its name in errors.
    pub place: &'u str,
    /// Its first bytes.
    pub head: Vec<u8>,
    /// Its bytes, from the first on.
    pub reader: &'u mut dyn Read,
    /// Where it lies, if it is not packed.
    pub path: Option<&'u Path>,
}

/// Calls `take` with the file at `path` or, for a zip archive, with each of its members, sorted by
/// name. `name` is the file's name, and `origin` says in errors where it came from.
pub fn open(
    path: &Path,
    name: &str,
    origin: &str,
    progress: &Progress,
    mut take: impl FnMut(Unpacked<'_>) -> Result<()>,
) -> Result<()> {
    let fail = |e: std::io::Error| Failure::io("read", path, &e);
    let mut file = File::open(path).map_err(fail)?;
    let size = file.metadata().map_err(fail)?.len();
    let mut magic = Vec::new();
    (&mut file).take(4).read_to_end(&mut magic).map_err(fail)?;
    file.rewind().map_err(fail)?;
    progress.begin("reading", Some(size), Unit::Bytes);
    if archive::is_zip(path) {
        return archive::members(
            BufReader::new(file),
            origin,
            Format::is_named,
            &mut |reader, name, place| pass_on(reader, name, place, None, &mut take),
        );
    }
    let counted = Counted { inner: file, done: 0, progress };
    let name_inside = without_packing(name);
    if magic.starts_with(GZIP) {
        let mut reader = MultiGzDecoder::new(BufReader::with_capacity(1 << 17, counted));
        return pass_on(&mut reader, name_inside, origin, None, &mut take);
    }
    if magic.starts_with(ZSTANDARD) {
        let mut reader = zstd::Decoder::new(counted).map_err(fail)?;
        return pass_on(&mut reader, name_inside, origin, None, &mut take);
    }
    let mut counted = counted;
    pass_on(&mut counted, name, origin, Some(path), &mut take)
}

fn pass_on(
    reader: &mut dyn Read,
    name: &str,
    place: &str,
    path: Option<&Path>,
    take: &mut impl FnMut(Unpacked<'_>) -> Result<()>,
) -> Result<()> {
    let mut reader = BufReader::with_capacity(HEAD, reader);
    let head = reader.fill_buf().map(<[u8]>::to_vec).map_err(|e| {
        Failure::input(
            format_args!("cannot read: {e}"),
            place,
            "get the file again; it may be damaged",
        )
    })?;
    take(Unpacked { name, place, head, reader: &mut reader, path })
}

/// Reports how much of the file has been read.
struct Counted<'p> {
    inner: File,
    done: u64,
    progress: &'p Progress,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.done += n as u64;
        self.progress.at(self.done, String::new);
        Ok(n)
    }
}
