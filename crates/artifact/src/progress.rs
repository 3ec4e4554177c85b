//! How a stage says how far it is: as [`Event`]s, one JSON object a line on stdout when
//! `xtask` runs it, and drawn by the same [`Console`] when a person runs it alone.

use std::io::{IsTerminal, Write as _};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};

use crate::Failure;

/// Something that a stage says while it runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A piece of work starts.
    Begin {
        /// What is done, as a verb: "reading", "training".
        what: String,
        /// How much there is of it, where that is known.
        total: Option<u64>,
        /// What is counted.
        unit: Unit,
    },
    /// So much of it is done.
    At {
        /// How many units.
        done: u64,
        /// What else there is to say, such as a loss.
        note: String,
    },
    /// Good to know.
    Note {
        /// What.
        text: String,
    },
    /// The user should know this.
    Warn {
        /// What.
        text: String,
    },
    /// A file was downloaded, now or earlier, and is used; this is kept in the manifest.
    Download {
        /// Its address, without user, password and query.
        url: String,
        /// Its size.
        bytes: u64,
        /// Its SHA-256, in hex.
        sha256: String,
    },
    /// The result in one line; it is kept in the manifest.
    Summary {
        /// The line.
        text: String,
    },
    /// The stage failed.
    Failure {
        /// Why.
        failure: Failure,
    },
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

/// Events faster than this are not worth drawing.
const PACE: Duration = Duration::from_millis(50);
/// Where there is no terminal, a long piece of work says a line this often.
const PLAIN_PACE: Duration = Duration::from_secs(5);
/// Epochs say more than how far the work is; but a log of hundreds of lines is read by nobody.
const PLAIN_EPOCHS: Duration = Duration::from_secs(1);

/// The stage's end of the channel.
pub struct Progress {
    sink: Mutex<Sink>,
}

struct Sink {
    console: Option<Console>,
    unit: Unit,
    last: Option<Instant>,
}

impl Progress {
    /// Events as JSON lines on stdout.
    pub fn events() -> Self {
        Self::with(None)
    }

    /// Events drawn on stderr.
    pub fn console(label: &str) -> Self {
        Self::with(Some(Console::new(label)))
    }

    fn with(console: Option<Console>) -> Self {
        Self { sink: Mutex::new(Sink { console, unit: Unit::Rows, last: None }) }
    }

    /// A piece of work starts.
    pub fn begin(&self, what: &str, total: Option<u64>, unit: Unit) {
        self.send(&Event::Begin { what: what.to_owned(), total, unit });
    }

    /// So many units are done. Calls that come too fast cost next to nothing.
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

    /// The user should know this.
    pub fn warn(&self, text: impl Into<String>) {
        self.send(&Event::Warn { text: text.into() });
    }

