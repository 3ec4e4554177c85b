//! The configuration: defaults from the stages' own descriptions, `pipeline.toml`, a profile,
//! `--set`; each over the one before. Everything that is wrong is found before anything runs,
//! and said at once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use artifact::options::{Kind, suggest};
use artifact::stage::is_url;
use artifact::{Failure, Options, Result, Schema};
use serde_json::Value as Json;
use toml::{Table, Value};

use crate::graph::{GRAPH, Node};

/// The table that is no node's: where results are kept for other machines.
const CACHE: &str = "cache";
/// The description of its options, below `crates/`.
const CACHE_OPTIONS: &str = "remote/options.toml";

/// The options of every node, and of the cache.
pub struct Config {
    nodes: BTreeMap<&'static str, (Schema, Options)>,
}

/// The options of a remote that is set.
#[derive(Debug, PartialEq)]
pub struct RemoteOptions {
    /// A folder's path or a URL.
    pub remote: String,
    /// Whether nothing is put there.
    pub read_only: bool,
    /// Seconds that it may be silent.
    pub timeout: f64,
}

/// Everything that was found to be wrong.
#[derive(Default)]
struct Problems(Vec<String>);

impl Config {
    /// Reads the configuration of the workspace at `root`. `sets` are `node.option=value`.
    pub fn read(root: &Path, profile: &str, sets: &[String]) -> Result<Self> {
        let mut nodes = BTreeMap::new();
        for (name, files) in GRAPH.iter().map(|node| (node.name, node.options)).chain([(CACHE, &[CACHE_OPTIONS][..])]) {
            let mut texts = Vec::new();
            for file in files {
                let path = root.join("crates").join(file);
                texts.push(std::fs::read_to_string(&path).map_err(|e| Failure::io("read", &path, &e))?);
            }
            let schema = Schema::parse(&texts)
                .map_err(|e| Failure::usage(e, format_args!("options of `{name}`"), "mend the options' description"))?;
            let defaults = schema.defaults();
            nodes.insert(name, (schema, defaults));
        }
        let mut config = Self { nodes };
        let mut problems = Problems::default();
        config.file(&root.join("pipeline.toml"), "pipeline.toml", root, &mut problems)?;
        let overlay = root.join("profiles").join(format!("{profile}.toml"));
        if !overlay.exists() || profile.contains(['/', '\\']) {
            return Err(no_profile(root, profile));
        }
        config.file(&overlay, &format!("profiles/{profile}.toml"), root, &mut problems)?;
        let here = std::env::current_dir().unwrap_or_default();
        for set in sets {
            config.set(set, &here, &mut problems);
        }
        config.contradictions(&mut problems);
        if problems.0.is_empty() {
            return Ok(config);
        }
        let count = if problems.0.len() == 1 { "1 mistake".to_owned() } else { format!("{} mistakes", problems.0.len()) };
        Err(Failure::usage(
            format_args!("the configuration has {count}"),
            problems.0.join("\n         "),
            "mend it; the README lists every option",
        ))
    }

    /// What is right by itself and wrong together.
    fn contradictions(&self, problems: &mut Problems) {
        for (node, (schema, options)) in &self.nodes {
            let number = |name: &str| options.get(name).and_then(Json::as_f64);
            if let (Some(from), Some(to)) = (number("lr"), number("lr_min"))
                && to > from
            {
                problems.0.push(format!("`{node}.lr_min` {to} is more than `{node}.lr` {from}; annealing lowers the rate"));
            }
            for (name, entry) in &schema.0 {
                let source = options.get(name);
                let builtin = |s: &Json| s.as_str().is_some_and(|s| entry.is_builtin(s));
                let in_list = entry.kind == Kind::Source && source.and_then(Json::as_array).is_some_and(|items| items.iter().any(builtin));
                if in_list {
                    problems.0.push(format!("`{node}.{name}`: a list takes paths and URLs only"));
                }
                let is_set = source.is_some_and(|value| *value != entry.default_value());
                let other = entry.only_with.iter().find(|(other, value)| is_set && options.get(*other) != Some(value));
                if let Some((other, value)) = other {
                    problems.0.push(format!("`{node}.{name}` is set, but means nothing unless `{node}.{other}` is {value}"));
                }
                let pin = entry.pin.as_ref().filter(|pin| options.get(*pin).is_some_and(|v| !v.is_null()));
                if let Some(pin) = pin.filter(|_| source.is_some_and(builtin)) {
                    problems.0.push(format!("`{node}.{pin}` is set, but `{node}.{name}` is no file"));
                }
            }
        }
    }

