//! Parts that the data comes in: by its files, or by a column.

use std::collections::HashMap;
use std::path::Path;

use failure::{Failure, Result};
use formats::table;
use glob::Pattern;
use stage::{Event, Stage};
use text::PARTS;

use crate::SplitOptions;
use crate::parts::Rows;

/// The column of `headlines.parquet` that holds each row's file or given part.
const COLUMN: &str = "part";
/// The most values of the column that an error lists.
const LISTED: usize = 8;

/// Which rows are in which part.
pub struct Given {
    patterns: [Option<Pattern>; PARTS.len()],
    has_test: bool,
}

impl Given {
    /// The parts that the options give; `None` if all three are to be cut.
    pub fn of(options: &SplitOptions) -> Result<Option<Self>> {
        let SplitOptions { given_train, given_valid, given_test, parts, .. } = options;
        let has = |part: &str| parts.iter().any(|name| name == part);
        if !has("train") || !has("valid") {
            return Err(Failure::usage(
                "train and valid are needed: one to learn from, the other to decide when to stop",
                "option `split.parts`",
                "write [\"train\", \"valid\"], or leave it out for all three",
            ));
        }
        let pattern = |part: &str, given: &Option<String>| {
            let pattern = given.as_deref().map(Pattern::new).transpose();
            pattern.map_err(|e| {
                Failure::usage(
                    format_args!("not a file name or a pattern: {e}"),
                    format_args!("option `split.given.{part}`"),
                    "write the name of a file of `ingest.files`, such as dev.tsv or dev-*.tsv, or a value of the column `ingest.columns.part`",
                )
            })
        };
        let [train, valid, test] = PARTS;
        let patterns = [
            pattern(train, given_train)?,
            pattern(valid, given_valid)?,
            pattern(test, given_test)?,
        ];
        let has_test = has("test");
        if !has_test && patterns.last().is_some_and(Option::is_some) {
            return Err(Failure::usage(
                "a test part is given, but `split.parts` leaves it out",
                "option `split.given.test`",
                "add \"test\" to `split.parts`, or remove `split.given.test`",
            ));
        }
        let any = !has_test || patterns.iter().any(Option::is_some);
        Ok(any.then_some(Self { patterns, has_test }))
    }

    /// The rows of each part. What is not given is cut from train.
    pub fn parts(
        &self,
        rows: &Rows<'_>,
        path: &Path,
        options: &SplitOptions,
        stage: &Stage,
    ) -> Result<[Vec<usize>; 3]> {
        let mut parts = self.given(path, rows, stage)?;
        let is_cut = |at: usize| {
            self.patterns.get(at).is_some_and(Option::is_none)
                && (PARTS[at] != "test" || self.has_test)
        };
        let say = |at: usize, part: &[usize]| {
            let text =
                format!("{} is not given: {} rows are cut from train", PARTS[at], part.len());
            stage.progress.send(&Event::Note { text });
        };
        if is_cut(1) && is_cut(2) {
            // As if train were all of the data.
            parts = rows.cut_from(&parts[0], options)?;
            say(1, &parts[1]);
            say(2, &parts[2]);
            return Ok(parts);
        }
        for at in (1..PARTS.len()).filter(|at| is_cut(*at)) {
            let (train, part) = rows.cut_one(&parts[0], options)?;
            say(at, &part);
            parts[0] = train;
            parts[at] = part;
        }
        Ok(parts)
    }

    fn given(&self, path: &Path, rows: &Rows<'_>, stage: &Stage) -> Result<[Vec<usize>; 3]> {
        let mut parts = [const { Vec::new() }; 3];
        if self.patterns.iter().all(Option::is_none) {
            parts[0] = (0..rows.classes.len()).collect();
            return Ok(parts);
        }
        if !table::schema(path)?.contains(COLUMN) {
            return Err(Failure::input(
                "the data has neither several files nor a column of parts",
                "option `split.given`",
                "name the files in `ingest.files`, or the column in `ingest.columns.part`",
            ));
        }
        let (mut row, mut values, mut left_out) = (0, Vec::new(), 0_u64);
        table::groups(path, &[COLUMN], |frame| {
            for value in table::texts(frame, COLUMN, path)?.no_null_iter() {
                let part = self.part_of(value);
                match part {
                    Some(part) => parts[part].push(row),
                    None => left_out += 1,
                }
                row += 1;
                if values.len() < LISTED && !values.iter().any(|(seen, _)| seen == value) {
                    values.push((value.to_owned(), part));
                }
            }
            Ok(())
        })?;
        for (at, name) in PARTS.iter().enumerate() {
            if let Some(pattern) = &self.patterns[at]
                && parts[at].is_empty()
            {
                let seen: Vec<&str> = values.iter().map(|(value, _)| value.as_str()).collect();
                let taken = |other: &Option<Pattern>| other.as_ref() == Some(pattern);
                if let Some(other) = self.patterns[..at].iter().position(taken) {
                    return Err(Failure::input(
                        format_args!("`{pattern}` is already {}", PARTS[other]),
                        format_args!("option `split.given.{name}`"),
                        "give each part files or values of its own",
                    ));
                }
                return Err(Failure::input(
                    format_args!(
                        "no file or part is called `{pattern}`; there are {}",
                        seen.join(", ")
                    ),
                    format_args!("option `split.given.{name}`"),
                    "name one of those, or correct the pattern",
                ));
            }
        }
        if parts[0].is_empty() {
            return Err(Failure::input(
                "no headlines are left for train",
                "option `split.given`",
                "name the files or values of train in `split.given.train`, too",
            ));
        }
        let shared = shared_groups(rows, &parts);
        if shared > 0 {
            stage.progress.warn(format!(
                "{shared} groups are in more than one part, since the parts are given"
            ));
        }
        if left_out > 0 {
            let of: Vec<&str> = values
                .iter()
                .filter(|(_, part)| part.is_none())
                .map(|(value, _)| value.as_str())
                .collect();
            stage.progress.warn(format!(
                "{left_out} headlines are in no given part and are left out: {}",
                of.join(", ")
            ));
        }
        Ok(parts)
    }

    /// The part of the rows of this file or value. What is in no other part is in train, unless
    /// train is given, too.
    fn part_of(&self, value: &str) -> Option<usize> {
        let of = |pattern: &Option<Pattern>| {
            pattern
                .as_ref()
                .is_some_and(|pattern| pattern.as_str() == value || pattern.matches(value))
        };
        let rest = self.patterns[0].is_none().then_some(0);
        self.patterns.iter().position(of).or(rest)
    }
}

/// How many groups have rows in more than one part.
fn shared_groups(rows: &Rows<'_>, parts: &[Vec<usize>; 3]) -> usize {
    let groups = rows.groups.as_deref().unwrap_or_default();
    let mut part_of: HashMap<&str, (usize, bool)> = HashMap::new();
    for (part, rows) in parts.iter().enumerate() {
        for group in rows.iter().filter_map(|&row| groups.get(row)) {
            let (first, is_shared) = part_of.entry(group).or_insert((part, false));
            *is_shared |= *first != part;
        }
    }
    part_of.values().filter(|(_, is_shared)| *is_shared).count()
}
