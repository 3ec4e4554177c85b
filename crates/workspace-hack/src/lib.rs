//! Requests the features that the workspace as a whole enables in crates that polars is built on.
//!
//! Cargo chooses features for the packages that it builds, not for the workspace: without this
//! crate, `cargo run -p split` would enable fewer of them than `cargo test --workspace`, and
//! compile polars a second time, which takes a quarter of an hour. Every crate that uses polars
//! depends on this one through `formats`. It can be removed when cargo's `feature-unification` is
//! stable.
