//! scikit-learn's `train_test_split(..., stratify=y)`, draw for draw (scikit-learn 1.9,
//! `StratifiedShuffleSplit._iter_indices` and `utils.extmath._approximate_mode`).

use crate::numpy::RandomState;

/// Why a split cannot be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Impossible {
    /// A class has fewer than two rows: its index and its count.
    SmallClass(usize, usize),
    /// A side would have fewer rows than there are classes.
    SmallSide(usize),
}

/// Splits the rows whose classes are `classes` (0..`count`, in the classes' sorted order) into
/// two lists of row numbers; the second has the share `test_size` of the rows, rounded up.
pub fn train_test_split(
    classes: &[usize],
    count: usize,
    test_size: f64,
    seed: u32,
) -> Result<(Vec<usize>, Vec<usize>), Impossible> {
    let (n_train, n_test) = sides(classes.len(), test_size);
    let mut rows_of = vec![Vec::new(); count];
    for (row, &class) in classes.iter().enumerate() {
        rows_of[class].push(row);
    }
    if let Some((class, rows)) = rows_of.iter().enumerate().find(|(_, rows)| rows.len() == 1) {
        return Err(Impossible::SmallClass(class, rows.len()));
    }
    // scikit-learn sees only the classes that occur.
    rows_of.retain(|rows| !rows.is_empty());
    if n_train.min(n_test) < rows_of.len() {
        return Err(Impossible::SmallSide(n_train.min(n_test)));
    }

    let mut random = RandomState::new(seed);
    let counts: Vec<usize> = rows_of.iter().map(Vec::len).collect();
    let of_train = approximate_mode(&counts, n_train, &mut random);
    let rest: Vec<usize> = counts.iter().zip(&of_train).map(|(all, train)| all - train).collect();
    let of_test = approximate_mode(&rest, n_test, &mut random);

    let (mut train, mut test) = (Vec::with_capacity(n_train), Vec::with_capacity(n_test));
    for (rows, (&a, &b)) in rows_of.iter().zip(of_train.iter().zip(&of_test)) {
        let order = random.permutation(rows.len());
        let mut order = order.into_iter().map(|i| rows[i]);
        train.extend(order.by_ref().take(a));
        test.extend(order.take(b));
    }
    random.shuffle(&mut train);
    random.shuffle(&mut test);
    Ok((train, test))
}

/// The same without regard to classes: `train_test_split(..., stratify=None)`, draw for draw
/// (`ShuffleSplit._iter_indices`).
pub fn shuffled(rows: usize, test_size: f64, seed: u32) -> (Vec<usize>, Vec<usize>) {
    let (_, n_test) = sides(rows, test_size);
    let mut order = RandomState::new(seed).permutation(rows);
    let train = order.split_off(n_test);
    (train, order)
}

/// The number of rows on each side: `ceil(test_size * n)` on the second.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "as numpy computes it; rows are far fewer than 2^52"
)]
pub fn sides(n: usize, test_size: f64) -> (usize, usize) {
    let test = ((test_size * n as f64).ceil() as usize).min(n);
    (n - test, test)
}

/// Distributes `draws` over the classes: each gets the whole part of its proportional share, those
/// with the largest remainders get one more, and ties are broken at random.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "as numpy computes it")]
fn approximate_mode(counts: &[usize], draws: usize, random: &mut RandomState) -> Vec<usize> {
    let sum: usize = counts.iter().sum();
    let shares: Vec<f64> = counts.iter().map(|&c| c as f64 / sum as f64 * draws as f64).collect();
    let mut whole: Vec<usize> = shares.iter().map(|s| s.floor() as usize).collect();
    let remainders: Vec<f64> = shares.iter().map(|s| s - s.floor()).collect();
    let mut missing = draws.saturating_sub(whole.iter().sum());
    let mut order: Vec<usize> = (0..remainders.len()).collect();
    order.sort_by(|&a, &b| remainders[b].total_cmp(&remainders[a]));
    for tied in order.chunk_by(|&a, &b| remainders[a] == remainders[b]) {
        if missing == 0 {
            break;
        }
        let add = tied.len().min(missing);
        for class in random.choice(tied, add) {
            whole[class] += 1;
        }
        missing -= add;
    }
    whole
}