    /// Sends one event.
    pub fn send(&self, event: &Event) {
        let mut sink = self.lock();
        if let Event::Begin { unit, .. } = event {
            (sink.unit, sink.last) = (*unit, None);
        }
        match &mut sink.console {
            Some(console) => console.show(event),
            // A parent that has gone away is no reason to fail: the work is still wanted.
            None => drop(serde_json::to_string(event).map(|line| writeln!(std::io::stdout(), "{line}"))),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Sink> {
        self.sink.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The terminal, where several consoles share it: a bar stands below the other, and lines go above them all.
#[derive(Clone, Default)]
pub struct Board {
    bars: MultiProgress,
}

impl Board {
    /// A console whose lines start with `label`.
    pub fn console(&self, label: &str) -> Console {
        Console {
            label: label.to_owned(),
            board: self.clone(),
            bar: None,
            terminal: std::io::stderr().is_terminal(),
            what: String::new(),
            total: None,
            unit: Unit::Rows,
            last: Instant::now(),
            spoke: false,
        }
    }

    /// Lets `print` write lines, on stdout or stderr, while no bar is in the way.
    pub fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bars.suspend(print)
    }
}

/// Draws events on stderr: a bar on a terminal, plain lines elsewhere.
pub struct Console {
    label: String,
    board: Board,
    bar: Option<ProgressBar>,
    terminal: bool,
    what: String,
    total: Option<u64>,
    unit: Unit,
    last: Instant,
    /// Whether a line said how far this piece of work is.
    spoke: bool,
}

impl Console {
    /// A console that has the terminal for itself, and whose lines start with `label`.
    pub fn new(label: &str) -> Self {
        Board::default().console(label)
    }

    /// Shows one event.
    pub fn show(&mut self, event: &Event) {
        match event {
            Event::Begin { what, total, unit } => {
                self.clear();
                (self.what, self.total, self.unit) = (what.clone(), *total, *unit);
                (self.last, self.spoke) = (Instant::now(), false);
                if self.terminal {
                    self.bar = Some(self.new_bar());
                }
            }
            Event::At { done, note } => match &self.bar {
                Some(bar) => {
                    bar.set_position(*done);
                    // What a run that was gone on with had done before says nothing of its speed now.
                    if !std::mem::replace(&mut self.spoke, true) {
                        bar.reset_eta();
                    }
                    bar.set_message(note.clone());
                }
                None => self.plain(*done, note),
            },
            Event::Note { text } => self.line(text),
            Event::Warn { text } => self.line(&format!("warning: {text}")),
            Event::Download { .. } => {}
            Event::Summary { .. } | Event::Failure { .. } => self.clear(),
        }
    }

    /// Writes a line above the bar.
    pub fn line(&self, text: &str) {
        let text = format!("{}: {text}", self.label);
        self.board.aside(|| eprintln!("{text}"));
    }

    /// Takes the bar away.
    pub fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
            self.board.bars.remove(&bar);
        }
    }

    fn new_bar(&self) -> ProgressBar {
        let counts = if self.unit == Unit::Bytes { "{bytes}/{total_bytes} {bytes_per_sec}" } else { "{human_pos}/{human_len}" };
        let template = match self.total {
            Some(_) => format!("{{prefix}} {{bar:28}} {counts} {{eta}} {{msg}}"),
            None => format!(
                "{{prefix}} {{spinner}} {} {{msg}}",
                counts.split('/').next().unwrap_or(counts).to_owned() + if self.unit == Unit::Bytes { " {bytes_per_sec}" } else { "" }
            ),
        };
        let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = self.total.map_or_else(ProgressBar::no_length, ProgressBar::new);
        self.board.bars.add(bar.with_style(style).with_prefix(format!("{}: {}", self.label, self.what)))
    }

    fn plain(&mut self, done: u64, note: &str) {
        let pace = if self.unit == Unit::Epochs { PLAIN_EPOCHS } else { PLAIN_PACE };
        // The last of a series of lines; a run that is over in a moment has its summary.
        let is_end = self.spoke && self.unit == Unit::Epochs && Some(done) == self.total;
        if !is_end && self.last.elapsed() < pace {
            return;
        }
        (self.last, self.spoke) = (Instant::now(), true);
        let (done, of) = match self.unit {
            Unit::Bytes => (format!("{} MB", done / 1_000_000), self.total.map(|t| format!(" of {} MB", t / 1_000_000))),
            Unit::Rows | Unit::Epochs => (done.to_string(), self.total.map(|t| format!(" of {t}"))),
        };
        let what = if self.unit == Unit::Epochs { "epoch" } else { self.what.as_str() };
        self.line(format!("{what} {done}{} {note}", of.unwrap_or_default()).trim_end());
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
            Event::Failure { failure: Failure::input("bad", "row 1", "mend it") },
        ];
        for event in events {
            let line = serde_json::to_string(&event).expect("serialises");
            assert!(!line.contains('\n'));
            assert_eq!(serde_json::from_str::<Event>(&line).expect("parses"), event);
        }
    }
}
