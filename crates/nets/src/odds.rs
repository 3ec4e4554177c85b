//! The logits and probabilities of many rows.

use candle_core::{Result, Tensor};

use formats::arrays::Sequences;
use kernels::odds::softmax;
use kernels::team;

use crate::inference::{Inference, on_cpu};
use crate::{Net, PaddedBatch, SequenceInference, Table};

/// Rows whose logits are computed at once.
const ROWS: usize = 1 << 16;
/// Sequences whose logits a GPU computes at once.
const SEQUENCES: usize = 1024;
/// The most logits at once, with many classes.
const LOGITS: usize = 1 << 22;

/// How many rows of so many logits are computed at once. A part may have so many rows that all
/// their logits would take too much memory.
fn rows_at_once(classes: usize) -> usize {
    ROWS.min(LOGITS / classes).max(1)
}

/// Sequences, and the embeddings of their tokens.
#[derive(Clone, Copy)]
pub struct SequenceRows<'r> {
    /// The sequences.
    pub sequences: &'r Sequences,
    /// The embeddings.
    pub table: &'r Table,
    /// The embeddings on a GPU, if the net is there.
    pub on_device: Option<&'r Tensor>,
}

/// Rows of features, as values on the CPU or as a tensor, or sequences.
#[derive(Clone, Copy)]
pub enum Rows<'r> {
    /// The values of one row after the other.
    Values(&'r [f32]),
    /// \[n, d\].
    Tensor(&'r Tensor),
    /// Sequences of tokens.
    Sequences(SequenceRows<'r>),
}

/// Calls `row` with the logits of every row of `x`, in order.
pub fn each_row(net: &Net, x: Rows<'_>, mut row: impl FnMut(&[f32])) -> Result<()> {
    match x {
        Rows::Values(x) => {
            let inference = Inference::of(net)?;
            for x in x.chunks(rows_at_once(net.classes) * inference.dimension()) {
                let logits = inference.logits(x, team::available());
                logits.chunks_exact(net.classes).for_each(&mut row);
            }
        }
        Rows::Sequences(SequenceRows { sequences, on_device: Some(table), .. }) => {
            for start in (0..sequences.rows()).step_by(SEQUENCES) {
                let end = sequences.rows().min(start + SEQUENCES);
                let rows: Vec<&[u32]> = (start..end).map(|row| sequences.row(row)).collect();
                let batch = PaddedBatch::new(&rows, net.least_length(), table.device())?;
                let logits = net.sequence_logits(&batch, table, None)?;
                let values: Vec<f32> = logits.flatten_all()?.to_vec1()?;
                values.chunks_exact(net.classes).for_each(&mut row);
            }
        }
        Rows::Sequences(SequenceRows { sequences, table, .. }) => {
            SequenceInference::of(net)?.each(sequences, table, row);
        }
        Rows::Tensor(x) if x.device().is_cpu() => {
            on_cpu(x, |x| each_row(net, Rows::Values(x), row))??;
        }
        Rows::Tensor(x) => {
            let (n, rows) = (x.dim(0)?, rows_at_once(net.classes));
            for start in (0..n).step_by(rows) {
                let logits = net.logits(&x.narrow(0, start, rows.min(n - start))?)?;
                let values: Vec<f32> = logits.flatten_all()?.to_vec1()?;
                values.chunks_exact(net.classes).for_each(&mut row);
            }
        }
    }
    Ok(())
}

/// The probabilities of every row of `x`, in label order, one row after the other.
pub fn probabilities(net: &Net, x: Rows<'_>) -> Result<Vec<f32>> {
    let mut all = Vec::new();
    each_row(net, x, |logits| {
        let start = all.len();
        all.extend_from_slice(logits);
        softmax(all.get_mut(start..).unwrap_or_default());
    })?;
    Ok(all)
}
