//! Submits a run as a job of Slurm. The job is an ordinary run of the graph in an allocation: it takes
//! the lock of the artifacts, finds what exists and makes the rest, so a job that is started again goes
//! on where it was.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use failure::{Exit, Failure, Result};
use serde::{Deserialize, Serialize};

use super::{follow, slurm};
use crate::config::ExecutorOptions;
use crate::context::Context;
use crate::recipe::Recipes;
use crate::selection::Selection;
use crate::{binaries, device};

/// The job of a folder of artifacts.
#[derive(Serialize, Deserialize)]
pub struct SubmittedJob {
    /// Its number.
    pub id: String,
}

/// What a job leaves when it has ended.
#[derive(Serialize, Deserialize)]
pub struct EndedJob {
    pub id: String,
    pub status: u8,
}

/// The files of a folder's job.
pub struct JobFiles(PathBuf);

impl JobFiles {
    pub fn of(context: Context<'_>) -> Self {
        Self::in_artifacts(context.artifacts())
    }

    fn in_artifacts(artifacts: &Path) -> Self {
        Self(artifacts.join(".knockline").join("job"))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// What the job writes to stdout.
    pub fn output(&self) -> PathBuf {
        self.file("stdout")
    }

    /// What the job writes to stderr.
    pub fn errors(&self) -> PathBuf {
        self.file("stderr")
    }

    /// The job that was submitted last.
    pub fn submitted(&self) -> Option<SubmittedJob> {
        serde_json::from_slice(&std::fs::read(self.file("job.json")).ok()?).ok()
    }

    /// How it ended, if it has.
    pub fn ended(&self, id: &str) -> Option<EndedJob> {
        let ended: EndedJob =
            serde_json::from_slice(&std::fs::read(self.file("ended.json")).ok()?).ok()?;
        (ended.id == id).then_some(ended)
    }

    fn write(&self, name: &str, value: &impl Serialize) -> Result<PathBuf> {
        let path = self.file(name);
        let write = || {
            let json = serde_json::to_vec(value)?;
            atomic::write_atomically(&path, &json)
        };
        write().map(|()| path.clone()).map_err(|e| Failure::io("write", &path, &e))
    }

    /// Makes the folder. Only its owner can read what is in it: an address in the arguments may
    /// contain a password.
    fn make(&self) -> Result<()> {
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&self.0).map_err(|e| Failure::io("create folder", &self.0, &e))
    }

    /// Waits until nobody else submits a job for this folder.
    fn lock(&self) -> Result<::cache::Lock> {
        self.make()?;
        ::cache::Lock::take(&self.file("lock"), || eprintln!("waiting for another submission"))
    }
}

/// What the job runs, besides the command line.
const SCRIPT: &str = r#"#!/bin/sh
# Slurm starts a job again if a node of it fails, but not if its program is killed.
for try in 1 2 3; do
  KNOCKLINE_JOB_TRY=$try "$1" job "$2"
  status=$?
  [ "$status" -gt 128 ] || break
done
exit "$status"
"#;

/// Submits the run, or finds the job that was submitted for it, and follows that to its end.
pub fn submit(
    context: Context<'_>,
    selection: &Selection,
    options: &ExecutorOptions,
) -> Result<ExitCode> {
    if device::is_cuda(&selection.device) {
        return Err(Failure::usage(
            "jobs run on the CPU only",
            "--device",
            "leave --device out, or run without --executor slurm on a machine with a GPU",
        ));
    }
    let files = JobFiles::of(context);
    let arguments = arguments();
    let of = wanted(context, selection, &arguments)?;
    let name = job_name(context.artifacts());
    if let Some((id, comment)) = slurm::job_called(&name)? {
        if comment != of {
            return Err(Failure::usage(
                format_args!("job {id} works in this folder, with other options or sources"),
                context.artifacts().display(),
                format_args!(
                    "wait for it, cancel it (`scancel {id}`), or choose another folder with --artifacts"
                ),
            ));
        }
        eprintln!("job {id} was submitted before");
        return follow_or_leave(&files, &id, selection);
    }
    // The lock says whether the folder is ours and can be written to.
    drop(context.store.lock(|| {
        eprintln!("waiting for another run in {}", context.artifacts().display());
    })?);
    let lock = files.lock()?;
    // Somebody else may have submitted it in the meantime.
    if let Some((id, _)) = slurm::job_called(&name)? {
        drop(lock);
        return follow_or_leave(&files, &id, selection);
    }
    let programs = files.file("programs");
    binaries::copy_all(context.root, &programs, context.config.remote().is_some())?;
    for old in [files.output(), files.errors(), files.file("ended.json")] {
        match std::fs::remove_file(&old) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Failure::io("remove", &old, &e));
            }
            _ => {}
        }
    }
    let arguments = files.write("arguments.json", &arguments)?;
    let sbatch = sbatch_options(&name, &of, &files, options);
    let xtask = programs.join(format!("xtask{}", std::env::consts::EXE_SUFFIX));
    // Without a file, sbatch takes the script from stdin, and then takes no arguments for it.
    let quoted = |path: &Path| format!("'{}'", path.display().to_string().replace('\'', r"'\''"));
    let set = format!("set -- {} {}\n", quoted(&xtask), quoted(&arguments));
    let script = SCRIPT.replacen("for try", &format!("{set}for try"), 1);
    let id = slurm::sbatch(&sbatch, &script)?;
    files.write("job.json", &SubmittedJob { id: id.clone() })?;
    drop(lock);
    eprintln!("job {id} was submitted");
    follow_or_leave(&files, &id, selection)
}

