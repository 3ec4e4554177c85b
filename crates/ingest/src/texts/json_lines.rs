//! JSON lines: one object a line. serde_json reads them line by line rather than polars, which
//! guesses the columns' types from the first rows and names no line in its errors.

use std::collections::HashMap;
use std::fmt;
use std::io::Read;

use failure::{Failure, Result};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::TextOptions;
use super::columns::{Columns, number};
use super::intake::{Intake, Place, Row};
use super::records::Records;

/// Reads all rows of `reader`. `part` is that of rows without a column of parts.
pub fn read(
    reader: &mut dyn Read,
    place: &str,
    part: Option<&str>,
    options: &TextOptions,
    intake: &mut Intake,
) -> Result<()> {
    let mut records = Records::new(reader, place, None);
    let mut wanted: Option<(Columns, HashMap<String, usize>)> = None;
    let mut fields = Vec::new();
    let mut joined = String::new();
    while let Some((line, record)) = records.next()? {
        if wanted.is_none() {
            if record.trim_ascii_start().starts_with(b"[") {
                return Err(Failure::input(
                    "the file is a JSON array",
                    place,
                    "write one object on each line: jq -c '.[]'",
                ));
            }
            // The first object shows which of the usual names there are.
            let keys = serde_json::from_slice::<serde_json::Map<String, Value>>(record);
            let keys = keys.map_err(|e| {
                Failure::input(
                    format_args!("line {line} is not a JSON object: {e}"),
                    format_args!("{place}, line {line}"),
                    "correct the first object, which shows the names of the fields",
                )
            })?;
            let keys: Vec<&str> = keys.keys().map(String::as_str).collect();
            let columns = options.columns.find(&keys, place)?;
            let needed = columns.all().filter_map(|at| Some(((*keys.get(at)?).to_owned(), at)));
            wanted = Some((columns.clone(), needed.collect()));
        }
        let Some((columns, keys)) = &wanted else { continue };
        fields.clear();
        let row = parse(record, keys, &mut fields).and_then(|()| {
            let field = |at: usize| {
                fields.iter().find(|(field, _)| *field == at).map_or("", |(_, text)| text.as_str())
            };
            joined.clear();
            super::join(&mut joined, columns.texts.iter().map(|at| field(*at)));
            Ok(Row {
                id: columns.id.map(|at| number(field(at))).transpose()?,
                text: &joined,
                label: field(columns.label),
                group: columns.group.map(field),
                part: columns.part.map(field).or(part),
            })
        });
        intake.take(row, Place { file: place, unit: "line", number: line })?;
    }
    Ok(())
}

/// Finds the wanted fields of an object; the error is for the message about the row.
fn parse(
    record: &[u8],
    keys: &HashMap<String, usize>,
    fields: &mut Vec<(usize, String)>,
) -> std::result::Result<(), String> {
    if let Err(e) = std::str::from_utf8(record) {
        return Err(format!("is not UTF-8 at byte {}", e.valid_up_to()));
    }
    let mut json = serde_json::Deserializer::from_slice(record);
    let mut nested = false;
    WantedFields { keys, fields, nested: &mut nested }
        .deserialize(&mut json)
        .and_then(|()| json.end())
        .map_err(|e| {
            // The line that serde_json names is always the first.
            let text = e.to_string();
            let what = text.split(" at line ").next().unwrap_or(&text);
            format!("is not a JSON object: {what} at column {}", e.column())
        })?;
    if nested {
        return Err("has a list or an object where a text is needed".to_owned());
    }
    Ok(())
}

struct WantedFields<'w> {
    keys: &'w HashMap<String, usize>,
    fields: &'w mut Vec<(usize, String)>,
    /// Whether a wanted field is a list or an object.
    nested: &'w mut bool,
}

impl<'de> DeserializeSeed<'de> for WantedFields<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, json: D) -> std::result::Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for WantedFields<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<(), A::Error> {
        while let Some(key) = map.next_key::<std::borrow::Cow<'_, str>>()? {
            let Some(&at) = self.keys.get(&*key) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let text = match map.next_value::<Value>()? {
                Value::String(text) => text,
                Value::Number(number) => number.to_string(),
                Value::Bool(is) => is.to_string(),
                Value::Null => continue,
                Value::Array(_) | Value::Object(_) => {
                    *self.nested = true;
                    continue;
                }
            };
            self.fields.retain(|(field, _)| *field != at);
            self.fields.push((at, text));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(line: &str) -> std::result::Result<Vec<(usize, String)>, String> {
        let keys = HashMap::from([("text".to_owned(), 0), ("label".to_owned(), 1)]);
        let mut fields = Vec::new();
        parse(line.as_bytes(), &keys, &mut fields).map(|()| fields)
    }

    #[test]
    fn values_become_texts_and_mistakes_are_named() {
        let found = fields(r#"{"text": "a\n\"é", "more": [1, {"label": 2}], "label": 7}"#);
        assert_eq!(found.expect("an object"), [(0, "a\n\"é".to_owned()), (1, "7".to_owned())]);
        assert_eq!(fields(r#"{"text": null}"#).expect("an object"), []);
        for (line, what) in [
            (r#"{"text": "a""#, "EOF while parsing an object at column 12"),
            (r#"["text"]"#, "expected an object"),
            (r#"{"text": "a"} x"#, "trailing characters"),
            (r#"{"label": ["a"]}"#, "has a list or an object"),
        ] {
            let said = fields(line).unwrap_err();
            assert!(said.contains(what), "{said}");
        }
    }
}
