//! The quality of a part's predictions beyond their accuracy (problem 74): precision, recall and F1
//! of each class, confusions, calibration, and the surest mistakes.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use failure::{Failure, Result};
use formats::table;
use polars::prelude::DataFrame;
use schema::Labels;
use serde::Serialize;

use crate::parts::PartFacts;
use comparison::Calibration;

/// The most classes whose confusions are shown as a matrix.
const MATRIX: usize = 25;
/// How many confusions are listed, the most frequent ones.
const CONFUSIONS: usize = 20;
/// How many mistakes are listed, the surest ones.
const MISTAKES: usize = 10;
/// With more classes than this, only the largest and the weakest are shown.
const ALL_SHOWN: usize = 40;
/// How many of the largest, and of the weakest.
const SOME_SHOWN: usize = 15;

/// The quality of a part's predictions.
#[derive(Debug, PartialEq, Serialize)]
pub struct Quality {
    /// valid or test.
    pub part: &'static str,
    n: usize,
    accuracy: f64,
    /// The mean F1 of the classes that occur, among labels or predictions.
    macro_f1: f64,
    /// F1 over all decisions; with one label a headline, it equals the accuracy.
    micro_f1: f64,
    /// The accuracy of always predicting the most frequent class of train.
    majority: f64,
    /// How well the probabilities fit.
    pub calibration: Calibration,
    /// Every class, in label order.
    classes: Vec<Class>,
    /// The classes to show, if there are too many to show all: the largest, then the weakest.
    largest: Vec<usize>,
    weakest: Vec<usize>,
    /// Headlines by class (row) and prediction (column), in label order, and the same as shares of
    /// each row; empty with many classes.
    confusion: Vec<Vec<usize>>,
    shares: Vec<Vec<f64>>,
    /// The most frequent confusions.
    confused: Vec<Confused>,
    /// The wrong predictions with the highest probabilities.
    pub mistakes: Vec<Mistake>,
}

/// How well a class is predicted. A ratio with denominator 0 is `None`.
#[derive(Debug, PartialEq, Serialize)]
struct Class {
    precision: Option<f64>,
    recall: Option<f64>,
    f1: Option<f64>,
    n: usize,
}

/// Headlines of a class that are taken for another one.
#[derive(Debug, PartialEq, Serialize)]
struct Confused {
    label: usize,
    predicted: usize,
    n: usize,
    /// Their share of the class.
    share: f64,
}

/// A wrong prediction.
#[derive(Debug, PartialEq, Serialize)]
pub struct Mistake {
    /// The headline's id.
    pub id: i64,
    /// The headline.
    pub title: String,
    label: usize,
    predicted: usize,
    probability: f32,
}

/// What a part's predictions add up to, row by row.
struct Tally {
    /// Rows by label and prediction.
    counts: HashMap<(usize, usize), usize>,
    calibration: Calibration,
    mistakes: Vec<Mistake>,
    /// The number of rows, and their first ids.
    n: usize,
    first: Vec<i64>,
}

/// Reads a run's `predictions.parquet` and evaluates its valid and test parts; `most_frequent` is
/// the most frequent label of train.
///
/// # Errors
/// If the file is malformed, or if the predictions are for other headlines than the `parts`.
pub fn read(
    path: &Path,
    labels: &Labels,
    most_frequent: usize,
    parts: &[PartFacts],
) -> Result<Vec<Quality>> {
    let mut tallies: BTreeMap<&'static str, Tally> = parts
        .iter()
        .filter(|part| part.name != "train")
        .map(|part| (part.name, Tally::new(part.first_ids().len())))
        .collect();
    let wrong = |what: String| Failure::artifact(what, path);
    let names: Vec<String> = labels.names().iter().map(|name| format!("p_{name}")).collect();
    let in_columns =
        names.first().is_some_and(|name| table::has_column(path, name).unwrap_or_default());
    let mut columns = vec!["id", "split", "label", "predicted"];
    if in_columns {
        columns.extend(names.iter().map(String::as_str));
    } else {
        columns.push("p");
    }
    table::groups(path, &columns, |frame| {
        let ids = table::integers(frame, "id", path)?.no_null_iter();
        let of = table::texts(frame, "split", path)?.no_null_iter();
        let label = table::integers(frame, "label", path)?.no_null_iter();
        let predicted = table::integers(frame, "predicted", path)?.no_null_iter();
        for (row, ((id, part), (label, predicted))) in
            ids.zip(of).zip(label.zip(predicted)).enumerate()
        {
            let place = |n: i64| usize::try_from(n).ok().filter(|&n| n < labels.len());
            let (Some(tally), Some(label), Some(predicted)) =
                (tallies.get_mut(part), place(label), place(predicted))
            else {
                return Err(wrong(format!(
                    "not a prediction: `{part}`, label {label}, predicted {predicted}"
                )));
            };
            let name = names.get(predicted).filter(|_| in_columns);
            let probability = probability(frame, name.map(String::as_str), row, predicted);
            let probability = probability
                .filter(|p| (0.0..=1.0).contains(p))
                .ok_or_else(|| wrong(format!("row {row} has no probability")))?;
            tally.add(id, label, predicted, probability);
        }
        Ok(())
    })?;
    for part in parts {
        if let Some(tally) = tallies.get(part.name) {
            refuse_other_headlines(tally, path, part)?;
        }
    }
    let in_order = parts.iter().filter_map(|part| Some((part.name, tallies.remove(part.name)?)));
    Ok(in_order.map(|(part, tally)| tally.judge(part, labels.len(), most_frequent)).collect())
}

