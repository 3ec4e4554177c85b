//! Makes the keys of nodes from the configuration and the workspace.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use cache::{Digest, Digests, Ingredients, Manifest, NodeName, RecipeKey, Workspace};
use failure::{Failure, Result};
use serde_json::Value as Json;
use stage::declaration::setting;
use stage::{Machine, files, is_url, source_name};

use crate::config::{Config, SourceOption};
use crate::graph::Node;

/// Why a node's key is not known.
#[derive(Clone, Debug)]
pub enum RecipeError {
    /// A source cannot be read, or is not the file that its checksum names.
    Source(Failure),
    /// A file that the node reads does not exist.
    Missing {
        node: NodeName,
        /// The node whose file it is.
        of: NodeName,
        file: String,
    },
}

impl From<RecipeError> for Failure {
    fn from(error: RecipeError) -> Self {
        match error {
            RecipeError::Source(failure) => failure,
            RecipeError::Missing { node, of, file } => {
                let remedy = format!("make it first: cargo xtask pipeline --to {of}");
                Self::usage(
                    format_args!("`{node}` needs {file}, which does not exist"),
                    format_args!("artifacts of `{of}`"),
                    remedy,
                )
            }
        }
    }
}

/// The ingredients of all nodes, apart from the artifacts that they read.
pub struct Recipes<'c> {
    config: &'c Config,
    /// By node, or why they are not known: an unreadable source must not affect unrelated nodes.
    own: BTreeMap<NodeName, Result<Ingredients, RecipeError>>,
    /// What each package is built from.
    packages: BTreeMap<String, Vec<(String, String)>>,
    /// The machine, on which times depend.
    machine: Machine,
}

impl<'c> Recipes<'c> {
    /// The recipes of every node that `config` describes. Reads the source files that `config`
    /// names, unless the index knows their digests, but no artifact.
    pub fn new(
        root: &Path,
        config: &'c Config,
        device: &str,
        digests: &dyn Digests,
    ) -> Result<Self> {
        let workspace = Workspace::read(root)?;
        let mut packages: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
        let mut own = BTreeMap::new();
        for node in config.graph.iter() {
            if !packages.contains_key(&node.package) {
                packages
                    .insert(node.package.clone(), workspace.ingredients(&node.package, digests)?);
            }
            let mut all =
                Ingredients::new().with(packages.get(&node.package).map_or(&[], Vec::as_slice));
            all.add("node", node.name.as_str());
            all.add("compiler", env!("KNOCKLINE_RUSTC"));
            all.add("compiler-flags", env!("KNOCKLINE_FLAGS"));
            // The CPU is the default; only another device is an ingredient.
            if node.uses_device && device != "cpu" {
                all.add("device", device.split(':').next().unwrap_or(device));
            }
            own.insert(
                node.name.clone(),
                options(&mut all, node, config, digests).map(|()| all).map_err(RecipeError::Source),
            );
        }
        Ok(Self { config, own, packages, machine: Machine::here()? })
    }

    /// The options of a node and its inputs from outside the graph, as they are now.
    pub fn given(node: &Node, config: &Config, digests: &dyn Digests) -> Result<Ingredients> {
        let mut all = Ingredients::new();
        options(&mut all, node, config, digests).map(|()| all)
    }

    /// The same as [`Recipes::given`], but as they were when the keys were made.
    pub fn given_part(&self, node: &Node) -> Result<Ingredients> {
        Ok(self.own(node)?.only(|name| {
            name.starts_with("input ") || name.starts_with("option ") || name == "format"
        }))
    }

    /// What the program of a node is built from.
    pub fn sources(&self, node: &Node) -> &[(String, String)] {
        self.packages.get(&node.package).map_or(&[], Vec::as_slice)
    }

    /// A node's ingredients, apart from the artifacts that it reads.
    pub fn own(&self, node: &Node) -> Result<Ingredients, RecipeError> {
        self.own.get(&node.name).cloned().unwrap_or_else(|| Ok(Ingredients::new()))
    }

    /// A node's recipe key, which is known before anything has run.
    pub fn recipe(&self, node: &Node) -> Result<RecipeKey, RecipeError> {
        let mut upstream = BTreeMap::new();
        for input in &node.reads {
            if let Some(before) = self.config.graph.find(&input.node) {
                upstream.insert(input.node.clone(), self.recipe(before)?);
            }
        }
        self.recipe_after(node, &upstream)
    }

    /// The recipe key of a node that was made from results of the given recipes.
    pub fn recipe_after(
        &self,
        node: &Node,
        upstream: &BTreeMap<NodeName, RecipeKey>,
    ) -> Result<RecipeKey, RecipeError> {
        let recipe =
            |name: &NodeName| upstream.get(name).map_or_else(String::new, RecipeKey::to_string);
        let recipes: Vec<(String, String)> = node
            .reads
            .iter()
            .map(|input| (format!("recipe {}", input.node), recipe(&input.node)))
            .collect();
        Ok(self.own(node)?.with(&recipes).recipe_key())
    }

