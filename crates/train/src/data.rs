//! The feature matrices and labels of the three parts, checked and on the device.

use std::path::Path;

use artifact::{Failure, Result, Stage};
use candle_core::{Device, Tensor};
use features::Category;
use formats::Arrays;

/// One part.
pub struct Part {
    /// The features, f32 \[n, d\].
    pub x: Tensor,
    /// The labels, u32 \[n\], as candle's loss wants them.
    pub y: Tensor,
    /// The labels on the host, 0 to 3.
    pub labels: Vec<u32>,
    /// The headlines' ids.
    pub ids: Vec<i64>,
}

/// The three parts.
pub struct Data {
    /// For the gradient.
    pub train: Part,
    /// For early stopping.
    pub valid: Part,
    /// For the final figure alone.
    pub test: Part,
    /// Components of a feature vector.
    pub dimension: usize,
}

impl Data {
    /// Reads what `tensors` wrote.
    pub fn read(stage: &Stage, device: &Device) -> Result<Self> {
        let read = |part: &str, dimension| Part::read(&stage.input("tensors", &format!("{part}.safetensors")), dimension, device);
        let (train, dimension) = read("train", None)?;
        let (valid, _) = read("valid", Some(dimension))?;
        let (test, _) = read("test", Some(dimension))?;
        Ok(Self { train, valid, test, dimension })
    }
}

impl Part {
    fn read(path: &Path, dimension: Option<usize>, device: &Device) -> Result<(Self, usize)> {
        let wrong = |what: String| Failure::artifact(what, path);
        let arrays = Arrays::read(path)?;
        let (shape, x) = arrays.f32("X", &[None, dimension])?;
        let [n, d] = shape[..] else { return Err(wrong("X is no matrix".into())) };
        if n == 0 || d == 0 {
            return Err(wrong(format!("X is empty: {n} rows of {d} columns")));
        }
        if let Some(at) = x.iter().position(|v| !v.is_finite()) {
            return Err(wrong(format!("X has no finite number in row {}, column {}", at / d, at % d)));
        }
        let ids = arrays.i64("id", &[Some(n)])?;
        let y = arrays.i64("y", &[Some(n)])?;
        let label = |(row, &y): (usize, &i64)| {
            let label = u32::try_from(y).ok().filter(|&y| (y as usize) < Category::COUNT);
            label.ok_or_else(|| wrong(format!("label {y} in row {row}; labels are 0 to {}", Category::COUNT - 1)))
        };
        let labels = y.iter().enumerate().map(label).collect::<Result<Vec<u32>>>()?;
        let on_device = |e| Failure::failed(format_args!("cannot put X on the device: {e}"), path.display(), "use --device cpu");
        let x = Tensor::from_vec(x, (n, d), device).map_err(on_device)?;
        let y = Tensor::from_slice(&labels, n, device).map_err(on_device)?;
        Ok((Self { x, y, labels, ids }, d))
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
        arrays::write(&path, [("X", Array::f32(&[x.len() / d, d], x)), ("y", Array::i64(y)), ("id", Array::i64(&ids))], None)
            .expect("writes");
        Part::read(&path, Some(2), &Device::Cpu).err().map_or_else(String::new, |f| f.what)
    }

    #[test]
    fn wrong_tensors_are_refused_by_name() {
        assert_eq!(refusal(&[1.0, 2.0, 3.0, 4.0], 2, &[0, 3]), "");
        assert_eq!(refusal(&[1.0, 2.0, 3.0, 4.0], 2, &[0, 4]), "label 4 in row 1; labels are 0 to 3");
        assert_eq!(refusal(&[1.0, 2.0, 3.0, 4.0], 2, &[0, -1]), "label -1 in row 1; labels are 0 to 3");
        assert_eq!(refusal(&[1.0, f32::NAN], 2, &[0]), "X has no finite number in row 0, column 1");
        assert_eq!(refusal(&[1.0, 2.0, 3.0], 3, &[0]), "array `X` is F32 [1, 3], not F32 [n, 2]");
        assert_eq!(refusal(&[1.0, 2.0, 3.0, 4.0], 2, &[0]), "array `id` is I64 [1], not I64 [2]");
        assert_eq!(refusal(&[], 2, &[]), "X is empty: 0 rows of 2 columns");
    }
}