/// The probability of a row's prediction, in its column or in the list of all of them.
fn probability(frame: &DataFrame, name: Option<&str>, row: usize, label: usize) -> Option<f32> {
    match name {
        Some(name) => frame.column(name).ok()?.f32().ok()?.get(row),
        None => {
            let all = frame.column("p").ok()?.list().ok()?.get_as_series(row)?;
            all.f32().ok()?.get(label)
        }
    }
}

/// Refuses predictions for other data: their number differs or, if it is equal by chance, the first
/// headlines do.
fn refuse_other_headlines(tally: &Tally, path: &Path, part: &PartFacts) -> Result<()> {
    if tally.n == part.rows && tally.first == part.first_ids() {
        return Ok(());
    }
    let what = format_args!(
        "the predictions of `{}` are for other headlines than those of `tensors`",
        part.name
    );
    let remedy = "bring the run up to date: cargo xtask pipeline --to NODE, where NODE is the folder's name; or remove the folder, if it is of a run that is no longer configured";
    Err(Failure::input(what, path.display(), remedy))
}

impl Tally {
    fn new(first: usize) -> Self {
        Self {
            counts: HashMap::new(),
            calibration: Calibration::default(),
            mistakes: Vec::new(),
            n: 0,
            first: Vec::with_capacity(first),
        }
    }

    fn add(&mut self, id: i64, label: usize, predicted: usize, probability: f32) {
        *self.counts.entry((label, predicted)).or_default() += 1;
        self.n += 1;
        if self.first.len() < self.first.capacity() {
            self.first.push(id);
        }
        self.calibration.add(probability, label == predicted);
        if label != predicted {
            // Of equally sure ones, the first.
            let at = self.mistakes.partition_point(|mistake| mistake.probability >= probability);
            if at < MISTAKES {
                let title = String::new();
                self.mistakes.insert(at, Mistake { id, title, label, predicted, probability });
                self.mistakes.truncate(MISTAKES);
            }
        }
    }

    fn judge(mut self, part: &'static str, classes: usize, most_frequent: usize) -> Quality {
        let [mut actual, mut said, mut right] = [0; 3].map(|n: usize| vec![n; classes]);
        let mut confusion = vec![vec![0; classes]; if classes > MATRIX { 0 } else { classes }];
        let mut confused = Vec::new();
        for (&(label, predicted), &n) in &self.counts {
            for (sums, at) in [(&mut actual, label), (&mut said, predicted)] {
                if let Some(sum) = sums.get_mut(at) {
                    *sum += n;
                }
            }
            if label == predicted {
                if let Some(right) = right.get_mut(label) {
                    *right += n;
                }
            } else {
                confused.push((n, label, predicted));
            }
            if let Some(cell) = confusion.get_mut(label).and_then(|row| row.get_mut(predicted)) {
                *cell = n;
            }
        }
        let ratio = |a: usize, b: usize| (b > 0).then(|| a as f64 / b as f64);
        let all: Vec<Class> = right
            .iter()
            .zip(actual.iter().zip(&said))
            .map(|(&right, (&actual, &said))| Class {
                precision: ratio(right, said),
                recall: ratio(right, actual),
                f1: ratio(2 * right, actual + said),
                n: actual,
            })
            .collect();
        let f1: Vec<f64> = all.iter().filter_map(|class| class.f1).collect();
        let accuracy = ratio(right.iter().sum(), self.n).unwrap_or(0.0);
        confused.sort_unstable_by_key(|&(n, label, predicted)| {
            (std::cmp::Reverse(n), label, predicted)
        });
        let confused = confused.into_iter().take(CONFUSIONS).map(|(n, label, predicted)| {
            let of = actual.get(label).copied().unwrap_or(0);
            Confused { label, predicted, n, share: ratio(n, of).unwrap_or(0.0) }
        });
        let share = |row: &Vec<usize>| {
            let sum = row.iter().sum();
            row.iter().map(|&count| ratio(count, sum).unwrap_or(0.0)).collect()
        };
        let (largest, weakest) = some_of(&all);
        self.calibration.finish();
        Quality {
            part,
            n: self.n,
            accuracy,
            macro_f1: f1.iter().sum::<f64>() / f1.len().max(1) as f64,
            micro_f1: accuracy,
            majority: ratio(actual.get(most_frequent).copied().unwrap_or(0), self.n).unwrap_or(0.0),
            calibration: self.calibration,
            largest,
            weakest,
            shares: confusion.iter().map(share).collect(),
            confusion,
            confused: confused.collect(),
            classes: all,
            mistakes: self.mistakes,
        }
    }
}

