//! Runs a stage.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use bars::Board;
use cache::{Download, NodeName, StageReport};
use failure::{Failure, Result};
use stage::{Event, Options, Step, Until};

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

    /// How many processes may run at once, if that is the runner's own choice.
    fn processes(&self) -> Option<usize> {
        None
    }

    /// Runs a node's stage and returns what it reported about its result.
    fn run(&self, job: &Job<'_>) -> Result<StageReport>;
}

impl Runner for Binaries<'_> {
    fn ready(&self) -> Result<()> {
        self.build_once()
    }

    fn run(&self, job: &Job<'_>) -> Result<StageReport> {
        fetch_sources(self, job)?;
        let done = run_program(self, job, &Launch::default()).map_err(Stopped::into_failure)?;
        done.report(job)
    }
}

/// Fetches the sources that a stage reads, if they are not here.
pub fn fetch_sources(binaries: &Binaries<'_>, job: &Job<'_>) -> Result<()> {
    let (root, index) = binaries.place();
    let (downloads, lock) = (&job.downloads, &job.lock);
    SourceFetcher { root, index, downloads, lock, offline: job.offline }.fetch(&job.options)
}

/// How a stage's program is started.
#[derive(Default)]
pub struct Launch {
    /// A command and its arguments that start the program; without any, it is started directly.
    pub by: Vec<String>,
    /// Further arguments of the program.
    pub arguments: Vec<String>,
    /// How many threads it may use, if not one for each processor.
    pub threads: Option<u32>,
    /// What its messages are labelled with, if not the node's name.
    pub label: Option<String>,
}

/// What a stage's program told before it ended.
pub struct Done {
    summary: Option<String>,
    /// The files that it downloaded and used.
    pub downloads: Vec<Download>,
    /// The steps of its shared work, if it was asked for them.
    pub steps: Option<Vec<Step>>,
    /// What comes next, if the steps before that have nothing more to do.
    pub steps_done: Option<Until>,
}

impl Done {
    /// What the program reported about its result.
    pub fn report(self, job: &Job<'_>) -> Result<StageReport> {
        let none = || Failure::failed("the stage reported no result", &job.node.name, REPORT_IT);
        Ok(StageReport { summary: self.summary.ok_or_else(none)?, downloads: self.downloads })
    }
}

/// Why a stage's program did not do its work.
pub enum Stopped {
    /// It failed, and would fail again.
    Failed(Failure),
    /// It was killed, or its machine was.
    Died(Failure),
}

impl Stopped {
    /// The failure to show.
    pub fn into_failure(self) -> Failure {
        let (Self::Failed(failure) | Self::Died(failure)) = self;
        failure
    }
}

const REPORT_IT: &str = "run it again with RUST_BACKTRACE=1 and report this";

/// Runs a stage's program to its end.
pub fn run_program(
    binaries: &Binaries<'_>,
    job: &Job<'_>,
    launch: &Launch,
) -> Result<Done, Stopped> {
    let node = job.node;
    let place = format!("stage `{}`", node.package);
    let bug = |e: &dyn std::fmt::Display| Stopped::Failed(Failure::failed(e, &place, REPORT_IT));
    let options = serde_json::to_string(&job.options).map_err(|e| bug(&e))?;
    let mut started = false;
    let child = binaries.spawn(&node.package, Some(&job.sources), |program| {
        // A program that was replaced as it started may have left files.
        if std::mem::replace(&mut started, true) && !job.resume && launch.arguments.is_empty() {
            std::fs::remove_dir_all(&job.work).and_then(|()| std::fs::create_dir_all(&job.work))?;
        }
        command(program, job, &options, launch).spawn()
    });
    let mut child = child.map_err(Stopped::Failed)?;
    let stdin = child.stdin.take();
    let mut console = job.board.console(launch.label.as_deref().unwrap_or(&node.name));
    let (mut failure, mut steps) = (None, None);
    let (mut chunks_done, mut steps_done) = (false, None);
    let (mut summary, mut downloads) = (None, Vec::new());
    let lines = child.stdout.take().map(BufReader::new).into_iter().flat_map(BufRead::lines);
    for line in lines.map_while(std::io::Result::ok) {
        match serde_json::from_str(&line) {
            Ok(Event::Summary { text }) => summary = Some(text),
            Ok(Event::Steps { steps: s }) => steps = Some(s),
            Ok(Event::ChunksDone) => chunks_done = true,
            Ok(Event::StepsDone { until }) => steps_done = Some(until),
            Ok(Event::Failure { failure: f }) => failure = Some(f),
            Ok(Event::Download { url, bytes, sha256 }) => {
                downloads.push(Download { url, bytes, sha256 });
            }
            Ok(event) => console.show(&event),
            Err(_) => console.line(&line),
        }
    }
    console.clear();
    let status = child.wait().map_err(|e| bug(&e))?;
    drop(stdin);
    match failure {
        Some(failure) => Err(Stopped::Failed(failure)),
        // Not only the exit status: `srun` also gives 0 if the node of its task fails.
        None if status.success() && (summary.is_some() || steps.is_some() || chunks_done) => {
            Ok(Done { summary, downloads, steps, steps_done })
        }
        None => {
            let remedy = if launch.by.is_empty() {
                "if the system killed it, check whether it ran out of memory; the same command resumes a training run"
            } else {
                "the job's log has what Slurm says; check the memory, and the option `executor.srun`"
            };
            let early = if status.success() { ", before it was done" } else { "" };
            let what = format_args!("the stage ended with {status}{early}");
            let failure = Failure::failed(what, &place, remedy);
            Err(if is_asked_to_stop(status) {
                Stopped::Failed(failure)
            } else {
                Stopped::Died(failure)
            })
        }
    }
}

/// Whether a process ended because somebody wants the run to end: by Ctrl-C, or by the signal that
/// `scancel` and most others send, which `srun` gives as an exit status.
fn is_asked_to_stop(status: ExitStatus) -> bool {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return matches!(signal, 2 | 15);
    }
    matches!(status.code(), Some(130 | 143))
}

/// The command line of a stage.
fn command(program: &Path, job: &Job<'_>, options: &str, launch: &Launch) -> Command {
    let Job {
        node, artifacts, inputs, work, downloads, lock, device, resume, offline, commit, ..
    } = job;
    let mut command = match launch.by.split_first() {
        None => Command::new(program),
        Some((by, arguments)) => {
            let mut command = Command::new(by);
            command.args(arguments).arg(program);
            command
        }
    };
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
    command.args(&launch.arguments);
    if let Some(threads) = launch.threads {
        let threads = threads.to_string();
        for variable in ["KNOCKLINE_THREADS", "RAYON_NUM_THREADS", "POLARS_MAX_THREADS"] {
            // What the user has set counts.
            if std::env::var_os(variable).is_none() {
                command.env(variable, &threads);
            }
        }
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
