//! A split that keeps groups whole.
//!
//! Headlines about one story are near-copies of each other; with some in train and some in
//! test, the test would measure memorization. Here each story goes to one part. The largest stories
//! are placed first, each where the counts of categories come closest to their targets: a greedy
//! balance, as in scikit-learn's `StratifiedGroupKFold`, but for parts of unequal size.

use std::collections::HashMap;

use crate::numpy::RandomState;

/// Splits rows into parts whose sizes are in the proportions of `shares` (which sum to 1).
/// `classes` are 0..`count`; rows with the same text in `groups` end up in the same part. The rows
/// of a part are shuffled.
pub fn split(
    classes: &[usize],
    count: usize,
    groups: &[&str],
    shares: &[f64],
    seed: u32,
) -> Vec<Vec<usize>> {
    let mut random = RandomState::new(seed);
    let mut stories = members(groups);
    random.shuffle(&mut stories);
    stories.sort_by_key(|rows| std::cmp::Reverse(rows.len()));

    let totals = tally(classes, count, 0..classes.len());
    let targets: Vec<Vec<f64>> =
        shares.iter().map(|share| totals.iter().map(|n| n * share).collect()).collect();
    let mut counts = vec![vec![0.0; count]; shares.len()];
    let mut parts = vec![Vec::new(); shares.len()];
    for story in stories {
        let story_counts = tally(classes, count, story.iter().copied());
        let cost = |part: usize| worsening(&counts[part], &story_counts, &targets[part]);
        let Some(best) = (0..parts.len()).min_by(|&a, &b| cost(a).total_cmp(&cost(b))) else {
            break;
        };
        for (have, more) in counts[best].iter_mut().zip(&story_counts) {
            *have += more;
        }
        parts[best].extend(story);
    }
    for part in &mut parts {
        random.shuffle(part);
    }
    parts
}

/// The rows of each group, groups in order of first appearance.
fn members(groups: &[&str]) -> Vec<Vec<usize>> {
    let mut place = HashMap::new();
    let mut stories: Vec<Vec<usize>> = Vec::new();
    for (row, group) in groups.iter().enumerate() {
        let at = *place.entry(group).or_insert_with(|| {
            stories.push(Vec::new());
            stories.len() - 1
        });
        stories[at].push(row);
    }
    stories
}

fn tally(classes: &[usize], count: usize, rows: impl Iterator<Item = usize>) -> Vec<f64> {
    let mut counts = vec![0.0; count];
    for row in rows {
        counts[classes[row]] += 1.0;
    }
    counts
}

/// How much a part's distance from its targets grows when a story is added to it: the sum over the
/// classes of the squared relative deviations, weighted by the targets.
fn worsening(have: &[f64], story: &[f64], target: &[f64]) -> f64 {
    let distance = |n: f64, t: f64| if t > 0.0 { ((n - t) / t).powi(2) * t } else { 0.0 };
    have.iter()
        .zip(story)
        .zip(target)
        .map(|((&n, &s), &t)| distance(n + s, t) - distance(n, t))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    const SHARES: [f64; 3] = [0.8, 0.1, 0.1];

    #[test]
    fn stories_of_one_headline_are_balanced_almost_exactly() {
        let classes: Vec<usize> = (0..1000).map(|i| usize::from(i % 5 == 0)).collect();
        let names: Vec<String> = (0..1000).map(|i| i.to_string()).collect();
        let groups: Vec<&str> = names.iter().map(String::as_str).collect();
        let parts = split(&classes, 2, &groups, &SHARES, 1);
        let minority: Vec<usize> =
            parts.iter().map(|p| p.iter().filter(|&&r| classes[r] == 1).count()).collect();
        assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [800, 100, 100]);
        assert_eq!(minority, [160, 20, 20]);
    }

    proptest! {
        #[test]
        fn no_story_is_in_two_parts_and_every_row_is_in_one(
            rows in prop::collection::vec((0_usize..4, 0_u32..60), 1..300), seed: u32
        ) {
            let classes: Vec<usize> = rows.iter().map(|r| r.0).collect();
            let names: Vec<String> = rows.iter().map(|r| r.1.to_string()).collect();
            let groups: Vec<&str> = names.iter().map(String::as_str).collect();
            let parts = split(&classes, 4, &groups, &SHARES, seed);
            let stories: Vec<HashSet<&str>> = parts.iter().map(|p| p.iter().map(|&r| groups[r]).collect()).collect();
            for (i, a) in stories.iter().enumerate() {
                for b in &stories[i + 1..] {
                    prop_assert!(a.is_disjoint(b));
                }
            }
            let mut all = parts.concat();
            all.sort_unstable();
            prop_assert!(all.into_iter().eq(0..rows.len()));
            prop_assert_eq!(split(&classes, 4, &groups, &SHARES, seed), parts);
        }
    }
}
