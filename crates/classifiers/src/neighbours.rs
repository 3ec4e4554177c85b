//! The nearest rows by cosine, exactly.
//!
//! An index finds, for a query q, the k rows d with the largest cosine. Few n-grams are frequent,
//! and they weigh little, so the two kinds are kept apart. The products of the rare ones come from
//! an inverted index. By Cauchy and Schwarz, the frequent ones add at most ‖q'‖ ‖d'‖, the lengths of
//! q and d in these columns. Only rows that can still be among the nearest get their frequent
//! n-grams multiplied.

mod search;

use formats::arrays::{Csr, Values};

pub use search::Search;

/// A row that is near a query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Neighbour {
    /// The row.
    pub row: u32,
    /// The cosine.
    pub similarity: f32,
}

/// An index of the rows of a matrix whose values are not negative.
pub struct Index {
    rows: usize,
    frequent_count: usize,
    /// Its arrays.
    pub arrays: IndexArrays,
}

/// The arrays of an index. An entry of a matrix is two numbers: a row or column, and the bits of the
/// f32 value.
pub struct IndexArrays {
    /// The label of each row.
    pub labels: Values<u32>,
    /// Where the postings of each column begin; frequent columns have none.
    pub starts: Values<u64>,
    /// A row and its value in the column, in the order of the rows.
    pub postings: Values<[u32; 2]>,
    /// For each column, its number among the frequent ones, or `u32::MAX`.
    pub frequent: Values<u32>,
    /// Where the frequent entries of each row begin.
    pub row_starts: Values<u64>,
    /// The number of a frequent column, and its value.
    pub entries: Values<[u32; 2]>,
    /// ‖d'‖ of each row.
    pub lengths: Values<f32>,
}

const RARE: u32 = u32::MAX;
/// A column is frequent if more than one in so many rows has it.
const FREQUENT: usize = 14;

impl Index {
    /// An index of the rows of `matrix`.
    pub fn new(matrix: &Csr) -> Self {
        let rows = matrix.rows();
        let mut counts = vec![0_usize; matrix.columns];
        for row in 0..rows {
            for &column in matrix.row(row).0 {
                if let Some(count) = counts.get_mut(column as usize) {
                    *count += 1;
                }
            }
        }
        let mut frequent = vec![RARE; matrix.columns];
        let mut frequent_count = 0;
        let (mut starts, mut end) = (vec![0], 0);
        for (&count, number) in counts.iter().zip(&mut frequent) {
            if count > rows / FREQUENT {
                *number = frequent_count;
                frequent_count += 1;
            } else {
                end += count;
            }
            starts.push(end);
        }
        let mut postings = vec![[0; 2]; end];
        let mut next = starts.clone();
        let (mut row_starts, mut entries, mut lengths) = (vec![0], Vec::new(), Vec::new());
        for row in 0..rows {
            let (columns, values) = matrix.row(row);
            let scale = 1.0 / length(values).max(f32::MIN_POSITIVE);
            let first = entries.len();
            for (&column, &value) in columns.iter().zip(values) {
                let column = column as usize;
                let value = value * scale;
                let number = frequent.get(column).copied().unwrap_or(RARE);
                if number != RARE {
                    entries.push([number, value.to_bits()]);
                } else if let Some(at) = next.get_mut(column) {
                    if let Some(posting) = postings.get_mut(*at) {
                        *posting = [small(row), value.to_bits()];
                    }
                    *at += 1;
                }
            }
            let of_row = entries.get(first..).unwrap_or_default();
            lengths.push(
                of_row.iter().map(|&[_, bits]| square(f32::from_bits(bits))).sum::<f32>().sqrt(),
            );
            row_starts.push(entries.len());
        }
        let wide = |places: Vec<usize>| -> Values<u64> {
            places.into_iter().map(|place| place as u64).collect::<Vec<u64>>().into()
        };
        let arrays = IndexArrays {
            labels: matrix.labels.clone().into(),
            starts: wide(starts),
            postings: postings.into(),
            frequent: frequent.into(),
            row_starts: wide(row_starts),
            entries: entries.into(),
            lengths: lengths.into(),
        };
        Self { rows, frequent_count: frequent_count as usize, arrays }
    }

