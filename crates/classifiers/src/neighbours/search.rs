//! The search of an index, on vector registers.

use kernels::simd::{LANES, Vector, Work, dispatch, prefetch};

use super::{Index, IndexArrays, Neighbour, RARE, length, part, small};

/// The rounding errors of a sum are far below this share.
const SLACK: f32 = 1.0001;
/// Rows of which the largest sum is taken.
const BLOCK: usize = 64;

/// Searches an index. It keeps its memory from one query to the next.
pub struct Search<'i> {
    pub(super) index: &'i Index,
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
        let IndexArrays { frequent, starts, postings, .. } = &index.arrays;
        let (frequents, starts, postings) = (&**frequent, &**starts, &**postings);
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
            let number = frequents.get(column).copied().unwrap_or(RARE);
            if number == RARE {
                for &[row, bits] in part(postings, starts, column) {
                    // The mask changes no row. It shows the compiler that the row is inside.
                    if let Some(sum) = sums.get_mut(row as usize & mask) {
                        *sum += value * f32::from_bits(bits);
                    }
                }
            } else {
                frequent += value * value;
                if let Some(to) = query.get_mut(number as usize) {
                    *to = value;
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
                collect(sums, &index.arrays.lengths, 0.0, least, candidates);
                evaluate(index, query, candidates, f32::MIN, nearest);
                let by = |a: &Neighbour, b: &Neighbour| b.similarity.total_cmp(&a.similarity);
                if k <= nearest.len() {
                    bound = nearest.select_nth_unstable_by(k - 1, by).1.similarity;
                }
                nearest.clear();
            }
        }
        collect(sums, &index.arrays.lengths, frequent, bound, candidates);
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
