//! An epoch of a net on sequences by hand, on the CPU.
//!
//! With trained embeddings, a step changes only the rows of its batch's tokens, by plain gradient
//! descent, so the optimizer remembers nothing of the matrix.

mod logistic;

use candle_core::Result;
use encoders::{Batch, Embeddings, Encoder, Layout, Net as ByHand, Pass, Targets, Weights};
use formats::arrays::Sequences;
use kernels::simd::{Vector, Work, dispatch};
use nets::{EMBEDDING, Net, Table, loaded, stored};

use crate::epoch::{EpochData, EpochError, EpochSettings};
use crate::multi::update::{Update, change};
use crate::optimizer::Optimizer;
use crate::random::Random;

/// Trains the net for an epoch.
pub fn train_epoch(
    settings: EpochSettings,
    net: &mut Net,
    optimizer: &mut Optimizer,
    random: &mut Random,
    data: EpochData<'_>,
) -> std::result::Result<(), EpochError> {
    let EpochData { part, order, lr } = data;
    let missing = || candle_core::Error::Msg("this net takes no sequences".into());
    let architecture = net.architecture().ok_or_else(missing)?;
    let (sequences, table) = part.sequences().ok_or_else(missing)?;
    let is_logistic = architecture.encoder == Encoder::Mean
        && architecture.hidden.is_none()
        && architecture.outputs() == 1
        && settings.regularisation.dropout == 0.0;
    let layout = Layout::new(architecture);
    let weights = loaded(&layout, |name| net.weights.get(name).map(candle_core::Var::as_tensor))?;
    let memory = |number: usize| -> Result<Weights> {
        match optimizer.memories().get(number) {
            None => Ok(Weights(vec![Vec::new(); weights.0.len()])),
            Some(memory) => {
                loaded(&layout, |name| optimizer.state.get(&format!("{memory}.{name}")))
            }
        }
    };
    let memories = [memory(0)?, memory(1)?];
    let own: Option<Vec<f32>> = match net.weights.get(EMBEDDING) {
        Some(own) => Some(own.flatten_all()?.to_vec1()?),
        None => None,
    };
    let update = Update {
        rule: optimizer.rule,
        lr,
        momentum: optimizer.momentum,
        weight_decay: optimizer.weight_decay,
        steps: optimizer.steps,
    };
    #[expect(clippy::cast_possible_truncation, reason = "embeddings are f32")]
    let rate = (lr * settings.embedding_lr) as f32;
    let gradients = layout.zeros();
    let by_hand = ByHand { layout, weights };
    let mut epoch = Epoch { net: by_hand, memories, gradients, own, table, update, rate };
    let rows = EpochRows { sequences, labels: &part.labels, order };
    let done = if is_logistic {
        logistic::run(&mut epoch, rows, settings)
    } else {
        // Threads that live for the epoch. Where none can be started, this one does the work.
        match rayon::ThreadPoolBuilder::new().num_threads(settings.threads).build() {
            Ok(pool) => pool.install(|| epoch.run(rows, settings, random)),
            Err(_) => epoch.run(rows, EpochSettings { threads: 1, ..settings }, random),
        }
    };
    epoch.put(net, optimizer)?;
    optimizer.steps += order.len().div_ceil(settings.batch_size) as u64;
    done.map_err(EpochError::Diverged)
}

/// The rows of an epoch.
#[derive(Clone, Copy)]
struct EpochRows<'r> {
    sequences: &'r Sequences,
    labels: &'r [u32],
    /// The rows to use, in this order.
    order: &'r [u32],
}

/// A net in training.
struct Epoch<'e> {
    net: ByHand,
    /// What the optimizer remembers.
    memories: [Weights; 2],
    gradients: Weights,
    /// The embeddings, if they are trained.
    own: Option<Vec<f32>>,
    table: &'e Table,
    update: Update,
    /// The learning rate of the embeddings.
    rate: f32,
}

/// Embeddings that are being trained.
struct Own<'o> {
    values: &'o [f32],
    dimension: usize,
}

impl Embeddings for Own<'_> {
    #[inline]
    fn row(&self, id: u32) -> &[f32] {
        let start = id as usize * self.dimension;
        self.values.get(start..start + self.dimension).unwrap_or_default()
    }
}

