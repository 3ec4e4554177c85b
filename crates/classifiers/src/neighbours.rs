//! The nearest rows by cosine, exactly.
//!
//! An index finds, for a query q, the k rows d with the largest cosine. Few n-grams are frequent,
//! and they weigh little, so the two kinds are kept apart. The products of the rare ones come from
//! an inverted index. By Cauchy and Schwarz, the frequent ones add at most ‖q'‖ ‖d'‖, the lengths of
//! q and d in these columns. Only rows that can still be among the nearest get their frequent
//! n-grams multiplied.

use formats::arrays::Csr;
use kernels::simd::{LANES, Vector, Work, dispatch, prefetch};

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
    labels: Vec<u32>,
    /// Where the postings of each column begin; frequent columns have none.
    starts: Vec<usize>,
    /// A row and its value in the column, in the order of the rows.
    postings: Vec<(u32, f32)>,
    /// For each column, its number among the frequent ones, or `RARE`.
    frequent: Vec<u32>,
    frequent_count: usize,
    /// Where the frequent entries of each row begin.
    row_starts: Vec<usize>,
    entries: Vec<(u32, f32)>,
    /// ‖d'‖ of each row.
    lengths: Vec<f32>,
}

const RARE: u32 = u32::MAX;
/// A column is frequent if more than one in so many rows has it.
const FREQUENT: usize = 14;
/// The rounding errors of a sum are far below this share.
const SLACK: f32 = 1.0001;
/// Rows of which the largest sum is taken.
const BLOCK: usize = 64;

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
        let mut postings = vec![(0, 0.0); end];
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
                    entries.push((number, value));
                } else if let Some(at) = next.get_mut(column) {
                    if let Some(posting) = postings.get_mut(*at) {
                        *posting = (small(row), value);
                    }
                    *at += 1;
                }
            }
            let of_row = entries.get(first..).unwrap_or_default();
            lengths.push(of_row.iter().map(|(_, value)| value * value).sum::<f32>().sqrt());
            row_starts.push(entries.len());
        }
        Self {
            rows,
            labels: matrix.labels.clone(),
            starts,
            postings,
            frequent,
            frequent_count: frequent_count as usize,
            row_starts,
            entries,
            lengths,
        }
    }

    /// The label of a row.
    pub fn label(&self, row: u32) -> u32 {
        self.labels.get(row as usize).copied().unwrap_or_default()
    }

    /// The frequent entries of a row.
    #[inline]
    fn frequent_entries(&self, row: usize) -> &[(u32, f32)] {
        let range = self.row_starts.get(row).zip(self.row_starts.get(row + 1));
        range.and_then(|(&start, &end)| self.entries.get(start..end)).unwrap_or_default()
    }

    /// The part of the cosine that comes from frequent columns.
    #[inline]
    fn of_frequent(&self, row: usize, query: &[f32]) -> f32 {
        let product = |&(number, value): &(u32, f32)| {
            value * query.get(number as usize).copied().unwrap_or(0.0)
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

/// Searches an index. It keeps its memory from one query to the next.
pub struct Search<'i> {
    index: &'i Index,
    /// The part of each row's cosine that comes from rare columns.
    sums: Vec<f32>,
    /// The query's values in the frequent columns.
    query: Vec<f32>,
    /// The largest sum of each block.
    highest: Vec<f32>,
    /// Rows whose frequent columns have to be multiplied, and their sums.
    candidates: Vec<(u32, f32)>,
    nearest: Vec<Neighbour>,
}

impl<'i> Search<'i> {
    /// A search of this index.
    pub fn new(index: &'i Index) -> Self {
        Self {
            index,
            // A power of two: see where they are added up.
            sums: vec![0.0; index.rows.next_power_of_two()],
            query: vec![0.0; index.frequent_count],
            highest: Vec::new(),
            candidates: Vec::new(),
            nearest: Vec::new(),
        }
    }

    /// The `k` rows nearest to the query with these columns and values, the nearest first, and of
    /// equally near ones the first first; without the row `left_out`.
    pub fn nearest(
        &mut self,
        columns: &[u32],
        values: &[f32],
        k: usize,
        left_out: Option<usize>,
    ) -> &[Neighbour] {
        dispatch(Find { search: self, columns, values, k, left_out });
        &self.nearest
    }
}

/// A search, on the widest registers that the processor has.
struct Find<'s, 'i> {
    search: &'s mut Search<'i>,
    columns: &'s [u32],
    values: &'s [f32],
    k: usize,
    left_out: Option<usize>,
}

impl Work for Find<'_, '_> {
    type Out = ();
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "see kernels::simd")]
    fn run<V: Vector>(self) {
        let Self { search, columns, values, k, left_out } = self;
        let Search { index, sums, query, highest, candidates, nearest } = search;
        let (sums, query) = (sums.as_mut_slice(), query.as_mut_slice());
        let mask = sums.len() - 1;
        nearest.clear();
        sums.fill(0.0);
        query.fill(0.0);
        let scale = 1.0 / length(values).max(f32::MIN_POSITIVE);
        let mut frequent = 0.0;
        for (&column, &value) in columns.iter().zip(values) {
            let column = column as usize;
            let value = value * scale;
            let number = index.frequent.get(column).copied().unwrap_or(RARE);
            if number != RARE {
                frequent += value * value;
                if let Some(to) = query.get_mut(number as usize) {
                    *to = value;
                }
            } else if let (Some(&start), Some(&end)) =
                (index.starts.get(column), index.starts.get(column + 1))
            {
                for &(row, weight) in index.postings.get(start..end).unwrap_or_default() {
                    // The mask changes no row. It shows the compiler that the row is inside.
                    if let Some(sum) = sums.get_mut(row as usize & mask) {
                        *sum += value * weight;
                    }
                }
            }
        }
        let frequent = f32::sqrt(frequent) * SLACK;
        let sums = sums.get_mut(..index.rows).unwrap_or_default();
        if let Some(row) = left_out.and_then(|row| sums.get_mut(row)) {
            // It stays below every bound.
            *row = f32::NEG_INFINITY;
        }
        // The rows with the largest sums are probably near. At least k rows have a sum that is no
        // less than the k-th of the blocks' largest; the k-th of their cosines is a bound that no
        // row below it can pass.
        highest.clear();
        highest.extend(sums.chunks(BLOCK).map(|block| {
            // Numbers that are not negative are ordered like their bits, above the row that is left
            // out. The compiler compares many integers at once.
            let bits = block.iter().map(|sum| sum.to_bits().cast_signed());
            f32::from_bits(bits.fold(i32::MIN, i32::max).cast_unsigned())
        }));
        let mut bound = f32::MIN;
        if k <= highest.len() {
            let (_, &mut least, _) = highest.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
            if least > 0.0 {
                collect(sums, &index.lengths, 0.0, least, candidates);
                evaluate(index, query, candidates, f32::MIN, nearest);
                let by = |a: &Neighbour, b: &Neighbour| b.similarity.total_cmp(&a.similarity);
                bound = nearest.select_nth_unstable_by(k - 1, by).1.similarity;
                nearest.clear();
            }
        }
        collect(sums, &index.lengths, frequent, bound, candidates);
        evaluate(index, query, candidates, bound, nearest);
        nearest
            .sort_unstable_by(|a, b| b.similarity.total_cmp(&a.similarity).then(a.row.cmp(&b.row)));
        nearest.truncate(k);
    }
}

