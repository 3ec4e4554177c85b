//! What is said about a node that was found or made.

use std::io::Write as _;
use std::time::Instant;

use cache::{Manifest, NodeName};
use serde_json::json;

/// What is said about a node.
pub struct Line {
    /// Which one.
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
    /// Of a result that was found or made since `start`, and is `here` or in the `remote`.
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

    /// On stdout; the names of nodes are so wide.
    pub fn print(&self, width: usize, json: bool) {
        let key = self.key.get(..12).unwrap_or(&self.key);
        let line = if json {
            json!({ "node": self.node, "status": self.status, "place": self.place, "key": self.key, "seconds": self.seconds, "bytes": self.bytes, "summary": self.summary })
                .to_string()
        } else {
            let place = if self.place == "remote" { "in the remote: " } else { "" };
            format!(
                "{:<4} {:<width$} {key} {:>8.2} s {:>9}  {place}{}",
                self.status,
                self.node,
                self.seconds,
                size(self.bytes),
                self.summary
            )
        };
        // Who has closed stdout does not want the lines; the work goes on.
        let _ = writeln!(std::io::stdout(), "{line}");
    }
}

/// Bytes for a person.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}
