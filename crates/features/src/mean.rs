//! The mean of a headline's word vectors.

/// Writes the mean of the `vectors` (each as long as `out`) into `out` and returns how many
/// there were; with none, `out` is all zeros.
///
/// Sums in f32 from first to last and divides once, as numpy's `sum(vectors) / len(vectors)`
/// does, so that the features agree with the Python answers' bit for bit.
pub fn mean_into<'a>(vectors: impl Iterator<Item = &'a [f32]>, out: &mut [f32]) -> usize {
    out.fill(0.0);
    let mut count = 0_usize;
    for vector in vectors {
        for (sum, x) in out.iter_mut().zip(vector) {
            *sum += x;
        }
        count += 1;
    }
    if count > 0 {
        let divisor = count as f32;
        for sum in out.iter_mut() {
            *sum /= divisor;
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_numpy_s() {
        // numpy 2: (np.float32([0.1, 1e8]) + np.float32([0.2, 1]) + np.float32([0.4, -1e8])) / 3
        let rows: [&[f32]; 3] = [&[0.1, 1e8], &[0.2, 1.0], &[0.4, -1e8]];
        let mut out = [0.0; 2];
        assert_eq!(mean_into(rows.into_iter(), &mut out), 3);
        assert_eq!(out.map(f32::to_bits), [0.233_333_35_f32.to_bits(), 0.0_f32.to_bits()]);
    }

    #[test]
    fn no_vector_gives_zeros() {
        let mut out = [7.0; 3];
        assert_eq!(mean_into(std::iter::empty(), &mut out), 0);
        assert_eq!(out, [0.0; 3]);
    }
}