/// A random share of `train`, at least one row of each class that it has. A smaller share is part of a
/// larger one.
pub fn share(train: &[usize], classes: &[usize], share: f64, seed: u32) -> Vec<usize> {
    let mut random = RandomState::new(seed);
    let mut keyed: Vec<(usize, usize)> =
        random.permutation(train.len()).into_iter().map(|at| (classes[train[at]], at)).collect();
    // Stable: the rows of a class stay in random order.
    keyed.sort_by_key(|&(class, _)| class);
    let mut kept: Vec<usize> = keyed
        .chunk_by(|a, b| a.0 == b.0)
        .flat_map(|of| {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "from 0 to the number of rows"
            )]
            let count = (of.len() as f64 * share).round().max(1.0) as usize;
            of.iter().take(count).map(|&(_, at)| at)
        })
        .collect();
    kept.sort_unstable();
    kept.into_iter().map(|at| train[at]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The letters' places in sorted order, as `np.unique` numbers them.
    fn classes(letters: &str) -> Vec<usize> {
        letters.chars().filter_map(|c| "bemt".find(c)).collect()
    }

    #[test]
    fn splits_match_scikit_learn() {
        // scikit-learn 1.9.1: train_test_split(np.arange(27), test_size=0.3, random_state=seed,
        // stratify=list(letters))
        let y = classes("bbbbbbbbbbbeeeeeeeeettttmmm");
        let expected: [(u32, &[usize], &[usize]); 3] = [
            (
                0,
                &[7, 24, 22, 13, 14, 9, 20, 15, 2, 19, 1, 23, 4, 10, 6, 12, 16, 25],
                &[17, 11, 0, 5, 21, 18, 26, 3, 8],
            ),
            (
                123,
                &[15, 16, 26, 18, 3, 9, 21, 13, 19, 24, 23, 5, 7, 14, 4, 8, 20, 0],
                &[22, 1, 25, 10, 2, 12, 6, 11, 17],
            ),
            (
                u32::MAX,
                &[1, 5, 25, 10, 11, 0, 9, 8, 13, 21, 26, 6, 22, 12, 14, 15, 16, 20],
                &[19, 24, 23, 17, 3, 18, 4, 7, 2],
            ),
        ];
        for (seed, train, test) in expected {
            assert_eq!(
                train_test_split(&y, 4, 0.3, seed),
                Ok((train.to_vec(), test.to_vec())),
                "seed {seed}"
            );
        }
    }

    #[test]
    fn the_published_data_splits_into_the_published_counts() {
        // 13,356 headlines: b 5627, e 5294, m 910, t 1525. The tie between e and t in the second
        // split is broken by scikit-learn's own draws.
        let y: Vec<usize> = [5627, 5294, 910, 1525]
            .into_iter()
            .enumerate()
            .flat_map(|(class, n)| vec![class; n])
            .collect();
        let count = |rows: &[usize]| {
            (0..4).map(|class| rows.iter().filter(|&&r| y[r] == class).count()).collect::<Vec<_>>()
        };
        let (train, rest) = train_test_split(&y, 4, 0.2, 123).expect("splits");
        assert_eq!(count(&train), [4501, 4235, 728, 1220]);
        let of_rest: Vec<usize> = rest.iter().map(|&r| y[r]).collect();
        let (valid, test) = train_test_split(&of_rest, 4, 0.5, 123).expect("splits");
        let back = |rows: Vec<usize>| rows.into_iter().map(|r| rest[r]).collect::<Vec<_>>();
        assert_eq!(count(&back(valid)), [563, 529, 91, 153]);
        assert_eq!(count(&back(test)), [563, 530, 91, 152]);
    }

    #[test]
    fn a_split_without_regard_to_classes_matches_scikit_learn() {
        // scikit-learn 1.9.1: train_test_split(np.arange(11), test_size=0.3, random_state=seed)
        for (seed, train, test) in [
            (0, &[6, 1, 7, 8, 3, 0, 5], &[4, 9, 2, 10]),
            (123, &[8, 9, 3, 1, 6, 10, 2], &[0, 4, 5, 7]),
        ] {
            assert_eq!(shuffled(11, 0.3, seed), (train.to_vec(), test.to_vec()), "seed {seed}");
        }
    }

    #[test]
    fn classes_that_cannot_be_split_are_refused() {
        assert_eq!(
            train_test_split(&classes("bbbe"), 4, 0.5, 1),
            Err(Impossible::SmallClass(1, 1))
        );
        assert_eq!(
            train_test_split(&classes("bbbbbbee"), 4, 0.1, 1),
            Err(Impossible::SmallSide(1))
        );
    }

    proptest! {
        #[test]
        fn every_row_is_on_one_side_and_classes_are_balanced(
            mut y in prop::collection::vec(0_usize..4, 0..200), test_size in 0.1_f64..0.9, seed: u32
        ) {
            y.extend([0, 0, 1, 1, 2, 2, 3, 3]);
            let (want_train, want_test) = sides(y.len(), test_size);
            match train_test_split(&y, 4, test_size, seed) {
                Ok((train, test)) => {
                    prop_assert_eq!((train.len(), test.len()), (want_train, want_test));
                    let mut all = [train, test.clone()].concat();
                    all.sort_unstable();
                    prop_assert!(all.into_iter().eq(0..y.len()));
                    for class in 0..4 {
                        let of = |rows: &[usize]| rows.iter().filter(|&&r| y[r] == class).count() as f64;
                        let share = y.iter().filter(|&&c| c == class).count() as f64 * want_test as f64 / y.len() as f64;
                        prop_assert!((of(&test) - share).abs() < 1.0 + 1e-9);
                    }
                }
                Err(Impossible::SmallSide(n)) => prop_assert!(n < 4 && n == want_train.min(want_test)),
                Err(other) => prop_assert!(false, "{:?}", other),
            }
        }
    }

    #[test]
    fn a_share_has_each_class_and_smaller_ones_are_part_of_it() {
        let classes: Vec<usize> =
            (0..400).map(|row| if row == 7 { 2 } else { usize::from(row % 4 == 0) }).collect();
        let train: Vec<usize> = (0..400).rev().collect();
        let [small, large] = [0.1, 0.5].map(|of| share(&train, &classes, of, 1));
        let count =
            |rows: &[usize], class| rows.iter().filter(|&&row| classes[row] == class).count();
        assert_eq!([0, 1, 2].map(|class| count(&small, class)), [30, 10, 1]);
        assert_eq!([0, 1, 2].map(|class| count(&large, class)), [150, 50, 1]);
        assert!(small.iter().all(|row| large.contains(row)));
        assert!(small.is_sorted_by(|a, b| a > b), "in train's order");
    }
}
