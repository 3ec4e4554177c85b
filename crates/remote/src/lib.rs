//! Results of nodes in a store that machines share: a folder, S3 and what speaks its language,
//! Google Cloud Storage, Azure, or a web server to read from.
//!
//! ```text
//! PREFIX/knockline/manifests-2/<node>/<content key>    a manifest, as it lies beside a result
//! PREFIX/knockline/blobs/<2 digits>/<digest>.zst       a file by its digest, compressed
//! ```
//!
//! Always holds: a manifest is put there after its files, so that what has one is whole; what is
//! fetched has the digests that its manifest lists; what is damaged counts as not there, and is
//! replaced by the next push. No operation waits forever: each has a limit that grows with its
//! size.

mod blob;
mod error;
mod place;
mod result;

pub use error::RemoteError;
pub use place::{RemoteStore, shown};

#[cfg(test)]
mod tests;
