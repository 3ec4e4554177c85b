//! `net = "linear"`: a machine for each class.

use classifiers::linear::{self, LinearModel, LinearOptions, Loss, Solver};
use classifiers::{Dense, Rows};
use failure::{Failure, Result};
use predictions::folds;
use schema::Outcome;
use serde::{Deserialize, Serialize};
use stage::{Event, Stage};

use crate::evaluation::{Description, Fitted, HeldOut, finish};
use crate::parts::{self, Part, Parts};
use crate::strongest;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    net: String,
    solver: Solver,
    loss: Loss,
    c: f64,
    class_weight: Option<String>,
    naive_bayes: f64,
    smoothing: f64,
    vectors: f64,
    tolerance: f64,
    gradient_tolerance: f64,
    epochs: u32,
    folds: Option<u32>,
    seed: u64,
}

struct FittedLinear<'p> {
    model: &'p LinearModel,
    parts: Vec<&'p Part>,
}

impl Fitted for FittedLinear<'_> {
    type Desk = ();
    fn desk(&self) {}
    fn margins(&self, (): &mut (), part: usize, row: usize, to: &mut [f32]) {
        let Some(part) = self.parts.get(part) else { return };
        let (columns, values) = part.sparse.row(row);
        self.model.margins(columns, values, part.vector(row), to);
    }
}

/// Fits the run.
pub fn run(stage: &Stage) -> Result<String> {
    let options: Options = stage.options()?;
    let parts = Parts::read(stage, options.vectors > 0.0)?;
    let train = &parts.train;
    let folds =
        options.folds.map(|count| folds::stratified(&train.sparse.labels, count, options.seed));
    let vectors = Vectors::of(train, options.vectors);
    let dense = Dense { values: &vectors.values, dimension: train.dimension };
    let rows = Rows { sparse: &train.sparse, dense };
    let how = LinearOptions {
        solver: options.solver,
        loss: options.loss,
        c: options.c,
        balanced: options.class_weight.is_some(),
        naive_bayes: options.naive_bayes,
        smoothing: options.smoothing,
        tolerance: options.tolerance,
        gradient_tolerance: options.gradient_tolerance,
        epochs: options.epochs,
        seed: options.seed,
    };
    parts::refuse_too_many(stage, train.sparse.columns, parts.labels.len(), "classes")?;
    let trained = linear::train(rows, parts.labels.len(), folds.as_deref(), &how);
    if !trained.weights.is_finite() {
        return Err(Failure::failed(
            "the descent ended in weights that are not finite numbers",
            format_args!("`{}`", stage.node),
            format_args!("choose less extreme values of {}.c and .vectors", stage.node),
        ));
    }
    if !trained.converged {
        let text = format!(
            "the descent has not converged after {} passes; raise the option `epochs` or `tolerance`",
            options.epochs
        );
        stage.progress.send(&Event::Note { text });
    }
    let model = trained.weights.model(vectors.scale, &vectors.center);
    model.write(&stage.output("model.safetensors"))?;
    crate::evaluation::write_lines(&stage.output("passes.jsonl"), &trained.passes)?;
    let [vocabulary, description] = [ngram_features::VOCABULARY, ngram_features::DESCRIPTION];
    let strongest = strongest::find(
        &model,
        &train.sparse,
        parts.labels.len(),
        &stage.input("ngrams", vocabulary)?,
        &stage.input("ngrams", description)?,
    )?;
    stage.write_json("strongest.json", &strongest)?;
    let passes = u32::try_from(trained.passes.len()).unwrap_or(u32::MAX);
    let description = Description {
        options: &options,
        labels: &parts.labels,
        features: train.sparse.columns + train.dimension,
        parameters: model.parameters(),
        outcome: Outcome { epochs: passes, epoch_kept: passes, stopped_early: false },
        held_out: if folds.is_some() { HeldOut::Given(&trained.held_out) } else { HeldOut::None },
    };
    let fitted = FittedLinear { model: &model, parts: parts.all() };
    let line = finish(stage, &parts.rows(), &fitted, &description)?;
    Ok(format!("{line}; {passes} passes"))
}

/// The mean word vectors as training sees them: `scale` (x − `center`).
struct Vectors {
    values: Vec<f32>,
    center: Vec<f32>,
    scale: f32,
}

impl Vectors {
    /// The vectors of `train`, centred, and scaled so that their mean length before was `weight`.
    #[expect(clippy::cast_possible_truncation, reason = "features are f32")]
    fn of(train: &Part, weight: f64) -> Self {
        let (n, d) = (train.len() as f64, train.dimension);
        if d == 0 {
            return Self { values: Vec::new(), center: Vec::new(), scale: 1.0 };
        }
        let (mut center, mut length) = (vec![0.0_f64; d], 0.0);
        for row in train.vectors().chunks_exact(d) {
            let mut square = 0.0;
            for (sum, &x) in center.iter_mut().zip(row) {
                *sum += f64::from(x);
                square += f64::from(x) * f64::from(x);
            }
            length += f64::sqrt(square);
        }
        let scale = if length > 0.0 { (weight * n / length) as f32 } else { 0.0 };
        let center: Vec<f32> = center.iter().map(|sum| (sum / n) as f32).collect();
        let mut values = Vec::with_capacity(train.vectors().len());
        for row in train.vectors().chunks_exact(d) {
            values.extend(row.iter().zip(&center).map(|(x, center)| scale * (x - center)));
        }
        Self { values, center, scale }
    }
}
