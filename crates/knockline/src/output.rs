//! Answers, in the formats that people have.

use std::io::Write;

use answers::likeliest;
use failure::{Failure, Result};
use model::Known;
use schema::Labels;
use serde::Serialize;

/// A class and its probability.
#[derive(Clone, Serialize)]
pub struct Odds<'l> {
    /// The class.
    pub label: &'l str,
    /// Its probability.
    pub probability: f32,
}

/// The answer to a text. Without one, `label` and `probability` are `null`: nothing of the text is
/// known, or no class is likely enough.
#[derive(Clone, Serialize)]
pub struct Prediction<'l> {
    /// The likeliest class.
    pub label: Option<&'l str>,
    /// Its probability.
    pub probability: Option<f32>,
    /// The likeliest classes; none if nothing of the text is known.
    pub top: Vec<Odds<'l>>,
    /// Words of the text.
    pub words: usize,
    /// Those that the model knows.
    pub words_known: usize,
}

/// How much is said.
#[derive(Clone, Copy)]
pub struct Saying {
    /// How many classes.
    pub top_k: usize,
    /// The least probability of an answer.
    pub least: f32,
}

impl<'l> Prediction<'l> {
    /// From probabilities in label order.
    pub fn of(labels: &'l Labels, probabilities: &[f32], known: Known, how: Saying) -> Self {
        let top = if known.anything { likeliest(probabilities, how.top_k) } else { Vec::new() };
        let best = top.first().filter(|(_, p)| *p >= how.least);
        Self {
            label: best.map(|(label, _)| labels.name(*label)),
            probability: best.map(|(_, p)| *p),
            top: top
                .iter()
                .map(|&(label, probability)| Odds { label: labels.name(label), probability })
                .collect(),
            words: known.words,
            words_known: known.known,
        }
    }
}

/// Writes to the place with this name. `false` if nobody reads any more.
pub fn write(out: &mut dyn Write, bytes: &[u8], place: impl FnOnce() -> String) -> Result<bool> {
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(e) => Err(Failure::failed(
            format_args!("cannot write: {e}"),
            place(),
            "check where it goes, and that there is room; what was written so far is there",
        )),
    }
}

/// Prints a text. A reader that wants no more is no error.
pub fn print(text: &str) -> Result<()> {
    write(&mut std::io::stdout().lock(), text.as_bytes(), || "stdout".to_owned()).map(drop)
}

/// A text for a terminal, which it cannot control.
pub fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