/// Collects the rows whose sum and `frequent` times their length come to `bound`.
#[inline(always)]
#[allow(clippy::inline_always, reason = "see kernels::simd")]
fn collect(
    sums: &[f32],
    lengths: &[f32],
    frequent: f32,
    bound: f32,
    candidates: &mut Vec<(u32, f32)>,
) {
    candidates.clear();
    let reaches = |sum: f32, length: f32| sum + frequent * length >= bound;
    let mut add = |first: usize, sums: &[f32], lengths: &[f32]| {
        for (row, (&sum, &length)) in (first..).zip(sums.iter().zip(lengths)) {
            if reaches(sum, length) {
                candidates.push((small(row), sum));
            }
        }
    };
    // A vector at a time: few rows reach the bound.
    let ((sums, last), (lengths, last_lengths)) =
        (sums.as_chunks::<LANES>(), lengths.as_chunks::<LANES>());
    for (at, (sums, lengths)) in sums.iter().zip(lengths).enumerate() {
        let mut any = false;
        for (&sum, &length) in sums.iter().zip(lengths) {
            any |= reaches(sum, length);
        }
        if any {
            add(at * LANES, sums, lengths);
        }
    }
    add(sums.len() * LANES, last, last_lengths);
}

/// Appends the candidates whose cosine is at least `bound` to `nearest`.
#[inline(always)]
#[allow(clippy::inline_always, reason = "see kernels::simd")]
fn evaluate(
    index: &Index,
    query: &[f32],
    candidates: &[(u32, f32)],
    bound: f32,
    nearest: &mut Vec<Neighbour>,
) {
    /// How many candidates ahead memory is prefetched.
    const AHEAD: usize = 6;
    for (at, &(row, sum)) in candidates.iter().enumerate() {
        if let Some(&(ahead, _)) = candidates.get(at + AHEAD) {
            prefetch(index.frequent_entries(ahead as usize));
        }
        let similarity = sum + index.of_frequent(row as usize, query);
        if similarity >= bound {
            nearest.push(Neighbour { row, similarity });
        }
    }
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