impl Epoch<'_> {
    /// Trains for an epoch. The error is the batch, counted from 1, whose loss is not finite.
    fn run(
        &mut self,
        rows: EpochRows<'_>,
        settings: EpochSettings,
        random: &mut Random,
    ) -> std::result::Result<(), usize> {
        let EpochRows { sequences, labels, order } = rows;
        let (dropout, threads) = (settings.regularisation.dropout, settings.threads);
        #[expect(clippy::cast_possible_truncation, reason = "labels are f32")]
        let smoothing = settings.regularisation.label_smoothing as f32;
        let inputs = self.net.layout.architecture.inputs_of_last();
        let dimension = self.net.layout.architecture.dimension;
        let (mut batch, mut pass, mut of_batch) = (Batch::default(), Pass::default(), Vec::new());
        for (number, rows) in (1..).zip(order.chunks(settings.batch_size)) {
            batch.clear();
            of_batch.clear();
            for &row in rows {
                batch.push(sequences.row(row as usize));
                of_batch.push(labels.get(row as usize).copied().unwrap_or_default());
            }
            let mask = (dropout > 0.0).then(|| random.mask(rows.len() * inputs, dropout));
            let targets = Targets { labels: &of_batch, smoothing, mask: mask.as_deref() };
            let (net, to) = (&self.net, &mut self.gradients);
            let finite = match &self.own {
                Some(values) => {
                    let table = Own { values, dimension };
                    net.gradients((&batch, targets), &table, true, &mut pass, threads, to)
                }
                None => net.gradients((&batch, targets), self.table, false, &mut pass, threads, to),
            };
            if !finite {
                return Err(number);
            }
            self.step(threads);
            self.step_embeddings(&batch, &pass, dimension);
        }
        Ok(())
    }

    /// Changes the weights by their gradients.
    fn step(&mut self, threads: usize) {
        self.update.steps += 1;
        let update = &self.update;
        let [first, second] = &mut self.memories;
        let mut all: Vec<Change<'_>> = (self.net.weights.0.iter_mut())
            .zip(&self.gradients.0)
            .zip(first.0.iter_mut().zip(&mut second.0))
            .map(|((value, gradient), (first, second))| Change {
                value,
                gradient,
                memory: [first, second],
                update,
            })
            .collect();
        encoders::each(threads, &mut all, |_, change| change.run_once());
    }

    /// Changes the embeddings of a batch's tokens.
    fn step_embeddings(&mut self, batch: &Batch, pass: &Pass, dimension: usize) {
        let Some(own) = &mut self.own else { return };
        let width = pass.by_embeddings().len() / batch.tokens().len().max(1);
        let gradients = pass.by_embeddings().chunks_exact(width.max(1));
        for (&token, gradient) in batch.tokens().iter().zip(gradients) {
            let start = token as usize * dimension;
            let row = own.get_mut(start..start + dimension).unwrap_or_default();
            for (x, by) in row.iter_mut().zip(gradient) {
                *x -= self.rate * by;
            }
        }
    }

    /// Puts the weights, and what the optimizer remembers, into `net` and `optimizer`.
    fn put(self, net: &mut Net, optimizer: &mut Optimizer) -> Result<()> {
        let layout = &self.net.layout;
        for (name, _) in layout.architecture.tensors() {
            net.set(&name, stored(layout, &self.net.weights, &name))?;
            for (memory, values) in optimizer.memories().iter().zip(&self.memories) {
                optimizer.set(&format!("{memory}.{name}"), stored(layout, values, &name))?;
            }
        }
        self.own.map_or(Ok(()), |own| net.set(EMBEDDING, own))
    }
}

/// A change of one array.
struct Change<'c> {
    value: &'c mut Vec<f32>,
    gradient: &'c [f32],
    memory: [&'c mut Vec<f32>; 2],
    update: &'c Update,
}

impl Change<'_> {
    fn run_once(&mut self) {
        let Self { value, gradient, memory: [first, second], update } = self;
        dispatch(Change { value, gradient, memory: [first, second], update });
    }
}

