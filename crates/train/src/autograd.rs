//! Training through candle's automatic differentiation: any net, step by step.

use candle_core::{D, Device, Result, Tensor};
use candle_nn::loss::cross_entropy;
use candle_nn::ops::log_softmax;
use formats::arrays::Sequences;
use nets::{Net, PaddedBatch, Training};

use crate::epoch::{EpochData, EpochError, EpochSettings, Regularisation};
use crate::optimizer::Optimizer;
use crate::random::Random;

/// On a GPU, losses are read once for this many steps, since each read waits for the GPU.
const UNSEEN: usize = 1024;

/// Trains `net` for an epoch, a step at a time.
pub fn train_epoch(
    settings: EpochSettings,
    net: &mut Net,
    optimizer: &mut Optimizer,
    random: &mut Random,
    data: EpochData<'_>,
) -> std::result::Result<(), EpochError> {
    let EpochData { part, order, lr } = data;
    if let Some((sequences, _)) = part.sequences() {
        return sequence_epoch(settings, net, optimizer, random, data, sequences);
    }
    let (x, y) = part.tensors()?;
    // One gather per epoch is cheaper than one per batch. Unshuffled rows are in order already.
    let gathered = if order.is_sorted() {
        None
    } else {
        let rows = Tensor::from_slice(order, order.len(), x.device())?;
        Some((x.index_select(&rows, 0)?, y.index_select(&rows, 0)?))
    };
    let (x, y) = gathered.as_ref().map_or((x, y), |(x, y)| (x, y));
    let mut losses = Losses::new(x.device());
    for start in (0..order.len()).step_by(settings.batch_size) {
        let n = settings.batch_size.min(order.len() - start);
        let batch = (&x.narrow(0, start, n)?, &y.narrow(0, start, n)?);
        let mut forward =
            |net: &mut Net, mask: Option<Mask<'_>>| net.training_logits(batch.0, Training { mask });
        losses.push(step(net, optimizer, settings, random, (&mut forward, batch.1), lr)?)?;
    }
    losses.look()?;
    // A GPU works asynchronously; an epoch is done only when its work is.
    x.device().synchronize()?;
    Ok(())
}

/// Trains a net on sequences for an epoch.
fn sequence_epoch(
    settings: EpochSettings,
    net: &mut Net,
    optimizer: &mut Optimizer,
    random: &mut Random,
    data: EpochData<'_>,
    sequences: &Sequences,
) -> std::result::Result<(), EpochError> {
    let EpochData { part, order, lr } = data;
    let device = part.device();
    let table = part.table()?;
    let mut losses = Losses::new(device);
    for rows in order.chunks(settings.batch_size) {
        let of: Vec<&[u32]> = rows.iter().map(|&row| sequences.row(row as usize)).collect();
        let batch = PaddedBatch::new(&of, net.least_length(), device)?;
        let labels: Vec<u32> =
            rows.iter().filter_map(|&row| part.labels.get(row as usize)).copied().collect();
        let y = Tensor::from_vec(labels, rows.len(), device)?;
        let mut forward =
            |net: &mut Net, mask: Option<Mask<'_>>| net.sequence_logits(&batch, table, mask);
        losses.push(step(net, optimizer, settings, random, (&mut forward, &y), lr)?)?;
    }
    losses.look()?;
    device.synchronize()?;
    Ok(())
}

/// Draws dropout's factors for a number of units.
pub type Mask<'m> = &'m mut dyn FnMut(usize) -> Vec<f32>;

/// The losses of the steps, which stay on the device until they are read.
struct Losses {
    seen: usize,
    unseen: Vec<Tensor>,
    at_once: usize,
}

impl Losses {
    fn new(device: &Device) -> Self {
        Self { seen: 0, unseen: Vec::new(), at_once: if device.is_cpu() { 1 } else { UNSEEN } }
    }

    fn push(&mut self, loss: Tensor) -> std::result::Result<(), EpochError> {
        self.unseen.push(loss);
        if self.unseen.len() < self.at_once { Ok(()) } else { self.look() }
    }