    /// The remote, if there is one.
    pub fn remote(&self) -> Option<RemoteOptions> {
        let (_, options) = self.nodes.get(CACHE)?;
        let read_only = options.get("read_only").and_then(Json::as_bool).unwrap_or(false);
        let timeout = options.get("timeout").and_then(Json::as_f64).unwrap_or(10.0);
        Some(RemoteOptions { remote: options.get("remote")?.as_str()?.to_owned(), read_only, timeout })
    }

    /// A node's options.
    pub fn options(&self, node: &Node) -> Options {
        self.nodes.get(node.name).map(|(_, options)| options.clone()).unwrap_or_default()
    }

    /// The options of a node that name sources, with the option that pins each.
    pub fn sources(&self, node: &Node) -> Vec<(String, Option<String>)> {
        let entries = self.nodes.get(node.name).into_iter().flat_map(|(schema, _)| &schema.0);
        entries.filter(|(_, e)| matches!(e.kind, Kind::Source | Kind::Path)).map(|(name, e)| (name.clone(), e.pin.clone())).collect()
    }

    /// The paths among a node's sources.
    pub fn source_paths(&self, node: &Node) -> Vec<String> {
        let options = self.options(node);
        let mut paths = Vec::new();
        for (name, _) in self.sources(node) {
            let source = options.get(&name);
            let items =
                source.and_then(Json::as_array).map_or_else(|| source.into_iter().collect(), |items| items.iter().collect::<Vec<_>>());
            let is_path = |text: &&str| !is_url(text) && !self.is_builtin(node, &name, text);
            paths.extend(items.into_iter().filter_map(Json::as_str).filter(is_path).map(str::to_owned));
        }
        paths
    }

    /// Whether `source` is a name of the stage's own and not a file.
    pub fn is_builtin(&self, node: &Node, option: &str, source: &str) -> bool {
        self.nodes.get(node.name).and_then(|(schema, _)| schema.0.get(option)).is_some_and(|e| e.is_builtin(source))
    }

    fn file(&mut self, path: &Path, shown: &str, root: &Path, problems: &mut Problems) -> Result<()> {
        let text = std::fs::read_to_string(path).map_err(|e| Failure::io("read", path, &e))?;
        let table: Table = toml::from_str(&text).map_err(|e| Failure::usage(e, shown, "mend the file"))?;
        self.table("", &table, shown, root, problems);
        Ok(())
    }

    /// Takes a table whose keys stand below `prefix`.
    fn table(&mut self, prefix: &str, table: &Table, shown: &str, base: &Path, problems: &mut Problems) {
        for (key, value) in table {
            let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            let inner = value.as_table();
            match (split(&name), inner) {
                (None, Some(inner)) if tables().any(|n| n == name || n.starts_with(&format!("{name}."))) => {
                    self.table(&name, inner, shown, base, problems);
                }
                (Some((node, option)), Some(inner)) if self.has_options_below(node, option) => {
                    self.table(&name, inner, shown, base, problems);
                }
                (Some((node, option)), _) => {
                    let (node, option) = (node.to_owned(), option.to_owned());
                    self.value(&node, &option, value, shown, base, problems);
                }
                (None, None) if name == CACHE => problems.0.push(format!("{shown}: `{CACHE}` is a table: [{CACHE}]")),
                (None, _) => problems.0.push(format!("{shown}: there is no node `{name}`{}", suggest(&name, tables()))),
            }
        }
    }

    fn has_options_below(&self, node: &str, option: &str) -> bool {
        let prefix = format!("{option}.");
        self.nodes.get(node).is_some_and(|(schema, _)| schema.0.keys().any(|name| name.starts_with(&prefix)))
    }

