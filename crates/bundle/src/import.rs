//! Reads a bundle.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;

use cache::{Manifest, ManifestError, NodeName, Store};
use failure::{Failure, Result};
use tar::{Archive, Entries, Entry};

use crate::{BundleItem, FORMAT, HEAD, Head, LARGEST_MANIFEST, damaged};

/// A zstd frame's first bytes (RFC 8878, section 3.1.1).
const MAGIC: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();

type Reader = zstd::Decoder<'static, BufReader<File>>;

/// Puts the results of the bundle `path` into the store, as the current ones of their nodes. The
/// caller must hold the store's lock.
pub fn import(store: &Store, path: &Path) -> Result<Vec<BundleItem>> {
    let file = File::open(path).map_err(|e| {
        Failure::input(
            format_args!("cannot read the bundle: {e}"),
            path.display(),
            "check the path",
        )
    })?;
    if file.metadata().is_ok_and(|m| m.is_dir()) {
        return Err(Failure::input(
            "this is a folder, not a bundle",
            path.display(),
            "give the file that `cargo xtask cache export` wrote",
        ));
    }
    let mut file = BufReader::new(file);
    let start = file.fill_buf().map_err(|e| Failure::io("read", path, &e))?;
    if !start.starts_with(&MAGIC) {
        return Err(Failure::input(
            "this is not a bundle",
            path.display(),
            "give the file that `cargo xtask cache export` wrote",
        ));
    }
    let mut decoder = zstd::Decoder::with_buffer(file)
        .map_err(|e| damaged(format_args!("this is not a bundle: {e}"), path))?;
    // A frame may ask for a window of any size; ours ask for far less than this.
    decoder.window_log_max(27).map_err(|e| damaged(e, path))?;
    let mut archive = Archive::new(decoder);
    let mut bundle = Bundle { path, entries: archive.entries().map_err(|e| damaged(e, path))? };
    let head = bundle.head()?;
    let mut items = Vec::new();
    for node in &head.nodes {
        match bundle.node(store, node) {
            Ok(item) => items.push(item),
            Err(mut failure) => {
                // An incomplete result is useless, and it may have filled the disk.
                store.drop_incoming();
                if !items.is_empty() {
                    let names: Vec<&str> = items.iter().map(|item| item.node.as_str()).collect();
                    failure.remedy = format!(
                        "{}; the results before it are complete and were imported: {}",
                        failure.remedy,
                        names.join(", ")
                    );
                }
                return Err(failure);
            }
        }
    }
    bundle.end()?;
    // The rest is the archive's padding and the frame's checksum.
    io::copy(&mut archive.into_inner(), &mut io::sink())
        .map_err(|e| damaged(format_args!("the bundle is damaged at its end: {e}"), path))?;
    Ok(items)
}

struct Bundle<'b> {
    path: &'b Path,
    entries: Entries<'b, Reader>,
}

impl<'b> Bundle<'b> {
    fn damaged(&self, what: impl std::fmt::Display) -> Failure {
        damaged(what, self.path)
    }

