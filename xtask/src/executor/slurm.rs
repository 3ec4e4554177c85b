//! The commands of Slurm.

use std::process::{Command, Output, Stdio};

use failure::{Failure, Result};

use crate::config::ExecutorOptions;
use crate::graph::Node;

/// Whether this process runs in an allocation.
pub fn is_in_allocation() -> bool {
    std::env::var_os("SLURM_JOB_ID").is_some()
}

/// How many tasks this process's allocation has room for.
pub fn tasks() -> Option<usize> {
    std::env::var("SLURM_NTASKS").ok()?.parse().ok().filter(|tasks| *tasks > 0)
}

/// The command that runs a process of `node` as a step of the allocation.
pub fn srun(options: &ExecutorOptions, node: &Node) -> Vec<String> {
    let mut command: Vec<String> = ["srun", "--nodes=1", "--ntasks=1", "--exact"]
        .into_iter()
        // Events are lines that are shown at once. What srun says, such as that a step waits for room,
        // goes into the job's log.
        .chain(["--unbuffered", "--export=ALL"])
        .map(str::to_owned)
        .collect();
    command.push(format!("--job-name={}", node.name));
    command.push(format!("--cpus-per-task={}", options.cpus));
    command.extend(memory_per_cpu(options));
    for of_stage in &options.srun {
        if let Some((stage, more)) = of_stage.split_once(':')
            && stage.trim() == node.package
        {
            command.extend(more.split_whitespace().map(str::to_owned));
        }
    }
    command
}

/// The processors that a command gives to its process; what is named last counts.
pub fn cpus(command: &[String]) -> Option<u32> {
    let mut named = command.iter().filter_map(|option| option.strip_prefix("--cpus-per-task="));
    named.next_back()?.parse().ok()
}

/// The option for the memory of a process, which Slurm counts by processors.
pub fn memory_per_cpu(options: &ExecutorOptions) -> Option<String> {
    let megabytes = megabytes(options.memory.as_deref()?)?;
    Some(format!("--mem-per-cpu={}M", megabytes.div_ceil(u64::from(options.cpus))))
}

/// A size as Slurm writes it: a number of megabytes, or one with a unit.
pub fn megabytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().ok()?;
    match text.get(digits.len()..)?.to_ascii_uppercase().as_str() {
        "K" => Some(number.div_ceil(1024)),
        "" | "M" => Some(number),
        "G" => number.checked_mul(1024),
        "T" => number.checked_mul(1024 * 1024),
        _ => None,
    }
    .filter(|megabytes| *megabytes > 0)
}

/// A job as `squeue` shows it.
#[derive(Debug, PartialEq, Eq)]
pub struct QueuedJob {
    pub id: String,
    /// `PENDING`, `RUNNING`, …
    pub state: String,
    /// The nodes that it runs on, or why it waits, as far as Slurm knows.
    pub place: String,
}

/// The job with this number, if Slurm still has it.
///
/// # Errors
/// If Slurm does not answer.
pub fn job(id: &str) -> Result<Option<QueuedJob>> {
    let output = output(Command::new("squeue").args([
        "--noheader",
        "--states=all",
        "--format=%i|%T|%R",
        "--jobs",
        id,
    ]))?;
    let error = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        return Ok(parse(&String::from_utf8_lossy(&output.stdout)).filter(QueuedJob::is_alive));
    }
    // Slurm forgets a job some minutes after its end.
    if error.contains("Invalid job id") {
        return Ok(None);
    }
    Err(says("squeue", &error))
}