    /// Reads the losses that are still on the device; they must be finite.
    fn look(&mut self) -> std::result::Result<(), EpochError> {
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

/// The logits of a batch, with dropout's factors.
type Forward<'f> = &'f mut dyn FnMut(&mut Net, Option<Mask<'_>>) -> Result<Tensor>;

/// Takes one step on a batch whose logits `forward` computes and whose labels are `y` \[n\], and
/// returns the loss before it, still on the device.
fn step(
    net: &mut Net,
    optimizer: &mut Optimizer,
    settings: EpochSettings,
    random: &mut Random,
    (forward, y): (Forward<'_>, &Tensor),
    lr: f64,
) -> Result<Tensor> {
    let Regularisation { dropout, label_smoothing } = settings.regularisation;
    let mut draw = |n: usize| random.mask(n, dropout);
    let mask: Option<Mask<'_>> = if dropout > 0.0 { Some(&mut draw) } else { None };
    let loss = loss(&forward(net, mask)?, y, label_smoothing)?;
    optimizer.step(net, &loss.backward()?, lr, settings.embedding_lr)?;
    // Detached, so that it does not keep the step's graph alive.
    Ok(loss.detach())
}

/// Takes one plain step on the rows `x` \[n, d\].
#[cfg(test)]
pub fn step_on(
    net: &mut Net,
    optimizer: &mut Optimizer,
    (x, y): (&Tensor, &Tensor),
    lr: f64,
) -> Result<Tensor> {
    let mut forward =
        |net: &mut Net, mask: Option<Mask<'_>>| net.training_logits(x, Training { mask });
    let settings = EpochSettings {
        batch_size: 1,
        threads: 1,
        regularisation: Regularisation::default(),
        embedding_lr: 1.0,
    };
    step(net, optimizer, settings, &mut Random::new(3), (&mut forward, y), lr)
}

/// Mean cross-entropy with label smoothing: a `share` of each label is spread over all classes
/// (Szegedy et al., 2016, section 7), as in PyTorch's `cross_entropy(label_smoothing=share)`.
pub fn loss(logits: &Tensor, y: &Tensor, share: f64) -> Result<Tensor> {
    let plain = cross_entropy(logits, y)?;
    if share == 0.0 {
        return Ok(plain);
    }
    let spread = log_softmax(logits, D::Minus1)?.mean_all()?.neg()?;
    (plain * (1.0 - share))? + (spread * share)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init;
    use crate::optimizer::Rule;
    use nets::Shape;

    #[test]
    fn the_first_loss_that_is_not_finite_is_named_whenever_it_is_looked_at() {
        for at_once in [1, 3, 100] {
            let mut losses = Losses { seen: 0, unseen: Vec::new(), at_once };
            let all = [0.5, 0.25, 1.0, f32::NAN, f32::INFINITY, 0.5];
            let done = all
                .into_iter()
                .try_for_each(|loss| losses.push(Tensor::new(loss, &Device::Cpu).expect("a loss")));
            let Err(EpochError::Diverged(batch)) = done.and_then(|()| losses.look()) else {
                panic!("not found, reading {at_once} at once")
            };
            assert_eq!(batch, 4);
        }
    }

    fn net(shape: Shape) -> Net {
        let mut net = Net::zeros(shape, 5, 4, &Device::Cpu).expect("a net");
        init::draw(&mut net, None, &mut Random::new(1)).expect("draws");
        net
    }

    fn rows(n: usize) -> (Tensor, Tensor) {
        let x = Tensor::from_vec(Random::new(2).normal(n * 5), (n, 5), &Device::Cpu).expect("X");
        let y: Vec<u32> = (0..4).cycle().take(n).collect();
        (x, Tensor::from_vec(y, n, &Device::Cpu).expect("y"))
    }

    fn sgd_step(net: &mut Net, x: &Tensor, y: &Tensor, lr: f64) -> f32 {
        let mut sgd = Optimizer::new(Rule::Sgd, 0.0, 0.0, net).expect("an optimizer");
        step_on(net, &mut sgd, (x, y), lr).and_then(|loss| loss.to_scalar()).expect("steps")
    }

    fn values(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().and_then(|t| t.to_vec1()).expect("values")
    }

    #[test]
    fn a_batch_of_one_row_leaves_everything_finite() {
        let mut net = net(Shape::MultiLayer { hidden: 3, layers: 2, relu_out: true });
        let (x, y) = rows(1);
        let before = values(&net.buffers["bn.running_var"]);
        assert!(sgd_step(&mut net, &x, &y, 0.1).is_finite());
        for (name, tensor) in net.state() {
            assert!(values(&tensor).iter().all(|v| v.is_finite()), "{name}");
        }
        assert_eq!(values(&net.buffers["bn.running_var"]), before);
    }

    #[test]
    fn every_weight_gets_a_gradient_that_finite_differences_confirm() {
        let net = || net(Shape::MultiLayer { hidden: 3, layers: 2, relu_out: false });
        let (x, y) = rows(8);
        let mut trained = net();
        sgd_step(&mut trained, &x, &y, 1.0);
        for name in trained.weights.keys() {
            let of = |net: &Net| values(net.weights[name].as_tensor());
            let (before, after) = (of(&net()), of(&trained));
            for i in (0..before.len()).step_by(2) {
                let loss = |by: f32| {
                    let mut net = net();
                    let mut nudged = before.clone();
                    nudged[i] += by;
                    net.set(name, nudged).expect("sets");
                    let logits = net.training_logits(&x, Training { mask: None }).expect("logits");
                    loss(&logits, &y, 0.0).and_then(|l| l.to_scalar::<f32>()).expect("a loss")
                };
                let slope = (loss(5e-4) - loss(-5e-4)) / 1e-3;
                let step = before[i] - after[i];
                assert!((step - slope).abs() < 1e-3, "{name}[{i}]: {step} and {slope}");
            }
        }
    }
}
