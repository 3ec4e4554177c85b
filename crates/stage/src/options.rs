//! Options as data: a stage describes its options in a TOML file, and this one description gives
//! the defaults, the checks, the `--help` text and the canonical form that goes into a node's key.
//!
//! A description has a table for each option, named after it:
//!
//! ```toml
//! [test_size]
//! kind = "number"
//! default = 0.2
//! above = 0.0
//! below = 1.0
//! about = "share of the rows that is held out"
//! ```
//!
//! An option without a default is optional and is `null` until it is set. Nodes that share
//! options share a description: a later one may change a table's fields or add tables.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::Value as Json;

/// The options of one node: every known name, `null` where an optional one is not set.
pub type Options = BTreeMap<String, Json>;

/// The type of an option's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A whole number.
    Integer,
    /// A list of whole numbers without repetitions.
    Integers,
    /// The least and the most of a whole number, or an empty list for none.
    Range,
    /// A whole number, or one of the choices.
    Count,
    /// A finite number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// A string.
    Text,
    /// The name of a column, or of several.
    Columns,
    /// A list of strings.
    Texts,
    /// The path of a file. It enters the node's key by its content.
    Path,
    /// A folder's path or a URL.
    Place,
    /// The SHA-256 of a file, in hex.
    Sha256,
    /// Files, folders and patterns, each a path or a URL; or one of them. All of them are read.
    Files,
    /// Where data comes from: a path, a URL, a name built into the stage, or a list of these. A
    /// file enters the node's key by its content, never by its path.
    Source,
}

impl Kind {
    /// Whether the values name files whose content belongs to the node's key.
    pub fn names_files(self) -> bool {
        matches!(self, Self::Source | Self::Files | Self::Path)
    }
}

/// One option's description.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The type of its values.
    pub kind: Kind,
    /// Its value if none is set.
    pub default: Option<toml::Value>,
    /// Smallest value.
    pub min: Option<f64>,
    /// Largest value.
    pub max: Option<f64>,
    /// Bound that the value must exceed.
    pub above: Option<f64>,
    /// Bound that the value must stay below.
    pub below: Option<f64>,
    /// The allowed strings, if not all are allowed.
    pub choices: Option<Vec<String>>,
    /// For a source: the option that holds the SHA-256 it must have.
    pub pin: Option<String>,
    /// The option that this one replaces when it is set after it.
    pub replaces: Option<String>,
    /// For a source: the names built into the stage, which are not paths; a name that ends in `:`
    /// is followed by a number. For a list of strings: the only ones allowed.
    #[serde(default)]
    pub builtin: Vec<String>,
    /// Values that other options must have for this one to mean anything.
    #[serde(default)]
    pub only_with: BTreeMap<String, Json>,
    /// The version that introduced it, if that is not the first. While it has its default, it is
    /// left out of `options.json`, so that adding the option changes no byte of the results that
    /// could be made without it.
    pub since: Option<String>,
    /// One line for `--help`.
    pub about: String,
}

/// Whether a text can be a place for results: a path, or a URL with a known scheme. Nobody who
/// writes `s3:/x`, `C:\\x` or `~/x` means a relative path, so these are refused.
fn is_place(text: &str) -> bool {
    const SCHEMES: [&str; 10] =
        ["s3", "s3a", "gs", "az", "azure", "abfs", "abfss", "http", "https", "file"];
    match text.split_once("://") {
        Some((scheme, rest)) => {
            SCHEMES.contains(&scheme)
                && (scheme == "file") == rest.starts_with('/')
                && !rest.is_empty()
        }
        None => {
            !text.is_empty()
                && text.trim() == text
                && !text.starts_with('~')
                && !text.split('/').next().is_some_and(|s| s.contains(':'))
        }
    }
}

/// The options that a node takes.
#[derive(Clone, Debug)]
pub struct Schema(pub BTreeMap<String, Entry>);

