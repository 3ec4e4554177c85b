//! One epoch of the single-layer net as a single in-place op on its weights.
//!
//! With automatic differentiation, a step at batch size 1 takes a dozen tensors and a graph for
//! 2,400 multiply-adds; here it is one pass over the weights (`single/kernel.rs`). The tests below
//! compare it with candle's autograd and with finite differences.
//!
//! The formula: with p = softmax(W x) and the label's one-hot vector t, the gradient of the
//! cross-entropy by W is (p − t) xᵀ (Bishop, "Pattern Recognition and Machine Learning", 2006,
//! equation 4.109); a step subtracts its mean over the batch, times the learning rate.
//!
//! On an NVIDIA GPU the whole epoch is one launch (`gpu/kernels.cu`).

pub mod kernel;

use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::{CpuStorage, InplaceOp1, Layout, Result, bail};
use nets::Net;

use crate::epoch::{EpochData, EpochError, EpochSettings};
use crate::optimizer::Optimizer;
use crate::single::kernel::epoch;

/// Trains the single-layer net `net` for an epoch.
pub fn train_epoch(
    settings: EpochSettings,
    net: &Net,
    optimizer: &mut Optimizer,
    data: EpochData<'_>,
) -> std::result::Result<(), EpochError> {
    let EpochData { part, order, lr } = data;
    let Some(w) = net.weights.get("fc.weight") else {
        return Err(candle_core::Error::Msg("the net has no `fc.weight`".into()).into());
    };
    #[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
    let op = SgdEpoch::new(part.values(), &part.labels, order, settings.batch_size, lr as f32);
    #[cfg(feature = "cuda")]
    let op = match part.device() {
        // SAFETY: these tensors have the same rows and labels, and the part keeps them.
        candle_core::Device::Cuda(device) => unsafe {
            op.on_gpu(crate::gpu::addresses(device, part.tensors()?)?)
        },
        _ => op,
    };
    w.as_tensor().inplace_op1(&op)?;
    optimizer.steps += order.len().div_ceil(settings.batch_size) as u64;
    op.diverged().map_or(Ok(()), |batch| Err(EpochError::Diverged(batch)))
}

/// The batch number that stands for "none".
const NONE: usize = usize::MAX;

/// An epoch of stochastic gradient descent on `W` \[classes, d\], given `X` \[n, d\] and `y` \[n\], which
/// stay outside candle, since X may be larger than memory.
pub struct SgdEpoch<'a> {
    /// X, row after row.
    x: &'a [f32],
    /// The labels.
    y: &'a [u32],
    /// The rows to use, in this order.
    order: &'a [u32],
    /// Rows per step.
    batch_size: usize,
    /// The learning rate.
    lr: f32,
    /// The first batch, counted from 1, whose loss was not finite.
    diverged: AtomicUsize,
    /// The addresses of rows and labels on the GPU.
    #[cfg(feature = "cuda")]
    resident: Option<crate::gpu::Resident>,
}

impl<'a> SgdEpoch<'a> {
    /// The op for one epoch.
    pub fn new(x: &'a [f32], y: &'a [u32], order: &'a [u32], batch_size: usize, lr: f32) -> Self {
        Self {
            x,
            y,
            order,
            batch_size,
            lr,
            diverged: AtomicUsize::new(NONE),
            #[cfg(feature = "cuda")]
            resident: None,
        }
    }

    /// The op for weights on a GPU, where `x` and `y` are at these addresses.
    ///
    /// # Safety
    /// Both are at these addresses, and stay there until the op is done.
    #[cfg(feature = "cuda")]
    pub unsafe fn on_gpu(self, resident: crate::gpu::Resident) -> Self {
        Self { resident: Some(resident), ..self }
    }

