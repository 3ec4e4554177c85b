//! Renders the pages from templates.

use std::collections::BTreeMap;

use failure::{Failure, Result};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, context};

use crate::classifier::Classifier;
use crate::facts::Facts;
use crate::figures::Figure;

macro_rules! templates {
    ($($name:literal),* $(,)?) => { [$(($name, include_str!(concat!("../templates/", $name)))),*] };
}

const TEMPLATES: [(&str, &str); 23] = templates![
    "index.html",
    "macros.html",
    "style.css",
    "script.js",
    "classifier.js",
    "try.js",
    "try.html",
    "70.html",
    "71.html",
    "72.html",
    "73.html",
    "74.html",
    "75.html",
    "76.html",
    "77.html",
    "78.html",
    "79.html",
    "edition-2025.html",
    "best.html",
    "runs.html",
    "evaluated.html",
    "tuned.html",
    "report.md",
];

/// Each page's file name and text.
pub fn pages(facts: &Facts, figures: &[Figure]) -> Result<Vec<(&'static str, String)>> {
    let bug = |e: minijinja::Error| {
        Failure::failed(
            format_args!("{e:#}"),
            "report templates",
            "this is a bug; please report it",
        )
    };
    let mut environment = Environment::new();
    environment.set_syntax(
        SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(bug)?,
    );
    environment.add_filter("thousands", thousands);
    environment.add_filter("shortened", shortened);
    environment.add_filter("cell", cell);
    environment.add_filter("percent", |x: f64| format!("{:.1}\u{a0}%", x * 100.0));
    environment.add_filter("decimals", |x: f64, n: usize| format!("{x:.n$}"));
    environment.add_filter("signed", signed);
    environment.add_filter("seconds", seconds);
    environment.add_filter("reason_japanese", reason_japanese);
    for (name, text) in TEMPLATES {
        environment.add_template(name, text).map_err(bug)?;
    }
    let figures: BTreeMap<&str, &Figure> = figures.iter().map(|f| (f.name.as_str(), f)).collect();
    let nets = facts.nets.as_ref().filter(|nets| !nets.is_empty());
    let nets = nets.map(Classifier::json).transpose()?;
    let context = context! { nets, facts => Serde(facts), figures => Serde(&figures), headline => whole(&facts.headline()), japanese_headline => whole(&facts.japanese_headline()) };
    let page = |name: &'static str| {
        let text =
            environment.get_template(name).and_then(|t| t.render(context.clone())).map_err(bug)?;
        Ok((name, text + "\n"))
    };
    ["index.html", "report.md"].into_iter().map(page).collect()
}

/// Puts a no-break space between a number and `%`.
fn whole(text: &str) -> String {
    text.replace(" %", "\u{a0}%")
}

/// A text for a cell of a Markdown table: on one line, and nothing in it ends the cell or is HTML.
fn cell(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    text.replace('\\', "\\\\").replace('|', "\\|").replace('<', "&lt;")
}

/// The beginning of a long text.
fn shortened(text: &str) -> String {
    const LONGEST: usize = 200;
    match text.char_indices().nth(LONGEST) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
    }
}

/// Formats a number with its sign, and small ones in scientific notation.
fn signed(x: f64) -> String {
    let text = if x != 0.0 && x.abs() < 5e-5 { format!("{x:+.1e}") } else { format!("{x:+.4}") };
    text.replace('-', "−")
}

/// Translates the reason why a device was unavailable, as `train.sweep` writes it, into Japanese.
/// Unknown phrases stay as they are.
fn reason_japanese(reason: &str) -> String {
    let known = [
        ("this build cannot use CUDA", "このビルドはCUDAに対応していない"),
        (
            ", and this machine has no NVIDIA driver",
            "。また、この計算機にはNVIDIAのドライバーがない",
        ),
        (
            ", though this machine has an NVIDIA driver",
            "。ただし、この計算機にはNVIDIAのドライバーがある",
        ),
        ("NVIDIA's driver (libcuda) was not found", "NVIDIAのドライバー（libcuda）が見つからない"),
    ];
    known
        .iter()
        .fold(reason.to_owned(), |text, (english, japanese)| text.replace(english, japanese))
}

/// Formats seconds with three significant digits.
fn seconds(x: f64) -> String {
    if x <= 0.0 {
        return "0".to_owned();
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "at most a few digits"
    )]
    let decimals = (2.0 - x.log10().floor()).clamp(0.0, 9.0) as usize;
    format!("{x:.decimals$}")
}

/// Formats a number with thousands separators: 422937 as 422,937.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_numbers_keep_their_digits() {
        assert_eq!(
            [0.5, -0.04, 0.0, -1.234e-7].map(signed),
            ["+0.5000", "−0.0400", "+0.0000", "−1.2e−7"]
        );
        assert_eq!([0.001_234_5, 5.4416, 123.4, 0.0].map(seconds), ["0.00123", "5.44", "123", "0"]);
    }

    #[test]
    fn a_reason_is_translated_into_japanese() {
        let reason = "this build cannot use CUDA, and this machine has no NVIDIA driver";
        assert!(!reason_japanese(reason).contains("this"), "{}", reason_japanese(reason));
    }

    #[test]
    fn a_label_does_not_break_a_table() {
        assert_eq!(cell("a|b\n<i>\\"), "a\\|b &lt;i>\\\\");
    }

    #[test]
    fn digits_are_grouped_by_threes() {
        assert_eq!(
            [0, 999, 1000, 422_937, 1_000_000].map(thousands),
            ["0", "999", "1,000", "422,937", "1,000,000"]
        );
    }
}
