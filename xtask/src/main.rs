//! `cargo xtask`: runs the graph, says what is stale and why, and keeps the cache.
//!
//! It spawns the stages' binaries and links none of them, so it builds in seconds, and a run
//! that finds everything up to date answers at once.

mod bench;
mod binaries;
mod cargo;
mod commit;
mod compare;
mod config;
mod device;
mod graph;
mod interrupt;
#[cfg(test)]
#[allow(clippy::expect_used, clippy::indexing_slicing)]
mod model;
mod pipeline;
mod predict;
mod recipe;
mod remote;
mod session;
mod shared;
mod spawn;
mod status;
mod storage;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use cache::Index;
use clap::{Parser, Subcommand};
use config::Config;
use failure::{Exit, Failure, Result};

/// What is run where nobody says.
const DEFAULT_PROFILE: &str = "sample";

/// News headlines to trained nets: 100 NLP exercises, problems 70 to 79
#[derive(Parser)]
#[command(name = "knockline", bin_name = "cargo xtask", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// The profile: a file of profiles/, over pipeline.toml
    #[arg(long, global = true, default_value = DEFAULT_PROFILE, value_name = "NAME")]
    profile: String,
    /// Set an option, over the profile: --set train.mlp.lr=0.01
    #[arg(long, global = true, value_name = "NODE.OPTION=VALUE")]
    set: Vec<String>,
    /// The folder of the artifacts [default: artifacts in the workspace]
    #[arg(long, global = true, value_name = "DIR")]
    artifacts: Option<PathBuf>,
    /// One JSON object a line on stdout
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Bring the nodes up to date
    Pipeline(pipeline::Selection),
    /// Which results are fresh, stale or missing, and why
    Status {
        /// Only this node, with every reason
        node: Option<String>,
        /// cpu, cuda, cuda:K, or auto: a GPU where there is one
        #[arg(long, default_value = "cpu", value_name = "DEVICE", value_parser = device::parse)]
        device: String,
        /// Exit with status 1 if a result is stale or missing
        #[arg(long)]
        check: bool,
        /// Read every file again, whatever its time stamps say
        #[arg(long)]
        paranoid: bool,
    },
    /// Show the graph
    Graph {
        /// How
        #[arg(long, value_enum, default_value = "text")]
        format: graph::Format,
    },
    /// Build the programs and copy them into a folder: DIR/xtask runs the pipeline of the same checkout without cargo
    Programs {
        /// The folder
        dir: PathBuf,
    },
    /// Classify headlines with a trained run, taken as it is
    Predict(predict::Arguments),
    /// Show training runs beside each other: the options in which they differ, their figures and times
    Compare(compare::Arguments),
    /// Keys of results, and the care of what is kept
    #[command(subcommand)]
    Cache(Cache),
    /// The benchmarks, each figure beside its peers': single, multi, vectors, gzip, ingest, stages, predict, whole, growth
    Bench {
        /// Names of benchmarks, and options of bench/run.py: --archive ZIP --vectors FILE --rounds N …
        #[arg(value_name = "NAME", trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

#[derive(Subcommand)]
enum Cache {
    /// A node's recipe key: what a CI job asks its cache for
    Key {
        /// The node
        node: String,
        /// cpu, cuda, cuda:K, or auto: a GPU where there is one
        #[arg(long, default_value = "cpu", value_name = "DEVICE", value_parser = device::parse)]
        device: String,
    },
    /// Write the current results of nodes into one file, for the next CI job
    Export {
        /// The file
        file: PathBuf,
        /// The nodes; without any, every node that has a result
        #[arg(value_name = "NODE")]
        nodes: Vec<String>,
    },
    /// Take the results out of such a file, every digest checked
    Import {
        /// The file
        file: PathBuf,
    },
    /// Put current results into the remote of [cache]
    Push {
        /// The nodes; without any, every node that has a result
        #[arg(value_name = "NODE")]
        nodes: Vec<String>,
        /// Put also what is there already, as it may be damaged
        #[arg(long)]
        replace: bool,
    },
    /// Fetch the results that are wanted and not here from the remote of [cache], and run nothing
    Pull {
        /// The nodes; without any, all
        #[arg(value_name = "NODE")]
        nodes: Vec<String>,
        /// cpu, cuda, cuda:K, or auto: a GPU where there is one
        #[arg(long, default_value = "cpu", value_name = "DEVICE", value_parser = device::parse)]
        device: String,
    },
    /// Reread every result and set aside what is damaged
    Verify,
    /// Drop what no current result needs: earlier results and unfinished runs; list what was set aside
    Gc {
        /// Say how much that is, and drop nothing
        #[arg(long)]
        dry_run: bool,
        /// Drop also what was set aside: damaged results, and files that were not of a result
        #[arg(long)]
        aside: bool,
    },
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            let json = std::env::args().any(|argument| argument == "--json");
            if json && e.use_stderr() {
                let what = e.to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
                return Failure::usage(what, "command line", "`cargo xtask help` shows the commands").report(json);
            }
            e.exit();
        }
    };
    match run(&cli) {
        Ok(code) => code,
        Err(failure) => failure.report(cli.json),
    }
}

