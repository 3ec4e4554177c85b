//! Draws the progress of stages: a bar for each on a terminal, plain lines elsewhere.
//!
//! Only `xtask` uses this crate. Stages do not, so that a change to a bar reruns none of them.

use std::io::IsTerminal;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use stage::progress::Lines;
use stage::{Event, Unit};

/// The terminal, shared by several consoles: their bars are stacked, and lines are printed above
/// all of them.
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

    /// Hides the bars while `print` writes lines to stdout or stderr.
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
                // Work from before a run was resumed would distort the estimate of its speed.
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

    /// Prints a line above the bars.
    pub fn line(&self, text: &str) {
        let line = self.lines.labelled(text);
        self.board.aside(|| eprintln!("{line}"));
    }

    /// Removes the bar.
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
