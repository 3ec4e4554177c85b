//! The configuration: the defaults of the stages' `options.toml`, `pipeline.toml`, a profile and
//! `--set`, each of which overrides the ones before. All mistakes are found before anything runs,
//! and are reported together.

mod layers;
mod runs;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use failure::{Failure, Result};
use serde_json::Value as Json;
use stage::{Options, Schema, is_url};
use stage::{options::Kind, options::suggest};

use crate::graph::{Declared, Graph, Node};
use layers::{ConfigLayers, Given, Setting};

/// The one table that is not a node's: where results are kept for other machines.
const CACHE: &str = "cache";
/// The file below `crates/` that describes the options of this table.
const CACHE_OPTIONS: &str = "remote/options.toml";

/// The nodes, and the options of each and of the cache.
pub struct Config {
    /// The nodes that the configuration defines.
    pub graph: Graph,
    tables: BTreeMap<String, (Schema, Options)>,
}

/// The options of the remote.
#[derive(Debug, PartialEq)]
pub struct RemoteOptions {
    /// A folder's path or a URL.
    pub remote: String,
    /// Whether results are only fetched, and none uploaded.
    pub read_only: bool,
    /// Seconds that the remote may be silent before it is left out.
    pub timeout: f64,
}

/// The mistakes found so far, each once.
#[derive(Default)]
struct Problems(Vec<String>);

impl Problems {
    fn add(&mut self, problem: String) {
        if !self.0.contains(&problem) {
            self.0.push(problem);
        }
    }
}

/// The descriptions of options, by the path of their file below `crates/`.
struct Schemas<'d> {
    declared: &'d Declared,
    texts: BTreeMap<String, String>,
}

impl<'d> Schemas<'d> {
    fn read(root: &Path, declared: &'d Declared) -> Result<Self> {
        let mut schemas = Self { declared, texts: BTreeMap::new() };
        let files = declared.iter().flat_map(|(package, node)| {
            node.options.iter().map(move |file| format!("{package}/{file}"))
        });
        for file in files.chain([CACHE_OPTIONS.to_owned()]) {
            let path = root.join("crates").join(&file);
            let text =
                std::fs::read_to_string(&path).map_err(|e| Failure::io("read", &path, &e))?;
            schemas.texts.insert(file, text);
        }
        // Every description is parsed here: a mistake in one is its author's, not the user's.
        for (package, node) in declared.iter() {
            let place = format!("options of `{}`", node.name);
            schemas
                .parse(package, &node.options)
                .map_err(|e| Failure::usage(e, place, "correct the description of the options"))?;
        }
        Ok(schemas)
    }

    fn parse(&self, package: &str, files: &[String]) -> Result<Schema, String> {
        let texts: Vec<&String> =
            files.iter().filter_map(|file| self.texts.get(&format!("{package}/{file}"))).collect();
        Schema::parse(&texts)
    }

    /// The options of the table `name`; for a training run, those of its `net`.
    fn of(&self, name: &str, net: Option<&str>) -> Option<Schema> {
        if name == CACHE {
            return Schema::parse(&[self.texts.get(CACHE_OPTIONS)?]).ok();
        }
        let (package, node) = self.declared.find(name, net)?;
        self.parse(package, &node.options).ok()
    }

