//! Classifiers on sparse features: one-against-rest linear machines ([`linear`]), nearest
//! neighbours ([`neighbours`]), and a logistic regression that combines classifiers ([`stacking`]).
//!
//! The stage `fit` trains them and `predict` uses them, through the same files.
//!
//! Always holds: the same rows and options give the same bits, for any number of threads.

pub mod calibration;
pub mod embedding_bag;
pub mod linear;
pub mod neighbours;
pub mod odds;
pub mod stacking;

mod options;
mod rows;

pub use options::RunOptions;
pub use rows::{Dense, Rows};
