//! The feature matrices and labels of the three parts, checked and on the device.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use candle_core::{Device, Tensor};
use failure::{Failure, Result};
use formats::Arrays;
use formats::arrays::Values;
use nets::Rows;
use schema::Labels;
use stage::Stage;

use crate::device;

/// The rows of one part: train, valid or test.
pub struct Part {
    /// The features, row after row.
    values: Values,
    dimension: usize,
    /// The labels on the host, each less than the number of classes.
    pub labels: Vec<u32>,
    /// The headlines' ids.
    pub ids: Vec<i64>,
    device: Device,
    /// Features and labels as tensors on the device, once they have been asked for.
    tensors: OnceLock<(Tensor, Tensor)>,
}

/// The parts.
pub struct Data {
    /// For the gradient.
    pub train: Part,
    /// For early stopping.
    pub valid: Part,
    /// For the final score only. Data that came in parts may have none.
    pub test: Option<Part>,
    /// Components of a feature vector.
    pub dimension: usize,
    /// The names of the classes.
    pub labels: Labels,
}

impl Data {
    /// Reads the files that `tensors` wrote.
    pub fn read(stage: &Stage, device: &Device) -> Result<Self> {
        let labels = Labels::read(&stage.input("tensors", Labels::FILE)?)?;
        let path = |part: &str| stage.input("tensors", &format!("{part}.safetensors"));
        let read = |part: &str, dimension| {
            let part = Part::read(&path(part)?, dimension, labels.len(), device)?;
            Ok((part.len() > 0).then_some(part))
        };
        let needed = |part: &str, dimension| {
            let empty = |path: PathBuf| Failure::artifact("X has no rows", &path);
            read(part, dimension)?.ok_or(()).or_else(|()| Err(empty(path(part)?)))
        };
        let train = needed("train", None)?;
        let dimension = train.dimension;
        let valid = needed("valid", Some(dimension))?;
        let test = read("test", Some(dimension))?;
        Ok(Self { train, valid, test, dimension, labels })
    }

    /// The parts that there are, by name.
    pub fn parts(&self) -> impl Iterator<Item = (&'static str, &Part)> {
        [("train", &self.train), ("valid", &self.valid)]
            .into_iter()
            .chain(self.test.iter().map(|test| ("test", test)))
    }

    /// Copies data to the device before a clock starts: on a GPU all parts, on the CPU only what
    /// candle's automatic differentiation needs.
    pub fn to_device(&self, autograd: bool) -> Result<()> {
        let is_cpu = self.train.device.is_cpu();
        if is_cpu && !autograd {
            return Ok(());
        }
        self.parts().take(if is_cpu { 1 } else { usize::MAX }).try_for_each(|(_, part)| {
            let bytes = part.values.len() * size_of::<f32>();
            let place = format!(
                "a part of {} rows of {} features, {:.1} MB",
                part.len(),
                part.dimension,
                bytes as f64 / 1e6
            );
            part.tensors().map(drop).map_err(|e| device::failed(&e, &place))
        })
    }
}

impl Part {
    fn read(
        path: &Path,
        dimension: Option<usize>,
        classes: usize,
        device: &Device,
    ) -> Result<Self> {
        let wrong = |what: String| Failure::artifact(what, path);
        let (shape, x) = Arrays::map(path)?.into_f32("X", &[None, dimension])?;
        let [n, d] = shape[..] else { return Err(wrong("X is not a matrix".into())) };
        if d == 0 {
            return Err(wrong(format!("X is empty: {n} rows of no columns")));
        }
        if let Some(at) = x.iter().position(|v| !v.is_finite()) {
            return Err(wrong(format!("X is not finite in row {}, column {}", at / d, at % d)));
        }
        let arrays = Arrays::map(path)?;
        let ids = arrays.i64("id", &[Some(n)])?;
        let y = arrays.i64("y", &[Some(n)])?;
        let label = |(row, &y): (usize, &i64)| {
            let label = u32::try_from(y).ok().filter(|&y| (y as usize) < classes);
            label.ok_or_else(|| {
                wrong(format!("label {y} in row {row}; labels are 0 to {}", classes - 1))
            })
        };
        let labels = y.iter().enumerate().map(label).collect::<Result<Vec<u32>>>()?;
        Ok(Self {
            values: x,
            dimension: d,
            labels,
            ids,
            device: device.clone(),
            tensors: OnceLock::new(),
        })
    }