    /// An index with the arrays of another. `None` if they do not fit together.
    pub fn from_arrays(arrays: IndexArrays) -> Option<Self> {
        let IndexArrays { labels, starts, postings, frequent, row_starts, entries, lengths } =
            &arrays;
        let rows = labels.len();
        let covers = |starts: &[u64], count: usize, of: usize| {
            starts.len() == count + 1
                && starts.first() == Some(&0)
                && starts.is_sorted()
                && starts.last() == Some(&(of as u64))
        };
        let count = frequent.iter().filter(|&&number| number != RARE).count();
        let in_range = |number: u32, count: usize| (number as usize) < count;
        // Finite, and not negative: bounds on sums rest on it.
        let is_value = |bits: u32| (0.0..=f32::MAX).contains(&f32::from_bits(bits));
        let is_sound = covers(starts, frequent.len(), postings.len())
            && covers(row_starts, rows, entries.len())
            && lengths.len() == rows
            && frequent.iter().all(|&number| number == RARE || in_range(number, count))
            && postings.iter().all(|&[row, value]| in_range(row, rows) && is_value(value))
            && entries.iter().all(|&[number, value]| in_range(number, count) && is_value(value))
            && lengths.iter().all(|&length| is_value(length.to_bits()));
        is_sound.then_some(Self { rows, frequent_count: count, arrays })
    }

    /// The label of a row.
    pub fn label(&self, row: u32) -> u32 {
        self.arrays.labels.get(row as usize).copied().unwrap_or_default()
    }

    /// The frequent entries of a row.
    #[inline]
    fn frequent_entries(&self, row: usize) -> &[[u32; 2]] {
        let IndexArrays { row_starts, entries, .. } = &self.arrays;
        part(entries, row_starts, row)
    }

    /// The part of the cosine that comes from frequent columns.
    #[inline]
    fn of_frequent(&self, row: usize, query: &[f32]) -> f32 {
        let product = |&[number, bits]: &[u32; 2]| {
            f32::from_bits(bits) * query.get(number as usize).copied().unwrap_or(0.0)
        };
        // Four sums, whose additions do not wait for each other.
        let (by_four, rest) = self.frequent_entries(row).as_chunks::<4>();
        let [mut a, mut b, mut c, mut d] = [0.0; 4];
        for [e, f, g, h] in by_four {
            a += product(e);
            b += product(f);
            c += product(g);
            d += product(h);
        }
        let rest: f32 = rest.iter().map(product).sum();
        (a + b) + (c + d) + rest
    }
}

/// The values of a row or a column, for the starts of all.
#[inline]
fn part<'v, T>(values: &'v [T], starts: &[u64], at: usize) -> &'v [T] {
    let place = |at: usize| starts.get(at).and_then(|&start| usize::try_from(start).ok());
    let range = place(at).zip(place(at + 1));
    range.and_then(|(start, end)| values.get(start..end)).unwrap_or_default()
}

fn square(value: f32) -> f32 {
    value * value
}

fn length(values: &[f32]) -> f32 {
    values.iter().map(|value| value * value).sum::<f32>().sqrt()
}

/// A row's number.
fn small(row: usize) -> u32 {
    u32::try_from(row).unwrap_or(u32::MAX)
}

/// How neighbours vote.
#[derive(Clone, Copy, Debug)]
pub struct Vote {
    /// How many neighbours vote.
    pub k: usize,
    /// A vote has the weight of its cosine to this power.
    pub power: f32,
    /// What is added to each class's share before its logarithm is taken.
    pub smoothing: f32,
}

