//! Builds the stages and runs one.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use artifact::progress::Console;
use artifact::{Event, Failure, Options, Result};
use serde_json::Value as Json;

use crate::graph::{GRAPH, Node};

/// The stages' binaries by package.
pub struct Binaries(BTreeMap<String, PathBuf>);

impl Binaries {
    /// Builds all stages at once: cargo then chooses one set of features for what they share,
    /// and nothing is compiled twice.
    pub fn build(root: &Path, device: &str) -> Result<Self> {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(root).args(["build", "--message-format=json-render-diagnostics"]).stdout(Stdio::piped()).stdin(Stdio::null());
        let packages: std::collections::BTreeSet<&str> = GRAPH.iter().map(|node| node.package).collect();
        command.args(packages.iter().flat_map(|package| ["--package", package]));
        if device.starts_with("cuda") {
            command.args(["--features", "train/cuda"]);
        }
        let failed = |what: String| Failure::failed(what, "cargo build", "see the compiler's messages above");
        let output = command.spawn().and_then(std::process::Child::wait_with_output).map_err(|e| failed(format!("cannot run cargo: {e}")))?;
        if !output.status.success() {
            return Err(failed("the stages do not build".into()));
        }
        let messages = output.stdout.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice::<Json>(line).ok());
        let executable = |m: Json| Some((m["target"]["name"].as_str()?.to_owned(), PathBuf::from(m["executable"].as_str()?)));
        Ok(Self(messages.filter_map(executable).collect()))
    }

    /// Runs a node's stage with its output in `work`, and returns its one-line summary.
    pub fn run(&self, node: &Node, options: &Options, artifacts: &Path, work: &Path, downloads: &Path, device: &str) -> Result<String> {
        let place = || format!("stage `{}`", node.package);
        let bug = "run it again with RUST_BACKTRACE=1 and report this";
        let binary = self.0.get(node.package).ok_or_else(|| Failure::failed("cargo built no such binary", place(), bug))?;
        let options = serde_json::to_string(options).map_err(|e| Failure::failed(e, place(), bug))?;
        let mut command = Command::new(binary);
        command.arg("--node").arg(node.name).arg("--artifacts").arg(artifacts).arg("--out").arg(work).arg("--downloads").arg(downloads);
        command.arg("--options").arg(options).arg("--device").arg(device).arg("--events");
        for (name, _) in node.reads {
            let mut input = std::ffi::OsString::from(format!("{name}="));
            input.push(artifacts.join(name));
            command.arg("--input").arg(input);
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
