//! The two file formats in which stages meet: parquet for tables ([`table`]) and safetensors for
//! arrays ([`arrays`]). Both writers give the same bytes for the same content, and both readers
//! check names, types and shapes, so that a stage never computes with data that it does not expect.

#[cfg(target_endian = "big")]
compile_error!("safetensors are little-endian, and the arrays are read without a copy");

pub mod arrays;
#[cfg(feature = "tables")]
pub mod table;

use std::path::Path;

use failure::Failure;

pub use arrays::Arrays;

/// The failure to open an artifact of an earlier stage.
fn missing(path: &Path, error: &std::io::Error) -> Failure {
    if error.kind() == std::io::ErrorKind::NotFound {
        return Failure::artifact("an artifact of an earlier stage is missing", path);
    }
    Failure::io("read", path, error)
}
