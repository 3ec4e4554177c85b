//! The net's predictions for every headline of the valid and test parts.

use std::path::Path;

use failure::Result;
use nets::{Net, each_row, softmax};
use predictions::PredictionsWriter;

use crate::data::Data;
use crate::device;

/// Writes the predictions of valid and test, one below the other. `node` is for errors.
pub fn write(path: &Path, net: &Net, data: &Data, node: &str) -> Result<()> {
    let mut writer = PredictionsWriter::create(path, &data.labels)?;
    let mut result = Ok(());
    let mut p = Vec::new();
    for (name, part) in data.parts().filter(|(name, _)| *name != "train") {
        let mut known = part.ids.iter().zip(&part.labels);
        let x = part.rows().map_err(|e| device::failed(&e, node))?;
        each_row(net, x, |logits| {
            let (Some((&id, &label)), Ok(())) = (known.next(), &result) else { return };
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
