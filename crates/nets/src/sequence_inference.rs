//! A net on sequences by hand, on the CPU.

use std::path::Path;

use candle_core::{Device, Error, Result, Tensor};
use encoders::{Batch, Embeddings, Layout, Pass, Weights};
use failure::Failure;
use formats::Arrays;
use formats::arrays::{Sequences, Values};
use kernels::team;
use schema::{Labels, RunConfig};

use crate::{EMBEDDING, Net, ShapeOptions, file};

/// Sequences whose logits are computed at once.
const ROWS: usize = 128;

/// The matrix of embeddings.
pub struct Table {
    values: Values,
    dimension: usize,
}

impl Table {
    /// A matrix with rows of `dimension` numbers.
    pub fn new(values: Values, dimension: usize) -> Self {
        Self { values, dimension }
    }

    /// All rows, one after the other.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Components of an embedding.
    pub const fn dimension(&self) -> usize {
        self.dimension
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.values.len() / self.dimension.max(1)
    }
}

impl Embeddings for Table {
    #[inline]
    fn row(&self, id: u32) -> &[f32] {
        let start = id as usize * self.dimension;
        self.values.get(start..start + self.dimension).unwrap_or_default()
    }
}

/// The values of tensors, by name, in the arrays of `layout`. A tensor that `find` does not have keeps
/// zeros.
pub fn loaded<'t>(layout: &Layout, find: impl Fn(&str) -> Option<&'t Tensor>) -> Result<Weights> {
    let mut weights = layout.zeros();
    for (name, _) in layout.architecture.tensors() {
        let Some(tensor) = find(&name) else { continue };
        let values: Vec<f32> = tensor.flatten_all()?.to_vec1()?;
        let mut values = values.into_iter();
        layout.each(&name, |array, at| {
            let to = weights.0.get_mut(array).and_then(|array| array.get_mut(at));
            if let (Some(to), Some(value)) = (to, values.next()) {
                *to = value;
            }
        });
    }
    Ok(weights)
}

/// The inverse of [`loaded`]: the values of the tensor `name`.
pub fn stored(layout: &Layout, weights: &Weights, name: &str) -> Vec<f32> {
    let mut values = Vec::new();
    layout.each(name, |array, at| {
        let value = weights.0.get(array).and_then(|array| array.get(at));
        values.push(value.copied().unwrap_or_default());
    });
    values
}

/// A net that is ready for inference.
pub struct SequenceInference {
    net: encoders::Net,
    /// The embeddings, if they were trained.
    own: Option<Table>,
}

impl SequenceInference {
    /// Reads the net in a training run's `folder`: `config.json` describes it, `labels.json` has the
    /// classes' names, and `model.safetensors` the weights.
    pub fn read(folder: &Path) -> failure::Result<Self> {
        let path = folder.join("config.json");
        let config: RunConfig<ShapeOptions> = schema::read_json(&path)?;
        let labels = Labels::read(&folder.join(Labels::FILE))?;
        let model = folder.join("model.safetensors");
        let shapes = Arrays::map(&model)?.shapes()?;
        let tokens = shapes.get(EMBEDDING).and_then(|shape| shape.first()).copied();
        let shape = config.options.of(tokens).map_err(|e| Failure::artifact(e, &path))?;
        if config.options.trains_embeddings() && tokens.is_none() {
            return Err(Failure::artifact(format_args!("there is no `{EMBEDDING}`"), &model));
        }
        let mut net = Net::zeros(shape, config.features, labels.len(), &Device::Cpu)
            .map_err(|e| Failure::artifact(e, &path))?;
        file::read_net(&model, &mut net)?;
        Self::of(&net).map_err(|e| Failure::artifact(e, &path))
    }

    /// Copies the net as it is now; later changes to it are not seen.
    pub fn of(net: &Net) -> Result<Self> {
        let Some(architecture) = net.architecture() else {
            return Err(Error::Msg("this net takes no sequences".into()));
        };
        let layout = Layout::new(architecture);
        let weights =
            loaded(&layout, |name| net.weights.get(name).map(candle_core::Var::as_tensor))?;
        let own = match net.weights.get(EMBEDDING) {
            None => None,
            Some(own) => {
                let values: Vec<f32> = own.to_device(&Device::Cpu)?.flatten_all()?.to_vec1()?;
                Some(Table::new(values.into(), net.dimension))
            }
        };
        Ok(Self { net: encoders::Net { layout, weights }, own })
    }

    /// How many logits a sequence has.
    pub fn classes(&self) -> usize {
        self.net.layout.architecture.classes
    }

    /// Components of an embedding.
    pub fn dimension(&self) -> usize {
        self.net.layout.architecture.dimension
    }

    /// The trained embeddings, if there are some.
    pub const fn table(&self) -> Option<&Table> {
        self.own.as_ref()
    }

    /// Calls `row` with the logits of every sequence, in order.
    pub fn each(&self, sequences: &Sequences, table: &Table, mut row: impl FnMut(&[f32])) {
        let table = self.own.as_ref().unwrap_or(table);
        let starts: Vec<usize> = (0..sequences.rows()).step_by(ROWS).collect();
        let start = || (Batch::default(), Pass::default());
        let make = |(batch, pass): &mut (Batch, Pass), start: &usize| {
            batch.clear();
            for row in *start..sequences.rows().min(start + ROWS) {
                batch.push(sequences.row(row));
            }
            let mut logits = Vec::new();
            self.net.logits(batch, table, pass, 1, &mut logits);
            logits
        };
        let take = |logits: Vec<f32>| {
            logits.chunks_exact(self.classes()).for_each(&mut row);
            Ok::<(), std::convert::Infallible>(())
        };
        let Ok(()) = team::in_order(starts.iter(), start, make, take);
    }

    /// Appends the logits of the sequences of a batch, whose embeddings `table` finds.
    pub fn logits(
        &self,
        batch: &Batch,
        table: &impl Embeddings,
        pass: &mut Pass,
        to: &mut Vec<f32>,
    ) {
        self.net.logits(batch, table, pass, 1, to);
    }
}
