//! Runs a stage.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bars::Board;
use cache::{Download, NodeName, StageReport};
use failure::{Failure, Result};
use stage::{Event, Options};

use crate::binaries::Binaries;
use crate::fetch::SourceFetcher;
use crate::graph::Node;

/// One run of a stage, with all that its thread needs.
pub struct Job<'g> {
    pub node: &'g Node,
    pub options: Options,
    /// The folder with the results of all nodes.
    pub artifacts: PathBuf,
    /// The folders of the files that it reads, by node.
    pub inputs: Vec<(NodeName, PathBuf)>,
    /// The folder that the stage writes into.
    pub work: PathBuf,
    pub downloads: PathBuf,
    /// The lock file that the stage holds until it ends.
    pub lock: PathBuf,
    /// What its program must have been built from, as its key lists it.
    pub sources: Vec<(String, String)>,
    pub device: String,
    /// Whether to resume the unfinished run in `work`.
    pub resume: bool,
    /// Whether downloads are forbidden.
    pub offline: bool,
    /// The workspace's commit, if it is known.
    pub commit: Option<String>,
    /// Shows the stage's progress.
    pub board: Board,
}

/// What runs the stages: their programs, or in tests something that behaves like them.
pub trait Runner: Sync {
    /// Prepares what runs the stages, so that the time this takes does not count as a stage's.
    fn ready(&self) -> Result<()>;

    /// Runs a node's stage and returns what it reported about its result.
    fn run(&self, job: &Job<'_>) -> Result<StageReport>;
}

impl Runner for Binaries<'_> {
    fn ready(&self) -> Result<()> {
        self.build_once()
    }

    fn run(&self, job: &Job<'_>) -> Result<StageReport> {
        let node = job.node;
        let place = || format!("stage `{}`", node.package);
        let bug = "run it again with RUST_BACKTRACE=1 and report this";
        let (root, index) = self.place();
        let (downloads, lock) = (&job.downloads, &job.lock);
        let fetcher = SourceFetcher { root, index, downloads, lock, offline: job.offline };
        fetcher.fetch(&job.options)?;
        let options =
            serde_json::to_string(&job.options).map_err(|e| Failure::failed(e, place(), bug))?;
        let mut started = false;
        let mut child = self.spawn(&node.package, Some(&job.sources), |program| {
            // A program that was replaced as it started may have left files.
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
                Ok(StageReport { summary, downloads: downloaded })
            }
            _ => {
                let remedy = "if the system killed it, check whether it ran out of memory; the same command resumes a training run";
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
    // Not as an argument, which every user of the machine can read: a source's address may contain
    // a secret.
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
        let of_node = node.reads.iter().filter(|input| input.node == *name);
        command.arg("--input").arg(name.as_str()).arg(folder);
        command.args(of_node.flat_map(|input| &input.files));
    }
    // At batch 64 the multi-layer net's matrices are too small to share: waking a second thread for
    // each product took longer than the product (0.39 s an epoch on two threads, 0.19 s on one,
    // real headlines). The bytes are the same with any number. Training by hand has its own
    // threads, one for each processor, even when several nodes train at once: all but one of them
    // are done in a moment.
    if node.uses_device && std::env::var_os("RAYON_NUM_THREADS").is_none() {
        command.env("RAYON_NUM_THREADS", "1");
    }
    // The open pipe to stdin tells the stage that its parent is alive.
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}
