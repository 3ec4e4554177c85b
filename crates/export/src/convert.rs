//! From a run's artifacts to a model's tensors.

mod sequence;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use classifiers::RunOptions;
use classifiers::calibration::Calibrator;
use classifiers::neighbours::Index;
use classifiers::stacking::Stacking;
use failure::{Failure, Result};
use formats::Arrays;
use formats::arrays::Csr;
use model::{
    BagDescription, BagTokens, BagWeights, MemberDescription, ModelWriter, NetDescription,
};
use nets::Classifier;
use ngram_features::Features;
use schema::{Calibration, Labels, OptionValues, RunConfig};
use serde::de::DeserializeOwned;

use crate::words::Words;

/// Converts runs.
pub struct Converter<'a> {
    artifacts: &'a Path,
    labels: &'a Labels,
    words: &'a Words,
    ngrams: Option<Features>,
    needs_ngrams: bool,
    /// The nodes whose results were used.
    pub used: BTreeSet<String>,
}

/// A run in a model.
pub struct Converted {
    /// Its kind of net.
    pub net: String,
    /// Its options.
    pub options: OptionValues,
    /// Its layers.
    pub layers: NetDescription,
    /// How its margins become logits, if training has said so.
    pub calibration: Option<Calibration>,
}

/// A matrix \[outputs, inputs\].
struct Matrix {
    values: Vec<f32>,
    outputs: usize,
}

impl Matrix {
    /// Appends the product with a vector to `to`.
    fn product(&self, x: &[f32], to: &mut Vec<f32>) {
        let inputs = self.values.len() / self.outputs.max(1);
        for row in self.values.chunks_exact(inputs.max(1)) {
            to.push(row.iter().zip(x).map(|(w, x)| w * x).sum());
        }
    }

    /// From a matrix \[inputs, outputs\].
    fn transposed(values: &[f32], outputs: usize) -> Self {
        let column = |o: usize| values.iter().skip(o).step_by(outputs.max(1)).copied();
        Self { values: (0..outputs).flat_map(column).collect(), outputs }
    }
}

const WORDS: BagDescription =
    BagDescription { tokens: BagTokens::Words, weights: BagWeights::Mean };

impl<'a> Converter<'a> {
    pub const fn new(artifacts: &'a Path, labels: &'a Labels, words: &'a Words) -> Self {
        let used = BTreeSet::new();
        Self { artifacts, labels, words, ngrams: None, needs_ngrams: false, used }
    }

    /// The n-grams, if a run that was converted takes them.
    pub fn ngrams(&mut self) -> Result<Option<&Features>> {
        if self.needs_ngrams && self.ngrams.is_none() {
            let folder = self.artifacts.join("ngrams");
            let (vocabulary, description) =
                (folder.join(ngram_features::VOCABULARY), folder.join(ngram_features::DESCRIPTION));
            self.ngrams = Some(Features::read(&vocabulary, &description)?);
            self.used.insert("ngrams".into());
        }
        Ok(self.ngrams.as_ref())
    }

    fn columns(&mut self) -> Result<usize> {
        self.needs_ngrams = true;
        Ok(self.ngrams()?.map_or(0, Features::columns))
    }

    fn config<O: DeserializeOwned>(&self, run: &str) -> Result<RunConfig<O>> {
        schema::read_json(&self.artifacts.join(run).join("config.json"))
    }

    /// Adds a run's tensors, whose names begin with `prefix`.
    pub fn run(
        &mut self,
        run: &str,
        prefix: &str,
        to: &mut ModelWriter<'_>,
        is_member: bool,
    ) -> Result<Converted> {
        self.used.insert(run.to_owned());
        let folder = self.artifacts.join(run);
        let path = folder.join("config.json");
        let options: OptionValues = self.config::<OptionValues>(run)?.options;
        let of: RunOptions = self.config(run)?.options;
        if Labels::read(&folder.join(Labels::FILE))? != *self.labels {
            return Err(Failure::artifact("the run has other labels than the stack", &path));
        }
        let model = folder.join("model.safetensors");
        let layers = match of.net.as_str() {
            "slp" => self.single(&model, prefix, to)?,
            "mlp" => self.multi(&folder, prefix, to)?,
            "linear" => self.linear(&model, prefix, to)?,
            "bow" => self.bag(&model, BagTokens::Ngrams, of.tfidf, prefix, to)?,
            "dan" => self.bag(&model, BagTokens::Words, false, prefix, to)?,
            "knn" => self.neighbours(&of, prefix, to)?,
            "mean" | "cnn" | "lstm" => self.sequence(run, prefix, to)?,
            "stack" if !is_member => self.stack(&model, &of.members, prefix, to)?,
            other => {
                return Err(Failure::artifact(format_args!("there is no net `{other}`"), &path));
            }
        };
        let is_calibrated = matches!(of.net.as_str(), "linear" | "bow" | "dan" | "knn" | "stack");
        let calibration =
            is_calibrated.then(|| self.calibration(&folder, prefix, to)).transpose()?;
        Ok(Converted { net: of.net, options, layers, calibration })
    }