    fn value(&mut self, node: &str, option: &str, value: &Value, shown: &str, base: &Path, problems: &mut Problems) {
        let Some((schema, options)) = self.nodes.get_mut(node) else { return };
        match schema.set(options, option, value) {
            Ok(()) => absolute(schema, options, option, base),
            Err(e) => problems.0.push(format!("{shown}: `{node}.{option}` {e}")),
        }
    }

    fn set(&mut self, set: &str, base: &Path, problems: &mut Problems) {
        let Some((name, text)) = set.split_once('=') else {
            problems.0.push(format!("--set {set}: there is no `=`; write --set NODE.OPTION=VALUE"));
            return;
        };
        let Some((node, option)) = split(name) else {
            let nodes: Vec<&str> =
                self.nodes.iter().filter(|(_, (schema, _))| schema.0.contains_key(name)).map(|(node, _)| *node).collect();
            if !nodes.is_empty() {
                let node = nodes.join("`, `");
                problems.0.push(format!("--set {set}: `{name}` is an option of `{node}`; write --set NODE.{name}=…"));
                return;
            }
            let known: Vec<String> = self.nodes.iter().flat_map(|(n, (s, _))| s.0.keys().map(move |o| format!("{n}.{o}"))).collect();
            // `mlp.lr` is the end of one of them, and far from it letter by letter.
            let end = format!(".{name}");
            let nearest = match known.iter().find(|option| option.ends_with(&end)) {
                Some(option) => format!("; did you mean `{option}`?"),
                None => suggest(name, known.iter().map(String::as_str)),
            };
            problems.0.push(format!("--set {set}: `{name}` is not a known option{nearest}"));
            return;
        };
        let Some((schema, options)) = self.nodes.get_mut(node) else { return };
        match schema.set_text(options, option, text) {
            Ok(()) => absolute(schema, options, option, base),
            Err(e) => problems.0.push(format!("--set {set}: `{name}` {e}")),
        }
    }
}

/// The tables of a configuration.
fn tables() -> impl Iterator<Item = &'static str> {
    GRAPH.iter().map(|node| node.name).chain([CACHE])
}

/// The node and the option of `train.mlp.lr`.
fn split(name: &str) -> Option<(&'static str, &str)> {
    tables().find_map(|table| Some((table, name.strip_prefix(table)?.strip_prefix('.')?)))
}

/// Paths are relative to where they were written: the command line's to the current folder, a
/// file's to the workspace.
fn absolute(schema: &Schema, options: &mut Options, option: &str, base: &Path) {
    let Some(entry) = schema.0.get(option).filter(|e| matches!(e.kind, Kind::Source | Kind::Path | Kind::Place)) else { return };
    let resolve = |source: &mut Json| {
        if let Some(text) = source.as_str()
            && !entry.is_builtin(text)
            && !is_url(text)
        {
            *source = Json::from(base.join(text).display().to_string());
        }
    };
    match options.get_mut(option) {
        Some(Json::Array(items)) => items.iter_mut().for_each(resolve),
        Some(one) => resolve(one),
        None => {}
    }
}

