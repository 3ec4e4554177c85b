//! `cargo xtask cache verify` and `gc`: check the store and clean it up.

use std::io::Write as _;
use std::path::Path;

use cache::{Collection, Lock, NodeName, Store};
use failure::{Failure, Result};
use serde_json::json;

use crate::context::Context;
use crate::declared::Declared;
use crate::line::size;

/// Locks a store, which must exist; waits for a run in progress.
pub fn locked(store: &Store) -> Result<Lock> {
    let folder = store.root().display();
    if !store.root().join(".knockline").exists() {
        let remedy = "name the folder with --artifacts, or make one: cargo xtask pipeline";
        return Err(Failure::usage("there are no results here", folder, remedy));
    }
    store.lock(|| eprintln!("waiting for another run in {folder}"))
}

/// Reads every result again, and reports what is damaged.
pub fn verify(root: &Path, store: &Store, as_json: bool) -> Result<()> {
    let _lock = locked(store)?;
    let mut nodes = store.nodes();
    // A folder in the place of a node's result is checked even if it is not a result.
    let declared = Declared::read(root)?;
    let is_node = |name: &NodeName| declared.iter().any(|(_, node)| node.name.matches(name));
    let folders = std::fs::read_dir(store.root()).into_iter().flatten().flatten();
    let names = folders.filter_map(|entry| NodeName::try_from(entry.file_name().to_str()?).ok());
    nodes.extend(names.filter(is_node));
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
        return Err(Failure::input(
            "there is a folder that is not a result of knockline",
            store.root().display(),
            remedy,
        ));
    }
    let what = if damaged == 1 {
        "1 result was damaged".to_owned()
    } else {
        format!("{damaged} results were damaged")
    };
    Err(Failure::input(
        what,
        store.root().display(),
        "check the disk; the next `cargo xtask pipeline` makes what is needed again",
    ))
}

/// Drops what no current result needs. Results of nodes that are not in the configuration are listed.
pub fn collect(context: Context<'_>, wanted: &Collection) -> Result<()> {
    let Collection { dry_run, aside, .. } = *wanted;
    let Context { config, store, json: as_json, .. } = context;
    let _lock = locked(store)?;
    if !dry_run {
        store.writable(format_args!("something is to be dropped"))?;
    }
    let collected = store.collect(wanted)?;
    store.notices().iter().for_each(|notice| eprintln!("warning: {notice}"));
    let mut out = std::io::stdout().lock();
    let bytes = collected.freed;
    let mut unconfigured = store.nodes();
    unconfigured.retain(|node| config.graph.find(node).is_none() && store.current(node).is_dir());
    if as_json {
        let set_aside: Vec<_> = collected
            .set_aside
            .iter()
            .map(|(bytes, path)| json!({ "path": path.display().to_string(), "bytes": bytes }))
            .collect();
        let _ = writeln!(
            out,
            "{}",
            json!({ "bytes": bytes, "dropped": !dry_run, "kept": collected.kept, "aside": set_aside, "aside_dropped": aside && !dry_run, "unconfigured": unconfigured })
        );
        return Ok(());
    }
    let what = if dry_run { "could be dropped" } else { "dropped; downloads stay" };
    let _ = writeln!(out, "{} {what}", size(bytes));
    if collected.kept > 0 {
        let _ = writeln!(out, "earlier results that stay: {}", collected.kept);
    }
    let then = if aside {
        what.split(';').next().unwrap_or_default()
    } else {
        "kept; `cache gc --aside` drops it"
    };
    for (bytes, path) in &collected.set_aside {
        let _ = writeln!(out, "set aside earlier: {} ({}), {then}", path.display(), size(*bytes));
    }
    for node in &unconfigured {
        let folder = store.current(node);
        let _ = writeln!(
            out,
            "kept: {node} is not in the configuration; delete {} if you do not need it",
            folder.display()
        );
    }
    Ok(())
}
