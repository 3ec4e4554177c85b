//! fastText's format: a line has `__label__` with the label's name, and the text.

use std::io::Read;

use failure::Result;

use super::intake::{Intake, Place, Row};
use super::records::Records;

/// What labels begin with.
pub const PREFIX: &str = "__label__";

/// Reads all rows of `reader`; `part` is their part.
pub fn read(
    reader: &mut dyn Read,
    place: &str,
    part: Option<&str>,
    intake: &mut Intake,
) -> Result<()> {
    let mut records = Records::new(reader, place, None);
    while let Some((line, record)) = records.next()? {
        let row = std::str::from_utf8(record)
            .map_err(|e| format!("is not UTF-8 at byte {}", e.valid_up_to()))
            .and_then(|record| {
                let (label, text) = cut(record)?;
                Ok(Row { id: None, text, label, group: None, part })
            });
        intake.take(row, Place { file: place, unit: "line", number: line })?;
    }
    Ok(())
}

/// The label and the text of a line.
fn cut(line: &str) -> std::result::Result<(&str, &str), String> {
    let labels = line.split_whitespace().filter(|word| word.starts_with(PREFIX)).count();
    if labels != 1 {
        return Err(format!("has {labels} labels ({PREFIX}…), and one is needed"));
    }
    let Some(rest) = line.trim_start().strip_prefix(PREFIX) else {
        return Err(format!("does not begin with its label ({PREFIX}…)"));
    };
    let (label, text) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    Ok((label, text.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_a_label_and_a_text() {
        assert_eq!(cut("__label__a-b  some text "), Ok(("a-b", "some text ")));
        assert_eq!(cut("__label__x"), Ok(("x", "")));
        assert!(cut("__label__x __label__y text").unwrap_err().contains("2 labels"));
        assert!(cut("text").unwrap_err().contains("0 labels"));
        assert!(cut("text __label__x").unwrap_err().contains("does not begin"));
    }
}
