//! Which rows are in which part.

use failure::{Failure, Result};
use text::PARTS;

use crate::SplitOptions;
use crate::grouped;
use crate::stratified::{Impossible, shuffled, train_test_split};

/// The rows of the data, by what decides their part.
pub struct Rows<'r> {
    /// Each row's class, in sorted order.
    pub classes: Vec<usize>,
    /// The classes' names.
    pub names: &'r [String],
    /// Each row's group, if groups stay whole.
    pub groups: Option<Vec<String>>,
}

impl Rows<'_> {
    /// Cuts train, valid and test from all rows.
    pub fn cut(&self, options: &SplitOptions) -> Result<[Vec<usize>; 3]> {
        let all: Vec<usize> = (0..self.classes.len()).collect();
        self.cut_from(&all, options)
    }

    /// Cuts train, valid and test from these rows.
    pub fn cut_from(&self, rows: &[usize], options: &SplitOptions) -> Result<[Vec<usize>; 3]> {
        if self.groups.is_some() {
            let half = options.test_size / 2.0;
            let shares = [1.0 - options.test_size, half, half];
            let parts = <[Vec<usize>; 3]>::try_from(self.grouped(rows, &shares, options.seed));
            return self.filled(parts.unwrap_or_default());
        }
        let (train, rest) = self.halves(rows, options.test_size, options)?;
        let (valid, test) = self.halves(&rest, 0.5, options)?;
        self.filled([train, valid, test])
    }

    /// Cuts a part off `train`; it gets half of the share `test_size`.
    pub fn cut_one(
        &self,
        train: &[usize],
        options: &SplitOptions,
    ) -> Result<(Vec<usize>, Vec<usize>)> {
        let share = options.test_size / 2.0;
        let (train, part) = if self.groups.is_some() {
            let mut parts = self.grouped(train, &[1.0 - share, share], options.seed).into_iter();
            (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
        } else {
            self.halves(train, share, options)?
        };
        if train.is_empty() || part.is_empty() {
            return Err(impossible(format_args!(
                "a part cut from {} headlines of train would be empty",
                train.len() + part.len()
            )));
        }
        Ok((train, part))
    }

    /// Splits `rows` in two; the second has the share `test_size` of them.
    fn halves(
        &self,
        rows: &[usize],
        test_size: f64,
        options: &SplitOptions,
    ) -> Result<(Vec<usize>, Vec<usize>)> {
        let (first, second) = if options.stratify {
            let classes: Vec<usize> = rows.iter().map(|&row| self.classes[row]).collect();
            train_test_split(&classes, self.names.len(), test_size, options.seed)
                .map_err(|why| self.explain(&why))?
        } else {
            shuffled(rows.len(), test_size, options.seed)
        };
        let back = |part: Vec<usize>| part.into_iter().map(|row| rows[row]).collect();
        Ok((back(first), back(second)))
    }

    /// Cuts `rows` into parts with these shares, groups whole.
    pub fn grouped(&self, rows: &[usize], shares: &[f64], seed: u32) -> Vec<Vec<usize>> {
        let classes: Vec<usize> = rows.iter().map(|&row| self.classes[row]).collect();
        let groups = self.groups.as_deref().unwrap_or_default();
        let groups: Vec<&str> = rows.iter().map(|&row| groups[row].as_str()).collect();
        let parts = grouped::split(&classes, self.names.len(), &groups, shares, seed);
        parts.into_iter().map(|part| part.into_iter().map(|row| rows[row]).collect()).collect()
    }

    /// The parts, none of which may be empty.
    fn filled(&self, parts: [Vec<usize>; 3]) -> Result<[Vec<usize>; 3]> {
        if let Some((name, _)) = PARTS.iter().zip(&parts).find(|(_, rows)| rows.is_empty()) {
            let of = if self.groups.is_some() { " grouped by story" } else { "" };
            return Err(impossible(format_args!(
                "the {name} part would be empty: {} headlines{of} are too few",
                self.classes.len()
            )));
        }
        Ok(parts)
    }

    fn explain(&self, why: &Impossible) -> Failure {
        match *why {
            Impossible::SmallClass(class, n) => {
                let name = &self.names[class];
                impossible(format_args!("category `{name}` has only {n} headline"))
            }
            Impossible::SmallSide(n) => {
                impossible(format_args!("a part of {n} headlines cannot hold every category"))
            }
        }
    }
}

fn impossible(what: impl std::fmt::Display) -> Failure {
    Failure::input(
        what,
        "split of ingest/headlines.parquet",
        "use more headlines, another `split.test_size`, or `split.stratify = false`",
    )
}