impl Schema {
    /// Parses descriptions; later ones override earlier ones. The error is for the stage's author.
    pub fn parse(texts: &[impl AsRef<str>]) -> Result<Self, String> {
        let mut merged: BTreeMap<String, toml::Table> = BTreeMap::new();
        for text in texts {
            let tables: BTreeMap<String, toml::Table> =
                toml::from_str(text.as_ref()).map_err(|e| e.to_string())?;
            for (name, table) in tables {
                merged.entry(name).or_default().extend(table);
            }
        }
        let entry = |(name, table): (String, toml::Table)| {
            let entry = table.try_into().map_err(|e: toml::de::Error| format!("`{name}`: {e}"))?;
            Ok((name, entry))
        };
        let schema = Self(merged.into_iter().map(entry).collect::<Result<_, String>>()?);
        for (name, entry) in &schema.0 {
            if let Some(default) = &entry.default {
                entry.check(default).map_err(|e| format!("default of `{name}` {e}"))?;
            }
        }
        Ok(schema)
    }

    /// Every option at its default.
    pub fn defaults(&self) -> Options {
        self.0.iter().map(|(name, entry)| (name.clone(), entry.default_value())).collect()
    }

    /// Sets `name` from a configuration file's value. The error states what is wrong with the
    /// value, without the option's name.
    pub fn set(
        &self,
        options: &mut Options,
        name: &str,
        value: &toml::Value,
    ) -> Result<(), String> {
        let Some(entry) = self.0.get(name) else {
            return Err(format!(
                "is not a known option{}",
                suggest(name, self.0.keys().map(String::as_str))
            ));
        };
        options.insert(name.to_owned(), entry.check(value)?);
        Ok(())
    }

    /// Sets `name` from a command line's text. Strings need no quotes; `none` unsets an option that
    /// has no default.
    pub fn set_text(&self, options: &mut Options, name: &str, text: &str) -> Result<(), String> {
        let entry = self.0.get(name);
        if entry.is_some_and(|e| e.default.is_none()) && text == "none" {
            options.insert(name.to_owned(), Json::Null);
            return Ok(());
        }
        let parsed = toml::from_str::<toml::Table>(&format!("v = {text}"))
            .ok()
            .and_then(|mut t| t.remove("v"));
        let textual = entry.is_some_and(|e| {
            matches!(
                e.kind,
                Kind::Text
                    | Kind::Columns
                    | Kind::Source
                    | Kind::Files
                    | Kind::Path
                    | Kind::Place
                    | Kind::Sha256
            )
        });
        // People write `.3` and `3.`, which are not numbers in TOML.
        let number = || {
            text.trim()
                .parse::<f64>()
                .ok()
                .filter(|_| entry.is_some_and(|e| e.kind == Kind::Number))
        };
        let value = match parsed.or_else(|| number().map(toml::Value::Float)) {
            Some(value @ (toml::Value::String(_) | toml::Value::Array(_))) => value,
            Some(value) if !textual => value,
            _ => toml::Value::String(text.to_owned()),
        };
        self.set(options, name, &value)
    }

    /// The options, one per line, for `--help`.
    pub fn help(&self) -> String {
        let mut out = String::new();
        for (name, entry) in &self.0 {
            let default =
                entry.default.as_ref().map_or_else(|| "none".to_owned(), toml::Value::to_string);
            let _ = writeln!(out, "  {name:<16} {} [default: {default}]", entry.about);
        }
        out
    }
}

impl Entry {
    /// Whether `source` is a name built into the stage rather than a path or a URL.
    pub fn is_builtin(&self, source: &str) -> bool {
        self.builtin
            .iter()
            .any(|b| if b.ends_with(':') { source.starts_with(b.as_str()) } else { source == b })
    }

    /// Its default in canonical form; `null` without one.
    pub fn default_value(&self) -> Json {
        self.default.as_ref().and_then(|d| self.check(d).ok()).unwrap_or(Json::Null)
    }

