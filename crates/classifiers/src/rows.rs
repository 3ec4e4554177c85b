//! The rows that a classifier learns from.

use formats::arrays::Csr;

/// Dense features, row after row.
#[derive(Clone, Copy)]
pub struct Dense<'d> {
    /// All values.
    pub values: &'d [f32],
    /// How many each row has.
    pub dimension: usize,
}

/// Sparse features, and dense ones beside them.
#[derive(Clone, Copy)]
pub struct Rows<'d> {
    /// The sparse features, and the labels.
    pub sparse: &'d Csr,
    /// The dense features of the same rows; `dimension` is 0 if there are none.
    pub dense: Dense<'d>,
}

impl<'d> Rows<'d> {
    /// Rows of sparse features alone.
    pub const fn sparse(sparse: &'d Csr) -> Self {
        Self { sparse, dense: Dense { values: &[], dimension: 0 } }
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.sparse.rows()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The dense features of a row.
    #[inline]
    pub fn dense(&self, row: usize) -> &'d [f32] {
        let Dense { values, dimension } = self.dense;
        values.get(row * dimension..(row + 1) * dimension).unwrap_or_default()
    }
}
