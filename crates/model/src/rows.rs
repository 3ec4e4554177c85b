//! The rows of tokens, in f32, f16 or int8.

use std::ops::Range;
use std::sync::Arc;

use formats::arrays::Values;
use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use half::vec::HalfFloatVecExt;
use serde::{Deserialize, Serialize};

use crate::seal::{Damaged, Seal};

/// The numbers of the large tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// As training made them.
    #[default]
    F32,
    /// IEEE 754's 16 bits.
    F16,
    /// A byte, times a factor that each row has.
    Int8,
}

impl Precision {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::Int8];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Int8 => "int8",
        }
    }
}

/// Numbers that are converted at once.
const AT_ONCE: usize = 64;

/// A table with rows of one width, which is checked against the seal row by row.
pub struct Rows {
    values: RowValues,
    width: usize,
    /// The first byte in the file, and bytes of a row.
    place: usize,
    bytes: usize,
    seal: Arc<Seal>,
}

pub enum RowValues {
    F32(Values<f32>),
    F16(Values<u16>),
    /// With the factor of each row.
    Int8(Values<i8>, Values<f32>),
}

impl Rows {
    /// The table with these values, which begin at a byte of the file.
    pub fn new(values: RowValues, width: usize, place: usize, seal: Arc<Seal>) -> Self {
        let bytes = width
            * match values {
                RowValues::F32(_) => 4,
                RowValues::F16(_) => 2,
                RowValues::Int8(..) => 1,
            };
        Self { values, width, place, bytes, seal }
    }

    /// How many numbers a row has.
    pub const fn width(&self) -> usize {
        self.width
    }

    /// The table, to use many rows.
    #[inline]
    pub fn view(&self) -> RowsView<'_> {
        let values = match &self.values {
            RowValues::F32(values) => ValuesView::F32(values),
            RowValues::F16(values) => ValuesView::F16(values),
            RowValues::Int8(values, factors) => ValuesView::Int8(values, factors),
        };
        let seal = if self.seal.is_whole() { None } else { Some(&*self.seal) };
        RowsView { values, width: self.width, place: self.place, bytes: self.bytes, seal }
    }

    /// Adds `weight` times a row to `to`. A row that does not exist counts as zeros.
    pub fn add(&self, row: usize, weight: f32, to: &mut [f32]) -> Result<(), Damaged> {
        self.view().add(row, weight, to)
    }
}

/// A table's arrays.
#[derive(Clone, Copy)]
pub struct RowsView<'r> {
    values: ValuesView<'r>,
    width: usize,
    place: usize,
    bytes: usize,
    /// Unless the file is known to be whole.
    seal: Option<&'r Seal>,
}

#[derive(Clone, Copy)]
enum ValuesView<'r> {
    F32(&'r [f32]),
    F16(&'r [u16]),
    Int8(&'r [i8], &'r [f32]),
}

impl RowsView<'_> {
    #[inline]
    fn range(&self, row: usize) -> Result<Range<usize>, Damaged> {
        if let Some(seal) = self.seal {
            let start = self.place + row * self.bytes;
            seal.check(start..start + self.bytes)?;
        }
        Ok(row * self.width..(row + 1) * self.width)
    }

    /// Adds `weight` times a row to `to`. A row that does not exist counts as zeros.
    #[inline]
    pub fn add(&self, row: usize, weight: f32, to: &mut [f32]) -> Result<(), Damaged> {
        let range = self.range(row)?;
        match self.values {
            ValuesView::F32(values) => {
                let values = values.get(range).unwrap_or_default();
                // A fixed number of classes is unrolled.
                if let (Ok(to), Ok(values)) =
                    (<&mut [f32; 4]>::try_from(&mut *to), <&[f32; 4]>::try_from(values))
                {
                    to.iter_mut().zip(values).for_each(|(to, value)| *to += weight * value);
                } else {
                    to.iter_mut().zip(values).for_each(|(to, value)| *to += weight * value);
                }
            }
            ValuesView::F16(values) => {
                let mut wide = [0.0; AT_ONCE];
                let parts = values.get(range).unwrap_or_default().chunks(AT_ONCE);
                for (to, part) in to.chunks_mut(AT_ONCE).zip(parts) {
                    let wide = wide.get_mut(..part.len()).unwrap_or_default();
                    part.reinterpret_cast::<f16>().convert_to_f32_slice(wide);
                    to.iter_mut().zip(wide).for_each(|(to, value)| *to += weight * *value);
                }
            }
            ValuesView::Int8(values, factors) => {
                let weight = weight * factors.get(row).copied().unwrap_or_default();
                let values = values.get(range).unwrap_or_default();
                to.iter_mut().zip(values).for_each(|(to, value)| *to += weight * f32::from(*value));
            }
        }
        Ok(())
    }

    /// Prefetches a row.
    #[inline]
    pub fn prefetch(&self, row: usize) {
        let range = row * self.width..(row + 1) * self.width;
        match self.values {
            ValuesView::F32(values) => {
                kernels::simd::prefetch(values.get(range).unwrap_or_default());
            }
            ValuesView::F16(values) => {
                kernels::simd::prefetch(values.get(range).unwrap_or_default());
            }
            ValuesView::Int8(values, _) => {
                kernels::simd::prefetch(values.get(range).unwrap_or_default());
            }
        }
    }
}

/// The numbers as f16, rounded to the nearest.
pub fn to_f16(values: &[f32]) -> Vec<u16> {
    let mut narrow = vec![f16::ZERO; values.len()];
    narrow.convert_from_f32_slice(values);
    narrow.reinterpret_into()
}

/// The numbers of rows as bytes, and the factor of each row: its largest number becomes 127 or −127.
#[expect(clippy::cast_possible_truncation, reason = "between -127 and 127")]
pub fn to_int8(values: &[f32], width: usize) -> (Vec<i8>, Vec<f32>) {
    let (mut narrow, mut factors) = (Vec::with_capacity(values.len()), Vec::new());
    for row in values.chunks(width.max(1)) {
        let largest = row.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        let factor = largest / 127.0;
        let inverse = if factor > 0.0 { 1.0 / factor } else { 0.0 };
        narrow.extend(row.iter().map(|value| (value * inverse).round().clamp(-127.0, 127.0) as i8));
        factors.push(factor);
    }
    (narrow, factors)
}
