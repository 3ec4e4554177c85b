//! The epochs of both nets on an NVIDIA GPU: `kernels.cu`, and the code that starts its kernels.
//!
//! An epoch involves neither the host nor another kernel: rows and labels are on the device from
//! the start, the order is copied there before the epoch, and the number of a batch that has
//! diverged is copied back after it. So are the multi-layer net's weights, since every epoch's are
//! kept.
//!
//! The kernels run on a [`Launcher`]: a GPU or, without one, the emulator in `emulator.cpp`, which
//! the tests compare with the epochs by hand on the CPU (`--features emulator`).

#[cfg(feature = "cuda")]
mod cuda;
#[cfg(all(test, feature = "emulator"))]
pub mod emulator;
mod multi;

use candle_core::Result;

#[cfg(feature = "cuda")]
pub use cuda::{Gpu, addresses};
pub use multi::MultiLayerGpuEpoch;
#[cfg(feature = "cuda")]
pub use multi::fits as fits_multi;

/// A kernel's only argument, laid out as in C.
///
/// # Safety
/// The type is `repr(C)`, as its kernel declares it, and has no padding.
pub unsafe trait Parameters: Copy + 'static {}

/// How a kernel is started.
#[derive(Clone, Copy, Debug)]
pub struct Launch {
    pub kernel: &'static str,
    pub blocks: u32,
    pub threads: u32,
    /// Words of memory that each block's threads share.
    pub shared: usize,
}

/// A machine that runs the kernels.
///
/// # Safety
/// The memory that `put` and `zeros` return has as many words as were given or asked for, and stays
/// at `address` as long as it lives. `get` waits for everything that was started before.
pub unsafe trait Launcher {
    /// Memory of the machine, in words of 32 bits.
    type Words;
    /// Copies words to the machine.
    fn put(&self, words: &[u32]) -> Result<Self::Words>;
    /// Allocates this many `words`, all zero.
    fn zeros(&self, words: usize) -> Result<Self::Words>;
    /// Copies words back, once everything that was started before is done.
    fn get(&self, words: &Self::Words) -> Result<Vec<u32>>;
    /// The number of words.
    fn size(&self, words: &Self::Words) -> usize;
    /// The address of the words.
    fn address(&self, words: &mut Self::Words) -> u64;
    /// How many blocks can run at once, one per multiprocessor.
    fn most_blocks(&self) -> Result<u32>;
    /// Starts a kernel.
    ///
    /// # Safety
    /// The addresses among the parameters point to memory of the sizes that the kernel expects,
    /// which lives until the kernel is done.
    unsafe fn launch<P: Parameters>(&self, launch: Launch, parameters: &P) -> Result<()>;
}

/// Rows and labels on the machine.
#[derive(Clone, Copy, Debug)]
pub struct Resident {
    /// \[n, d\], f32.
    pub x: u64,
    /// \[n\], u32.
    pub y: u64,
}

/// Classes that the kernels are written for. Candle's automatic differentiation trains nets with
/// another number.
pub const CLASSES: usize = 4;
/// What a kernel writes for "no batch has diverged".
const NONE: u32 = u32::MAX;
/// Words that a block's threads can share on every GPU.
const SHARED: usize = 48 * 1024 / 4;
/// Rows that a block takes at a time, as in kernels.cu.
const TILE: usize = 64;
/// More blocks would spend longer reading each other's gradients than computing them.
const MOST_BLOCKS: u32 = 16;

/// `SingleEpoch` in kernels.cu.
#[repr(C)]
#[derive(Clone, Copy)]
struct SingleLayerArguments {
    w: u64,
    x: u64,
    y: u64,
    order: u64,
    partial: u64,
    arrived: u64,
    diverged: u64,
    n: u32,
    d: u32,
    batch: u32,
    lr: f32,
}

// SAFETY: seven addresses and four words, without padding.
unsafe impl Parameters for SingleLayerArguments {}

