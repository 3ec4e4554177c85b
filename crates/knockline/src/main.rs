//! Puts a trained model to work: classifies texts, explains answers, measures a model, and says what
//! is in it.
//!
//! In: a model file that `cargo xtask model export` has written, and texts: arguments, lines, JSON
//! lines, CSV or parquet. Out: an answer for each text, in the order of the input.
//!
//! Always holds: nothing but the model file is needed; memory does not grow with the number of texts.

mod card;
mod explain;
mod info;
mod input;
mod output;
#[cfg(feature = "parquet")]
mod parquet;
mod predict;
#[cfg(feature = "serve")]
mod serve;
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
    /// Classify texts and show what each word gives to the answer, as `predict --explain` does
    Explain(predict::PredictArguments),
    /// Measure the model on labelled texts
    Test(test::TestArguments),
    /// Say what is in the model
    Info(info::InfoArguments),
    /// Answer over HTTP, and show a page
    #[cfg(feature = "serve")]
    Serve(serve::ServeArguments),
    /// Answer over HTTP (this program was built without it: add --features serve)
    #[cfg(not(feature = "serve"))]
    Serve(NoServer),
    /// Write a model card, as Hugging Face shows it
    Card(card::CardArguments),
}

/// The arguments of a command that is not built.
#[cfg(not(feature = "serve"))]
#[derive(clap::Args)]
struct NoServer {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    _arguments: Vec<String>,
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
        Command::Explain(mut arguments) => {
            arguments.explain = true;
            (predict::run(&arguments), arguments.json)
        }
        Command::Test(arguments) => (test::run(&arguments), arguments.json),
        Command::Info(arguments) => (info::run(&arguments), arguments.json),
        #[cfg(feature = "serve")]
        Command::Serve(arguments) => (serve::run(&arguments), false),
        #[cfg(not(feature = "serve"))]
        Command::Serve(_) => (Err(no_server()), false),
        Command::Card(arguments) => (card::run(&arguments), false),
    };
    match result {
        Ok(()) => Exit::Done.into(),
        Err(failure) => failure.report(json),
    }
}

#[cfg(not(feature = "serve"))]
fn no_server() -> failure::Failure {
    failure::Failure::usage(
        "this knockline was built without the server",
        "serve",
        "build it with: cargo build -p knockline --features serve",
    )
}