    /// Rows and columns of X and the number of classes, if X, `y` and weights of this layout fit
    /// together.
    fn size(&self, wl: &Layout) -> Result<[usize; 3]> {
        let (n, d) = (self.y.len(), self.x.len() / self.y.len().max(1));
        let classes = wl.dims().first().copied().unwrap_or(0);
        if wl.dims() != [classes, d] || self.x.len() != n * d {
            bail!(
                "{}: W {:?}, {} numbers in X and {n} in y do not fit",
                self.name(),
                wl.shape(),
                self.x.len()
            );
        }
        if self.order.iter().any(|&row| row as usize >= n)
            || self.y.iter().any(|&y| y as usize >= classes)
        {
            bail!("{}: a row or a label is out of range", self.name());
        }
        Ok([n, d, classes])
    }

    /// The first batch, counted from 1, whose loss was not finite.
    pub fn diverged(&self) -> Option<usize> {
        Some(self.diverged.load(Ordering::Relaxed)).filter(|&batch| batch != NONE)
    }
}

impl InplaceOp1 for SgdEpoch<'_> {
    fn name(&self) -> &'static str {
        "sgd-epoch"
    }

    fn cpu_fwd(&self, w: &mut CpuStorage, wl: &Layout) -> Result<()> {
        let [_, _, classes] = self.size(wl)?;
        let CpuStorage::F32(w) = w else { bail!("{}: W must be f32", self.name()) };
        let Some(w) = wl.contiguous_offsets().and_then(|(start, end)| w.get_mut(start..end)) else {
            bail!("{}: W must be contiguous", self.name());
        };
        if let Err(batch) = epoch(w, classes, self.x, self.y, self.order, self.batch_size, self.lr)
        {
            self.diverged.store(batch, Ordering::Relaxed);
        }
        Ok(())
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, w: &mut candle_core::CudaStorage, wl: &Layout) -> Result<()> {
        use candle_core::cuda_backend::cudarc::driver::DevicePtrMut;

        let [rows, d, classes] = self.size(wl)?;
        if classes != crate::gpu::CLASSES {
            bail!("{}: the kernel has {} classes", self.name(), crate::gpu::CLASSES)
        }
        let Some(resident) = self.resident else {
            bail!("{}: X and y are not on the GPU", self.name())
        };
        let Some((start, _)) = wl.contiguous_offsets() else {
            bail!("{}: W must be contiguous", self.name())
        };
        let gpu = crate::gpu::Gpu(w.device.clone());
        let stream = gpu.0.cuda_stream();
        let (at, _until) = w.as_cuda_slice_mut::<f32>()?.device_ptr_mut(&stream);
        let w = at + 4 * start as u64;
        let epoch = crate::gpu::SingleLayerGpuEpoch {
            w,
            resident,
            size: [rows, d],
            order: self.order,
            batch_size: self.batch_size,
            lr: self.lr,
        };
        // SAFETY: W has 4 × d numbers from `start` on, as was checked with its layout; the caller
        // of `on_gpu` guarantees the rest.
        let diverged = unsafe { epoch.run(&gpu) }?;
        self.diverged.store(diverged.unwrap_or(NONE), Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use candle_core::{Device, Tensor, Var};
    use candle_nn::loss::cross_entropy;
    use proptest::prelude::*;

    struct Problem {
        w: Vec<f32>,
        x: Vec<f32>,
        y: Vec<u32>,
        d: usize,
        classes: usize,
    }

    fn problem(n: usize, d: usize, classes: usize, seed: u64) -> Problem {
        let mut random = Random::new(seed);
        let mut y: Vec<u32> = (0..u32::try_from(classes).expect("few")).cycle().take(n).collect();
        random.shuffle(&mut y);
        Problem { w: random.normal(classes * d), x: random.normal(n * d), y, d, classes }
    }

    fn fused(p: &Problem, order: &[u32], batch_size: usize, lr: f32) -> Vec<f32> {
        let device = Device::Cpu;
        let w = Tensor::from_vec(p.w.clone(), (p.classes, p.d), &device).expect("W");
        let op = SgdEpoch::new(&p.x, &p.y, order, batch_size, lr);
        w.inplace_op1(&op).expect("runs");
        assert_eq!(op.diverged(), None);
        w.flatten_all().and_then(|w| w.to_vec1()).expect("W")
    }

    fn autograd(
        p: &Problem,
        order: &[u32],
        batch_size: usize,
        lr: f64,
    ) -> candle_core::Result<Vec<f32>> {
        let device = Device::Cpu;
        let w = Var::from_tensor(&Tensor::from_vec(p.w.clone(), (p.classes, p.d), &device)?)?;
        let x = Tensor::from_vec(p.x.clone(), (p.y.len(), p.d), &device)?;
        let y = Tensor::from_vec(p.y.clone(), p.y.len(), &device)?;
        for batch in order.chunks(batch_size) {
            let rows = Tensor::from_vec(batch.to_vec(), batch.len(), &device)?;
            let loss = cross_entropy(
                &x.index_select(&rows, 0)?.matmul(&w.t()?)?,
                &y.index_select(&rows, 0)?,
            )?;
            let gradients = loss.backward()?;
            let gradient = gradients.get(w.as_tensor()).expect("a gradient");
            w.set(&(w.as_tensor() - (gradient * lr)?)?)?;
        }
        w.as_tensor().flatten_all()?.to_vec1()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn an_epoch_is_autograd_s(n in 1_usize..80, d in 1_usize..70, classes in 2_usize..23, batch_size in prop_oneof![Just(1_usize), 2_usize..5, 5_usize..80], seed: u64) {
            let p = problem(n, d, classes, seed);
            let mut order: Vec<u32> = (0..u32::try_from(n).expect("small")).collect();
            Random::new(seed).shuffle(&mut order);
            let (a, b) = (fused(&p, &order, batch_size, 0.1), autograd(&p, &order, batch_size, 0.1).expect("trains"));
            for (a, b) in a.iter().zip(&b) {
                prop_assert!((a - b).abs() <= 1e-4 * b.abs().max(1.0), "{} {}", a, b);
            }
        }
    }

    /// Mean cross-entropy in f64, from the definition.
    fn loss(p: &Problem, w: &[f64]) -> f64 {
        let row = |i: usize| {
            let logits: Vec<f64> = w
                .chunks(p.d)
                .map(|w| w.iter().zip(&p.x[i * p.d..]).map(|(w, &x)| w * f64::from(x)).sum())
                .collect();
            logits.iter().map(|z| z.exp()).sum::<f64>().ln() - logits[p.y[i] as usize]
        };
        (0..p.y.len()).map(row).sum::<f64>() / p.y.len() as f64
    }

    #[test]
    fn a_step_follows_the_finite_differences_of_the_loss() {
        for classes in [2, 3, 4, 7] {
            let p = problem(5, 7, classes, 3);
            let after = fused(&p, &[0, 1, 2, 3, 4], 5, 1.0);
            let w: Vec<f64> = p.w.iter().map(|&w| f64::from(w)).collect();
            for i in 0..w.len() {
                let nudged = |by: f64| {
                    let mut w = w.clone();
                    w[i] += by;
                    loss(&p, &w)
                };
                let slope = (nudged(1e-5) - nudged(-1e-5)) / 2e-5;
                let step = w[i] - f64::from(after[i]);
                assert!((step - slope).abs() < 1e-5, "weight {i}: {step} and {slope}");
            }
        }
    }

    #[test]
    fn a_loss_that_is_no_number_names_its_batch() {
        for classes in [2, 3, 4, 7] {
            let mut p = problem(6, 3, classes, 1);
            p.x[4 * 3] = f32::INFINITY;
            for (batch_size, batch) in [(1, 5), (2, 3), (4, 2), (6, 1)] {
                let order = [0, 1, 2, 3, 4, 5];
                assert_eq!(
                    epoch(&mut p.w.clone(), classes, &p.x, &p.y, &order, batch_size, 0.1),
                    Err(batch)
                );
            }
        }
    }
}