/// The number and the comment of this user's job with this name, if one waits or runs.
pub fn job_called(name: &str) -> Result<Option<(String, String)>> {
    let output = output(Command::new("squeue").args([
        "--noheader",
        "--me",
        "--format=%i|%k",
        "--name",
        name,
    ]))?;
    if !output.status.success() {
        return Err(says("squeue", &String::from_utf8_lossy(&output.stderr)));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let job = text.lines().next().and_then(|line| line.trim().split_once('|'));
    Ok(job.map(|(id, comment)| (id.to_owned(), comment.to_owned())))
}

impl QueuedJob {
    /// Whether it waits or runs, or will run again.
    fn is_alive(&self) -> bool {
        const OVER: [&str; 9] = [
            "BOOT_FAIL",
            "CANCELLED",
            "COMPLETED",
            "DEADLINE",
            "FAILED",
            "NODE_FAIL",
            "OUT_OF_MEMORY",
            "PREEMPTED",
            "TIMEOUT",
        ];
        !OVER.contains(&self.state.as_str())
    }
}

fn parse(line: &str) -> Option<QueuedJob> {
    // Before it has looked at a job, Slurm gives no reason.
    let known = |field: &str| if field == "(None)" { String::new() } else { field.to_owned() };
    let mut fields = line.lines().next()?.trim().splitn(3, '|').map(known);
    Some(QueuedJob { id: fields.next()?, state: fields.next()?, place: fields.next()? })
}

/// Submits a script, and returns the job's number.
pub fn sbatch(options: &[String], script: &str) -> Result<String> {
    use std::io::Write as _;
    let mut command = Command::new("sbatch");
    command.arg("--parsable").args(options).stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| cannot_run("sbatch", &e))?;
    if let Some(mut stdin) = child.stdin.take() {
        // If sbatch has ended, what it says is better than this error.
        let _ = stdin.write_all(script.as_bytes());
    }
    let output = child.wait_with_output().map_err(|e| cannot_run("sbatch", &e))?;
    if !output.status.success() {
        return Err(says("sbatch", &String::from_utf8_lossy(&output.stderr)));
    }
    // With several clusters: number;cluster.
    let text = String::from_utf8_lossy(&output.stdout);
    let id = text.trim().split(';').next().unwrap_or_default();
    if id.is_empty() || !id.bytes().all(|c| c.is_ascii_digit()) {
        return Err(says("sbatch", &text));
    }
    Ok(id.to_owned())
}

/// Cancels a job.
pub fn cancel(id: &str) -> Result<()> {
    let output = output(Command::new("scancel").arg(id))?;
    if output.status.success() {
        return Ok(());
    }
    Err(says("scancel", &String::from_utf8_lossy(&output.stderr)))
}

fn output(command: &mut Command) -> Result<Output> {
    command
        .stdin(Stdio::null())
        .output()
        .map_err(|e| cannot_run(&command.get_program().to_string_lossy(), &e))
}

fn cannot_run(program: &str, e: &std::io::Error) -> Failure {
    Failure::usage(
        format_args!("cannot run `{program}`: {e}"),
        "--executor slurm",
        "run this on a machine that can submit jobs to Slurm",
    )
}

fn says(program: &str, error: &str) -> Failure {
    let error = error.trim().lines().last().unwrap_or_default();
    Failure::failed(
        format_args!("`{program}` failed: {error}"),
        "Slurm",
        "see whether the cluster is up (`sinfo`), and check the table [executor]",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `man sbatch` describes `--mem`.
    #[test]
    fn sizes_are_slurm_s() {
        for (text, megabytes) in [
            ("500", Some(500)),
            ("500M", Some(500)),
            ("2g", Some(2048)),
            ("1T", Some(1 << 20)),
            ("1K", Some(1)),
            ("0", None),
            ("", None),
            ("G", None),
            ("8GB", None),
            ("-1", None),
        ] {
            assert_eq!(super::megabytes(text), megabytes, "{text}");
        }
    }

    #[test]
    fn a_job_that_is_over_is_not_followed() {
        let job = parse("17|RUNNING|n[1-4]\n").expect("a job");
        let of = |id: &str, state: &str, place: &str| QueuedJob {
            id: id.to_owned(),
            state: state.to_owned(),
            place: place.to_owned(),
        };
        assert_eq!(job, of("17", "RUNNING", "n[1-4]"));
        assert!(job.is_alive() && of("17", "PENDING", "(Resources)").is_alive());
        assert!(of("17", "REQUEUED", "").is_alive());
        assert!(!of("17", "CANCELLED", "").is_alive());
        assert_eq!(parse("18|PENDING|(None)"), Some(of("18", "PENDING", "")));
        assert_eq!(parse(""), None);
    }
}
