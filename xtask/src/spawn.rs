//! Builds the stages and runs one.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use artifact::progress::Board;
use artifact::{Event, Failure, Options, Result};
use serde_json::Value as Json;

use crate::graph::{GRAPH, Node};

/// One run of a stage.
pub struct Call<'a> {
    /// The node.
    pub node: &'a Node,
    /// Its options.
    pub options: &'a Options,
    /// Where the results of all nodes lie.
    pub artifacts: &'a Path,
    /// Where the files that it reads lie, by node.
    pub inputs: &'a [(&'static str, PathBuf)],
    /// Where its own go.
    pub work: &'a Path,
    /// Where downloads are kept.
    pub downloads: &'a Path,
    /// The lock that the stage holds while it lives.
    pub lock: &'a Path,
    /// What to compute on.
    pub device: &'a str,
    /// Whether to go on with what lies in `work`.
    pub resume: bool,
    /// The workspace's commit, where it is known.
    pub commit: Option<&'a str>,
    /// Where to say how far it is.
    pub board: &'a Board,
}

/// The stages' binaries by package.
pub struct Binaries(BTreeMap<String, PathBuf>);

/// The sources of each package, as `(file, digest)`, relative to the workspace.
pub type Sources = BTreeMap<&'static str, Vec<(String, String)>>;

/// The packages of all stages, each once.
pub fn stages() -> Vec<&'static str> {
    GRAPH.iter().map(|node| node.package).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Beside the binaries: what they were built of when xtask last built them.
const STAMP: &str = "knockline-sources.json";

impl Binaries {
    /// Builds the `packages` at once; for the stages, all of them: cargo then chooses one set of features for what they share,
    /// and nothing is compiled twice.
    ///
    /// cargo tells a changed file by its time stamp, keys by its content. A file that was replaced
    /// by one with an older time stamp (`cp -p`, `rsync -a`) would be built into a key and not into
    /// the binary; so where contents changed and cargo saw nothing, the files are touched and the
    /// build is run again.
    pub fn build(root: &Path, device: &str, packages: &[&str], sources: &Sources) -> Result<Self> {
        let messages = cargo_build(root, device, packages)?;
        let built: Vec<Built> = messages.iter().filter_map(Built::of).collect();
        let Some(stamp) = built.first().and_then(|b| b.executable.parent()).map(|dir| dir.join(STAMP)) else {
            return Err(Failure::failed("cargo built no stage", "cargo build", "this is a bug; please report it"));
        };
        let mut before: BTreeMap<String, Vec<(String, String)>> =
            std::fs::read(&stamp).ok().and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_default();
        let unseen =
            |b: &&Built| b.fresh && before.get(&b.name).is_some_and(|old| sources.get(b.name.as_str()).is_some_and(|now| now != old));
        let touched: Vec<&Built> = built.iter().filter(unseen).collect();
        let changed = touched.iter().filter_map(|b| Some((before.get(&b.name)?, sources.get(b.name.as_str())?)));
        // A file that is gone leaves nothing to touch, but cargo sees that by itself.
        for (file, _) in changed.flat_map(|(old, now)| now.iter().filter(|source| !old.contains(source))) {
            let path = root.join(file);
            let touch = std::fs::File::options().append(true).open(&path).and_then(|f| f.set_modified(std::time::SystemTime::now()));
            touch.map_err(|e| Failure::io("touch", &path, &e))?;
        }
        if !touched.is_empty() {
            cargo_build(root, device, packages)?;
        }
        before.extend(sources.iter().map(|(package, files)| ((*package).to_owned(), files.clone())));
        let written = serde_json::to_vec(&before).map_err(std::io::Error::other).and_then(|bytes| std::fs::write(&stamp, bytes));
        written.map_err(|e| Failure::io("write", &stamp, &e))?;
        Ok(Self(built.into_iter().map(|b| (b.name, b.executable)).collect()))
    }

    /// The binary of a package.
    pub fn path(&self, package: &str) -> Result<&Path> {
        let missing =
            || Failure::failed("cargo built no such binary", format_args!("package `{package}`"), "this is a bug; please report it");
        self.0.get(package).map(PathBuf::as_path).ok_or_else(missing)
    }

