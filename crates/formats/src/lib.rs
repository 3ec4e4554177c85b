//! The two file formats in which stages meet: parquet for tables ([`table`]) and safetensors for
//! arrays ([`arrays`]). Both writers give the same bytes for the same content, and both readers
//! check names, types and shapes, so that a stage never computes with data that it does not expect.

#[cfg(target_endian = "big")]
compile_error!("safetensors are little-endian, and the arrays are read without a copy");

pub mod arrays;
pub mod table;

pub use arrays::Arrays;
