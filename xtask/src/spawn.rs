//! Runs a stage.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bars::Board;
use cache::{Download, NodeName, Said};
use failure::{Failure, Result};
use stage::{Event, Options};

use crate::binaries::Binaries;
use crate::graph::Node;

/// One run of a stage, with all that its thread needs.
pub struct Job<'g> {
    /// The node.
    pub node: &'g Node,
    /// Its options.
    pub options: Options,
    /// Where the results of all nodes lie.
    pub artifacts: PathBuf,
    /// Where the files that it reads lie, by node.
    pub inputs: Vec<(NodeName, PathBuf)>,
    /// Where its own go.
    pub work: PathBuf,
    /// Where downloads are kept.
    pub downloads: PathBuf,
    /// The lock that the stage holds while it lives.
    pub lock: PathBuf,
    /// What its program must have been built of: what its key says.
    pub sources: Vec<(String, String)>,
    /// What to compute on.
    pub device: String,
    /// Whether to go on with what lies in `work`.
    pub resume: bool,
    /// Whether nothing may be downloaded.
    pub offline: bool,
    /// The workspace's commit, where it is known.
    pub commit: Option<String>,
    /// Where to say how far it is.
    pub board: Board,
}

/// What runs the stages: their programs, or in tests something that behaves like them.
pub trait Runner: Sync {
    /// Makes ready what runs them, so that the time that takes is not a stage's.
    fn ready(&self) -> Result<()>;

    /// Runs a node's stage and returns what it said of its result.
    fn run(&self, job: &Job<'_>) -> Result<Said>;
}

impl Runner for Binaries<'_> {
    fn ready(&self) -> Result<()> {
        self.build_once()
    }

    fn run(&self, job: &Job<'_>) -> Result<Said> {
        let node = job.node;
        let place = || format!("stage `{}`", node.package);
        let bug = "run it again with RUST_BACKTRACE=1 and report this";
        let options =
            serde_json::to_string(&job.options).map_err(|e| Failure::failed(e, place(), bug))?;
        let mut started = false;
        let mut child = self.spawn(&node.package, Some(&job.sources), |program| {
            // A program that was replaced as it started may have left something.
            if std::mem::replace(&mut started, true) && !job.resume {
                std::fs::remove_dir_all(&job.work)
                    .and_then(|()| std::fs::create_dir_all(&job.work))?;
            }
            command(program, job, &options).spawn()
        })?;
        let stdin = child.stdin.take();
        let mut console = job.board.console(&node.name);
        let (mut summary, mut failure, mut downloaded) = (None, None, Vec::new());
        let lines = child.stdout.take().map(BufReader::new).into_iter().flat_map(BufRead::lines);
        for line in lines.map_while(std::io::Result::ok) {
            match serde_json::from_str(&line) {
                Ok(Event::Summary { text }) => summary = Some(text),
                Ok(Event::Failure { failure: f }) => failure = Some(f),
                Ok(Event::Download { url, bytes, sha256 }) => {
                    downloaded.push(Download { url, bytes, sha256 });
                }
                Ok(event) => console.show(&event),
                Err(_) => console.line(&line),
            }
        }
        console.clear();
        let status = child.wait().map_err(|e| Failure::failed(e, place(), bug))?;
        drop(stdin);
        match (failure, summary) {
            (Some(failure), _) => Err(failure),
            (None, Some(summary)) if status.success() => {
                Ok(Said { summary, downloads: downloaded })
            }
            _ => {
                let remedy = "if the system killed it, it may have run out of memory; the same command goes on with a training run";
                Err(Failure::failed(format_args!("the stage ended with {status}"), place(), remedy))
            }
        }
    }
}

/// The command line of a stage.
fn command(program: &Path, job: &Job<'_>, options: &str) -> Command {
    let Job {
        node, artifacts, inputs, work, downloads, lock, device, resume, offline, commit, ..
    } = job;
    let mut command = Command::new(program);
    command
        .arg("--node")
        .arg(node.name.as_str())
        .arg("--artifacts")
        .arg(artifacts)
        .arg("--out")
        .arg(work)
        .arg("--downloads")
        .arg(downloads);
    // Not as an argument, which every user of the machine may read: a source's address may have a
    // secret in it.
    command
        .env(stage::OPTIONS_VARIABLE, options)
        .arg("--device")
        .arg(device)
        .arg("--events")
        .arg("--stage-lock")
        .arg(lock);
    for (flag, _) in
        [("--resume", resume), ("--offline", offline)].into_iter().filter(|(_, is)| **is)
    {
        command.arg(flag);
    }
    if let Some(commit) = commit {
        command.arg("--commit").arg(commit);
    }
    for (name, folder) in inputs {
        command.arg("--input").arg(name.as_str()).arg(folder);
    }
    // At batch 64 the multi-layer net's matrices are too small to share: waking a second thread for
    // each product took longer than the product (0.39 s an epoch on two threads, 0.19 s on one,
    // real headlines). The bytes are the same with any number. What is done by hand has threads of
    // its own, as many as there are processors, also where several nodes train at once: all but one
    // of them are done in a moment.
    if node.uses_device && std::env::var_os("RAYON_NUM_THREADS").is_none() {
        command.env("RAYON_NUM_THREADS", "1");
    }
    // The open pipe to stdin tells the stage that its parent lives.
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}
