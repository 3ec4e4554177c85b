//! `cargo xtask cache push` and `pull`: results to and from the remote. Here the user asks for the
//! remote, so its failure is an error; `pipeline` only warns.

use std::collections::BTreeMap;
use std::io::Write as _;

use bars::Board;
use cache::{Manifest, NodeName, Store};
use failure::{Failure, Result};
use serde_json::json;

use crate::cache::bundle::{warn_of_stale, with_results};
use crate::cache::maintain::locked;
use crate::cache::remote::Remote;
use crate::context::Context;
use crate::graph::Node;
use crate::line::size;
use crate::recipe::Recipes;

/// The failure of a command that needs a remote when none is set.
fn no_remote() -> Failure {
    let remedy = "set it in pipeline.toml or a profile: `[cache]`, `remote = \"s3://bucket/folder\"`; or with --set cache.remote=…";
    Failure::usage("no remote is set", "option `cache.remote`", remedy)
}

/// Fails with the remote's first trouble, if there was any.
fn troubles(remote: &Remote<'_>) -> Result<()> {
    let Some(first) = remote.troubles.first() else { return Ok(()) };
    Err(Failure::download(
        first,
        "option `cache.remote`",
        "see the warnings above; completed transfers are kept",
    ))
}

/// Uploads the current results of `nodes`, or of every node that has one; with `replace`, also
/// results that the remote already has.
pub fn push(context: Context<'_>, nodes: &[String], replace: bool) -> Result<()> {
    let Context { config, store, json: as_json, .. } = context;
    config.remote().ok_or_else(no_remote)?;
    let _lock = locked(store)?;
    let board = Board::default();
    let mut remote = Remote::new(context, &board).required();
    let chosen = with_results(context, nodes)?;
    warn_of_stale(context, &chosen, "pushed")?;
    for name in &chosen {
        let folder = store.current(name);
        let remedy = format!("make it: cargo xtask pipeline --to {name}");
        let Some(manifest) = Manifest::read(&folder)? else {
            return Err(Failure::usage(
                format_args!("there is no result of `{name}` to push"),
                folder.display(),
                remedy,
            ));
        };
        let manifest = store.trusted(manifest, &remedy)?;
        if let Some(problem) = manifest.check(&folder, &store.index) {
            return Err(Failure::input(problem, folder.display(), remedy));
        }
        remote.push(&manifest, replace)?;
        if !remote.is_writable() {
            break;
        }
    }
    if !remote.is_writable() && remote.troubles.is_empty() {
        return Err(Failure::usage(
            "the remote is read-only",
            "option `cache.remote`",
            "push to a remote that can be written to",
        ));
    }
    remote.finish();
    for pushed in &remote.pushed {
        let line = if as_json {
            json!({ "node": pushed.node, "key": pushed.key, "sent": pushed.sent }).to_string()
        } else {
            let (did, sent) = if pushed.sent == 0 {
                ("there", String::new())
            } else {
                ("pushed", format!("{} sent", size(pushed.sent)))
            };
            format!("{did:<8} {:<11} {} {sent:>14}", pushed.node, pushed.key.short())
        };
        let _ = writeln!(std::io::stdout(), "{line}");
    }
    troubles(&remote)
}

/// Fetches the wanted results of `nodes`, or of all nodes, if the remote has them.
pub fn pull(context: Context<'_>, nodes: &[String], device: &str) -> Result<()> {
    let Context { root, config, store, json: as_json } = context;
    config.remote().ok_or_else(no_remote)?;
    let mut called = Vec::new();
    for name in nodes {
        called.extend(config.graph.called(name)?.into_iter().map(|node| &node.name));
    }
    let _lock =
        store.lock(|| eprintln!("waiting for another run in {}", context.artifacts().display()))?;
    let recipes = Recipes::new(root, config, device, &store.index)?;
    let board = Board::default();
    let mut remote = Remote::new(context, &board).read_only(true).required();
    let mut known: BTreeMap<NodeName, Manifest> = BTreeMap::new();
    for node in config.graph.iter() {
        let is_wanted = nodes.is_empty() || called.contains(&&node.name);
        let state = match look(store, &recipes, &mut remote, node, &mut known)? {
            Whereabouts::Here => "here",
            Whereabouts::InRemote(manifest) if is_wanted && remote.fetch(&manifest)? => "pulled",
            Whereabouts::InRemote(_) if !is_wanted => "remote",
            // A failed fetch has been reported already.
            Whereabouts::InRemote(_) | Whereabouts::Missing => "missing",
        };
        if is_wanted {
            let manifest = known.get(&node.name);
            let line = if as_json {
                json!({ "node": node.name, "state": state, "key": manifest.map(|m| &m.key), "bytes": manifest.map(Manifest::bytes) })
                    .to_string()
            } else {
                let key = manifest.map_or("", |m| m.key.short());
                format!(
                    "{state:<8} {:<11} {key:<12} {:>9}",
                    node.name,
                    manifest.map_or(String::new(), |m| size(m.bytes()))
                )
            };
            let _ = writeln!(std::io::stdout(), "{}", line.trim_end());
        }
    }
    store.notices().iter().for_each(|notice| eprintln!("warning: {notice}"));
    remote.finish();
    store.index.save();
    troubles(&remote)
}

enum Whereabouts {
    Here,
    InRemote(Box<Manifest>),
    Missing,
}

/// Looks for a node's result, first here, then in the remote.
fn look(
    store: &Store,
    recipes: &Recipes<'_>,
    remote: &mut Remote<'_>,
    node: &Node,
    known: &mut BTreeMap<NodeName, Manifest>,
) -> Result<Whereabouts> {
    let before = node.reads.iter().all(|input| known.contains_key(&input.node));
    if !before {
        // Its key depends on a result that was not found.
        return Ok(Whereabouts::Missing);
    }
    let ingredients = recipes.content(node, |name| known.get(name))?;
    let key = ingredients.content_key();
    let finding = store.check_out(&node.name, &key)?;
    finding.damaged.iter().for_each(|what| eprintln!("warning: {what}"));
    if let Some(manifest) = finding.manifest {
        known.insert(node.name.clone(), manifest);
        return Ok(Whereabouts::Here);
    }
    let Some(mut manifest) = remote.manifest(&node.name, &key) else {
        return Ok(Whereabouts::Missing);
    };
    let upstream =
        known.iter().map(|(name, manifest)| (name.clone(), manifest.recipe.clone())).collect();
    manifest.recipe = recipes.recipe_after(node, &upstream)?;
    remote.note(&manifest)?;
    known.insert(node.name.clone(), manifest.clone());
    Ok(Whereabouts::InRemote(Box::new(manifest)))
}
