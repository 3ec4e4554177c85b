//! The answer to a headline, and how it is written.

use std::io::{Result, Write};

use schema::Labels;
use serde::Serialize;

/// How an answer is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Columns for a person.
    Text,
    /// A JSON object.
    Json,
}

/// What is known of a headline's words.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// Its words.
    pub all: usize,
    /// Those with a vector.
    pub known: usize,
    /// Whether the run knows any of its words or n-grams.
    pub anything: bool,
}

/// A headline and the net's answer.
pub struct Answer<'t> {
    /// The headline.
    pub title: &'t str,
    /// What is known of its words.
    pub known: Known,
    /// The categories.
    pub labels: &'t Labels,
    /// The probability of each category, in label order.
    pub probabilities: &'t [f32],
}

/// `category` and `name` are `null`, and `top` is empty, if nothing of the title is known, since
/// the run then knows nothing about the title. Only the news archive's letters have names.
#[derive(Serialize)]
struct Json<'t> {
    title: &'t str,
    category: Option<&'t str>,
    name: Option<&'static str>,
    top: Vec<Odds<'t>>,
    words: usize,
    words_known: usize,
}

#[derive(Clone, Copy, Serialize)]
struct Odds<'t> {
    category: &'t str,
    probability: f32,
}

impl Answer<'_> {
    /// Writes a line with the `k` likeliest categories.
    pub fn write(&self, out: &mut impl Write, form: Form, k: usize) -> Result<()> {
        let top = likeliest(self.probabilities, k);
        let Known { all, known, anything } = self.known;
        match form {
            Form::Text => {
                // If nothing is known, the probabilities are the same for every headline, and reveal
                // nothing about this one.
                for (label, p) in &top {
                    if !anything {
                        out.write_all(b"-         ")?;
                        continue;
                    }
                    write_shown(out, self.labels.name(*label))?;
                    out.write_all(b" ")?;
                    write_probability(out, *p)?;
                    out.write_all(b"  ")?;
                }
                if anything {
                    let digits = |n: usize| n.checked_ilog10().map_or(1, |log| log as usize + 1);
                    let width = 13_usize.saturating_sub("/ known".len() + digits(all));
                    write!(out, "{known:>width$}/{all} known  ")?;
                } else {
                    out.write_all(b"   none known  ")?;
                }
                // One line per headline even if the title contains line breaks, and no control
                // characters, which a terminal would obey.
                write_shown(out, self.title)?;
                out.write_all(b"\n")
            }
            Form::Json => {
                let shown = if anything { &top[..] } else { &[] };
                let best = shown.first().map(|(label, _)| *label);
                let odds = |(label, probability): &(usize, f32)| Odds {
                    category: self.labels.name(*label),
                    probability: *probability,
                };
                let json = Json {
                    title: self.title,
                    category: best.map(|label| self.labels.name(label)),
                    name: best.and_then(|label| Some(self.labels.meaning(label)?.0)),
                    top: shown.iter().map(odds).collect(),
                    words: all,
                    words_known: known,
                };
                serde_json::to_writer(&mut *out, &json)?;
                out.write_all(b"\n")
            }
        }
    }
}

