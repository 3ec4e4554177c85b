//! The learning rate of each epoch.

use std::f64::consts::PI;

/// How the learning rate changes from epoch to epoch.
#[derive(Clone, Copy, Debug)]
pub enum Schedule {
    /// The same in every epoch.
    Constant(f64),
    /// Cosine annealing (Loshchilov and Hutter, "SGDR", 2017, equation 5) without restarts, as
    /// PyTorch's `CosineAnnealingLR(T_max=epochs, eta_min=to)`.
    Cosine {
        /// The rate of the first epoch.
        from: f64,
        /// The rate after `epochs`.
        to: f64,
        /// How many epochs the annealing takes.
        epochs: u32,
    },
}

impl Schedule {
    /// The rate of an epoch, counted from 1.
    pub fn rate(self, epoch: u32) -> f64 {
        match self {
            Self::Constant(rate) => rate,
            Self::Cosine { from, to, epochs } => {
                let done = f64::from(epoch.saturating_sub(1)) / f64::from(epochs.max(1));
                to + (from - to) * (1.0 + (PI * done).cos()) / 2.0
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosine_annealing_is_pytorch_s() {
        // PyTorch 2: SGD(lr=1e-3), CosineAnnealingLR(opt, 5, eta_min=1e-5), get_last_lr() before
        // each step()
        let torch = [
            0.001,
            0.000_905_463_412_215_599,
            0.000_657_963_412_215_598_9,
            0.000_352_036_587_784_401_2,
            0.000_104_536_587_784_401,
        ];
        let schedule = Schedule::Cosine { from: 1e-3, to: 1e-5, epochs: 5 };
        for (epoch, want) in (1..).zip(torch) {
            assert!(
                (schedule.rate(epoch) - want).abs() < 1e-15,
                "epoch {epoch}: {}",
                schedule.rate(epoch)
            );
        }
    }
}
