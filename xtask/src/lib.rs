//! `cargo xtask`: runs the graph, reports what is stale and why, and maintains the cache.
//!
//! It spawns the stages' binaries and links none of them, so it builds in seconds, and a run
//! that finds everything up to date answers at once.

mod bench;
mod binaries;
mod cache;
mod cargo;
mod commit;
mod compare;
pub mod config;
mod context;
pub mod declared;
mod device;
mod evaluate;
mod executor;
mod export;
mod fetch;
pub mod graph;
mod interrupt;
mod line;
#[cfg(test)]
#[allow(clippy::expect_used, clippy::indexing_slicing)]
mod model;
mod pipeline;
mod predict;
mod recipe;
mod records;
mod runlog;
mod selection;
mod session;
mod spawn;
mod status;
mod summary;
mod tune;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use ::cache::Store;
use clap::{Parser, Subcommand};
use config::Config;
use context::Context;
use failure::{Exit, Failure, Result};

/// The default of `--profile`.
const DEFAULT_PROFILE: &str = "sample";

/// News headlines to trained nets: 100 NLP exercises, problems 70 to 79
#[derive(Parser)]
#[command(name = "knockline", bin_name = "cargo xtask", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// The profile: a file in profiles/, whose options override pipeline.toml
    #[arg(long, global = true, default_value = DEFAULT_PROFILE, value_name = "NAME")]
    profile: String,
    /// Set an option, overriding the profile: --set train.mlp.lr=0.01
    #[arg(long, global = true, value_name = "NODE.OPTION=VALUE")]
    set: Vec<String>,
    /// The folder for artifacts [default: artifacts in the workspace]
    #[arg(long, global = true, value_name = "DIR")]
    artifacts: Option<PathBuf>,
    /// Print one JSON object per line on stdout
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Bring the nodes up to date
    Pipeline(selection::Selection),
    /// Show which results are fresh, stale or missing, and why
    Status {
        /// Show only this node, with every reason
        node: Option<String>,
        /// cpu, cuda, cuda:K, or auto: a GPU if there is one, else the CPU
        #[arg(long, default_value = "cpu", value_name = "DEVICE", value_parser = device::parse)]
        device: String,
        /// Exit with status 1 if a result is stale or missing
        #[arg(long)]
        check: bool,
        /// Read every file again, even if its time stamps are unchanged
        #[arg(long)]
        paranoid: bool,
    },
    /// Show the graph
    Graph {
        /// The output format [default: text, or json with --json]
        #[arg(long, value_enum)]
        format: Option<graph::GraphFormat>,
    },
    /// Build the programs and copy them into a folder: DIR/xtask runs the pipeline of the same
    /// checkout without cargo
    Programs {
        /// The folder to copy them into
        dir: PathBuf,
    },
    /// Classify headlines with a trained run, without bringing it up to date
    Predict(predict::PredictArguments),
    /// Write a trained run as one file, or say what is in such a file
    #[command(subcommand)]
    Model(export::ModelCommand),
    /// Compare training runs: the options in which they differ, their metrics and times
    Compare(compare::CompareArguments),
    /// Print the results as Markdown, and how they differ from those of another checkout
    Summary(summary::SummaryArguments),
    /// Train runs on several splits of the data, and show the spread of their accuracy and how they
    /// differ
    Evaluate(evaluate::EvaluateArguments),
    /// Try options of a training run by cross-validation on train and valid, as [tune.NAME] says
    Tune(tune::TuneArguments),
    /// Print keys, move results between machines, and check and clean up the store
    #[command(subcommand)]
    Cache(CacheCommand),
    /// Run the command line in a file, in the job that was submitted for it
    #[command(hide = true)]
    Job {
        /// The file
        file: PathBuf,
    },
    /// Run the benchmarks, each beside its peers: single, multi, vectors, gzip, ingest, stages,
    /// predict, whole, growth, classifiers
    Bench {
        /// Names of benchmarks and options of bench/run.py: --archive ZIP --vectors FILE --rounds
        /// N …
        #[arg(value_name = "NAME", trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

#[derive(Subcommand)]
enum CacheCommand {
    /// Print a node's recipe key, under which a CI job looks in its cache
    Key {
        /// The node
        node: String,
        /// cpu, cuda, cuda:K, or auto: a GPU if there is one, else the CPU
        #[arg(long, default_value = "cpu", value_name = "DEVICE", value_parser = device::parse)]
        device: String,
    },
    /// Write the current results of nodes into a bundle, for the next CI job
    Export {
        /// The bundle to write
        file: PathBuf,
        /// The nodes [default: every node that has a result]
        #[arg(value_name = "NODE")]
        nodes: Vec<String>,
    },
    /// Take the results out of a bundle, checking every digest
    Import {
        /// The bundle to read
        file: PathBuf,
    },
    /// Upload current results to the remote of [cache]
    Push {
        /// The nodes [default: every node that has a result]
        #[arg(value_name = "NODE")]
        nodes: Vec<String>,
        /// Also replace results that the remote already has, in case they are damaged
        #[arg(long)]
        replace: bool,
    },
    /// Fetch wanted results that are not here from the remote of [cache], without running anything
    Pull {
        /// The nodes [default: all]
        #[arg(value_name = "NODE")]
        nodes: Vec<String>,
        /// cpu, cuda, cuda:K, or auto: a GPU if there is one, else the CPU
        #[arg(long, default_value = "cpu", value_name = "DEVICE", value_parser = device::parse)]
        device: String,
    },
    /// Read every result again and set aside damaged ones
    Verify,
    /// Drop earlier results and unfinished runs, which no current result needs, and list what was
    /// set aside
    Gc {
        /// Show how much would be dropped, and drop nothing
        #[arg(long)]
        dry_run: bool,
        /// Also drop what was set aside: damaged results, and files that belong to no result
        #[arg(long)]
        aside: bool,
        /// Keep the N newest earlier results of each node
        #[arg(long, value_name = "N")]
        keep: Option<usize>,
        /// Keep what is younger than this, such as 30d, 12h or 90min
        #[arg(long, value_name = "AGE")]
        older: Option<::cache::Age>,
        /// Keep the newest earlier results that have this size together, such as 2GB
        #[arg(long, value_name = "SIZE")]
        max_size: Option<::cache::Bytes>,
    },
}

/// Runs the command line.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            let json = std::env::args().any(|argument| argument == "--json");
            if json && e.use_stderr() {
                let what = e
                    .to_string()
                    .lines()
                    .next()
                    .unwrap_or_default()
                    .trim_start_matches("error: ")
                    .to_owned();
                return Failure::usage(
                    what,
                    "command line",
                    "run `cargo xtask help` to see the commands",
                )
                .report(json);
            }
            e.exit();
        }
    };
    let json = cli.json;
    let done = match &cli.command {
        Command::Job { file } => executor::run_job(file, in_job),
        _ => run(cli),
    };
    match done {
        Ok(code) => code,
        Err(failure) => failure.report(json),
    }
}

