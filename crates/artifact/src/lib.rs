//! What every stage of the pipeline shares, and nothing else: how a stage is called
//! ([`stage`]), which options it takes ([`options`]), how it says how far it is
//! ([`progress`]) and how it fails ([`failure`]).
//!
//! Stages never depend on each other; they meet as files. This crate therefore knows no
//! stage, no parquet, no tensors and no network, and stays light enough that
//! `cargo xtask`, which uses it too, builds in seconds.

pub mod declaration;
pub mod failure;
pub mod machine;
pub mod options;
pub mod progress;
pub mod stage;

pub use failure::{Exit, Failure, Result, without_credentials};
pub use machine::Machine;
pub use options::{Options, Schema};
pub use progress::{Event, Progress};
pub use stage::{Embedded, Stage};
