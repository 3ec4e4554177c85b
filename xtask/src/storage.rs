//! `cargo xtask cache verify` and `cache gc`: the care of what is kept.

use std::io::Write as _;
use std::path::Path;

use artifact::{Failure, Result};
use cache::{Lock, Store};
use serde_json::json;

use crate::graph::GRAPH;
use crate::pipeline::size;

/// The store at `artifacts` and its lock; a run in progress is waited for.
fn locked(artifacts: &Path) -> Result<(Store, Lock)> {
    if !artifacts.join(".knockline").exists() {
        let remedy = "name the folder with --artifacts, or make one: cargo xtask pipeline";
        return Err(Failure::usage("there are no results here", artifacts.display(), remedy));
    }
    let store = Store::open(artifacts);
    let lock = store.lock(true, || eprintln!("waiting for another run in {}", artifacts.display()))?;
    Ok((store, lock))
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
