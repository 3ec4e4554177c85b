//! `cargo xtask cache export` and `import`: results in a file, for the next CI job.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, ExitCode};

use cache::{Manifest, NodeName, Store};
use failure::{Failure, Result};

use crate::binaries::{Binaries, ended};
use crate::context::Context;
use crate::status;

/// Exports the current results of `nodes`, or of every node that has one.
pub fn export(context: Context<'_>, file: &Path, nodes: &[String]) -> Result<ExitCode> {
    let Context { root, config, store, json } = context;
    let chosen = with_results(context, nodes)?;
    let is_there = |name: &&NodeName| {
        config.remote().is_some_and(|r| store.elsewhere(&r.remote, name).is_some())
    };
    let others = config.graph.iter().map(|n| &n.name).filter(|name| !chosen.contains(name));
    let left_out: Vec<&str> = others.filter(is_there).map(NodeName::as_str).collect();
    if nodes.is_empty() && !left_out.is_empty() {
        let names = left_out.join(" ");
        eprintln!(
            "warning: left out of the bundle, as only the remote has them: {names}; `cargo xtask cache pull {names}` fetches them"
        );
    }
    warn_of_stale(context, &chosen, "exported")?;
    let mut args: Vec<&OsStr> = vec!["export".as_ref(), file.as_os_str()];
    args.extend(chosen.iter().map(|name| OsStr::new(name.as_str())));
    bundle(root, store, &args, json)
}

/// Warns of stale results among `nodes`: their recipients would take them for current ones.
pub fn warn_of_stale(context: Context<'_>, nodes: &[NodeName], handed_on: &str) -> Result<()> {
    for state in status::states(context, "cpu")?
        .iter()
        .filter(|s| s.state == "stale" && nodes.contains(&s.node.name))
    {
        let (node, why) = (&state.node.name, state.reasons.first().map_or("", String::as_str));
        eprintln!("warning: `{node}` is stale, and is {handed_on} as it is: {why}");
    }
    Ok(())
}

/// The named nodes or, if none are named, every node that has a result.
pub fn with_results(context: Context<'_>, nodes: &[String]) -> Result<Vec<NodeName>> {
    let (graph, store) = (&context.config.graph, context.store);
    let mut called = Vec::new();
    for name in nodes {
        called.extend(graph.called(name)?.into_iter().map(|node| &node.name));
    }
    // In the graph's order, so that the order of the names does not change the bundle.
    let has_result = |name: &NodeName| matches!(Manifest::read(&store.current(name)), Ok(Some(_)));
    let wanted =
        |name: &&NodeName| if nodes.is_empty() { has_result(name) } else { called.contains(name) };
    let chosen: Vec<NodeName> =
        graph.iter().map(|node| &node.name).filter(wanted).cloned().collect();
    if chosen.is_empty() {
        let remedy = "name the folder with --artifacts, or make one: cargo xtask pipeline";
        return Err(Failure::usage(
            "there are no results here",
            context.artifacts().display(),
            remedy,
        ));
    }
    Ok(chosen)
}

/// Imports the results of a bundle.
pub fn import(root: &Path, store: &Store, file: &Path, json: bool) -> Result<ExitCode> {
    bundle(root, store, &["import".as_ref(), file.as_os_str()], json)
}

/// Runs the program `bundle`, so that xtask itself needs no compression library.
fn bundle(root: &Path, store: &Store, args: &[&OsStr], json: bool) -> Result<ExitCode> {
    let start = |program: &Path| {
        let mut command = Command::new(program);
        command.arg("--artifacts").arg(store.root()).args(args);
        if json {
            command.arg("--json");
        }
        command.spawn()
    };
    ended(Binaries::new(root, "cpu", &["bundle"], &store.index).spawn("bundle", None, start)?)
}
