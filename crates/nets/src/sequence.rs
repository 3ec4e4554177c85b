//! Nets on sequences of tokens, on candle tensors: batches padded to their longest row.
//!
//! Padding reaches no result: its embeddings are multiplied by 0, windows that contain it do not
//! count (but for rows that are shorter than a window), an LSTM keeps its state over it, and the
//! attention gives it no weight.

use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::ops::{sigmoid, softmax};
use encoders::{Architecture, Encoder, Pool};

use crate::{Net, Shape, relu_that_keeps_nan};

/// The weight that holds the embeddings, if they are trained.
pub const EMBEDDING: &str = "embedding.weight";

/// Added to what must not be a maximum or get a weight. An infinity would give NaN when multiplied
/// by 0.
const NEVER: f64 = -1e30;

/// The layers of a net on sequences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SequenceShape {
    /// From a sequence to features.
    pub encoder: Encoder,
    /// Units of a hidden layer.
    pub hidden: Option<usize>,
    /// How many rows the matrix of embeddings has, if it is trained.
    pub trained: Option<usize>,
}

/// Sequences of token ids, padded with 0 to the length of the longest.
pub struct PaddedBatch {
    /// Token ids, u32 \[n, L\].
    ids: Tensor,
    /// The same with the tokens of each row in reverse, before the padding.
    reversed: Tensor,
    /// 1 for tokens and 0 for padding, f32 \[n, L\].
    mask: Tensor,
    /// Where the states of the reversed rows belong: u32 \[n, L\].
    back: Tensor,
    /// The numbers of tokens.
    lengths: Vec<usize>,
    longest: usize,
}

impl PaddedBatch {
    /// Pads `rows` to the longest of them, and to at least `least` tokens.
    pub fn new(rows: &[&[u32]], least: usize, device: &Device) -> Result<Self> {
        // Padding that is there already does not count.
        let lengths: Vec<usize> = rows
            .iter()
            .map(|row| row.iter().rposition(|&id| id != 0).map_or(0, |last| last + 1))
            .collect();
        let longest = rows.iter().map(|row| row.len()).max().unwrap_or(0).max(least).max(1);
        let size = (rows.len(), longest);
        let mut ids = vec![0_u32; rows.len() * longest];
        let (mut reversed, mut back, mut mask) =
            (ids.clone(), ids.clone(), vec![0.0_f32; ids.len()]);
        for ((row, &length), start) in rows.iter().zip(&lengths).zip((0..).step_by(longest)) {
            let tokens = row.get(..length).unwrap_or_default();
            let part = start..start + length;
            if let Some(to) = ids.get_mut(part.clone()) {
                to.copy_from_slice(tokens);
            }
            for (to, id) in reversed.iter_mut().skip(start).zip(tokens.iter().rev()) {
                *to = *id;
            }
            for (to, step) in back.iter_mut().skip(start).zip((0..length).rev()) {
                *to = u32::try_from(step).unwrap_or(u32::MAX);
            }
            mask.get_mut(part).unwrap_or_default().fill(1.0);
        }
        Ok(Self {
            ids: Tensor::from_vec(ids, size, device)?,
            reversed: Tensor::from_vec(reversed, size, device)?,
            mask: Tensor::from_vec(mask, size, device)?,
            back: Tensor::from_vec(back, size, device)?,
            lengths,
            longest,
        })
    }

    fn rows(&self) -> usize {
        self.lengths.len()
    }

    /// The embeddings of the ids, \[n, L, d\].
    fn embedded(&self, ids: &Tensor, table: &Tensor) -> Result<Tensor> {
        let x = table.index_select(&ids.flatten_all()?, 0)?;
        x.reshape((self.rows(), self.longest, ()))?.broadcast_mul(&self.mask.unsqueeze(2)?)
    }

    fn per_row(&self, of: impl Fn(usize) -> f32) -> Result<Tensor> {
        let values: Vec<f32> = self.lengths.iter().map(|&length| of(length)).collect();
        Tensor::from_vec(values, (self.rows(), 1), self.mask.device())
    }
}

impl Net {
    /// The net on sequences that this is.
    pub fn architecture(&self) -> Option<Architecture> {
        let Shape::Sequence(SequenceShape { encoder, hidden, .. }) = &self.shape else {
            return None;
        };
        Some(Architecture {
            dimension: self.dimension,
            encoder: encoder.clone(),
            hidden: *hidden,
            classes: self.classes,
        })
    }

    /// The least length of a batch's rows: that of the widest window.
    pub fn least_length(&self) -> usize {
        match &self.shape {
            Shape::Sequence(SequenceShape { encoder: Encoder::Windows { widths, .. }, .. }) => {
                widths.iter().max().copied().unwrap_or(1)
            }
            _ => 1,
        }
    }

