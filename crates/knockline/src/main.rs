//! Puts a trained model to work: classifies texts, explains answers, measures a model, and says what
//! is in it.
//!
//! In: a model file that `cargo xtask model export` has written, and texts: arguments, lines, JSON
//! lines, CSV or parquet. Out: an answer for each text, in the order of the input.
//!
//! Always holds: nothing but the model file is needed; memory does not grow with the number of texts.

mod card;
mod engine;
mod explain;
mod info;
mod input;
mod output;
#[cfg(feature = "parquet")]
mod parquet;
mod predict;
mod test;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use failure::Exit;

/// Classify texts with a trained model
#[derive(Parser)]
#[command(name = "knockline", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Classify texts
    Predict(predict::PredictArguments),
    /// Measure the model on labelled texts
    Test(test::TestArguments),
    /// Say what is in the model
    Info(info::InfoArguments),
    /// Write a model card, as Hugging Face shows it
    Card(card::CardArguments),
}

/// A model file.
#[derive(clap::Args)]
struct ModelArgument {
    /// The model file
    #[arg(value_name = "MODEL")]
    model: PathBuf,
}

fn main() -> ExitCode {
    let (result, json) = match Cli::parse().command {
        Command::Predict(arguments) => (predict::run(&arguments), arguments.json),
        Command::Test(arguments) => (test::run(&arguments), arguments.json),
        Command::Info(arguments) => (info::run(&arguments), arguments.json),
        Command::Card(arguments) => (card::run(&arguments), false),
    };
    match result {
        Ok(()) => Exit::Done.into(),
        Err(failure) => failure.report(json),
    }
}
