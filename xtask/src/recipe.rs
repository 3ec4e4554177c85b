//! Makes the keys of nodes from the configuration and the workspace.

use std::collections::BTreeMap;
use std::path::Path;

use cache::{Digest, Digests, Ingredients, Manifest, NodeName, RecipeKey, Workspace};
use failure::{Failure, Result};
use serde_json::Value as Json;
use stage::{Machine, is_url, source_name};

use crate::config::Config;
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
    for (name, pin) in config.sources(node) {
        let Some(source) = options.remove(&name).filter(|s| !s.is_null()) else { continue };
        let items: Vec<&Json> =
            source.as_array().map_or_else(|| vec![&source], |items| items.iter().collect());
        let sources: Vec<&str> = items.into_iter().filter_map(Json::as_str).collect();
        let ingredient = format!("input {}.{name}", node.name);
        // A node of a matrix has the options of its run.
        let place = format!("{}.{name}", node.name.split('@').next().unwrap_or_default());
        let value = match &sources[..] {
            [one] if config.is_builtin(node, &name, one) => (*one).to_owned(),
            _ => {
                let content =
                    match pin.as_ref().and_then(|pin| options.get(pin)).and_then(Json::as_str) {
                        Some(sum) => pinned(sum, &sources, &place, digests)?,
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
        if is_url(source) {
            // As a digest: an address may contain a password or a token.
            all.push(format!("address {}", Digest::of(source.as_bytes())));
            continue;
        }
        match digests.digest(Path::new(source)) {
            Ok(digest) => all.push(format!("blake3 {digest}")),
            Err(error) => last = Some((source, error)),
        }
    }
    match last {
        Some((source, error)) if all.is_empty() => Err(Failure::input(
            format_args!("cannot read the source: {error}"),
            source,
            format_args!("check the option `{place}`"),
        )),
        _ => Ok(all.join(" ")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use cache::Index;

    fn root() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace")
    }

    fn named(name: &str) -> NodeName {
        NodeName::try_from(name).expect("a name")
    }

    /// Compares each key's inputs with what the declarations say, not with the graph made of them.
    #[test]
    fn every_file_that_a_stage_may_read_is_in_its_key() {
        let config = Config::read(root(), "sample", &["train.wide.net=mlp".into()])
            .expect("a configuration");
        let recipes = Recipes::new(root(), &config, "cpu", &Index::default()).expect("recipes");
        let all = crate::graph::Declared::read(root()).expect("declarations");
        let net =
            |node: &Node| config.options(node).get("net").and_then(Json::as_str).map(str::to_owned);
        let files: Vec<String> =
            all.iter().flat_map(|(_, d)| &d.reads).flat_map(|read| read.files.clone()).collect();
        let manifests: Vec<Manifest> =
            config.graph.iter().map(|node| made(&node.name, &files)).collect();
        let mut most = 0;
        for node in config.graph.iter() {
            let (_, declared) = all.find(&node.name, net(node).as_deref()).expect("a declaration");
            let mut expected = BTreeSet::new();
            for other in config.graph.iter() {
                let is_named = declared.reads.iter().any(|r| r.node.as_str() == &*other.name);
                for read in &declared.reads {
                    let applies = if is_named {
                        read.node.as_str() == &*other.name
                    } else {
                        read.node.matches(&other.name)
                    };
                    if applies && (read.net.is_none() || read.net == net(other)) {
                        let input = |file| format!("input {}/{file}", other.name);
                        expected.extend(read.files.iter().map(input));
                    }
                }
            }
            let found = |name: &str| manifests.iter().find(|manifest| manifest.node == *name);
            let content = recipes.content(node, found).expect("ingredients");
            let inputs = content.only(|name| name.starts_with("input ") && name.contains('/'));
            for input in &expected {
                assert!(inputs.get(input).is_some(), "{}: {input}", node.name);
            }
            let other = inputs.only(|name| !expected.contains(name));
            assert_eq!(other, inputs.only(|_| false), "{}: undeclared", node.name);
            most = most.max(expected.len());
        }
        // The report reads most: 4 nodes, 4 runs, and the sweep.
        assert_eq!(most, 8 + 4 * 4 + 2 + 3);
    }

    /// A manifest that has these files.
    fn made(node: &NodeName, files: &[String]) -> Manifest {
        let file = |path: &String| cache::Output {
            path: path.clone(),
            size: 0,
            digest: Digest::of(path.as_bytes()),
        };
        let files = files.iter().map(file).collect();
        Manifest::new(node, Digest::of(b"").into(), Ingredients::new(), String::new(), files)
    }

    fn key(node: &str, sets: &[&str], device: &str) -> RecipeKey {
        let sets: Vec<String> = sets.iter().map(|&s| s.to_owned()).collect();
        let config = Config::read(root(), "sample", &sets).expect("a configuration");
        let recipes = Recipes::new(root(), &config, device, &Index::default()).expect("recipes");
        recipes.recipe(config.graph.find(node).expect("a node")).expect("a key")
    }

    #[test]
    fn key_differs_when_an_option_of_the_node_or_of_one_before_it_does() {
        let plain = key("train.mlp", &[], "cpu");
        for set in [
            "train.mlp.lr=0.5",
            "tensors.empty=drop",
            "embed.seed=7",
            "split.group_by=story",
            "ingest.publishers=[\"*\"]",
        ] {
            assert_ne!(plain, key("train.mlp", &[set], "cpu"), "{set}");
        }
    }

    #[test]
    fn key_is_the_same_when_an_option_of_another_branch_differs() {
        assert_eq!(key("train.mlp", &[], "cpu"), key("train.mlp", &["train.slp.lr=0.5"], "cpu"));
        assert_eq!(key("train.slp", &["train.slp.lr=0.10"], "cpu"), key("train.slp", &[], "cpu"));
    }

    #[test]
    fn key_differs_when_the_device_does_and_only_for_training() {
        assert_ne!(key("train.mlp", &[], "cpu"), key("train.mlp", &[], "cuda"));
        assert_eq!(key("train.mlp", &[], "cuda"), key("train.mlp", &[], "cuda:1"));
        assert_eq!(key("tensors", &[], "cpu"), key("tensors", &[], "cuda"));
    }

    #[test]
    fn key_differs_when_the_compiler_does() {
        let config = Config::read(root(), "sample", &[]).expect("a configuration");
        let recipes = Recipes::new(root(), &config, "cpu", &Index::default()).expect("recipes");
        let own = recipes.own(config.graph.find("split").expect("a node")).expect("ingredients");
        assert!(
            own.get("compiler").is_some_and(|c| c.starts_with("rustc 1.")),
            "{:?}",
            own.get("compiler")
        );
        let other = own.with(&[("compiler".to_owned(), "rustc 2.0.0".to_owned())]);
        assert_eq!(own.changes(&other).len(), 1, "the compiler is one of the ingredients");
    }

    /// A manifest of `split` whose files have these contents.
    fn split(train: &str, summary: &str) -> Manifest {
        let file = |path: &str, text: &str| cache::Output {
            path: path.into(),
            size: 0,
            digest: Digest::of(text.as_bytes()),
        };
        let files = vec![
            file("train.parquet", train),
            file("valid.parquet", "v"),
            file("test.parquet", "t"),
            file("summary.json", summary),
        ];
        Manifest::new(
            &named("split"),
            Digest::of(b"").into(),
            Ingredients::new(),
            String::new(),
            files,
        )
    }

    #[test]
    fn key_differs_when_an_artifact_that_is_read_does_and_is_the_same_when_another_does() {
        let config = Config::read(root(), "sample", &[]).expect("a configuration");
        let recipes = Recipes::new(root(), &config, "cpu", &Index::default()).expect("recipes");
        let key = |manifest: &Manifest| {
            let embed = config.graph.find("embed").expect("a node");
            recipes
                .content(embed, |name| (name == "split").then_some(manifest))
                .expect("ingredients")
                .content_key()
        };
        assert_ne!(key(&split("a", "x")), key(&split("b", "x")));
        assert_eq!(key(&split("a", "x")), key(&split("a", "y")));
    }

    #[test]
    fn key_differs_when_a_source_s_content_does_and_not_when_its_folder_does() {
        let (one, two) =
            (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let put = |dir: &tempfile::TempDir, text: &str| {
            std::fs::write(dir.path().join("x.csv"), text).expect("writes");
            format!("ingest.source={}", dir.path().join("x.csv").display())
        };
        let first = key("ingest", &[&put(&one, "a")], "cpu");
        assert_eq!(first, key("ingest", &[&put(&two, "a")], "cpu"));
        assert_ne!(first, key("ingest", &[&put(&two, "b")], "cpu"));
        // The file counts even after a mirror, which may be down.
        let list = |text: &str| {
            let _ = put(&two, text);
            format!(
                "ingest.source=[\"http://127.0.0.1:9/x.csv\", \"{}\"]",
                two.path().join("x.csv").display()
            )
        };
        assert_ne!(key("ingest", &[&list("a")], "cpu"), key("ingest", &[&list("b")], "cpu"));
    }

    #[test]
    fn a_pinned_file_must_have_the_checksum_and_a_missing_one_counts_by_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("x.csv");
        std::fs::write(&file, "abc").expect("writes");
        // FIPS 180-2, appendix B.1.
        let pin = "ingest.sha256=ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let source = format!("ingest.source={}", file.display());
        let recipe = |sets: &[&str]| {
            let sets: Vec<String> = sets.iter().map(|&s| s.to_owned()).collect();
            let config = Config::read(root(), "sample", &sets).expect("a configuration");
            Recipes::new(root(), &config, "cpu", &Index::default())
                .and_then(|r| Ok(r.recipe(config.graph.find("ingest").expect("a node"))?))
        };
        let right = recipe(&[&source, pin]).expect("a key");
        std::fs::write(&file, "ab").expect("cuts");
        let failure = recipe(&[&source, pin]).expect_err("refused");
        assert!(
            failure.what.starts_with("SHA-256 is fb8e20fc")
                && failure.exit == failure::Exit::BadInput,
            "{failure}"
        );
        // The run takes the first source that has the checksum.
        let list = format!("ingest.source=[\"{}\", \"http://127.0.0.1:9/x.csv\"]", file.display());
        assert_eq!(recipe(&[&list, pin]).expect("a key"), right);
        std::fs::remove_file(&file).expect("removes");
        assert_eq!(recipe(&[&source, pin]).expect("a key"), right);
    }

    #[test]
    fn key_differs_when_the_machine_does_and_only_for_what_measures_time() {
        let config = Config::read(root(), "sample", &[]).expect("a configuration");
        let mut recipes = Recipes::new(root(), &config, "cpu", &Index::default()).expect("recipes");
        let file =
            |path: &&str| cache::Output { path: (*path).into(), size: 0, digest: Digest::of(b"x") };
        let files = ["train.safetensors", "valid.safetensors", "test.safetensors"]
            .iter()
            .map(file)
            .collect();
        let tensors = Manifest::new(
            &named("tensors"),
            Digest::of(b"").into(),
            Ingredients::new(),
            String::new(),
            files,
        );
        let keys = |recipes: &Recipes<'_>| {
            ["train.sweep", "train.mlp"].map(|node| {
                let node = config.graph.find(node).expect("a node");
                let content =
                    recipes.content(node, |_| Some(&tensors)).expect("ingredients").content_key();
                (content, recipes.recipe(node).expect("a key"))
            })
        };
        let [sweep, mlp] = keys(&recipes);
        recipes.machine.threads += 1;
        let [other_sweep, other_mlp] = keys(&recipes);
        assert_ne!(sweep.0, other_sweep.0);
        assert_eq!(sweep.1, other_sweep.1, "the recipe key is the same on every machine");
        assert_eq!(mlp, other_mlp);
    }

    #[test]
    fn a_source_that_cannot_be_read_does_not_affect_unrelated_nodes() {
        let config = Config::read(root(), "sample", &["embed.source=/nothing/here.bin".into()])
            .expect("a configuration");
        let recipes = Recipes::new(root(), &config, "cpu", &Index::default()).expect("recipes");
        assert!(recipes.recipe(config.graph.find("split").expect("a node")).is_ok());
        assert!(
            Failure::from(
                recipes.recipe(config.graph.find("tensors").expect("a node")).unwrap_err()
            )
            .what
            .contains("cannot read the source")
        );
    }
}
