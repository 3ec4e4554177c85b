//! Where a net's weights lie in memory: matrices transposed, with rows padded to whole vector
//! registers.

use kernels::simd::LANES;

use crate::{Architecture, Encoder};

/// The gates of an LSTM, in PyTorch's order: input, forget, cell, output.
pub const GATES: usize = 4;

/// Values or gradients of all weights, in the arrays of a [`Layout`].
#[derive(Clone, Default)]
pub struct Weights(pub Vec<Vec<f32>>);

/// The arrays that hold a net's weights.
///
/// First come the *blocks* of the projection: matrices whose products with an embedding depend on
/// nothing else. A convolution has one for each width and each place in the window, an LSTM one for
/// each direction and gate.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The net.
    pub architecture: Architecture,
    /// Columns of a block, padded.
    pub width: usize,
    /// How many blocks there are.
    pub blocks: usize,
    /// The first bias of the projection: of each width's filters, or of all gates.
    pub bias: usize,
    /// An LSTM's second bias.
    pub second_bias: usize,
    /// An LSTM's matrices from state to gates, one for each direction.
    pub recurrent: usize,
    /// The query of the attention.
    pub attention: usize,
    /// The matrix of the hidden layer, and its bias after it.
    pub hidden: usize,
    /// The matrix of the last layer, and its bias after it.
    pub last: usize,
    /// Features of a row, padded.
    pub features: usize,
    /// Hidden units of a row, padded; 0 without a hidden layer.
    pub hidden_units: usize,
    /// Outputs of a row, padded.
    pub outputs: usize,
    sizes: Vec<usize>,
}

pub const fn padded(count: usize) -> usize {
    count.next_multiple_of(LANES)
}

impl Layout {
    /// The layout of a net.
    pub fn new(architecture: Architecture) -> Self {
        let dimension = architecture.dimension;
        let (width, blocks, features) = match &architecture.encoder {
            Encoder::Mean => (0, 0, padded(dimension)),
            Encoder::Windows { widths, filters } => {
                (padded(*filters), widths.iter().sum(), widths.len() * padded(*filters))
            }
            Encoder::Recurrent { units, .. } => (padded(*units), 2 * GATES, 2 * padded(*units)),
        };
        let hidden_units = padded(architecture.hidden.unwrap_or(0));
        let outputs = padded(architecture.outputs());
        let mut sizes = vec![dimension * width; blocks];
        let mut add = |size: usize| {
            sizes.push(size);
            sizes.len() - 1
        };
        let is_recurrent = matches!(architecture.encoder, Encoder::Recurrent { .. });
        let of_bias =
            if is_recurrent { 2 * GATES * width } else { features * usize::from(blocks > 0) };
        let bias = add(of_bias);
        let second_bias = add(if is_recurrent { of_bias } else { 0 });
        let of_state = if is_recurrent { width * GATES * width } else { 0 };
        let recurrent = add(of_state);
        add(of_state);
        let attention = add(if is_recurrent { features } else { 0 });
        let hidden = add(features * hidden_units);
        add(hidden_units);
        let inputs = if hidden_units > 0 { hidden_units } else { features };
        let last = add(inputs * outputs);
        add(outputs);
        Self {
            architecture,
            width,
            blocks,
            bias,
            second_bias,
            recurrent,
            attention,
            hidden,
            last,
            features,
            hidden_units,
            outputs,
            sizes,
        }
    }

    /// Arrays of zeros.
    pub fn zeros(&self) -> Weights {
        Weights(self.sizes.iter().map(|&size| vec![0.0; size]).collect())
    }

    /// Where feature `number` lies in a padded row of features.
    pub fn feature(&self, number: usize) -> usize {
        let of = match &self.architecture.encoder {
            Encoder::Mean => return number,
            Encoder::Windows { filters, .. } => *filters,
            Encoder::Recurrent { units, .. } => *units,
        };
        number / of * self.width + number % of
    }

    /// Where input `number` of the last layer lies in a padded row.
    pub fn input_of_last(&self, number: usize) -> usize {
        if self.hidden_units > 0 { number } else { self.feature(number) }
    }