    fn calibration(
        &self,
        folder: &Path,
        prefix: &str,
        to: &mut ModelWriter<'_>,
    ) -> Result<Calibration> {
        let [json, arrays] = Calibrator::FILES.map(|file| folder.join(file));
        let calibrator = Calibrator::read(&json, Some(&arrays), self.labels.len())?;
        let (calibration, regression) = calibrator.parts();
        if let Some(regression) = regression {
            self.regression(regression, 1, &format!("{prefix}.calibration"), to);
        }
        Ok(calibration)
    }

    fn regression(
        &self,
        regression: &Stacking,
        members: usize,
        prefix: &str,
        to: &mut ModelWriter<'_>,
    ) {
        let (weights, bias) = regression.weights();
        let shape = Stacking::shape(self.labels.len(), members);
        to.f32(&format!("{prefix}.weight"), &shape, weights.to_vec());
        to.f32(&format!("{prefix}.bias"), &[bias.len()], bias.to_vec());
    }

    /// Adds the products of all words' vectors, or of the trained ones of the data's words, and a
    /// matrix.
    fn products(
        &self,
        matrix: &Matrix,
        trained: Option<&dyn Fn(usize) -> Vec<f32>>,
        name: &str,
        to: &mut ModelWriter<'_>,
    ) {
        let mut rows = Vec::new();
        self.words.each(|row, vector| match (row, trained) {
            (Some(row), Some(trained)) => matrix.product(&trained(row), &mut rows),
            _ => matrix.product(vector, &mut rows),
        });
        to.rows(name, matrix.outputs, rows);
    }

    fn single(
        &self,
        model: &Path,
        prefix: &str,
        to: &mut ModelWriter<'_>,
    ) -> Result<NetDescription> {
        let outputs = self.labels.len();
        let shape = [Some(outputs), Some(self.words.dimension)];
        let (_, values) = Arrays::map(model)?.f32("fc.weight", &shape)?;
        self.products(&Matrix { values, outputs }, None, &format!("{prefix}.rows.0"), to);
        to.f32(&format!("{prefix}.bias"), &[outputs], vec![0.0; outputs]);
        Ok(sum(vec![WORDS]))
    }

    fn multi(
        &self,
        folder: &Path,
        prefix: &str,
        to: &mut ModelWriter<'_>,
    ) -> Result<NetDescription> {
        let classifier = Classifier::read(folder)?;
        self.check_dimension(classifier.dimension(), folder)?;
        let mut layers = classifier.layers().into_iter().flat_map(kernels::layers::Layers::each);
        let Some(first) = layers.next() else {
            return Err(Failure::artifact("the net has no layers", folder));
        };
        let (values, bias) = first.weights();
        let outputs = first.outputs();
        self.products(&Matrix { values, outputs }, None, &format!("{prefix}.rows.0"), to);
        to.f32(&format!("{prefix}.bias"), &[outputs], bias);
        let (mut count, mut relu_out) = (0, false);
        for layer in layers {
            let (weight, bias) = layer.weights();
            let name = format!("{prefix}.layers.{count}");
            to.f32(&format!("{name}.weight"), &[layer.outputs(), layer.inputs()], weight);
            to.f32(&format!("{name}.bias"), &[layer.outputs()], bias);
            relu_out = layer.relu();
            count += 1;
        }
        let order = (0..count).collect();
        Ok(NetDescription::Sum { bags: vec![WORDS], layers: count, order, relu_out })
    }

    fn check_dimension(&self, dimension: usize, path: &Path) -> Result<()> {
        let has = self.words.dimension;
        if dimension == has {
            return Ok(());
        }
        let what = format_args!("the run takes {dimension} features, and `embed` has {has}");
        Err(Failure::artifact(what, path))
    }

    fn linear(
        &mut self,
        model: &Path,
        prefix: &str,
        to: &mut ModelWriter<'_>,
    ) -> Result<NetDescription> {
        let classes = self.labels.len();
        let columns = self.columns()?;
        let arrays = Arrays::map(model)?;
        let (_, bias) = arrays.f32("bias", &[Some(classes)])?;
        let (shape, dense) = arrays.f32("dense.weight", &[None, Some(classes)])?;
        let (_, sparse) = arrays.f32("sparse.weight", &[Some(columns), Some(classes)])?;
        to.rows(&format!("{prefix}.rows.0"), classes, sparse);
        to.f32(&format!("{prefix}.bias"), &[classes], bias);
        let ngrams = BagDescription { tokens: BagTokens::Ngrams, weights: BagWeights::Tfidf };
        let mut bags = vec![ngrams];
        let dimension = shape.first().copied().unwrap_or_default();
        if dimension > 0 {
            self.check_dimension(dimension, model)?;
            let matrix = Matrix::transposed(&dense, classes);
            self.products(&matrix, None, &format!("{prefix}.rows.1"), to);
            bags.push(WORDS);
        }
        Ok(sum(bags))
    }

