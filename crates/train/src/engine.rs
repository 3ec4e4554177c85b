//! One epoch of training.

use candle_core::{Device, Tensor};
use failure::Failure;
use nets::{Net, Shape};

use crate::autograd::{Regularisation, step};
use crate::data::Part;
use crate::device;
use crate::multi;
use crate::optimizer::Optimizer;
use crate::random::Random;
use crate::single::SgdEpoch;

/// How the rows of an epoch are used.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    /// Rows a step.
    pub batch_size: usize,
    /// A whole epoch at once, by hand, where [`fuses`] says that it can be.
    pub fused: bool,
    /// How many threads share a step that is done by hand.
    pub threads: usize,
    /// For the multi-layer net.
    pub regularisation: Regularisation,
}

/// Why an epoch failed.
pub enum EpochError {
    /// The loss of this batch, counted from 1, or the weights after it are no finite numbers.
    Diverged(usize),
    /// A bug, or the device's memory is full.
    Candle(candle_core::Error),
}

impl From<candle_core::Error> for EpochError {
    fn from(error: candle_core::Error) -> Self {
        Self::Candle(error)
    }
}

impl EpochError {
    /// For the user; `place` is the node and the epoch.
    pub fn explain(self, node: &str, place: &str) -> Failure {
        match self {
            Self::Diverged(batch) => Failure::failed(
                "the loss is no finite number",
                format_args!("{place}, batch {batch}"),
                format_args!("use a smaller learning rate: --set {node}.lr=…"),
            ),
            Self::Candle(error) => device::failed(&error, place),
        }
    }
}

/// Whether an epoch of such a net can be done at once by hand: on the CPU always, on a GPU if a block's memory has room for its part.
pub fn fuses(device: &Device, shape: Shape, dimension: usize) -> bool {
    #[cfg(feature = "cuda")]
    if device.is_cuda() {
        return match shape {
            Shape::SingleLayer => crate::gpu::fits_single(dimension),
            Shape::MultiLayer { .. } => crate::gpu::fits_multi(shape, dimension),
        };
    }
    let _ = (shape, dimension);
    device.is_cpu()
}

/// Losses of so many steps are left on a GPU before they are looked at: each look waits for it.
const UNSEEN: usize = 1024;

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
    ) -> Result<(), EpochError> {
        if self.fused && matches!(net.shape, Shape::MultiLayer { .. }) {
            #[cfg(feature = "cuda")]
            if let Device::Cuda(device) = part.device() {
                let resident = crate::gpu::addresses(device, part.tensors()?)?;
                let epoch = crate::gpu::MultiEpoch { pass: self, resident, rows: part.len(), order, lr };
                // SAFETY: these are the rows and labels of the part, which were checked when it was read.
                unsafe { epoch.run(&crate::gpu::Gpu(device.clone()), net, optimizer, random)? };
                return self.check_the_last_step(net, order);
            }
            multi::train_epoch(self, net, optimizer, random, part, order, lr)?;
            return self.check_the_last_step(net, order);
        }
        if self.fused {
            let Some(w) = net.weights.get("fc.weight") else { return Err(candle_core::Error::Msg("no fc.weight".into()).into()) };
            #[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
            let op = SgdEpoch::new(part.values(), &part.labels, order, self.batch_size, lr as f32);
            #[cfg(feature = "cuda")]
            let op = match part.device() {
                // SAFETY: these tensors are made of the same rows and labels, and the part keeps them.
                Device::Cuda(device) => unsafe { op.on_gpu(crate::gpu::addresses(device, part.tensors()?)?) },
                _ => op,
            };
            w.as_tensor().inplace_op1(&op)?;
            optimizer.steps += order.len().div_ceil(self.batch_size) as u64;
            if let Some(batch) = op.diverged() {
                return Err(EpochError::Diverged(batch));
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
        let mut losses = Losses { seen: 0, unseen: Vec::new(), at_once: if x.device().is_cpu() { 1 } else { UNSEEN } };
        for start in (0..order.len()).step_by(self.batch_size) {
            let n = self.batch_size.min(order.len() - start);
            let batch = (&x.narrow(0, start, n)?, &y.narrow(0, start, n)?);
            losses.push(step(net, optimizer, self.regularisation, random, batch, lr)?)?;
        }
        losses.look()?;
        // A GPU works on while the host goes on; an epoch is done when its work is.
        x.device().synchronize()?;
        self.check_the_last_step(net, order)
    }

    /// A step's loss is taken before it, so the last step's weights are still to be looked at.
    fn check_the_last_step(self, net: &Net, order: &[u32]) -> Result<(), EpochError> {
        if net.is_finite()? { Ok(()) } else { Err(EpochError::Diverged(order.len().div_ceil(self.batch_size))) }
    }
}

/// The steps' losses, which are on the device until they are looked at.
struct Losses {
    seen: usize,
    unseen: Vec<Tensor>,
    at_once: usize,
}

impl Losses {
    fn push(&mut self, loss: Tensor) -> Result<(), EpochError> {
        self.unseen.push(loss);
        if self.unseen.len() < self.at_once { Ok(()) } else { self.look() }
    }

    /// All of them must be finite.
    fn look(&mut self) -> Result<(), EpochError> {
        if self.unseen.is_empty() {
            return Ok(());
        }
        let values: Vec<f32> = Tensor::stack(&self.unseen, 0)?.to_vec1()?;
        if let Some(at) = values.iter().position(|loss| !loss.is_finite()) {
            return Err(EpochError::Diverged(self.seen + at + 1));
        }
        self.seen += values.len();
        self.unseen.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_loss_that_is_no_number_is_named_whenever_it_is_looked_at() {
        for at_once in [1, 3, 100] {
            let mut losses = Losses { seen: 0, unseen: Vec::new(), at_once };
            let all = [0.5, 0.25, 1.0, f32::NAN, f32::INFINITY, 0.5];
            let done = all.into_iter().try_for_each(|loss| losses.push(Tensor::new(loss, &Device::Cpu).expect("a loss")));
            let Err(EpochError::Diverged(batch)) = done.and_then(|()| losses.look()) else { panic!("not seen, {at_once} at once") };
            assert_eq!(batch, 4);
        }
    }
}