    /// The next entry, which must have this name.
    fn next(&mut self, name: &str) -> Result<Entry<'b, Reader>> {
        let path = self.path;
        let entry = self
            .entries
            .next()
            .ok_or_else(|| damaged(format_args!("the bundle ends before {name}"), path))?;
        let entry = entry.map_err(|e| {
            damaged(format_args!("the bundle is damaged or cut off before {name}: {e}"), path)
        })?;
        let is = entry.path_bytes();
        if is != name.as_bytes() || entry.header().entry_type() != tar::EntryType::Regular {
            return Err(damaged(
                format_args!(
                    "the bundle has `{}` where {name} should be",
                    String::from_utf8_lossy(&is)
                ),
                path,
            ));
        }
        Ok(entry)
    }

    /// The bytes of the next entry, which must be small.
    fn small(&mut self, name: &str) -> Result<Vec<u8>> {
        let entry = self.next(name)?;
        if entry.size() > LARGEST_MANIFEST {
            return Err(self.damaged(format_args!("{name} has {} bytes", entry.size())));
        }
        let mut bytes = Vec::new();
        entry
            .take(LARGEST_MANIFEST)
            .read_to_end(&mut bytes)
            .map_err(|e| self.damaged(format_args!("{name}: {e}")))?;
        Ok(bytes)
    }

    fn head(&mut self) -> Result<Head> {
        #[derive(serde::Deserialize)]
        struct BundleFormat {
            format: u32,
        }
        let bytes = self.small(HEAD)?;
        let format: BundleFormat = serde_json::from_slice(&bytes)
            .map_err(|e| self.damaged(format_args!("{HEAD}: {e}")))?;
        if format.format > FORMAT {
            let what = format_args!(
                "the bundle has format {}, but this knockline reads at most format {FORMAT}",
                format.format
            );
            return Err(Failure::usage(
                what,
                self.path.display(),
                "use the newer version of knockline that made it",
            ));
        }
        serde_json::from_slice(&bytes).map_err(|e| self.damaged(format_args!("{HEAD}: {e}")))
    }

    /// Imports a node's result: into a separate folder first, and into the store when all of it is
    /// correct.
    fn node(&mut self, store: &Store, node: &NodeName) -> Result<BundleItem> {
        let name = format!("{node}/manifest.json");
        let bytes = self.small(&name)?;
        let manifest =
            match Manifest::parse(&bytes, format_args!("{}, {name}", self.path.display())) {
                // The pipeline, which the error's own remedy names, cannot fix a bundle.
                Err(damaged @ ManifestError::Damaged { .. }) => {
                    return Err(self.damaged(format_args!("{name}: {damaged}")));
                }
                other => other?,
            };
        if &manifest.node != node {
            return Err(self.damaged(format_args!("{name} belongs to `{}`", manifest.node)));
        }
        let folder = store.incoming(node)?;
        for output in &manifest.outputs {
            let mut entry = self.next(&format!("{node}/{}", output.path))?;
            if entry.size() != output.size {
                return Err(self.damaged(format_args!(
                    "{node}/{} has {} bytes, not {}",
                    output.path,
                    entry.size(),
                    output.size
                )));
            }
            let to = folder.join(&output.path);
            let digest = copy(&mut entry, &to).map_err(|trouble| match trouble {
                CopyError::Read(e) => {
                    self.damaged(format_args!("{node}/{} is damaged or cut off: {e}", output.path))
                }
                CopyError::Write(e) => Failure::io("write", &to, &e),
            })?;
            if digest != output.digest.as_str() {
                return Err(self.damaged(format_args!(
                    "{node}/{} does not have the digest that its manifest lists",
                    output.path
                )));
            }
        }
        let (key, bytes) = (manifest.key.clone(), manifest.bytes());
        let had = store.peek(node, &key).is_some();
        store.adopt(&folder, &manifest)?;
        Ok(BundleItem { node: node.clone(), key, bytes, had })
    }

    /// Checks that nothing follows the last node.
    fn end(&mut self) -> Result<()> {
        match self.entries.next() {
            None => Ok(()),
            Some(Ok(entry)) => Err(self.damaged(format_args!(
                "the bundle has `{}` after its last node",
                String::from_utf8_lossy(&entry.path_bytes())
            ))),
            Some(Err(e)) => {
                Err(self.damaged(format_args!("the bundle is damaged at its end: {e}")))
            }
        }
    }
}

enum CopyError {
    Read(io::Error),
    Write(io::Error),
}

/// Copies an entry into a synced file and returns its digest.
fn copy(entry: &mut impl Read, to: &Path) -> Result<String, CopyError> {
    if let Some(folder) = to.parent() {
        std::fs::create_dir_all(folder).map_err(CopyError::Write)?;
    }
    let mut file = File::create(to).map_err(CopyError::Write)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let n = entry.read(&mut buffer).map_err(CopyError::Read)?;
        let Some(bytes) = buffer.get(..n).filter(|bytes| !bytes.is_empty()) else { break };
        hasher.update(bytes);
        file.write_all(bytes).map_err(CopyError::Write)?;
    }
    file.sync_all().map_err(CopyError::Write)?;
    Ok(hasher.finalize().to_hex().to_string())
}
