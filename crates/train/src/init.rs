//! The starting weights of a net.

use candle_core::Result;
use nets::{EMBEDDING, Net, Shape, Table};

use crate::random::Random;

/// Draws a net's starting weights: from N(0, 1) for the single-layer net, as the exercise asks, and
/// as PyTorch's layers do for the others. Trained embeddings start from those of `table`.
pub fn draw(net: &mut Net, table: Option<&Table>, random: &mut Random) -> Result<()> {
    let hidden = match &net.shape {
        Shape::SingleLayer => {
            let count = net.parameters();
            return net.set("fc.weight", random.normal(count));
        }
        Shape::MultiLayer { hidden, .. } => *hidden,
        Shape::Sequence(_) => return draw_sequence(net, table, random),
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

/// Uniform in ±1/√k: k is the number of inputs of a linear layer, that of a window's components for
/// a convolution, and that of the units for an LSTM (`reset_parameters` of `nn.Linear`, `nn.Conv1d`
/// and `nn.LSTM`).
fn draw_sequence(net: &mut Net, table: Option<&Table>, random: &mut Random) -> Result<()> {
    let tensors = net.architecture().map(|of| of.tensors()).unwrap_or_default();
    let mut inputs = 1;
    for (name, shape) in tensors {
        // A bias follows its weight.
        if name.ends_with("weight") || name.contains("weight_hh") {
            inputs = shape.iter().skip(1).product();
        } else if name.contains("weight_ih") {
            inputs = shape.first().copied().unwrap_or(4) / 4;
        }
        let bound = 1.0 / (inputs as f64).sqrt();
        net.set(&name, random.uniform(shape.iter().product(), bound))?;
    }
    match table {
        Some(table) if net.weights.contains_key(EMBEDDING) => {
            net.set(EMBEDDING, table.values().to_vec())
        }
        _ => Ok(()),
    }
}
