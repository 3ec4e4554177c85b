//! The single-layer net before any training: probabilities, loss and gradient of the first rows
//! with the starting weights (problems 71 and 72).

use std::collections::BTreeMap;

use candle_core::{IndexOp, Tensor};
use candle_nn::loss::cross_entropy;
use failure::Result;
use nets::{Net, Rows, file, probabilities};
use schema::{Start, StartStep};
use stage::Stage;

use crate::data::Part;
use crate::device;

/// The exercise takes x₁ alone and x₁ to x₄ together.
pub const ROWS: usize = 4;
/// How many of a gradient's columns `start.json` shows.
const SHOWN: usize = 6;

/// Mean cross-entropy of the rows `x` \[n, d\] and its gradient by W, \[classes, d\], by candle's
/// automatic differentiation.
pub fn loss_and_gradient(net: &Net, x: &Tensor, y: &Tensor) -> candle_core::Result<(f32, Tensor)> {
    let loss = cross_entropy(&net.logits(x)?, y)?;
    let gradients = loss.backward()?;
    let w = net
        .weights
        .get("fc.weight")
        .ok_or_else(|| candle_core::Error::Msg("the net has no `fc.weight`".into()))?;
    let gradient = gradients
        .get(w.as_tensor())
        .ok_or_else(|| candle_core::Error::Msg("W has no gradient".into()))?;
    Ok((loss.to_scalar()?, gradient.clone()))
}

/// Writes `start.json`, and the arrays in full as `start.safetensors`.
pub fn write(net: &Net, part: &Part, stage: &Stage) -> Result<()> {
    let n = ROWS.min(part.len());
    let made = start(net, part, n).map_err(|e| device::failed(&e, &stage.node))?;
    stage.write_json("start.json", &made.0)?;
    file::write(&stage.output("start.safetensors"), &made.1, None)
}

fn start(
    net: &Net,
    part: &Part,
    n: usize,
) -> candle_core::Result<(Start, BTreeMap<String, Tensor>)> {
    let (x, y) = part.first(n)?;
    let p = probabilities(net, Rows::Tensor(&x))?;
    let (first, gradient_first) = step(net, &x.i(..1)?, &y.i(..1)?)?;
    let (all, gradient_all) = step(net, &x, &y)?;
    let mut arrays = net.state();
    let p_of_x = Tensor::from_slice(&p, (n, net.classes), x.device())?;
    let named = [("X", x), ("P", p_of_x)];
    arrays.extend(named.map(|(name, tensor)| (name.to_owned(), tensor)));
    arrays.insert("gradient.x1".into(), gradient_first);
    arrays.insert(format!("gradient.x1-{n}"), gradient_all);
    let known = |all: &[i64]| all.iter().take(n).copied().collect();
    let labels = part.labels.iter().take(n).copied().collect();
    Ok((
        Start {
            ids: known(&part.ids),
            labels,
            probabilities: p.chunks_exact(net.classes).map(<[f32]>::to_vec).collect(),
            first,
            all,
        },
        arrays,
    ))
}

