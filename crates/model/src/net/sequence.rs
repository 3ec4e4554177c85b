//! A net on sequences of words.

use encoders::{Architecture, Batch, Embeddings, Layout};
use failure::Result;

use super::{NetDesk, Sizes, Tokens};
use crate::container::Container;
use crate::description::EncoderDescription;
use crate::rows::Rows;
use crate::seal::Damaged;

/// Sequences that a net takes at once.
const AT_ONCE: usize = 128;

/// A net on sequences of words.
pub struct Sequence {
    net: encoders::Net,
    embeddings: Rows,
}

/// The embeddings of a batch's words, whose ids are counted from 1 in the order of the rows.
struct Gathered {
    values: Vec<f32>,
    dimension: usize,
}

impl Embeddings for Gathered {
    fn row(&self, id: u32) -> &[f32] {
        let start = (id as usize).saturating_sub(1) * self.dimension;
        self.values.get(start..start + self.dimension).unwrap_or_default()
    }
}

impl Sequence {
    /// The net whose tensors begin with `prefix`, for embeddings of so many components, an encoder, and
    /// the units of a hidden layer.
    pub fn read(
        file: &Container,
        prefix: &str,
        (dimension, encoder, hidden): (usize, &EncoderDescription, Option<usize>),
        sizes: Sizes,
    ) -> Result<Self> {
        let name = |rest: &str| format!("{prefix}.{rest}");
        let encoder = encoder.encoder().filter(|_| dimension > 0);
        let encoder = encoder.ok_or_else(|| file.wrong("the encoder makes no sense"))?;
        let classes = sizes.classes;
        let architecture = Architecture { dimension, encoder, hidden, classes };
        // All are there before memory is allocated for them.
        let mut tensors = Vec::new();
        for (tensor, shape) in architecture.tensors() {
            let shape: Vec<Option<usize>> = shape.into_iter().map(Some).collect();
            let values = file.f32(&name(&tensor), &shape)?;
            tensors.push((tensor, values));
        }
        let layout = Layout::new(architecture);
        let mut weights = layout.zeros();
        for (tensor, values) in tensors {
            let mut values = values.iter();
            layout.each(&tensor, |array, at| {
                let to = weights.0.get_mut(array).and_then(|array| array.get_mut(at));
                if let (Some(to), Some(value)) = (to, values.next()) {
                    *to = *value;
                }
            });
        }
        let embeddings = file.rows(&name("embedding"), sizes.precision, sizes.words)?;
        if embeddings.width() != dimension {
            return Err(file.wrong("the embeddings have other components"));
        }
        let net = encoders::Net { layout, weights };
        Ok(Self { net, embeddings })
    }

    /// Appends the logits of all texts to `to`.
    pub fn logits(
        &self,
        tokens: &Tokens,
        desk: &mut NetDesk<'_>,
        to: &mut Vec<f32>,
    ) -> Result<(), Damaged> {
        let dimension = self.embeddings.width();
        let mut ids = Vec::new();
        for first in (0..tokens.count()).step_by(AT_ONCE) {
            desk.batch.clear();
            for text in first..tokens.count().min(first + AT_ONCE) {
                ids.clear();
                let id = |&place: &usize| u32::try_from(place + 1).unwrap_or_default();
                ids.extend(tokens.places(text).iter().map(id));
                desk.batch.push(&ids);
            }
            // The batch's different words get ids of their own, so that only their embeddings are
            // converted.
            let mut values = vec![0.0; desk.batch.tokens().len() * dimension];
            for (&id, to) in desk.batch.tokens().iter().zip(values.chunks_exact_mut(dimension)) {
                self.embeddings.add(id as usize - 1, 1.0, to)?;
            }
            let mut renumbered = Batch::default();
            for row in 0..desk.batch.len() {
                ids.clear();
                ids.extend(desk.batch.row(row).iter().map(|place| place + 1));
                renumbered.push(&ids);
            }
            let gathered = Gathered { values, dimension };
            // The new ids come in the order of the batch, so the sums have the same order.
            self.net.logits(&renumbered, &gathered, &mut desk.pass, 1, to);
        }
        Ok(())
    }
}
