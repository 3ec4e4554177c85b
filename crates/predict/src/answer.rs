//! What is said about a headline.

use std::io::{Result, Write};

use features::Category;
use serde::Serialize;
use vectors::Words;

/// How it is said.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Columns for a person.
    Text,
    /// A JSON object.
    Json,
}

/// A headline and the net's answer.
pub struct Answer<'t> {
    /// The headline.
    pub title: &'t str,
    /// Its words.
    pub words: Words,
    /// The probability of each category, in label order.
    pub probabilities: [f32; Category::COUNT],
}

#[derive(Serialize)]
struct Json<'t> {
    title: &'t str,
    category: &'static str,
    name: &'static str,
    top: Vec<Odds>,
    words: usize,
    words_known: usize,
}

#[derive(Clone, Copy, Serialize)]
struct Odds {
    category: &'static str,
    probability: f32,
}

impl Answer<'_> {
    /// Writes a line with the `k` likeliest categories.
    pub fn write(&self, out: &mut impl Write, form: Form, k: usize) -> Result<()> {
        let mut top: Vec<(Category, f32)> = Category::ALL.into_iter().zip(self.probabilities).collect();
        // Stable, so that of equal ones the first is on top, as in training.
        top.sort_by(|a, b| b.1.total_cmp(&a.1));
        top.truncate(k);
        let Words { all, known } = self.words;
        match form {
            Form::Text => {
                for (category, p) in &top {
                    write!(out, "{} {p:.4}  ", category.letter())?;
                }
                // A line a headline, whatever is in it, and nothing that a terminal would obey.
                let title: String = self.title.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
                // Without a known word an answer says nothing about the headline.
                let known = if known == 0 { "none known".to_owned() } else { format!("{known}/{all} known") };
                writeln!(out, "{known:>13}  {title}")
            }
            Form::Json => {
                let best = top.first().map_or(Category::Business, |t| t.0);
                let top =
                    top.iter().map(|(category, probability)| Odds { category: category.letter(), probability: *probability }).collect();
                let json = Json { title: self.title, category: best.letter(), name: best.name(), top, words: all, words_known: known };
                serde_json::to_writer(&mut *out, &json)?;
                out.write_all(b"\n")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(form: Form, k: usize) -> String {
        let answer = Answer { title: "a\tb\nc\u{1b}[31m", words: Words { all: 3, known: 2 }, probabilities: [0.2, 0.125, 0.55, 0.125] };
        let mut out = Vec::new();
        answer.write(&mut out, form, k).expect("writes");
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn the_likeliest_category_comes_first() {
        assert_eq!(said(Form::Text, 4), "e 0.5500  b 0.2000  t 0.1250  m 0.1250      2/3 known  a b c [31m\n");
        assert_eq!(said(Form::Text, 1), "e 0.5500      2/3 known  a b c [31m\n");
    }

    #[test]
    fn json_has_everything() {
        let json: serde_json::Value = serde_json::from_str(&said(Form::Json, 2)).expect("JSON");
        assert_eq!(json["title"], "a\tb\nc\u{1b}[31m");
        assert_eq!((&json["category"], &json["name"], &json["words_known"]), (&"e".into(), &"entertainment".into(), &2.into()));
        assert_eq!(json["top"].as_array().map(Vec::len), Some(2));
        assert_eq!(json["top"][1]["category"], "b");
    }
}
