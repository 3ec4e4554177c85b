//! What runs the stages when more than one process shares their work: processes on this machine, or
//! steps in an allocation of Slurm.
//!
//! A stage that can be shared ([`stage::shards`]) runs as one process that lists its steps, then as
//! many processes as there are for each step, and as one that makes the result. Every other stage is
//! one process. Scheduling, placement and failures of nodes are Slurm's: knockline only starts a
//! process again that died without a word.

mod follow;
mod slurm;
mod submit;

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cache::{Download, StageReport};
use failure::{Failure, Result};
use stage::options::suggest;
use stage::shards::share;
use stage::{Step, Until};

use crate::binaries::Binaries;
use crate::config::{Config, ExecutorKind, ExecutorOptions};
use crate::device;
use crate::selection::Selection;
use crate::spawn::{Done, Job, Launch, Runner, Stopped, fetch_sources, run_program};

pub use follow::jobs_here;
pub use submit::{is_later_try, run_job, submit};

/// The most threads that a stage takes.
const MOST_THREADS: u32 = 256;
/// Steps that take longer are told, so that one sees what a stage waits for.
const WORTH_TELLING: Duration = Duration::from_secs(1);
/// How many times a process that dies is started.
const TRIES: u32 = 4;
/// How long to wait before the first new try on a cluster, which may have to see first that a node is
/// gone; each further wait is twice as long.
const PAUSE: Duration = Duration::from_secs(2);

/// What the command line and the configuration choose, if they choose an executor.
///
/// # Errors
/// If the command line has options of an executor and there is none.
pub fn chosen(config: &Config, selection: &Selection) -> Result<Option<ExecutorOptions>> {
    let mut options = config.executor();
    options.kind = selection.executor.or(options.kind);
    options.jobs_max = selection.jobs_max.map(u32::from).or(options.jobs_max);
    let wrong = |what: String, option: &str, remedy: &str| {
        Err(Failure::usage(what, format_args!("option `executor.{option}`"), remedy))
    };
    if let Some(memory) = options.memory.as_deref().filter(|m| slurm::megabytes(m).is_none()) {
        let remedy = "write megabytes, or a number with K, M, G or T, such as 8G";
        return wrong(format!("`{memory}` is not a size"), "memory", remedy);
    }
    for of_stage in &options.srun {
        let stage = of_stage.split_once(':').map(|(stage, _)| stage.trim());
        let packages: BTreeSet<&str> = config.graph.iter().map(|n| n.package.as_str()).collect();
        if !stage.is_some_and(|stage| packages.contains(stage)) {
            let nearest = suggest(stage.unwrap_or_default(), packages.iter().copied());
            return wrong(
                format!("`{of_stage}` does not begin with a stage and a colon{nearest}"),
                "srun",
                "write STAGE: OPTIONS, such as \"train: --cpus-per-task=8\"",
            );
        }
    }
    for (option, is_given, kinds) in [
        (
            "--jobs-max",
            selection.jobs_max.is_some(),
            &[ExecutorKind::Local, ExecutorKind::Slurm][..],
        ),
        ("--detach", selection.detach, &[ExecutorKind::Slurm]),
    ] {
        if is_given && !options.kind.is_some_and(|kind| kinds.contains(&kind)) {
            let with = if kinds.len() > 1 { "local or --executor slurm" } else { "slurm" };
            return Err(Failure::usage(
                format_args!("{option} needs --executor {with}"),
                option,
                "add that, or leave it out",
            ));
        }
    }
    Ok(options.kind.is_some().then_some(options))
}

/// Whether the stages run on a cluster.
pub fn is_on_cluster(config: &Config, selection: &Selection) -> bool {
    chosen(config, selection)
        .is_ok_and(|options| options.and_then(|options| options.kind) == Some(ExecutorKind::Slurm))
}

