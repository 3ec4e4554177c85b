//! The starting weights of a net.

use candle_core::Result;
use nets::{Net, Shape};

use crate::random::Random;

/// Draws a net's starting weights: from N(0, 1) for the single-layer net, as the exercise asks, and
/// as in PyTorch's `nn.Linear` for the multi-layer net.
pub fn draw(net: &mut Net, random: &mut Random) -> Result<()> {
    let Shape::MultiLayer { hidden, .. } = net.shape else {
        let count = net.parameters();
        return net.set("fc.weight", random.normal(count));
    };
    for (name, inputs) in [("fc", net.dimension), ("fc_mid", hidden), ("fc_out", hidden)] {
        // Weights and bias uniform in ±1/√inputs (`nn.Linear.reset_parameters`).
        let bound = 1.0 / (inputs as f64).sqrt();
        for part in ["weight", "bias"] {
            let name = format!("{name}.{part}");
            let count = net.weights.get(&name).map_or(0, |v| v.elem_count());
            net.set(&name, random.uniform(count, bound))?;
        }
    }
    Ok(())
}
