//! Follows a job of Slurm: shows what it writes, and ends as it ends.

use std::fs::File;
use std::io::{IsTerminal as _, Read as _, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use failure::{Failure, Result};

use super::slurm::{self, QueuedJob};
use super::submit::JobFiles;
use crate::context::Context;
use crate::interrupt;

/// How often new output is shown.
const PACE: Duration = Duration::from_millis(200);
/// How often Slurm is asked. Every question costs its controller something.
const ASK: Duration = Duration::from_secs(2);
/// How long a file may take to appear here.
const LATE: Duration = Duration::from_secs(30);
/// How long Slurm may be silent before this is told.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whoever holds this writes to the terminal: the job's output must not hide a question.
static TERMINAL: Mutex<()> = Mutex::new(());

/// Follows the job to its end.
pub fn follow(files: &JobFiles, id: &str) -> Result<ExitCode> {
    let asked = id.to_owned();
    interrupt::watch_with(move || leave_or_cancel(&asked));
    let mut output = Tail::new(files.output());
    let mut errors = Tail::new(files.errors());
    let (mut asked, mut answered) = (None::<Instant>, Instant::now());
    let mut told = String::new();
    let mut gone = None::<Instant>;
    loop {
        let ended = files.ended(id);
        let terminal = TERMINAL.lock().unwrap_or_else(PoisonError::into_inner);
        output.copy(&mut std::io::stdout());
        errors.copy(&mut std::io::stderr());
        if let Some(ended) = ended {
            return Ok(ExitCode::from(ended.status));
        }
        // On a file system that machines share, its last words may take a while to appear.
        if gone.is_some_and(|gone| gone.elapsed() > LATE) {
            return Err(Failure::failed(
                format_args!(
                    "job {id} ended without a result: it was cancelled, ran out of time or memory, or could not start"
                ),
                files.errors().display(),
                format_args!(
                    "see that file and `sacct -j {id}`; the same command submits it again and keeps what is done"
                ),
            ));
        }
        if asked.is_none_or(|asked| asked.elapsed() > ASK) {
            asked = Some(Instant::now());
            match slurm::job(id) {
                Ok(None) => {
                    gone.get_or_insert_with(Instant::now);
                }
                Ok(Some(QueuedJob { state, place, .. })) => {
                    answered = Instant::now();
                    gone = None;
                    let now = match state.as_str() {
                        "PENDING" if is_impossible(&place) => format!(
                            "job {id} waits {place}: the cluster has no room for such a job; check `executor.cpus`, `.memory` and `.sbatch`, and cancel it (`scancel {id}`)"
                        ),
                        "PENDING" => format!("job {id} waits {place}").trim_end().to_owned(),
                        "RUNNING" => format!("job {id} runs on {place}"),
                        other => format!("job {id}: {other}"),
                    };
                    if now != told {
                        eprintln!("{now}");
                        told = now;
                    }
                }
                // The controller may be restarted; the job goes on.
                Err(failure) if answered.elapsed() > PATIENCE => {
                    answered = Instant::now();
                    eprintln!("warning: {}", failure.what);
                }
                Err(_) => {}
            }
        }
        drop(terminal);
        std::thread::sleep(PACE);
    }
}

/// Whether this reason for waiting does not go away.
fn is_impossible(reason: &str) -> bool {
    ["PartitionConfig", "PartitionNodeLimit", "PartitionTimeLimit", "BadConstraints"]
        .iter()
        .any(|known| reason.contains(known))
}

/// Ctrl-C: cancels the job or leaves it alone, and asks which if it can.
fn leave_or_cancel(id: &str) {
    if std::io::stdin().is_terminal() {
        let _terminal = TERMINAL.lock().unwrap_or_else(PoisonError::into_inner);
        eprint!("\ncancel job {id}? [y/N] ");
        let mut answer = String::new();
        let _ = std::io::stdin().read_line(&mut answer);
        if answer.trim().eq_ignore_ascii_case("y") {
            match slurm::cancel(id) {
                Ok(()) => eprintln!("job {id} is cancelled; finished results are kept"),
                Err(failure) => eprintln!("error: {failure}"),
            }
            return;
        }
    }
    eprintln!("job {id} goes on; the same command follows it, and `scancel {id}` cancels it");
}

/// The job that works in the folder of artifacts, in words, if there is one.
pub fn jobs_here(context: Context<'_>) -> Option<String> {
    let files = JobFiles::of(context);
    let job = files.submitted()?;
    if files.ended(&job.id).is_some() {
        return None;
    }
    let QueuedJob { id, state, place } = slurm::job(&job.id).ok()??;
    Some(format!("job {id} works in this folder: {state} {place}").trim_end().to_owned())
}

/// A file that grows.
struct Tail {
    path: PathBuf,
    shown: u64,
}

impl Tail {
    fn new(path: PathBuf) -> Self {
        Self { path, shown: 0 }
    }

    /// Copies what is new. A file that is not there yet, or cannot be read now, has nothing new.
    fn copy(&mut self, to: &mut impl Write) {
        let bytes = new_bytes(&self.path, self.shown).unwrap_or_default();
        self.shown += bytes.len() as u64;
        // If nobody reads it, the job still goes on.
        let _ = to.write_all(&bytes).and_then(|()| to.flush());
    }
}

fn new_bytes(path: &Path, from: u64) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}
