//! Checks of what several kinds of arrays have.

use std::path::Path;

use failure::{Failure, Result};

/// Labels as numbers, each of which must be below `classes`. `path` is the file that they are from.
pub fn labels(y: &[i64], classes: usize, path: &Path) -> Result<Vec<u32>> {
    let label = |(row, &y): (usize, &i64)| {
        let label = u32::try_from(y).ok().filter(|&y| (y as usize) < classes);
        label.ok_or_else(|| {
            let last = classes.saturating_sub(1);
            let what = format_args!("label {y} in row {row}; labels are 0 to {last}");
            Failure::artifact(what, path)
        })
    };
    y.iter().enumerate().map(label).collect()
}

/// Where the rows of an array of `end` elements start, and where the last one ends.
pub(super) fn starts(offsets: &[i64], end: usize) -> Option<Vec<usize>> {
    let starts: Option<Vec<usize>> =
        offsets.iter().map(|&start| usize::try_from(start).ok()).collect();
    starts.filter(|starts| {
        starts.first() == Some(&0) && starts.last() == Some(&end) && starts.is_sorted()
    })
}
