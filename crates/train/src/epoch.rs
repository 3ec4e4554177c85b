//! One epoch of training.

use artifact::Failure;
use candle_core::Tensor;
use nets::Net;

use crate::data::Part;
use crate::fused::SgdEpoch;
use crate::layout;
use crate::optimizer::Optimizer;
use crate::random::Random;
use crate::step::{Regularisation, step};

/// How the rows of an epoch are used.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    /// Rows a step.
    pub batch_size: usize,
    /// A whole epoch at once, by hand. On the CPU alone.
    pub fused: bool,
    /// How many threads share a step that is done by hand.
    pub threads: usize,
    /// For the multi-layer net.
    pub regularisation: Regularisation,
}

/// Why an epoch failed.
pub enum Trouble {
    /// The loss of this batch, counted from 1, or the weights after it are no finite numbers.
    Diverged(usize),
    /// A bug, or the device's memory is full.
    Candle(candle_core::Error),
}

impl From<candle_core::Error> for Trouble {
    fn from(error: candle_core::Error) -> Self {
        Self::Candle(error)
    }
}

impl Trouble {
    /// For the user; `place` is the node and the epoch.
    pub fn explain(self, node: &str, place: &str) -> Failure {
        match self {
            Self::Diverged(batch) => Failure::failed(
                "the loss is no finite number",
                format_args!("{place}, batch {batch}"),
                format_args!("use a smaller learning rate: --set {node}.lr=…"),
            ),
            Self::Candle(error) => Failure::failed(error, place, "this is a bug; please report it"),
        }
    }
}

impl Pass {
    /// Trains `net` on the rows of `part` in the given `order`.
    pub fn run(
        self,
        net: &mut Net,
        optimizer: &mut Optimizer,
        random: &mut Random,
        part: &Part,
        order: &[u32],
        lr: f64,
    ) -> Result<(), Trouble> {
        if self.fused && matches!(net.shape, nets::Shape::MultiLayer { .. }) {
            layout::epoch(self, net, optimizer, random, part, order, lr)?;
            return self.check_the_last_step(net, order);
        }
        if self.fused {
            let Some(w) = net.weights.get("fc.weight") else { return Err(candle_core::Error::Msg("no fc.weight".into()).into()) };
            #[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
            let op = SgdEpoch::new(part.values(), &part.labels, order, self.batch_size, lr as f32);
            w.as_tensor().inplace_op1(&op)?;
            optimizer.steps += order.len().div_ceil(self.batch_size) as u64;
            if let Some(batch) = op.diverged() {
                return Err(Trouble::Diverged(batch));
            }
            return self.check_the_last_step(net, order);
        }
        let (x, y) = part.tensors()?;
        // One gather an epoch is cheaper than one a batch; unshuffled rows lie right already.
        let gathered = if order.is_sorted() {
            None
        } else {
            let rows = Tensor::from_slice(order, order.len(), x.device())?;
            Some((x.index_select(&rows, 0)?, y.index_select(&rows, 0)?))
        };
        let (x, y) = gathered.as_ref().map_or((x, y), |(x, y)| (x, y));
        for (number, start) in (0..order.len()).step_by(self.batch_size).enumerate() {
            let n = self.batch_size.min(order.len() - start);
            let batch = (&x.narrow(0, start, n)?, &y.narrow(0, start, n)?);
            let loss = step(net, optimizer, self.regularisation, random, batch, lr)?;
            if !loss.is_finite() {
                return Err(Trouble::Diverged(number + 1));
            }
        }
        // A GPU works on while the host goes on; an epoch is done when its work is.
        x.device().synchronize()?;
        self.check_the_last_step(net, order)
    }

    /// A step's loss is taken before it, so the last step's weights are still to be looked at.
    fn check_the_last_step(self, net: &Net, order: &[u32]) -> Result<(), Trouble> {
        if net.is_finite()? { Ok(()) } else { Err(Trouble::Diverged(order.len().div_ceil(self.batch_size))) }
    }
}
