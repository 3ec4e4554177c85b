//! `cargo xtask cache export`, `import`, `verify` and `gc`: the care of what is kept.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use artifact::{Failure, Result};
use cache::{Lock, Manifest, Store};
use serde_json::json;

use crate::binaries::Binaries;
use crate::config::Config;
use crate::graph::{GRAPH, find};
use crate::pipeline::size;

/// The store at `artifacts` and its lock; a run in progress is waited for.
pub fn locked(artifacts: &Path) -> Result<(Store, Lock)> {
    if !artifacts.join(".knockline").exists() {
        let remedy = "name the folder with --artifacts, or make one: cargo xtask pipeline";
        return Err(Failure::usage("there are no results here", artifacts.display(), remedy));
    }
    let store = Store::open(artifacts);
    let lock = store.lock(true, || eprintln!("waiting for another run in {}", artifacts.display()))?;
    Ok((store, lock))
}

/// Hands on the current results of `nodes`, or of every node that has one.
pub fn export(root: &Path, config: &Config, artifacts: &Path, file: &Path, nodes: &[String], json: bool) -> Result<ExitCode> {
    let store = Store::open(artifacts);
    let chosen = with_results(&store, artifacts, nodes)?;
    let is_there = |name: &&str| config.remote().is_some_and(|r| store.elsewhere(&r.remote, name).is_some());
    let left_out: Vec<&str> = GRAPH.iter().map(|n| n.name).filter(|n| !chosen.contains(n)).filter(is_there).collect();
    if nodes.is_empty() && !left_out.is_empty() {
        let names = left_out.join(" ");
        eprintln!("warning: not in the bundle, since they are in the remote alone: {names}; `cargo xtask cache pull {names}` fetches them");
    }
    let mut args: Vec<&OsStr> = vec!["export".as_ref(), file.as_os_str()];
    args.extend(chosen.iter().map(|name| OsStr::new(*name)));
    bundle(root, artifacts, &args, json)
}

/// Those of `nodes`, or of all, that have a result.
pub fn with_results(store: &Store, artifacts: &Path, nodes: &[String]) -> Result<Vec<&'static str>> {
    let mut names = Vec::new();
    for name in nodes {
        names.push(find(name)?.name);
    }
    // In the graph's order, so that the same nodes give the same bundle, however they are named.
    let has_result = |name: &str| matches!(Manifest::read(&store.current(name)), Ok(Some(_)));
    let wanted = |name: &&str| if names.is_empty() { has_result(name) } else { names.contains(name) };
    let chosen: Vec<&str> = GRAPH.iter().map(|node| node.name).filter(wanted).collect();
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
    let binaries = Binaries::build(root, "cpu", &["bundle"], &store.index)?;
    let mut command = Command::new(binaries.path("bundle")?);
    command.arg("--artifacts").arg(artifacts).args(args);
    if json {
        command.arg("--json");
    }
    let status = command.status().map_err(|e| Failure::failed(format_args!("cannot run it: {e}"), "bundle", "report this"))?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

/// Rereads every result, and says what is damaged.
pub fn verify(artifacts: &Path, as_json: bool) -> Result<()> {
    let (store, _lock) = locked(artifacts)?;
    let nodes: Vec<&str> = GRAPH.iter().map(|node| node.name).collect();
    let mut damaged = 0;
    store.verify(&nodes, |checked| {
        let problem = checked.damaged.as_ref();
        damaged += usize::from(problem.is_some());
        let line = if as_json {
            let aside = problem.map(|(_, aside)| aside.display().to_string());
            json!({ "node": checked.node, "place": checked.place, "bytes": checked.bytes, "damaged": problem.map(|(what, _)| what), "aside": aside }).to_string()
        } else {
            match problem {
                None => format!("ok       {:<11} {:>9}  {}", checked.node, size(checked.bytes), checked.place),
                Some((what, aside)) => format!("damaged  {:<11} {what}; set aside in {}", checked.node, aside.display()),
            }
        };
        let _ = writeln!(std::io::stdout(), "{line}");
    })?;
    if damaged == 0 {
        return Ok(());
    }
    let what = if damaged == 1 { "1 result was damaged".to_owned() } else { format!("{damaged} results were damaged") };
    Err(Failure::input(
        what,
        artifacts.display(),
        "what is needed is made again by the next `cargo xtask pipeline`; look for the cause in the disk",
    ))
}

/// Drops what no current result needs.
pub fn collect(artifacts: &Path, dry_run: bool, as_json: bool) -> Result<()> {
    let (store, _lock) = locked(artifacts)?;
    let bytes = store.collect(dry_run)?;
    let line = match (as_json, dry_run) {
        (true, _) => json!({ "bytes": bytes, "dropped": !dry_run }).to_string(),
        (false, true) => format!("{} could be dropped", size(bytes)),
        (false, false) => format!("{} dropped; downloads stay", size(bytes)),
    };
    let _ = writeln!(std::io::stdout(), "{line}");
    Ok(())
}
