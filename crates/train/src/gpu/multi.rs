//! An epoch of the multi-layer net on a [`Launcher`], to which its weights are copied in one piece,
//! and back.

use candle_core::{Error, Result, Tensor};
use nets::{MULTI_LAYER_WEIGHTS, Net, Shape};

use super::{CLASSES, Launch, Launcher, NONE, Parameters, Resident, SHARED, word};
use crate::epoch::{EpochError, EpochSettings};
use crate::optimizer::{BETAS, Optimizer, Rule};
use crate::random::Random;

/// Threads per block.
const THREADS: u32 = 256;
/// Hidden units that a block takes at a time.
const UNITS: usize = 4;
/// Words of a block's memory besides its units' weights.
const SUMS: usize = 12;
/// The most words for the masks of one launch's steps. Few in tests, so that there is more than one
/// launch.
const MASKS: usize = if cfg!(test) { 1 << 10 } else { 1 << 26 };

/// `MultiEpoch` in kernels.cu.
#[repr(C)]
#[derive(Clone, Copy)]
struct MultiLayerArguments {
    value: u64,
    first: u64,
    second: u64,
    gradient: u64,
    running_mean: u64,
    running_var: u64,
    x: u64,
    y: u64,
    order: u64,
    masks: u64,
    h: u64,
    normal: u64,
    inverse: u64,
    by_z: u64,
    by_h: u64,
    errors: u64,
    arrived: u64,
    diverged: u64,
    beta1_power: f64,
    beta2_power: f64,
    n: u32,
    d: u32,
    hidden: u32,
    layers: u32,
    batch: u32,
    first_step: u32,
    last_step: u32,
    relu_out: u32,
    rule: u32,
    lr: f32,
    momentum: f32,
    weight_decay: f32,
    kept: f32,
    smoothing: f32,
}

// SAFETY: eighteen addresses, two doubles and fourteen words, without padding.
unsafe impl Parameters for MultiLayerArguments {}

/// The most units or components for the kernel, whose products are made for small nets. Candle
/// trains wider nets.
const WIDEST: usize = 1024;

/// Whether the kernel can train a net of this shape: a block's memory must hold the weights of four
/// units.
pub fn fits(shape: &Shape, classes: usize, dimension: usize) -> bool {
    match shape {
        Shape::MultiLayer { hidden, .. } => {
            classes == CLASSES
                && *hidden.max(&dimension) <= WIDEST
                && SUMS + UNITS * WIDEST <= SHARED
        }
        Shape::SingleLayer | Shape::Sequence(_) => false,
    }
}

/// An epoch of the multi-layer net on a machine.
#[derive(Clone, Copy)]
pub struct MultiLayerGpuEpoch<'e> {
    pub settings: EpochSettings,
    pub resident: Resident,
    /// How many rows `resident` has.
    pub rows: usize,
    /// The rows to use, in this order.
    pub order: &'e [u32],
    pub lr: f64,
}

impl MultiLayerGpuEpoch<'_> {
    /// Trains the multi-layer net.
    ///
    /// # Safety
    /// `resident` has the addresses of `rows` rows of the net's dimension and of as many labels,
    /// which are less than 4.
    pub unsafe fn run<M: Launcher>(
        &self,
        machine: &M,
        net: &mut Net,
        optimizer: &mut Optimizer,
        random: &mut Random,
    ) -> std::result::Result<(), EpochError> {
        let mut state = DeviceState::put(machine, net, optimizer)?;
        // SAFETY: the caller guarantees it.
        unsafe { self.steps(machine, &mut state, net, optimizer, random)? };
        state.get(machine, net, optimizer)?;
        optimizer.steps += self.order.len().div_ceil(self.settings.batch_size.max(1)) as u64;
        Ok(())
    }
}

/// A net and its optimizer on the machine.
struct DeviceState<W> {
    value: W,
    first: W,
    second: W,
    running_mean: W,
    running_var: W,
}