    /// The ingredients of a content key, given the manifests of the nodes that are read.
    pub fn content<'m>(
        &self,
        node: &Node,
        manifest: impl Fn(&str) -> Option<&'m Manifest>,
    ) -> Result<Ingredients, RecipeError> {
        let mut inputs = Vec::new();
        for (name, files) in node.reads.iter().map(|input| (&input.node, &input.files)) {
            for file in files {
                let missing = || RecipeError::Missing {
                    node: node.name.clone(),
                    of: name.clone(),
                    file: file.clone(),
                };
                let digest = manifest(name).and_then(|m| m.digest(file)).ok_or_else(missing)?;
                inputs.push((format!("input {name}/{file}"), digest.to_string()));
            }
        }
        if node.measures_time {
            // Times say nothing about another machine. The recipe key is the same on all machines.
            inputs.push(("machine".to_owned(), self.machine.to_string()));
        }
        Ok(self.own(node)?.with(&inputs))
    }
}

/// Adds the options, and the inputs that come from outside the graph.
fn options(
    all: &mut Ingredients,
    node: &Node,
    config: &Config,
    digests: &dyn Digests,
) -> Result<()> {
    let mut options = config.options(node);
    for SourceOption { name, pin, reads_all } in config.sources(node) {
        let Some(source) = options.remove(&name).filter(|s| !s.is_null()) else { continue };
        let items: Vec<&Json> =
            source.as_array().map_or_else(|| vec![&source], |items| items.iter().collect());
        let sources: Vec<&str> = items.into_iter().filter_map(Json::as_str).collect();
        let ingredient = format!("input {}.{name}", node.name);
        let place = setting(&node.name, &name);
        let value = match &sources[..] {
            [one] if config.is_builtin(node, &name, one) => (*one).to_owned(),
            _ => {
                let content =
                    match pin.as_ref().and_then(|pin| options.get(pin)).and_then(Json::as_str) {
                        Some(sum) => pinned(sum, &sources, &place, digests)?,
                        None if reads_all => every(&sources, &place, digests)?,
                        None => unpinned(&sources, &place, digests)?,
                    };
                // Artifacts contain the file name of a source that can be pinned, so that the name
                // belongs to the key, too.
                if pin.is_some() { format!("{} {content}", source_name(&sources)) } else { content }
            }
        };
        all.add(ingredient, value);
    }
    for (name, value) in options {
        all.add(format!("option {}.{name}", node.name), value.to_string());
    }
    Ok(())
}

/// The ingredient for sources with a checksum: the checksum, so that machines without the file
/// agree with those that have it. A local file must have the checksum, unless another source may.
fn pinned(sum: &str, sources: &[&str], place: &str, digests: &dyn Digests) -> Result<String> {
    let mut wrong = None;
    for source in sources {
        // A folder's content would not be in the key.
        if Path::new(source).is_dir() {
            return Err(Failure::usage(
                "a folder has no checksum",
                source,
                format_args!("remove the checksum beside `{place}`, or name one file"),
            ));
        }
        match digests.sha256(Path::new(source)) {
            _ if is_url(source) => return Ok(format!("sha256 {sum}")),
            Ok(is) if is.eq_ignore_ascii_case(sum) => return Ok(format!("sha256 {sum}")),
            Ok(is) => wrong = Some((source, is)),
            // It is not on this machine.
            Err(_) => {}
        }
    }
    match wrong {
        None => Ok(format!("sha256 {sum}")),
        Some((source, is)) => Err(Failure::input(
            format_args!("SHA-256 is {is}, not {sum}"),
            source,
            format_args!(
                "get the file again, or change the checksum beside `{place}` if this is the file you want"
            ),
        )),
    }
}

/// The ingredient for sources without a checksum: the content of each file and the address of each
/// URL. Which of them will be used is not known beforehand.
fn unpinned(sources: &[&str], place: &str, digests: &dyn Digests) -> Result<String> {
    let mut all = Vec::new();
    let mut last = None;
    for source in sources {
        match content(source, digests) {
            Ok(content) => all.push(content),
            Err(error) => last = Some((source, error)),
        }
    }
    match last {
        Some((source, error)) if all.is_empty() => Err(unreadable(&error, source, place)),
        _ => Ok(all.join(" ")),
    }
}

/// The ingredient for sources that are all read: their names, which results contain, and contents.
fn every(sources: &[&str], place: &str, digests: &dyn Digests) -> Result<String> {
    let mut all = String::new();
    for source in sources {
        let content = content(source, digests).map_err(|e| unreadable(&e, source, place))?;
        let _ = writeln!(all, "{} {content}", source_name(&[source]));
    }
    Ok(format!("files {}", Digest::of(all.as_bytes())))
}

/// The content of a file, of a folder or of the files that match a pattern; or a URL's address, as
/// a digest, since it may contain a password or a token.
fn content(source: &str, digests: &dyn Digests) -> std::io::Result<String> {
    if is_url(source) {
        return Ok(format!("address {}", Digest::of(source.as_bytes())));
    }
    let files = files::expand(source)?;
    if let [file] = &files[..]
        && file.path == Path::new(source)
    {
        return Ok(format!("blake3 {}", digests.digest(&file.path)?));
    }
    let mut all = String::new();
    for file in files {
        let _ = writeln!(all, "{} {}", digests.digest(&file.path)?, file.name);
    }
    Ok(format!("files {}", Digest::of(all.as_bytes())))
}

fn unreadable(error: &std::io::Error, source: &str, place: &str) -> Failure {
    Failure::input(
        format_args!("cannot read the source: {error}"),
        source,
        format_args!("check the option `{place}`"),
    )
}

#[cfg(test)]
mod tests;
