//! Converts between candle's tensors and the layout of [`crate::multi::epoch`]: transposed, with
//! padded rows.

mod elementwise;
pub mod epoch;
pub mod shard;
pub mod update;

use candle_core::{Error, Result, Tensor};
use nets::{MULTI_LAYER_WEIGHTS, Net, Shape};

use crate::epoch::{EpochData, EpochError, EpochSettings};
use crate::multi::epoch::MultiLayerEpoch;
use crate::multi::shard::{Weights, padded};
use crate::multi::update::{Update, Weight};
use crate::optimizer::Optimizer;
use crate::random::Random;

/// Trains the multi-layer net `net` for an epoch.
pub fn train_epoch(
    settings: EpochSettings,
    net: &mut Net,
    optimizer: &mut Optimizer,
    random: &mut Random,
    data: EpochData<'_>,
) -> std::result::Result<(), EpochError> {
    let EpochData { part, order, lr } = data;
    #[cfg(feature = "cuda")]
    if let candle_core::Device::Cuda(device) = part.device() {
        let resident = crate::gpu::addresses(device, part.tensors()?)?;
        let epoch =
            crate::gpu::MultiLayerGpuEpoch { settings, resident, rows: part.len(), order, lr };
        // SAFETY: these are the rows and labels of the part, which were checked when it was read.
        return unsafe { epoch.run(&crate::gpu::Gpu(device.clone()), net, optimizer, random) };
    }
    let mut weights = take(net, optimizer)?;
    let update = Update {
        rule: optimizer.rule,
        lr,
        momentum: optimizer.momentum,
        weight_decay: optimizer.weight_decay,
        steps: optimizer.steps,
    };
    let epoch = MultiLayerEpoch {
        x: part.values(),
        y: &part.labels,
        order,
        batch_size: settings.batch_size,
        update,
        dropout: settings.regularisation.dropout,
        label_smoothing: settings.regularisation.label_smoothing,
        threads: settings.threads,
    };
    let done = epoch.run(&mut weights, random);
    put(net, optimizer, &weights)?;
    optimizer.steps += order.len().div_ceil(settings.batch_size) as u64;
    done.map_err(EpochError::Diverged)
}

fn take(net: &Net, optimizer: &Optimizer) -> Result<Weights> {
    let Shape::MultiLayer { hidden, layers, relu_out } = net.shape else {
        return Err(Error::Msg("this is not a multi-layer net".into()));
    };
    let read = |name: &str| -> Result<Weight> {
        let var =
            net.weights.get(name).ok_or_else(|| Error::Msg(format!("the net has no `{name}`")))?;
        let value = filled_up(var.as_tensor())?;
        let mut weight =
            Weight { gradient: vec![0.0; value.len()], value, memory: Default::default() };
        for (to, memory) in weight.memory.iter_mut().zip(optimizer.memories()) {
            let key = format!("{memory}.{name}");
            *to = filled_up(
                optimizer
                    .state
                    .get(&key)
                    .ok_or_else(|| Error::Msg(format!("the optimizer has no `{key}`")))?,
            )?;
        }
        Ok(weight)
    };
    let buffer = |name: &str| {
        filled_up(
            net.buffers.get(name).ok_or_else(|| Error::Msg(format!("the net has no `{name}`")))?,
        )
    };
    let [fc, fc_bias, mid, mid_bias, scale, shift, out, out_bias] = MULTI_LAYER_WEIGHTS.map(read);
    Ok(Weights {
        dimension: net.dimension,
        classes: net.classes,
        hidden,
        layers,
        relu_out,
        fc: fc?,
        fc_bias: fc_bias?,
        // Its inputs are padded rows, so it needs as many rows as they have elements.
        mid: with_rows(mid?, hidden),
        mid_bias: mid_bias?,
        scale: scale?,
        shift: shift?,
        out: with_rows(out?, hidden),
        out_bias: out_bias?,
        running_mean: buffer("bn.running_mean")?,
        running_var: buffer("bn.running_var")?,
    })
}

fn with_rows(mut weight: Weight, hidden: usize) -> Weight {
    let width = weight.value.len() / hidden;
    let Weight { value, gradient, memory: [first, second] } = &mut weight;
    for part in [value, gradient, first, second].into_iter().filter(|part| !part.is_empty()) {
        part.resize(padded(hidden) * width, 0.0);
    }
    weight
}

fn put(net: &mut Net, optimizer: &mut Optimizer, weights: &Weights) -> Result<()> {
    let Weights { fc, fc_bias, mid, mid_bias, scale, shift, out, out_bias, .. } = weights;
    for (name, weight) in MULTI_LAYER_WEIGHTS
        .into_iter()
        .zip([fc, fc_bias, mid, mid_bias, scale, shift, out, out_bias])
    {
        let dims = net.weights.get(name).map(|var| var.dims().to_vec()).unwrap_or_default();
        net.set(name, cut(&weight.value, &dims))?;
        for (memory, values) in optimizer.memories().iter().zip(&weight.memory) {
            optimizer.set(&format!("{memory}.{name}"), cut(values, &dims))?;
        }
    }
    net.set("bn.running_mean", cut(&weights.running_mean, &[weights.hidden]))?;
    net.set("bn.running_var", cut(&weights.running_var, &[weights.hidden]))
}

