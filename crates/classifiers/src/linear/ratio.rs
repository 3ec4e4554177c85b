//! How n-grams differ between a class and the rest.

#![expect(clippy::indexing_slicing, reason = "lanes below L of arrays of L")]

use super::{Data, Problem};

/// The weights of n-grams, squared, for up to `L` machines.
pub fn squared<const L: usize>(data: Data<'_>, group: &[Problem]) -> Vec<[f32; L]> {
    let Data { rows, folds, options, .. } = data;
    let columns = rows.sparse.columns;
    if options.naive_bayes == 0.0 {
        return vec![[1.0; L]; columns];
    }
    // Texts with the n-gram: those of the class, and all.
    let mut counts = vec![[[0_u32; L]; 2]; columns];
    for (row, &label) in rows.sparse.labels.iter().enumerate() {
        let fold = folds.get(row).copied();
        let (mut is, mut any) = ([0; L], [0; L]);
        for ((is, any), problem) in is.iter_mut().zip(&mut any).zip(group) {
            *any = u32::from(problem.fold.is_none() || problem.fold != fold);
            *is = *any * u32::from(problem.class == label);
        }
        for &column in rows.sparse.row(row).0 {
            let Some([of_class, all]) = counts.get_mut(column as usize) else { continue };
            for lane in 0..L {
                of_class[lane] += is[lane];
                all[lane] += any[lane];
            }
        }
    }
    let logarithms: Vec<f64> =
        (0..4096_u32).map(|count| (f64::from(count) + options.smoothing).ln()).collect();
    let ln = |count: u32| {
        let known = logarithms.get(count as usize).copied();
        known.unwrap_or_else(|| (f64::from(count) + options.smoothing).ln())
    };
    let mut weights = vec![[0.0; L]; columns];
    for lane in 0..group.len().min(L) {
        let (mut of_class, mut of_rest) = (0_u64, 0_u64);
        for [is, any] in &counts {
            of_class += u64::from(is[lane]);
            of_rest += u64::from(any[lane] - is[lane]);
        }
        let added = options.smoothing * columns as f64;
        let offset = (of_class as f64 + added).ln() - (of_rest as f64 + added).ln();
        let ratio =
            |[is, any]: &[[u32; L]; 2]| (ln(is[lane]) - ln(any[lane] - is[lane]) - offset).abs();
        let mean = counts.iter().map(ratio).sum::<f64>() / columns as f64;
        for (weight, count) in weights.iter_mut().zip(&counts) {
            let of = options.naive_bayes * ratio(count) + (1.0 - options.naive_bayes) * mean;
            weight[lane] = narrow(of * of);
        }
    }
    weights
}

#[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
const fn narrow(value: f64) -> f32 {
    value as f32
}
