//! Builds the stages and runs one.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use artifact::progress::Console;
use artifact::{Event, Failure, Options, Result};
use serde_json::Value as Json;

use crate::graph::{GRAPH, Node};

/// One run of a stage.
pub struct Call<'a> {
    /// The node.
    pub node: &'a Node,
    /// Its options.
    pub options: &'a Options,
    /// Where the results of the nodes before it lie.
    pub artifacts: &'a Path,
    /// Where its own go.
    pub work: &'a Path,
    /// Where downloads are kept.
    pub downloads: &'a Path,
    /// What to compute on.
    pub device: &'a str,
    /// Whether to go on with what lies in `work`.
    pub resume: bool,
}

/// The stages' binaries by package.
pub struct Binaries(BTreeMap<String, PathBuf>);

impl Binaries {
    /// Builds all stages at once: cargo then chooses one set of features for what they share,
    /// and nothing is compiled twice.
    pub fn build(root: &Path, device: &str) -> Result<Self> {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        // `cargo run` describes xtask in variables that build scripts watch (ring's does); passed
        // on, they would rebuild what a plain `cargo build` has built, and the other way round.
        for (name, _) in std::env::vars_os() {
            let of_xtask = |name: &str| {
                ["OUT_DIR", "CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"]
                    .iter()
                    .any(|p| name.starts_with(p))
            };
            if name.to_str().is_some_and(of_xtask) {
                command.env_remove(name);
            }
        }
        command.current_dir(root).args(["build", "--message-format=json-render-diagnostics"]).stdout(Stdio::piped()).stdin(Stdio::null());
        let packages: std::collections::BTreeSet<&str> = GRAPH.iter().map(|node| node.package).collect();
        command.args(packages.iter().flat_map(|package| ["--package", package]));
        if device.starts_with("cuda") {
            command.args(["--features", "train/cuda"]);
        }
        let failed = |what: String| Failure::failed(what, "cargo build", "see the compiler's messages above");
        let output =
            command.spawn().and_then(std::process::Child::wait_with_output).map_err(|e| failed(format!("cannot run cargo: {e}")))?;
        if !output.status.success() {
            return Err(failed("the stages do not build".into()));
        }
        let messages = output.stdout.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice::<Json>(line).ok());
        let executable = |m: Json| Some((m.pointer("/target/name")?.as_str()?.to_owned(), PathBuf::from(m.get("executable")?.as_str()?)));
        Ok(Self(messages.filter_map(executable).collect()))
    }

    /// Runs a node's stage and returns its one-line summary.
    pub fn run(&self, call: &Call<'_>) -> Result<String> {
        let Call { node, options, artifacts, work, downloads, device, resume } = *call;
        let place = || format!("stage `{}`", node.package);
        let bug = "run it again with RUST_BACKTRACE=1 and report this";
        let binary = self.0.get(node.package).ok_or_else(|| Failure::failed("cargo built no such binary", place(), bug))?;
        let options = serde_json::to_string(options).map_err(|e| Failure::failed(e, place(), bug))?;
        let mut command = Command::new(binary);
        command.arg("--node").arg(node.name).arg("--artifacts").arg(artifacts).arg("--out").arg(work).arg("--downloads").arg(downloads);
        command.arg("--options").arg(options).arg("--device").arg(device).arg("--events");
        if resume {
            command.arg("--resume");
        }
        for (name, _) in node.reads {
            let mut input = std::ffi::OsString::from(format!("{name}="));
            input.push(artifacts.join(name));
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
        let mut console = Console::new(node.name);
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
            _ => Err(Failure::failed(format_args!("the stage ended with {status}"), place(), bug)),
        }
    }
}
