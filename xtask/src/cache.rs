//! `cargo xtask cache`: results for other machines, and the care of what is kept.

pub mod bundle;
pub mod exchange;
pub mod maintain;
pub mod remote;