impl Vote {
    /// Puts the margin of each class into `to`: ln(q + `smoothing`) for its share q of the votes.
    pub fn margins(
        &self,
        search: &mut Search<'_>,
        (columns, values): (&[u32], &[f32]),
        left_out: Option<usize>,
        to: &mut [f32],
    ) {
        to.fill(0.0);
        let index = search.index;
        let mut sum = 0.0;
        let nearest = search.nearest(columns, values, self.k, left_out);
        // Of the largest one: shares stay the same, and no power is too small or too large for f32.
        let largest = nearest.first().map_or(0.0, |near| near.similarity);
        for near in nearest.iter().filter(|near| near.similarity > 0.0) {
            let weight = (near.similarity / largest).powf(self.power);
            sum += weight;
            if let Some(votes) = to.get_mut(index.label(near.row) as usize) {
                *votes += weight;
            }
        }
        let classes = to.len() as f32;
        for votes in to.iter_mut() {
            let share = if sum > 0.0 { *votes / sum } else { 1.0 / classes };
            *votes = (share + self.smoothing).ln();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All cosines, sorted.
    fn by_hand(
        matrix: &Csr,
        query: &[(u32, f32)],
        k: usize,
        left_out: Option<usize>,
    ) -> Vec<(u32, f64)> {
        let norm = |values: &mut dyn Iterator<Item = f32>| {
            values.map(|v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt()
        };
        let of_query = norm(&mut query.iter().map(|entry| entry.1));
        let mut all: Vec<(u32, f64)> = (0..matrix.rows())
            .filter(|&row| left_out != Some(row))
            .map(|row| {
                let (columns, values) = matrix.row(row);
                let dot: f64 = columns
                    .iter()
                    .zip(values)
                    .map(|(c, v)| {
                        let of = query.iter().find(|entry| entry.0 == *c).map_or(0.0, |e| e.1);
                        f64::from(*v) * f64::from(of)
                    })
                    .sum();
                let lengths = of_query * norm(&mut values.iter().copied());
                (small(row), if lengths > 0.0 { dot / lengths } else { 0.0 })
            })
            .collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1));
        all.truncate(k);
        all
    }

    fn sparse() -> impl Strategy<Value = Vec<(u32, f32)>> {
        // Low columns are frequent, high ones rare.
        let column = prop_oneof![0_u32..3, 0_u32..40];
        proptest::collection::btree_map(column, 0.1_f32..2.0, 0..8)
            .prop_map(|m| m.into_iter().collect())
    }

    proptest! {
        #[test]
        fn the_nearest_are_those_of_all_cosines(
            rows in proptest::collection::vec(sparse(), 1..150), query in sparse(), k in 1_usize..9, skip in any::<bool>()
        ) {
            let left_out = skip.then_some(0);
            let labels = vec![0; rows.len()];
            let matrix = Csr::of(40, &rows, labels);
            let index = Index::new(&matrix);
            let mut search = Search::new(&index);
            let (columns, values): (Vec<u32>, Vec<f32>) = query.iter().copied().unzip();
            for _ in 0..2 {
                let found = search.nearest(&columns, &values, k, left_out);
                let want = by_hand(&matrix, &query, k, left_out);
                prop_assert_eq!(found.len(), want.len());
                for (found, want) in found.iter().zip(&want) {
                    prop_assert!((f64::from(found.similarity) - want.1).abs() < 1e-5, "{:?} {:?}", found, want);
                }
                prop_assert!(found.iter().all(|near| left_out != Some(near.row as usize)));
            }
        }
    }

    #[test]
    fn votes_are_weighted_shares() {
        let rows = [vec![(0, 1.0)], vec![(0, 3.0), (1, 4.0)], vec![(1, 1.0)], vec![(2, 1.0)]];
        let matrix = Csr::of(3, &rows, vec![0, 1, 1, 2]);
        let index = Index::new(&matrix);
        let mut search = Search::new(&index);
        let vote = Vote { k: 2, power: 2.0, smoothing: 0.05 };
        let mut to = [0.0; 3];
        // Cosines 1 and 0.6: shares 1/1.36 and 0.36/1.36.
        vote.margins(&mut search, (&[0], &[2.0]), None, &mut to);
        let want = [(1.0 / 1.36 + 0.05_f32).ln(), (0.36 / 1.36 + 0.05_f32).ln(), 0.05_f32.ln()];
        assert!(to.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-5), "{to:?} {want:?}");
        // Nothing in common with any row: no class is favoured.
        vote.margins(&mut search, (&[], &[]), None, &mut to);
        assert!(to.iter().all(|m| (m - (1.0_f32 / 3.0 + 0.05).ln()).abs() < 1e-6), "{to:?}");
    }
}
