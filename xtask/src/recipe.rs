//! From the configuration and the workspace to a node's keys.

use std::collections::BTreeMap;
use std::path::Path;

use artifact::{Failure, Result};
use cache::{Digest, Index, Ingredients, Key, Manifest, Workspace};
use serde_json::Value as Json;

use crate::config::{Config, is_url};
use crate::graph::{GRAPH, Node, find};

/// What nodes are made of, apart from the artifacts that they read.
pub struct Recipes {
    own: BTreeMap<&'static str, Ingredients>,
}

impl Recipes {
    /// The recipes of every node that `config` describes. Files that it names are read (the
    /// index spares what it can); no artifact is.
    pub fn new(root: &Path, config: &Config, device: &str, index: &Index) -> Result<Self> {
        let workspace = Workspace::read(root)?;
        let mut packages: BTreeMap<&str, Vec<(String, String)>> = BTreeMap::new();
        let mut own = BTreeMap::new();
        for node in GRAPH {
            if !packages.contains_key(node.package) {
                packages.insert(node.package, workspace.ingredients(node.package, index)?);
            }
            let mut all = Ingredients::new().with(packages.get(node.package).map_or(&[], Vec::as_slice));
            all.add("node", node.name);
            all.add("compiler", env!("KNOCKLINE_RUSTC"));
            // The CPU is the default everywhere; only what differs from it is worth a key.
            if node.package == "train" && device != "cpu" {
                all.add("device", device.split(':').next().unwrap_or(device));
            }
            options(&mut all, node, config, index)?;
            own.insert(node.name, all);
        }
        Ok(Self { own })
    }

    fn own(&self, node: &Node) -> Ingredients {
        self.own.get(node.name).cloned().unwrap_or_default()
    }

    /// The recipe key: known before anything has run.
    pub fn recipe(&self, node: &Node) -> Result<Key> {
        let upstream = node.reads.iter().map(|(name, _)| Ok((format!("recipe {name}"), self.recipe(find(name)?)?.to_string())));
        Ok(self.own(node).with(&upstream.collect::<Result<Vec<_>>>()?).key())
    }

    /// What the content key is made of, given the manifests of the nodes that are read.
    pub fn content<'m>(&self, node: &Node, manifest: impl Fn(&str) -> Option<&'m Manifest>) -> Result<Ingredients> {
        let mut inputs = Vec::new();
        for (name, files) in node.reads {
            for file in *files {
                let digest = manifest(name).and_then(|m| m.digest(file)).ok_or_else(|| {
                    let remedy = format!("make it first: cargo xtask pipeline --to {name}");
                    Failure::usage(
                        format_args!("`{}` needs {file}, which is not there", node.name),
                        format_args!("artifacts of `{name}`"),
                        remedy,
                    )
                })?;
                inputs.push((format!("input {name}/{file}"), digest.to_string()));
            }
        }
        Ok(self.own(node).with(&inputs))
    }
}

/// Ingredient 4, and of 5 what comes from outside.
fn options(all: &mut Ingredients, node: &Node, config: &Config, index: &Index) -> Result<()> {
    let mut options = config.options(node);
    for (name, pin) in config.sources(node) {
        let Some(source) = options.remove(&name).filter(|s| !s.is_null()) else { continue };
        let pin = pin.and_then(|pin| options.get(&pin)).and_then(Json::as_str).map(str::to_owned);
        let sources: Vec<&str> =
            source.as_array().map_or_else(|| vec![&source], |items| items.iter().collect()).into_iter().filter_map(Json::as_str).collect();
        let place = format!("{}.{name}", node.name);
        if let [one] = sources[..]
            && config.is_builtin(node, &name, one)
        {
            all.add(format!("option {place}"), one);
            continue;
        }
        let value = match pin {
            Some(pin) => format!("sha256 {}", pin.to_ascii_lowercase()),
            None => unpinned(&sources, &place, index)?,
        };
        // The artifacts name the source by its file name, so that belongs to the key.
        all.add(format!("input {place}"), format!("{} {value}", artifact::stage::source_name(&sources)));
    }
    for (name, value) in options {
        all.add(format!("option {}.{name}", node.name), value.to_string());
    }
    Ok(())
}

/// What stands for a source without a checksum: a file's content, or the addresses.
fn unpinned(sources: &[&str], place: &str, index: &Index) -> Result<String> {
    let mut last = None;
    for source in sources {
        if is_url(source) {
            // By its digest: an address may carry a password or a token.
            return Ok(format!("address {}", Digest::of(sources.join(" ").as_bytes())));
        }
        match index.digest(Path::new(source)) {
            Ok(digest) => return Ok(format!("blake3 {digest}")),
            Err(e) => last = Some((source, e)),
        }
    }
    let (source, error) = last.map_or_else(|| ("", "nothing is named".to_owned()), |(s, e)| (*s, e.to_string()));
    Err(Failure::input(format_args!("cannot read the source: {error}"), source, format_args!("check the option `{place}`")))
}
