//! A model as an ONNX graph: token ids or n-grams in, probabilities out.
//!
//! Inputs: `ids` i64 \[batch, length\], the rows of the words counted from 1, followed by 0s; `ngrams`
//! f32 \[batch, columns\], tf-idf as `ngrams` makes it. A graph has those that its net takes. Output:
//! `probabilities` f32 \[batch, classes\].

mod proto;
mod sequences;

use std::path::Path;

use classifiers::stacking::Stacking;
use failure::{Failure, Result};
use model::{BagTokens, BagWeights, Description, EncoderDescription, ModelWriter, NetDescription};
use prost::Message;
use schema::Calibration;

use proto::{Attribute, Graph, Node, Tensor, entry, input_of, output_of};

/// The operators' version, which onnxruntime 1.12, tract and ort know.
const OPSET: i64 = 17;
/// The format's version that belongs to it.
const IR: i64 = 8;
/// The most bytes of a protobuf message.
const MOST: usize = (1 << 31) - 1;

/// Builds a graph.
struct Builder<'m> {
    tensors: &'m ModelWriter<'m>,
    classes: usize,
    graph: Graph,
    names: usize,
    /// The number of each text's words, once it is there.
    count: Option<String>,
    takes: [bool; 2],
    path: &'m Path,
}

/// Writes the model at `path`. `words` are all words in the order of their rows.
pub fn write(
    path: &Path,
    of: &Description,
    tensors: &ModelWriter<'_>,
    words: &str,
    columns: usize,
) -> Result<()> {
    let mut builder = Builder {
        tensors,
        classes: of.labels.len(),
        graph: Graph { name: of.run.clone(), ..Graph::default() },
        names: 0,
        count: None,
        takes: [false; 2],
        path,
    };
    let margins = builder.net("net", &of.layers)?;
    let logits = builder.logits("net", of.calibration, margins)?;
    builder.push("Softmax", &[&logits], &[Attribute::int("axis", -1)], "probabilities");
    let Builder { mut graph, takes: [takes_words, takes_ngrams], classes, .. } = builder;
    if takes_words {
        graph.inputs.push(input_of("ids", true, "length", 0));
    }
    if takes_ngrams {
        graph.inputs.push(input_of("ngrams", false, "", columns));
    }
    graph.outputs.push(output_of("probabilities", classes));
    let labels = serde_json::to_string(&of.labels).unwrap_or_default();
    let notes = [
        ("labels", labels.as_str()),
        ("run", &of.run),
        ("tokenizer", &of.tokenizer),
        ("lowercase", &of.lowercase),
        ("words", words),
    ];
    let model = proto::Model {
        ir_version: IR,
        producer_name: "knockline".into(),
        producer_version: of.knockline.clone(),
        graph: Some(graph),
        opset_import: vec![proto::OperatorSet { domain: String::new(), version: OPSET }],
        metadata: notes.into_iter().map(|(name, value)| entry(name, value)).collect(),
    };
    if model.encoded_len() > MOST {
        return Err(Failure::input(
            "the model is larger than 2 GB, the most that ONNX's format holds",
            path.display(),
            "keep fewer words with --words",
        ));
    }
    atomic::write_atomically(path, &model.encode_to_vec())
        .map_err(|e| Failure::io("write", path, &e))
}

