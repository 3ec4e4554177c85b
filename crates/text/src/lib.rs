//! What everything that reads headlines shares: the parts, letter case and the tokenizer.
//!
//! They have to be shared: `embed` collects the words that `tensors` averages, and a classifier
//! must see its headlines as training saw them.

mod lowercase;
mod tokenize;

/// The parts of the data, in the order in which they are listed.
pub const PARTS: [&str; 3] = ["train", "valid", "test"];

pub use lowercase::{Lowercase, lower};
pub use tokenize::{is_space, tokens};