fn follow_or_leave(files: &JobFiles, id: &str, selection: &Selection) -> Result<ExitCode> {
    if selection.detach {
        eprintln!(
            "repeat the command to follow it, `cargo xtask status` shows it, `scancel {id}` cancels it"
        );
        return Ok(Exit::Done.into());
    }
    follow::follow(files, id)
}

/// The arguments of this command, for the job.
fn arguments() -> Vec<String> {
    std::env::args().skip(1).filter(|argument| argument != "--detach").collect()
}

/// The digest of what a run is to make: the keys of its nodes, and the command line.
fn wanted(context: Context<'_>, selection: &Selection, arguments: &[String]) -> Result<String> {
    let Context { root, config, store, .. } = context;
    let recipes = Recipes::new(root, config, &selection.device, &store.index)?;
    let mut text = arguments.join("\n");
    for node in selection.nodes(&config.graph)? {
        text.push('\n');
        // A node whose sources are not here has no key yet.
        text.push_str(&recipes.recipe(node).map_or_else(|_| String::new(), |key| key.to_string()));
    }
    Ok(::cache::Digest::of(text.as_bytes()).to_string())
}

/// The name of a folder's jobs.
fn job_name(artifacts: &Path) -> String {
    let digest = ::cache::Digest::of(artifacts.display().to_string().as_bytes()).to_string();
    format!("knockline-{}", digest.get(..12).unwrap_or(&digest))
}

fn sbatch_options(
    name: &str,
    of: &str,
    files: &JobFiles,
    options: &ExecutorOptions,
) -> Vec<String> {
    let mut all = vec![
        // One job at a time works in a folder, even if two are submitted at once.
        format!("--job-name={name}"),
        // What it is to make.
        format!("--comment={of}"),
        "--dependency=singleton".to_owned(),
        // If a node fails, the job starts again and goes on where it was. With `--no-kill`, a job whose
        // first node fails would stay, without a program.
        "--requeue".to_owned(),
        "--open-mode=append".to_owned(),
        format!("--output={}", files.output().display()),
        format!("--error={}", files.errors().display()),
        format!("--ntasks={}", options.jobs_max.unwrap_or(4)),
        format!("--cpus-per-task={}", options.cpus),
    ];
    all.extend(slurm::memory_per_cpu(options));
    for (name, value) in
        [("partition", &options.partition), ("account", &options.account), ("time", &options.time)]
    {
        all.extend(value.as_ref().map(|value| format!("--{name}={value}")));
    }
    all.extend(options.sbatch.iter().cloned());
    all
}

/// `xtask job FILE`: runs the command line in the file, in the job that was submitted for it.
pub fn run_job(file: &Path, run: impl FnOnce(Vec<String>) -> Exit) -> Result<ExitCode> {
    let read = || std::io::Result::Ok(serde_json::from_slice(&std::fs::read(file)?)?);
    let mut arguments: Vec<String> = read().map_err(|e| Failure::io("read", file, &e))?;
    if is_later_try() {
        // What the first try has done is not done again.
        arguments = without_force(arguments);
    }
    let exit = run(arguments);
    let files = JobFiles(file.parent().map(Path::to_owned).unwrap_or_default());
    let id = std::env::var("SLURM_JOB_ID").unwrap_or_default();
    files.write("ended.json", &EndedJob { id, status: exit as u8 })?;
    Ok(exit.into())
}

/// Whether this is a job that was started again.
pub fn is_later_try() -> bool {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    number("KNOCKLINE_JOB_TRY").is_some_and(|tries| tries > 1)
        || std::env::var_os("KNOCKLINE_JOB_TRY").is_some()
            && number("SLURM_RESTART_COUNT").is_some_and(|restarts| restarts > 0)
}

/// The arguments without `--force NODE` and `--fresh`.
fn without_force(arguments: Vec<String>) -> Vec<String> {
    let mut left = Vec::new();
    let mut all = arguments.into_iter();
    while let Some(argument) = all.next() {
        match argument.as_str() {
            "--force" => drop(all.next()),
            "--fresh" => {}
            other if other.starts_with("--force=") => {}
            _ => left.push(argument),
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_try_does_nothing_twice() {
        let own = |arguments: &[&str]| arguments.iter().map(|&a| a.to_owned()).collect::<Vec<_>>();
        let given = own(&["pipeline", "--force", "split", "--to", "x", "--fresh", "--force=embed"]);
        assert_eq!(without_force(given), own(&["pipeline", "--to", "x"]));
    }
}
