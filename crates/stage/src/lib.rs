//! What a stage of the pipeline is: how it is called ([`command`]), what it declares
//! ([`declaration`]), which options it takes ([`options`]) and how it says how far it is
//! ([`progress`]).
//!
//! Stages never depend on each other; they meet as files. This crate therefore knows no stage, no
//! parquet, no tensors and no network. `cargo xtask`, which uses it too, builds in seconds.

pub mod command;
pub mod declaration;
pub mod machine;
pub mod options;
pub mod progress;
pub mod source;

pub use command::{Embedded, OPTIONS, OPTIONS_VARIABLE, Stage, main};
pub use machine::Machine;
pub use options::{Options, Schema};
pub use progress::{Event, Progress, Unit};
pub use source::{is_url, source_name};