/// The values of a vector, padded, or of a matrix, transposed and with padded rows.
fn filled_up(tensor: &Tensor) -> Result<Vec<f32>> {
    if tensor.rank() < 2 {
        let mut values = tensor.to_vec1()?;
        values.resize(padded(values.len()), 0.0);
        return Ok(values);
    }
    let (outputs, inputs) = tensor.dims2()?;
    let width = padded(outputs);
    let mut all = vec![0.0; inputs * width];
    for (o, row) in tensor.to_vec2::<f32>()?.iter().enumerate() {
        for (to, from) in all.iter_mut().skip(o).step_by(width).zip(row) {
            *to = *from;
        }
    }
    Ok(all)
}

/// The inverse of [`filled_up`]: the values of a tensor with these dimensions.
fn cut(values: &[f32], dims: &[usize]) -> Vec<f32> {
    match *dims {
        [outputs, inputs] => {
            let width = padded(outputs);
            (0..outputs)
                .flat_map(|o| values.iter().skip(o).step_by(width).take(inputs).copied())
                .collect()
        }
        _ => values.iter().take(dims.iter().product()).copied().collect(),
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
    use proptest::prelude::*;

    #[derive(Debug, Clone, Copy)]
    struct Case {
        rows: usize,
        dimension: usize,
        classes: usize,
        shape: (usize, usize, bool),
        batch_size: usize,
        rule: (Rule, f64, f64),
        regularisation: (f64, f64),
    }

    /// How to train.
    #[derive(Debug, Clone, Copy)]
    enum How {
        ByHand(usize),
        Autograd,
        #[cfg(feature = "emulator")]
        Emulated,
    }

    /// The state of net and optimizer after two epochs.
    fn trained(case: Case, seed: u64, how: How) -> Vec<(String, Vec<f32>)> {
        let Case {
            rows,
            dimension,
            classes,
            shape: (hidden, layers, relu_out),
            batch_size,
            rule: (rule, momentum, weight_decay),
            ..
        } = case;
        let (dropout, label_smoothing) = case.regularisation;
        let mut random = Random::new(seed);
        let mut net = Net::zeros(
            Shape::MultiLayer { hidden, layers, relu_out },
            dimension,
            classes,
            &Device::Cpu,
        )
        .expect("a net");
        init::draw(&mut net, None, &mut random).expect("draws");
        let mut optimizer =
            Optimizer::new(rule, momentum, weight_decay, &net).expect("an optimizer");
        let part = Part::of(
            random.normal(rows * dimension),
            dimension,
            (0..u32::try_from(classes).expect("few")).cycle().take(rows).collect(),
        );
        let mut order: Vec<u32> = (0..).take(rows).collect();
        random.shuffle(&mut order);
        let (engine, threads) = if let How::ByHand(threads) = how {
            (Engine::Multi, threads)
        } else {
            (Engine::Autograd, 1)
        };
        let settings = EpochSettings {
            batch_size,
            threads,
            regularisation: Regularisation { dropout, label_smoothing },
            embedding_lr: 1.0,
        };
        for _ in 0..2 {
            let done = match how {
                #[cfg(feature = "emulator")]
                How::Emulated => {
                    let resident = crate::gpu::Resident {
                        x: part.values().as_ptr() as u64,
                        y: part.labels.as_ptr() as u64,
                    };
                    let epoch = crate::gpu::MultiLayerGpuEpoch {
                        settings,
                        resident,
                        rows,
                        order: &order,
                        lr: 0.05,
                    };
                    // SAFETY: these are the rows of the part, and their labels.
                    unsafe {
                        epoch.run(
                            &crate::gpu::emulator::Emulator,
                            &mut net,
                            &mut optimizer,
                            &mut random,
                        )
                    }
                }
                _ => {
                    let data = EpochData { part: &part, order: &order, lr: 0.05 };
                    engine.train_epoch(settings, &mut net, &mut optimizer, &mut random, data)
                }
            };
            assert!(done.is_ok(), "{case:?}");
        }
        let all = net.state().into_iter().chain(optimizer.state.clone());
        all.map(|(name, tensor)| {
            (name, tensor.flatten_all().and_then(|t| t.to_vec1()).expect("values"))
        })
        .collect()
    }

    fn agree(
        by_hand: &[(String, Vec<f32>)],
        autograd: &[(String, Vec<f32>)],
    ) -> std::result::Result<(), TestCaseError> {
        for ((name, a), (_, b)) in by_hand.iter().zip(autograd) {
            let mut far = 0;
            for (a, b) in a.iter().zip(b) {
                prop_assert!((a - b).abs() <= 2e-3 * b.abs().max(1.0), "{name}: {a} and {b}");
                far += usize::from((a - b).abs() > 2e-4 * b.abs().max(1.0));
            }
            prop_assert!(far * 20 <= a.len().max(20), "{name}: {far} of {} differ", a.len());
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Even if a batch has fewer rows than there are threads, or a single row.
        #[test]
        fn the_bits_do_not_depend_on_the_number_of_threads(
            rows in 1_usize..30, hidden in 1_usize..100, layers in 0_usize..3, classes in 2_usize..40, batch_size in 1_usize..9, dropout in 0_usize..2,
            threads in 2_usize..6, seed: u64
        ) {
            let (rule, regularisation) = ((Rule::Sgd, 0.0, 0.0), ([0.0, 0.3][dropout], 0.0));
            let case = Case { rows, dimension: 7, classes, shape: (hidden, layers, false), batch_size, rule, regularisation };
            let bits = |threads| -> Vec<Vec<u32>> {
                trained(case, seed, How::ByHand(threads)).into_iter().map(|(_, values)| values.into_iter().map(f32::to_bits).collect()).collect()
            };
            prop_assert_eq!(bits(threads), bits(1));
        }

        #[test]
        fn an_epoch_by_hand_is_autograd_s(
            rows in 2_usize..40, dimension in 1_usize..40, hidden in 1_usize..40, layers in 0_usize..4, relu_out: bool,
            classes in prop_oneof![Just(4_usize), 2_usize..40], batch_size in 2_usize..50, rule in 0_usize..4, dropout in 0_usize..2, smoothing in 0_usize..2, threads in 2_usize..5, seed: u64
        ) {
            let rule = [(Rule::Sgd, 0.0, 0.0), (Rule::Sgd, 0.9, 0.01), (Rule::Sgd, 0.0, 0.01), (Rule::AdamW, 0.0, 0.01)][rule];
            // Statistics of two or three rows are so steep that rounding errors grow without bound.
            let batch_size = batch_size.max(8);
            prop_assume!(rows % batch_size == 0 || rows % batch_size >= 6);
            let regularisation = ([0.0, 0.3][dropout], [0.0, 0.1][smoothing]);
            // The gradient of a bias before batch norm is 0 except for rounding, and AdamW's first
            // steps follow its sign.
            let layers = if rule.0 == Rule::AdamW { 0 } else { layers };
            let case = Case { rows, dimension, classes, shape: (hidden, layers, relu_out), batch_size, rule, regularisation };
            let (by_hand, autograd) = (trained(case, seed, How::ByHand(1)), trained(case, seed, How::Autograd));
            prop_assert_eq!(&trained(case, seed, How::ByHand(threads)), &by_hand, "{} threads", threads);
            agree(&by_hand, &autograd)?;
            #[cfg(feature = "emulator")]
            if classes == crate::gpu::CLASSES {
                agree(&trained(case, seed, How::Emulated), &autograd)?;
            }
        }
    }

    #[cfg(feature = "emulator")]
    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        /// Covers the cases for which autograd is not a reference. AdamW's first steps follow the
        /// sign of a gradient, which for the bias before batch norm is 0 except for rounding (and
        /// the running mean follows that bias). A batch of one row has no statistics for batch
        /// norm. Even so, most other numbers agree.
        #[test]
        fn a_gpu_s_epoch_is_the_processor_s(
            rows in 1_usize..24, hidden in 1_usize..20, layers in 1_usize..3, adamw: bool, one: bool, dropout in 0_usize..2, seed: u64
        ) {
            let rule = if adamw { (Rule::AdamW, 0.0, 0.01) } else { (Rule::Sgd, 0.9, 0.01) };
            let batch_size = if one { 1 } else { rows.max(12) };
            prop_assume!(one || rows >= 12);
            let regularisation = ([0.0, 0.3][dropout], 0.1);
            let case = Case { rows, dimension: 9, classes: crate::gpu::CLASSES, shape: (hidden, layers, false), batch_size, rule, regularisation };
            let (gpu, cpu) = (trained(case, seed, How::Emulated), trained(case, seed, How::ByHand(1)));
            for ((name, a), (_, b)) in gpu.iter().zip(&cpu).filter(|((name, _), _)| !name.contains("fc_mid.bias") && name != "bn.running_mean") {
                prop_assert_eq!(a.len(), b.len());
                let far = a.iter().zip(b).filter(|(a, b)| (*a - *b).abs() > 1e-2 * b.abs().max(1.0)).count();
                prop_assert!(a.iter().all(|a| a.is_finite()) && far * 4 <= a.len().max(4), "{name}: {far} of {} differ", a.len());
            }
        }
    }
}
