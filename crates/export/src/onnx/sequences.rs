//! Nets on sequences of words as ONNX operations.

use failure::Result;

use super::Builder;
use super::proto::Attribute;

impl Builder<'_> {
    /// The maxima of a convolution over windows of words.
    pub(super) fn windows(&mut self, prefix: &str, widths: &[usize]) -> Result<String> {
        self.takes[0] = true;
        let table = self.table(&format!("{prefix}.embedding"))?;
        let widest = widths.iter().max().copied().unwrap_or(1);
        // A text that is shorter than a window is followed by zeros.
        let pads = self.integers(&[0, 0, 0, i64::try_from(widest - 1).unwrap_or_default()]);
        let ids = self.op("Pad", &["ids", &pads], &[]);
        let rows = self.op("Gather", &[&table, &ids], &[]);
        let x = self.op("Transpose", &[&rows], &[Attribute::ints("perm", &[0, 2, 1])]);
        let mask = self.mask();
        let lengths = self.sum(&mask, 1, true);
        let mut features = Vec::new();
        for (number, &width) in widths.iter().enumerate() {
            let name = format!("{prefix}.convs.{number}");
            let (weight, bias) =
                (self.tensor(&format!("{name}.weight"))?, self.tensor(&format!("{name}.bias"))?);
            let z = self.op("Conv", &[&x, &weight, &bias], &[]);
            // A window counts if it begins before this place, and the first always does.
            let beyond = self.scalar(width as f32 - 1.0);
            let one = self.scalar(1.0);
            let windows = self.op("Sub", &[&lengths, &beyond], &[]);
            let windows = self.op("Max", &[&windows, &one], &[]);
            let shape = self.op("Shape", &[&z], &[Attribute::int("start", 2)]);
            let (zero, step) = (self.integer(0), self.integer(1));
            let first = self.integer(0);
            let end = self.op("Gather", &[&shape, &first], &[]);
            let places = self.op("Range", &[&zero, &end, &step], &[]);
            let places = self.op("Cast", &[&places], &[Attribute::int("to", 1)]);
            let counts = self.op("Less", &[&places, &windows], &[]);
            let axes = self.integers(&[1]);
            let counts = self.op("Unsqueeze", &[&counts, &axes], &[]);
            let never = self.scalar(-1e30);
            let z = self.op("Where", &[&counts, &z, &never], &[]);
            let attributes = [Attribute::ints("axes", &[2]), Attribute::int("keepdims", 0)];
            let z = self.op("ReduceMax", &[&z], &attributes);
            features.push(self.op("Relu", &[&z], &[]));
        }
        let features: Vec<&str> = features.iter().map(String::as_str).collect();
        Ok(self.op("Concat", &features, &[Attribute::int("axis", 1)]))
    }

    /// The pooled states of a bidirectional LSTM.
    pub(super) fn states(
        &mut self,
        prefix: &str,
        [dimension, units]: [usize; 2],
        pool: &str,
    ) -> Result<String> {
        self.takes[0] = true;
        let table = self.table(&format!("{prefix}.embedding"))?;
        let rows = self.op("Gather", &[&table, "ids"], &[]);
        let x = self.op("Transpose", &[&rows], &[Attribute::ints("perm", &[1, 0, 2])]);
        let matrix = |this: &Self, name: &str| -> Result<Vec<f32>> {
            let mut both = Vec::new();
            for end in ["", "_reverse"] {
                both.extend(gates(&this.values(&format!("{prefix}.lstm.{name}_l0{end}"))?.1));
            }
            Ok(both)
        };
        let (w, r) = (matrix(self, "weight_ih")?, matrix(self, "weight_hh")?);
        let (input, state) = (matrix(self, "bias_ih")?, matrix(self, "bias_hh")?);
        let halves = input.chunks(4 * units).zip(state.chunks(4 * units));
        let biases: Vec<f32> = halves.flat_map(|(i, s)| [i, s].concat()).collect();
        let w = self.constant(&[2, 4 * units, dimension], &w);
        let r = self.constant(&[2, 4 * units, units], &r);
        let bias = self.constant(&[2, 8 * units], &biases);
        let count = self.count();
        let axes = self.integers(&[1]);
        let lengths = self.op("Squeeze", &[&count, &axes], &[]);
        let lengths = self.op("Cast", &[&lengths], &[Attribute::int("to", 6)]);
        let hidden = i64::try_from(units).unwrap_or(i64::MAX);
        let attributes =
            [Attribute::int("hidden_size", hidden), Attribute::text("direction", "bidirectional")];
        let y = self.op("LSTM", &[&x, &w, &r, &bias, &lengths], &attributes);
        let last = format!("{y}_last");
        if let Some(node) = self.graph.nodes.last_mut() {
            node.outputs.push(last.clone());
        }
        // Both directions side by side: [batch, length, 2 units].
        let y = self.op("Transpose", &[&y], &[Attribute::ints("perm", &[2, 0, 1, 3])]);
        let shape = self.integers(&[0, 0, 2 * hidden]);
        let y = self.op("Reshape", &[&y, &shape], &[]);
        let mask = self.mask();
        let axes = self.integers(&[2]);
        let mask = self.op("Unsqueeze", &[&mask, &axes], &[]);
        let is_word = self.op("Cast", &[&mask], &[Attribute::int("to", 9)]);
        let features = match pool {
            "max" => {
                let never = self.scalar(-1e30);
                let y = self.op("Where", &[&is_word, &y, &never], &[]);
                let attributes = [Attribute::ints("axes", &[1]), Attribute::int("keepdims", 0)];
                self.op("ReduceMax", &[&y], &attributes)
            }
            "attention" => {
                let (_, query) = self.values(&format!("{prefix}.attention.weight"))?;
                let query = self.constant(&[2 * units, 1], &query);
                let scores = self.op("MatMul", &[&y, &query], &[]);
                let never = self.scalar(-1e30);
                let scores = self.op("Where", &[&is_word, &scores, &never], &[]);
                let weights = self.op("Softmax", &[&scores], &[Attribute::int("axis", 1)]);
                let weighted = self.op("Mul", &[&weights, &y], &[]);
                self.sum(&weighted, 1, false)
            }
            _ => {
                let last = self.op("Transpose", &[&last], &[Attribute::ints("perm", &[1, 0, 2])]);
                let shape = self.integers(&[0, 2 * hidden]);
                self.op("Reshape", &[&last, &shape], &[])
            }
        };
        // A text without words has features of 0.
        let has_words = self.sum(&mask, 1, false);
        let one = self.scalar(1.0);
        let has_words = self.op("Min", &[&has_words, &one], &[]);
        Ok(self.op("Mul", &[&features, &has_words], &[]))
    }

    /// The layers after the features. With two classes, the only output is the second one's logit.
    pub(super) fn head(&mut self, prefix: &str, mut x: String, has_hidden: bool) -> Result<String> {
        if has_hidden {
            x = self.layer(&format!("{prefix}.hidden"), &x)?;
            x = self.op("Relu", &[&x], &[]);
        }
        let z = self.layer(&format!("{prefix}.fc"), &x)?;
        if self.classes > 2 {
            return Ok(z);
        }
        let zero = self.scalar(0.0);
        let other = self.op("Mul", &[&z, &zero], &[]);
        Ok(self.op("Concat", &[&other, &z], &[Attribute::int("axis", 1)]))
    }
}

/// An LSTM's gates in the order of ONNX, i o f c, from that of PyTorch, i f c o.
fn gates(values: &[f32]) -> Vec<f32> {
    let quarters: Vec<&[f32]> = values.chunks((values.len() / 4).max(1)).collect();
    [0, 3, 1, 2].iter().filter_map(|&gate| quarters.get(gate)).copied().flatten().copied().collect()
}