    /// The logits of sequences, \[n, classes\]. `table` is the matrix of embeddings, which is not used
    /// if the net has its own. `mask` draws dropout's factors for a number of inputs of the last
    /// layer.
    pub fn sequence_logits(
        &self,
        batch: &PaddedBatch,
        table: &Tensor,
        mask: Option<&mut dyn FnMut(usize) -> Vec<f32>>,
    ) -> Result<Tensor> {
        let Shape::Sequence(shape) = &self.shape else {
            return Err(candle_core::Error::Msg("this net takes no sequences".into()));
        };
        let table = self.weights.get(EMBEDDING).map_or(table, |own| own.as_tensor());
        let mut features = match &shape.encoder {
            Encoder::Mean => {
                let sum = batch.embedded(&batch.ids, table)?.sum(1)?;
                sum.broadcast_div(&batch.per_row(|length| length.max(1) as f32)?)?
            }
            Encoder::Windows { widths, .. } => self.windows(batch, table, widths)?,
            Encoder::Recurrent { units, pool } => self.recurrent(batch, table, *units, *pool)?,
        };
        if shape.hidden.is_some() {
            features = relu_that_keeps_nan(&self.layer("hidden", &features)?)?;
        }
        if let Some(mask) = mask {
            let factors = mask(features.elem_count());
            features =
                (&features * Tensor::from_vec(factors, features.shape(), features.device())?)?;
        }
        let outputs = self.layer("fc", &features)?;
        if self.classes == 2 {
            Tensor::cat(&[&outputs.zeros_like()?, &outputs], 1)
        } else {
            Ok(outputs)
        }
    }

    /// The largest sums of each width's windows, after a ReLU.
    fn windows(&self, batch: &PaddedBatch, table: &Tensor, widths: &[usize]) -> Result<Tensor> {
        let x = batch.embedded(&batch.ids, table)?;
        let mut all = Vec::new();
        for (number, &width) in widths.iter().enumerate() {
            // [filters, d, width]
            let weight = self.var(&format!("convs.{number}.weight"))?;
            let windows = batch.longest + 1 - width;
            let mut sum: Option<Tensor> = None;
            for place in 0..width {
                let matrix = weight.narrow(2, place, 1)?.squeeze(2)?.t()?.contiguous()?;
                let rows = x.narrow(1, place, windows)?.contiguous()?;
                let d = rows.dim(2)?;
                let product = rows.reshape((batch.rows() * windows, d))?.matmul(&matrix)?;
                sum = Some(match sum {
                    None => product,
                    Some(sum) => (sum + product)?,
                });
            }
            let sum =
                sum.ok_or_else(|| candle_core::Error::Msg("a window without a width".into()))?;
            let counts: Vec<usize> = batch
                .lengths
                .iter()
                .map(|length| (length + 1).saturating_sub(width).max(1))
                .collect();
            #[expect(clippy::cast_possible_truncation, reason = "the constant is finite as f32")]
            let never: Vec<f32> = counts
                .iter()
                .flat_map(|&count| {
                    (0..windows).map(move |at| if at < count { 0.0 } else { NEVER as f32 })
                })
                .collect();
            let never = Tensor::from_vec(never, (batch.rows(), windows, 1), x.device())?;
            let sum = sum.reshape((batch.rows(), windows, ()))?.broadcast_add(&never)?;
            let best = sum.max(1)?.broadcast_add(self.var(&format!("convs.{number}.bias"))?)?;
            all.push(relu_that_keeps_nan(&best)?);
        }
        Tensor::cat(&all, 1)
    }

    /// The pooled states of both directions, \[n, 2 units\].
    fn recurrent(
        &self,
        batch: &PaddedBatch,
        table: &Tensor,
        units: usize,
        pool: Pool,
    ) -> Result<Tensor> {
        let mut directions = Vec::new();
        for (ids, end) in [(&batch.ids, ""), (&batch.reversed, "_reverse")] {
            let x = batch.embedded(ids, table)?;
            directions.push(self.states(batch, &x, units, end)?);
        }
        let [(states, last), (states_back, last_back)] = &directions[..] else {
            return Err(candle_core::Error::Msg("an LSTM without two directions".into()));
        };
        let padding = ((&batch.mask - 1.0)? * -NEVER)?.unsqueeze(2)?;
        // A row without tokens has zeros, whatever its padding.
        let some = batch.per_row(|length| f32::from(u8::from(length > 0)))?;
        match pool {
            Pool::Last => Tensor::cat(&[last, last_back], 1),
            Pool::Max => {
                let best = |states: &Tensor| {
                    let kept = states.broadcast_mul(&batch.mask.unsqueeze(2)?)?;
                    kept.broadcast_add(&padding)?.max(1)?.broadcast_mul(&some)
                };
                Tensor::cat(&[best(states)?, best(states_back)?], 1)
            }
            Pool::Attention => {
                let index =
                    batch.back.unsqueeze(2)?.broadcast_as(states_back.shape())?.contiguous()?;
                let both =
                    Tensor::cat(&[states, &states_back.contiguous()?.gather(&index, 1)?], 2)?;
                let query = self.var("attention.weight")?;
                let scores = both.broadcast_mul(&query.unsqueeze(0)?)?.sum_keepdim(2)?;
                let scores = (scores + &padding)?.squeeze(2)?;
                let weights = (softmax(&scores, D::Minus1)? * &batch.mask)?;
                both.broadcast_mul(&weights.unsqueeze(2)?)?.sum(1)
            }
        }
    }

