//! The features or sequences of the three parts and their labels, checked and on the device.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use candle_core::{Device, Tensor};
use failure::{Failure, Result};
use formats::Arrays;
use formats::arrays::{Sequences, Values, labels};
use nets::{Rows, SequenceRows, Table};
use schema::Labels;
use stage::Stage;

use crate::device;

/// The rows of one part: train, valid or test. Of features, they may be only some of the part's.
pub struct Part {
    content: Content,
    /// How many rows the part has in all.
    pub all: usize,
    /// The labels on the host, each less than the number of classes.
    pub labels: Vec<u32>,
    /// The headlines' ids.
    pub ids: Vec<i64>,
    device: Device,
    /// Features and labels as tensors on the device, once they have been asked for.
    tensors: OnceLock<(Tensor, Tensor)>,
}

/// What the rows of a part are.
enum Content {
    /// Features, row after row, and where those of the part's rows begin and end among them.
    Features { values: Values, used: Range<usize>, dimension: usize },
    /// Sequences of token ids, and the embeddings that all parts share.
    Sequences(Sequences, Arc<SharedTable>),
}

/// The matrix of embeddings, on the device once it has been asked for.
struct SharedTable {
    table: Table,
    tensor: OnceLock<Tensor>,
}

/// The parts.
pub struct Data {
    /// For the gradient.
    pub train: Part,
    /// For early stopping.
    pub valid: Part,
    /// For the final score only. Data that came in parts may have none.
    pub test: Option<Part>,
    /// Components of a feature vector or of an embedding.
    pub dimension: usize,
    /// The names of the classes.
    pub labels: Labels,
}

impl Data {
    /// Reads the files that `tokens` wrote.
    pub fn read_sequences(stage: &Stage, device: &Device) -> Result<Self> {
        let labels = Labels::read(&stage.input("tokens", Labels::FILE)?)?;
        let path = stage.input("tokens", "embeddings.safetensors")?;
        let (shape, values) = Arrays::map(&path)?.into_f32("E", &[None, None])?;
        let [tokens, dimension] = shape[..] else {
            return Err(Failure::artifact("E is not a matrix", &path));
        };
        if tokens < 2 || dimension == 0 {
            return Err(Failure::artifact(format_args!("E is {tokens}×{dimension}"), &path));
        }
        if let Some(at) = values.iter().position(|x| !x.is_finite()) {
            let (row, column) = (at / dimension, at % dimension);
            let what = format_args!("E is not finite in row {row}, column {column}");
            return Err(Failure::artifact(what, &path));
        }
        if values.iter().take(dimension).any(|x| *x != 0.0) {
            return Err(Failure::artifact("row 0 of E, the padding, is not zeros", &path));
        }
        let table = Table::new(values, dimension);
        let table = Arc::new(SharedTable { table, tensor: OnceLock::new() });
        let read = |part: &str| {
            let path = stage.input("tokens", &format!("{part}.safetensors"))?;
            let mut sequences = Sequences::map(&path, labels.len(), tokens)?;
            let part = Part {
                all: sequences.labels.len(),
                labels: sequences.labels.clone(),
                ids: std::mem::take(&mut sequences.ids),
                content: Content::Sequences(sequences, table.clone()),
                device: device.clone(),
                tensors: OnceLock::new(),
            };
            Ok((path, part))
        };
        let needed = |part: &str| {
            let (path, part) = read(part)?;
            if part.len() > 0 {
                return Ok(part);
            }
            Err(Failure::artifact("there are no rows", &path))
        };
        let (train, valid, (_, test)) = (needed("train")?, needed("valid")?, read("test")?);
        let test = (test.len() > 0).then_some(test);
        Ok(Self { train, valid, test, dimension, labels })
    }

    /// Reads the files that `tensors` wrote.
    pub fn read(stage: &Stage, device: &Device) -> Result<Self> {
        Self::read_rows(stage, device, |_, rows| 0..rows)
    }

    /// How many rows train, valid and test have in these files.
    pub fn rows_in_files(stage: &Stage) -> Result<[usize; 3]> {
        let rows = |part: &str| {
            let path = stage.input("tensors", &format!("{part}.safetensors"))?;
            Arrays::map(&path)?.length("X")
        };
        Ok([rows("train")?, rows("valid")?, rows("test")?])
    }

    /// Reads the rows that `used` returns for a part and its number of rows.
    pub fn read_rows(
        stage: &Stage,
        device: &Device,
        used: impl Fn(&str, usize) -> Range<usize>,
    ) -> Result<Self> {
        let labels = Labels::read(&stage.input("tensors", Labels::FILE)?)?;
        let path = |part: &str| stage.input("tensors", &format!("{part}.safetensors"));
        let read = |part: &str, dimension| {
            let used = |rows| used(part, rows);
            let part = Part::read(&path(part)?, dimension, labels.len(), device, used)?;
            Ok((part.all > 0).then_some(part))
        };
        let needed = |part: &str, dimension| {
            let empty = |path: PathBuf| Failure::artifact("X has no rows", &path);
            read(part, dimension)?.ok_or(()).or_else(|()| Err(empty(path(part)?)))
        };
        let train = needed("train", None)?;
        let dimension = train.dimension();
        let valid = needed("valid", Some(dimension))?;
        let test = read("test", Some(dimension))?;
        Ok(Self { train, valid, test, dimension, labels })
    }

