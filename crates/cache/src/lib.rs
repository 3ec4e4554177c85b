//! Decides which results can be trusted: digests, keys, manifests and the store.
//!
//! Stages do not depend on this crate, so a change to the cache reruns none of them. A cache may be
//! slow, but it must never be wrong: a hit is a manifest that has the wanted key and whose files
//! all have their digests.

mod cargo_config;
mod digest;
mod disk;
mod fault;
mod filesystem;
mod index;
pub mod key;
mod lock;
mod lockfile;
mod maintenance;
mod manifest;
mod name;
mod retention;
pub mod signature;
mod sources;
mod store;

mod test_files;
pub mod wire;

pub use digest::{Digest, sha256_of_text};
pub use index::{Again, Digests, Index, SETTLED};
pub use key::{ContentKey, Ingredients, RecipeKey};
pub use lock::Lock;
pub use lockfile::Lockfile;
pub use maintenance::{Checked, Collected, Collection};
pub use manifest::{
    Download, FORMAT as MANIFEST_FORMAT, Manifest, ManifestError, Output, StageReport,
};
pub use name::NodeName;
pub use retention::{Age, Bytes, Earlier, Retention};
pub use signature::{PublicKey, Signer, Trust};
pub use sources::Workspace;
pub use store::{CheckedOut, Store};
