//! Results of nodes in one file, for another machine or the next CI job.
//!
//! A bundle is a tar archive in a zstd frame. Its first entry, `knockline-bundle.json`, names the
//! format and the nodes; then comes, for each node, its `manifest.json` and its files in the
//! manifest's order.
//!
//! Always holds: the same results give the same bytes; what is imported has the digests that its
//! manifest lists, and a bundle that is damaged or cut off is an error that names it; of a node
//! that does not come through whole, nothing is seen.

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
/// The first entry.
const HEAD: &str = "knockline-bundle.json";
/// A manifest lists digests; one that is larger is none.
const LARGEST_MANIFEST: u64 = 64 << 20;

/// The first entry's content.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    format: u32,
    nodes: Vec<NodeName>,
}

/// A node's result that went into a bundle or came out of one.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct BundleItem {
    /// The node.
    pub node: NodeName,
    /// The result's key.
    pub key: ContentKey,
    /// Bytes of its files.
    pub bytes: u64,
    /// Whether it was there already.
    pub had: bool,
}

/// The failure to make sense of a bundle.
fn damaged(what: impl std::fmt::Display, path: &Path) -> Failure {
    Failure::input(
        what,
        path.display(),
        "get the bundle again, or make it again: cargo xtask cache export FILE",
    )
}

#[cfg(test)]
mod tests;
