//! `cargo xtask cache`: moves results between machines, and checks and cleans up the store.

pub mod bundle;
pub mod exchange;
pub mod maintain;
pub mod remote;
