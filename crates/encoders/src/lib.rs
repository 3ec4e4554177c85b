//! Nets on sequences of token ids, computed by hand: from embeddings to logits, and from the loss
//! back to the gradients.
//!
//! An *encoder* turns a sequence of any length into features: the mean of its embeddings, the
//! maxima of a convolution (Kim, "Convolutional Neural Networks for Sentence Classification", 2014),
//! or the states of a bidirectional LSTM (Hochreiter and Schmidhuber, 1997), pooled by their maximum,
//! by attention, or by the last ones. A *head* turns features into logits.
//!
//! A batch holds sequences one after the other, without padding, and each different token once
//! ([`Batch`]). What depends on a single token, such as an LSTM's products with its inputs, is
//! computed once for each different token of the batch. Work is cut into pieces that do not depend
//! on the number of threads, and all sums have one order, so the result has the same bits with any
//! number of threads. A sequence's logits do not depend on the sequences beside it.

mod batch;
mod head;
mod layout;
mod net;
mod parallel;
mod pool;
mod project;
mod recurrent;
mod windows;

#[cfg(test)]
mod tests;

pub use batch::Batch;
pub use head::Targets;
pub use layout::{Layout, Weights};
pub use net::{Embeddings, Net, Pass};
pub use parallel::each;
pub use pool::Pool;

/// What turns a sequence of embeddings into features.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Encoder {
    /// The mean of the embeddings; zeros for an empty sequence.
    Mean,
    /// For each width and filter the largest product with a window of so many tokens, after a ReLU.
    /// A sequence that is shorter than a window is followed by zeros.
    Windows {
        /// How many tokens a window has.
        widths: Vec<usize>,
        /// Filters of each width.
        filters: usize,
    },
    /// A bidirectional LSTM; zeros for an empty sequence.
    Recurrent {
        /// Units of each direction.
        units: usize,
        /// What becomes of the states.
        pool: Pool,
    },
}

/// The layers of a net.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Architecture {
    /// Components of an embedding.
    pub dimension: usize,
    /// What turns a sequence into features.
    pub encoder: Encoder,
    /// Units of a hidden layer with a ReLU between features and logits.
    pub hidden: Option<usize>,
    /// How many classes there are.
    pub classes: usize,
}

impl Architecture {
    /// How many features the encoder has.
    pub fn features(&self) -> usize {
        match &self.encoder {
            Encoder::Mean => self.dimension,
            Encoder::Windows { widths, filters } => widths.len() * filters,
            Encoder::Recurrent { units, .. } => 2 * units,
        }
    }

    /// How many inputs the last layer has.
    pub fn inputs_of_last(&self) -> usize {
        self.hidden.unwrap_or_else(|| self.features())
    }

    /// How many outputs the last layer has. Two classes take one, whose sigmoid is the second class's
    /// probability; the first class's logit is 0.
    pub fn outputs(&self) -> usize {
        if self.classes == 2 { 1 } else { self.classes }
    }

    /// The tensors that training changes, with PyTorch's names and shapes.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let mut all = Vec::new();
        let mut add = |name: &str, shape: &[usize]| all.push((name.to_owned(), shape.to_vec()));
        match &self.encoder {
            Encoder::Mean => {}
            Encoder::Windows { widths, filters } => {
                for (number, width) in widths.iter().enumerate() {
                    let name = format!("convs.{number}");
                    add(&format!("{name}.weight"), &[*filters, self.dimension, *width]);
                    add(&format!("{name}.bias"), &[*filters]);
                }
            }
            Encoder::Recurrent { units, pool } => {
                for end in ["", "_reverse"] {
                    add(&format!("lstm.weight_ih_l0{end}"), &[4 * units, self.dimension]);
                    add(&format!("lstm.weight_hh_l0{end}"), &[4 * units, *units]);
                    add(&format!("lstm.bias_ih_l0{end}"), &[4 * units]);
                    add(&format!("lstm.bias_hh_l0{end}"), &[4 * units]);
                }
                if *pool == Pool::Attention {
                    add("attention.weight", &[1, 2 * units]);
                }
            }
        }
        if let Some(units) = self.hidden {
            add("hidden.weight", &[units, self.features()]);
            add("hidden.bias", &[units]);
        }
        add("fc.weight", &[self.outputs(), self.inputs_of_last()]);
        add("fc.bias", &[self.outputs()]);
        all
    }
}
