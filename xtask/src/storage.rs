//! `cargo xtask cache export`, `import`, `verify` and `gc`: the care of what is kept.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use cache::{Lock, Manifest, NodeName, Store};
use failure::{Failure, Result};
use serde_json::json;

use crate::binaries::{Binaries, ended};
use crate::config::Config;
use crate::graph::{Declared, Graph};
use crate::pipeline::size;
use crate::status;

/// The store at `artifacts` and its lock; a run in progress is waited for.
pub fn locked(artifacts: &Path) -> Result<(Store, Lock)> {
    if !artifacts.join(".knockline").exists() {
        let remedy = "name the folder with --artifacts, or make one: cargo xtask pipeline";
        return Err(Failure::usage("there are no results here", artifacts.display(), remedy));
    }
    let store = Store::open(artifacts);
    let lock = store.lock(|| eprintln!("waiting for another run in {}", artifacts.display()))?;
    Ok((store, lock))
}

/// Hands on the current results of `nodes`, or of every node that has one.
pub fn export(root: &Path, config: &Config, artifacts: &Path, file: &Path, nodes: &[String], json: bool) -> Result<ExitCode> {
    let store = Store::open(artifacts);
    let chosen = with_results(&config.graph, &store, artifacts, nodes)?;
    let is_there = |name: &&NodeName| config.remote().is_some_and(|r| store.elsewhere(&r.remote, name).is_some());
    let others = config.graph.iter().map(|n| &n.name).filter(|name| !chosen.contains(name));
    let left_out: Vec<&str> = others.filter(is_there).map(NodeName::as_str).collect();
    if nodes.is_empty() && !left_out.is_empty() {
        let names = left_out.join(" ");
        eprintln!("warning: not in the bundle, since they are in the remote alone: {names}; `cargo xtask cache pull {names}` fetches them");
    }
    warn_of_stale(root, config, &store, &chosen, "exported")?;
    let mut args: Vec<&OsStr> = vec!["export".as_ref(), file.as_os_str()];
    args.extend(chosen.iter().map(|name| OsStr::new(name.as_str())));
    bundle(root, artifacts, &args, json)
}

/// Says which of `nodes` are not what the options describe: who gets them takes them for that.
pub fn warn_of_stale(root: &Path, config: &Config, store: &Store, nodes: &[NodeName], handed_on: &str) -> Result<()> {
    for state in status::states(root, config, store, "cpu")?.iter().filter(|s| s.state == "stale" && nodes.contains(&s.node.name)) {
        let (node, why) = (&state.node.name, state.reasons.first().map_or("", String::as_str));
        eprintln!("warning: `{node}` is {handed_on} as it is, and is stale: {why}");
    }
    Ok(())
}

/// Those of `nodes`, or of all, that have a result.
pub fn with_results(graph: &Graph, store: &Store, artifacts: &Path, nodes: &[String]) -> Result<Vec<NodeName>> {
    let mut called = Vec::new();
    for name in nodes {
        called.extend(graph.called(name)?.into_iter().map(|node| &node.name));
    }
    // In the graph's order, so that the same nodes give the same bundle, however they are named.
    let has_result = |name: &NodeName| matches!(Manifest::read(&store.current(name)), Ok(Some(_)));
    let wanted = |name: &&NodeName| if nodes.is_empty() { has_result(name) } else { called.contains(name) };
    let chosen: Vec<NodeName> = graph.iter().map(|node| &node.name).filter(wanted).cloned().collect();
    if chosen.is_empty() {
        let remedy = "name the folder with --artifacts, or make one: cargo xtask pipeline";
        return Err(Failure::usage("there are no results here", artifacts.display(), remedy));
    }
    Ok(chosen)
}

/// Takes over the results that a bundle holds.
pub fn import(root: &Path, artifacts: &Path, file: &Path, json: bool) -> Result<ExitCode> {
    bundle(root, artifacts, &["import".as_ref(), file.as_os_str()], json)
}