    fn bag(
        &mut self,
        model: &Path,
        tokens: BagTokens,
        tfidf: bool,
        prefix: &str,
        to: &mut ModelWriter<'_>,
    ) -> Result<NetDescription> {
        let arrays = Arrays::map(model)?;
        let has_hidden = arrays.names()?.iter().any(|name| name == "classes");
        let (_, bias) = arrays.f32("bias", &[None])?;
        let outputs = bias.len();
        let (shape, matrix) = arrays.f32("matrix", &[None, Some(outputs)])?;
        let dimension = shape.first().copied().unwrap_or_default();
        let matrix = Matrix::transposed(&matrix, outputs);
        let name = format!("{prefix}.rows.0");
        match tokens {
            BagTokens::Ngrams => {
                let columns = self.columns()?;
                let (_, table) = arrays.f32("table", &[Some(columns), Some(dimension)])?;
                let mut rows = Vec::with_capacity(columns * outputs);
                for vector in table.chunks_exact(dimension.max(1)) {
                    matrix.product(vector, &mut rows);
                }
                to.rows(&name, outputs, rows);
            }
            BagTokens::Words => {
                self.check_dimension(dimension, model)?;
                let rows = Some(self.words.rows_of_data());
                let (_, table) = arrays.f32("table", &[rows, Some(dimension)])?;
                let scale = arrays.f32("scale", &[Some(1)])?.1.first().copied().unwrap_or(1.0);
                let own = |row: usize| {
                    let place = row * dimension..(row + 1) * dimension;
                    table.get(place).unwrap_or_default().to_vec()
                };
                // Training multiplied the given vectors by a factor, which words that it did not
                // see get here.
                let mut rows = Vec::new();
                self.words.each(|row, vector| match row {
                    Some(row) => matrix.product(&own(row), &mut rows),
                    None => {
                        let scaled: Vec<f32> = vector.iter().map(|x| x * scale).collect();
                        matrix.product(&scaled, &mut rows);
                    }
                });
                to.rows(&name, outputs, rows);
            }
        }
        to.f32(&format!("{prefix}.bias"), &[outputs], bias);
        let layers = usize::from(has_hidden);
        if has_hidden {
            let classes = self.labels.len();
            let (_, values) = arrays.f32("classes", &[Some(outputs), Some(classes)])?;
            let weight = Matrix::transposed(&values, classes).values;
            let (_, bias) = arrays.f32("classes.bias", &[Some(classes)])?;
            to.f32(&format!("{prefix}.layers.0.weight"), &[classes, outputs], weight);
            to.f32(&format!("{prefix}.layers.0.bias"), &[classes], bias);
        }
        let weights = if tfidf { BagWeights::Share } else { BagWeights::Mean };
        let bags = vec![BagDescription { tokens, weights }];
        Ok(NetDescription::Sum { bags, layers, order: (0..layers).collect(), relu_out: false })
    }

    fn neighbours(
        &mut self,
        of: &RunOptions,
        prefix: &str,
        to: &mut ModelWriter<'_>,
    ) -> Result<NetDescription> {
        let columns = self.columns()?;
        let path: PathBuf = self.artifacts.join("ngrams/train.safetensors");
        let rows = Csr::map(&path, self.labels.len())?;
        if rows.columns != columns {
            let what = format_args!("{} columns, not the {columns} n-grams", rows.columns);
            return Err(Failure::artifact(what, &path));
        }
        let arrays = Index::new(&rows).arrays;
        let name = |rest: &str| format!("{prefix}.{rest}");
        to.u32(&name("labels"), arrays.labels.to_vec());
        to.u64(&name("starts"), arrays.starts.to_vec());
        to.columns(&name("postings"), &arrays.postings);
        to.u32(&name("frequent"), arrays.frequent.to_vec());
        to.u64(&name("row_starts"), arrays.row_starts.to_vec());
        to.columns(&name("entries"), &arrays.entries);
        to.f32(&name("lengths"), &[arrays.lengths.len()], arrays.lengths.to_vec());
        Ok(NetDescription::Neighbours { k: of.k, power: of.power, smoothing: of.smoothing })
    }

    fn stack(
        &mut self,
        model: &Path,
        members: &[String],
        prefix: &str,
        to: &mut ModelWriter<'_>,
    ) -> Result<NetDescription> {
        let mut all = Vec::new();
        for (number, run) in members.iter().enumerate() {
            let name = format!("{prefix}.{number}");
            let Converted { layers, calibration, .. } = self.run(run, &name, to, true)?;
            let calibration = calibration.unwrap_or_else(crate::calibration::none);
            all.push(MemberDescription { run: run.clone(), layers, calibration });
        }
        let regression = Stacking::read(model, self.labels.len(), members.len())?;
        self.regression(&regression, members.len(), prefix, to);
        Ok(NetDescription::Stack { members: all })
    }
}

/// A sum without layers.
const fn sum(bags: Vec<BagDescription>) -> NetDescription {
    NetDescription::Sum { bags, layers: 0, order: Vec::new(), relu_out: false }
}