    /// The states of one direction after each step, \[n, L, units\], and the last ones.
    fn states(
        &self,
        batch: &PaddedBatch,
        x: &Tensor,
        units: usize,
        end: &str,
    ) -> Result<(Tensor, Tensor)> {
        let weight = |name: &str| self.var(&format!("lstm.{name}_l0{end}"));
        let (n, length, d) = x.dims3()?;
        let inputs = x.reshape((n * length, d))?.matmul(&weight("weight_ih")?.t()?)?;
        let bias = (weight("bias_ih")? + weight("bias_hh")?)?;
        let inputs = inputs.broadcast_add(&bias)?.reshape((n, length, ()))?;
        let matrix = weight("weight_hh")?.t()?;
        let mut state = Tensor::zeros((n, units), x.dtype(), x.device())?;
        let mut cell = state.clone();
        let mut all = Vec::new();
        let is_token = batch.mask.to_dtype(DType::U8)?;
        for step in 0..length {
            let gates = (inputs.narrow(1, step, 1)?.squeeze(1)? + state.matmul(&matrix)?)?;
            let gate = |number: usize| gates.narrow(1, number * units, units);
            let [input, forget, output] =
                [sigmoid(&gate(0)?)?, sigmoid(&gate(1)?)?, sigmoid(&gate(3)?)?];
            let new_cell = ((forget * &cell)? + (input * gate(2)?.tanh()?)?)?;
            let new_state = (output * new_cell.tanh()?)?;
            // Over padding, cell and state stay as they were.
            let is_token = is_token.narrow(1, step, 1)?.broadcast_as(state.shape())?;
            cell = is_token.where_cond(&new_cell, &cell)?;
            state = is_token.where_cond(&new_state, &state)?;
            all.push(state.unsqueeze(1)?);
        }
        Ok((Tensor::cat(&all, 1)?, state))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::DType;

    const DIMENSION: usize = 5;

    fn nets() -> Vec<Net> {
        let recurrent = |pool| Encoder::Recurrent { units: 6, pool };
        let encoders = [
            Encoder::Mean,
            Encoder::Windows { widths: vec![2, 3], filters: 4 },
            recurrent(Pool::Max),
            recurrent(Pool::Attention),
            recurrent(Pool::Last),
        ];
        encoders
            .into_iter()
            .map(|encoder| {
                let shape = Shape::Sequence(SequenceShape { encoder, hidden: None, trained: None });
                let mut net = Net::zeros(shape, DIMENSION, 3, &Device::Cpu).expect("a net");
                for (name, tensor) in net.state() {
                    let values = (0..tensor.elem_count()).map(|i| (i as f32 * 0.7).sin() * 0.5);
                    net.set(&name, values.collect()).expect("sets");
                }
                net
            })
            .collect()
    }

    /// Padding's embedding is not zero, so that a test fails if it is ever used.
    fn table() -> Tensor {
        let values: Vec<f32> = (0..10 * DIMENSION).map(|i| (i as f32 * 0.3).cos()).collect();
        Tensor::from_vec(values, (10, DIMENSION), &Device::Cpu).expect("a table")
    }

    fn bits(net: &Net, rows: &[Vec<u32>]) -> Vec<u32> {
        let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
        let batch = PaddedBatch::new(&rows, net.least_length(), &Device::Cpu).expect("a batch");
        let logits = net.sequence_logits(&batch, &table(), None).expect("logits");
        assert_eq!(logits.dtype(), DType::F32);
        let logits: Vec<f32> = logits.flatten_all().and_then(|z| z.to_vec1()).expect("values");
        logits.iter().map(|z| z.to_bits()).collect()
    }

    #[test]
    fn more_padding_changes_no_bit_of_a_mean_a_maximum_a_weight_or_a_last_state() {
        let rows = [vec![1, 2, 3, 4, 5], vec![7, 9], vec![], vec![3, 3, 8], vec![6]];
        for net in nets() {
            let plain = bits(&net, &rows);
            for more in 1..8 {
                let mut padded = rows.clone();
                for row in &mut padded {
                    row.resize(5 + more, 0);
                }
                assert_eq!(bits(&net, &padded), plain, "{:?}, {more} more", net.shape);
            }
        }
    }

    #[test]
    fn by_hand_the_logits_are_the_same() {
        let rows = [vec![1, 2, 3, 4, 5], vec![7, 9], vec![], vec![3, 3, 8], vec![6]];
        let values: Vec<f32> = table().flatten_all().and_then(|t| t.to_vec1()).expect("values");
        let table = crate::Table::new(values.into(), DIMENSION);
        for net in nets() {
            let sequences = formats::arrays::Sequences::of(&rows, vec![0; rows.len()]);
            let mut want = bits(&net, &rows).into_iter().map(f32::from_bits);
            crate::SequenceInference::of(&net).expect("a net").each(&sequences, &table, |logits| {
                for (seen, want) in logits.iter().zip(want.by_ref()) {
                    assert!((seen - want).abs() < 1e-5, "{:?}: {seen} {want}", net.shape);
                }
            });
            assert_eq!(want.next(), None);
        }
    }
}
