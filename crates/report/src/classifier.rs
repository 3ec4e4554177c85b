//! The classifier that `index.html` runs: nets that are sums over words and n-grams.
//!
//! A word of a net on mean word vectors needs only the product of its vector and the net's matrix,
//! one number for each class. So each word and n-gram has a row of such numbers, in 16 bits, and is
//! found by its fingerprint.

mod table;

use std::path::Path;

use failure::{Failure, Result};
use formats::Arrays;
use formats::arrays::Values;
use headline_features::{Lookup, LookupFiles};
use ngram_features::{Features, NgramOptions};
use schema::{Calibration, Labels};
use serde::Serialize;
use stage::Stage;
use tokenizer::Tokenizer;

use crate::runs::RunFacts;
use table::{IdfColumn, Keys, Rows};

/// The nets and what they look up.
#[derive(Serialize)]
pub struct Classifier {
    labels: Labels,
    words: Option<WordKeys>,
    ngrams: Option<NgramKeys>,
    nets: Vec<Net>,
}

/// What the page says of it.
#[derive(Serialize)]
pub struct Summary {
    /// The runs that it has.
    pub runs: Vec<String>,
    /// Those that were too large.
    pub too_large: Vec<String>,
    /// Its size in the page.
    pub megabytes: f64,
}

/// The words.
#[derive(Serialize)]
struct WordKeys {
    /// `exercise` or `whitespace`.
    tokenizer: &'static str,
    lowercase: &'static str,
    keys: Keys,
    /// The places of the words in the order of the keys.
    #[serde(skip)]
    places: Vec<usize>,
}

/// The n-grams.
#[derive(Serialize)]
struct NgramKeys {
    options: NgramOptions,
    blocks: Vec<NgramBlock>,
}

/// One kind of n-gram.
#[derive(Serialize)]
struct NgramBlock {
    block: &'static str,
    keys: Keys,
    idf: IdfColumn,
    /// The columns in the order of the keys.
    #[serde(skip)]
    columns: Vec<usize>,
}

/// A net.
#[derive(Serialize)]
struct Net {
    run: String,
    words: Option<Rows>,
    /// One for each kind of n-gram, or none.
    ngrams: Vec<Rows>,
    bias: Vec<f32>,
    calibration: Calibration,
    regression: Option<Regression>,
}

/// The regression that turns margins into logits.
#[derive(Serialize)]
struct Regression {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

/// A matrix \[outputs, components\] and what trained vectors of the data's words there are.
struct Layer {
    matrix: Vec<f32>,
    bias: Vec<f32>,
    /// Rows of words, after one for padding.
    trained: Option<Values>,
}

/// The artifacts of `embed` that words are read from.
const MORE: [&str; 2] = ["more-vocabulary.parquet", "more-vectors.safetensors"];

impl Classifier {
    /// Makes the classifier from the best runs on valid of each kind that the page can have, if there
    /// are some. Nets that would take more bytes of the page than `most` are left out.
    pub fn read(
        stage: &Stage,
        runs: &[RunFacts],
        labels: &Labels,
        most: usize,
    ) -> Result<Option<(Self, Summary)>> {
        if most == 0 {
            return Ok(None);
        }
        let best = |is: &dyn Fn(&RunFacts) -> bool| {
            let of_kind = runs.iter().filter(|run| is(run));
            of_kind.reduce(|best, run| if run.valid() > best.valid() { run } else { best })
        };
        let linear = best(&|run| run.net() == Some("linear"));
        let is_mean = |run: &RunFacts| {
            let hidden = run.options.get("hidden").and_then(serde_json::Value::as_u64);
            run.net() == Some("slp") || (run.net() == Some("mean") && hidden.unwrap_or(0) == 0)
        };
        let mean = best(&is_mean);
        let mut this = Self { labels: labels.clone(), words: None, ngrams: None, nets: Vec::new() };
        let mut too_large = Vec::new();
        // The more accurate one is shown first.
        let mut chosen: Vec<&RunFacts> = [linear, mean].into_iter().flatten().collect();
        chosen.sort_by(|a, b| b.valid().total_cmp(&a.valid()));
        let lookup = if chosen.is_empty() { None } else { Some(lookup(stage)?) };
        for run in chosen {
            let Some(lookup) = &lookup else { continue };
            let net = if run.net() == Some("linear") {
                this.linear(stage, run, lookup, most)?
            } else {
                this.mean(stage, run, lookup, most)?
            };
            match net {
                Some(net) => this.nets.push(net),
                None => too_large.push(run.node.clone()),
            }
        }
        if this.nets.is_empty() && too_large.is_empty() {
            return Ok(None);
        }
        let runs = this.nets.iter().map(|net| net.run.clone()).collect();
        let megabytes = this.json()?.len() as f64 / 1e6;
        Ok(Some((this, Summary { runs, too_large, megabytes })))
    }