    /// The names of a table's options, of all nets that it can have.
    fn names(&self, table: &str) -> Vec<String> {
        let nets = self.declared.nets(table);
        let all = if nets.is_empty() { vec![None] } else { nets.into_iter().map(Some).collect() };
        let mut names: Vec<String> = all
            .into_iter()
            .filter_map(|net| self.of(table, net))
            .flat_map(|schema| schema.0.into_keys())
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

impl Config {
    /// Reads the configuration of the workspace at `root`. `sets` are `node.option=value`.
    pub fn read(root: &Path, profile: &str, sets: &[String]) -> Result<Self> {
        let declared = Declared::read(root)?;
        let schemas = Schemas::read(root, &declared)?;
        let mut problems = Problems::default();
        let mut layers = ConfigLayers::new(&declared);
        let overlay = root.join("profiles").join(format!("{profile}.toml"));
        if !overlay.exists() || profile.contains(['/', '\\']) {
            return Err(no_profile(root, profile));
        }
        for (path, shown) in [
            (root.join("pipeline.toml"), "pipeline.toml".to_owned()),
            (overlay, format!("profiles/{profile}.toml")),
        ] {
            let text =
                std::fs::read_to_string(&path).map_err(|e| Failure::io("read", &path, &e))?;
            layers
                .file(&text, &shown, root, &mut problems)
                .map_err(|e| Failure::usage(e, &shown, "correct the file"))?;
        }
        let here = std::env::current_dir().unwrap_or_default();
        for set in sets {
            layers.set(set, &here, &|table| schemas.names(table), &mut problems);
        }
        layers.refuse_unknown(&mut problems);
        let mut tables = BTreeMap::new();
        for name in declared.fixed().map(|(_, node)| node.name.as_str()).chain([CACHE]) {
            let Some(schema) = schemas.of(name, None) else { continue };
            let mut options = schema.defaults();
            apply(&schema, &mut options, name, layers.of(name), &mut problems);
            tables.insert(name.to_owned(), (schema, options));
        }
        let mut runs = Vec::new();
        for run in runs::resolve(&layers, &schemas, &mut problems) {
            runs.push((run.name.clone(), run.net));
            tables.insert(run.name.into(), (run.schema, run.options));
        }
        let config = Self { graph: Graph::new(&declared, &runs)?, tables };
        config.contradictions(&mut problems);
        if problems.0.is_empty() {
            return Ok(config);
        }
        let count = if problems.0.len() == 1 {
            "1 mistake".to_owned()
        } else {
            format!("{} mistakes", problems.0.len())
        };
        Err(Failure::usage(
            format_args!("the configuration has {count}"),
            problems.0.join("\n         "),
            "correct it; docs/options.md lists every option",
        ))
    }

    /// Adds options that are valid by themselves but contradict each other.
    fn contradictions(&self, problems: &mut Problems) {
        for (node, (schema, options)) in &self.tables {
            let number = |name: &str| options.get(name).and_then(Json::as_f64);
            if let (Some(from), Some(to)) = (number("lr"), number("lr_min"))
                && to > from
            {
                problems.add(format!("`{node}.lr_min` {to} is more than `{node}.lr` {from}; annealing lowers the rate"));
            }
            for (name, entry) in &schema.0 {
                let source = options.get(name);
                let builtin = |s: &Json| s.as_str().is_some_and(|s| entry.is_builtin(s));
                let in_list = entry.kind == Kind::Source
                    && source
                        .and_then(Json::as_array)
                        .is_some_and(|items| items.iter().any(builtin));
                if in_list {
                    problems.add(format!("`{node}.{name}`: a list takes paths and URLs only"));
                }
                let is_set = source.is_some_and(|value| *value != entry.default_value());
                let other = entry
                    .only_with
                    .iter()
                    .find(|(other, value)| is_set && options.get(*other) != Some(value));
                if let Some((other, value)) = other {
                    problems.add(format!("`{node}.{name}` is set, but has no effect unless `{node}.{other}` is {value}"));
                }
                let pin = entry
                    .pin
                    .as_ref()
                    .filter(|pin| options.get(*pin).is_some_and(|v| !v.is_null()));
                if let Some(pin) = pin.filter(|_| source.is_some_and(builtin)) {
                    problems
                        .add(format!("`{node}.{pin}` is set, but `{node}.{name}` is not a file"));
                }
            }
        }
    }

    /// The options of the remote, if one is set.
    pub fn remote(&self) -> Option<RemoteOptions> {
        let (_, options) = self.tables.get(CACHE)?;
        let read_only = options.get("read_only").and_then(Json::as_bool).unwrap_or(false);
        let timeout = options.get("timeout").and_then(Json::as_f64).unwrap_or(10.0);
        Some(RemoteOptions {
            remote: options.get("remote")?.as_str()?.to_owned(),
            read_only,
            timeout,
        })
    }

    /// A node's options.
    pub fn options(&self, node: &Node) -> Options {
        self.tables.get(node.name.as_str()).map(|(_, options)| options.clone()).unwrap_or_default()
    }

    /// The options of a node that name sources, each with the option that pins it, if any.
    pub fn sources(&self, node: &Node) -> Vec<(String, Option<String>)> {
        let entries =
            self.tables.get(node.name.as_str()).into_iter().flat_map(|(schema, _)| &schema.0);
        entries
            .filter(|(_, e)| matches!(e.kind, Kind::Source | Kind::Path))
            .map(|(name, e)| (name.clone(), e.pin.clone()))
            .collect()
    }

    /// A node's sources that are paths, neither URLs nor built-in names.
    pub fn source_paths(&self, node: &Node) -> Vec<String> {
        let options = self.options(node);
        let mut paths = Vec::new();
        for (name, _) in self.sources(node) {
            let source = options.get(&name);
            let items = source.and_then(Json::as_array).map_or_else(
                || source.into_iter().collect(),
                |items| items.iter().collect::<Vec<_>>(),
            );
            let is_path = |text: &&str| !is_url(text) && !self.is_builtin(node, &name, text);
            paths.extend(
                items.into_iter().filter_map(Json::as_str).filter(is_path).map(str::to_owned),
            );
        }
        paths
    }

    /// Whether `source` is a name built into the stage, not a file.
    pub fn is_builtin(&self, node: &Node, option: &str, source: &str) -> bool {
        self.tables
            .get(node.name.as_str())
            .and_then(|(schema, _)| schema.0.get(option))
            .is_some_and(|e| e.is_builtin(source))
    }
}

/// Applies settings to a table's options, and adds their mistakes to `problems`.
fn apply(
    schema: &Schema,
    options: &mut Options,
    table: &str,
    settings: &[Setting],
    problems: &mut Problems,
) {
    for Setting { option, value, shown, base, .. } in settings {
        let done = match value {
            Given::Toml(value) => schema.set(options, option, value),
            Given::Text(text) => schema.set_text(options, option, text),
        };
        match done {
            Ok(()) => absolute(schema, options, option, base),
            Err(e) => problems.add(format!("{shown}: `{table}.{option}` {e}")),
        }
    }
}

/// Makes an option's paths absolute. Those on the command line are relative to the current folder,
/// those in a file to the workspace.
fn absolute(schema: &Schema, options: &mut Options, option: &str, base: &Path) {
    let Some(entry) =
        schema.0.get(option).filter(|e| matches!(e.kind, Kind::Source | Kind::Path | Kind::Place))
    else {
        return;
    };
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
    let mut known: Vec<String> = files
        .filter_map(|f| {
            Some(PathBuf::from(f.file_name()).file_stem()?.to_string_lossy().into_owned())
        })
        .collect();
    known.sort_unstable();
    let nearest = suggest(profile, known.iter().map(String::as_str));
    Failure::usage(
        format_args!("there is no profile `{profile}`{nearest}"),
        "profiles/",
        format_args!("use one of {}", known.join(", ")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").to_owned()
    }

    fn read(sets: &[&str]) -> Result<Config> {
        Config::read(&root(), "sample", &sets.iter().map(|&s| s.to_owned()).collect::<Vec<_>>())
    }

    fn option(config: &Config, node: &str, option: &str) -> Json {
        config.options(config.graph.find(node).expect("a node"))[option].clone()
    }

    #[test]
    fn both_profiles_are_valid_and_have_the_expected_defaults() {
        let sample = read(&[]).expect("reads");
        assert_eq!(option(&sample, "ingest", "source"), "sample");
        assert_eq!(option(&sample, "embed", "source"), "hash:300");
        assert_eq!(option(&sample, "split", "seed"), 123);
        assert_eq!(option(&sample, "train.slp", "lr"), 0.1);
        assert_eq!(option(&sample, "train.mlp", "epochs"), 1000);
        assert_eq!(
            (option(&sample, "train.slp", "epochs"), option(&sample, "train.curve", "epochs")),
            (10.into(), 30.into())
        );
        assert_eq!(
            option(&sample, "train.sweep", "batch_sizes").as_array().map(Vec::len),
            Some(11)
        );
        let published = Config::read(&root(), "nlp100", &[]).expect("reads");
        assert_eq!(option(&published, "ingest", "expect.rows"), 422_937);
        assert_eq!(option(&published, "ingest", "expect.kept"), 13_356);
        assert!(option(&published, "embed", "source").to_string().contains("GoogleNews"));
    }

    #[test]
    fn all_mistakes_are_reported_together() {
        let failure = read(&["train.mlp.lrr=1", "split.test_size=1.5", "spilt.seed=1", "x"])
            .err()
            .expect("refused");
        assert_eq!(failure.what, "the configuration has 4 mistakes");
        for part in [
            "`train.mlp.lrr` is not a known option; did you mean `lr`?",
            "must be more than 0 and less than 1",
            "did you mean `split.seed`?",
            "no `=`",
        ] {
            assert!(failure.place.contains(part), "{failure}");
        }
        assert_eq!(failure.exit, failure::Exit::Usage);
    }

    #[test]
    fn an_option_without_its_node_gets_the_nodes_that_have_it() {
        let failure = read(&["batch_sizes=[1]"]).err().expect("refused");
        assert!(
            failure.place.contains(
                "`batch_sizes` is an option of `train.sweep`; write --set train.sweep.batch_sizes=…"
            ),
            "{failure}"
        );
    }

    #[test]
    fn the_end_of_an_option_s_name_gets_the_full_name() {
        let failure = read(&["mlp.lr=1"]).err().expect("refused");
        assert!(failure.place.contains("did you mean `train.mlp.lr`?"), "{failure}");
    }

    #[test]
    fn an_option_that_would_have_no_effect_is_a_mistake() {
        let failure =
            read(&["train.mlp.optimizer=adamw", "train.mlp.momentum=0.9"]).err().expect("refused");
        assert!(
            failure.place.contains("`train.mlp.momentum` is set, but has no effect unless `train.mlp.optimizer` is \"sgd\""),
            "{failure}"
        );
        assert!(read(&["train.mlp.momentum=0.9"]).is_ok());
        assert!(read(&["train.sweep.devices=[\"cpu\", \"cuda:1\"]"]).is_ok());
        assert!(read(&["train.mlp.optimizer=adamw", "train.mlp.momentum=0"]).is_ok());
    }

    #[test]
    fn paths_are_relative_to_where_they_were_written() {
        let config = read(&["ingest.source=a/b.zip", "embed.source=https://example.org/v.bin"])
            .expect("reads");
        let here = std::env::current_dir().expect("a folder").join("a/b.zip");
        assert_eq!(option(&config, "ingest", "source"), here.display().to_string());
        assert_eq!(option(&config, "embed", "source"), "https://example.org/v.bin");
    }

    #[test]
    fn the_cache_has_its_own_table() {
        assert_eq!(read(&[]).expect("reads").remote(), None);
        let far =
            read(&["cache.remote=s3://bucket/x", "cache.read_only=true"]).expect("reads").remote();
        assert_eq!(
            far,
            Some(RemoteOptions {
                remote: "s3://bucket/x".to_owned(),
                read_only: true,
                timeout: 10.0
            })
        );
        let near = read(&["cache.remote=x", "cache.timeout=2"])
            .expect("reads")
            .remote()
            .expect("a remote");
        assert!(Path::new(&near.remote).is_absolute() && !near.read_only);
        let failure = read(&["cache.remot=x"]).err().expect("refused");
        assert!(failure.place.contains("did you mean `remote`?"), "{failure}");
    }

    #[test]
    fn an_unknown_profile_is_named_with_the_known_ones() {
        let failure = Config::read(&root(), "nlp10", &[]).err().expect("refused");
        assert!(
            failure.what.contains("did you mean `nlp100`?") && failure.remedy.contains("sample"),
            "{failure}"
        );
    }

    fn names(config: &Config) -> Vec<&str> {
        config.graph.iter().filter(|node| node.is_run).map(|node| node.name.as_str()).collect()
    }

    #[test]
    fn a_new_run_has_the_options_of_its_net() {
        let config = read(&["train.wide.net=\"mlp\"", "train.wide.hidden=400", "train.a.net=slp"])
            .expect("reads");
        assert_eq!(
            names(&config),
            ["train.slp", "train.curve", "train.mlp", "train.wide", "train.a"]
        );
        assert_eq!(
            (option(&config, "train.wide", "hidden"), option(&config, "train.wide", "batch_size")),
            (400.into(), 64.into())
        );
        assert_eq!(option(&config, "train.a", "batch_size"), 1);
        for (sets, want) in [
            (&["train.mpl.lr=0.1"][..], "there is no run `train.mpl`; did you mean `train.mlp`?"),
            (
                &["train.x.net=slp", "train.X.net=slp"],
                "`train.x` and `train.X` differ only in case",
            ),
            (&["train.other.lr=1"], "there is no run `train.other`; a new run needs"),
            (&["train.x.net=cnn"], "`train.x.net` cannot be \"cnn\"; expected one of slp, mlp"),
            (&["train.x.net=slp", "train.x.hidden=4"], "`train.x.hidden` is not a known option"),
            (&["train.x y.net=slp"], "a run's name may contain only letters, digits, _ and -"),
            (
                &["train.slp.net=mlp", "train.slp.hidden=x"],
                "`train.slp.hidden` must be a whole number",
            ),
        ] {
            let failure = read(sets).err().expect("refused");
            assert!(failure.place.contains(want), "{failure}");
        }
        assert!(read(&["train.slp.net=mlp"]).is_ok(), "an entry like any other");
        assert!(read(&["train.x.net='mlp'", "train.x.hidden=9"]).is_ok(), "quoted as in TOML");
    }

    #[test]
    fn a_matrix_is_a_run_for_each_combination() {
        let sets = [
            "train.wide.net=mlp",
            "matrix.train.wide.hidden=[100, 200, 400]",
            "matrix.train.wide.lr=[0.01, 1e-3]",
        ];
        let config = read(&sets).expect("reads");
        assert_eq!(names(&config).len(), 3 + 6);
        assert_eq!(
            names(&config)[3..5],
            ["train.wide@hidden=100+lr=0.01", "train.wide@hidden=100+lr=0.001"]
        );
        assert_eq!(option(&config, "train.wide@hidden=400+lr=0.001", "hidden"), 400);
        assert_eq!(config.graph.called("train.wide").expect("six").len(), 6);
        let nets = read(&["matrix.train.x.net=[\"slp\", \"mlp\"]"]).expect("reads");
        assert_eq!(names(&nets)[3..], ["train.x@net=slp", "train.x@net=mlp"]);
        for (set, want) in [
            ("matrix.train.slp.lr=0.1", "must be a list of values"),
            ("matrix.train.slp.lr=[0.1, -1]", "`matrix.train.slp.lr` must be more than 0, not -1"),
            ("matrix.train.slp.net=[slp, mlp]", "such as [1, 2] or [\"a\", \"b\"]"),
            (
                "matrix.train.slp.init=[\"a/w\", \"b/w\"]",
                "gives two runs the name `train.slp@init=w`",
            ),
            ("matrix.train.slp.lr=[1, 1.0]", "gives two runs the name `train.slp@lr=1.0`"),
            ("matrix.split.seed=[1, 2]", "only a training run has a matrix"),
            ("matrix.train.mpl.lr=[1]", "there is no run `train.mpl`; did you mean `train.mlp`?"),
        ] {
            let failure = read(&[set]).err().expect("refused");
            assert!(failure.place.contains(want), "{set}: {failure}");
        }
        // Paths of the command line are relative to the current folder, and names have none.
        let paths = read(&["matrix.train.slp.init=[\"a/x.st\", \"b/y.st\"]"]).expect("reads");
        assert_eq!(names(&paths)[..2], ["train.slp@init=x.st", "train.slp@init=y.st"]);
        let here = std::env::current_dir().expect("a folder").join("a/x.st");
        assert_eq!(option(&paths, "train.slp@init=x.st", "init"), here.display().to_string());
        // A `--set` after another one overrides it, so it must have an effect.
        let useless = ["matrix.train.slp.lr=[0.1, 0.2]", "train.slp.lr=0.5"];
        let failure = read(&useless).err().expect("refused");
        assert!(failure.place.contains("`train.slp.lr` has no effect"), "{failure}");
        let many: Vec<String> = (1..=1001).map(|n| n.to_string()).collect();
        let failure =
            read(&[&format!("matrix.train.slp.seed=[{}]", many.join(","))]).err().expect("refused");
        assert!(
            failure.place.contains("has 1001 combinations; at most 1000 are allowed"),
            "{failure}"
        );
    }
}
