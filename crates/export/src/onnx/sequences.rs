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
    ///
    /// The other direction is an LSTM on reversed texts, and not the operator's own, which needs the
    /// lengths of the texts as an input that tract does not take. Zeros follow a text in both.
    pub(super) fn states(
        &mut self,
        prefix: &str,
        dimensions: [usize; 2],
        pool: &str,
    ) -> Result<String> {
        self.takes[0] = true;
        let mask = self.mask();
        let is_word = self.op("Cast", &[&mask], &[Attribute::int("to", 9)]);
        // [batch, length]: the place of each word in the reversed text, and the other way round.
        let lengths = self.sum(&mask, 1, true);
        let lengths = self.op("Cast", &[&lengths], &[Attribute::int("to", 7)]);
        let shape = self.op("Shape", &["ids"], &[Attribute::int("start", 1)]);
        let (zero, step) = (self.integer(0), self.integer(1));
        let end = self.op("Gather", &[&shape, &zero], &[]);
        let places = self.op("Range", &[&zero, &end, &step], &[]);
        let lasts = self.op("Sub", &[&lengths, &step], &[]);
        let mirrored = self.op("Sub", &[&lasts, &places], &[]);
        let mirrored = self.op("Where", &[&is_word, &mirrored, &places], &[]);
        let along = [Attribute::int("axis", 1)];
        let reversed = self.op("GatherElements", &["ids", &mirrored], &along);
        let table = self.table(&format!("{prefix}.embedding"))?;
        let states = [
            self.direction((prefix, ""), [&table, "ids"], dimensions)?,
            self.direction((prefix, "_reverse"), [&table, &reversed], dimensions)?,
        ];
        let axes = self.integers(&[2]);
        let column = |this: &mut Self, of: &str| this.op("Unsqueeze", &[of, &axes], &[]);
        let features = match pool {
            "max" => {
                let never = self.scalar(-1e30);
                let is_word = column(self, &is_word);
                let attributes = [Attribute::ints("axes", &[1]), Attribute::int("keepdims", 0)];
                states.map(|y| {
                    let y = self.op("Where", &[&is_word, &y, &never], &[]);
                    self.op("ReduceMax", &[&y], &attributes)
                })
            }
            "attention" => {
                let (_, query) = self.values(&format!("{prefix}.attention.weight"))?;
                let flat = self.integers(&[0, -1]);
                let mut halves = query.chunks(dimensions[1]);
                let [there, back] = states.each_ref().map(|y| {
                    let query = halves.next().unwrap_or_default();
                    let query = self.constant(&[dimensions[1], 1], query);
                    let scores = self.op("MatMul", &[y, &query], &[]);
                    self.op("Reshape", &[&scores, &flat], &[])
                });
                let back = self.op("GatherElements", &[&back, &mirrored], &along);
                let scores = self.op("Add", &[&there, &back], &[]);
                let never = self.scalar(-1e30);
                let scores = self.op("Where", &[&is_word, &scores, &never], &[]);
                let there = self.op("Softmax", &[&scores], &along);
                let back = self.op("GatherElements", &[&there, &mirrored], &along);
                let [y, other] = states;
                [(y, there), (other, back)].map(|(y, weights)| {
                    let weights = column(self, &weights);
                    let weighted = self.op("Mul", &[&weights, &y], &[]);
                    self.sum(&weighted, 1, false)
                })
            }
            _ => {
                // Either direction ends at the last place of its text.
                let is_last = self.op("Equal", &[&places, &lasts], &[]);
                let is_last = self.op("Cast", &[&is_last], &[Attribute::int("to", 1)]);
                let is_last = column(self, &is_last);
                states.map(|y| {
                    let y = self.op("Mul", &[&is_last, &y], &[]);
                    self.sum(&y, 1, false)
                })
            }
        };
        let features = self.op("Concat", &[&features[0], &features[1]], &along);
        // A text without words has features of 0.
        let has_words = self.sum(&mask, 1, true);
        let one = self.scalar(1.0);
        let has_words = self.op("Min", &[&has_words, &one], &[]);
        Ok(self.op("Mul", &[&features, &has_words], &[]))
    }

    /// The states of one direction, \[batch, length, units\], of the words with these ids.
    fn direction(
        &mut self,
        (prefix, end): (&str, &str),
        [table, ids]: [&str; 2],
        [dimension, units]: [usize; 2],
    ) -> Result<String> {
        let rows = self.op("Gather", &[table, ids], &[]);
        let x = self.op("Transpose", &[&rows], &[Attribute::ints("perm", &[1, 0, 2])]);
        let matrix = |this: &Self, name: &str| -> Result<Vec<f32>> {
            Ok(gates(&this.values(&format!("{prefix}.lstm.{name}_l0{end}"))?.1))
        };
        let (w, r) = (matrix(self, "weight_ih")?, matrix(self, "weight_hh")?);
        let biases = [matrix(self, "bias_ih")?, matrix(self, "bias_hh")?].concat();
        let w = self.constant(&[1, 4 * units, dimension], &w);
        let r = self.constant(&[1, 4 * units, units], &r);
        let bias = self.constant(&[1, 8 * units], &biases);
        let hidden = i64::try_from(units).unwrap_or(i64::MAX);
        let y = self.op("LSTM", &[&x, &w, &r, &bias], &[Attribute::int("hidden_size", hidden)]);
        let y = self.op("Transpose", &[&y], &[Attribute::ints("perm", &[2, 0, 1, 3])]);
        let shape = self.integers(&[0, 0, hidden]);
        Ok(self.op("Reshape", &[&y, &shape], &[]))
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