    /// Whether all nets were too large.
    pub const fn is_empty(&self) -> bool {
        self.nets.is_empty()
    }

    /// The classifier as the page has it, within an element `script`.
    pub fn json(&self) -> Result<String> {
        let json = serde_json::to_string(self).map_err(|e| {
            Failure::failed(e, "the page's classifier", "this is a bug; please report it")
        })?;
        Ok(json.replace('<', "\\u003c"))
    }

    /// A net on mean word vectors, if its words take at most so many bytes.
    fn mean(
        &mut self,
        stage: &Stage,
        run: &RunFacts,
        lookup: &Lookup,
        most: usize,
    ) -> Result<Option<Net>> {
        let layer = self.layer(stage, run, lookup)?;
        let Some(words) = self.word_rows(lookup, &layer, most) else { return Ok(None) };
        Ok(Some(Net {
            run: run.node.clone(),
            words: Some(words),
            ngrams: Vec::new(),
            bias: layer.bias,
            // `predict` gives such a net's probabilities as training made them.
            calibration: Calibration { scale: 1.0, of_regression: None },
            regression: None,
        }))
    }

    /// The layer of a net on mean word vectors.
    fn layer(&self, stage: &Stage, run: &RunFacts, lookup: &Lookup) -> Result<Layer> {
        const EMBEDDING: &str = "embedding.weight";
        let (classes, dimension) = (self.labels.len(), lookup.dimension());
        let path = stage.input(&run.node, "model.safetensors")?;
        let arrays = Arrays::map(&path)?;
        let names = arrays.names()?;
        let has = |name: &str| names.iter().any(|other| other == name);
        let (shape, mut matrix) = arrays.f32("fc.weight", &[None, Some(dimension)])?;
        let mut bias = if has("fc.bias") {
            arrays.f32("fc.bias", &[shape.first().copied()])?.1
        } else {
            vec![0.0; classes]
        };
        // With two classes, a net on sequences has only the second one's logit; the first one's is 0.
        if classes == 2 && bias.len() == 1 {
            matrix.splice(0..0, vec![0.0; dimension]);
            bias.insert(0, 0.0);
        }
        if bias.len() != classes || matrix.len() != classes * dimension {
            let what = format_args!("{} outputs, not the {classes} labels", bias.len());
            return Err(Failure::artifact(what, &path));
        }
        let trained = if has(EMBEDDING) {
            let rows = lookup.vectors().len() / dimension + 1;
            Some(arrays.into_f32(EMBEDDING, &[Some(rows), Some(dimension)])?.1)
        } else {
            None
        };
        Ok(Layer { matrix, bias, trained })
    }

    /// A net on n-grams and, if it takes them, mean word vectors.
    fn linear(
        &mut self,
        stage: &Stage,
        run: &RunFacts,
        lookup: &Lookup,
        most: usize,
    ) -> Result<Option<Net>> {
        let classes = self.labels.len();
        let input = |file: &str| stage.input(&run.node, file);
        let path = input("model.safetensors")?;
        let arrays = Arrays::map(&path)?;
        let [vocabulary, description] = [ngram_features::VOCABULARY, ngram_features::DESCRIPTION]
            .map(|file| stage.input("ngrams", file));
        let features = Features::read(&vocabulary?, &description?)?;
        // The column of a hashed n-gram that is too rare has no weight.
        let columns = features.entries().filter(|(.., idf)| *idf != 0.0).count();
        let left = most.checked_sub(table::bytes(columns, classes));
        let Some(left) = left else { return Ok(None) };
        let (_, sparse) = arrays.f32("sparse.weight", &[None, Some(classes)])?;
        if features.columns() * classes != sparse.len() {
            let what = format_args!("there are not {} n-grams", features.columns());
            return Err(Failure::artifact(what, &path));
        }
        let (_, bias) = arrays.f32("bias", &[Some(classes)])?;
        let (shape, dense) = arrays.f32("dense.weight", &[None, Some(classes)])?;
        let words = match shape.first() {
            None | Some(0) => None,
            Some(&dimension) if dimension == lookup.dimension() => {
                let column = |class| dense.iter().skip(class).step_by(classes).copied();
                let matrix = (0..classes).flat_map(column).collect();
                let layer = Layer { matrix, bias: Vec::new(), trained: None };
                let Some(rows) = self.word_rows(lookup, &layer, left) else { return Ok(None) };
                Some(rows)
            }
            Some(dimension) => {
                let what = format_args!("{dimension} components, not {}", lookup.dimension());
                return Err(Failure::artifact(what, &path));
            }
        };
        let keys = self.ngrams.get_or_insert_with(|| NgramKeys::new(&features));
        let row = |column: usize| sparse.get(column * classes..(column + 1) * classes);
        let of = |block: &NgramBlock| {
            let rows = block.columns.iter().map(|&column| row(column).unwrap_or_default());
            Rows::new(rows.flatten().copied(), classes)
        };
        let ngrams = keys.blocks.iter().map(of).collect();
        let calibration: Calibration = schema::read_json(&input("calibration.json")?)?;
        let regression = match calibration.of_regression {
            None => None,
            Some(_) => Some(Regression::read(&input("calibration.safetensors")?, classes)?),
        };
        let run = run.node.clone();
        Ok(Some(Net { run, words, ngrams, bias, calibration, regression }))
    }

