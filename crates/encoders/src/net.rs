//! A net on a batch: forward, and back.

use crate::head::{Head, Targets};
use crate::layout::{GATES, Layout, padded};
use crate::parallel::each;
use crate::project::{self, Rows, transpose};
use crate::recurrent::{Chunk, Shared};
use crate::windows::{self, ByBlock, Maxima};
use crate::{Batch, Encoder, Weights};

/// Sequences that a thread encodes at once: as many rows as a product takes together.
const CHUNK: usize = 8;
/// Tokens whose gradients a thread computes at once.
const TOKENS: usize = 32;

/// The vectors of tokens.
pub trait Embeddings: Sync {
    /// The vector of a token id.
    fn row(&self, id: u32) -> &[f32];
}

/// A net with its weights.
pub struct Net {
    /// Where the weights lie.
    pub layout: Layout,
    /// The weights.
    pub weights: Weights,
}

/// What a net computes for a batch. It is kept from batch to batch to save allocations.
#[derive(Default)]
pub struct Pass {
    /// The embeddings of the batch's different tokens.
    x: Vec<f32>,
    /// Their products with the blocks.
    z: Vec<Vec<f32>>,
    /// Both biases of an LSTM, added.
    bias: Vec<f32>,
    features: Vec<f32>,
    by_features: Vec<f32>,
    /// Where the windows with the maxima start.
    starts: Vec<u32>,
    chunks: Vec<Chunk>,
    head: Head,
    by_z: Vec<Vec<f32>>,
    by_x: Vec<f32>,
    transposed: Vec<Vec<f32>>,
}

impl Pass {
    /// The gradients of the embeddings of the batch's tokens, in the order of [`Batch::tokens`], in
    /// rows of as many elements as a padded embedding has.
    pub fn by_embeddings(&self) -> &[f32] {
        &self.by_x
    }
}

fn array(weights: &Weights, at: usize) -> &[f32] {
    weights.0.get(at).map_or(&[], Vec::as_slice)
}

impl Net {
    /// A net without its weights.
    pub fn zeros(layout: Layout) -> Self {
        Self { weights: layout.zeros(), layout }
    }

    /// Appends the logits of each sequence to `to`, in class order.
    pub fn logits(
        &self,
        batch: &Batch,
        table: &impl Embeddings,
        pass: &mut Pass,
        threads: usize,
        to: &mut Vec<f32>,
    ) {
        self.encode(batch, table, pass, threads, false);
        pass.head.forward(&self.layout, &self.weights, &pass.features, None);
        let classes = self.layout.architecture.classes;
        for row in pass.head.outputs.chunks_exact(self.layout.outputs) {
            if classes == 2 {
                to.push(0.0);
            }
            to.extend_from_slice(row.get(..self.layout.architecture.outputs()).unwrap_or_default());
        }
    }