    /// A part that consists of these rows.
    #[cfg(test)]
    pub fn of(values: Vec<f32>, dimension: usize, labels: Vec<u32>) -> Self {
        let tensors = OnceLock::new();
        Self {
            values: values.into(),
            dimension,
            labels,
            ids: Vec::new(),
            device: Device::Cpu,
            tensors,
        }
    }

    #[cfg(feature = "cuda")]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The features on the host, row after row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// X, f32 \[n, d\], and y, u32 \[n\], on the device. They are copies, which training by hand on
    /// the CPU does not need.
    pub fn tensors(&self) -> candle_core::Result<&(Tensor, Tensor)> {
        if self.tensors.get().is_none() {
            // Another thread's tensors are as good. On a GPU there is only one thread, since each
            // has a stream of its own there.
            let _ = self.tensors.set(self.first(self.len())?);
        }
        self.tensors.get().ok_or_else(|| candle_core::Error::Msg("the tensors are missing".into()))
    }

    /// The first `n` rows as tensors on the device.
    pub fn first(&self, n: usize) -> candle_core::Result<(Tensor, Tensor)> {
        let n = n.min(self.len());
        let (x, y) = (
            self.values.get(..n * self.dimension).unwrap_or_default(),
            self.labels.get(..n).unwrap_or_default(),
        );
        Ok((
            Tensor::from_slice(x, (n, self.dimension), &self.device)?,
            Tensor::from_slice(y, n, &self.device)?,
        ))
    }

    /// The features in the form that a net on the device takes: values on the CPU, a tensor on a
    /// GPU.
    pub fn rows(&self) -> candle_core::Result<Rows<'_>> {
        if self.device.is_cpu() {
            Ok(Rows::Values(self.values()))
        } else {
            Ok(Rows::Tensor(&self.tensors()?.0))
        }
    }

    /// How many headlines there are.
    pub fn len(&self) -> usize {
        self.labels.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use formats::arrays::{self, Array};

    fn refusal(x: &[f32], d: usize, y: &[i64]) -> String {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("train.safetensors");
        let ids: Vec<i64> = (0..).take(y.len()).collect();
        arrays::write(
            &path,
            [
                ("X", Array::f32(&[x.len() / d, d], x)),
                ("y", Array::i64(y)),
                ("id", Array::i64(&ids)),
            ],
            None,
        )
        .expect("writes");
        Part::read(&path, Some(2), 4, &Device::Cpu).err().map_or_else(String::new, |f| f.what)
    }

    #[test]
    fn wrong_tensors_are_refused_by_name() {
        assert_eq!(refusal(&[1.0, 2.0, 3.0, 4.0], 2, &[0, 3]), "");
        assert_eq!(
            refusal(&[1.0, 2.0, 3.0, 4.0], 2, &[0, 4]),
            "label 4 in row 1; labels are 0 to 3"
        );
        assert_eq!(
            refusal(&[1.0, 2.0, 3.0, 4.0], 2, &[0, -1]),
            "label -1 in row 1; labels are 0 to 3"
        );
        assert_eq!(refusal(&[1.0, f32::NAN], 2, &[0]), "X is not finite in row 0, column 1");
        assert_eq!(refusal(&[1.0, 2.0, 3.0], 3, &[0]), "array `X` is F32 [1, 3], not F32 [n, 2]");
        assert_eq!(refusal(&[1.0, 2.0, 3.0, 4.0], 2, &[0]), "array `id` is I64 [1], not I64 [2]");
        assert_eq!(refusal(&[], 2, &[]), "");
    }
}