impl<W> DeviceState<W> {
    fn put<M: Launcher<Words = W>>(machine: &M, net: &Net, optimizer: &Optimizer) -> Result<Self> {
        let buffer = |name: &str| machine.put(&flat([net.buffers.get(name)].into_iter())?);
        let remembered = |which: usize| match optimizer.memories().get(which) {
            Some(memory) => machine.put(&flat(
                MULTI_LAYER_WEIGHTS
                    .iter()
                    .map(|name| optimizer.state.get(&format!("{memory}.{name}"))),
            )?),
            None => machine.zeros(1),
        };
        let state = Self {
            value: machine.put(&flat(
                MULTI_LAYER_WEIGHTS
                    .iter()
                    .map(|name| net.weights.get(*name).map(candle_core::Var::as_tensor)),
            )?)?,
            first: remembered(0)?,
            second: remembered(1)?,
            running_mean: buffer("bn.running_mean")?,
            running_var: buffer("bn.running_var")?,
        };
        // The kernel takes the sizes from the shape, so the weights must have them.
        let Shape::MultiLayer { hidden, .. } = net.shape else {
            candle_core::bail!("this is not a multi-layer net")
        };
        let count = hidden * (net.dimension + 1)
            + hidden * (hidden + 1)
            + 2 * hidden
            + CLASSES * (hidden + 1);
        let memories = optimizer.memories().len();
        let sizes =
            [(&state.value, count), (&state.running_mean, hidden), (&state.running_var, hidden)];
        let remembered = [(&state.first, count), (&state.second, count)].into_iter().take(memories);
        if sizes.into_iter().chain(remembered).any(|(words, size)| machine.size(words) != size) {
            candle_core::bail!("the net's weights do not fit its shape");
        }
        Ok(state)
    }

    fn get<M: Launcher<Words = W>>(
        &self,
        machine: &M,
        net: &mut Net,
        optimizer: &mut Optimizer,
    ) -> Result<()> {
        let floats = |words: &W| {
            machine
                .get(words)
                .map(|words| words.into_iter().map(f32::from_bits).collect::<Vec<f32>>())
        };
        let sizes =
            MULTI_LAYER_WEIGHTS.map(|name| net.weights.get(name).map_or(0, |var| var.elem_count()));
        let cut = |words: &W| -> Result<Vec<Vec<f32>>> {
            let mut all = floats(words)?.into_iter();
            Ok(sizes.iter().map(|&size| all.by_ref().take(size).collect()).collect())
        };
        for (name, values) in MULTI_LAYER_WEIGHTS.into_iter().zip(cut(&self.value)?) {
            net.set(name, values)?;
        }
        for (memory, words) in optimizer.memories().iter().zip([&self.first, &self.second]) {
            for (name, values) in MULTI_LAYER_WEIGHTS.into_iter().zip(cut(words)?) {
                optimizer.set(&format!("{memory}.{name}"), values)?;
            }
        }
        net.set("bn.running_mean", floats(&self.running_mean)?)?;
        net.set("bn.running_var", floats(&self.running_var)?)
    }
}

