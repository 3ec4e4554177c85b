//! The options of a run that its answers depend on.

use serde::Deserialize;

/// The options that a classifier needs besides its weights.
#[derive(Deserialize)]
pub struct RunOptions {
    /// The kind of net.
    pub net: String,
    /// How many neighbours vote.
    #[serde(default)]
    pub k: usize,
    /// The power of the cosine that is a vote's weight.
    #[serde(default)]
    pub power: f32,
    /// What is added to each class's share of the votes.
    #[serde(default)]
    pub smoothing: f32,
    /// Whether a net of embeddings weighs n-grams by tf-idf.
    #[serde(default)]
    pub tfidf: bool,
    /// The members of a stack.
    #[serde(default)]
    pub members: Vec<String>,
}
