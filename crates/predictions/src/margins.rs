//! `margins.safetensors`: what a stack learns from a run.
//!
//! For each part, `PART` f32 \[n, K\] has the margin of each class, `PART.y` and `PART.id` the labels
//! and ids. Those of train come from classifiers that have not seen the row.

use std::collections::BTreeMap;
use std::path::Path;

use failure::{Failure, Result};
use formats::Arrays;
use formats::arrays::{self, Array};

/// The file's name.
pub const FILE: &str = "margins.safetensors";

/// The rows of a part as every classifier sees them.
#[derive(Clone, Copy)]
pub struct PartRows<'p> {
    /// Its name.
    pub name: &'static str,
    /// The label of each row.
    pub labels: &'p [u32],
    /// The id of each row.
    pub ids: &'p [i64],
}

/// Writes the margins of these parts to `path`.
pub fn write(
    path: &Path,
    parts: &[PartRows<'_>],
    margins: &BTreeMap<&str, Vec<f32>>,
    classes: usize,
) -> Result<()> {
    let wide = |values: &[u32]| values.iter().map(|&y| i64::from(y)).collect::<Vec<i64>>();
    let labels: Vec<Vec<i64>> = parts.iter().map(|part| wide(part.labels)).collect();
    let names: Vec<[String; 2]> =
        parts.iter().map(|part| ["y", "id"].map(|of| format!("{}.{of}", part.name))).collect();
    let mut all = Vec::new();
    for ((part, labels), [y, id]) in parts.iter().zip(&labels).zip(&names) {
        let Some(margins) = margins.get(part.name) else { continue };
        all.push((part.name, Array::f32(&[margins.len() / classes, classes], margins)));
        all.push((y.as_str(), Array::i64(labels)));
        all.push((id.as_str(), Array::i64(part.ids)));
    }
    arrays::write(path, all, None)
}

/// The margins of a part, with labels and ids.
pub struct PartMargins {
    /// Row after row.
    pub margins: Vec<f32>,
    /// The label of each row.
    pub labels: Vec<u32>,
    /// The id of each row.
    pub ids: Vec<i64>,
}

/// Reads the margins of the part `name` from the file at `path`; `None` if it has no such part.
pub fn read(path: &Path, name: &str, classes: usize) -> Result<Option<PartMargins>> {
    let arrays = Arrays::map(path)?;
    if !arrays.names()?.iter().any(|of| of == name) {
        return Ok(None);
    }
    let (shape, margins) = arrays.f32(name, &[None, Some(classes)])?;
    let rows = shape.first().copied();
    let y = arrays.i64(&format!("{name}.y"), &[rows])?;
    let ids = arrays.i64(&format!("{name}.id"), &[rows])?;
    if margins.iter().any(|margin| !margin.is_finite()) {
        return Err(Failure::artifact(format_args!("a margin of {name} is not finite"), path));
    }
    let label = |&y: &i64| {
        let label = u32::try_from(y).ok().filter(|&y| (y as usize) < classes);
        label.ok_or_else(|| Failure::artifact(format_args!("label {y} of {classes}"), path))
    };
    let labels = y.iter().map(label).collect::<Result<Vec<u32>>>()?;
    Ok(Some(PartMargins { margins, labels, ids }))
}
