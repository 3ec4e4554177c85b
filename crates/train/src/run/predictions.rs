//! The net's predictions for every headline of the valid and test parts.

use std::path::{Path, PathBuf};

use failure::Result;
use nets::{Net, each_row, softmax};
use predictions::PredictionsWriter;
use schema::Labels;

use crate::data::Data;
use crate::device;

/// Writes the predictions of the rows of valid and test in `data`, one below the other, and passes the
/// logits and labels of those of test to `of_test`. `node` is for errors.
pub fn write(
    path: &Path,
    net: &Net,
    data: &Data,
    node: &str,
    mut of_test: impl FnMut(&[f32], u32),
) -> Result<()> {
    let mut writer = PredictionsWriter::create(path, &data.labels)?;
    let mut result = Ok(());
    let mut p = Vec::new();
    for (name, part) in data.parts().filter(|(name, _)| *name != "train") {
        let mut known = part.ids.iter().zip(&part.labels);
        let x = part.rows().map_err(|e| device::failed(&e, node))?;
        each_row(net, x, |logits| {
            let (Some((&id, &label)), Ok(())) = (known.next(), &result) else { return };
            if name == "test" {
                of_test(logits, label);
            }
            p.clear();
            p.extend_from_slice(logits);
            softmax(&mut p);
            result = writer.push(name, id, label, &p);
        })
        .map_err(|e| device::failed(&e, node))?;
    }
    result?;
    writer.finish()
}

/// Puts the tables together that [`write()`] has written for one range of rows after the other.
pub fn join(path: &Path, labels: &Labels, pieces: &[PathBuf]) -> Result<()> {
    let mut writer = PredictionsWriter::create(path, labels)?;
    pieces.iter().try_for_each(|piece| writer.append(piece))?;
    writer.finish()
}