/// Runs the command line of a job.
fn in_job(arguments: Vec<String>) -> Exit {
    let cli = match Cli::try_parse_from(std::iter::once("xtask".to_owned()).chain(arguments)) {
        Ok(cli) => cli,
        Err(e) => {
            eprintln!("{e}");
            return Exit::Usage;
        }
    };
    let json = cli.json;
    match run(cli) {
        Ok(_) => Exit::Done,
        Err(failure) => {
            let exit = failure.exit;
            let _ = failure.report(json);
            exit
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode> {
    let Cli { mut command, profile, set, artifacts, json } = cli;
    let root = &workspace()?;
    stage::machine::threads()?;
    let artifacts = match &artifacts {
        Some(dir) => std::path::absolute(dir).map_err(|e| Failure::io("find", dir, &e))?,
        None => root.join("artifacts"),
    };
    if let Some(device) = command.device() {
        let (found, missing) = device::resolve(device, root);
        if let Some(missing) = missing {
            eprintln!("warning: there is a GPU, but {missing}; --device auto uses the CPU");
        }
        *device = found;
    }
    let store = &Store::open(&artifacts).paranoid(command.is_paranoid());
    let done = match &command {
        Command::Programs { dir } => {
            let dir = std::path::absolute(dir).map_err(|e| Failure::io("find", dir, &e))?;
            binaries::copy_all(root, &dir, false)
        }
        Command::Bench { arguments } => return bench::run(root, arguments),
        Command::Evaluate(arguments) => evaluate::run(root, store, &profile, &set, json, arguments),
        Command::Tune(arguments) => tune::run(root, store, &profile, &set, json, arguments),
        Command::Cache(CacheCommand::Import { file }) => {
            return cache::bundle::import(root, store, file, json);
        }
        Command::Cache(CacheCommand::Verify) => cache::maintain::verify(root, store, json),
        other => {
            let mut config = Config::read(root, &profile, &set)?;
            let neutral = || Config::read(root, &profile, &records::neutral(&set));
            records::show(root, &mut config, store, neutral);
            let config = &config;
            store.set_trust(config.trust()?);
            let is_described = !set.is_empty() || profile != DEFAULT_PROFILE;
            return configured(other, Context { root, config, store, json }, is_described);
        }
    };
    done.map(|()| Exit::Done.into())
}

/// Runs a command that needs the configuration. `is_described` is whether the command line names
/// another profile or sets an option.
fn configured(command: &Command, context: Context<'_>, is_described: bool) -> Result<ExitCode> {
    let Context { root, config, store, json } = context;
    let done = match command {
        Command::Pipeline(selection) => return pipeline::run(context, selection),
        Command::Predict(arguments) => return predict::run(context, is_described, arguments),
        Command::Model(command) => return export::run(context, is_described, command),
        Command::Compare(arguments) => compare::run(context, arguments),
        Command::Summary(arguments) => summary::run(context, arguments),
        Command::Status { node, device, check, .. } => {
            if let Some(job) = executor::jobs_here(context) {
                eprintln!("{job}");
            }
            let fresh = status::run(context, node.as_deref(), device)?;
            return Ok(if fresh || !check { Exit::Done } else { Exit::Failed }.into());
        }
        Command::Graph { format } => {
            let usual = if json { graph::GraphFormat::Json } else { graph::GraphFormat::Text };
            let workflow = || graph::snakemake::workflow(config, root, context.artifacts());
            print(&config.graph.show(format.unwrap_or(usual), workflow))
        }
        Command::Cache(CacheCommand::Gc { dry_run, aside, keep, older, max_size }) => {
            let retention = ::cache::Retention {
                newest: *keep,
                since: older.and_then(|older| SystemTime::now().checked_sub(older.0)),
                most_bytes: max_size.map(|size| size.0),
            };
            let collection = ::cache::Collection { dry_run: *dry_run, aside: *aside, retention };
            cache::maintain::collect(context, &collection)
        }
        Command::Cache(CacheCommand::Export { file, nodes }) => {
            return cache::bundle::export(context, file, nodes);
        }
        Command::Cache(CacheCommand::Push { nodes, replace }) => {
            cache::exchange::push(context, nodes, *replace)
        }
        Command::Cache(CacheCommand::Pull { nodes, device }) => {
            cache::exchange::pull(context, nodes, device)
        }
        Command::Cache(CacheCommand::Key { node, device }) => {
            let recipes = recipe::Recipes::new(root, config, device, &store.index)?;
            config.graph.called(node)?.into_iter().try_for_each(|node| {
                let key = recipes.recipe(node)?;
                let line = if json {
                    serde_json::json!({ "node": node.name, "key": key }).to_string()
                } else {
                    key.to_string()
                };
                print(&format!("{line}\n"))
            })
        }
        // `run` handles these: they need no configuration.
        Command::Programs { .. }
        | Command::Job { .. }
        | Command::Bench { .. }
        | Command::Evaluate(_)
        | Command::Tune(_)
        | Command::Cache(_) => Ok(()),
    };
    done.map(|()| Exit::Done.into())
}

impl Command {
    /// The device of a command that makes keys.
    fn device(&mut self) -> Option<&mut String> {
        match self {
            Self::Pipeline(selection) => Some(&mut selection.device),
            Self::Evaluate(arguments) => Some(&mut arguments.device),
            Self::Tune(arguments) => Some(&mut arguments.device),
            Self::Status { device, .. }
            | Self::Cache(CacheCommand::Key { device, .. } | CacheCommand::Pull { device, .. }) => {
                Some(device)
            }
            _ => None,
        }
    }

    /// Whether `--paranoid` was given.
    fn is_paranoid(&self) -> bool {
        matches!(
            self,
            Self::Pipeline(selection::Selection { paranoid: true, .. })
                | Self::Status { paranoid: true, .. }
        )
    }
}

fn print(text: &str) -> Result<()> {
    std::io::stdout()
        .write_all(text.as_bytes())
        .map_err(|e| Failure::failed(e, "stdout", "check where the output goes"))
}

/// Finds the workspace: cargo gives the folder of this package; without cargo, the current folder
/// and those above it are searched.
fn workspace() -> Result<PathBuf> {
    if let Some(package) =
        std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).filter(|p| p.ends_with("xtask"))
        && let Some(root) = package.parent()
    {
        return Ok(root.to_owned());
    }
    let here = std::env::current_dir().unwrap_or_default();
    let root = here
        .ancestors()
        .find(|dir| dir.join("pipeline.toml").exists() && dir.join("xtask").exists())
        .map(Path::to_owned);
    root.ok_or_else(|| {
        Failure::usage(
            "this is not a knockline workspace",
            here.display(),
            "run `cargo xtask` in a checkout of knockline",
        )
    })
}