/// Whether a single-layer net with `d` features can be trained in one launch.
pub fn fits_single(classes: usize, d: usize) -> bool {
    classes == CLASSES && 2 * CLASSES * d + CLASSES * TILE <= SHARED
}

fn single_launch(d: usize, batch_size: usize, most_blocks: u32) -> Launch {
    if batch_size == 1
        && let Some((_, kernel)) =
            [(128, "single_rows_128"), (320, "single_rows_320"), (512, "single_rows_512")]
                .into_iter()
                .find(|(most, _)| d <= *most)
    {
        return Launch { kernel, blocks: 1, threads: 32, shared: 0 };
    }
    let blocks = u32::try_from(batch_size / TILE)
        .unwrap_or(u32::MAX)
        .clamp(1, most_blocks.clamp(1, MOST_BLOCKS));
    Launch {
        kernel: "single_batches",
        blocks,
        threads: 512,
        shared: 2 * CLASSES * d + CLASSES * TILE,
    }
}

/// An epoch of the single-layer net on a machine.
#[derive(Clone, Copy)]
pub struct SingleLayerGpuEpoch<'e> {
    /// The address of the weights, \[4, d\].
    pub w: u64,
    pub resident: Resident,
    /// Rows and columns of the features.
    pub size: [usize; 2],
    /// The rows to use, in this order.
    pub order: &'e [u32],
    pub batch_size: usize,
    pub lr: f32,
}

impl SingleLayerGpuEpoch<'_> {
    /// Trains the weights, and returns the first batch, counted from 1, whose loss is not finite.
    ///
    /// # Safety
    /// `w` is the address of 4 × d words, `resident` has rows and labels for all of `size`, and
    /// labels are less than 4.
    pub unsafe fn run<M: Launcher>(&self, machine: &M) -> Result<Option<usize>> {
        let launch = single_launch(self.size[1], self.batch_size, machine.most_blocks()?);
        // SAFETY: the caller guarantees it.
        unsafe { self.run_by(machine, launch) }
    }

    /// The same with this `launch`.
    ///
    /// # Safety
    /// As for [`SingleLayerGpuEpoch::run`].
    unsafe fn run_by<M: Launcher>(&self, machine: &M, launch: Launch) -> Result<Option<usize>> {
        let Self { w, resident, size: [rows, d], order, batch_size, lr } = *self;
        if !fits_single(CLASSES, d) || order.iter().any(|&row| row as usize >= rows) {
            candle_core::bail!("an epoch of {rows} rows of {d} features does not fit");
        }
        if order.is_empty() {
            return Ok(None);
        }
        let mut places = machine.put(order)?;
        let mut partial = machine.zeros(2 * launch.blocks as usize * CLASSES * d)?;
        let mut signs = machine.put(&[0, NONE])?;
        let signs_at = machine.address(&mut signs);
        let parameters = SingleLayerArguments {
            w,
            x: resident.x,
            y: resident.y,
            order: machine.address(&mut places),
            partial: machine.address(&mut partial),
            arrived: signs_at,
            diverged: signs_at + 4,
            n: word(order.len())?,
            d: word(d)?,
            // A batch has at most all of the rows.
            batch: word(batch_size.min(order.len()))?,
            lr,
        };
        // SAFETY: every row of `order` exists, as was checked; the caller guarantees `resident` and
        // `w`; `get` waits for the kernel.
        unsafe { machine.launch(launch, &parameters)? };
        let diverged = machine.get(&signs)?.get(1).copied().filter(|&batch| batch != NONE);
        Ok(diverged.map(|batch| batch as usize))
    }
}

fn word(n: usize) -> Result<u32> {
    // The sum of two such numbers must fit, too.
    u32::try_from(n)
        .ok()
        .filter(|&n| n <= u32::MAX / 2)
        .ok_or_else(|| candle_core::Error::Msg(format!("{n} is too large for a GPU's kernel")))
}

