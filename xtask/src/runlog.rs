//! The log of runs: one line of JSON for each `cargo xtask pipeline`, beside the results. It is for people
//! and for other programs; nothing here decides by it, and it is in no key.

use std::cell::RefCell;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use failure::Exit;
use serde_json::{Value as Json, json};

use crate::line::Line;

/// A larger log loses its older half.
const MOST_BYTES: usize = 1 << 20;

/// The file, in a folder of artifacts.
pub fn path(artifacts: &Path) -> PathBuf {
    artifacts.join(".knockline").join("runs.jsonl")
}

/// A run that is being logged.
pub struct RunLog {
    path: PathBuf,
    started: SystemTime,
    since: Instant,
    nodes: RefCell<Vec<Json>>,
}

impl RunLog {
    /// Begins the log of a run in a folder of artifacts.
    pub fn begin(artifacts: &Path) -> Self {
        let (started, since) = (SystemTime::now(), Instant::now());
        Self { path: path(artifacts), started, since, nodes: RefCell::default() }
    }

    /// Notes a node whose result was found or made.
    pub fn add(&self, line: &Line) {
        self.nodes.borrow_mut().push(line.json());
    }

    /// Writes the run's line. A folder that cannot be written to has no log.
    pub fn end(self, exit: Exit, commit: Option<&str>) {
        let nodes = self.nodes.into_inner();
        let made: Vec<&Json> = nodes.iter().filter(|node| node["status"] == "run").collect();
        let bytes: u64 = made.iter().filter_map(|node| node["bytes"].as_u64()).sum();
        let since_epoch = self.started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let line = json!({
            "started": since_epoch.as_secs(),
            "seconds": self.since.elapsed().as_secs_f64(),
            "exit": exit as u8,
            "version": env!("CARGO_PKG_VERSION"),
            "commit": commit,
            "machine": {
                "system": std::env::consts::OS,
                "architecture": std::env::consts::ARCH,
                "processors": processors,
            },
            "hits": nodes.len() - made.len(),
            "runs": made.len(),
            "bytes_made": bytes,
            "nodes": nodes,
        });
        let _ = append(&self.path, &line.to_string());
    }
}

fn append(path: &Path, line: &str) -> std::io::Result<()> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    if text.len() > MOST_BYTES {
        let half = text.get(text.len() / 2..).unwrap_or_default();
        let newer = half.split_once('\n').map_or("", |(_, rest)| rest);
        atomic::write_unsynced(path, newer.as_bytes())?;
    }
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
    // In one write, so that the lines of two runs do not mix.
    file.write_all(format!("{line}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_log_loses_its_older_lines() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("runs.jsonl");
        let long = "x".repeat(1000);
        for number in 0..1200 {
            append(&path, &format!("{number} {long}")).expect("writes");
        }
        let text = std::fs::read_to_string(&path).expect("reads");
        let numbers: Vec<usize> = text
            .lines()
            .map(|line| line.split_once(' ').expect("two words").0.parse().expect("a number"))
            .collect();
        assert!(text.len() < 2 * MOST_BYTES && numbers[0] > 0);
        assert_eq!(numbers, (numbers[0]..1200).collect::<Vec<_>>());
    }
}
