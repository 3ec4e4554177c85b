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
    /// The training run to use [default: train.best where there is a result of it, else train.mlp]
    #[arg(long, value_name = "NODE")]
    run: Option<String>,
    /// How many categories to show, the most likely first
    #[arg(long, value_name = "K", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    top_k: u32,
}

/// Runs the command; the program prints each answer as soon as it is known. For `as_described`, see
/// [`usable`].
pub fn run(
    context: Context<'_>,
    as_described: bool,
    arguments: &PredictArguments,
) -> Result<std::process::ExitCode> {
    let Context { root, store, json, .. } = context;
    let artifacts = context.artifacts();
    let PredictArguments { texts, file, run, top_k } = arguments;
    let run = usable(context, as_described, run.as_deref())?;
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

/// The run that the user names, or the one that is used if none is named, once it is certain that its
/// result and those that it needs are undamaged and fit together.
///
/// `as_described` is whether the user named a configuration; if so, a warning tells which results
/// belong to another one.
pub fn usable(context: Context<'_>, as_described: bool, run: Option<&str>) -> Result<NodeName> {
    let Context { root, config, store, .. } = context;
    let artifacts = context.artifacts();
    let run = find(config, store, &named(config, store, run)?)?;
    let recipes = Recipes::new(root, config, "cpu", &store.index)?;
    let used = check(store, config.remote().is_some(), artifacts, &run)?;
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
    Ok(run)
}

/// The name of the run to use: the user's, or the first of these with a result, or the first that the
/// configuration has.
fn named(config: &Config, store: &Store, run: Option<&str>) -> Result<String> {
    const DEFAULTS: [&str; 2] = ["train.best", "train.mlp"];
    if let Some(run) = run {
        return Ok(run.to_owned());
    }
    let has_result = |name: &&str| {
        NodeName::try_from(*name)
            .is_ok_and(|name| matches!(Manifest::read(&store.current(&name)), Ok(Some(_))))
    };
    let found = DEFAULTS.iter().find(|name| has_result(name));
    let found = found.or_else(|| DEFAULTS.iter().find(|name| config.graph.find(name).is_some()));
    found.map(|name| (*name).to_owned()).ok_or_else(|| {
        Failure::usage(
            "no training run is named, and there is no `train.best`",
            "--run",
            "name a run; cargo xtask graph shows them",
        )
    })
}

/// The training run that the user names: one of the configuration, or one whose result is here.
fn find(config: &Config, store: &Store, run: &str) -> Result<NodeName> {
    let mut known: Vec<NodeName> =
        config.graph.iter().filter(|node| node.is_run).map(|node| node.name.clone()).collect();
    let is_run = |name: &NodeName| {
        config.graph.find(name).is_none()
            && matches!(Manifest::read(&store.current(name)), Ok(Some(m)) if m.digest("predictions.parquet").is_some())
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

/// Checks that the run, its members if it is a stack, and what makes their features exist and are
/// undamaged, and that each was made from the others: with features from other word vectors, answers
/// would only look like answers. Returns all of them.
fn check(
    store: &Store,
    is_shared: bool,
    artifacts: &Path,
    run: &NodeName,
) -> Result<Vec<Manifest>> {
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
    // The run comes first: the command that makes it makes the others, too.
    let mut used = vec![get(run)?];
    let mut next = 0;
    while let Some(run) = used.get(next).cloned() {
        next += 1;
        for (member, file) in inputs(&run) {
            let is_known = used.iter().any(|of| of.node == member);
            if !member.starts_with("train.") || is_known {
                continue;
            }
            let made = get(&named_node(member)?)?;
            if !is_made_from(&run, &made, file) {
                return Err(other(
                    &run,
                    artifacts,
                    format_args!("results of `{member}` than it now has"),
                ));
            }
            used.push(made);
        }
    }
    let runs = used.len();
    let reads = |used: &[Manifest], node: &str| {
        used.iter().take(runs).any(|run| inputs(run).any(|(of, _)| of == node))
    };
    if reads(&used, "ngrams") {
        let ngrams = get(&named_node("ngrams")?)?;
        let wrong = used.iter().find(|run| {
            inputs(run).any(|(of, file)| of == "ngrams" && !is_made_from(run, &ngrams, file))
        });
        if let Some(run) = wrong {
            return Err(other(run, artifacts, format_args!("features than `ngrams` now has")));
        }
        used.push(ngrams);
    }
    // Every program that answers reads the word vectors, if only to tell which words are known.
    let embed = get(&named_node("embed")?)?;
    for run in used.iter().take(runs) {
        // Each has the vectors' values; other vectors can give the same ids of tokens.
        for (node, file) in [("tensors", "train.safetensors"), ("tokens", "embeddings.safetensors")]
        {
            if inputs(run).any(|(of, _)| of == node) {
                check_vectors(store, artifacts, run, (node, file), &embed)?;
            }
        }
        if inputs(run).any(|(of, file)| of == "embed" && !is_made_from(run, &embed, file)) {
            return Err(other(run, artifacts, format_args!("word vectors than `embed` now has")));
        }
    }
    used.push(embed);
    Ok(used)
}

/// The files that a result was made from, each with its node.
fn inputs(of: &Manifest) -> impl Iterator<Item = (&str, &str)> {
    of.ingredients.names().filter_map(|name| name.strip_prefix("input ")?.split_once('/'))
}

/// Whether `of` was made from this `file` of `made`.
fn is_made_from(of: &Manifest, made: &Manifest, file: &str) -> bool {
    of.ingredients.get(&format!("input {}/{file}", made.node))
        == made.digest(file).map(ToString::to_string).as_deref()
}

fn named_node(name: &str) -> Result<NodeName> {
    NodeName::try_from(name)
        .map_err(|e| Failure::usage(e, "predict", "this is a bug; please report it"))
}

/// Checks that a run on word vectors, which it has from this file of a node, was trained on those of
/// `embed`.
fn check_vectors(
    store: &Store,
    artifacts: &Path,
    run: &Manifest,
    (node, file): (&str, &str),
    embed: &Manifest,
) -> Result<()> {
    // If no result of the node was ever seen, nothing connects the two.
    let seen = store.seen(&named_node(node)?);
    // Other vectors can give the same features, so that several results may connect the two.
    let is_read = |made: &&Manifest| is_made_from(run, made, file);
    let between: Vec<&Manifest> = seen.iter().filter(is_read).collect();
    let is_of_embed = |made: &&Manifest| {
        ["vocabulary.parquet", "vectors.safetensors", "tokenizer.json"]
            .iter()
            .all(|file| is_made_from(made, embed, file))
    };
    match &between[..] {
        _ if seen.is_empty() || between.iter().any(is_of_embed) => Ok(()),
        [] => Err(other(run, artifacts, format_args!("features than `{node}` now has"))),
        _ => Err(other(run, artifacts, format_args!("word vectors than `embed` now has"))),
    }
}

fn other(run: &Manifest, artifacts: &Path, what: std::fmt::Arguments<'_>) -> Failure {
    let remedy = format!(
        "bring it up to date: {}, with the options that you want",
        make(artifacts, &run.node)
    );
    Failure::usage(
        format_args!("`{}` was trained on other {what}", run.node),
        artifacts.display(),
        remedy,
    )
}

/// The command that makes a node's result in a folder of artifacts.
fn make(artifacts: &Path, node: &str) -> String {
    format!("cargo xtask pipeline --to {node} --artifacts {}", artifacts.display())
}

/// A node's current result, every file of which is undamaged.
fn sound(store: &Store, artifacts: &Path, name: &NodeName) -> Result<Manifest> {
    let folder = store.current(name);
    let remedy = format!("make it: {}, with the same --profile and --set", make(artifacts, name));
    let Some(manifest) = Manifest::read(&folder)? else {
        return Err(Failure::usage(
            format_args!("there is no result of `{name}` to predict with"),
            folder.display(),
            remedy,
        ));
    };
    let manifest = store.trusted(manifest, &remedy)?;
    match manifest.check(&folder, &store.index) {
        Some(problem) => Err(Failure::input(problem, folder.display(), remedy)),
        None => Ok(manifest),
    }
}
