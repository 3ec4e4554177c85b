//! Which results can be trusted: digests, keys, manifests and the store.
//!
//! Stages know nothing of this crate, so that a change to the cache reruns none of them. A
//! cache can be slow; it must never be wrong: a hit is a manifest whose key is the wanted one
//! and whose every file has its digest.

mod cargo_config;
mod digest;
mod disk;
mod fault;
mod filesystem;
mod index;
pub mod key;
mod lock;
mod lockfile;
mod manifest;
mod name;
mod sources;
mod store;
mod tend;
pub mod wire;

pub use digest::Digest;
pub use index::{Again, Digests, Index, SETTLED};
pub use key::{ContentKey, Ingredients, RecipeKey};
pub use lock::Lock;
pub use lockfile::Lockfile;
pub use manifest::{Download, FORMAT as MANIFEST_FORMAT, Manifest, ManifestError, Output, Said};
pub use name::NodeName;
pub use sources::Workspace;
pub use store::{CheckedOut, Store};
pub use tend::{Checked, Collected};
