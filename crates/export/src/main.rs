//! Writes a trained run as one file that answers without its artifacts.
//!
//! In: a run's folder and what its features are made from, as `predict` reads them. Out: a model
//! file (crate `model`, docs/model.md).
//!
//! Always holds: the file gives the run's answers, up to the rounding of sums in another order. What
//! can be computed before a text is known is computed here: a word of a net that takes the mean of
//! word vectors needs only the product of its vector and the first layer.

mod calibration;
mod convert;
mod provenance;
mod words;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use failure::{Exit, Result};
use model::{
    Description, FORMAT, Model, ModelWriter, NgramsDescription, Precision, TableDescription,
};
use ngram_features::{ColumnTable, Features};
use schema::Labels;
use serde_json::json;

use convert::Converter;
use words::Words;

/// Write a trained run as one file
#[derive(Parser)]
#[command(name = "export", max_term_width = 100)]
struct ExportCli {
    /// The training run
    #[arg(value_name = "RUN")]
    run: String,
    /// The file to write
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The folder with the artifacts
    #[arg(long, value_name = "DIR", default_value = "artifacts")]
    artifacts: PathBuf,
    /// Make the large tables smaller: `f16`, `int8`, or `f32` to leave them as they are
    #[arg(long, value_name = "TYPE", default_value = "f32", value_parser = precision)]
    quantize: Precision,
    /// Keep only this many words: the data's most frequent ones, then the vector file's first
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    words: Option<u32>,
    /// Keep the probabilities as training made them, rather than fit a temperature on valid
    #[arg(long)]
    uncalibrated: bool,
    /// What the licences of the texts and vectors say, for the model's card
    #[arg(long, value_name = "TEXT")]
    licence: Option<String>,
    /// Write one JSON object
    #[arg(long)]
    json: bool,
}

fn precision(name: &str) -> std::result::Result<Precision, String> {
    let known = Precision::ALL.into_iter().find(|precision| precision.name() == name);
    known.ok_or_else(|| "use f32, f16 or int8".to_owned())
}

fn main() -> ExitCode {
    let cli = ExportCli::parse();
    match run(&cli) {
        Ok(()) => Exit::Done.into(),
        Err(failure) => failure.report(cli.json),
    }
}

fn run(cli: &ExportCli) -> Result<()> {
    stage::machine::threads()?;
    let ExportCli { artifacts, run, file, .. } = cli;
    let folder = artifacts.join(run);
    let labels = Labels::read(&folder.join(Labels::FILE))?;
    let words = Words::read(&artifacts.join("embed"), cli.words.map(|n| n as usize))?;
    let mut to = ModelWriter::new(cli.quantize);
    let mut converter = Converter::new(artifacts, &labels, &words);
    let of = converter.run(run, "net", &mut to, false)?;
    let ngrams = converter.ngrams()?.map(|features| write_ngrams(features, &mut to));
    let calibration = match of.calibration {
        Some(calibration) => calibration,
        None if cli.uncalibrated => calibration::none(),
        None => calibration::on_valid(&folder, &labels)?,
    };
    let tokenizer = words.write_tokenizer(&mut to);
    let about = provenance::read(artifacts, run, &converter.used)?;
    let description = Description {
        format: FORMAT,
        knockline: env!("CARGO_PKG_VERSION").to_owned(),
        run: run.clone(),
        net: of.net,
        tokenizer: tokenizer.to_owned(),
        lowercase: words.lowercase.to_owned(),
        words: words.write(&mut to),
        ngrams,
        layers: of.layers,
        calibration,
        precision: cli.quantize,
        options: of.options,
        scores: about.scores,
        rows: about.rows,
        sources: about.sources,
        keys: about.keys,
        licence: cli.licence.clone(),
        labels: labels.clone(),
    };
    to.finish(file, &description)?;
    // Whoever gets the file must be able to open it.
    let model = Model::open(file)?;
    model.check()?;
    report(cli, &model);
    Ok(())
}

fn report(cli: &ExportCli, model: &Model) {
    let Description { words, precision, net, .. } = model.description();
    if cli.json {
        let line = json!({
            "file": cli.file, "bytes": model.size(), "run": cli.run, "net": net,
            "labels": model.labels().len(), "words": words.count, "precision": precision,
        });
        println!("{line}");
        return;
    }
    println!(
        "{}: {} of {} labels, {} words, {}, {:.2} MB",
        cli.file.display(),
        cli.run,
        model.labels().len(),
        words.count,
        precision.name(),
        model.size() as f64 / 1e6
    );
}

/// Adds the n-grams' tables to a model.
fn write_ngrams(features: &Features, to: &mut ModelWriter<'_>) -> NgramsDescription {
    let mut tables = Vec::new();
    for (block, columns, table) in features.tables() {
        let name = format!("ngrams.{}", block.name());
        let seed = match table {
            ColumnTable::Listed(table) => {
                to.table(&name, &table);
                table.seed
            }
            ColumnTable::Hashed(idf) => {
                to.f32(&format!("{name}.idf"), &[idf.len()], idf.to_vec());
                0
            }
        };
        tables.push(TableDescription { columns, seed });
    }
    NgramsDescription { options: features.options.clone(), tables }
}
