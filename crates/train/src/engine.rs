//! The ways to train an epoch. A run chooses one of them.

use candle_core::Device;
use nets::{Net, Shape};

use crate::epoch::{EpochData, EpochError, EpochSettings};
use crate::optimizer::Optimizer;
use crate::random::Random;
use crate::{autograd, multi, sequence, single};

/// What trains a net. A run chooses once, before the first epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// An epoch of the single-layer net by hand.
    Single,
    /// An epoch of the multi-layer net by hand.
    Multi,
    /// An epoch of a net on sequences by hand.
    Sequence,
    /// Any net, by candle's automatic differentiation.
    Autograd,
}

impl Engine {
    /// The engine for `net` on this `device`. `kernel` is the user's option.
    ///
    /// On the CPU every net can be trained by hand, and on a GPU every net that fits its kernels.
    pub fn choose(kernel: Option<&str>, device: &Device, net: &Net) -> Self {
        match &net.shape {
            _ if kernel != Some("fused") || !fits(device, net) => Self::Autograd,
            Shape::SingleLayer => Self::Single,
            Shape::MultiLayer { .. } => Self::Multi,
            Shape::Sequence(_) => Self::Sequence,
        }
    }

    /// The name in `sweep.jsonl`.
    pub const fn name(self) -> &'static str {
        if self.is_by_hand() { "fused" } else { "autograd" }
    }

    /// Whether it trains without candle's automatic differentiation.
    pub const fn is_by_hand(self) -> bool {
        !matches!(self, Self::Autograd)
    }

    /// Trains `net` for an epoch.
    ///
    /// # Errors
    /// If a loss or a weight is not finite, or if the device fails.
    pub fn train_epoch(
        self,
        settings: EpochSettings,
        net: &mut Net,
        optimizer: &mut Optimizer,
        random: &mut Random,
        data: EpochData<'_>,
    ) -> Result<(), EpochError> {
        match self {
            Self::Single => single::train_epoch(settings, net, optimizer, data)?,
            Self::Multi => multi::train_epoch(settings, net, optimizer, random, data)?,
            Self::Sequence => sequence::train_epoch(settings, net, optimizer, random, data)?,
            Self::Autograd => autograd::train_epoch(settings, net, optimizer, random, data)?,
        }
        // A step's loss is computed before the update, so the weights after the last step are
        // unchecked.
        if net.is_finite()? {
            Ok(())
        } else {
            Err(EpochError::Diverged(data.order.len().div_ceil(settings.batch_size)))
        }
    }
}

fn fits(device: &Device, net: &Net) -> bool {
    #[cfg(feature = "cuda")]
    if device.is_cuda() {
        let Net { shape, dimension, classes, .. } = net;
        return match shape {
            Shape::SingleLayer => crate::gpu::fits_single(*classes, *dimension),
            Shape::MultiLayer { .. } => crate::gpu::fits_multi(shape, *classes, *dimension),
            Shape::Sequence(_) => false,
        };
    }
    let _ = net;
    device.is_cpu()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_net_and_the_option_choose_the_engine() {
        let mlp = || Shape::MultiLayer { hidden: 3, layers: 1, relu_out: true };
        let choose = |kernel, shape| {
            let net = Net::zeros(shape, 5, 4, &Device::Cpu).expect("a net");
            Engine::choose(kernel, &Device::Cpu, &net)
        };
        assert_eq!(choose(Some("fused"), Shape::SingleLayer), Engine::Single);
        assert_eq!(choose(Some("fused"), mlp()), Engine::Multi);
        assert_eq!(choose(Some("autograd"), mlp()), Engine::Autograd);
        assert_eq!(choose(None, Shape::SingleLayer), Engine::Autograd);
        let encoder = nets::Encoder::Mean;
        let mean = Shape::Sequence(nets::SequenceShape { encoder, hidden: None, trained: None });
        assert_eq!(choose(Some("fused"), mean), Engine::Sequence);
    }
}
