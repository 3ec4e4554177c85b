//! Reports a stage's progress: as [`Event`]s, one JSON object per line on stdout, when `xtask` runs
//! it, and as plain [`Lines`] on stderr when a person runs it alone. `xtask` draws the progress
//! bars, so that the code for them is not part of any stage.

use std::io::Write as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use failure::Failure;
use serde::{Deserialize, Serialize};

use crate::Step;

/// What a stage reports while it runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A piece of work starts.
    Begin {
        /// What is done, as a verb: "reading", "training".
        what: String,
        /// The number of units, if it is known.
        total: Option<u64>,
        /// What is counted.
        unit: Unit,
    },
    /// The current piece of work has progressed.
    At {
        /// How many units are done.
        done: u64,
        /// Further information, such as a loss.
        note: String,
    },
    /// Information for the user.
    Note {
        /// The text.
        text: String,
    },
    /// A warning for the user.
    Warn {
        /// The text.
        text: String,
    },
    /// A file was downloaded, now or earlier, and is used; this is kept in the manifest.
    Download {
        /// Its address, without user, password and query.
        url: String,
        /// Its size in bytes.
        bytes: u64,
        /// Its SHA-256, in hex.
        sha256: String,
    },
    /// The result in one line; it is kept in the manifest.
    Summary {
        /// The line.
        text: String,
    },
    /// The steps of work that several processes share.
    Steps {
        /// The steps, in their order.
        steps: Vec<Step>,
    },
    /// The chunks that were asked for are done.
    ChunksDone,
    /// The steps of such work before `until` have nothing more to do.
    StepsDone {
        /// What comes next.
        until: Until,
    },
    /// The stage failed.
    Failure {
        /// Why.
        failure: Failure,
    },
}

/// What comes after the steps that have nothing more to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Until {
    /// This step.
    Step(String),
    /// The result.
    Result,
}

/// What a progress bar counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Bytes of a file.
    Bytes,
    /// Rows of a table, words of a vocabulary.
    Rows,
    /// Passes over the training data: few, and each worth a line of its own.
    Epochs,
}

/// Progress events that follow each other faster than this are not worth drawing.
const PACE: Duration = Duration::from_millis(50);
/// Without a terminal, a long piece of work prints a line this often.
const PLAIN_PACE: Duration = Duration::from_secs(5);
/// Lines about epochs contain more than the progress, so they come more often; but nobody reads a
/// log of hundreds of lines.
const PLAIN_EPOCHS: Duration = Duration::from_secs(1);

/// The stage's end of the channel for events.
pub struct Progress {
    sink: Mutex<Sink>,
}

struct Sink {
    lines: Option<Lines>,
    unit: Unit,
    last: Option<Instant>,
}

impl Progress {
    /// Events as JSON lines on stdout.
    pub fn events() -> Self {
        Self::with(None)
    }

    /// Events as lines on stderr that start with `label`.
    pub fn lines(label: &str) -> Self {
        Self::with(Some(Lines::new(label)))
    }

    fn with(lines: Option<Lines>) -> Self {
        Self { sink: Mutex::new(Sink { lines, unit: Unit::Rows, last: None }) }
    }

    /// Reports that a piece of work starts.
    pub fn begin(&self, what: &str, total: Option<u64>, unit: Unit) {
        self.send(&Event::Begin { what: what.to_owned(), total, unit });
    }

    /// Reports that `done` units are done. Calls in quick succession cost next to nothing.
    pub fn at(&self, done: u64, note: impl FnOnce() -> String) {
        {
            let mut sink = self.lock();
            let now = Instant::now();
            if sink.unit != Unit::Epochs && sink.last.is_some_and(|last| now - last < PACE) {
                return;
            }
            sink.last = Some(now);
        }
        self.send(&Event::At { done, note: note() });
    }

    /// Sends a warning for the user.
    pub fn warn(&self, text: impl Into<String>) {
        self.send(&Event::Warn { text: text.into() });
    }