/// The `k` largest probabilities and their labels, the largest first; of equal ones the first label,
/// as in training.
pub fn likeliest(probabilities: &[f32], k: usize) -> Vec<(usize, f32)> {
    let mut all: Vec<(usize, f32)> = probabilities.iter().copied().enumerate().collect();
    let order = |a: &(usize, f32), b: &(usize, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if k < all.len() {
        all.select_nth_unstable_by(k, order);
        all.truncate(k);
    }
    all.sort_unstable_by(order);
    all
}

/// Writes a text on one line, without control characters, which a terminal would obey.
pub fn write_shown(out: &mut impl Write, text: &str) -> Result<()> {
    if text.bytes().all(|b| (b' '..0x7f).contains(&b)) {
        return out.write_all(text.as_bytes());
    }
    let shown: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    out.write_all(shown.as_bytes())
}

/// Writes a probability with four decimals.
pub fn write_probability(out: &mut impl Write, p: f32) -> Result<()> {
    match four_decimals(p) {
        Some(text) => out.write_all(&text),
        None => write!(out, "{p:.4}"),
    }
}

/// A probability as `{:.4}` writes it, without the search for digits that other numbers need, or
/// `None` if it is not a probability. An f32 times 10⁴ has at most 38 bits, so the product is
/// exact.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 10,000")]
fn four_decimals(p: f32) -> Option<[u8; 6]> {
    if !(0.0..=1.0).contains(&p) {
        return None;
    }
    let mut n = (f64::from(p) * 1e4).round_ties_even() as u32;
    let mut text = *b"0.0000";
    for (place, digit) in text.iter_mut().enumerate().rev() {
        if place != 1 {
            *digit = b'0' + (n % 10) as u8;
            n /= 10;
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(p: f32) {
        let text = four_decimals(p).expect("a probability");
        assert_eq!(String::from_utf8_lossy(&text), format!("{p:.4}"));
    }

    #[test]
    fn ties_go_where_the_library_s_go_and_what_is_no_probability_is_no_number_of_ours() {
        // The odd multiples of half of 10⁻⁴ that are f32s: 1/32 is 625 such halves.
        (1_u8..32).step_by(2).for_each(|i| check(f32::from(i) / 32.0));
        assert!(
            [f32::NAN, -0.5, 1.5, f32::INFINITY].into_iter().all(|p| four_decimals(p).is_none())
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]
        #[test]
        fn four_decimals_are_the_library_s(p in 0.0_f32..=1.0, small in 0_u32..0x3f80_0001) {
            check(p);
            check(f32::from_bits(small));
        }
    }

    fn said(form: Form, k: usize) -> String {
        said_of(form, k, 2)
    }

    fn said_of(form: Form, k: usize, known: usize) -> String {
        let answer = Answer {
            title: "a\tb\nc\u{1b}[31m",
            known: Known { all: 3, known, anything: known > 0 },
            labels: &Labels::news(),
            probabilities: &[0.2, 0.125, 0.55, 0.125],
        };
        let mut out = Vec::new();
        answer.write(&mut out, form, k).expect("writes");
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn the_likeliest_category_comes_first() {
        assert_eq!(
            said(Form::Text, 4),
            "e 0.5500  b 0.2000  t 0.1250  m 0.1250      2/3 known  a b c [31m\n"
        );
        assert_eq!(said(Form::Text, 1), "e 0.5500      2/3 known  a b c [31m\n");
    }

    #[test]
    fn of_a_title_without_a_known_word_nothing_is_said() {
        assert_eq!(said_of(Form::Text, 2, 0), "-         -            none known  a b c [31m\n");
        let json: serde_json::Value =
            serde_json::from_str(&said_of(Form::Json, 2, 0)).expect("JSON");
        assert_eq!(
            (&json["category"], &json["name"]),
            (&serde_json::Value::Null, &serde_json::Value::Null)
        );
        assert_eq!(
            (&json["top"], &json["words"], &json["words_known"]),
            (&serde_json::json!([]), &3.into(), &0.into())
        );
    }

    proptest! {
        #[test]
        fn the_likeliest_are_those_of_a_stable_sort(
            p in proptest::collection::vec(prop_oneof![Just(0.25_f32), 0.0_f32..1.0], 1..40), k in 1_usize..50
        ) {
            let mut sorted: Vec<(usize, f32)> = p.iter().copied().enumerate().collect();
            sorted.sort_by(|a, b| b.1.total_cmp(&a.1));
            sorted.truncate(k);
            prop_assert_eq!(likeliest(&p, k), sorted);
        }
    }

    #[test]
    fn json_has_everything() {
        let json: serde_json::Value = serde_json::from_str(&said(Form::Json, 2)).expect("JSON");
        assert_eq!(json["title"], "a\tb\nc\u{1b}[31m");
        assert_eq!(
            (&json["category"], &json["name"], &json["words_known"]),
            (&"e".into(), &"entertainment".into(), &2.into())
        );
        assert_eq!(json["top"].as_array().map(Vec::len), Some(2));
        assert_eq!(json["top"][1]["category"], "b");
    }
}
