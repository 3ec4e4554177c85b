//! Explained answers, as text or as JSON.

use std::io::{IsTerminal, Write};

use answers::{write_probability, write_shown};
use failure::{Failure, Result};
use model::{Contribution, Explanation};
use schema::Labels;
use serde::Serialize;

use crate::output::{Prediction, Saying};

/// How an explanation is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Words in colour.
    Colour,
    /// Numbers behind words.
    Plain,
    /// A JSON object.
    Json,
}

impl Style {
    /// Colour on a terminal, unless NO_COLOR is set.
    pub fn new(json: bool, to_file: bool) -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if json {
            Self::Json
        } else if !to_file && !no_color && std::io::stdout().is_terminal() {
            Self::Colour
        } else {
            Self::Plain
        }
    }
}

/// An explained answer as JSON.
#[derive(Serialize)]
pub struct Explained<'t> {
    text: &'t str,
    #[serde(flatten)]
    prediction: Prediction<'t>,
    explanation: Reasons<'t>,
}

/// The reasons of an answer.
#[derive(Serialize)]
struct Reasons<'t> {
    /// `exact` or `leave-one-out`.
    method: &'static str,
    /// What the words give to the margins of classes, less the mean over the classes.
    words: Vec<Word<'t>>,
    /// With `exact`: what is left, so that all adds up to the margins.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rest: Vec<Share<'t>>,
}

/// A word, where it is, and what it gives to the classes that are shown.
#[derive(Serialize)]
struct Word<'t> {
    word: &'t str,
    /// In bytes.
    start: usize,
    end: usize,
    contributions: Vec<Share<'t>>,
}

#[derive(Serialize)]
struct Share<'t> {
    label: &'t str,
    contribution: f32,
}

impl<'t> Explained<'t> {
    /// The answer to a text.
    pub fn new(labels: &'t Labels, text: &'t str, of: &Explanation, how: Saying) -> Self {
        let prediction = Prediction::of(labels, &of.probabilities, of.known, how);
        let shown: Vec<usize> =
            prediction.top.iter().filter_map(|odds| labels.find(odds.label)).collect();
        let shares = |margins: &[f32]| -> Vec<Share<'t>> {
            let share = |&label: &usize| {
                Some(Share { label: labels.name(label), contribution: *margins.get(label)? })
            };
            shown.iter().filter_map(share).collect()
        };
        let word = |Contribution { place, margins }: &Contribution| Word {
            word: text.get(place.clone()).unwrap_or_default(),
            start: place.start,
            end: place.end,
            contributions: shares(margins),
        };
        let words = of.words.iter().map(word).collect();
        let (method, rest) = (of.method.name(), shares(&of.rest));
        Self { text, prediction, explanation: Reasons { method, words, rest } }
    }
}

/// Writes an explained answer.
pub fn write_explained(
    out: &mut Vec<u8>,
    labels: &Labels,
    text: &str,
    of: &Explanation,
    style: Style,
    how: Saying,
) -> Result<()> {
    let cannot = |e: &dyn std::fmt::Display| {
        Failure::failed(e, "the output", "this is a bug; please report it")
    };
    if style == Style::Json {
        let explained = Explained::new(labels, text, of, how);
        serde_json::to_writer(&mut *out, &explained).map_err(|e| cannot(&e))?;
        out.push(b'\n');
        return Ok(());
    }
    let prediction = Prediction::of(labels, &of.probabilities, of.known, how);
    let mut write = || -> std::io::Result<()> {
        let Some(best) = prediction.label else {
            out.write_all(b"-  ")?;
            write_shown(out, text)?;
            return out.write_all(b"\n");
        };
        write_shown(out, best)?;
        out.write_all(b" ")?;
        write_probability(out, prediction.probability.unwrap_or_default())?;
        out.write_all(b"  ")?;
        let label = of.label();
        let gives = |word: &Contribution| word.margins.get(label).copied().unwrap_or_default();
        let largest = of.words.iter().map(|word| gives(word).abs()).fold(0.0, f32::max);
        let mut end = 0;
        for word in &of.words {
            let gap = text.get(end..word.place.start).unwrap_or_default();
            write_shown(out, gap)?;
            let own = text.get(word.place.clone()).unwrap_or_default();
            let (margin, share) = (gives(word), gives(word).abs() / largest.max(f32::MIN_POSITIVE));
            if style == Style::Colour {
                // Green speaks for the answer, red against it; the strongest words are bold, and
                // the weakest have no colour.
                let colour = if margin > 0.0 { "32" } else { "31" };
                let start = match share {
                    s if s > 0.5 => format!("\u{1b}[1;{colour}m"),
                    s if s > 0.1 => format!("\u{1b}[{colour}m"),
                    _ => String::new(),
                };
                out.write_all(start.as_bytes())?;
                write_shown(out, own)?;
                if !start.is_empty() {
                    out.write_all(b"\x1b[0m")?;
                }
            } else {
                write_shown(out, own)?;
                write!(out, "({margin:+.2})")?;
            }
            end = word.place.end;
        }
        write_shown(out, text.get(end..).unwrap_or_default())?;
        out.write_all(b"\n")
    };
    write().map_err(|e| cannot(&e))
}