    /// Sends one event.
    pub fn send(&self, event: &Event) {
        let mut sink = self.lock();
        if let Event::Begin { unit, .. } = event {
            (sink.unit, sink.last) = (*unit, None);
        }
        match &mut sink.lines {
            Some(lines) => lines.line(event).into_iter().for_each(|line| eprintln!("{line}")),
            // A closed stdout is not a reason to fail: the work is still wanted.
            None => {
                drop(
                    serde_json::to_string(event).map(|line| writeln!(std::io::stdout(), "{line}")),
                );
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Sink> {
        self.sink.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Turns events into plain lines of text, for output without a terminal and for a person who runs a
/// stage alone.
pub struct Lines {
    label: String,
    what: String,
    total: Option<u64>,
    unit: Unit,
    last: Instant,
    /// Whether a line about the progress of this piece of work was printed.
    spoke: bool,
}

impl Lines {
    /// Lines that start with `label`.
    pub fn new(label: &str) -> Self {
        Self {
            label: label.to_owned(),
            what: String::new(),
            total: None,
            unit: Unit::Rows,
            last: Instant::now(),
            spoke: false,
        }
    }

    /// The line to print for an event, if it is worth one.
    pub fn line(&mut self, event: &Event) -> Option<String> {
        match event {
            Event::Begin { what, total, unit } => {
                (self.what, self.total, self.unit) = (what.clone(), *total, *unit);
                (self.last, self.spoke) = (Instant::now(), false);
                None
            }
            Event::At { done, note } => self.at(*done, note),
            Event::Note { text } => Some(self.labelled(text)),
            Event::Warn { text } => Some(self.labelled(&format!("warning: {text}"))),
            Event::Steps { .. }
            | Event::ChunksDone
            | Event::StepsDone { .. }
            | Event::Download { .. }
            | Event::Summary { .. }
            | Event::Failure { .. } => None,
        }
    }

    /// The text with its label.
    pub fn labelled(&self, text: &str) -> String {
        format!("{}: {text}", self.label)
    }

    fn at(&mut self, done: u64, note: &str) -> Option<String> {
        let pace = if self.unit == Unit::Epochs { PLAIN_EPOCHS } else { PLAIN_PACE };
        // The last epoch completes a series of lines; a run that ends within moments has its
        // summary.
        let is_end = self.spoke && self.unit == Unit::Epochs && Some(done) == self.total;
        if !is_end && self.last.elapsed() < pace {
            return None;
        }
        (self.last, self.spoke) = (Instant::now(), true);
        let (done, of) = match self.unit {
            Unit::Bytes => (
                format!("{} MB", done / 1_000_000),
                self.total.map(|t| format!(" of {} MB", t / 1_000_000)),
            ),
            Unit::Rows | Unit::Epochs => (done.to_string(), self.total.map(|t| format!(" of {t}"))),
        };
        let what = if self.unit == Unit::Epochs { "epoch" } else { self.what.as_str() };
        Some(self.labelled(format!("{what} {done}{} {note}", of.unwrap_or_default()).trim_end()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_survives_the_pipe() {
        let events = [
            Event::Begin { what: "reading".into(), total: Some(7), unit: Unit::Bytes },
            Event::At { done: 3, note: "loss 0.5".into() },
            Event::Failure { failure: Failure::input("bad", "row 1", "fix it") },
        ];
        for event in events {
            let line = serde_json::to_string(&event).expect("serialises");
            assert!(!line.contains('\n'));
            assert_eq!(serde_json::from_str::<Event>(&line).expect("parses"), event);
        }
    }

    #[test]
    fn lines_name_the_node_and_its_progress_but_not_too_often() {
        let mut lines = Lines::new("train.mlp");
        let at = |done| Event::At { done, note: "loss 0.5".into() };
        assert_eq!(
            lines.line(&Event::Begin {
                what: "training".into(),
                total: Some(9),
                unit: Unit::Epochs
            }),
            None
        );
        assert_eq!(lines.line(&at(1)), None);
        lines.last = Instant::now().checked_sub(PLAIN_EPOCHS).expect("a time");
        assert_eq!(lines.line(&at(2)).as_deref(), Some("train.mlp: epoch 2 of 9 loss 0.5"));
        assert_eq!(lines.line(&at(3)), None);
        assert_eq!(
            lines.line(&at(9)).as_deref(),
            Some("train.mlp: epoch 9 of 9 loss 0.5"),
            "the last one"
        );
        assert_eq!(
            lines.line(&Event::Warn { text: "odd".into() }).as_deref(),
            Some("train.mlp: warning: odd")
        );
    }
}
