//! `net = "stack"`: a logistic regression on the margins of other runs.

use classifiers::calibration::Calibrator;
use classifiers::stacking::Stacking;
use failure::{Failure, Result};
use predictions::margins::{self, PartMargins, PartRows};
use schema::{Labels, Outcome};
use serde::{Deserialize, Serialize};
use stage::Stage;

use crate::evaluation::{Description, Fitted, HeldOut, finish};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    net: String,
    members: Vec<String>,
    c: f64,
}

/// A part as the regression sees it.
struct StackPart {
    name: &'static str,
    /// The inputs of all members, row after row.
    inputs: Vec<f32>,
    labels: Vec<u32>,
    ids: Vec<i64>,
}

struct FittedStack<'p> {
    regression: &'p Stacking,
    parts: &'p [StackPart],
    width: usize,
}

impl Fitted for FittedStack<'_> {
    type Desk = ();
    fn desk(&self) {}
    fn margins(&self, (): &mut (), part: usize, row: usize, to: &mut [f32]) {
        let Some(part) = self.parts.get(part) else { return };
        let inputs = part.inputs.get(row * self.width..(row + 1) * self.width);
        self.regression.margins(inputs.unwrap_or_default(), to);
    }
}

/// Fits the run.
pub fn run(stage: &Stage) -> Result<String> {
    let options: Options = stage.options()?;
    let Some(first) = options.members.first() else {
        return Err(Failure::usage(
            "the stack has no members",
            format_args!("option `{}.members`", stage.node),
            "name the runs that it combines",
        ));
    };
    let labels = Labels::read(&stage.input(first, Labels::FILE)?)?;
    let mut parts = Vec::new();
    for name in ["train", "valid", "test"] {
        parts.extend(part(stage, &options.members, name, &labels)?);
    }
    let Some(train) = parts.first().filter(|part| part.name == "train") else {
        let path = stage.input(first, margins::FILE)?;
        return Err(Failure::artifact("there are no margins of train", &path));
    };
    let (classes, members) = (labels.len(), options.members.len());
    let regression = Stacking::fit(&train.inputs, &train.labels, classes, members, options.c);
    regression.write(&stage.output("model.safetensors"))?;
    let width = members * classes;
    let description = Description {
        options: &options,
        labels: &labels,
        features: width,
        parameters: regression.parameters(),
        outcome: Outcome { epochs: 0, epoch_kept: 0, stopped_early: false },
        held_out: HeldOut::None,
    };
    let rows: Vec<PartRows<'_>> = parts
        .iter()
        .map(|part| PartRows { name: part.name, labels: &part.labels, ids: &part.ids })
        .collect();
    let fitted = FittedStack { regression: &regression, parts: &parts, width };
    finish(stage, &rows, &fitted, &description)
}

/// The inputs from all members for the part `name`, if there is one.
fn part(
    stage: &Stage,
    members: &[String],
    name: &'static str,
    labels: &Labels,
) -> Result<Option<StackPart>> {
    let classes = labels.len();
    let width = members.len() * classes;
    let mut part: Option<StackPart> = None;
    let mut missing = false;
    for (number, member) in members.iter().enumerate() {
        let path = stage.input(member, margins::FILE)?;
        if Labels::read(&stage.input(member, Labels::FILE)?)? != *labels {
            return Err(Failure::artifact("the run has other labels than the first member", &path));
        }
        let [factors, _] = Calibrator::FILES;
        let calibrator = Calibrator::read(&stage.input(member, factors)?, None, classes)?;
        let Some(PartMargins { mut margins, labels, ids }) = margins::read(&path, name, classes)?
        else {
            // Only a test part may be missing, and then from all members.
            if name == "test" && part.is_none() {
                missing = true;
                continue;
            }
            return Err(Failure::artifact(format_args!("there are no margins of {name}"), &path));
        };
        if missing {
            let what = format_args!("there are margins of {name}, which other members lack");
            return Err(Failure::artifact(what, &path));
        }
        margins.chunks_exact_mut(classes).for_each(|row| calibrator.input(row));
        let part = part.get_or_insert_with(|| StackPart {
            name,
            inputs: vec![0.0; labels.len() * width],
            labels: labels.clone(),
            ids: ids.clone(),
        });
        if part.ids != ids || part.labels != labels {
            let what = format_args!(
                "the rows of {name} are not those of `{}`",
                members.first().map_or("", String::as_str)
            );
            return Err(Failure::artifact(what, &path));
        }
        for (to, from) in part.inputs.chunks_exact_mut(width).zip(margins.chunks_exact(classes)) {
            if let Some(to) = to.get_mut(number * classes..(number + 1) * classes) {
                to.copy_from_slice(from);
            }
        }
    }
    Ok(part)
}
