//! Writes a bundle.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

use cache::{Manifest, NodeName, Store};
use failure::{Failure, Result};

use crate::{BundleItem, FORMAT, HEAD, Head};

/// zstd's default.
const LEVEL: i32 = 3;

/// Writes the current results of `nodes` into the bundle `path`, whole or not at all. The caller
/// must hold the store's lock.
pub fn export(store: &Store, nodes: &[NodeName], path: &Path) -> Result<Vec<BundleItem>> {
    // A name that belongs neither to a file of the user nor to another bundle in progress.
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.partial", std::process::id()));
    let mut made = Ok(Vec::new());
    let written = atomic::replace_atomically(path, &path.with_file_name(name), |file| {
        let mut encoder = zstd::Encoder::new(BufWriter::new(file), LEVEL)?;
        encoder.include_checksum(true)?;
        let mut archive = tar::Builder::new(encoder);
        made = write(store, nodes, &mut archive, path);
        if made.is_err() {
            return Err(io::Error::other("a result cannot be exported"));
        }
        archive.into_inner()?.finish()?.flush()
    });
    let items = made?;
    written.map_err(|e| Failure::io("write", path, &e))?;
    Ok(items)
}

fn write<W: Write>(
    store: &Store,
    nodes: &[NodeName],
    archive: &mut tar::Builder<W>,
    bundle: &Path,
) -> Result<Vec<BundleItem>> {
    let fail = |e: &io::Error| Failure::io("write", bundle, e);
    let head = Head { format: FORMAT, nodes: nodes.to_vec() };
    let head = serde_json::to_vec(&head)
        .map_err(|e| Failure::failed(e, bundle.display(), "this is a bug; please report it"))?;
    append(archive, HEAD, head.len() as u64, &head[..]).map_err(|e| fail(&e))?;
    let mut items = Vec::new();
    for node in nodes {
        let folder = store.current(node);
        let Some(manifest) = Manifest::read(&folder)? else {
            let remedy = format!("run `cargo xtask pipeline --to {node}` to make it");
            return Err(Failure::usage(
                format_args!("there is no result of `{node}` to export"),
                folder.display(),
                remedy,
            ));
        };
        let text = manifest.to_bytes()?;
        append(archive, &format!("{node}/manifest.json"), text.len() as u64, &text[..])
            .map_err(|e| fail(&e))?;
        for output in &manifest.outputs {
            let path = folder.join(&output.path);
            let wrong = |what: &str| {
                let remedy = "run `cargo xtask pipeline`, which sets it aside and makes it again, then export again";
                Failure::input(format_args!("{} {what}", output.path), folder.display(), remedy)
            };
            let file = File::open(&path).map_err(|e| wrong(&format!("cannot be read: {e}")))?;
            if file.metadata().map_or(0, |m| m.len()) != output.size {
                return Err(wrong("has changed in size since it was made"));
            }
            let mut reader =
                Hashed { inner: file.take(output.size), hasher: blake3::Hasher::new() };
            append(archive, &format!("{node}/{}", output.path), output.size, &mut reader)
                .map_err(|e| fail(&e))?;
            if reader.hasher.finalize().to_hex().as_str() != output.digest.as_str() {
                return Err(wrong("has changed since it was made"));
            }
        }
        items.push(BundleItem {
            node: node.clone(),
            key: manifest.key.clone(),
            bytes: manifest.bytes(),
            had: true,
        });
    }
    Ok(items)
}

/// Appends an entry whose header does not depend on this machine, its user or the time.
fn append<W: Write>(
    archive: &mut tar::Builder<W>,
    name: &str,
    size: u64,
    content: impl Read,
) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_entry_type(tar::EntryType::Regular);
    archive.append_data(&mut header, name, content)
}

/// A reader that digests the bytes that pass through it.
struct Hashed<R> {
    inner: R,
    hasher: blake3::Hasher,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hasher.update(buffer.get(..n).unwrap_or_default());
        Ok(n)
    }
}
