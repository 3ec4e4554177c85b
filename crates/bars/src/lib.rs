//! Draws how far stages are: a progress bar each on a terminal, plain lines elsewhere.
//!
//! Only `xtask` uses this crate. Stages do not, so that a change to a bar reruns none of them.

use std::io::IsTerminal;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use stage::progress::Lines;
use stage::{Event, Unit};

/// The terminal, which several consoles share: their bars stand below each other, and lines go
/// above them all.
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
            lines: Lines::new(label),
            spoke: false,
        }
    }

    /// Lets `print` write lines, on stdout or stderr, while no bar is in the way.
    pub fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bars.suspend(print)
    }
}

/// Shows the events of one stage on stderr.
pub struct Console {
    label: String,
    board: Board,
    bar: Option<ProgressBar>,
    terminal: bool,
    lines: Lines,
    /// Whether the bar has moved.
    spoke: bool,
}

impl Console {
    /// Shows one event.
    pub fn show(&mut self, event: &Event) {
        match event {
            Event::Begin { what, total, unit } if self.terminal => {
                self.clear();
                self.spoke = false;
                self.bar = Some(self.new_bar(what, *total, *unit));
            }
            Event::At { done, note } if self.bar.is_some() => {
                let Some(bar) = &self.bar else { return };
                bar.set_position(*done);
                // What was done before a run was continued says nothing of its speed now.
                if !std::mem::replace(&mut self.spoke, true) {
                    bar.reset_eta();
                }
                bar.set_message(note.clone());
            }
            Event::Summary { .. } | Event::Failure { .. } => self.clear(),
            other => {
                if let Some(line) = self.lines.line(other) {
                    self.board.aside(|| eprintln!("{line}"));
                }
            }
        }
    }

    /// Writes a line above the bars.
    pub fn line(&self, text: &str) {
        let line = self.lines.labelled(text);
        self.board.aside(|| eprintln!("{line}"));
    }

    /// Takes the bar away.
    pub fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
            self.board.bars.remove(&bar);
        }
    }

    fn new_bar(&self, what: &str, total: Option<u64>, unit: Unit) -> ProgressBar {
        let (counts, speed) = match (unit, total) {
            (Unit::Bytes, Some(_)) => ("{bytes}/{total_bytes} {bytes_per_sec}", ""),
            (Unit::Bytes, None) => ("{bytes}", " {bytes_per_sec}"),
            (_, Some(_)) => ("{human_pos}/{human_len}", ""),
            (_, None) => ("{human_pos}", ""),
        };
        let template = match total {
            Some(_) => format!("{{prefix}} {{bar:28}} {counts} {{eta}} {{msg}}"),
            None => format!("{{prefix}} {{spinner}} {counts}{speed} {{msg}}"),
        };
        let style = ProgressStyle::with_template(&template)
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = total.map_or_else(ProgressBar::no_length, ProgressBar::new);
        self.board.bars.add(bar.with_style(style).with_prefix(format!("{}: {what}", self.label)))
    }
}
