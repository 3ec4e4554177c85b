//! `knockline info`

use std::fmt::Write as _;

use failure::Result;
use model::{Description, Model};
use serde_json::json;

use crate::ModelArgument;
use crate::output::{print, shown};

/// What to say.
#[derive(clap::Args)]
pub struct InfoArguments {
    #[command(flatten)]
    model: ModelArgument,
    /// List the words that the model knows, one per line
    #[arg(long)]
    words: bool,
    /// Write one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
pub fn run(arguments: &InfoArguments) -> Result<()> {
    let start = std::time::Instant::now();
    let model = Model::open(&arguments.model.model)?;
    let opened = start.elapsed();
    model.check()?;
    if arguments.words {
        return print(&model.words()?);
    }
    let of = model.description();
    if arguments.json {
        let tensors: Vec<serde_json::Value> = model
            .tensors()
            .into_iter()
            .map(|(name, dtype, shape, bytes)| {
                json!({ "name": name, "dtype": dtype, "shape": shape, "bytes": bytes })
            })
            .collect();
        let line = json!({ "bytes": model.size(), "description": of, "tensors": tensors });
        return print(&format!("{line}\n"));
    }
    let mut text = String::new();
    // Writing to a string does not fail.
    let mut line = |line: std::fmt::Arguments<'_>| {
        let _ = writeln!(text, "{}", shown(&line.to_string()));
    };
    let Description { run, net, words, tokenizer, lowercase, precision, .. } = of;
    line(format_args!(
        "run        {run} ({net}), format {}, by knockline {}",
        of.format, of.knockline
    ));
    line(format_args!(
        "size       {:.2} MB, {}; opened in {:.1} ms; every byte has its digest",
        model.size() as f64 / 1e6,
        precision.name(),
        opened.as_secs_f64() * 1e3
    ));
    let labels = model.labels();
    let first: Vec<&str> = labels.names().iter().take(20).map(String::as_str).collect();
    let more = labels.len().saturating_sub(first.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    line(format_args!("labels     {}: {}{more}", labels.len(), first.join(", ")));
    line(format_args!(
        "words      {} (tokenizer: {tokenizer}; lower case: {lowercase})",
        words.count
    ));
    if let Some(ngrams) = &of.ngrams {
        let columns: usize = ngrams.tables.iter().map(|table| table.columns).sum();
        line(format_args!("n-grams    {columns}"));
    }
    if !of.scores.is_empty() {
        line(format_args!("the run, as it was trained (`knockline test` measures this file):"));
    }
    for (part, score) in &of.scores {
        let rows = of.rows.get(part).copied().unwrap_or_default();
        line(format_args!(
            "  {part:8} accuracy {:.4}, loss {:.4}, {rows} rows",
            score.accuracy, score.loss
        ));
    }
    for (what, source) in &of.sources {
        line(format_args!("{what:10} {source}"));
    }
    if let Some(licence) = &of.licence {
        line(format_args!("licence    {licence}"));
    }
    line(format_args!("tensors"));
    for (name, dtype, shape, bytes) in model.tensors() {
        line(format_args!("  {name:32} {dtype:4} {shape:?}  {:.2} MB", bytes as f64 / 1e6));
    }
    print(&text)
}