fn step(net: &Net, x: &Tensor, y: &Tensor) -> candle_core::Result<(StartStep, Tensor)> {
    let (loss, gradient) = loss_and_gradient(net, x, y)?;
    let norms = gradient.sqr()?.sum(1)?.sqrt()?.to_vec1()?;
    let shown = gradient.i((.., ..SHOWN.min(net.dimension)))?.to_vec2()?;
    Ok((StartStep { rows: x.dim(0)?, loss, norms, gradient: shown }, gradient))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use nets::Shape;

    const D: usize = 5;

    /// `numpy.cos(arange(20) * 0.7).reshape(4, 5)` and `numpy.sin(arange(20) * 0.3).reshape(4, 5)`.
    fn problem() -> (Net, Tensor, Tensor) {
        let numbers = |f: fn(f64) -> f64| -> Vec<f32> {
            #[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
            (0..20).map(|i| f(f64::from(i)) as f32).collect()
        };
        let mut net = Net::zeros(Shape::SingleLayer, D, 4, &Device::Cpu).expect("a net");
        net.set("fc.weight", numbers(|i| (i * 0.7).cos())).expect("sets");
        let x = Tensor::from_vec(numbers(|i| (i * 0.3).sin()), (4, D), &Device::Cpu).expect("X");
        let y = Tensor::from_vec(vec![0_u32, 3, 2, 1], 4, &Device::Cpu).expect("y");
        (net, x, y)
    }

    fn close(seen: &[f32], want: &[f64]) {
        assert_eq!(seen.len(), want.len());
        for (seen, want) in seen.iter().zip(want) {
            assert!((f64::from(*seen) - want).abs() < 1e-6, "{seen} is not {want}");
        }
    }

    // PyTorch 2.15: torch.softmax(X @ W.T, 1), and for n in (1, 4):
    // loss = cross_entropy(X[:n] @ W.T, y[:n]); loss.backward(); (loss, W.grad)
    #[rustfmt::skip]
    const PROBABILITIES: [f64; 16] = [0.031_496_2, 0.365_541_0, 0.012_731_3, 0.590_231_4, 0.370_934_2, 0.087_470_3, 0.065_758_6, 0.475_836_9, 0.326_547_9, 0.022_935_2, 0.632_466_5, 0.018_050_3, 0.094_128_3, 0.274_140_7, 0.583_016_3, 0.048_714_7];
    const LOSSES: [f64; 2] = [3.457_887_2, 1.488_202_1];
    #[rustfmt::skip]
    const GRADIENTS: [[f64; 20]; 2] = [
        [0.000_000_0, -0.286_212_4, -0.546_858_4, -0.758_655_1, -0.902_683_4, 0.000_000_0, 0.108_024_8, 0.206_400_0, 0.286_338_2, 0.340_698_6, 0.000_000_0, 0.003_762_4, 0.007_188_6, 0.009_972_8, 0.011_866_1, 0.000_000_0, 0.174_425_3, 0.333_269_7, 0.462_344_2, 0.550_118_7],
        [0.081_018_6, -0.017_564_4, -0.114_578_5, -0.201_357_6, -0.270_149_9, 0.200_009_3, 0.228_166_2, 0.235_941_8, 0.222_641_3, 0.189_453_0, -0.139_047_1, -0.113_750_6, -0.078_293_0, -0.035_841_7, 0.009_811_1, -0.141_980_7, -0.096_851_2, -0.043_070_3, 0.014_558_0, 0.070_885_8],
    ];

    #[test]
    fn probabilities_losses_and_gradients_are_pytorch_s() {
        let (net, x, y) = problem();
        let p = probabilities(&net, Rows::Tensor(&x)).expect("probabilities");
        close(&p, &PROBABILITIES);
        assert!(p.chunks_exact(4).all(|row| (row.iter().sum::<f32>() - 1.0).abs() < 1e-6));
        for ((n, loss), gradient) in [1, 4].into_iter().zip(LOSSES).zip(&GRADIENTS) {
            let seen = loss_and_gradient(&net, &x.i(..n).expect("rows"), &y.i(..n).expect("rows"))
                .expect("a gradient");
            close(&[seen.0], &[loss]);
            close(&seen.1.flatten_all().and_then(|g| g.to_vec1()).expect("values"), gradient);
        }
    }

    #[test]
    fn the_gradient_follows_the_finite_differences_of_the_loss() {
        let (net, x, y) = problem();
        let (_, gradient) = loss_and_gradient(&net, &x, &y).expect("a gradient");
        let gradient: Vec<f32> = gradient.flatten_all().and_then(|g| g.to_vec1()).expect("values");
        let w: Vec<f32> =
            net.state()["fc.weight"].flatten_all().and_then(|w| w.to_vec1()).expect("values");
        let (x, y): (Vec<Vec<f32>>, Vec<u32>) = (x.to_vec2().expect("X"), y.to_vec1().expect("y"));
        // In f64 and from the definition: f32 would lose the difference.
        let loss = |w: &[f64]| {
            let row = |(x, y): (&Vec<f32>, &u32)| {
                let logits: Vec<f64> = w
                    .chunks(D)
                    .map(|w| w.iter().zip(x).map(|(w, x)| w * f64::from(*x)).sum())
                    .collect();
                logits.iter().map(|z| z.exp()).sum::<f64>().ln() - logits[*y as usize]
            };
            x.iter().zip(&y).map(row).sum::<f64>() / x.len() as f64
        };
        for i in 0..w.len() {
            let nudged = |by: f64| {
                let mut w: Vec<f64> = w.iter().map(|&w| f64::from(w)).collect();
                w[i] += by;
                loss(&w)
            };
            let slope = (nudged(1e-6) - nudged(-1e-6)) / 2e-6;
            assert!(
                (f64::from(gradient[i]) - slope).abs() < 1e-6,
                "weight {i}: {} and {slope}",
                gradient[i]
            );
        }
    }
}