impl Work for Change<'_> {
    type Out = ();
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "see kernels::simd")]
    fn run<V: Vector>(self) {
        let Self { value, gradient, memory: [first, second], update } = self;
        change(value, gradient, [first, second], update);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Part;
    use crate::engine::Engine;
    use crate::epoch::Regularisation;
    use crate::init;
    use crate::optimizer::Rule;
    use candle_core::Device;
    use nets::{Pool, SequenceShape, Shape};

    const TOKENS: usize = 30;
    const DIMENSION: usize = 19;

    struct Case {
        encoder: Encoder,
        hidden: Option<usize>,
        classes: usize,
        is_trained: bool,
        rule: (Rule, f64, f64),
        regularisation: (f64, f64),
        batch_size: usize,
    }

    fn cases() -> Vec<Case> {
        let windows = || Encoder::Windows { widths: vec![2, 4], filters: 5 };
        let recurrent = |pool| Encoder::Recurrent { units: 6, pool };
        let (sgd, momentum, adamw) =
            ((Rule::Sgd, 0.0, 0.0), (Rule::Sgd, 0.9, 0.01), (Rule::AdamW, 0.0, 0.01));
        [
            (Encoder::Mean, None, 2, false, sgd, (0.0, 0.0), 1),
            (Encoder::Mean, None, 2, true, sgd, (0.0, 0.1), 8),
            (Encoder::Mean, None, 2, true, adamw, (0.0, 0.0), 8),
            (Encoder::Mean, None, 2, false, momentum, (0.5, 0.0), 8),
            (Encoder::Mean, None, 3, true, momentum, (0.0, 0.0), 8),
            (Encoder::Mean, Some(7), 2, true, adamw, (0.3, 0.0), 8),
            (windows(), None, 2, false, sgd, (0.0, 0.0), 8),
            (windows(), Some(7), 3, true, adamw, (0.3, 0.1), 11),
            (recurrent(Pool::Max), None, 2, true, adamw, (0.3, 0.0), 11),
            (recurrent(Pool::Attention), None, 3, true, sgd, (0.0, 0.0), 11),
            (recurrent(Pool::Last), Some(7), 2, false, momentum, (0.0, 0.1), 11),
        ]
        .map(|(encoder, hidden, classes, is_trained, rule, regularisation, batch_size)| Case {
            encoder,
            hidden,
            classes,
            is_trained,
            rule,
            regularisation,
            batch_size,
        })
        .into()
    }

    /// Every tensor of net and optimizer after two epochs, one after the other.
    fn trained(case: &Case, engine: Engine, threads: usize) -> Vec<f32> {
        let mut random = Random::new(7);
        let mut vectors = random.normal(TOKENS * DIMENSION);
        vectors[..DIMENSION].fill(0.0);
        let rows: Vec<Vec<u32>> = (0..60_u32)
            .map(|row| (0..row * 5 % 9).map(|at| 1 + (row * 11 + at * 7) % 29).collect())
            .collect();
        let classes = u32::try_from(case.classes).expect("few");
        let labels: Vec<u32> = (0..60).map(|row| row * row % classes).collect();
        let part = Part::of_sequences(Sequences::of(&rows, labels), vectors, DIMENSION);
        let shape = Shape::Sequence(SequenceShape {
            encoder: case.encoder.clone(),
            hidden: case.hidden,
            trained: case.is_trained.then_some(TOKENS),
        });
        let mut net = Net::zeros(shape, DIMENSION, case.classes, &Device::Cpu).expect("a net");
        init::draw(&mut net, part.sequences().map(|of| of.1), &mut random).expect("draws");
        let (rule, momentum, decay) = case.rule;
        let mut optimizer = Optimizer::new(rule, momentum, decay, &net).expect("an optimizer");
        let (dropout, label_smoothing) = case.regularisation;
        let settings = EpochSettings {
            batch_size: case.batch_size,
            threads,
            regularisation: Regularisation { dropout, label_smoothing },
            embedding_lr: 3.0,
        };
        for _ in 0..2 {
            let mut order: Vec<u32> = (0..60).collect();
            random.shuffle(&mut order);
            let data = EpochData { part: &part, order: &order, lr: 0.02 };
            engine
                .train_epoch(settings, &mut net, &mut optimizer, &mut random, data)
                .expect("trains");
        }
        let values = |t: &candle_core::Tensor| -> Vec<f32> {
            t.flatten_all().and_then(|t| t.to_vec1()).expect("values")
        };
        if let Some(own) = net.weights.get(EMBEDDING) {
            assert!(values(own).iter().take(DIMENSION).all(|x| *x == 0.0), "padding was trained");
        }
        net.state().values().chain(optimizer.state.values()).flat_map(values).collect()
    }

    #[test]
    fn an_epoch_by_hand_is_candle_s_automatic_differentiation() {
        for case in cases() {
            let (seen, want) =
                (trained(&case, Engine::Sequence, 1), trained(&case, Engine::Autograd, 1));
            assert_eq!(seen.len(), want.len());
            for (seen, want) in seen.iter().zip(want) {
                let Case { encoder, hidden, rule, .. } = &case;
                assert!(
                    (seen - want).abs() < 1e-4,
                    "{encoder:?} {hidden:?} {rule:?}: {seen} {want}"
                );
            }
        }
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        for case in cases() {
            let bits = |threads| -> Vec<u32> {
                trained(&case, Engine::Sequence, threads).iter().map(|x| x.to_bits()).collect()
            };
            assert!(bits(1) == bits(3), "{:?} {:?}", case.encoder, case.hidden);
        }
    }
}
