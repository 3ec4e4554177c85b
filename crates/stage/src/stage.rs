//! What a stage's `run` gets: its options, the artifacts that it may read, and the place for its own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use failure::{Failure, Result};

use crate::declaration::{self, Declaration, Pattern};
use crate::{Options, Progress};

/// The failure for a mistake in the stage itself.
pub(crate) fn bug(what: impl std::fmt::Display, place: &str) -> Failure {
    Failure::failed(what, place, "this is a bug in the stage; please report it")
}

/// One run of a stage: its options, where its inputs lie and where its outputs go.
pub struct Stage {
    /// The node that runs.
    pub node: String,
    /// Where to report progress.
    pub progress: Progress,
    /// The device to compute on, as the user named it.
    pub device: String,
    /// Whether downloads are forbidden.
    pub offline: bool,
    /// Whether to resume an unfinished run in the output folder.
    pub resume: bool,
    pub(crate) chunk_rows: Option<usize>,
    /// The commit of the workspace, if it is known.
    pub commit: Option<String>,
    pub(crate) options: Options,
    /// The options for `options.json`: those that are set, without sources and paths, because an
    /// artifact must not name a folder.
    pub(crate) recorded: Options,
    pub(crate) declared: Declaration,
    /// Where the artifacts of other nodes lie, by node.
    pub(crate) inputs: BTreeMap<String, InputFolder>,
    /// Where those of the others lie. `None` if `xtask` runs the stage: it names every folder.
    pub(crate) artifacts: Option<PathBuf>,
    pub(crate) out: PathBuf,
    pub(crate) downloads: PathBuf,
}

/// Where the artifacts of another node lie.
pub(crate) struct InputFolder {
    pub(crate) folder: PathBuf,
    /// The files that may be read. `None` leaves that to the declaration alone.
    pub(crate) files: Option<BTreeSet<String>>,
}

impl Stage {
    /// The options, deserialised as a `T`.
    pub fn options<T: DeserializeOwned>(&self) -> Result<T> {
        let map = self.options.clone().into_iter().collect();
        serde_json::from_value(serde_json::Value::Object(map)).map_err(|e| {
            Failure::usage(
                e,
                format_args!("options of `{}`", self.node),
                "compare them with `--help`",
            )
        })
    }

    /// The path of `file` among the artifacts of `node`.
    ///
    /// # Errors
    /// If `node.toml` does not declare the file, or `xtask` did not list it: reading a file that is
    /// not in the key leads to wrong hits.
    pub fn input(&self, node: &str, file: &str) -> Result<PathBuf> {
        let refuse = |by: &str| {
            let what = format_args!("`{}` reads {node}/{file}, which {by}", self.node);
            bug(what, &format!("node `{}`", self.node))
        };
        if !self.declares(node, file) {
            return Err(refuse(&format!("its {} does not declare", declaration::FILE)));
        }
        let unlisted = || refuse("is not among its inputs");
        match (self.inputs.get(node), &self.artifacts) {
            (Some(InputFolder { files: Some(files), .. }), _) if !files.contains(file) => {
                Err(unlisted())
            }
            (Some(input), _) => Ok(input.folder.join(file)),
            (None, Some(artifacts)) => Ok(artifacts.join(node).join(file)),
            (None, None) => Err(unlisted()),
        }
    }

    /// Whether there is a result of `node`, for an input that is optional.
    pub fn has(&self, node: &str) -> bool {
        let in_folder = |artifacts: &PathBuf| artifacts.join(node).is_dir();
        self.inputs.contains_key(node) || self.artifacts.as_ref().is_some_and(in_folder)
    }

    /// Whether `node.toml` declares the file. What it says about a node by name holds for that node
    /// in place of what it says about nodes of its kind.
    fn declares(&self, node: &str, file: &str) -> bool {
        let reads = &self.declared.reads;
        let is_named = reads.iter().any(|read| read.node.as_str() == node);
        reads.iter().any(|read| {
            let applies =
                if is_named { read.node.as_str() == node } else { read.node.matches(node) };
            applies && read.files.iter().any(|declared| declared == file)
        })
    }

    /// The names of the nodes of a kind, such as `train.*`, whose artifacts can be read, in
    /// alphabetical order.
    pub fn nodes(&self, kind: &str) -> Vec<&str> {
        let kind = Pattern::from(kind);
        let exact = |name: &str| self.declared.reads.iter().any(|read| read.node.as_str() == name);
        self.inputs
            .keys()
            .map(String::as_str)
            .filter(|name| kind.matches(name) && !exact(name))
            .collect()
    }

    /// The path of an artifact that this run makes.
    pub fn output(&self, file: &str) -> PathBuf {
        self.out.join(file)
    }

    /// The folder that this run's artifacts go into.
    pub fn out(&self) -> &Path {
        &self.out
    }

    /// Writes `value` as the JSON artifact `file`, indented for people to read.
    pub fn write_json(&self, file: &str, value: &impl Serialize) -> Result<()> {
        let path = self.output(file);
        let json = serde_json::to_string_pretty(value);
        let json = json
            .map_err(|e| Failure::failed(e, path.display(), "this is a bug; please report it"))?;
        std::fs::write(&path, json + "\n").map_err(|e| Failure::io("write", &path, &e))
    }

    /// The folder where downloads are kept.
    pub fn downloads(&self) -> &Path {
        &self.downloads
    }
}
