//! `knockline card`: a model card.

use std::fmt::Write as _;
use std::path::PathBuf;

use comparison::wilson;
use failure::{Failure, Result};
use model::{Description, Model};
use serde_json::{Value, json};

use crate::ModelArgument;
use crate::output::print;

/// What the card is about.
#[derive(clap::Args)]
pub struct CardArguments {
    #[command(flatten)]
    model: ModelArgument,
    /// Write the card to this file, usually README.md beside the model
    #[arg(long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// The languages of the texts, as ISO 639 codes
    #[arg(long, value_name = "CODE")]
    language: Vec<String>,
    /// The licence of the model, as an identifier of Hugging Face [default: other]
    #[arg(long, value_name = "ID", default_value = "other")]
    licence: String,
}

/// Runs the command.
pub fn run(arguments: &CardArguments) -> Result<()> {
    let model = Model::open(&arguments.model.model)?;
    model.check()?;
    let file = arguments.model.model.file_name().map(|name| name.to_string_lossy().into_owned());
    let card = card(&model, &file.unwrap_or_default(), arguments);
    match &arguments.output {
        None => print(&card),
        Some(path) => std::fs::write(path, card).map_err(|e| Failure::io("write", path, &e)),
    }
}

/// A value in YAML, of which JSON is a part.
fn yaml(value: impl Into<Value>) -> String {
    value.into().to_string()
}

/// A text in a cell of a table.
fn cell(text: &str) -> String {
    text.replace('\\', "\\\\").replace('|', "\\|").replace(['\n', '\r'], " ")
}

fn card(model: &Model, file: &str, arguments: &CardArguments) -> String {
    let of = model.description();
    let Description { run, net, options, .. } = of;
    let mut card = String::from("---\n");
    // Writing to a string does not fail.
    let mut line = |text: String| {
        let _ = writeln!(card, "{text}");
    };
    if !arguments.language.is_empty() {
        line(format!("language: {}", yaml(arguments.language.clone())));
    }
    line(format!("license: {}", yaml(arguments.licence.clone())));
    line("library_name: knockline".to_owned());
    line("pipeline_tag: text-classification".to_owned());
    line(format!("tags: {}", yaml(json!(["knockline", "text-classification", net]))));
    if let Some(score) = of.scores.get("test") {
        let result = json!([{
            "name": run,
            "results": [{
                "task": { "type": "text-classification" },
                "dataset": {
                    "name": of.sources.get("texts").map_or("unknown", String::as_str),
                    "type": "other",
                    "split": "test",
                },
                "metrics": [
                    { "type": "accuracy", "value": score.accuracy },
                    { "type": "loss", "name": "cross-entropy", "value": score.loss },
                ],
            }],
        }]);
        line(format!("model-index: {result}"));
    }
    line("---\n".to_owned());
    line(format!("# {}\n", cell(run)));
    line(format!(
        "A `{net}` that puts texts into {} classes, trained with knockline {} and written as one \
         file of {:.2} MB ({}).\n",
        model.labels().len(),
        of.knockline,
        model.size() as f64 / 1e6,
        of.precision.name()
    ));
    line("## Classes\n".to_owned());
    let names: Vec<String> =
        model.labels().names().iter().take(100).map(|name| format!("`{name}`")).collect();
    let more = model.labels().len().saturating_sub(names.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    line(format!("{}{more}\n", names.join(", ")));
    line("## Use\n".to_owned());
    line(format!("```sh\nknockline predict {file} 'a text'\nknockline info {file}\n```\n"));
    line("## Accuracy\n".to_owned());
    line("| part | rows | accuracy | 95 % interval | cross-entropy |".to_owned());
    line("| --- | --- | --- | --- | --- |".to_owned());
    for part in ["train", "valid", "test"] {
        let Some(score) = of.scores.get(part) else { continue };
        let rows = of.rows.get(part).copied().unwrap_or_default();
        let (low, high) = wilson(score.accuracy, rows);
        line(format!(
            "| {part} | {rows} | {:.4} | {low:.4} to {high:.4} | {:.4} |",
            score.accuracy, score.loss
        ));
    }
    line("\nThese are the scores of the run as it was trained: before a temperature, a choice of words and quantisation.\n".to_owned());
    line("## Training data\n".to_owned());
    for (what, source) in &of.sources {
        line(format!("- {what}: {}", cell(source)));
    }
    let licence = of.licence.as_deref().unwrap_or("nothing was said");
    line(format!("- licences: {}\n", cell(licence)));
    line("## Options\n".to_owned());
    line("| option | value |\n| --- | --- |".to_owned());
    for (name, value) in options {
        line(format!("| {} | `{}` |", cell(name), cell(&value.to_string())));
    }
    line("\n## Limits\n".to_owned());
    line(
        "The model knows words and their parts, not the world: a text of another kind than its \
         training data gets an answer that means little. A text of which nothing is known gets no \
         answer.\n"
            .to_owned(),
    );
    line("## Where it comes from\n".to_owned());
    for (node, key) in &of.keys {
        line(format!("- `{node}`: `{key}`"));
    }
    card
}