    /// Calls `place` with an array and an index in it for each element of the tensor `name`, in the
    /// order of PyTorch. Returns `false` if there is no such tensor.
    pub fn each(&self, name: &str, mut place: impl FnMut(usize, usize)) -> bool {
        let d = self.architecture.dimension;
        match name {
            "hidden.weight" => {
                for unit in 0..self.architecture.hidden.unwrap_or(0) {
                    for feature in 0..self.architecture.features() {
                        place(self.hidden, self.feature(feature) * self.hidden_units + unit);
                    }
                }
            }
            "hidden.bias" => {
                (0..self.architecture.hidden.unwrap_or(0))
                    .for_each(|unit| place(self.hidden + 1, unit));
            }
            "fc.weight" => {
                for output in 0..self.architecture.outputs() {
                    for input in 0..self.architecture.inputs_of_last() {
                        place(self.last, self.input_of_last(input) * self.outputs + output);
                    }
                }
            }
            "fc.bias" => {
                (0..self.architecture.outputs()).for_each(|output| place(self.last + 1, output));
            }
            "attention.weight" => {
                (0..self.architecture.features())
                    .for_each(|number| place(self.attention, self.feature(number)));
            }
            _ => match &self.architecture.encoder {
                Encoder::Mean => return false,
                Encoder::Windows { widths, filters } => {
                    let Some((number, is_weight)) = convolution(name) else { return false };
                    let Some(&width) = widths.get(number) else { return false };
                    let first: usize = widths.iter().take(number).sum();
                    for filter in 0..*filters {
                        if !is_weight {
                            place(self.bias, number * self.width + filter);
                            continue;
                        }
                        for component in 0..d {
                            (0..width)
                                .for_each(|k| place(first + k, component * self.width + filter));
                        }
                    }
                }
                Encoder::Recurrent { units, .. } => {
                    let Some(rest) = name.strip_prefix("lstm.") else { return false };
                    let (rest, direction) =
                        rest.strip_suffix("_reverse").map_or((rest, 0), |rest| (rest, 1));
                    for gate in 0..GATES {
                        let column = (direction * GATES + gate) * self.width;
                        for unit in 0..*units {
                            match rest {
                                "weight_ih_l0" => {
                                    let block = direction * GATES + gate;
                                    (0..d).for_each(|x| place(block, x * self.width + unit));
                                }
                                "weight_hh_l0" => (0..*units).for_each(|state| {
                                    let row = state * GATES * self.width;
                                    place(
                                        self.recurrent + direction,
                                        row + gate * self.width + unit,
                                    );
                                }),
                                "bias_ih_l0" => place(self.bias, column + unit),
                                "bias_hh_l0" => place(self.second_bias, column + unit),
                                _ => return false,
                            }
                        }
                    }
                }
            },
        }
        true
    }
}

/// The number of a convolution's tensor, and whether it is the weight.
fn convolution(name: &str) -> Option<(usize, bool)> {
    let (number, part) = name.strip_prefix("convs.")?.split_once('.')?;
    Some((number.parse().ok()?, part == "weight"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pool;
    use std::collections::HashSet;

    #[test]
    fn every_element_of_every_tensor_has_a_place_of_its_own() {
        let nets = [
            (Encoder::Mean, None),
            (Encoder::Mean, Some(7)),
            (Encoder::Windows { widths: vec![2, 3], filters: 5 }, None),
            (Encoder::Recurrent { units: 6, pool: Pool::Attention }, Some(3)),
        ];
        for (encoder, hidden) in nets {
            for classes in [2, 3] {
                let architecture =
                    Architecture { dimension: 19, encoder: encoder.clone(), hidden, classes };
                let layout = Layout::new(architecture.clone());
                let mut seen = HashSet::new();
                for (name, shape) in architecture.tensors() {
                    let before = seen.len();
                    assert!(layout.each(&name, |array, at| {
                        assert!(at < layout.sizes[array], "{name}");
                        assert!(seen.insert((array, at)), "{name}");
                    }));
                    assert_eq!(seen.len() - before, shape.iter().product::<usize>(), "{name}");
                }
                assert!(!layout.each("other.weight", |_, _| ()));
            }
        }
    }
}