    /// The rows of train, in their order.
    pub fn all_rows(&self) -> Vec<u32> {
        (0..u32::try_from(self.train.len()).unwrap_or(u32::MAX)).collect()
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
            let (bytes, what) = match &part.content {
                Content::Features { used, dimension, .. } => {
                    (used.len(), format!("a part of {} rows of {dimension} features", part.len()))
                }
                Content::Sequences(_, of) => {
                    (of.table.values().len(), "the matrix of embeddings".to_owned())
                }
            };
            let place = format!("{what}, {:.1} MB", (bytes * size_of::<f32>()) as f64 / 1e6);
            part.load().map_err(|e| device::failed(&e, &place))
        })
    }
}

impl Part {
    fn read(
        path: &Path,
        dimension: Option<usize>,
        classes: usize,
        device: &Device,
        used: impl Fn(usize) -> Range<usize>,
    ) -> Result<Self> {
        let wrong = |what: String| Failure::artifact(what, path);
        let (shape, x) = Arrays::map(path)?.into_f32("X", &[None, dimension])?;
        let [n, d] = shape[..] else { return Err(wrong("X is not a matrix".into())) };
        if d == 0 {
            return Err(wrong(format!("X is empty: {n} rows of no columns")));
        }
        // What nobody uses is not read from the disk, either.
        let used = used(n);
        let of_used = x.get(used.start * d..used.end * d).unwrap_or_default();
        if let Some(at) = of_used.iter().position(|v| !v.is_finite()) {
            let at = at + used.start * d;
            return Err(wrong(format!("X is not finite in row {}, column {}", at / d, at % d)));
        }
        let arrays = Arrays::map(path)?;
        let ids = arrays.i64_in("id", n, used.clone())?;
        let y = arrays.i64_in("y", n, used.clone())?;
        let labels = labels(&y, classes, path)?;
        let used = used.start * d..used.end * d;
        Ok(Self {
            content: Content::Features { values: x, used, dimension: d },
            all: n,
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
        let used = 0..values.len();
        Self {
            content: Content::Features { values: values.into(), used, dimension },
            all: labels.len(),
            labels,
            ids: Vec::new(),
            device: Device::Cpu,
            tensors,
        }
    }

    /// A part that consists of these sequences.
    #[cfg(test)]
    pub fn of_sequences(sequences: Sequences, table: Vec<f32>, dimension: usize) -> Self {
        let table = Table::new(table.into(), dimension);
        let shared = Arc::new(SharedTable { table, tensor: OnceLock::new() });
        Self {
            all: sequences.labels.len(),
            labels: sequences.labels.clone(),
            ids: Vec::new(),
            content: Content::Sequences(sequences, shared),
            device: Device::Cpu,
            tensors: OnceLock::new(),
        }
    }

    /// Components of a row of features, or of an embedding.
    pub fn dimension(&self) -> usize {
        match &self.content {
            Content::Features { dimension, .. } => *dimension,
            Content::Sequences(_, of) => of.table.dimension(),
        }
    }

    /// The sequences and the matrix of embeddings, if the rows are sequences.
    pub fn sequences(&self) -> Option<(&Sequences, &Table)> {
        match &self.content {
            Content::Features { .. } => None,
            Content::Sequences(sequences, of) => Some((sequences, &of.table)),
        }
    }

    /// The matrix of embeddings on the device.
    pub fn table(&self) -> candle_core::Result<&Tensor> {
        let Content::Sequences(_, of) = &self.content else {
            return Err(candle_core::Error::Msg("the rows are no sequences".into()));
        };
        if of.tensor.get().is_none() {
            let (values, dimension) = (of.table.values(), of.table.dimension());
            let shape = (values.len() / dimension, dimension);
            let _ = of.tensor.set(Tensor::from_slice(values, shape, &self.device)?);
        }
        of.tensor.get().ok_or_else(|| candle_core::Error::Msg("the tensor is missing".into()))
    }

    /// The number of tokens of a row, or 0 where rows are features.
    pub fn length(&self, row: u32) -> usize {
        self.sequences().map_or(0, |(sequences, _)| sequences.row(row as usize).len())
    }

    /// Copies the rows to the device, or what rows refer to.
    fn load(&self) -> candle_core::Result<()> {
        match self.content {
            Content::Features { .. } => self.tensors().map(drop),
            Content::Sequences(..) => self.table().map(drop),
        }
    }

    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The features on the host, row after row.
    pub fn values(&self) -> &[f32] {
        match &self.content {
            Content::Features { values, used, .. } => values.get(used.clone()).unwrap_or_default(),
            Content::Sequences(..) => &[],
        }
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
        let (n, dimension) = (n.min(self.len()), self.dimension());
        let (x, y) = (
            self.values().get(..n * dimension).unwrap_or_default(),
            self.labels.get(..n).unwrap_or_default(),
        );
        Ok((
            Tensor::from_slice(x, (n, dimension), &self.device)?,
            Tensor::from_slice(y, n, &self.device)?,
        ))
    }

    /// The rows in the form that a net on the device takes: values on the CPU, a tensor on a GPU.
    pub fn rows(&self) -> candle_core::Result<Rows<'_>> {
        if let Some((sequences, table)) = self.sequences() {
            let on_device = if self.device.is_cpu() { None } else { Some(self.table()?) };
            return Ok(Rows::Sequences(SequenceRows { sequences, table, on_device }));
        }
        if self.device.is_cpu() {
            Ok(Rows::Values(self.values()))
        } else {
            Ok(Rows::Tensor(&self.tensors()?.0))
        }
    }

    /// How many rows were read.
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
        Part::read(&path, Some(2), 4, &Device::Cpu, |rows| 0..rows)
            .err()
            .map_or_else(String::new, |f| f.what)
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