    /// The value in canonical form, or what is wrong with it.
    fn check(&self, value: &toml::Value) -> Result<Json, String> {
        let wants = |what: &str| Err(format!("must be {what}, not {value}"));
        match (self.kind, value) {
            (Kind::Integer | Kind::Count, toml::Value::Integer(i)) => {
                self.in_range(*i as f64)?;
                Ok(Json::from(*i))
            }
            (Kind::Integer, _) => wants("a whole number"),
            (Kind::Integers, toml::Value::Array(items)) if !items.is_empty() => {
                let numbers: Option<Vec<i64>> = items.iter().map(toml::Value::as_integer).collect();
                let Some(numbers) = numbers else { return wants("a list of whole numbers") };
                for (i, number) in numbers.iter().enumerate() {
                    self.in_range(*number as f64)?;
                    if numbers.iter().take(i).any(|earlier| earlier == number) {
                        return Err(format!("has {number} twice"));
                    }
                }
                Ok(Json::from(numbers))
            }
            (Kind::Integers, _) => wants("a list of whole numbers, such as [1, 2]"),
            (Kind::Range, toml::Value::Array(items)) => {
                let ends: Option<Vec<i64>> = items.iter().map(toml::Value::as_integer).collect();
                match ends.as_deref() {
                    Some([]) => {}
                    Some([least, most]) if least <= most => {
                        self.in_range(*least as f64)?;
                        self.in_range(*most as f64)?;
                    }
                    _ => return wants("a list of the least and the most, such as [1, 2], or []"),
                }
                Ok(Json::from(ends.unwrap_or_default()))
            }
            (Kind::Range, _) => wants("a list of the least and the most, such as [1, 2], or []"),
            (Kind::Number, toml::Value::Integer(_) | toml::Value::Float(_)) => {
                let number =
                    value.as_float().or(value.as_integer().map(|i| i as f64)).unwrap_or(f64::NAN);
                if !number.is_finite() {
                    return wants("a finite number");
                }
                self.in_range(number)?;
                Ok(Json::from(number))
            }
            (Kind::Number, _) => wants("a number"),
            (Kind::Boolean, toml::Value::Boolean(b)) => Ok(Json::from(*b)),
            (Kind::Boolean, _) => wants("true or false"),
            (Kind::Text | Kind::Count, toml::Value::String(s)) => self.chosen(s),
            (Kind::Count, _) => wants("a whole number or a string"),
            (Kind::Text, _) => wants("a string"),
            (Kind::Source, toml::Value::String(s)) if !s.is_empty() => {
                let prefix =
                    self.builtin.iter().find(|b| b.ends_with(':') && s.starts_with(b.as_str()));
                let number = prefix
                    .and_then(|prefix| s.strip_prefix(prefix.as_str()))
                    .map(str::parse::<u32>);
                let most = self.max.unwrap_or(65_536.0);
                match (prefix, number) {
                    (Some(prefix), Some(n))
                        if n.as_ref().map_or(true, |&n| n == 0 || f64::from(n) > most) =>
                    {
                        Err(format!(
                            "must have a number from 1 to {most} after `{prefix}`, not \"{s}\""
                        ))
                    }
                    _ => Ok(Json::from(s.as_str())),
                }
            }
            (Kind::Columns | Kind::Files, toml::Value::String(s)) if !s.is_empty() => {
                Ok(Json::from(vec![s.as_str()]))
            }
            (
                Kind::Source | Kind::Texts | Kind::Columns | Kind::Files,
                toml::Value::Array(items),
            ) if !items.is_empty() => {
                let texts: Option<Vec<&str>> = items.iter().map(toml::Value::as_str).collect();
                if self.kind == Kind::Texts && !self.builtin.is_empty() {
                    self.only_builtin(texts.iter().flatten())?;
                }
                texts.map_or_else(|| wants("a list of strings"), |t| Ok(Json::from(t)))
            }
            (Kind::Columns, _) => wants("a column's name or a list of names"),
            (Kind::Source | Kind::Files, _) => wants("a path, a URL or a list of those"),
            (Kind::Texts, _) => {
                let example = self.builtin.first().map_or("…", String::as_str);
                wants(&format!("a list of strings, such as [\"{example}\"]"))
            }
            (Kind::Path, toml::Value::String(s)) if !s.is_empty() && !crate::source::is_url(s) => {
                Ok(Json::from(s.as_str()))
            }
            (Kind::Path, _) => wants("the path of a file"),
            (Kind::Place, toml::Value::String(s)) if is_place(s) => Ok(Json::from(s.as_str())),
            (Kind::Place, _) => wants(
                "a folder's path, s3://BUCKET/…, gs://BUCKET/…, az://CONTAINER/… or https://HOST/…",
            ),
            (Kind::Sha256, toml::Value::String(s))
                if s.len() == 64 && s.bytes().all(|b| b.is_ascii_hexdigit()) =>
            {
                Ok(Json::from(s.to_ascii_lowercase()))
            }
            (Kind::Sha256, _) => wants("64 hexadecimal digits"),
        }
    }

