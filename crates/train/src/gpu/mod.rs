//! The epochs of both nets on an NVIDIA GPU: `kernels.cu`, and what starts it.
//!
//! Neither the host nor another kernel has a part in an epoch: rows and labels are on the device
//! from the start, the order goes there before it, and the number of a batch that has diverged
//! comes back after it. The multi-layer net's weights come back, too, since every epoch's are kept.
//!
//! The kernels run on a [`Launcher`]: a GPU, or where there is none the emulator in `emulator.cpp`,
//! which the tests compare with the epochs by hand on the processor (`--features emulator`).

#[cfg(feature = "cuda")]
mod cuda;
#[cfg(all(test, feature = "emulator"))]
pub mod emulator;
mod multi;

use candle_core::Result;
use kernels::softmax::CLASSES;

#[cfg(feature = "cuda")]
pub use cuda::{Gpu, addresses};
pub use multi::MultiLayerGpuEpoch;
#[cfg(feature = "cuda")]
pub use multi::fits as fits_multi;

/// A type whose values are a kernel's only argument, laid out as in C.
///
/// # Safety
/// It is `repr(C)`, as the kernel that is started with it has it, and has no bytes that mean
/// nothing.
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

/// What runs the kernels.
///
/// # Safety
/// What `put` and `zeros` return has as many words as they were given or told, at `address`, as
/// long as it is there; and `get` waits for what was started.
pub unsafe trait Launcher {
    /// Memory there, in words of 32 bits.
    type Words;
    /// Copies words there.
    fn put(&self, words: &[u32]) -> Result<Self::Words>;
    /// Zeros.
    fn zeros(&self, words: usize) -> Result<Self::Words>;
    /// Copies them back, when what was started before is done.
    fn get(&self, words: &Self::Words) -> Result<Vec<u32>>;
    /// How many there are.
    fn size(&self, words: &Self::Words) -> usize;
    /// Where they are.
    fn address(&self, words: &mut Self::Words) -> u64;
    /// Blocks that can be there at once, one a multiprocessor.
    fn most_blocks(&self) -> Result<u32>;
    /// Runs a kernel.
    ///
    /// # Safety
    /// The addresses among the parameters are those of memory that is there until the kernel is
    /// done, and of the sizes that it expects.
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

/// What a kernel writes for "no batch has diverged".
const NONE: u32 = u32::MAX;
/// Words that a block's threads can share on every GPU.
const SHARED: usize = 48 * 1024 / 4;
/// Rows that a block takes at once, as kernels.cu has it.
const TILE: usize = 64;
/// More blocks would read each other's gradients for longer than they take to compute.
const MOST_BLOCKS: u32 = 16;

/// As in kernels.cu.
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

// SAFETY: seven addresses and four words, with nothing between them.
unsafe impl Parameters for SingleLayerArguments {}

/// Whether the single-layer net of this dimension can be trained in one launch.
pub fn fits_single(d: usize) -> bool {
    2 * CLASSES * d + CLASSES * TILE <= SHARED
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
    /// Where the weights are, \[4, d\].
    pub w: u64,
    pub resident: Resident,
    /// Rows and columns there.
    pub size: [usize; 2],
    /// The rows that are used, in this order.
    pub order: &'e [u32],
    pub batch_size: usize,
    pub lr: f32,
}

impl SingleLayerGpuEpoch<'_> {
    /// Trains the weights. The number is the first batch, from 1, whose loss is not finite.
    ///
    /// # Safety
    /// `w` is the address of 4 × d words, the rows and labels are those of at least as many rows,
    /// and labels are less than 4.
    pub unsafe fn run<M: Launcher>(&self, machine: &M) -> Result<Option<usize>> {
        let launch = single_launch(self.size[1], self.batch_size, machine.most_blocks()?);
        // SAFETY: the caller's word.
        unsafe { self.run_by(machine, launch) }
    }

    /// The same, by a launch of the caller's.
    ///
    /// # Safety
    /// That of [`SingleLayerGpuEpoch::run`].
    unsafe fn run_by<M: Launcher>(&self, machine: &M, launch: Launch) -> Result<Option<usize>> {
        let Self { w, resident, size: [rows, d], order, batch_size, lr } = *self;
        if !fits_single(d) || order.iter().any(|&row| row as usize >= rows) {
            candle_core::bail!("an epoch of {rows} rows of {d} does not fit");
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
            // A batch that is larger than the rows is all of them.
            batch: word(batch_size.min(order.len()))?,
            lr,
        };
        // SAFETY: every row of `order` is there, as the caller says of `resident` and `w`; `get`
        // waits for the kernel.
        unsafe { machine.launch(launch, &parameters)? };
        let diverged = machine.get(&signs)?.get(1).copied().filter(|&batch| batch != NONE);
        Ok(diverged.map(|batch| batch as usize))
    }
}

fn word(n: usize) -> Result<u32> {
    // A sum of two of them is to fit, too.
    u32::try_from(n)
        .ok()
        .filter(|&n| n <= u32::MAX / 2)
        .ok_or_else(|| candle_core::Error::Msg(format!("{n} is more than a GPU's kernel counts")))
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
            crate::single::kernel::epoch(&mut by_hand, &x, &y, &order, batch_size, 0.05),
            Ok(())
        );
        let resident = Resident { x: x.as_ptr() as u64, y: y.as_ptr() as u64 };
        let at = w.as_mut_ptr() as u64;
        // SAFETY: the sizes are as they should be.
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
        assert!(fits_single(1504) && !fits_single(1505));
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
            // SAFETY: the sizes are as they should be.
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
