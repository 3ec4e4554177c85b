//! The margins from which a stack learns: for rows of train, those of nets that have not seen them.

use std::collections::BTreeMap;
use std::path::Path;

use failure::{Failure, Result};
use formats::Arrays;
use formats::arrays::{self, Array};
use nets::{Net, each_row};
use predictions::folds::stratified;
use predictions::margins::{self, PartRows};
use schema::Calibration;
use stage::Event;

use super::Trainer;
use crate::data::Part;
use crate::device;

/// The margins of a fold's rows, in its folder.
const HELD_OUT: &str = "held-out.safetensors";

/// Trains once more without each fold of train, and writes the margins of all parts.
pub fn write(trainer: &mut Trainer<'_>, net: &Net, count: u32) -> Result<()> {
    let Trainer { stage, options, data, .. } = *trainer;
    let classes = data.labels.len();
    let folds = stratified(&data.train.labels, count, options.seed);
    let folder = stage.output("folds");
    let mut of_train = vec![0.0; folds.len() * classes];
    for fold in 0..count {
        let own = folder.join(fold.to_string());
        std::fs::create_dir_all(&own).map_err(|e| Failure::io("create folder", &own, &e))?;
        let path = own.join(HELD_OUT);
        let size = folds.iter().filter(|&&of| of == fold).count() * classes;
        // Those of a fold that an interrupted run has finished are there.
        let earlier = stage.resume.then(|| read(&path, size)).flatten();
        let margins = match earlier {
            Some(margins) => margins,
            None => {
                let text = format!("without fold {} of {count}", fold + 1);
                stage.progress.send(&Event::Note { text });
                let rows: Vec<u32> =
                    (0..).zip(&folds).filter(|&(_, of)| *of != fold).map(|(row, _)| row).collect();
                let (net, _) = trainer.train(options.seed, &own, Some(1), Some(&rows))?;
                let margins = of_part(&net, &data.train, &stage.node, |row| {
                    folds.get(row).is_some_and(|of| *of == fold)
                })?;
                let array = ("margins", Array::f32(&[margins.len()], &margins));
                arrays::write(&path, [array], None)?;
                margins
            }
        };
        let rows = folds.iter().zip(of_train.chunks_exact_mut(classes));
        let own_rows = rows.filter(|&(of, _)| *of == fold).map(|(_, to)| to);
        for (to, from) in own_rows.zip(margins.chunks_exact(classes)) {
            to.copy_from_slice(from);
        }
    }
    let mut all = BTreeMap::from([("train", of_train)]);
    let mut parts = Vec::new();
    for (name, part) in data.parts() {
        parts.push(PartRows { name, labels: &part.labels, ids: &part.ids });
        if name != "train" {
            all.insert(name, of_part(net, part, &stage.node, |_| true)?);
        }
    }
    margins::write(&stage.output(margins::FILE), &parts, &all, classes)?;
    // The nets are trained on the cross-entropy, so their logits are what a stack takes.
    stage.write_json("calibration.json", &Calibration { scale: 1.0, of_regression: None })?;
    std::fs::remove_dir_all(&folder).map_err(|e| Failure::io("remove", &folder, &e))
}

fn read(path: &Path, size: usize) -> Option<Vec<f32>> {
    Some(Arrays::read(path).ok()?.f32("margins", &[Some(size)]).ok()?.1)
}

/// The logits of some rows, row after row.
fn of_part(
    net: &Net,
    part: &Part,
    node: &str,
    is_wanted: impl Fn(usize) -> bool,
) -> Result<Vec<f32>> {
    let mut margins = Vec::new();
    let mut row = 0;
    let rows = part.rows().map_err(|e| device::failed(&e, node))?;
    each_row(net, rows, |logits| {
        if is_wanted(row) {
            margins.extend_from_slice(logits);
        }
        row += 1;
    })
    .map_err(|e| device::failed(&e, node))?;
    Ok(margins)
}
