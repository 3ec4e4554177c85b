//! Arrays of other programs' files, whose numbers may be narrower or wider than ours.

use failure::Result;
use safetensors::Dtype;

use super::Arrays;

/// A matrix of another program's file, whose numbers may be narrower than f32.
pub struct Matrix<'a> {
    dtype: Dtype,
    columns: usize,
    bytes: &'a [u8],
}

impl Matrix<'_> {
    /// Numbers in a row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Puts a row's numbers into `row`; `false` if there is no such row.
    pub fn row(&self, at: usize, row: &mut Vec<f32>) -> bool {
        row.clear();
        let length = self.columns * self.dtype.bitsize() / 8;
        let bytes = at
            .checked_mul(length)
            .and_then(|start| self.bytes.get(start..start.checked_add(length)?));
        bytes.is_some_and(|bytes| numbers(self.dtype, bytes, row))
    }
}

/// Adds numbers of this type to `to`; `false` if the type is not supported.
#[expect(clippy::cast_possible_truncation, reason = "vectors are f32")]
fn numbers(dtype: Dtype, bytes: &[u8], to: &mut Vec<f32>) -> bool {
    match dtype {
        Dtype::F32 => to.extend(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b))),
        Dtype::F64 => to.extend(bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32)),
        Dtype::F16 => {
            to.extend(bytes.as_chunks().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()));
        }
        Dtype::BF16 => {
            to.extend(bytes.as_chunks().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f32()));
        }
        Dtype::I8 => to.extend(bytes.iter().map(|b| f32::from(b.cast_signed()))),
        _ => return false,
    }
    true
}

impl Arrays {
    /// The matrix `name` of floating-point numbers of any width, or of bytes.
    pub fn matrix(&self, name: &str) -> Result<Matrix<'_>> {
        let tensors = self.parse()?;
        let view = tensors.tensor(name).map_err(|e| self.wrong(e))?;
        let supported = numbers(view.dtype(), &[], &mut Vec::new());
        match view.shape() {
            [_, columns] if supported => {
                Ok(Matrix { dtype: view.dtype(), columns: *columns, bytes: view.data() })
            }
            shape => Err(self.wrong(format_args!(
                "array `{name}` is {:?} {shape:?}, not a matrix of floating-point numbers",
                view.dtype()
            ))),
        }
    }

    /// The values of the vector `name` of floating-point numbers of any width.
    pub fn numbers(&self, name: &str) -> Result<Vec<f32>> {
        let tensors = self.parse()?;
        let view = tensors.tensor(name).map_err(|e| self.wrong(e))?;
        let mut values = Vec::new();
        if numbers(view.dtype(), view.data(), &mut values) {
            return Ok(values);
        }
        Err(self.wrong(format_args!("array `{name}` is {:?}, not numbers", view.dtype())))
    }

    /// The values of the vector `name` of whole numbers of 32 or 64 bits.
    pub fn integers(&self, name: &str) -> Result<Vec<i64>> {
        let tensors = self.parse()?;
        let view = tensors.tensor(name).map_err(|e| self.wrong(e))?;
        match view.dtype() {
            Dtype::I64 => {
                Ok(view.data().as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect())
            }
            Dtype::I32 => {
                let values = view.data().as_chunks().0.iter().map(|b| i32::from_le_bytes(*b));
                Ok(values.map(i64::from).collect())
            }
            other => {
                Err(self.wrong(format_args!("array `{name}` is {other:?}, not whole numbers")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrower_numbers_become_f32() {
        // numpy: np.array([1.5, -2, 0.1], t).tobytes() for t in float16, float64; bfloat16 is the
        // upper half of float32
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("x");
        let cases: [(&str, Vec<u8>, [f32; 3]); 3] = [
            ("F16", vec![0x00, 0x3e, 0x00, 0xc0, 0x66, 0x2e], [1.5, -2.0, 0.099_975_586]),
            ("BF16", vec![0xc0, 0x3f, 0x00, 0xc0, 0xcd, 0x3d], [1.5, -2.0, 0.100_097_656]),
            (
                "F64",
                [1.5_f64, -2.0, 0.1].iter().flat_map(|x| x.to_le_bytes()).collect(),
                [1.5, -2.0, 0.1],
            ),
        ];
        for (dtype, data, want) in cases {
            let end = data.len();
            let header =
                format!(r#"{{"E":{{"dtype":"{dtype}","shape":[1,3],"data_offsets":[0,{end}]}}}}"#);
            let bytes =
                [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat();
            std::fs::write(&path, bytes).expect("writes");
            let arrays = Arrays::map(&path).expect("maps");
            let matrix = arrays.matrix("E").expect("a matrix");
            let mut row = Vec::new();
            assert!(matrix.row(0, &mut row) && row == want, "{dtype}: {row:?}");
            assert!(!matrix.row(1, &mut row));
            assert!(arrays.integers("E").unwrap_err().what.contains("not whole numbers"));
        }
    }
}