#[cfg(all(test, feature = "emulator"))]
mod tests {
    use super::*;
    use crate::random::Random;
    use emulator::Emulator;
    use proptest::prelude::*;

    /// An epoch by a kernel in the emulator, and by hand.
    fn both(
        launch: Launch,
        [n, d]: [usize; 2],
        batch_size: usize,
        seed: u64,
    ) -> (Vec<f32>, Vec<f32>) {
        let mut random = Random::new(seed);
        let (mut w, x) = (random.normal(CLASSES * d), random.normal(n * d));
        let y: Vec<u32> = (0..4).cycle().take(n).collect();
        let mut order: Vec<u32> = (0..).take(n).collect();
        random.shuffle(&mut order);
        let mut by_hand = w.clone();
        assert_eq!(
            crate::single::kernel::epoch(&mut by_hand, CLASSES, &x, &y, &order, batch_size, 0.05),
            Ok(())
        );
        let resident = Resident { x: x.as_ptr() as u64, y: y.as_ptr() as u64 };
        let at = w.as_mut_ptr() as u64;
        // SAFETY: the vectors have the sizes that the epoch expects.
        let diverged = unsafe {
            SingleLayerGpuEpoch {
                w: at,
                resident,
                size: [n, d],
                order: &order,
                batch_size,
                lr: 0.05,
            }
            .run_by(&Emulator, launch)
        };
        assert_eq!(diverged.expect("runs"), None);
        (w, by_hand)
    }

    fn near(a: &[f32], b: &[f32]) -> bool {
        a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-4 * b.abs().max(1.0))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn one_row_a_step(n in 1_usize..120, d in 1_usize..513, seed: u64) {
            let (a, b) = both(single_launch(d, 1, 1), [n, d], 1, seed);
            prop_assert!(near(&a, &b));
        }

        #[test]
        fn any_batch_by_any_number_of_blocks(
            n in 1_usize..200, d in 1_usize..70, batch_size in 1_usize..160, blocks in 1_u32..4, warps in 1_u32..4, seed: u64
        ) {
            let launch = Launch { blocks, threads: 32 * warps, ..single_launch(d, 2, 1) };
            let (a, b) = both(launch, [n, d], batch_size, seed);
            prop_assert!(near(&a, &b));
        }
    }

    #[test]
    fn the_kernel_fits_the_problem() {
        let named = |d, batch| {
            let launch = single_launch(d, batch, 132);
            (launch.kernel, launch.blocks)
        };
        assert_eq!(
            [named(300, 1), named(321, 1), named(513, 1)],
            [("single_rows_320", 1), ("single_rows_512", 1), ("single_batches", 1)]
        );
        assert_eq!(
            [named(300, 2), named(300, 127), named(300, 1024)],
            [("single_batches", 1), ("single_batches", 1), ("single_batches", 16)]
        );
        assert!(fits_single(4, 1504) && !fits_single(4, 1505) && !fits_single(3, 300));
    }

    #[test]
    fn a_loss_that_is_no_number_names_its_batch() {
        let d = 3;
        let mut x = vec![1.0_f32; 6 * d];
        x[4 * d] = f32::INFINITY;
        let y = [0_u32; 6];
        let order = [0, 1, 2, 3, 4, 5];
        for (batch_size, batch) in [(1, 5), (2, 3), (4, 2), (6, 1)] {
            let mut w = [0.5_f32; CLASSES * 3];
            let resident = Resident { x: x.as_ptr() as u64, y: y.as_ptr() as u64 };
            let launch = Launch { threads: 32, ..single_launch(d, batch_size, 1) };
            // SAFETY: the vectors have the sizes that the epoch expects.
            let diverged = unsafe {
                SingleLayerGpuEpoch {
                    w: w.as_mut_ptr() as u64,
                    resident,
                    size: [6, d],
                    order: &order,
                    batch_size,
                    lr: 0.1,
                }
                .run_by(&Emulator, launch)
            };
            assert_eq!(diverged.expect("runs"), Some(batch));
        }
    }
}