    /// Computes the gradients of the batch's mean cross-entropy by the weights and, if `by_x`, by the
    /// embeddings. `false` if an output is not finite; the gradients then mean nothing.
    pub fn gradients(
        &self,
        (batch, targets): (&Batch, Targets<'_>),
        table: &impl Embeddings,
        by_x: bool,
        pass: &mut Pass,
        threads: usize,
        to: &mut Weights,
    ) -> bool {
        let Self { layout, weights } = self;
        self.encode(batch, table, pass, threads, true);
        pass.head.forward(layout, weights, &pass.features, targets.mask);
        let Pass { head, features, by_features, .. } = &mut *pass;
        if !head.backward(layout, weights, features, targets, to, by_features) {
            return false;
        }
        self.prepare_gradients(batch, pass);
        match &layout.architecture.encoder {
            Encoder::Mean if by_x => self.by_mean(batch, pass),
            Encoder::Mean => {}
            Encoder::Windows { widths, .. } => self.by_windows(batch, widths, pass, threads, to),
            Encoder::Recurrent { .. } => self.by_recurrent(batch, pass, threads, to),
        }
        if layout.blocks > 0 {
            self.by_projection(batch, by_x, pass, threads, to);
        }
        true
    }

    /// Computes the features, and keeps what the way back needs if the net is `learning`.
    fn encode(
        &self,
        batch: &Batch,
        table: &impl Embeddings,
        pass: &mut Pass,
        threads: usize,
        learning: bool,
    ) {
        let Self { layout, weights } = self;
        let rows = batch.len();
        pass.features.resize(rows * layout.features, 0.0);
        let Encoder::Mean = layout.architecture.encoder else {
            self.project(batch, table, pass, threads);
            return match &layout.architecture.encoder {
                Encoder::Windows { widths, .. } => {
                    let Pass { z, features, starts, .. } = pass;
                    starts.resize(rows * layout.features, 0);
                    let size = CHUNK * layout.features;
                    let mut pieces: Vec<_> =
                        features.chunks_mut(size).zip(starts.chunks_mut(size)).collect();
                    each(threads, &mut pieces, |number, (features, starts)| {
                        windows::forward(Maxima {
                            batch,
                            first: number * CHUNK,
                            z,
                            bias: array(weights, layout.bias),
                            widths,
                            columns: layout.width,
                            features,
                            starts,
                        });
                    });
                }
                _ => self.recurrent(batch, pass, threads, learning),
            };
        };
        for (row, to) in pass.features.chunks_exact_mut(layout.features).enumerate() {
            to.fill(0.0);
            let places = batch.row(row);
            let tokens = places.iter().filter_map(|place| batch.tokens().get(*place as usize));
            for &token in tokens {
                to.iter_mut().zip(table.row(token)).for_each(|(to, x)| *to += x);
            }
            let scale = 1.0 / places.len().max(1) as f32;
            for to in to {
                *to *= scale;
            }
        }
    }

    /// Computes the products of the batch's tokens with all blocks.
    fn project(&self, batch: &Batch, table: &impl Embeddings, pass: &mut Pass, threads: usize) {
        let Self { layout, weights } = self;
        let columns = layout.architecture.dimension;
        pass.x.clear();
        for &token in batch.tokens() {
            pass.x.extend_from_slice(table.row(token).get(..columns).unwrap_or_default());
        }
        pass.z.resize_with(layout.blocks, Vec::new);
        let x = Rows { values: &pass.x, count: batch.tokens().len(), columns };
        each(threads, &mut pass.z, |block, z| {
            project::forward(z, x, array(weights, block), layout.width);
        });
    }

    fn shared<'s>(
        &'s self,
        batch: &'s Batch,
        z: &'s [Vec<f32>],
        bias: &'s [f32],
        transposed: &'s [Vec<f32>],
    ) -> Shared<'s> {
        let Self { layout, weights } = self;
        let (units, pool) = match layout.architecture.encoder {
            Encoder::Recurrent { units, pool } => (units, pool),
            _ => (0, crate::Pool::Last),
        };
        let [one, two] = [0, 1].map(|direction| array(weights, layout.recurrent + direction));
        let back = |direction: usize| transposed.get(direction).map_or(&[][..], Vec::as_slice);
        Shared {
            batch,
            z,
            bias,
            recurrent: [one, two],
            transposed: [back(0), back(1)],
            query: array(weights, layout.attention),
            units,
            width: layout.width,
            pool,
            keep: true,
        }
    }

    fn recurrent(&self, batch: &Batch, pass: &mut Pass, threads: usize, learning: bool) {
        let Self { layout, weights } = self;
        pass.bias.clear();
        let biases = array(weights, layout.bias).iter().zip(array(weights, layout.second_bias));
        pass.bias.extend(biases.map(|(one, two)| one + two));
        let Pass { z, bias, features, chunks, .. } = pass;
        chunks.resize_with(batch.len().div_ceil(CHUNK), Chunk::default);
        let shared = Shared { keep: learning, ..self.shared(batch, z, bias, &[]) };
        let mut pieces: Vec<_> =
            features.chunks_mut(CHUNK * layout.features).zip(chunks.iter_mut()).collect();
        each(threads, &mut pieces, |number, (features, chunk)| {
            let first = number * CHUNK;
            chunk.take(batch, first..batch.len().min(first + CHUNK));
            chunk.forward(shared, |row, of_row| {
                let start = (row - first) * layout.features;
                if let Some(to) = features.get_mut(start..start + layout.features) {
                    to.copy_from_slice(of_row);
                }
            });
        });
    }

    fn prepare_gradients(&self, batch: &Batch, pass: &mut Pass) {
        pass.by_z.resize_with(self.layout.blocks, Vec::new);
        for by_z in &mut pass.by_z {
            by_z.clear();
            by_z.resize(batch.tokens().len() * self.layout.width, 0.0);
        }
        pass.by_x.clear();
        pass.by_x.resize(batch.tokens().len() * padded(self.layout.architecture.dimension), 0.0);
    }

    /// The gradients of the embeddings whose mean is the features.
    fn by_mean(&self, batch: &Batch, pass: &mut Pass) {
        let size = self.layout.features;
        for (row, by_features) in pass.by_features.chunks_exact(size).enumerate() {
            let places = batch.row(row);
            let scale = 1.0 / places.len().max(1) as f32;
            for &place in places {
                let start = place as usize * size;
                let to = pass.by_x.get_mut(start..start + size).unwrap_or_default();
                to.iter_mut().zip(by_features).for_each(|(to, by)| *to += scale * by);
            }
        }
    }

    fn by_windows(
        &self,
        batch: &Batch,
        widths: &[usize],
        pass: &mut Pass,
        threads: usize,
        to: &mut Weights,
    ) {
        let layout = &self.layout;
        let Pass { features, by_features, starts, by_z, .. } = pass;
        for (by, value) in by_features.iter_mut().zip(&*features) {
            *by = if *value > 0.0 { *by } else { 0.0 };
        }
        if let Some(bias) = to.0.get_mut(layout.bias) {
            bias.fill(0.0);
            for row in by_features.chunks_exact(layout.features) {
                bias.iter_mut().zip(row).for_each(|(to, by)| *to += by);
            }
        }
        let places: Vec<(usize, usize)> = widths
            .iter()
            .enumerate()
            .flat_map(|(number, &width)| (0..width).map(move |place| (number, place)))
            .collect();
        each(threads, by_z, |block, by_z| {
            let Some(&(number, place)) = places.get(block) else { return };
            windows::by_block(ByBlock {
                batch,
                by_features,
                starts,
                size: layout.features,
                first: number * layout.width,
                place,
                columns: layout.width,
                by_z,
            });
        });
    }

    fn by_recurrent(&self, batch: &Batch, pass: &mut Pass, threads: usize, to: &mut Weights) {
        let Self { layout, weights } = self;
        pass.transposed.resize_with(pass.transposed.len().max(2), Vec::new);
        let (width, inner) = (layout.width, GATES * layout.width);
        each(threads, pass.transposed.get_mut(..2).unwrap_or_default(), |direction, to| {
            transpose(to, array(weights, layout.recurrent + direction), inner, width);
        });
        let Pass { z, bias, by_features, chunks, by_z, transposed, .. } = pass;
        let shared = self.shared(batch, z, bias, transposed);
        let by_features = &*by_features;
        each(threads, chunks, |_, chunk| chunk.backward(shared, by_features));
        let chunks = &*chunks;
        each(threads, by_z, |block, by_z| {
            for chunk in chunks {
                chunk.add_by_block(batch, block, width, by_z);
            }
        });
        let units = shared.units;
        let matrices = to.0.get_mut(layout.recurrent..layout.recurrent + 2).unwrap_or_default();
        each(threads, matrices, |direction, to| {
            to.fill(0.0);
            for chunk in chunks {
                chunk.add_by_recurrent(direction, units, width, to);
            }
        });
        if let Some(query) = to.0.get_mut(layout.attention) {
            query.fill(0.0);
            for chunk in chunks {
                query.iter_mut().zip(&chunk.by_query).for_each(|(to, by)| *to += by);
            }
        }
        if let Some([first, second]) = to.0.get_mut(layout.bias..layout.bias + 2) {
            first.fill(0.0);
            for (direction, to) in first.chunks_exact_mut(inner).enumerate() {
                for chunk in chunks {
                    chunk.add_by_bias(direction, width, to);
                }
            }
            second.copy_from_slice(first);
        }
    }

    /// The gradients of the blocks and, if `by_x`, of the embeddings.
    fn by_projection(
        &self,
        batch: &Batch,
        by_x: bool,
        pass: &mut Pass,
        threads: usize,
        to: &mut Weights,
    ) {
        let Self { layout, weights } = self;
        let columns = layout.architecture.dimension;
        let Pass { x, by_z, by_x: gradients, transposed, .. } = pass;
        let x = Rows { values: x, count: batch.tokens().len(), columns };
        let by_z = &*by_z;
        each(threads, to.0.get_mut(..layout.blocks).unwrap_or_default(), |block, to| {
            let by_z = by_z.get(block).map_or(&[][..], Vec::as_slice);
            project::by_block(to, x, by_z, layout.width);
        });
        if !by_x {
            return;
        }
        transposed.resize_with(layout.blocks, Vec::new);
        each(threads, transposed, |block, to| {
            transpose(to, array(weights, block), layout.width, padded(columns));
        });
        let transposed = &*transposed;
        let mut pieces: Vec<&mut [f32]> = gradients.chunks_mut(TOKENS * padded(columns)).collect();
        each(threads, &mut pieces, |number, to| {
            let rows = to.len() / padded(columns);
            let first = number * TOKENS * layout.width;
            for (by_z, matrix) in by_z.iter().zip(transposed) {
                let by_z = by_z.get(first..first + rows * layout.width).unwrap_or_default();
                project::by_x(to, padded(columns), by_z, layout.width, matrix);
            }
        });
    }
}

#[cfg(test)]
impl Net {
    /// The outputs of the last layer with dropout's factors.
    pub fn outputs_with(
        &self,
        batch: &Batch,
        table: &impl Embeddings,
        pass: &mut Pass,
        mask: &[f32],
    ) -> Vec<f32> {
        self.encode(batch, table, pass, 1, true);
        pass.head.forward(&self.layout, &self.weights, &pass.features, Some(mask));
        pass.head.outputs.clone()
    }
}
