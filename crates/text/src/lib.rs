//! From a headline to its feature vector: the categories, the parts and the tokenizer.
//!
//! They are shared because they must be: `embed` collects the words that `tensors`
//! averages, and a classifier must see its headlines as training saw them.

mod category;
mod lowercase;
mod tokenize;

/// The parts of the data, in the order of all listings.
pub const PARTS: [&str; 3] = ["train", "valid", "test"];

pub use category::Category;
pub use lowercase::{Lowercase, lower};
pub use tokenize::tokens;
