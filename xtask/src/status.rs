//! `cargo xtask status`: which results are fresh, and why the others are not.

use std::collections::BTreeMap;
use std::io::Write as _;

use cache::{ContentKey, Ingredients, Manifest, ManifestError, NodeName, Store};
use failure::{Failure, Result};
use serde_json::json;

use crate::config::Config;
use crate::context::Context;
use crate::graph::Node;
use crate::recipe::{RecipeError, Recipes};

/// A node's state.
pub struct NodeStatus<'g> {
    pub node: &'g Node,
    /// `fresh`, `stale` or `missing`.
    pub state: &'static str,
    /// The reasons, in words.
    pub reasons: Vec<String>,
    /// The key of an earlier result that is closer to the wanted one than the current result, and
    /// its differences from the wanted one: none if it is the wanted one.
    pub nearest: Option<(ContentKey, Vec<String>)>,
    /// What `pipeline` would do: `hit`, `run`, or `may run` if that depends on what an earlier node
    /// will make.
    pub would: &'static str,
}

/// The states of all nodes, in the graph's order.
pub fn states<'g>(context: Context<'g>, device: &str) -> Result<Vec<NodeStatus<'g>>> {
    let Context { root, config, store, .. } = context;
    let recipes = Recipes::new(root, config, device, &store.index)?;
    let mut manifests: BTreeMap<&str, Manifest> = BTreeMap::new();
    // The results as they would be after a run, if that is known without one.
    let mut later: BTreeMap<&str, Manifest> = BTreeMap::new();
    let mut states: Vec<NodeStatus<'_>> = Vec::new();
    for node in config.graph.iter() {
        let name = &node.name;
        let folder = store.current(name);
        let (manifest, unreadable) = match Manifest::read(&folder) {
            Ok(manifest) => (manifest, None),
            Err(damaged @ ManifestError::Damaged { .. }) => (None, Some(damaged.to_string())),
            Err(error) => return Err(error.into()),
        };
        let is_not_fresh =
            |name: &&NodeName| states.iter().any(|s| s.node.name == **name && s.state != "fresh");
        let before: Vec<&NodeName> =
            node.reads.iter().map(|input| &input.node).filter(is_not_fresh).collect();
        let missing = manifest.is_none();
        let mut reasons = Vec::new();
        let now = recipes.own(node).and_then(|_| recipes.content(node, |name| manifests.get(name)));
        if let Ok(now) = &now
            && before.is_empty()
            && let Some(manifest) =
                elsewhere(config, store, name, manifest.as_ref(), &now.content_key())
        {
            manifests.insert(name, manifest.clone());
            later.insert(name, manifest);
            let reasons = vec!["in the remote; fetched when it is needed".to_owned()];
            states.push(NodeStatus { node, state: "fresh", reasons, nearest: None, would: "hit" });
            continue;
        }
        let unfinished = now.as_ref().ok().map(Ingredients::content_key);
        let nearest =
            now.as_ref().ok().and_then(|now| nearest(store, manifest.as_ref(), name, now));
        if let Some(manifest) = manifest {
            match now {
                Ok(now) => reasons.extend(manifest.ingredients.changes(&now)),
                Err(RecipeError::Source(failure)) => {
                    reasons.push(format!("{} ({})", failure.what, failure.place));
                }
                Err(RecipeError::Missing { .. }) => {}
            }
            reasons.extend(
                manifest.check(&folder, &store.index).map(|problem| format!("damaged: {problem}")),
            );
            reasons.extend(store.distrusts(&manifest));
            manifests.insert(name, manifest);
        } else {
            reasons.push(unreadable.unwrap_or_else(|| "there is no result yet".to_owned()));
        }
        if let Some(now) = unfinished
            .filter(|key| (node.resumable || node.shared) && store.has_unfinished(name, key))
        {
            reasons
                .push(format!("there is an unfinished run {}; `pipeline` resumes it", now.short()));
        }
        reasons.extend(before.iter().map(|name| format!("`{name}` is not fresh")));
        let state = if missing {
            "missing"
        } else if reasons.is_empty() {
            "fresh"
        } else {
            "stale"
        };
        let would = match recipes.content(node, |name| later.get(name)) {
            Ok(ingredients) => match store.peek(name, &ingredients.content_key()) {
                Some(manifest) => {
                    later.insert(name, manifest);
                    "hit"
                }
                None => "run",
            },
            Err(_) => "may run",
        };
        if would == "hit" && state != "fresh" {
            reasons.insert(
                0,
                "the wanted result is in the store; `pipeline` takes it from there".to_owned(),
            );
        }
        states.push(NodeStatus { node, state, reasons, nearest, would });
    }
    Ok(states)
}

