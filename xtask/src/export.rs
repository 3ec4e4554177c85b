//! `cargo xtask model`: a trained run as one file.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use failure::Result;

use crate::binaries::{Binaries, ended};
use crate::context::Context;
use crate::predict;

/// What to do with a model.
#[derive(clap::Subcommand)]
pub enum ModelCommand {
    /// Write a trained run as one file, which the program `knockline` needs alone
    Export(ExportArguments),
    /// Say what is in a model file, as `knockline info` does
    Info(Passed),
    /// Measure a model on labelled texts, as `knockline test` does
    Test(Passed),
    /// Write a model card, as `knockline card` does
    Card(Passed),
}

/// What to export, and how.
#[derive(clap::Args)]
pub struct ExportArguments {
    /// The training run
    #[arg(value_name = "RUN")]
    run: String,
    /// The file to write
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// knock: a model of knockline; onnx: a graph for onnxruntime and others
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Make the large tables smaller: f16 or int8
    #[arg(long, value_name = "TYPE")]
    quantize: Option<String>,
    /// Keep only this many words: the data's most frequent ones, then the vector file's first
    #[arg(long, value_name = "N")]
    words: Option<u32>,
    /// Keep the probabilities as training made them, rather than fit a temperature on valid
    #[arg(long)]
    uncalibrated: bool,
    /// What the licences of the texts and vectors say, for the model's card
    #[arg(long, value_name = "TEXT")]
    licence: Option<String>,
}

/// Arguments of `knockline`.
#[derive(clap::Args)]
pub struct Passed {
    /// As `knockline` takes them
    #[arg(value_name = "ARGUMENT", trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Runs the command.
pub fn run(
    context: Context<'_>,
    is_described: bool,
    command: &ModelCommand,
) -> Result<std::process::ExitCode> {
    let (name, passed) = match command {
        ModelCommand::Export(arguments) => return export(context, is_described, arguments),
        ModelCommand::Info(passed) => ("info", passed),
        ModelCommand::Test(passed) => ("test", passed),
        ModelCommand::Card(passed) => ("card", passed),
    };
    spawn(context, "knockline", |command| {
        command.arg(name).args(&passed.arguments);
        if context.json && name != "card" {
            command.arg("--json");
        }
    })
}

fn export(
    context: Context<'_>,
    is_described: bool,
    arguments: &ExportArguments,
) -> Result<std::process::ExitCode> {
    let ExportArguments { run, file, format, quantize, words, uncalibrated, licence } = arguments;
    let run = predict::usable(context, is_described, Some(run)).map_err(|mut failure| {
        // `predict` names a run with an option.
        if failure.place == "--run" {
            "RUN".clone_into(&mut failure.place);
        }
        failure
    })?;
    spawn(context, "export", |command| {
        command.arg("--artifacts").arg(context.artifacts());
        if let Some(format) = format {
            command.args(["--format", format]);
        }
        if let Some(quantize) = quantize {
            command.args(["--quantize", quantize]);
        }
        if let Some(words) = words {
            command.arg("--words").arg(words.to_string());
        }
        if let Some(licence) = licence {
            command.args(["--licence", licence]);
        }
        if *uncalibrated {
            command.arg("--uncalibrated");
        }
        if context.json {
            command.arg("--json");
        }
        command.arg("--").arg(run.as_str()).arg(file);
    })
}

/// Runs a program to its end.
fn spawn(
    context: Context<'_>,
    package: &str,
    arguments: impl Fn(&mut Command),
) -> Result<std::process::ExitCode> {
    let Context { root, store, .. } = context;
    let start = |program: &Path| {
        let mut command = Command::new(program);
        arguments(&mut command);
        command.spawn()
    };
    ended(Binaries::new(root, "cpu", &[package], &store.index).spawn(package, None, start)?)
}
