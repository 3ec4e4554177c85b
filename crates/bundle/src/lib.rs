//! Results of nodes in one file, for another machine or the next CI job.
//!
//! A bundle is a tar archive in a zstd frame. Its first entry, `knockline-bundle.json`, lists the
//! format and the nodes. After it, each node has its `manifest.json`, followed by its files in the
//! manifest's order.
//!
//! What always holds: the same results give the same bytes; an imported file has the digest that
//! its manifest lists; a damaged or incomplete bundle is an error that names it; and a node's
//! result is imported completely or not at all.

mod export;
mod import;

use std::path::Path;

use cache::{ContentKey, NodeName};
use failure::Failure;
use serde::{Deserialize, Serialize};

pub use export::export;
pub use import::import;

/// The format that this version writes and reads.
const FORMAT: u32 = 1;
/// The name of the first entry.
const HEAD: &str = "knockline-bundle.json";
/// The largest manifest that is read, in bytes; manifests only list digests.
const LARGEST_MANIFEST: u64 = 64 << 20;

/// The first entry's content.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    format: u32,
    nodes: Vec<NodeName>,
}

/// A node's result that was exported or imported.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct BundleItem {
    /// The node.
    pub node: NodeName,
    /// The result's key.
    pub key: ContentKey,
    /// Bytes of its files.
    pub bytes: u64,
    /// Whether the store already had it.
    pub had: bool,
}

/// The failure for a damaged bundle.
fn damaged(what: impl std::fmt::Display, path: &Path) -> Failure {
    Failure::input(
        what,
        path.display(),
        "get the bundle again, or make it again with `cargo xtask cache export FILE`",
    )
}

#[cfg(test)]
mod tests;
