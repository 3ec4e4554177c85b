//! Asks for the features that the workspace as a whole gives to crates that polars is built on.
//!
//! Cargo chooses features for the packages that it builds, not for the workspace: without this,
//! `cargo run -p split` would choose fewer of them than `cargo test --workspace`, and compile
//! polars a second time, for a quarter of an hour. Every crate that knows polars depends on this
//! one by way of `formats`. To be dropped when cargo's `feature-unification` is stable.