impl MultiLayerGpuEpoch<'_> {
    /// # Safety
    /// As for [`MultiLayerGpuEpoch::run`].
    unsafe fn steps<M: Launcher>(
        &self,
        machine: &M,
        state: &mut DeviceState<M::Words>,
        net: &Net,
        optimizer: &Optimizer,
        random: &mut Random,
    ) -> std::result::Result<(), EpochError> {
        let Self { settings, resident, rows, order, lr } = *self;
        let Shape::MultiLayer { hidden, layers, relu_out } = net.shape else {
            return Err(Error::Msg("this is not a multi-layer net".into()).into());
        };
        if !fits(&net.shape, net.classes, net.dimension)
            || order.is_empty()
            || order.iter().any(|&row| row as usize >= rows)
        {
            return Err(Error::Msg(format!(
                "an epoch of {rows} rows of {} features does not fit",
                net.dimension
            ))
            .into());
        }
        let batch = settings.batch_size.min(order.len());
        let plane = batch * hidden;
        let mut places = machine.put(order)?;
        let zeros = |words: usize| machine.zeros(words.max(1));
        let mut gradient = zeros(net.parameters())?;
        let (mut h, mut normal, mut by_z) =
            (zeros((layers + 1) * plane)?, zeros(layers * plane)?, zeros(layers * plane)?);
        let (mut inverse, mut by_h, mut errors) =
            (zeros(layers * hidden)?, zeros(plane)?, zeros(CLASSES * batch)?);

        let steps = order.len().div_ceil(batch);
        let done = i32::try_from(optimizer.steps).unwrap_or(i32::MAX);
        #[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
        let mut parameters = MultiLayerArguments {
            value: machine.address(&mut state.value),
            first: machine.address(&mut state.first),
            second: machine.address(&mut state.second),
            gradient: machine.address(&mut gradient),
            running_mean: machine.address(&mut state.running_mean),
            running_var: machine.address(&mut state.running_var),
            x: resident.x,
            y: resident.y,
            order: machine.address(&mut places),
            masks: 0,
            h: machine.address(&mut h),
            normal: machine.address(&mut normal),
            inverse: machine.address(&mut inverse),
            by_z: machine.address(&mut by_z),
            by_h: machine.address(&mut by_h),
            errors: machine.address(&mut errors),
            arrived: 0,
            diverged: 0,
            beta1_power: BETAS.0.powi(done),
            beta2_power: BETAS.1.powi(done),
            n: word(order.len())?,
            d: word(net.dimension)?,
            hidden: word(hidden)?,
            layers: word(layers)?,
            batch: word(batch)?,
            first_step: 0,
            last_step: 0,
            relu_out: relu_out.into(),
            rule: match optimizer.rule {
                Rule::Sgd if optimizer.momentum > 0.0 => 1,
                Rule::Sgd => 0,
                Rule::AdamW => 2,
            },
            lr: lr as f32,
            momentum: optimizer.momentum as f32,
            weight_decay: optimizer.weight_decay as f32,
            kept: (1.0 - lr * optimizer.weight_decay) as f32,
            smoothing: settings.regularisation.label_smoothing as f32,
        };
        let blocks = word(hidden.div_ceil(UNITS))?.min(machine.most_blocks()?).max(1);
        let launch = Launch {
            kernel: "multi_epoch",
            blocks,
            threads: THREADS,
            shared: SUMS + UNITS * hidden.max(net.dimension),
        };
        let dropout = settings.regularisation.dropout;
        // Without dropout, one launch takes all steps.
        let at_once =
            if dropout > 0.0 { (MASKS / ((layers + 1) * plane)).clamp(1, steps) } else { steps };
        for start in (0..steps).step_by(at_once) {
            let end = steps.min(start + at_once);
            let mut draw = || {
                machine.put(&draw(
                    random,
                    dropout,
                    (layers, hidden, batch),
                    (start, end),
                    order.len(),
                ))
            };
            let mut masks = if dropout > 0.0 { Some(draw()?) } else { None };
            let mut signs = machine.put(&[0, NONE])?;
            let signs_at = machine.address(&mut signs);
            (parameters.arrived, parameters.diverged) = (signs_at, signs_at + 4);
            parameters.masks = masks.as_mut().map_or(0, |words| machine.address(words));
            (parameters.first_step, parameters.last_step) = (word(start)?, word(end)?);
            // SAFETY: all memory above has the sizes that kernels.cu expects, and lives until `get`
            // has waited for the kernel; every row of `order` exists, as was checked; the caller
            // guarantees `resident`.
            unsafe { machine.launch(launch, &parameters)? };
            if let Some(batch) = machine.get(&signs)?.get(1).copied().filter(|&batch| batch != NONE)
            {
                return Err(EpochError::Diverged(batch as usize));
            }
            // AdamW's powers for the next launch.
            let done = i32::try_from(optimizer.steps + end as u64).unwrap_or(i32::MAX);
            (parameters.beta1_power, parameters.beta2_power) =
                (BETAS.0.powi(done), BETAS.1.powi(done));
        }

        Ok(())
    }
}

/// The tensors' values as words, one after the other.
fn flat<'t>(tensors: impl Iterator<Item = Option<&'t Tensor>>) -> Result<Vec<u32>> {
    let mut all = Vec::new();
    for tensor in tensors {
        let tensor = tensor.ok_or_else(|| Error::Msg("a weight is missing".into()))?;
        all.extend(tensor.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f32::to_bits));
    }
    Ok(all)
}

/// Dropout's factors for the steps from `start` to `end`, drawn in the same order as on the CPU.
fn draw(
    random: &mut Random,
    dropout: f64,
    (layers, hidden, batch): (usize, usize, usize),
    (start, end): (usize, usize),
    n: usize,
) -> Vec<u32> {
    let plane = batch * hidden;
    let mut all = Vec::with_capacity((end - start) * (layers + 1) * plane);
    for step in start..end {
        let rows = batch.min(n - step * batch);
        for _ in 0..=layers {
            let end = all.len() + plane;
            all.extend(random.mask(rows * hidden, dropout).into_iter().map(f32::to_bits));
            all.resize(end, 0);
        }
    }
    all
}
