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
mod onnx;
mod provenance;
mod words;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use failure::{Exit, Failure, Result};
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
    /// `knock`: a model of knockline; `onnx`: a graph for onnxruntime and others, which takes token
    /// ids or n-grams
    #[arg(long, value_name = "FORMAT", default_value = "knock")]
    format: Format,
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

/// The format of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Knock,
    Onnx,
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
    if cli.format == Format::Onnx && cli.quantize != Precision::F32 {
        return Err(Failure::usage(
            "an ONNX graph is not quantised here",
            "--quantize",
            "leave it out; onnxruntime can quantise the graph",
        ));
    }
    let ExportCli { artifacts, run, file, .. } = cli;
    let folder = artifacts.join(run);
    let labels = Labels::read(&folder.join(Labels::FILE))?;
    let words = Words::read(&artifacts.join("embed"), cli.words.map(|n| n as usize))?;
    let mut to = ModelWriter::new(cli.quantize);
    let mut converter = Converter::new(artifacts, &labels, &words);
    let of = converter.run(run, "net", &mut to, false)?;
    let columns = converter.ngrams()?.map_or(0, Features::columns);
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
    if cli.format == Format::Onnx {
        onnx::write(file, &description, &to, &words.text(), columns)?;
        report_onnx(cli, &description);
        return Ok(());
    }
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

fn report_onnx(cli: &ExportCli, of: &Description) {
    let bytes = std::fs::metadata(&cli.file).map_or(0, |file| file.len());
    if cli.json {
        let line = json!({ "file": cli.file, "bytes": bytes, "run": cli.run, "net": of.net });
        println!("{line}");
        return;
    }
    let megabytes = bytes as f64 / 1e6;
    println!("{}: {} as an ONNX graph, {megabytes:.2} MB", cli.file.display(), cli.run);
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