    /// Runs a node's stage and returns its one-line summary.
    pub fn run(&self, call: &Call<'_>) -> Result<String> {
        let Call { node, options, artifacts, inputs, work, downloads, lock, device, resume, commit, board } = *call;
        let place = || format!("stage `{}`", node.package);
        let bug = "run it again with RUST_BACKTRACE=1 and report this";
        let binary = self.path(node.package)?;
        let options = serde_json::to_string(options).map_err(|e| Failure::failed(e, place(), bug))?;
        let mut command = Command::new(binary);
        command.arg("--node").arg(node.name).arg("--artifacts").arg(artifacts).arg("--out").arg(work).arg("--downloads").arg(downloads);
        command.arg("--options").arg(options).arg("--device").arg(device).arg("--events").arg("--stage-lock").arg(lock);
        if resume {
            command.arg("--resume");
        }
        if let Some(commit) = commit {
            command.arg("--commit").arg(commit);
        }
        for (name, folder) in inputs {
            let mut input = std::ffi::OsString::from(format!("{name}="));
            input.push(folder);
            command.arg("--input").arg(input);
        }
        // At batch 64 the multi-layer net's matrices are too small to share: waking a second
        // thread for each product took longer than the product (0.39 s an epoch on two threads,
        // 0.19 s on one, real headlines). The bytes are the same with any number.
        if node.package == "train" && std::env::var_os("RAYON_NUM_THREADS").is_none() {
            command.env("RAYON_NUM_THREADS", "1");
        }
        // The open pipe to stdin tells the stage that its parent lives.
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.map_err(|e| Failure::failed(format_args!("cannot run the stage: {e}"), binary.display(), bug))?;
        let stdin = child.stdin.take();
        let mut console = board.console(node.name);
        let (mut summary, mut failure) = (None, None);
        let lines = child.stdout.take().map(BufReader::new).into_iter().flat_map(BufRead::lines);
        for line in lines.map_while(std::io::Result::ok) {
            match serde_json::from_str(&line) {
                Ok(Event::Summary { text }) => summary = Some(text),
                Ok(Event::Failure { failure: f }) => failure = Some(f),
                Ok(event) => console.show(&event),
                Err(_) => console.line(&line),
            }
        }
        console.clear();
        let status = child.wait().map_err(|e| Failure::failed(e, place(), bug))?;
        drop(stdin);
        match (failure, summary) {
            (Some(failure), _) => Err(failure),
            (None, Some(summary)) if status.success() => Ok(summary),
            _ => {
                let remedy = "if the system killed it, it may have run out of memory; --resume goes on with a training run";
                Err(Failure::failed(format_args!("the stage ended with {status}"), place(), remedy))
            }
        }
    }
}

/// A binary that cargo built, or found built.
struct Built {
    name: String,
    executable: PathBuf,
    fresh: bool,
}

impl Built {
    /// From one of cargo's messages, if it is about a binary.
    fn of(message: &Json) -> Option<Self> {
        Some(Self {
            name: message.pointer("/target/name")?.as_str()?.to_owned(),
            executable: PathBuf::from(message.get("executable")?.as_str()?),
            fresh: message.get("fresh")?.as_bool()?,
        })
    }
}

/// Builds the packages and returns cargo's messages.
fn cargo_build(root: &Path, device: &str, packages: &[&str]) -> Result<Vec<Json>> {
    let cuda = device.starts_with("cuda");
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // `cargo run` describes xtask in variables that build scripts watch (ring's does); passed on,
    // they would rebuild what a plain `cargo build` has built, and the other way round.
    for (name, _) in std::env::vars_os() {
        let of_xtask = |name: &str| {
            let prefixes = ["OUT_DIR", "CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
            prefixes.iter().any(|prefix| name.starts_with(prefix))
        };
        if name.to_str().is_some_and(of_xtask) {
            command.env_remove(name);
        }
    }
    command.current_dir(root).args(["build", "--message-format=json-render-diagnostics"]).stdout(Stdio::piped()).stdin(Stdio::null());
    command.args(packages.iter().flat_map(|package| ["--package", package]));
    if cuda && packages.contains(&"train") {
        command.args(["--features", "train/cuda"]);
    }
    let remedy = if cuda {
        "see the messages above; a build for CUDA needs NVIDIA's toolkit, with nvcc"
    } else {
        "see the compiler's messages above"
    };
    let failed = |what: String| Failure::failed(what, "cargo build", remedy);
    let output = command.spawn().and_then(std::process::Child::wait_with_output).map_err(|e| failed(format!("cannot run cargo: {e}")))?;
    if !output.status.success() {
        return Err(failed("it does not build".into()));
    }
    Ok(output.stdout.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect())
}
