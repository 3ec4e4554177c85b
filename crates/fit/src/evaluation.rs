//! Scores a fitted classifier and writes what every run has.

use std::collections::BTreeMap;

use classifiers::calibration::Calibrator;
use failure::{Failure, Result};
use kernels::odds::{Tally, softmax};
use kernels::team;
use predictions::PredictionsWriter;
use predictions::margins::{self, PartRows};
use schema::{CheckpointSummary, Labels, Metrics, Outcome, RunConfig, Score, Trained};
use serde::Serialize;
use stage::Stage;

/// A fitted classifier with the parts that it is scored on.
pub trait Fitted: Sync {
    /// What a thread needs to compute margins.
    type Desk;
    /// Makes it.
    fn desk(&self) -> Self::Desk;
    /// Puts the margin of each class for a row of the part with this number into `to`.
    fn margins(&self, desk: &mut Self::Desk, part: usize, row: usize, to: &mut [f32]);
}

/// Margins of train's rows under a classifier that has not seen them.
#[derive(Clone, Copy)]
pub enum HeldOut<'m> {
    /// There are none.
    None,
    /// These.
    Given(&'m [f32]),
    /// The classifier leaves a row of train out when it is asked about it.
    Own,
}

/// What a run says of itself.
pub struct Description<'d, O> {
    /// Its options.
    pub options: &'d O,
    /// The names of the classes.
    pub labels: &'d Labels,
    /// The number of features in a row.
    pub features: usize,
    /// The number of fitted parameters.
    pub parameters: usize,
    /// How fitting ended.
    pub outcome: Outcome,
    /// For a stack to learn from.
    pub held_out: HeldOut<'d>,
}

/// Rows whose margins a thread computes at once.
const AT_ONCE: usize = 512;

/// The margins of the rows of a part, a few rows at a time.
fn each_block(
    fitted: &impl Fitted,
    part: usize,
    rows: usize,
    classes: usize,
    mut take: impl FnMut(&[f32]) -> Result<()>,
) -> Result<()> {
    let make = |desk: &mut _, block: usize| {
        let rows = block * AT_ONCE..((block + 1) * AT_ONCE).min(rows);
        let mut margins = vec![0.0; rows.len() * classes];
        for (row, to) in rows.zip(margins.chunks_exact_mut(classes)) {
            fitted.margins(desk, part, row, to);
        }
        margins
    };
    team::in_order(0..rows.div_ceil(AT_ONCE), || fitted.desk(), make, |margins| take(&margins))
}

fn missing(stage: &Stage, part: &str) -> Failure {
    Failure::input(
        format_args!("there are no rows of {part}"),
        format_args!("`{}`", stage.node),
        "make the inputs again: cargo xtask pipeline",
    )
}

/// Calibrates and scores a classifier, and writes its files but for the model. Returns the line for
/// the log.
pub fn finish<O: Serialize>(
    stage: &Stage,
    parts: &[PartRows<'_>],
    fitted: &impl Fitted,
    description: &Description<'_, O>,
) -> Result<String> {
    let (labels, held_out) = (description.labels, description.held_out);
    let classes = labels.len();
    let mut of_valid = Vec::new();
    let of = |name| parts.iter().enumerate().find(|(_, part)| part.name == name);
    let (number, valid) = of("valid").ok_or_else(|| missing(stage, "valid"))?;
    each_block(fitted, number, valid.labels.len(), classes, |margins| {
        of_valid.extend_from_slice(margins);
        Ok(())
    })?;
    let calibrator = match held_out {
        HeldOut::Given(margins) => {
            let (_, train) = of("train").ok_or_else(|| missing(stage, "train"))?;
            Calibrator::by_regression((margins, train.labels), (&of_valid, valid.labels), classes)
        }
        HeldOut::None | HeldOut::Own => Calibrator::by_scale(&of_valid, valid.labels),
    };
    calibrator.write(stage.out())?;
    let mut scores: BTreeMap<&str, Score> = BTreeMap::new();
    let path = stage.output(predictions::FILE);
    let mut writer = PredictionsWriter::create(&path, labels)?;
    // Only margins that a stack needs are kept.
    let mut kept: BTreeMap<&str, Vec<f32>> = BTreeMap::new();
    for (number, part) in parts.iter().enumerate() {
        let is_train = part.name == "train";
        let keeps = match held_out {
            HeldOut::None => false,
            HeldOut::Given(_) => !is_train,
            HeldOut::Own => true,
        };
        let mut tally = Tally::default();
        let mut rows = part.labels.iter().zip(part.ids);
        let (mut logits, mut memory) = (vec![0.0; classes], Vec::new());
        each_block(fitted, number, part.labels.len(), classes, |margins| {
            if keeps {
                kept.entry(part.name).or_default().extend_from_slice(margins);
            }
            for (margins, (&label, &id)) in margins.chunks_exact(classes).zip(&mut rows) {
                logits.copy_from_slice(margins);
                calibrator.logits(&mut logits, &mut memory);
                tally.add(&logits, label);
                if !is_train {
                    softmax(&mut logits);
                    writer.push(part.name, id, label, &logits)?;
                }
            }
            Ok(())
        })?;
        let (loss, accuracy) = tally.means();
        if !loss.is_finite() {
            return Err(Failure::failed(
                format_args!("the loss on {} is not a finite number", part.name),
                format_args!("`{}`", stage.node),
                "choose less extreme values of the options of this run, such as a smaller c",
            ));
        }
        scores.insert(part.name, Score { loss, accuracy });
    }
    writer.finish()?;
    if let HeldOut::Given(margins) = held_out {
        kept.insert("train", margins.to_vec());
    }
    if !kept.is_empty() {
        margins::write(&stage.output(margins::FILE), parts, &kept, classes)?;
    }
    let config = RunConfig {
        node: stage.node.clone(),
        device: "cpu".to_owned(),
        features: description.features,
        parameters: description.parameters,
        started_from_given_weights: false,
        options: description.options,
    };
    stage.write_json("config.json", &config)?;
    stage.write_json(Labels::FILE, labels)?;
    let score = |part| scores.get(part).copied();
    let nothing = Score { loss: f64::NAN, accuracy: 0.0 };
    let result = Trained {
        train: score("train").unwrap_or(nothing),
        valid: score("valid").unwrap_or(nothing),
        test: score("test"),
        outcome: description.outcome,
    };
    let none = CheckpointSummary { count: 0, bytes: 0, tensors: BTreeMap::new(), also: Vec::new() };
    let metrics = Metrics {
        result,
        rows: parts.iter().map(|part| (part.name.to_owned(), part.labels.len())).collect(),
        checkpoints: none,
        seeds: Vec::new(),
        spread: BTreeMap::new(),
    };
    stage.write_json("metrics.json", &metrics)?;
    let (part, score) = result.test.map_or(("valid", result.valid), |test| ("test", test));
    Ok(format!("{part} accuracy {:.4}, loss {:.4}", score.accuracy, score.loss))
}

/// Writes values as JSON, one per line.
pub fn write_lines(path: &std::path::Path, values: &[impl Serialize]) -> Result<()> {
    let bug = |e: serde_json::Error| {
        Failure::failed(e, path.display(), "this is a bug; please report it")
    };
    let mut text = String::new();
    for value in values {
        text += &serde_json::to_string(value).map_err(bug)?;
        text.push('\n');
    }
    std::fs::write(path, text).map_err(|e| Failure::io("write", path, &e))
}
