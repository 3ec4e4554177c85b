//! The parts as lists of words that have a vector, for `net = "dan"`.

use failure::{Failure, Result};
use formats::arrays::Csr;
use formats::table;
use headline_features::{Lookup, LookupFiles};
use schema::Labels;
use stage::Stage;
use text::PARTS;
use tokenizer::Tokenizer;

/// The parts, and the vectors that training starts from.
pub struct Words {
    /// Each part's name and rows; a column is a word. A test part without rows is left out.
    pub parts: Vec<(&'static str, Csr)>,
    /// The names of the classes.
    pub labels: Labels,
    /// The words' vectors, scaled so that those of train's words have a mean length of 1.
    pub vectors: Vec<f32>,
    /// Components of a vector.
    pub dimension: usize,
    /// What they were multiplied by.
    pub scale: f32,
}

/// Reads what `split` and `embed` wrote.
pub fn read(stage: &Stage) -> Result<Words> {
    let embed = |file: &str| stage.input("embed", file);
    let lookup = Lookup::read(&LookupFiles {
        vocabulary: embed("vocabulary.parquet")?,
        vectors: embed("vectors.safetensors")?,
        tokenizer: embed(Tokenizer::FILE)?,
        more: None,
    })?;
    let labels = Labels::read(&stage.input("split", Labels::FILE)?)?;
    let vectors = lookup.vectors();
    let dimension = lookup.dimension();
    let columns = vectors.len() / dimension.max(1);
    let mut parts = Vec::new();
    for name in PARTS {
        let path = stage.input("split", &format!("{name}.parquet"))?;
        let (mut rows, mut classes, mut all_ids) = (Vec::new(), Vec::new(), Vec::new());
        let mut places = Vec::new();
        table::groups(&path, &["id", "title", "category"], |frame| {
            all_ids.extend(table::integers(frame, "id", &path)?.no_null_iter());
            for title in table::texts(frame, "title", &path)?.no_null_iter() {
                places.clear();
                lookup.places(title, &mut places);
                let column = |&place: &usize| (u32::try_from(place).unwrap_or(u32::MAX), 1.0);
                rows.push(places.iter().map(column).collect::<Vec<(u32, f32)>>());
            }
            for category in table::texts(frame, "category", &path)?.no_null_iter() {
                classes.push(labels.label(category, &path)?);
            }
            Ok(())
        })?;
        let mut part = Csr::of(columns, &rows, classes);
        part.ids = all_ids;
        if part.rows() > 0 || name != "test" {
            parts.push((name, part));
        }
    }
    for (name, part) in &parts {
        if part.rows() == 0 {
            let path = stage.input("split", &format!("{name}.parquet"))?;
            return Err(Failure::artifact("the table has no rows", &path));
        }
    }
    let scale = parts.first().map_or(1.0, |(_, train)| scale_of(train, vectors, dimension));
    let vectors = vectors.iter().map(|x| scale * x).collect();
    Ok(Words { parts, labels, vectors, dimension, scale })
}

/// What gives the vectors of train's words a mean length of 1.
#[expect(clippy::cast_possible_truncation, reason = "vectors are f32")]
fn scale_of(train: &Csr, vectors: &[f32], dimension: usize) -> f32 {
    let mut is_used = vec![false; train.columns];
    for &word in (0..train.rows()).flat_map(|row| train.row(row).0) {
        if let Some(is_used) = is_used.get_mut(word as usize) {
            *is_used = true;
        }
    }
    let length = |v: &[f32]| v.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
    let used = || vectors.chunks_exact(dimension.max(1)).zip(&is_used).filter(|(_, used)| **used);
    let all: f64 = used().map(|(vector, _)| length(vector)).sum();
    if all > 0.0 { (used().count() as f64 / all) as f32 } else { 1.0 }
}
