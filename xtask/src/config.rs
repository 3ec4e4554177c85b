//! The configuration: the defaults of the stages' `options.toml`, `pipeline.toml`, a profile and
//! `--set`, each of which overrides the ones before. All mistakes are found before anything runs,
//! and are reported together.

mod checks;
mod layers;
mod runs;
mod tables;
mod tuning;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cache::NodeName;
use failure::{Failure, Result};
use serde_json::Value as Json;
use stage::{Options, Schema, is_url};
use stage::{options::Kind, options::suggest};

use crate::declared::Declared;
use crate::graph::{Graph, Node, UserRun};
use layers::{ConfigLayers, Given, Setting};
pub use tables::{ExecutorKind, ExecutorOptions, RemoteOptions};
use tables::{OTHER_TABLES, other_tables};
pub use tuning::{Trial, Tuning};

/// The nodes, and the options of each and of the cache.
pub struct Config {
    /// The nodes that the configuration defines.
    pub graph: Graph,
    /// The tunings that it describes.
    pub tunings: Vec<Tuning>,
    /// The names of the trials that it was read with, in their order.
    pub trials: Vec<NodeName>,
    tables: BTreeMap<String, (Schema, Options)>,
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
        let others = OTHER_TABLES.into_iter().map(|(_, file)| file.to_owned());
        for file in files.chain(others) {
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
        if let Some((_, file)) = OTHER_TABLES.into_iter().find(|(table, _)| *table == name) {
            return Schema::parse(&[self.texts.get(file)?]).ok();
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
        Self::with_trials(root, profile, sets, "", &[])
    }

    /// The configuration with runs for the trials of `run`. The trial without values is the run
    /// itself.
    pub fn with_trials(
        root: &Path,
        profile: &str,
        sets: &[String],
        run: &str,
        trials: &[&Trial],
    ) -> Result<Self> {
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
        for name in declared.fixed().map(|(_, node)| node.name.as_str()).chain(other_tables()) {
            let Some(schema) = schemas.of(name, None) else { continue };
            let mut options = schema.defaults();
            apply(&schema, &mut options, name, layers.of(name), &mut problems);
            tables.insert(name.to_owned(), (schema, options));
        }
        let mut named = runs::resolve(&layers, &schemas, &mut problems);
        let tunings = tuning::resolve(&layers, &named, &mut problems);
        let mut trial_names = Vec::new();
        for trial in trials {
            let choices = match Tuning::choices(trial) {
                Ok(choices) => choices,
                Err(e) => {
                    problems.add(e);
                    continue;
                }
            };
            let Some(of) = runs::trial(run, &choices, &layers, &schemas, &mut problems) else {
                continue;
            };
            if trial_names.contains(&of.name) {
                problems.add(format!("two trials have the name `{}`", of.name));
            }
            trial_names.push(of.name.clone());
            if !named.iter().any(|other| other.name == of.name) {
                named.push(of);
            }
        }
        let mut runs = Vec::new();
        for run in named {
            runs.push(UserRun {
                name: run.name.clone(),
                net: run.net,
                options: run.options.clone(),
            });
            tables.insert(run.name.into(), (run.schema, run.options));
        }
        checks::wrong_members(&declared, &runs, &mut problems);
        checks::contradictions(&tables, &mut problems);
        if problems.0.is_empty() {
            let graph = Graph::new(&declared, &runs, &layers.left_out())?;
            return Ok(Self { graph, tunings, trials: trial_names, tables });
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

    /// Sets an option of a node that the user has left unset.
    pub fn fill_in(&mut self, node: &str, option: &str, value: Json) {
        let option = self.tables.get_mut(node).and_then(|(_, options)| options.get_mut(option));
        if let Some(option) = option.filter(|option| option.is_null()) {
            *option = value;
        }
    }

    /// A node's options.
    pub fn options(&self, node: &Node) -> Options {
        self.tables.get(node.name.as_str()).map(|(_, options)| options.clone()).unwrap_or_default()
    }

    /// The options of a node that name sources.
    pub fn sources(&self, node: &Node) -> Vec<SourceOption> {
        let entries =
            self.tables.get(node.name.as_str()).into_iter().flat_map(|(schema, _)| &schema.0);
        entries
            .filter(|(_, e)| e.kind.names_files())
            .map(|(name, e)| SourceOption {
                name: name.clone(),
                pin: e.pin.clone(),
                reads_all: e.kind == Kind::Files,
            })
            .collect()
    }

    /// A node's sources that are paths, neither URLs nor built-in names.
    pub fn source_paths(&self, node: &Node) -> Vec<String> {
        let options = self.options(node);
        let mut paths = Vec::new();
        for SourceOption { name, .. } in self.sources(node) {
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
            Ok(()) => {
                absolute(schema, options, option, base);
                // What is set last counts.
                let replaced = schema.0.get(option).and_then(|entry| entry.replaces.as_ref());
                if let Some(other) = replaced.and_then(|other| options.get_mut(other)) {
                    *other = Json::Null;
                }
            }
            Err(e) => problems.add(format!("{shown}: `{table}.{option}` {e}")),
        }
    }
}

/// Makes an option's paths absolute. Those on the command line are relative to the current folder,
/// those in a file to the workspace.
fn absolute(schema: &Schema, options: &mut Options, option: &str, base: &Path) {
    let Some(entry) =
        schema.0.get(option).filter(|e| e.kind.names_files() || e.kind == Kind::Place)
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

/// An option that names sources.
pub struct SourceOption {
    /// Its name.
    pub name: String,
    /// The option that holds the checksum of its file.
    pub pin: Option<String>,
    /// Whether all of its sources are read, and not only the first that can be.
    pub reads_all: bool,
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
mod tests;
