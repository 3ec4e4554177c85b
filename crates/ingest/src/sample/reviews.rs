//! The embedded sample of film reviews, in the form of SST-2: sentences and phrases, tokens
//! separated by spaces, labels 0 (negative) and 1 (positive). All of them are made up.
//!
//! A clause speaks well or badly of a part of a film. `never`, `not` and `hardly` turn a judgement
//! round, and a clause after `though` concedes the opposite, so that the order of the words counts.

use std::collections::HashSet;
use std::fmt::Write as _;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::Draw;

const SEED: u64 = 2025;
/// Rows of train and of dev.
const ROWS: [(&str, usize); 2] = [("train", 3000), ("dev", 400)];
/// Percentage of train that are phrases; SST-2 has the phrases of its sentences there.
const PHRASES: u32 = 35;

#[rustfmt::skip]
const SUBJECTS: &[&str] = &[
    "the film", "the movie", "the plot", "the script", "its heroine", "the sequel", "the dialogue",
    "the camera", "the director", "the cast", "the score", "the ending", "the first half",
    "the romance", "the villain", "the documentary", "every scene", "the story", "the comedy",
    "the animation", "the lead", "the pacing", "the thriller", "its message",
];

#[rustfmt::skip]
const JUDGEMENTS: [&[&str]; 2] = [
    &[
        "tedious", "contrived", "lifeless", "dull", "a mess", "painfully slow", "derivative",
        "clumsy", "forgettable", "shallow", "overlong", "hollow", "a chore", "silly", "flat",
        "muddled", "predictable", "grating", "cold", "lazy", "pointless", "stale", "a letdown",
        "heavy-handed", "witless", "bland",
    ],
    &[
        "moving", "charming", "inventive", "warm", "a delight", "beautifully acted", "gripping",
        "graceful", "memorable", "thoughtful", "brisk", "touching", "a pleasure", "witty",
        "vivid", "assured", "surprising", "tender", "funny", "fresh", "wise", "a triumph",
        "full of life", "masterful", "sharp", "engaging",
    ],
];

#[rustfmt::skip]
const STRENGTHS: &[&str] = &["", "", "", "very ", "rather ", "truly ", "at times ", "quietly ", "so "];
#[rustfmt::skip]
const TAILS: &[&str] = &[
    "", "", "", " from start to finish", " in its own way", " for the most part", " after all",
    " , again and again", " for two hours", " on the big screen", " and then some", " to the end",
];
const TURNS: &[&str] = &["never", "not", "hardly", "anything but"];

/// The table: `sentence`, `label` and `part`, tab-separated, with a header.
pub fn table() -> String {
    let mut draw = Draw(ChaCha8Rng::seed_from_u64(SEED));
    let mut seen = HashSet::new();
    let mut text = String::from("sentence\tlabel\tpart\n");
    for (part, rows) in ROWS {
        let mut count = 0;
        while count < rows {
            // SST-2's train has 56 % positive rows.
            let label = usize::from(draw.percent(56));
            let is_phrase = part == "train" && draw.percent(PHRASES);
            let row = if is_phrase { phrase(&mut draw, label) } else { sentence(&mut draw, label) };
            if seen.insert(row.clone()) {
                // Writing to a string cannot fail.
                let _ = writeln!(text, "{row}\t{label}\t{part}");
                count += 1;
            }
        }
    }
    text
}

fn judgement(draw: &mut Draw, label: usize) -> String {
    let strength = draw.pick(STRENGTHS);
    let of = |draw: &mut Draw, label: usize| draw.pick(JUDGEMENTS.get(label).unwrap_or(&SUBJECTS));
    if draw.percent(18) {
        let turn = draw.pick(TURNS);
        return format!("{turn} {strength}{}", of(draw, 1 - label));
    }
    format!("{strength}{}", of(draw, label))
}

fn clause(draw: &mut Draw, label: usize) -> String {
    let subject = draw.pick(SUBJECTS);
    format!("{subject} is {}", judgement(draw, label))
}

fn phrase(draw: &mut Draw, label: usize) -> String {
    let one = judgement(draw, label);
    let tail = draw.pick(TAILS);
    if draw.percent(30) { format!("{one} and {}", judgement(draw, label)) } else { one + tail }
}

fn sentence(draw: &mut Draw, label: usize) -> String {
    let main = clause(draw, label);
    let tail = draw.pick(TAILS);
    match draw.below(8) {
        0 => format!("{main}{tail} , though {} .", clause(draw, 1 - label)),
        1 => format!("though {} , {main}{tail} .", clause(draw, 1 - label)),
        2 => format!("{main} , and {}{tail} .", clause(draw, label)),
        _ => format!("{main}{tail} ."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reviews_are_always_the_same_and_all_different() {
        let text = table();
        assert_eq!(text, table());
        let rows: Vec<Vec<&str>> =
            text.lines().skip(1).map(|line| line.split('\t').collect()).collect();
        assert!(rows.iter().all(|row| row.len() == 3 && !row[0].is_empty()));
        let count = |part: &str| rows.iter().filter(|row| row[2] == part).count();
        assert_eq!((count("train"), count("dev"), rows.len()), (3000, 400, 3400));
        let sentences: HashSet<&str> = rows.iter().map(|row| row[0]).collect();
        assert_eq!(sentences.len(), rows.len());
        let positive = rows.iter().filter(|row| row[1] == "1").count();
        assert!((1700..2100).contains(&positive), "{positive}");
    }
}