fn no_profile(root: &Path, profile: &str) -> Failure {
    let files = std::fs::read_dir(root.join("profiles")).into_iter().flatten().flatten();
    let mut known: Vec<String> =
        files.filter_map(|f| Some(PathBuf::from(f.file_name()).file_stem()?.to_string_lossy().into_owned())).collect();
    known.sort_unstable();
    let nearest = suggest(profile, known.iter().map(String::as_str));
    Failure::usage(format_args!("there is no profile `{profile}`{nearest}"), "profiles/", format_args!("there are {}", known.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::find;

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").to_owned()
    }

    fn read(sets: &[&str]) -> Result<Config> {
        Config::read(&root(), "sample", &sets.iter().map(|&s| s.to_owned()).collect::<Vec<_>>())
    }

    fn option(config: &Config, node: &str, option: &str) -> Json {
        config.options(find(node).expect("a node"))[option].clone()
    }

    #[test]
    fn both_profiles_are_right_and_have_the_contract_s_defaults() {
        let sample = read(&[]).expect("reads");
        assert_eq!(option(&sample, "ingest", "source"), "sample");
        assert_eq!(option(&sample, "embed", "source"), "hash:300");
        assert_eq!(option(&sample, "split", "seed"), 123);
        assert_eq!(option(&sample, "train.slp", "lr"), 0.1);
        assert_eq!(option(&sample, "train.mlp", "epochs"), 1000);
        assert_eq!((option(&sample, "train.slp", "epochs"), option(&sample, "train.curve", "epochs")), (10.into(), 30.into()));
        assert_eq!(option(&sample, "train.sweep", "batch_sizes").as_array().map(Vec::len), Some(11));
        let published = Config::read(&root(), "nlp100", &[]).expect("reads");
        assert_eq!(option(&published, "ingest", "expect.rows"), 422_937);
        assert_eq!(option(&published, "ingest", "expect.kept"), 13_356);
        assert!(option(&published, "embed", "source").to_string().contains("GoogleNews"));
    }

    #[test]
    fn every_mistake_is_said_at_once() {
        let failure = read(&["train.mlp.lrr=1", "split.test_size=1.5", "spilt.seed=1", "x"]).err().expect("refused");
        assert_eq!(failure.what, "the configuration has 4 mistakes");
        for part in [
            "`train.mlp.lrr` is not a known option; did you mean `lr`?",
            "must be more than 0 and less than 1",
            "did you mean `split.seed`?",
            "no `=`",
        ] {
            assert!(failure.place.contains(part), "{failure}");
        }
        assert_eq!(failure.exit, artifact::Exit::Usage);
    }

    #[test]
    fn an_option_without_its_node_is_told_the_nodes() {
        let failure = read(&["batch_sizes=[1]"]).err().expect("refused");
        assert!(failure.place.contains("`batch_sizes` is an option of `train.sweep`; write --set NODE.batch_sizes=…"), "{failure}");
    }

    #[test]
    fn the_end_of_an_option_s_name_gets_the_whole() {
        let failure = read(&["mlp.lr=1"]).err().expect("refused");
        assert!(failure.place.contains("did you mean `train.mlp.lr`?"), "{failure}");
    }

    #[test]
    fn an_option_that_would_mean_nothing_is_a_mistake() {
        let failure = read(&["train.mlp.optimizer=adamw", "train.mlp.momentum=0.9"]).err().expect("refused");
        assert!(
            failure.place.contains("`train.mlp.momentum` is set, but means nothing unless `train.mlp.optimizer` is \"sgd\""),
            "{failure}"
        );
        assert!(read(&["train.mlp.momentum=0.9"]).is_ok());
        assert!(read(&["train.sweep.devices=[\"cpu\", \"cuda:1\"]"]).is_ok());
        assert!(read(&["train.mlp.optimizer=adamw", "train.mlp.momentum=0"]).is_ok());
    }

    #[test]
    fn paths_are_relative_to_where_they_were_written() {
        let config = read(&["ingest.source=a/b.zip", "embed.source=https://example.org/v.bin"]).expect("reads");
        let here = std::env::current_dir().expect("a folder").join("a/b.zip");
        assert_eq!(option(&config, "ingest", "source"), here.display().to_string());
        assert_eq!(option(&config, "embed", "source"), "https://example.org/v.bin");
    }

    #[test]
    fn the_cache_has_a_table_of_its_own() {
        assert_eq!(read(&[]).expect("reads").remote(), None);
        let far = read(&["cache.remote=s3://bucket/x", "cache.read_only=true"]).expect("reads").remote();
        assert_eq!(far, Some(RemoteOptions { remote: "s3://bucket/x".to_owned(), read_only: true, timeout: 10.0 }));
        let near = read(&["cache.remote=x", "cache.timeout=2"]).expect("reads").remote().expect("a remote");
        assert!(Path::new(&near.remote).is_absolute() && !near.read_only);
        let failure = read(&["cache.remot=x"]).err().expect("refused");
        assert!(failure.place.contains("did you mean `remote`?"), "{failure}");
    }

    #[test]
    fn an_unknown_profile_is_named_with_the_known_ones() {
        let failure = Config::read(&root(), "nlp10", &[]).err().expect("refused");
        assert!(failure.what.contains("did you mean `nlp100`?") && failure.remedy.contains("sample"), "{failure}");
    }
}
