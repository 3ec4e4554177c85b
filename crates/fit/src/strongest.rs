//! The n-grams that speak most for each class.

use std::path::Path;

use classifiers::linear::LinearModel;
use failure::Result;
use formats::arrays::Csr;
use ngram_features::{Block, Features};
use schema::{StrongFeature, Strongest};

/// How many of each kind are listed for a class.
const LISTED: usize = 12;

/// The strongest n-grams of each of `classes` classes, by what they add to the margin of the class's
/// rows; none if they are hashed.
pub fn find(
    model: &LinearModel,
    rows: &Csr,
    classes: usize,
    vocabulary: &Path,
    description: &Path,
) -> Result<Strongest> {
    let features = Features::read(vocabulary, description)?;
    let names: Vec<(Block, &str)> = features.names().collect();
    let mut of_class: Vec<Vec<usize>> = vec![Vec::new(); classes];
    for (row, &label) in rows.labels.iter().enumerate() {
        if let Some(rows) = of_class.get_mut(label as usize) {
            rows.push(row);
        }
    }
    let mut sums = vec![0.0_f64; rows.columns];
    let mut all = Strongest::new();
    for (class, members) in of_class.iter().enumerate() {
        let mut touched: Vec<usize> = Vec::new();
        for &row in members {
            let (columns, values) = rows.row(row);
            for (&column, &value) in columns.iter().zip(values) {
                let column = column as usize;
                let Some(sum) = sums.get_mut(column) else { continue };
                if *sum == 0.0 {
                    touched.push(column);
                }
                let weight = model.weights(column).get(class).copied().unwrap_or_default();
                *sum += f64::from(value) * f64::from(weight);
            }
        }
        touched.sort_unstable();
        touched.dedup();
        let mut strong = Vec::new();
        for block in Block::ALL {
            let is_of = |&&column: &&usize| names.get(column).is_some_and(|name| name.0 == block);
            let mut of: Vec<(f64, usize)> = touched
                .iter()
                .filter(is_of)
                .map(|&column| (sums.get(column).copied().unwrap_or_default(), column))
                .filter(|(sum, _)| *sum > 0.0)
                .collect();
            of.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            strong.extend(of.into_iter().take(LISTED).filter_map(|(sum, column)| {
                let (block, ngram) = names.get(column)?;
                Some(StrongFeature {
                    block: block.name().to_owned(),
                    ngram: (*ngram).to_owned(),
                    contribution: narrow(sum / members.len() as f64),
                })
            }));
        }
        all.push(strong);
        for column in touched {
            if let Some(sum) = sums.get_mut(column) {
                *sum = 0.0;
            }
        }
    }
    Ok(all)
}

#[expect(clippy::cast_possible_truncation, reason = "for people to read")]
const fn narrow(value: f64) -> f32 {
    value as f32
}