impl Builder<'_> {
    fn no_form(&self, net: &str) -> Failure {
        Failure::usage(
            format_args!("{net} have no ONNX form here"),
            self.path.display(),
            "export it as a model of knockline, or a member of the stack that is a net",
        )
    }

    /// Adds an operation with a given output.
    fn push(&mut self, op: &str, inputs: &[&str], attributes: &[Attribute], output: &str) {
        self.graph.nodes.push(Node {
            inputs: inputs.iter().map(|&name| name.to_owned()).collect(),
            outputs: vec![output.to_owned()],
            name: format!("{op}_{}", self.graph.nodes.len()),
            op_type: op.to_owned(),
            attributes: attributes.to_vec(),
        });
    }

    /// Adds an operation, and returns the name of its output.
    fn op(&mut self, op: &str, inputs: &[&str], attributes: &[Attribute]) -> String {
        self.names += 1;
        let output = format!("t{}", self.names);
        self.push(op, inputs, attributes, &output);
        output
    }

    /// Adds a constant.
    fn constant(&mut self, shape: &[usize], values: &[f32]) -> String {
        self.names += 1;
        let name = format!("c{}", self.names);
        self.graph.initializers.push(Tensor::floats(&name, shape, values));
        name
    }

    fn integers(&mut self, values: &[i64]) -> String {
        self.names += 1;
        let name = format!("c{}", self.names);
        self.graph.initializers.push(Tensor::integers(&name, values));
        name
    }

    fn scalar(&mut self, value: f32) -> String {
        self.constant(&[], &[value])
    }

    /// The shape and values of a tensor of the model.
    fn values(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>)> {
        self.tensors.values(name).ok_or_else(|| {
            let remedy = "this is a bug; please report it";
            Failure::failed(
                format_args!("there is no f32 tensor `{name}`"),
                self.path.display(),
                remedy,
            )
        })
    }

    /// Adds a tensor of the model.
    fn tensor(&mut self, name: &str) -> Result<String> {
        let (shape, values) = self.values(name)?;
        Ok(self.constant(&shape, &values))
    }

    /// Sums over an axis.
    fn sum(&mut self, x: &str, axis: i64, keep: bool) -> String {
        let over = self.integers(&[axis]);
        self.op("ReduceSum", &[x, &over], &[Attribute::int("keepdims", i64::from(keep))])
    }

    /// 1 for a word and 0 for padding, \[batch, length\].
    fn mask(&mut self) -> String {
        let zero = self.integers(&[0]);
        let is_word = self.op("Greater", &["ids", &zero], &[]);
        self.op("Cast", &[&is_word], &[Attribute::int("to", 1)])
    }

    /// The number of words, at least 1, \[batch, 1\].
    fn count(&mut self) -> String {
        if let Some(count) = &self.count {
            return count.clone();
        }
        let mask = self.mask();
        let sum = self.sum(&mask, 1, true);
        let one = self.scalar(1.0);
        let count = self.op("Max", &[&sum, &one], &[]);
        self.count = Some(count.clone());
        count
    }

    /// A table with a row of zeros before its own, for padding.
    fn table(&mut self, name: &str) -> Result<String> {
        let (shape, values) = self.values(name)?;
        let [rows, width] = shape[..] else { return Err(self.no_form("tables of other shapes")) };
        let padded: Vec<f32> = std::iter::repeat_n(0.0, width).chain(values).collect();
        Ok(self.constant(&[rows + 1, width], &padded))
    }

    /// The margins of a net, \[batch, classes\].
    fn net(&mut self, prefix: &str, of: &NetDescription) -> Result<String> {
        match of {
            NetDescription::Sum { bags, order, relu_out, .. } => {
                let mut z = self.tensor(&format!("{prefix}.bias"))?;
                for (number, bag) in bags.iter().enumerate() {
                    let name = format!("{prefix}.rows.{number}");
                    let sum = match bag.tokens {
                        BagTokens::Words => self.words(&name)?,
                        BagTokens::Ngrams => self.ngrams(&name, bag.weights)?,
                    };
                    z = self.op("Add", &[&sum, &z], &[]);
                }
                for &layer in order {
                    let x = self.op("Relu", &[&z], &[]);
                    z = self.layer(&format!("{prefix}.layers.{layer}"), &x)?;
                }
                Ok(if *relu_out { self.op("Relu", &[&z], &[]) } else { z })
            }
            NetDescription::Stack { members } => {
                let mut inputs = Vec::new();
                for (number, member) in members.iter().enumerate() {
                    let margins = self.net(&format!("{prefix}.{number}"), &member.layers)?;
                    inputs.push(self.input(&margins, member.calibration.scale));
                }
                self.regression(prefix, &inputs)
            }
            NetDescription::Sequence {
                encoder: EncoderDescription::Cnn { widths, .. },
                hidden,
                ..
            } => {
                let features = self.windows(prefix, widths)?;
                self.head(prefix, features, hidden.is_some())
            }
            NetDescription::Sequence {
                encoder: EncoderDescription::Lstm { units, pool },
                hidden,
                dimension,
            } => {
                let features = self.states(prefix, [*dimension, *units], pool)?;
                self.head(prefix, features, hidden.is_some())
            }
            NetDescription::Neighbours { .. } => Err(self.no_form("nearest neighbours")),
        }
    }

    fn layer(&mut self, name: &str, x: &str) -> Result<String> {
        let weight = self.tensor(&format!("{name}.weight"))?;
        let bias = self.tensor(&format!("{name}.bias"))?;
        Ok(self.op("Gemm", &[x, &weight, &bias], &[Attribute::int("transB", 1)]))
    }

    /// The mean of the words' rows.
    fn words(&mut self, table: &str) -> Result<String> {
        self.takes[0] = true;
        let table = self.table(table)?;
        let rows = self.op("Gather", &[&table, "ids"], &[]);
        let sum = self.sum(&rows, 1, false);
        let count = self.count();
        Ok(self.op("Div", &[&sum, &count], &[]))
    }

    /// The weighted sum of the n-grams' rows.
    fn ngrams(&mut self, table: &str, weights: BagWeights) -> Result<String> {
        self.takes[1] = true;
        let table = self.tensor(table)?;
        let x = match weights {
            BagWeights::Tfidf => "ngrams".to_owned(),
            BagWeights::Share => self.shares("ngrams", f32::MIN_POSITIVE),
            BagWeights::Mean => {
                let zero = self.scalar(0.0);
                let has = self.op("Greater", &["ngrams", &zero], &[]);
                let has = self.op("Cast", &[&has], &[Attribute::int("to", 1)]);
                self.shares(&has, 1.0)
            }
        };
        Ok(self.op("MatMul", &[&x, &table], &[]))
    }

    /// Each row divided by its sum, or by `least` if that is larger.
    fn shares(&mut self, x: &str, least: f32) -> String {
        let sum = self.sum(x, 1, true);
        let least = self.scalar(least);
        let sum = self.op("Max", &[&sum, &least], &[]);
        self.op("Div", &[x, &sum], &[])
    }

    fn integer(&mut self, value: i64) -> String {
        self.names += 1;
        let name = format!("c{}", self.names);
        self.graph.initializers.push(Tensor::integer(&name, value));
        name
    }

    /// ln softmax(scale · margins), less its mean over the classes.
    fn input(&mut self, margins: &str, scale: f32) -> String {
        let scale = self.scalar(scale);
        let scaled = self.op("Mul", &[margins, &scale], &[]);
        let logarithm = self.op("LogSoftmax", &[&scaled], &[Attribute::int("axis", -1)]);
        let mean = self.op("ReduceMean", &[&logarithm], &[Attribute::ints("axes", &[1])]);
        self.op("Sub", &[&logarithm, &mean], &[])
    }

    /// A regression on the inputs of members.
    fn regression(&mut self, prefix: &str, inputs: &[String]) -> Result<String> {
        let (shape, weights) = self.values(&format!("{prefix}.weight"))?;
        let bias = self.tensor(&format!("{prefix}.bias"))?;
        if shape == Stacking::shape(self.classes, inputs.len()) && shape.first() != Some(&1) {
            let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
            let all = self.op("Concat", &inputs, &[Attribute::int("axis", 1)]);
            let weight = self.constant(&shape, &weights);
            return Ok(self.op("Gemm", &[&all, &weight, &bias], &[Attribute::int("transB", 1)]));
        }
        let mut z = bias;
        for (input, weight) in inputs.iter().zip(weights) {
            let weight = self.scalar(weight);
            let weighted = self.op("Mul", &[input, &weight], &[]);
            z = self.op("Add", &[&weighted, &z], &[]);
        }
        Ok(z)
    }

    /// The logits of margins.
    fn logits(&mut self, prefix: &str, of: Calibration, margins: String) -> Result<String> {
        let Calibration { scale, of_regression } = of;
        let (z, scale) = match of_regression {
            None => (margins, scale),
            Some(factor) => {
                let input = self.input(&margins, scale);
                (self.regression(&format!("{prefix}.calibration"), &[input])?, factor)
            }
        };
        let scale = self.scalar(scale);
        Ok(self.op("Mul", &[&z, &scale], &[]))
    }
}
