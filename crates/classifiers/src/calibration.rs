//! How margins become logits.

use std::path::Path;

use failure::{Failure, Result};
use formats::arrays;
use schema::Calibration;

use crate::odds::calibrated_scale;
use crate::stacking::{self, Stacking};

/// Turns the margins of a run into logits: by a factor, or by a regression that was fitted to
/// margins of rows which the run had not seen.
pub struct Calibrator {
    calibration: Calibration,
    regression: Option<Stacking>,
}

/// C of the regression.
const C: f64 = 0.03;

impl Calibrator {
    /// The file of the factors, and that of the regression.
    pub const FILES: [&str; 2] = ["calibration.json", "calibration.safetensors"];

    /// Logits that are the margins themselves.
    pub const fn identity() -> Self {
        Self { calibration: Calibration { scale: 1.0, of_regression: None }, regression: None }
    }

    /// A factor that has the least cross-entropy on these rows.
    pub fn by_scale(margins: &[f32], labels: &[u32]) -> Self {
        let scale = calibrated_scale(margins, labels);
        Self { calibration: Calibration { scale, of_regression: None }, regression: None }
    }

    /// A regression on the margins of train's rows under classifiers that have not seen them, with
    /// a factor that has the least cross-entropy on valid.
    ///
    /// Machines of one class against the rest know nothing of each other: on the real headlines, a
    /// regression on their margins is right for one headline in 200 more.
    pub fn by_regression(
        held_out: (&[f32], &[u32]),
        valid: (&[f32], &[u32]),
        classes: usize,
    ) -> Self {
        let (margins, labels) = held_out;
        let scale = calibrated_scale(margins, labels);
        let mut inputs = margins.to_vec();
        inputs.chunks_exact_mut(classes).for_each(|row| stacking::input(row, scale));
        let regression = Stacking::fit(&inputs, labels, classes, 1, C);
        let mut calibrator = Self {
            calibration: Calibration { scale, of_regression: Some(1.0) },
            regression: Some(regression),
        };
        let (margins, labels) = valid;
        let (mut all, mut memory) = (margins.to_vec(), Vec::new());
        all.chunks_exact_mut(classes).for_each(|row| calibrator.logits(row, &mut memory));
        calibrator.calibration.of_regression = Some(calibrated_scale(&all, labels));
        calibrator
    }

    /// Turns the margins of a row into logits; `memory` is kept from one row to the next.
    pub fn logits(&self, margins: &mut [f32], memory: &mut Vec<f32>) {
        let Calibration { scale, of_regression } = self.calibration;
        let mut factor = scale;
        if let (Some(regression), Some(of_regression)) = (&self.regression, of_regression) {
            memory.clear();
            memory.extend_from_slice(margins);
            stacking::input(memory, scale);
            regression.margins(memory, margins);
            factor = of_regression;
        }
        for logit in margins {
            *logit *= factor;
        }
    }

    /// Turns the margins of a row into inputs of a stack.
    pub fn input(&self, margins: &mut [f32]) {
        stacking::input(margins, self.calibration.scale);
    }

    /// Writes the files into `folder`.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let [json, regression] = Self::FILES.map(|file| folder.join(file));
        let text = serde_json::to_string_pretty(&self.calibration)
            .map_err(|e| Failure::failed(e, json.display(), "this is a bug; please report it"))?;
        std::fs::write(&json, text + "\n").map_err(|e| Failure::io("write", &json, &e))?;
        match &self.regression {
            Some(fitted) => fitted.write(&regression),
            // `report` reads the file of every linear run.
            None => arrays::write(&regression, [], None),
        }
    }

    /// Reads the factors at `path`; `regression` is the path of the regression, if its logits are
    /// wanted, and not only the inputs of a stack.
    pub fn read(path: &Path, regression: Option<&Path>, classes: usize) -> Result<Self> {
        let calibration: Calibration = schema::read_json(path)?;
        let regression = regression.filter(|_| calibration.of_regression.is_some());
        let regression = regression.map(|path| Stacking::read(path, classes, 1)).transpose()?;
        Self::new(calibration, regression).map_err(|factor| {
            let what = format_args!("the factor {factor} is not a positive number");
            Failure::artifact(what, path)
        })
    }

    /// With these factors and, if it is there, this regression.
    ///
    /// # Errors
    /// A factor that is not a positive number.
    pub fn new(
        calibration: Calibration,
        regression: Option<Stacking>,
    ) -> std::result::Result<Self, f32> {
        let Calibration { scale, of_regression } = calibration;
        let is_wrong = |factor: &f32| !(factor.is_finite() && *factor > 0.0);
        match [Some(scale), of_regression].into_iter().flatten().find(is_wrong) {
            Some(factor) => Err(factor),
            None => Ok(Self { calibration, regression }),
        }
    }

    /// The factors, and the regression.
    pub const fn parts(&self) -> (Calibration, Option<&Stacking>) {
        (self.calibration, self.regression.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Margins of three classes, the second of which are always too low.
    fn margins() -> (Vec<f32>, Vec<u32>) {
        let labels: Vec<u32> = (0..60).map(|i| i % 3).collect();
        let row = |(i, &label): (usize, &u32)| {
            (0..3_u32).map(move |class| {
                let noise = ((i * 7 + class as usize * 5) % 11) as f32 / 11.0;
                let own = if class == label { 1.0 } else { -1.0 };
                own + noise - if class == 1 { 1.5 } else { 0.0 }
            })
        };
        (labels.iter().enumerate().flat_map(row).collect(), labels)
    }

    #[test]
    fn a_regression_makes_up_for_a_class_whose_margins_are_too_low() {
        let (margins, labels) = margins();
        let right = |calibrator: &Calibrator| {
            let mut memory = Vec::new();
            let rows = margins.chunks_exact(3).zip(&labels);
            rows.filter(|(row, label)| {
                let mut row = row.to_vec();
                calibrator.logits(&mut row, &mut memory);
                kernels::odds::largest(&row) == **label as usize
            })
            .count()
        };
        let scaled = Calibrator::by_scale(&margins, &labels);
        let fitted = Calibrator::by_regression((&margins, &labels), (&margins, &labels), 3);
        assert!(right(&fitted) > right(&scaled), "{} {}", right(&fitted), right(&scaled));
        let dir = tempfile::tempdir().expect("a folder");
        fitted.write(dir.path()).expect("writes");
        let [json, arrays] = Calibrator::FILES.map(|file| dir.path().join(file));
        let back = Calibrator::read(&json, Some(&arrays), 3).expect("reads");
        assert_eq!(right(&back), right(&fitted));
        for wrong in ["-1", "0", "-1e-9"] {
            std::fs::write(&json, format!("{{\"scale\": {wrong}}}")).expect("writes");
            let failure = Calibrator::read(&json, None, 3).err().expect("refused");
            assert!(failure.what.contains("is not a positive number"), "{}", failure.what);
        }
    }
}
