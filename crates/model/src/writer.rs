//! Writes a model file.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

use bytemuck::NoUninit;
use failure::{Failure, Result};
use ngram_features::{PrintTable, fingerprint};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use crate::container::{NOTE, SEAL};
use crate::description::{Description, WordsDescription};
use crate::rows::{Precision, to_f16, to_int8};
use crate::seal::{BlockDigests, DIGEST, digests};

/// A tensor to write: its name, type, shape and bytes.
type Tensor<'a> = (String, Dtype, Vec<usize>, Cow<'a, [u8]>);

/// The tensors of a model.
pub struct ModelWriter<'a> {
    precision: Precision,
    /// A table with a number that f16 does not hold.
    too_large: Option<String>,
    tensors: Vec<Tensor<'a>>,
}

fn bytes<'a, T: NoUninit>(values: impl Into<Cow<'a, [T]>>) -> Cow<'a, [u8]> {
    match values.into() {
        Cow::Borrowed(values) => Cow::Borrowed(bytemuck::cast_slice(values)),
        Cow::Owned(values) => Cow::Owned(bytemuck::cast_slice(&values).to_vec()),
    }
}

impl<'a> ModelWriter<'a> {
    /// A model whose large tables have numbers of this precision.
    pub const fn new(precision: Precision) -> Self {
        Self { precision, too_large: None, tensors: Vec::new() }
    }

    fn push(&mut self, name: &str, dtype: Dtype, shape: &[usize], data: Cow<'a, [u8]>) {
        self.tensors.push((name.to_owned(), dtype, shape.to_vec(), data));
    }

    /// The shape and the values of an f32 tensor that was added.
    pub fn values(&self, name: &str) -> Option<(Vec<usize>, Vec<f32>)> {
        let of = |tensor: &&Tensor<'_>| tensor.0 == name && tensor.1 == Dtype::F32;
        let (.., shape, data) = self.tensors.iter().find(of)?;
        Some((shape.clone(), bytemuck::pod_collect_to_vec(data)))
    }

    /// Adds an f32 tensor.
    pub fn f32(&mut self, name: &str, shape: &[usize], values: impl Into<Cow<'a, [f32]>>) {
        self.push(name, Dtype::F32, shape, bytes(values));
    }

    /// Adds a vector of u32.
    pub fn u32(&mut self, name: &str, values: impl Into<Cow<'a, [u32]>>) {
        let values = values.into();
        let shape = [values.len()];
        self.push(name, Dtype::U32, &shape, bytes(values));
    }

    /// Adds a vector of u64.
    pub fn u64(&mut self, name: &str, values: impl Into<Cow<'a, [u64]>>) {
        let values = values.into();
        let shape = [values.len()];
        self.push(name, Dtype::U64, &shape, bytes(values));
    }

    /// Adds bytes.
    pub fn u8(&mut self, name: &str, values: impl Into<Cow<'a, [u8]>>) {
        let values = values.into();
        let shape = [values.len()];
        self.push(name, Dtype::U8, &shape, values);
    }

    /// Adds a u32 matrix with `N` columns.
    pub fn columns<const N: usize>(&mut self, name: &str, values: &[[u32; N]]) {
        let flat = values.as_flattened().to_vec();
        self.push(name, Dtype::U32, &[values.len(), N], bytes(flat));
    }

    /// Adds a table, in the model's precision.
    pub fn rows(&mut self, name: &str, width: usize, values: impl Into<Cow<'a, [f32]>>) {
        let values = values.into();
        let shape = [values.len() / width.max(1), width];
        match self.precision {
            Precision::F32 => self.push(name, Dtype::F32, &shape, bytes(values)),
            Precision::F16 => {
                if values.iter().any(|value| value.abs() > half::f16::MAX.to_f32()) {
                    self.too_large = Some(name.to_owned());
                }
                self.push(name, Dtype::F16, &shape, bytes(to_f16(&values)));
            }
            Precision::Int8 => {
                let (narrow, factors) = to_int8(&values, width);
                self.push(name, Dtype::I8, &shape, bytes(narrow));
                self.f32(&format!("{name}.scale"), &[factors.len()], factors);
            }
        }
    }

    /// Adds a table of fingerprints.
    pub fn table(&mut self, name: &str, table: &PrintTable) {
        self.u32(&format!("{name}.buckets"), table.buckets.to_vec());
        self.columns(&format!("{name}.entries"), &table.entries);
    }

    /// Writes the file at `path`, whole or not at all.
    pub fn finish(self, path: &Path, description: &Description) -> Result<()> {
        let bug = |e: &dyn std::fmt::Display| {
            Failure::failed(e, path.display(), "this is a bug; please report it")
        };
        if let Some(name) = self.too_large {
            return Err(Failure::input(
                format_args!("the table `{name}` has numbers that 16 bits do not hold"),
                path.display(),
                "use --quantize int8, or leave it out",
            ));
        }
        let mut tensors = self.tensors;
        // Wide types first, so that each value is aligned without gaps, which safetensors forbids.
        let width = |dtype: Dtype| dtype.bitsize();
        tensors.sort_by(|a, b| width(b.1).cmp(&width(a.1)).then_with(|| a.0.cmp(&b.0)));
        let rest = tensors.iter().map(|(.., data)| data.len()).sum();
        let count = digests(rest);
        let mut end = 0;
        let mut place = |dtype: Dtype, shape: &[usize], length: usize| {
            let data_offsets = (end, end + length);
            end += length;
            TensorInfo { dtype, shape: shape.to_vec(), data_offsets }
        };
        let mut infos = vec![(SEAL.to_owned(), place(Dtype::U8, &[count, DIGEST], count * DIGEST))];
        for (name, dtype, shape, data) in &tensors {
            infos.push((name.clone(), place(*dtype, shape, data.len())));
        }
        let note = serde_json::to_string(description).map_err(|e| bug(&e))?;
        let notes = HashMap::from([(NOTE.to_owned(), note)]);
        let metadata = Metadata::new(Some(notes), infos).map_err(|e| bug(&e))?;
        let mut header = serde_json::to_vec(&metadata).map_err(|e| bug(&e))?;
        // So that the data begins at a multiple of 64 bytes, as a cache line does.
        header.resize((header.len() + 8).next_multiple_of(64) - 8, b' ');
        let mut start = (header.len() as u64).to_le_bytes().to_vec();
        start.append(&mut header);
        let mut blocks = BlockDigests::new();
        for (.., data) in &tensors {
            blocks.push(data);
        }
        start.append(&mut blocks.finish(&start));
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        atomic::replace_atomically(path, Path::new(&partial), |file| {
            file.write_all(&start)?;
            tensors.iter().try_for_each(|(.., data)| file.write_all(data))
        })
        .map_err(|e| Failure::io("write", path, &e))
    }
}

/// Collects the words of a model.
#[derive(Default)]
pub struct WordsBuilder {
    text: String,
    entries: Vec<(u64, [u32; 3])>,
}

impl WordsBuilder {
    /// Adds the word at the next place. Of equal words, the first is found.
    pub fn push(&mut self, word: &str) {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let entry = [0, number(self.entries.len()), number(self.text.len())];
        self.entries.push((fingerprint::of(word.as_bytes()), entry));
        self.text.push_str(word);
        self.text.push('\n');
    }

    /// Adds the words to a model.
    pub fn finish(self, to: &mut ModelWriter<'_>) -> WordsDescription {
        let count = self.entries.len();
        let table = PrintTable::build(self.entries.into_iter());
        to.table("words", &table);
        to.u8("words.text", self.text.into_bytes());
        WordsDescription { count, seed: table.seed }
    }
}