fn run(cli: &Cli) -> Result<ExitCode> {
    let root = workspace()?;
    stage::machine::threads()?;
    let artifacts = match &cli.artifacts {
        Some(dir) => std::path::absolute(dir).map_err(|e| Failure::io("find", dir, &e))?,
        None => root.join("artifacts"),
    };
    let config = || Config::read(&root, &cli.profile, &cli.set);
    let done = match &cli.command {
        Command::Predict(arguments) => {
            let as_described = !cli.set.is_empty() || cli.profile != DEFAULT_PROFILE;
            return predict::run(&root, &config()?, as_described, &artifacts, arguments, cli.json);
        }
        Command::Compare(arguments) => {
            let store = cache::Store::open(&artifacts);
            let done = compare::run(&config()?, &store, arguments, cli.json);
            if artifacts.join(".knockline").exists() {
                store.index.save();
            }
            done
        }
        Command::Pipeline(selection) => pipeline::run(&root, &config()?, &artifacts, selection, cli.json),
        Command::Status { node, device, check, paranoid } => {
            device::check(device)?;
            let store = cache::Store::open(&artifacts).paranoid(*paranoid);
            let fresh = status::run(&root, &config()?, &store, node.as_deref(), device, cli.json)?;
            return Ok(if fresh || !check { Exit::Done } else { Exit::Failed }.into());
        }
        Command::Programs { dir } => {
            let dir = std::path::absolute(dir).map_err(|e| Failure::io("find", dir, &e))?;
            binaries::copy_all(&root, &dir)
        }
        Command::Bench { arguments } => return bench::run(&root, arguments),
        Command::Graph { format } => print(&config()?.graph.show(*format)),
        Command::Cache(Cache::Export { file, nodes }) => return storage::export(&root, &config()?, &artifacts, file, nodes, cli.json),
        Command::Cache(Cache::Import { file }) => return storage::import(&root, &artifacts, file, cli.json),
        Command::Cache(Cache::Push { nodes, replace }) => shared::push(&root, &config()?, &artifacts, nodes, *replace, cli.json),
        Command::Cache(Cache::Pull { nodes, device }) => {
            device::check(device)?;
            shared::pull(&root, &config()?, &artifacts, nodes, device, cli.json)
        }
        Command::Cache(Cache::Verify) => storage::verify(&root, &artifacts, cli.json),
        Command::Cache(Cache::Gc { dry_run, aside }) => storage::collect(&artifacts, *dry_run, *aside, cli.json),
        Command::Cache(Cache::Key { node, device }) => {
            device::check(device)?;
            let config = config()?;
            let recipes = recipe::Recipes::new(&root, &config, device, &Index::default())?;
            config.graph.called(node)?.into_iter().try_for_each(|node| {
                let key = recipes.recipe(node)?;
                let line = if cli.json { serde_json::json!({ "node": node.name, "key": key }).to_string() } else { key.to_string() };
                print(&format!("{line}\n"))
            })
        }
    };
    done.map(|()| Exit::Done.into())
}

fn print(text: &str) -> Result<()> {
    std::io::stdout().write_all(text.as_bytes()).map_err(|e| Failure::failed(e, "stdout", "check where the output goes"))
}

/// The workspace: cargo says where this package lies; without cargo it is looked for upwards.
fn workspace() -> Result<PathBuf> {
    if let Some(package) = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).filter(|p| p.ends_with("xtask"))
        && let Some(root) = package.parent()
    {
        return Ok(root.to_owned());
    }
    let here = std::env::current_dir().unwrap_or_default();
    let root = here.ancestors().find(|dir| dir.join("pipeline.toml").exists() && dir.join("xtask").exists()).map(Path::to_owned);
    root.ok_or_else(|| Failure::usage("this is no knockline workspace", here.display(), "run it in a checkout, as `cargo xtask`"))
}
