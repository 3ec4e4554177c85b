//! Texts to classify, line by line, and answers as lines: what `predict` and `knockline` share.

mod answer;
mod titles;

pub use answer::{Answer, Form, Known, likeliest, write_probability, write_shown};
pub use titles::Titles;
