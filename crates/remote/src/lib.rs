//! Results of nodes in a store that machines share: a folder, S3 or a compatible store, Google
//! Cloud Storage, Azure, or a web server, which is read-only.
//!
//! ```text
//! PREFIX/knockline/manifests-2/<node>/<content key>    a manifest, as it lies beside a result
//! PREFIX/knockline/blobs/<2 digits>/<digest>.zst       a file by its digest, compressed
//! ```
//!
//! What always holds: a manifest is uploaded after its files, so that a result with a manifest is
//! complete; a fetched file has the digest that its manifest lists; a damaged object counts as
//! missing, and the next push replaces it. No operation waits forever: each has a time limit, which
//! grows with the number of bytes.

mod blob;
mod error;
mod place;
mod result;

pub use error::RemoteError;
pub use place::{RemoteStore, shown};

#[cfg(test)]
mod tests;
