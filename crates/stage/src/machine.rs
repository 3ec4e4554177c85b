//! The machine that a stage runs on, which measured times depend on.

use std::fmt::{self, Display};
use std::fs;
use std::num::NonZeroUsize;
use std::process::Command;

use serde::{Deserialize, Serialize};

use failure::{Failure, Result};

/// The environment variable that sets how many threads share a piece of work.
const THREADS: &str = "KNOCKLINE_THREADS";
/// The largest number that it may be set to: a training step has no more parts.
const MOST_THREADS: usize = 256;

/// A machine, as far as times depend on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The name that the processor reports, or else the architecture.
    pub processor: String,
    /// The number of processors that the system offers.
    pub processors: usize,
    /// The number of threads that share a piece of work.
    pub threads: usize,
    /// The names of NVIDIA GPUs; empty without NVIDIA's driver.
    pub gpus: Vec<String>,
}

impl Machine {
    /// The machine that this process runs on.
    ///
    /// # Errors
    /// If `KNOCKLINE_THREADS` is not a number of threads.
    pub fn here() -> Result<Self> {
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Ok(Self {
            processor: processor(),
            processors,
            threads: threads()?.unwrap_or(processors),
            gpus: gpus(),
        })
    }
}

impl Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = if self.processors == 1 { "" } else { "s" };
        write!(
            f,
            "{}, {} processor{s}, KNOCKLINE_THREADS={}",
            self.processor, self.processors, self.threads
        )?;
        self.gpus.iter().try_for_each(|gpu| write!(f, ", {gpu}"))
    }
}

/// The number of threads that `KNOCKLINE_THREADS` asks for, if it is set.
///
/// # Errors
/// If it is set and is not a whole number from 1 to 256.
pub fn threads() -> Result<Option<usize>> {
    let Some(text) = std::env::var_os(THREADS) else { return Ok(None) };
    let text = text.to_string_lossy();
    let count = text.trim().parse().ok().filter(|count| (1..=MOST_THREADS).contains(count));
    let wrong = || {
        let what = format_args!("`{text}` is not a number of threads");
        Failure::usage(
            what,
            format_args!("variable {THREADS}"),
            format_args!("set it to a whole number from 1 to {MOST_THREADS}, or unset it"),
        )
    };
    count.map(Some).ok_or_else(wrong)
}

fn processor() -> String {
    let named = if cfg!(target_os = "linux") {
        // Arm processors report their implementer, part and variant instead.
        let arm = || {
            let fields = ["CPU implementer", "CPU part", "CPU variant"]
                .map(|name| field("/proc/cpuinfo", name));
            Some(format!(
                "{} {}",
                std::env::consts::ARCH,
                fields.into_iter().collect::<Option<Vec<_>>>()?.join(" ")
            ))
        };
        field("/proc/cpuinfo", "model name").or_else(arm)
    } else if cfg!(target_os = "macos") {
        let asked = Command::new("sysctl").args(["-n", "machdep.cpu.brand_string"]).output();
        asked
            .ok()
            .and_then(|done| String::from_utf8(done.stdout).ok())
            .map(|name| name.trim().to_owned())
    } else {
        std::env::var("PROCESSOR_IDENTIFIER").ok()
    };
    named.filter(|name| !name.is_empty()).unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

fn gpus() -> Vec<String> {
    let folders = fs::read_dir("/proc/driver/nvidia/gpus").into_iter().flatten().flatten();
    let mut names: Vec<String> = folders
        .filter_map(|gpu| field(&gpu.path().join("information").display().to_string(), "Model"))
        .collect();
    names.sort_unstable();
    names
}

/// The first value of a field in a file of lines `field : value`.
fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| {
        line.split_once(':')
            .filter(|(field, _)| field.trim() == name)
            .map(|(_, value)| value.trim().to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_described_by_what_times_depend_on() {
        let here = Machine::here().expect("a machine");
        assert!(!here.processor.is_empty() && here.processors > 0, "{here}");
        let other = Machine {
            processor: "Z80".into(),
            processors: 1,
            threads: 3,
            gpus: vec!["H100".into()],
        };
        assert_eq!(other.to_string(), "Z80, 1 processor, KNOCKLINE_THREADS=3, H100");
    }
}