/// The wanted result, if it is not here and was seen in the remote.
fn elsewhere(
    config: &Config,
    store: &Store,
    node: &NodeName,
    current: Option<&Manifest>,
    key: &ContentKey,
) -> Option<Manifest> {
    let is_here = current.is_some_and(|m| &m.key == key) || store.peek(node, key).is_some();
    let remote = config.remote().filter(|_| !is_here)?;
    store
        .elsewhere(&remote.remote, node)
        .filter(|manifest| &manifest.key == key && store.distrusts(manifest).is_none())
}

/// The earlier result that differs least from the wanted one, if less than the current result does.
fn nearest(
    store: &Store,
    current: Option<&Manifest>,
    node: &NodeName,
    now: &Ingredients,
) -> Option<(ContentKey, Vec<String>)> {
    let least = current.map_or(usize::MAX, |manifest| manifest.ingredients.changes(now).len());
    if least == 0 {
        return None;
    }
    let all = store
        .earlier(node)
        .into_iter()
        .map(|manifest| (manifest.ingredients.changes(now), manifest.key));
    let (changes, key) = all.min_by_key(|(changes, _)| changes.len())?;
    (changes.len() < least).then_some((key, changes))
}

/// Runs the command, for one node or for all; returns whether everything shown is fresh.
pub fn run(context: Context<'_>, node: Option<&str>, device: &str) -> Result<bool> {
    let Context { config, store, json, .. } = context;
    let only = node.map(|name| config.graph.called(name)).transpose()?;
    let mut out = std::io::stdout().lock();
    let mut fresh = true;
    let width = config.graph.width();
    for state in states(context, device)?
        .iter()
        .filter(|s| only.as_ref().is_none_or(|o| o.iter().any(|o| o.name == s.node.name)))
    {
        fresh &= state.state == "fresh";
        let line = if json {
            let nearest = state
                .nearest
                .as_ref()
                .map(|(key, changes)| json!({ "key": key, "changes": changes }));
            json!({ "node": state.node.name, "state": state.state, "why": state.reasons, "would": state.would, "nearest": nearest })
                .to_string()
        } else {
            const SHOWN: usize = 4;
            let mut why: Vec<String> = state.reasons.clone();
            if only.is_none() && why.len() > SHOWN {
                let rest = why.len() - SHOWN;
                why.truncate(SHOWN);
                why.push(format!("and {rest} more: add `{}` to this command", state.node.name));
            }
            if let Some((key, changes)) = state.nearest.as_ref().filter(|_| only.is_some()) {
                // The inputs are not known before they are made.
                let unless =
                    if state.would == "may run" { " if its inputs stay the same" } else { "" };
                let differs = if changes.is_empty() {
                    format!("is the wanted one{unless}")
                } else {
                    format!("differs in: {}", changes.join("; "))
                };
                why.push(format!("the earlier result {} {differs}", key.short()));
            }
            let between =
                if only.is_some() { format!("\n{:1$}", "", width + 9) } else { "; ".to_owned() };
            format!("{:<width$} {:<7} {}", state.node.name, state.state, why.join(&between))
        };
        writeln!(out, "{}", line.trim_end())
            .map_err(|e| Failure::failed(e, "stdout", "check where the output goes"))?;
    }
    store.index.save();
    Ok(fresh)
}
