//! `knockline test`

use std::fmt::Write as _;
use std::path::PathBuf;

use comparison::wilson;
use failure::{Failure, Result};
use model::{Engine, Metrics, Model, Tally};
use serde_json::json;

use crate::ModelArgument;
use crate::input::{Batch, Input, InputArguments, LabelColumn};
use crate::output::{print, shown};
use crate::predict::probability;

/// What to measure on.
#[derive(clap::Args)]
pub struct TestArguments {
    #[command(flatten)]
    model: ModelArgument,
    /// The labelled texts: CSV, TSV, JSON lines, parquet or fastText's format
    #[arg(value_name = "DATA")]
    data: PathBuf,
    #[command(flatten)]
    input: InputArguments,
    /// The column, or the JSON key, of the label; without a header, its number from 1
    /// [default: label, category or class]
    #[arg(long, value_name = "NAME")]
    label_column: Option<String>,
    /// Give no answer if the likeliest class is less likely than this
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = probability)]
    min_probability: f32,
    /// Also show precision, recall and F1 of each class
    #[arg(long)]
    per_label: bool,
    /// Write one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
pub fn run(arguments: &TestArguments) -> Result<()> {
    stage::machine::threads()?;
    let model = Model::open(&arguments.model.model)?;
    let labels = model.labels();
    let engine = Engine::new(&model);
    let wanted = arguments.label_column.clone().map_or(LabelColumn::Usual, LabelColumn::Named);
    let mut input = Input::open(Some(&arguments.data), &arguments.input, wanted, |_| false)?;
    let mut tally = Tally::new(labels.len());
    let mut batch = Batch::default();
    let mut row = 0;
    let start = std::time::Instant::now();
    loop {
        let more = input.next(&mut batch, engine.batch())?;
        let answers =
            engine.answer(&batch.texts, |answered, all: &mut (Vec<f32>, Vec<bool>)| {
                all.0.extend_from_slice(answered.probabilities);
                all.1.extend(answered.known.iter().map(|known| known.anything));
                Ok(())
            })?;
        let rows =
            answers.iter().flat_map(|(all, known)| all.chunks_exact(labels.len()).zip(known));
        for ((p, is_known), name) in rows.zip(&batch.labels) {
            row += 1;
            let label = labels.find(name).ok_or_else(|| {
                let known: Vec<&str> = labels.names().iter().take(20).map(String::as_str).collect();
                Failure::input(
                    format_args!("label `{name}` is not one of the model's: {}", known.join(", ")),
                    format_args!("{}, row {row}", arguments.data.display()),
                    "give data with the model's labels",
                )
            })?;
            tally.add(p, *is_known, label, arguments.min_probability);
        }
        if !more {
            break;
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    print(&report(arguments, &model, &tally.finish(), seconds))
}

/// The most classes whose confusion matrix is part of the JSON object.
const MATRIX: usize = 256;

fn report(arguments: &TestArguments, model: &Model, metrics: &Metrics, seconds: f64) -> String {
    let labels = model.labels();
    let interval =
        |accuracy: f64, rows: u64| wilson(accuracy, usize::try_from(rows).unwrap_or(usize::MAX));
    let (low, high) = interval(metrics.accuracy, metrics.rows);
    let speed = metrics.rows as f64 / seconds.max(1e-9);
    if arguments.json {
        let classes: Vec<serde_json::Value> = labels
            .names()
            .iter()
            .zip(&metrics.classes)
            .map(|(label, of)| {
                json!({
                    "label": label, "support": of.support, "precision": of.precision,
                    "recall": of.recall, "f1": of.f1,
                })
            })
            .collect();
        let count = |of, as_class| metrics.confusion.get(&(of, as_class)).copied().unwrap_or(0);
        let row = |of| (0..labels.len()).map(|as_class| count(of, as_class)).collect();
        let all = if labels.len() > MATRIX { 0 } else { labels.len() };
        let confusion: Vec<Vec<u64>> = (0..all).map(row).collect();
        let line = json!({
            "rows": metrics.rows, "answered": metrics.answered, "right": metrics.right,
            "accuracy": metrics.accuracy, "accuracy_low": low, "accuracy_high": high,
            "accuracy_of_answers": metrics.accuracy_of_answers,
            "loss": metrics.loss, "macro_f1": metrics.macro_f1,
            "calibration_error": metrics.calibration_error, "rows_per_second": speed,
            "classes": classes, "confusion": confusion,
        });
        return format!("{line}\n");
    }
    let mut text = String::new();
    // Writing to a string does not fail.
    let mut say = |line: std::fmt::Arguments<'_>| {
        let _ = writeln!(text, "{}", shown(&line.to_string()));
    };
    say(format_args!("rows               {}", metrics.rows));
    say(format_args!(
        "accuracy           {:.4}  (95 % interval {low:.4} to {high:.4})",
        metrics.accuracy
    ));
    if metrics.answered < metrics.rows {
        let share = metrics.answered as f64 / metrics.rows.max(1) as f64;
        let (low, high) = interval(metrics.accuracy_of_answers, metrics.answered);
        say(format_args!("answered           {} ({:.1} %)", metrics.answered, 100.0 * share));
        say(format_args!(
            "accuracy of these  {:.4}  (95 % interval {low:.4} to {high:.4})",
            metrics.accuracy_of_answers
        ));
    }
    say(format_args!("macro F1           {:.4}", metrics.macro_f1));
    say(format_args!("cross-entropy      {:.4} nats", metrics.loss));
    say(format_args!("calibration error  {:.4}", metrics.calibration_error));
    say(format_args!("rows per second    {speed:.0}"));
    if arguments.per_label {
        let width = labels.names().iter().map(|n| n.chars().count()).max().unwrap_or(0).max(5);
        say(format_args!("{:width$}  precision  recall      F1    rows", "label"));
        for (label, of) in labels.names().iter().zip(&metrics.classes) {
            say(format_args!(
                "{label:width$}     {:.4}  {:.4}  {:.4} {:>7}",
                of.precision, of.recall, of.f1, of.support
            ));
        }
    }
    text
}
