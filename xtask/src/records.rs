//! The records of evaluations and tunings among the artifacts. Each names a key of what it was made
//! of, and the report shows those whose key is that of the configuration.

use std::cell::LazyCell;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use cache::{Digest, Store};
use failure::{Failure, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::config::Config;
use crate::recipe::Recipes;

/// A kind of record. Each has a folder with a file for each run.
#[derive(Clone, Copy)]
pub enum Kind {
    Evaluated,
    Tuned,
}

/// What every record has.
#[derive(Deserialize)]
struct Keyed {
    key: String,
}

impl Kind {
    /// The folder, which is also the option of the report that names the files.
    const fn name(self) -> &'static str {
        match self {
            Self::Evaluated => "evaluated",
            Self::Tuned => "tuned",
        }
    }

    /// The file of a run.
    pub fn file(self, artifacts: &Path, run: &str) -> PathBuf {
        let name = run.split_once('.').map_or(run, |(_, name)| name);
        artifacts.join(self.name()).join(format!("{name}.json"))
    }
}

/// Writes a record.
pub fn write(path: &Path, record: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(record)
        .map_err(|e| Failure::failed(e, path.display(), "this is a bug; please report it"))?;
    let folder = path.parent().unwrap_or(path);
    std::fs::create_dir_all(folder).map_err(|e| Failure::io("create folder", folder, &e))?;
    atomic::write_atomically(path, (text + "\n").as_bytes())
        .map_err(|e| Failure::io("write", path, &e))
}

/// The key of an evaluation: the recipe of the run in a configuration with [`neutral`].
pub fn key_of_evaluation(
    root: &Path,
    neutral: &Config,
    store: &Store,
    run: &str,
) -> Result<String> {
    let recipes = Recipes::new(root, neutral, "cpu", &store.index)?;
    let node = neutral.graph.called(run)?.into_iter().next();
    let recipe = node.map(|node| recipes.recipe(node)).transpose()?;
    Ok(recipe.map_or_else(String::new, |recipe| recipe.to_string()))
}

/// The settings without those that differ between the splits of an evaluation.
pub fn neutral(sets: &[String]) -> Vec<String> {
    let same = ["split.seed=0", "split.train_share=1"].map(str::to_owned);
    [sets, &same].concat()
}

/// The key of a tuning: a digest of the recipes of all that the run reads. The run's own options are
/// what a tuning is to change, so they are not part of it.
pub fn key_of_tuning(root: &Path, config: &Config, store: &Store, run: &str) -> Result<String> {
    let recipes = Recipes::new(root, config, "cpu", &store.index)?;
    let mut text = String::new();
    for input in config.graph.called(run)?.into_iter().take(1).flat_map(|node| &node.reads) {
        if let Some(node) = config.graph.find(&input.node) {
            let _ = writeln!(text, "{} {}", input.node, recipes.recipe(node)?);
        }
    }
    Ok(Digest::of(text.as_bytes()).to_string())
}

/// Lets the report show the records that are of the configured data and options. `read_neutral` reads
/// the configuration with [`neutral`].
pub fn show(
    root: &Path,
    config: &mut Config,
    store: &Store,
    read_neutral: impl FnOnce() -> Result<Config>,
) {
    let read_neutral = LazyCell::new(read_neutral);
    let of_evaluation = |run: &str| match &*read_neutral {
        Ok(neutral) => key_of_evaluation(root, neutral, store, run),
        Err(failure) => Err(failure.clone()),
    };
    let evaluated: Vec<Json> = config
        .graph
        .iter()
        .filter(|node| node.is_run)
        .map(|node| (Kind::Evaluated.file(store.root(), &node.name), node.name.as_str()))
        .filter(|(path, run)| is_shown(path, || of_evaluation(run)))
        .map(|(path, _)| Json::from(path.display().to_string()))
        .collect();
    let tuned: Vec<Json> = config
        .tunings
        .iter()
        .map(|of| (Kind::Tuned.file(store.root(), &of.run), of.run.as_str()))
        .filter(|(path, run)| is_shown(path, || key_of_tuning(root, config, store, run)))
        .map(|(path, _)| Json::from(path.display().to_string()))
        .collect();
    for (kind, paths) in [(Kind::Evaluated, evaluated), (Kind::Tuned, tuned)] {
        if !paths.is_empty() {
            config.fill_in("report", kind.name(), Json::from(paths));
        }
    }
}

/// Whether the record at `path` has this key.
fn is_shown(path: &Path, key: impl FnOnce() -> Result<String>) -> bool {
    let Ok(bytes) = std::fs::read(path) else { return false };
    match serde_json::from_slice::<Keyed>(&bytes) {
        // Where the data cannot be found, no record is of it.
        Ok(record) => key().is_ok_and(|key| key == record.key),
        // The report explains what is wrong with it.
        Err(_) => true,
    }
}