    /// The text, if it is one of the choices or any is allowed.
    fn chosen(&self, text: &str) -> Result<Json, String> {
        match &self.choices {
            Some(choices) if !choices.iter().any(|choice| choice == text) => Err(format!(
                "{} be \"{text}\"{}",
                if self.kind == Kind::Count {
                    "must be a whole number, or a choice, and cannot"
                } else {
                    "cannot"
                },
                suggest(text, choices.iter().map(String::as_str))
            )),
            _ => Ok(Json::from(text)),
        }
    }

    /// Checks that each of the `texts` is allowed and that none is repeated.
    fn only_builtin<'t>(&self, texts: impl Iterator<Item = &'t &'t str>) -> Result<(), String> {
        let mut seen: Vec<&str> = Vec::new();
        for &text in texts {
            let known = self.builtin.iter().any(|b| match b.strip_suffix(':') {
                Some(_) => text
                    .strip_prefix(b.as_str())
                    .is_some_and(|number| number.parse::<u32>().is_ok()),
                None => text == b,
            });
            if !known {
                let names: Vec<String> = self
                    .builtin
                    .iter()
                    .map(|b| if b.ends_with(':') { format!("{b}0") } else { b.clone() })
                    .collect();
                return Err(format!(
                    "cannot have \"{text}\"; expected one of {}",
                    names.join(", ")
                ));
            }
            if seen.contains(&text) {
                return Err(format!("has \"{text}\" twice"));
            }
            seen.push(text);
        }
        Ok(())
    }

    fn in_range(&self, number: f64) -> Result<(), String> {
        let mut bounds = Vec::new();
        let mut ok = true;
        let mut bound = |limit: Option<f64>, text: &str, holds: fn(f64, f64) -> bool| {
            if let Some(limit) = limit {
                bounds.push(format!("{text} {limit}"));
                ok &= holds(number, limit);
            }
        };
        bound(self.min, "at least", |n, l| n >= l);
        bound(self.max, "at most", |n, l| n <= l);
        bound(self.above, "more than", |n, l| n > l);
        bound(self.below, "less than", |n, l| n < l);
        if ok { Ok(()) } else { Err(format!("must be {}, not {number}", bounds.join(" and "))) }
    }
}

/// `; did you mean ...?` with the nearest of the `known` names, or all of them if none is near.
pub fn suggest<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.collect();
    match nearest(wrong, known.iter().copied()) {
        Some(nearest) => format!("; did you mean `{nearest}`?"),
        None if known.is_empty() => "; there are none here".to_owned(),
        None if known.len() <= 20 => format!("; expected one of {}", known.join(", ")),
        None => String::new(),
    }
}

/// The `known` name that `wrong` is most likely a misspelling of, if one is near enough.
pub fn nearest<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    const NEAR: f64 = 0.75;
    known
        .map(|name| (strsim::jaro_winkler(wrong, name), name))
        // Two letters that changed places make a short name quite unlike.
        .filter(|(likeness, name)| {
            *likeness >= NEAR || (wrong.len() > 2 && strsim::osa_distance(wrong, name) == 1)
        })
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests;