/// Runs the bundles' own program: xtask itself needs no compression.
fn bundle(root: &Path, artifacts: &Path, args: &[&OsStr], json: bool) -> Result<ExitCode> {
    let store = Store::open(artifacts);
    let start = |program: &Path| {
        let mut command = Command::new(program);
        command.arg("--artifacts").arg(artifacts).args(args);
        if json {
            command.arg("--json");
        }
        command.spawn()
    };
    ended(Binaries::new(root, "cpu", &["bundle"], &store.index).spawn("bundle", None, start)?)
}

/// Rereads every result, and says what is damaged.
pub fn verify(root: &Path, artifacts: &Path, as_json: bool) -> Result<()> {
    let (store, _lock) = locked(artifacts)?;
    let mut nodes = store.nodes();
    // A folder that stands where a fixed node's result goes is looked at, too.
    nodes.extend(Declared::read(root)?.fixed().filter_map(|(_, node)| NodeName::try_from(node.name.as_str()).ok()));
    nodes.sort_unstable();
    nodes.dedup();
    let (mut damaged, mut foreign) = (0, 0);
    store.verify(&nodes, |checked| {
        let problem = checked.damaged.as_ref();
        match problem {
            Some((_, None)) if !store.is_read_only() => foreign += 1,
            Some(_) => damaged += 1,
            None => {}
        }
        let line = if as_json {
            let aside = problem.and_then(|(_, aside)| Some(aside.as_ref()?.display().to_string()));
            json!({ "node": checked.node, "place": checked.place, "bytes": checked.bytes, "damaged": problem.map(|(what, _)| what), "aside": aside }).to_string()
        } else {
            match problem {
                None => format!("ok       {:<11} {:>9}  {}", checked.node, size(checked.bytes), checked.place),
                Some((what, Some(aside))) => format!("damaged  {:<11} {what}; set aside in {}", checked.node, aside.display()),
                Some((what, None)) => {
                    let is = if store.is_read_only() { "damaged" } else { "foreign" };
                    format!("{is:<8} {:<11} {what}; left where it is: {}", checked.node, checked.place)
                },
            }
        };
        let _ = writeln!(std::io::stdout(), "{line}");
    })?;
    if damaged == 0 && foreign == 0 {
        return Ok(());
    }
    if damaged == 0 {
        let remedy = "move it out of the way; the pipeline refuses to put a result there";
        return Err(Failure::input("there is a folder that is not a result of knockline", artifacts.display(), remedy));
    }
    let what = if damaged == 1 { "1 result was damaged".to_owned() } else { format!("{damaged} results were damaged") };
    Err(Failure::input(
        what,
        artifacts.display(),
        "what is needed is made again by the next `cargo xtask pipeline`; look for the cause in the disk",
    ))
}

/// Drops what no current result needs; with `aside` also what was set aside.
pub fn collect(artifacts: &Path, dry_run: bool, aside: bool, as_json: bool) -> Result<()> {
    let (store, _lock) = locked(artifacts)?;
    if !dry_run {
        store.writable(format_args!("something is to be dropped"))?;
    }
    let collected = store.collect(dry_run, aside)?;
    store.notices().iter().for_each(|notice| eprintln!("warning: {notice}"));
    let mut out = std::io::stdout().lock();
    let bytes = collected.freed;
    if as_json {
        let set_aside: Vec<_> =
            collected.set_aside.iter().map(|(bytes, path)| json!({ "path": path.display().to_string(), "bytes": bytes })).collect();
        let _ = writeln!(out, "{}", json!({ "bytes": bytes, "dropped": !dry_run, "aside": set_aside, "aside_dropped": aside && !dry_run }));
        return Ok(());
    }
    let what = if dry_run { "could be dropped" } else { "dropped; downloads stay" };
    let _ = writeln!(out, "{} {what}", size(bytes));
    let then = if aside { what.split(';').next().unwrap_or_default() } else { "kept; `cache gc --aside` drops it" };
    for (bytes, path) in &collected.set_aside {
        let _ = writeln!(out, "set aside earlier: {} ({}), {then}", path.display(), size(*bytes));
    }
    Ok(())
}
