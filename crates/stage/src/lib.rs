//! The interface of a pipeline stage: its command line ([`command`]), what it declares
//! ([`declaration`]), its options ([`options`]) and how it reports progress ([`progress`]).
//!
//! Stages never depend on each other; they meet as files. This crate therefore knows nothing about
//! particular stages, parquet, tensors or the network. `cargo xtask`, which uses it too, builds in
//! seconds.

pub mod command;
pub mod declaration;
pub mod files;
pub mod machine;
pub mod options;
pub mod progress;
pub mod shards;
pub mod source;
mod stage;

pub use command::{Embedded, OPTIONS, OPTIONS_VARIABLE, main, main_shared};
pub use machine::Machine;
pub use options::{Options, Schema};
pub use progress::{Event, Progress, Unit, Until};
pub use shards::{Next, Shared, Step, nothing_to_check};
pub use source::{is_url, source_name};
pub use stage::Stage;