impl ExecutorOptions {
    /// Whether the run is to be submitted as a job. In a job's allocation, it runs there.
    pub fn is_to_be_submitted(&self) -> bool {
        self.kind == Some(ExecutorKind::Slurm) && !slurm::is_in_allocation()
    }
}

/// Runs the stages as the options say.
pub struct Executor<'e> {
    binaries: &'e Binaries<'e>,
    options: ExecutorOptions,
    kind: ExecutorKind,
    slots: Slots,
}

impl<'e> Executor<'e> {
    /// An executor that starts the programs `binaries`. `jobs` is how many processes may run at once
    /// if the options do not say.
    pub fn new(binaries: &'e Binaries<'e>, options: ExecutorOptions, jobs: usize) -> Self {
        let kind = options.kind.unwrap_or(ExecutorKind::Local);
        let of_options = || options.jobs_max.and_then(|jobs| usize::try_from(jobs).ok());
        let jobs = match (kind, of_options()) {
            (ExecutorKind::Local, most) => most.unwrap_or(jobs),
            // No more than the allocation has room for.
            (ExecutorKind::Slurm, Some(most)) => slurm::tasks().map_or(most, |t| t.min(most)),
            (ExecutorKind::Slurm, None) => slurm::tasks().unwrap_or(1),
        };
        Self { binaries, options, kind, slots: Slots::new(jobs) }
    }

    /// How a process is started that is one of `beside` at the same time.
    fn launch(
        &self,
        job: &Job<'_>,
        arguments: Vec<String>,
        beside: usize,
        label: Option<String>,
    ) -> Launch {
        let node = job.node;
        let (by, threads) = match self.kind {
            // A node that measures time has the machine to itself.
            _ if node.measures_time => (Vec::new(), None),
            ExecutorKind::Slurm => {
                let command = slurm::srun(&self.options, node);
                let threads = slurm::cpus(&command);
                (command, threads)
            }
            // Processes that run side by side share the processors.
            ExecutorKind::Local if beside > 1 => {
                let processors = std::thread::available_parallelism().map_or(1, usize::from);
                (Vec::new(), u32::try_from((processors / beside).max(1)).ok())
            }
            ExecutorKind::Local => (Vec::new(), None),
        };
        Launch { by, arguments, threads: threads.map(|threads| threads.min(MOST_THREADS)), label }
    }

    /// Runs a process to its end, and starts it again if it dies.
    fn process(&self, job: &Job<'_>, launch: &Launch) -> Result<Done> {
        let _slot = self.slots.take();
        let mut tries = 0;
        loop {
            tries += 1;
            match run_program(self.binaries, job, launch) {
                Ok(done) => return Ok(done),
                Err(Stopped::Died(failure)) if tries < TRIES => {
                    let name = launch.label.as_deref().unwrap_or(&job.node.name);
                    let what = &failure.what;
                    job.board.aside(|| eprintln!("warning: {name}: {what}; it is started again"));
                    if self.kind == ExecutorKind::Slurm {
                        std::thread::sleep(PAUSE * (1 << (tries - 1)));
                    }
                }
                Err(stopped) => return Err(stopped.into_failure()),
            }
        }
    }

