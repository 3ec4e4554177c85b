//! `cargo xtask predict`: classifies headlines with a trained run.

use std::path::{Path, PathBuf};
use std::process::Command;

use cache::{Manifest, NodeName, Store};
use failure::{Failure, Result};
use stage::options::suggest;

use crate::binaries::{Binaries, ended};
use crate::config::Config;
use crate::context::Context;
use crate::recipe::Recipes;

/// What to classify, and how.
#[derive(clap::Args)]
pub struct PredictArguments {
    /// The headlines, one per argument; without any, or with `-` alone, they are read from
    /// stdin, one per line
    #[arg(value_name = "TEXT")]
    texts: Vec<String>,
    /// Read the headlines from this file, one per line
    #[arg(long, value_name = "PATH", conflicts_with = "texts")]
    file: Vec<PathBuf>,
    /// The training run to use
    #[arg(long, value_name = "NODE", default_value = "train.mlp")]
    run: String,
    /// How many categories to show, the most likely first
    #[arg(long, value_name = "K", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    top_k: u32,
}

/// Runs the command; the program prints each answer as soon as it is known.
///
/// `as_described` is whether the user named a configuration; if so, a warning tells which results
/// belong to another one.
pub fn run(
    context: Context<'_>,
    as_described: bool,
    arguments: &PredictArguments,
) -> Result<std::process::ExitCode> {
    let Context { root, config, store, json } = context;
    let artifacts = context.artifacts();
    let PredictArguments { texts, file, run, top_k } = arguments;
    let run = &find(config, store, run)?;
    let recipes = Recipes::new(root, config, "cpu", &store.index)?;
    let used = check(store, config.remote().is_some(), artifacts, run)?;
    for manifest in used.iter().filter(|_| as_described) {
        let node = config.graph.find(&manifest.node);
        if node
            .is_none_or(|node| recipes.recipe(node).is_ok_and(|recipe| recipe != manifest.recipe))
        {
            eprintln!(
                "warning: `{}` in {} was made with other options or sources; it is used as it is",
                manifest.node,
                artifacts.display()
            );
        }
    }
    if artifacts.join(".knockline").exists() {
        store.index.save();
    }
    let start = |program: &Path| {
        let mut command = Command::new(program);
        command
            .arg("--artifacts")
            .arg(artifacts)
            .arg("--run")
            .arg(run.as_str())
            .arg("--top-k")
            .arg(top_k.to_string());
        if json {
            command.arg("--json");
        }
        command
            .args(file.iter().flat_map(|path| [Path::new("--file"), path]))
            .arg("--")
            .args(texts)
            .spawn()
    };
    ended(Binaries::new(root, "cpu", &["predict"], &store.index).spawn("predict", None, start)?)
}

/// The training run that the user names: one of the configuration, or one whose result is here.
fn find(config: &Config, store: &Store, run: &str) -> Result<NodeName> {
    let mut known: Vec<NodeName> =
        config.graph.iter().filter(|node| node.is_run).map(|node| node.name.clone()).collect();
    let is_run = |name: &NodeName| {
        config.graph.find(name).is_none()
            && matches!(Manifest::read(&store.current(name)), Ok(Some(m)) if m.digest("model.safetensors").is_some())
    };
    known.extend(store.nodes().into_iter().filter(is_run));
    if let Some(found) = known.iter().find(|name| **name == *run) {
        return Ok(found.clone());
    }
    let names: Vec<&str> = known.iter().map(NodeName::as_str).collect();
    let remedy = format!("use one of {}", names.join(", "));
    if known.iter().any(|name| name.is_called(run)) {
        let what = format_args!("`{run}` is a matrix of runs, and one is needed");
        return Err(Failure::usage(what, "--run", remedy));
    }
    let what = format_args!("`{run}` is not a training run{}", suggest(run, names.iter().copied()));
    Err(Failure::usage(what, "--run", remedy))
}

/// Checks that the run and the word vectors exist and are undamaged, and that the run was trained
/// on these vectors: with features from other vectors, answers would only look like answers.
fn check(
    store: &Store,
    is_shared: bool,
    artifacts: &Path,
    run: &NodeName,
) -> Result<[Manifest; 2]> {
    let fixed = |name: &str| {
        NodeName::try_from(name)
            .map_err(|e| Failure::usage(e, "predict", "this is a bug; please report it"))
    };
    let get = |name: &NodeName| {
        sound(store, artifacts, name).map_err(|mut failure| {
            if is_shared {
                let pull = format!("cargo xtask cache pull embed {run} --artifacts {}", artifacts.display());
                failure.remedy =
                    format!("if the remote has it, fetch it: {pull}, with the same --profile and --set; or {}", failure.remedy);
            }
            failure
        })
    };
    // The run comes first: the command that makes it makes the word vectors, too.
    let run = get(run)?;
    let embed = get(&fixed("embed")?)?;
    let same = |of: &Manifest, node: &str, made: &Manifest, file: &str| {
        of.ingredients.get(&format!("input {node}/{file}"))
            == made.digest(file).map(ToString::to_string).as_deref()
    };
    // If no result of `tensors` was ever seen, nothing connects the two.
    let seen = store.seen(&fixed("tensors")?);
    // Other vectors can give the same features, so that several results of `tensors` may connect
    // the two.
    let between: Vec<&Manifest> =
        seen.iter().filter(|tensors| same(&run, "tensors", tensors, "train.safetensors")).collect();
    let is_of_embed = |tensors: &&Manifest| {
        ["vocabulary.parquet", "vectors.safetensors", "tokenizer.json"]
            .iter()
            .all(|file| same(tensors, "embed", &embed, file))
    };
    let what = match &between[..] {
        _ if seen.is_empty() || between.iter().any(is_of_embed) => return Ok([embed, run]),
        [] => "features than `tensors` now has",
        _ => "word vectors than `embed` now has",
    };
    let remedy = format!(
        "bring it up to date: {}, with the options that you want",
        make(artifacts, &run.node)
    );
    Err(Failure::usage(
        format_args!("`{}` was trained on other {what}", run.node),
        artifacts.display(),
        remedy,
    ))
}

/// The command that makes a node's result in a folder of artifacts.
fn make(artifacts: &Path, node: &str) -> String {
    format!("cargo xtask pipeline --to {node} --artifacts {}", artifacts.display())
}

/// A node's current result, every file of which is undamaged.
fn sound(store: &Store, artifacts: &Path, name: &NodeName) -> Result<Manifest> {
    let folder = store.current(name);
    let remedy = format!("make it: {}", make(artifacts, name));
    let Some(manifest) = Manifest::read(&folder)? else {
        return Err(Failure::usage(
            format_args!("there is no result of `{name}` to predict with"),
            folder.display(),
            remedy,
        ));
    };
    match manifest.check(&folder, &store.index) {
        Some(problem) => Err(Failure::input(problem, folder.display(), remedy)),
        None => Ok(manifest),
    }
}