    /// The rows of the words, if those of the data take at most so many bytes, and if the page can
    /// cut a text into words as training did.
    fn word_rows(&mut self, lookup: &Lookup, layer: &Layer, most: usize) -> Option<Rows> {
        let (classes, dimension) = (self.labels.len(), lookup.dimension());
        let tokenizer = match lookup.tokenizer() {
            Tokenizer::Exercise => "exercise",
            Tokenizer::Whitespace => "whitespace",
            Tokenizer::Source(_) => return None,
        };
        let of_data = lookup.vectors().len() / dimension;
        let all = lookup.words().count();
        let fits = |count: &usize| table::bytes(*count, classes) <= most;
        let room = Some(all).filter(fits).unwrap_or_else(|| most / table::bytes(3, classes) * 3);
        if of_data > room {
            return None;
        }
        let keys = self.words.get_or_insert_with(|| {
            let (keys, places) = Keys::of_words(lookup.words().filter(|word| word.1 < room));
            WordKeys { tokenizer, lowercase: lookup.lowercase().name(), keys, places }
        });
        let vector = |place: usize| {
            let at = |row: usize| row * dimension..(row + 1) * dimension;
            match (&layer.trained, place.checked_sub(of_data)) {
                (_, Some(other)) => lookup.other_vector(other),
                // The first row is that of padding.
                (Some(trained), None) => trained.get(at(place + 1)).unwrap_or_default(),
                (None, None) => lookup.vectors().get(at(place)).unwrap_or_default(),
            }
        };
        let product = |place: &usize| {
            let vector = vector(*place);
            let rows = layer.matrix.chunks_exact(dimension);
            rows.map(move |row| row.iter().zip(vector).map(|(w, x)| w * x).sum::<f32>())
        };
        Some(Rows::new(keys.places.iter().flat_map(product), classes))
    }
}

impl NgramKeys {
    fn new(features: &Features) -> Self {
        let blocks = features.sizes().map(|(block, _)| {
            let entries = features.entries().filter(|entry| entry.0 == block);
            let all = entries.map(|(_, column, key, idf)| (key, column as usize, idf));
            let all = all.filter(|(.., idf)| *idf != 0.0);
            let (keys, columns, idf) = Keys::of_ngrams(all, features.options.hash_bits);
            NgramBlock { block: block.name(), keys, idf, columns }
        });
        Self { options: features.options.clone(), blocks: blocks.collect() }
    }
}

impl Regression {
    fn read(path: &Path, classes: usize) -> Result<Self> {
        let arrays = Arrays::map(path)?;
        let (_, weight) = arrays.f32("weight", &[None, None])?;
        let (_, bias) = arrays.f32("bias", &[Some(classes)])?;
        Ok(Self { weight, bias })
    }
}

/// The words of `embed`.
fn lookup(stage: &Stage) -> Result<Lookup> {
    let file = |name: &str| stage.input("embed", name);
    let [words, vectors] = MORE;
    Lookup::read(&LookupFiles {
        vocabulary: file("vocabulary.parquet")?,
        vectors: file("vectors.safetensors")?,
        tokenizer: file(Tokenizer::FILE)?,
        more: Some([file(words)?, file(vectors)?]),
    })
}
