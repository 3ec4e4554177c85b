//! From a headline to its feature vector: the categories, the tokenizer and the mean.
//!
//! These are shared because they must be: `embed` collects the words that `tensors`
//! averages, and a classifier must see its headlines as training saw them.

mod category;
mod mean;
mod tokenize;

pub use category::Category;
pub use mean::mean_into;
pub use tokenize::tokens;
