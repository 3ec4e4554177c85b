//! From a run's options to the layers of its net.

use encoders::{Encoder, Pool};
use serde::Deserialize;

use crate::{SequenceShape, Shape};

/// The widest window, and the most windows.
const WIDEST: usize = 64;
/// The most filters of a width, and the most units.
const MOST: usize = 1 << 16;

/// The options that a net's shape follows from.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct ShapeOptions {
    /// Units of a hidden layer; 0 for no such layer of a net on sequences.
    pub hidden: Option<usize>,
    /// How often the multi-layer net's middle layer is applied.
    pub layers: Option<usize>,
    /// Whether the multi-layer net's logits end in a ReLU.
    pub relu_out: Option<bool>,
    /// Whether embeddings are frozen or trained. Only nets on sequences have this option.
    pub embeddings: Option<String>,
    /// A convolution's widths.
    pub widths: Option<Vec<usize>>,
    /// A convolution's filters of each width.
    pub filters: Option<usize>,
    /// An LSTM's units of each direction.
    pub units: Option<usize>,
    /// What becomes of an LSTM's states.
    pub pool: Option<String>,
}

impl ShapeOptions {
    /// Whether the net takes sequences.
    pub const fn takes_sequences(&self) -> bool {
        self.embeddings.is_some()
    }

    /// Whether embeddings are trained.
    pub fn trains_embeddings(&self) -> bool {
        self.embeddings.as_deref() == Some("trained")
    }

    /// The shape of the net. A net on sequences needs the number of different `tokens`, with padding.
    ///
    /// # Errors
    /// If the options describe no net.
    pub fn of(&self, tokens: Option<usize>) -> Result<Shape, String> {
        if !self.takes_sequences() {
            return Ok(match (self.hidden, self.layers) {
                (Some(hidden), Some(layers)) => {
                    let relu_out = self.relu_out.unwrap_or(true);
                    Shape::MultiLayer { hidden, layers, relu_out }
                }
                _ => Shape::SingleLayer,
            });
        }
        let encoder = match (&self.widths, self.filters, self.units, self.pool.as_deref()) {
            (Some(widths), Some(filters), ..) => {
                let is_wrong = |width: &usize| !(1..=WIDEST).contains(width);
                if widths.is_empty() || widths.len() > WIDEST || widths.iter().any(is_wrong) {
                    return Err(format!("a convolution needs widths from 1 to {WIDEST}"));
                }
                if !(1..=MOST).contains(&filters) {
                    return Err(format!("a convolution needs 1 to {MOST} filters of each width"));
                }
                Encoder::Windows { widths: widths.clone(), filters }
            }
            (_, _, Some(units), Some(pool)) => {
                let pool = match pool {
                    "max" => Pool::Max,
                    "attention" => Pool::Attention,
                    "last" => Pool::Last,
                    other => return Err(format!("there is no pool `{other}`")),
                };
                if !(1..=MOST).contains(&units) {
                    return Err(format!("an LSTM needs 1 to {MOST} units"));
                }
                Encoder::Recurrent { units, pool }
            }
            _ => Encoder::Mean,
        };
        let trained = if self.trains_embeddings() { tokens } else { None };
        let hidden = self.hidden.filter(|&units| units > 0);
        Ok(Shape::Sequence(SequenceShape { encoder, hidden, trained }))
    }
}
