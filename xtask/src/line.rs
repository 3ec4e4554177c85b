//! The line that a run prints about a node whose result was found or made.

use std::io::Write as _;
use std::time::Instant;

use cache::{Manifest, NodeName};
use serde_json::{Value as Json, json};

/// A line about a node.
pub struct Line {
    pub node: NodeName,
    /// `hit` or `run`.
    pub status: &'static str,
    place: &'static str,
    key: String,
    seconds: f64,
    bytes: u64,
    summary: String,
}

impl Line {
    /// The line of a result that was found or made since `start`; `place` is `here` or `remote`.
    pub fn new(
        status: &'static str,
        place: &'static str,
        manifest: &Manifest,
        start: Instant,
    ) -> Self {
        Self {
            node: manifest.node.clone(),
            status,
            place,
            key: manifest.key.to_string(),
            seconds: start.elapsed().as_secs_f64(),
            bytes: manifest.bytes(),
            summary: manifest.summary.clone(),
        }
    }

    /// The line for people; the column of node names has this `width`.
    pub fn text(&self, width: usize) -> String {
        let key = self.key.get(..12).unwrap_or(&self.key);
        let place = if self.place == "remote" { "in the remote: " } else { "" };
        format!(
            "{:<4} {:<width$} {key} {:>8.2} s {:>9}  {place}{}",
            self.status,
            self.node,
            self.seconds,
            size(self.bytes),
            self.summary
        )
    }

    /// The line for programs.
    pub fn json(&self) -> Json {
        json!({ "node": self.node, "status": self.status, "place": self.place, "key": self.key, "seconds": self.seconds, "bytes": self.bytes, "summary": self.summary })
    }

    /// Prints the line on stdout; the column of node names has this `width`.
    pub fn print(&self, width: usize, json: bool) {
        let line = if json { self.json().to_string() } else { self.text(width) };
        // Whoever closed stdout does not want the lines; the run continues.
        let _ = writeln!(std::io::stdout(), "{line}");
    }
}

/// A number of bytes in a readable unit.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}
