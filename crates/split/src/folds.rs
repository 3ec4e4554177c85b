//! Folds of train and valid, for cross-validation.

use failure::{Failure, Result};

use crate::SplitOptions;
use crate::numpy::RandomState;
use crate::parts::Rows;

/// The parts of a fold: it is valid, and the other rows of train and valid are train. Test is empty,
/// so that nothing after this stage can read it.
pub fn cut(
    rows: &Rows<'_>,
    [train, valid, _]: [Vec<usize>; 3],
    options: &SplitOptions,
) -> Result<[Vec<usize>; 3]> {
    let (Some(count), fold) = (options.cv_folds, options.cv_fold) else {
        return Ok([train, valid, Vec::new()]);
    };
    if fold > count {
        return Err(Failure::usage(
            format_args!("there is no fold {fold} of {count}"),
            "option `split.cv.fold`",
            "count folds from 1",
        ));
    }
    let mut all = [train, valid].concat();
    all.sort_unstable();
    let count = count as usize;
    let folds = if rows.groups.is_some() {
        let shares = vec![1.0 / count as f64; count];
        let mut folds = vec![0; rows.classes.len()];
        for (fold, of) in rows.grouped(&all, &shares, options.cv_seed).iter().enumerate() {
            for &row in of {
                folds[row] = fold;
            }
        }
        all.iter().map(|&row| folds[row]).collect()
    } else {
        let classes: Vec<usize> = all.iter().map(|&row| rows.classes[row]).collect();
        stratified(&classes, rows.names.len(), count, options.cv_seed)
    };
    let is_valid = |at: usize| folds[at] + 1 == fold as usize;
    let part = |wanted: bool| -> Vec<usize> {
        let rows = all.iter().enumerate().filter(|&(at, _)| is_valid(at) == wanted);
        rows.map(|(_, &row)| row).collect()
    };
    let (train, valid) = (part(false), part(true));
    if train.is_empty() || valid.is_empty() {
        return Err(Failure::input(
            format_args!("fold {fold} of {count} leaves train or valid without headlines"),
            "option `split.cv.folds`",
            "set fewer folds",
        ));
    }
    Ok([train, valid, Vec::new()])
}

/// The fold of each row, as scikit-learn's `StratifiedKFold(count, shuffle=True,
/// random_state=seed)` gives it: each fold gets its share of each class.
fn stratified(classes: &[usize], names: usize, count: usize, seed: u32) -> Vec<usize> {
    // It numbers the classes in the order of their first rows.
    let mut numbers = vec![usize::MAX; names];
    let mut next = 0;
    let numbered: Vec<usize> = classes
        .iter()
        .map(|&class| {
            if numbers[class] == usize::MAX {
                numbers[class] = next;
                next += 1;
            }
            numbers[class]
        })
        .collect();
    // The rows in order of their classes are dealt out to the folds in turn.
    let mut rows = vec![Vec::new(); next];
    for (row, &class) in numbered.iter().enumerate() {
        rows[class].push(row);
    }
    let mut random = RandomState::new(seed);
    let mut folds = vec![0; classes.len()];
    let mut first = 0;
    for rows in rows {
        let mut of_class: Vec<usize> = (first..first + rows.len()).map(|at| at % count).collect();
        first += rows.len();
        of_class.sort_unstable();
        random.shuffle(&mut of_class);
        for (row, fold) in rows.into_iter().zip(of_class) {
            folds[row] = fold;
        }
    }
    folds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds_are_scikit_learn_s() {
        // scikit-learn 1.9, where f[valid] = i for i, (_, valid) in enumerate(
        //     StratifiedKFold(3, shuffle=True, random_state=7).split(c, c))
        let classes = [2, 0, 0, 1, 2, 0, 1, 0, 0, 2, 0, 1, 0, 2, 0, 0, 1];
        let want = [1, 2, 1, 1, 0, 0, 0, 0, 0, 0, 1, 2, 2, 2, 1, 2, 1];
        assert_eq!(stratified(&classes, 4, 3, 7), want);
    }
}
