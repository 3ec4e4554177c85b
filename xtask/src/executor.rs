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

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use cache::StageReport;
use failure::{Failure, Result};
use stage::Step;

use crate::binaries::Binaries;
use crate::config::{Config, ExecutorKind, ExecutorOptions};
use crate::graph::Node;
use crate::selection::Selection;
use crate::spawn::{Done, Job, Launch, Runner, Stopped, fetch_sources, run_program};

pub use follow::jobs_here;
pub use slurm::is_in_allocation as is_in_job;
pub use submit::{run_job, submit};

/// How often a process is started that dies.
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
                format_args!("{option} is for jobs, and there is no executor that has any"),
                option,
                format_args!("add --executor {with}, or leave it out"),
            ));
        }
    }
    Ok(options.kind.is_some().then_some(options))
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
        let jobs = match kind {
            ExecutorKind::Local => of_options().unwrap_or(jobs),
            ExecutorKind::Slurm => slurm::tasks().or_else(of_options).unwrap_or(1),
        };
        Self { binaries, options, kind, slots: Slots::new(jobs) }
    }

    /// How a process of the node is started that does this part of the work.
    fn launch(&self, node: &Node, arguments: Vec<String>, label: Option<String>) -> Launch {
        let (by, threads) = match self.kind {
            // A node that measures time has the machine to itself.
            _ if node.measures_time => (Vec::new(), None),
            ExecutorKind::Slurm => (slurm::srun(&self.options, node), Some(self.options.cpus)),
            ExecutorKind::Local => {
                let processors = std::thread::available_parallelism().map_or(1, usize::from);
                let each = (processors / self.slots.all).max(1);
                (Vec::new(), u32::try_from(each).ok())
            }
        };
        Launch { by, arguments, threads, label }
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
        let list = self.launch(job.node, with(&["--list-steps".to_owned()]), None);
        let steps = self.process(job, &list)?.steps.unwrap_or_default();
        for Step { name, chunks } in steps {
            let shards = shards(chunks, self.slots.all);
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
                    self.launch(job.node, with(&arguments), Some(label))
                })
                .collect();
            if self.all(job, &launches)? {
                break;
            }
        }
        let launch = self.launch(job.node, with(&[]), None);
        self.process(job, &launch)?.report(job)
    }

    /// Runs the processes of a step, and returns whether the remaining steps have nothing to do.
    /// After a failure, those that run are waited for.
    fn all(&self, job: &Job<'_>, launches: &[Launch]) -> Result<bool> {
        let steps_done = AtomicBool::new(false);
        let failed = Mutex::new(None::<Failure>);
        let is_over = || failed.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        std::thread::scope(|scope| {
            for launch in launches {
                let (failed, is_over, steps_done) = (&failed, &is_over, &steps_done);
                scope.spawn(move || {
                    if is_over() {
                        return;
                    }
                    match self.process(job, launch) {
                        Ok(done) => {
                            steps_done.fetch_or(done.steps_done, Ordering::Relaxed);
                        }
                        Err(failure) => {
                            let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                            failed.get_or_insert(failure);
                        }
                    }
                });
            }
        });
        let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
        failed.map_or(Ok(steps_done.into_inner()), Err)
    }
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
        let launch = self.launch(job.node, Vec::new(), None);
        self.process(job, &launch)?.report(job)
    }
}

/// The chunks of each process of a step: ranges that differ by one chunk at most.
fn shards(chunks: usize, processes: usize) -> Vec<Range<usize>> {
    let count = processes.min(chunks);
    let start = |at: usize| at * (chunks / count) + at.min(chunks % count);
    (0..count).map(|at| start(at)..start(at + 1)).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_chunk_is_in_one_process() {
        for chunks in [0, 1, 2, 7, 100] {
            for processes in [1, 2, 4, 7, 200] {
                let shards = shards(chunks, processes);
                let all: Vec<usize> = shards.iter().cloned().flatten().collect();
                assert_eq!(all, (0..chunks).collect::<Vec<_>>());
                assert_eq!(shards.len(), processes.min(chunks));
                let sizes = shards.iter().map(ExactSizeIterator::len);
                assert!(sizes.clone().max().unwrap_or(0) - sizes.min().unwrap_or(0) <= 1);
            }
        }
    }
}