/// The largest and the weakest of many classes; none if all can be shown.
fn some_of(all: &[Class]) -> (Vec<usize>, Vec<usize>) {
    if all.len() <= ALL_SHOWN {
        return (Vec::new(), Vec::new());
    }
    let there = |class: &usize| all.get(*class).is_some_and(|class| class.n > 0);
    let mut order: Vec<usize> = (0..all.len()).filter(there).collect();
    let n = |class: &usize| std::cmp::Reverse(all.get(*class).map_or(0, |class| class.n));
    order.sort_by_key(n);
    let largest = order.iter().copied().take(SOME_SHOWN).collect();
    // A stable sort: of equally weak ones, the largest.
    let f1 = |class: &usize| all.get(*class).and_then(|class| class.f1).unwrap_or(0.0);
    order.sort_by(|a, b| f1(a).total_cmp(&f1(b)));
    (largest, order.into_iter().take(SOME_SHOWN).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(labels: &[usize], predicted: &[usize], classes: usize) -> Quality {
        let mut tally = Tally::new(0);
        for (id, (&label, &predicted)) in (0..).zip(labels.iter().zip(predicted)) {
            tally.add(id, label, predicted, 0.5);
        }
        tally.judge("test", classes, 1)
    }

    #[test]
    fn precision_recall_and_f1_match_scikit_learn() {
        // scikit-learn 1.9: precision_recall_fscore_support([0,0,0,1,1,2], [0,0,1,1,2,0],
        // labels=[0,1,2,3]); f1_score(…, average="macro") is 0.38888…
        let quality = judged(&[0, 0, 0, 1, 1, 2], &[0, 0, 1, 1, 2, 0], 4);
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
        assert!((quality.macro_f1 - 7.0 / 18.0).abs() < 1e-12, "{}", quality.macro_f1);
        assert_eq!(
            quality.confusion,
            [vec![2, 1, 0, 0], vec![0, 1, 1, 0], vec![1, 0, 0, 0], vec![0; 4]]
        );
        let first = &quality.confused[0];
        assert_eq!((first.label, first.predicted, first.n), (0, 1, 1));
    }

    #[test]
    fn of_many_classes_the_largest_and_the_weakest_are_shown() {
        let labels: Vec<usize> = (0..100).flat_map(|class| vec![class; class + 1]).collect();
        let predicted: Vec<usize> =
            labels.iter().map(|&label| if label % 10 == 3 { 0 } else { label }).collect();
        let quality = judged(&labels, &predicted, 100);
        assert!(quality.confusion.is_empty());
        assert_eq!((quality.largest.len(), quality.largest[0]), (SOME_SHOWN, 99));
        assert_eq!(quality.weakest[..3], [93, 83, 73]);
        assert_eq!((quality.confused[0].label, quality.confused[0].n), (93, 94));
        assert!(judged(&[0, 1], &[0, 1], 2).largest.is_empty());
    }

    #[test]
    fn the_surest_mistakes_come_first() {
        let mut tally = Tally::new(0);
        for (id, p) in [(1, 0.5), (2, 0.9), (3, 0.9), (4, 0.7)] {
            tally.add(id, 0, 1, p);
        }
        tally.add(5, 1, 1, 0.99);
        let ids: Vec<i64> = tally.mistakes.iter().map(|mistake| mistake.id).collect();
        assert_eq!(ids, [2, 3, 4, 1]);
    }
}
