//! The quality of a part's predictions beyond their accuracy (problem 74): confusion matrix,
//! precision, recall, F1.

use std::collections::BTreeMap;
use std::path::Path;

use failure::{Failure, Result};
use formats::table;
use serde::Serialize;
use text::Category;

use crate::parts::PartFacts;

const CLASSES: usize = Category::COUNT;

/// The quality of a part's predictions.
#[derive(Debug, PartialEq, Serialize)]
pub struct Quality {
    /// valid or test.
    pub part: &'static str,
    n: usize,
    accuracy: f64,
    /// The accuracy of always predicting the most frequent category of train.
    majority: f64,
    /// Headlines by category (row) and prediction (column), in label order.
    confusion: [[usize; CLASSES]; CLASSES],
    /// The confusion matrix as shares of each row.
    shares: [[f64; CLASSES]; CLASSES],
    classes: Vec<Class>,
}

/// How well a category is predicted. A ratio with denominator 0 is `None`.
#[derive(Debug, PartialEq, Serialize)]
struct Class {
    letter: &'static str,
    precision: Option<f64>,
    recall: Option<f64>,
    f1: Option<f64>,
    n: usize,
}

/// Reads a run's `predictions.parquet` and evaluates its valid and test parts; `most_frequent` is
/// the most frequent label of train.
///
/// # Errors
/// If the file is malformed, or if the predictions are for other headlines than the `parts`.
pub fn read(path: &Path, most_frequent: usize, parts: &[PartFacts]) -> Result<Vec<Quality>> {
    let frame = table::read(path, &["id", "split", "label", "predicted"])?;
    let rows = table::texts(&frame, "split", path)?
        .no_null_iter()
        .zip(table::integers(&frame, "id", path)?.no_null_iter());
    refuse_other_headlines(rows, path, parts)?;
    let parts = table::texts(&frame, "split", path)?.no_null_iter();
    let labels = table::integers(&frame, "label", path)?.no_null_iter();
    let predicted = table::integers(&frame, "predicted", path)?.no_null_iter();
    let mut confusions = [("valid", [[0; CLASSES]; CLASSES]), ("test", [[0; CLASSES]; CLASSES])];
    for ((part, label), predicted) in parts.zip(labels).zip(predicted) {
        let place = |n: i64| usize::try_from(n).ok().filter(|&n| n < CLASSES);
        let counts =
            confusions.iter_mut().find(|(name, _)| *name == part).map(|(_, counts)| counts);
        let cell = counts
            .zip(place(label).zip(place(predicted)))
            .and_then(|(c, (l, p))| c.get_mut(l)?.get_mut(p));
        *cell.ok_or_else(|| {
            Failure::artifact(
                format_args!("not a prediction: `{part}`, label {label}, predicted {predicted}"),
                path,
            )
        })? += 1;
    }
    Ok(confusions
        .into_iter()
        .map(|(part, confusion)| judge(part, confusion, most_frequent))
        .collect())
}

/// Refuses predictions for other data: their number differs or, if it is equal by chance, the first
/// headlines do.
fn refuse_other_headlines<'r>(
    rows: impl Iterator<Item = (&'r str, i64)>,
    path: &Path,
    parts: &[PartFacts],
) -> Result<()> {
    let mut seen: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    rows.for_each(|(name, id)| seen.entry(name).or_default().push(id));
    for part in parts.iter().filter(|part| part.name != "train") {
        let ids = seen.get(part.name).map_or(&[][..], Vec::as_slice);
        if ids.len() != part.rows || !ids.starts_with(&part.first_ids()) {
            let what = format_args!(
                "the predictions of `{}` are for other headlines than those of `tensors`",
                part.name
            );
            let remedy = "bring the run up to date: cargo xtask pipeline --to NODE, where NODE is the folder's name; or remove the folder, if it is of a run that is no longer configured";
            return Err(Failure::input(what, path.display(), remedy));
        }
    }
    Ok(())
}

fn judge(
    part: &'static str,
    confusion: [[usize; CLASSES]; CLASSES],
    most_frequent: usize,
) -> Quality {
    let actual = confusion.map(|row| row.iter().sum::<usize>());
    let mut said = [0; CLASSES];
    let mut right = [0; CLASSES];
    for (label, row) in confusion.iter().enumerate() {
        for (predicted, (count, said)) in row.iter().zip(&mut said).enumerate() {
            *said += count;
            if label == predicted
                && let Some(right) = right.get_mut(label)
            {
                *right += count;
            }
        }
    }
    let n: usize = actual.iter().sum();
    let hits: usize = right.iter().sum();
    let ratio = |a: usize, b: usize| (b > 0).then(|| a as f64 / b as f64);
    let classes = Category::ALL.iter().zip(right).zip(actual.into_iter().zip(said));
    Quality {
        part,
        n,
        accuracy: ratio(hits, n).unwrap_or(0.0),
        majority: ratio(actual.get(most_frequent).copied().unwrap_or(0), n).unwrap_or(0.0),
        confusion,
        shares: confusion.map(|row| row.map(|count| ratio(count, row.iter().sum()).unwrap_or(0.0))),
        classes: classes
            .map(|((category, right), (actual, said))| Class {
                letter: category.letter(),
                precision: ratio(right, said),
                recall: ratio(right, actual),
                f1: ratio(2 * right, actual + said),
                n: actual,
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precision_recall_and_f1_match_scikit_learn() {
        // scikit-learn 1.9: precision_recall_fscore_support([0,0,0,1,1,2], [0,0,1,1,2,0],
        // labels=[0,1,2,3])
        let quality = judge("test", [[2, 1, 0, 0], [0, 1, 1, 0], [1, 0, 0, 0], [0; 4]], 1);
        let seen: Vec<_> =
            quality.classes.iter().map(|c| (c.precision, c.recall, c.f1, c.n)).collect();
        let two_thirds = Some(2.0 / 3.0);
        assert_eq!(
            seen,
            [
                (two_thirds, two_thirds, two_thirds, 3),
                (Some(0.5), Some(0.5), Some(0.5), 2),
                (Some(0.0), Some(0.0), Some(0.0), 1),
                (None, None, None, 0)
            ]
        );
        assert_eq!((quality.accuracy, quality.majority, quality.n), (0.5, 2.0 / 6.0, 6));
    }
}
