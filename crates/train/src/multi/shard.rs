//! The multi-layer net's weights in the layout of [`crate::multi::epoch`]: whole, and split into
//! one [`Shard`] per thread.

use std::ops::Range;

use kernels::simd::LANES;
use kernels::team::share;

use crate::multi::update::Weight;

/// The net's weights and statistics.
pub struct Weights {
    pub dimension: usize,
    pub classes: usize,
    pub hidden: usize,
    pub layers: usize,
    pub relu_out: bool,
    /// [dimension, hidden].
    pub fc: Weight,
    pub fc_bias: Weight,
    /// [hidden, hidden].
    pub mid: Weight,
    pub mid_bias: Weight,
    pub scale: Weight,
    pub shift: Weight,
    /// [hidden, classes].
    pub out: Weight,
    pub out_bias: Weight,
    pub running_mean: Vec<f32>,
    pub running_var: Vec<f32>,
}

/// Some of the hidden units, and the weights that lead to them. Other threads read the middle and
/// the last matrix, so these are kept elsewhere.
pub struct Shard {
    pub dimension: usize,
    pub classes: usize,
    pub hidden: usize,
    pub layers: usize,
    pub relu_out: bool,
    /// The shard's units, in whole vectors.
    pub units: Range<usize>,
    /// The units of every shard.
    pub all: Vec<Range<usize>>,
    pub fc: Weight,
    pub fc_bias: Weight,
    pub mid_bias: Weight,
    pub scale: Weight,
    pub shift: Weight,
    /// Every shard has all of it, and changes it in the same way.
    pub out_bias: Weight,
    pub running_mean: Vec<f32>,
    pub running_var: Vec<f32>,
}

/// The width of padded rows of `n` elements.
pub fn padded(n: usize) -> usize {
    n.next_multiple_of(LANES)
}

impl Shard {
    /// How many units the shard has, including padding.
    pub fn width(&self) -> usize {
        self.units.len()
    }

    /// How many of these units are not padding.
    pub fn real(&self, units: &Range<usize>) -> usize {
        units.end.min(self.hidden).saturating_sub(units.start)
    }
}

impl Weights {
    /// Splits the weights into `count` shards, and their parts of the middle and the last matrix.
    pub fn split(&self, count: usize) -> (Vec<Shard>, Vec<Weight>, Vec<Weight>) {
        let width = padded(self.hidden);
        let units = |index: usize| {
            let vectors = share(index, count, width / LANES);
            vectors.start * LANES..vectors.end * LANES
        };
        let all: Vec<Range<usize>> = (0..count).map(units).collect();
        let shard = |units: &Range<usize>| Shard {
            dimension: self.dimension,
            classes: self.classes,
            hidden: self.hidden,
            layers: self.layers,
            relu_out: self.relu_out,
            units: units.clone(),
            all: all.clone(),
            fc: self.fc.columns(width, units),
            fc_bias: self.fc_bias.columns(width, units),
            mid_bias: self.mid_bias.columns(width, units),
            scale: self.scale.columns(width, units),
            shift: self.shift.columns(width, units),
            out_bias: self.out_bias.clone(),
            running_mean: columns(&self.running_mean, width, units),
            running_var: columns(&self.running_var, width, units),
        };
        let mid = all.iter().map(|units| self.mid.columns(width, units)).collect();
        // Whole rows, and so a single range of the matrix, taken as one row.
        let rows = |units: &Range<usize>| {
            let logits = padded(self.classes);
            self.out.columns(width * logits, &(units.start * logits..units.end * logits))
        };
        (all.iter().map(shard).collect(), mid, all.iter().map(rows).collect())
    }

    /// Takes back what [`Weights::split`] has returned.
    pub fn join(&mut self, shards: &[Shard], mid: &[Weight], out: &[Weight]) {
        let width = padded(self.hidden);
        for ((shard, mid), out) in shards.iter().zip(mid).zip(out) {
            let units = &shard.units;
            self.fc.put(width, units, &shard.fc);
            self.fc_bias.put(width, units, &shard.fc_bias);
            self.mid.put(width, units, mid);
            self.mid_bias.put(width, units, &shard.mid_bias);
            self.scale.put(width, units, &shard.scale);
            self.shift.put(width, units, &shard.shift);
            let logits = padded(self.classes);
            self.out.put(width * logits, &(units.start * logits..units.end * logits), out);
            put(&mut self.running_mean, width, units, &shard.running_mean);
            put(&mut self.running_var, width, units, &shard.running_var);
            self.out_bias = shard.out_bias.clone();
        }
    }
}

impl Weight {
    fn columns(&self, width: usize, of: &Range<usize>) -> Self {
        let [first, second] = &self.memory;
        Self {
            value: columns(&self.value, width, of),
            gradient: columns(&self.gradient, width, of),
            memory: [columns(first, width, of), columns(second, width, of)],
        }
    }

    fn put(&mut self, width: usize, at: &Range<usize>, from: &Self) {
        put(&mut self.value, width, at, &from.value);
        for (to, from) in self.memory.iter_mut().zip(&from.memory) {
            put(to, width, at, from);
        }
    }
}

/// These columns of a matrix with rows of `width` elements.
fn columns(matrix: &[f32], width: usize, of: &Range<usize>) -> Vec<f32> {
    matrix
        .chunks_exact(width)
        .flat_map(|row| row.get(of.clone()).unwrap_or_default())
        .copied()
        .collect()
}

fn put(matrix: &mut [f32], width: usize, at: &Range<usize>, from: &[f32]) {
    for (row, from) in matrix.chunks_exact_mut(width).zip(from.chunks_exact(at.len().max(1))) {
        if let Some(to) = row.get_mut(at.clone()) {
            to.copy_from_slice(from);
        }
    }
}