    fn shared(&self, job: &Job<'_>) -> Result<StageReport> {
        let rows = ["--chunk-rows".to_owned(), self.options.chunk_rows.to_string()];
        let with = |more: &[String]| [&rows[..], more].concat();
        let list = self.launch(job, with(&["--list-steps".to_owned()]), 1, None);
        let listed = self.process(job, &list)?;
        let mut downloads = listed.downloads;
        let mut steps: VecDeque<Step> = listed.steps.unwrap_or_default().into();
        while let Some(Step { name, chunks }) = steps.pop_front() {
            // Nothing shares a GPU.
            let is_gpu = job.node.uses_device && device::is_cuda(&job.device);
            let processes = if is_gpu { 1 } else { self.slots.all };
            let shards = shards(chunks, processes);
            let launches: Vec<Launch> = shards
                .iter()
                .enumerate()
                .map(|(at, chunks)| {
                    let part = if shards.len() > 1 {
                        format!(" {}/{}", at + 1, shards.len())
                    } else {
                        String::new()
                    };
                    let label = format!("{} {name}{part}", job.node.name);
                    let chunks = format!("{}..{}", chunks.start, chunks.end);
                    let arguments = ["--step", &name, "--chunks", &chunks].map(str::to_owned);
                    self.launch(job, with(&arguments), shards.len(), Some(label))
                })
                .collect();
            let start = Instant::now();
            let done = self.all(job, &launches)?;
            let by = launches.len();
            tell(job, &format!("{name} (chunks: {chunks}, processes: {by})"), start);
            downloads.extend(done.downloads);
            if let Some(until) = done.steps_done {
                let is_next =
                    |step: &Step| matches!(&until, Until::Step(next) if *next == step.name);
                while steps.front().is_some_and(|step| !is_next(step)) {
                    steps.pop_front();
                }
            }
        }
        let launch = self.launch(job, with(&[]), 1, None);
        let start = Instant::now();
        let mut report = self.process(job, &launch)?.report(job)?;
        tell(job, "result", start);
        // Whichever process read a source tells of it.
        for download in downloads {
            if !report.downloads.contains(&download) {
                report.downloads.push(download);
            }
        }
        Ok(report)
    }

    /// Runs the processes of a step. After a failure, those that run are waited for.
    fn all(&self, job: &Job<'_>, launches: &[Launch]) -> Result<StepDone> {
        let done = Mutex::new(Ok(StepDone::default()));
        let locked = || done.lock().unwrap_or_else(PoisonError::into_inner);
        std::thread::scope(|scope| {
            for launch in launches {
                scope.spawn(|| {
                    if locked().is_err() {
                        return;
                    }
                    let ended = self.process(job, launch);
                    let mut all = locked();
                    match (&mut *all, ended) {
                        (Ok(all), Ok(ended)) => {
                            all.steps_done = ended.steps_done.or(all.steps_done.take());
                            all.downloads.extend(ended.downloads);
                        }
                        (Ok(_), Err(failure)) => *all = Err(failure),
                        (Err(_), _) => {}
                    }
                });
            }
        });
        done.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells how long a step has taken, if it was long.
fn tell(job: &Job<'_>, step: &str, start: Instant) {
    let seconds = start.elapsed();
    if seconds >= WORTH_TELLING {
        job.board.aside(|| eprintln!("{}: {step}: {:.1} s", job.node.name, seconds.as_secs_f64()));
    }
}

/// What the processes of a step told.
#[derive(Default)]
struct StepDone {
    /// As in [`Done`].
    steps_done: Option<Until>,
    downloads: Vec<Download>,
}

impl Runner for Executor<'_> {
    fn ready(&self) -> Result<()> {
        self.binaries.ready()
    }

    fn processes(&self) -> Option<usize> {
        Some(self.slots.all)
    }

    fn run(&self, job: &Job<'_>) -> Result<StageReport> {
        fetch_sources(self.binaries, job)?;
        if job.node.shared {
            return self.shared(job);
        }
        let launch = self.launch(job, Vec::new(), 1, None);
        self.process(job, &launch)?.report(job)
    }
}

/// The chunks of each process of a step.
fn shards(chunks: usize, processes: usize) -> Vec<Range<usize>> {
    let count = processes.min(chunks);
    (0..count).map(|at| share(chunks, count, at)).collect()
}

/// How many processes may run at once.
struct Slots {
    all: usize,
    free: Mutex<usize>,
    freed: Condvar,
}

struct Slot<'s>(&'s Slots);

impl Slots {
    fn new(all: usize) -> Self {
        Self { all, free: Mutex::new(all), freed: Condvar::new() }
    }

    /// Waits for a slot.
    fn take(&self) -> Slot<'_> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free =
            self.freed.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        Slot(self)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}
