//! Early stopping.

use serde::{Deserialize, Serialize};

/// Stops when the validation loss has not fallen for `patience` epochs in a row. As in the
/// published answer, an epoch is compared with the one before it, not with the best.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stopping {
    patience: Option<u32>,
    last: Option<f64>,
    in_a_row: u32,
}

impl Stopping {
    /// Never stops without `patience`.
    pub fn new(patience: Option<u32>) -> Self {
        Self { patience, last: None, in_a_row: 0 }
    }

    /// Whether `patience` is used up.
    pub fn is_over(&self) -> bool {
        self.patience.is_some_and(|patience| self.in_a_row >= patience)
    }

    /// Takes an epoch's validation loss, and returns whether to stop after it.
    pub fn stop_after(&mut self, loss: f64) -> bool {
        let fell = self.last.is_none_or(|last| loss < last);
        self.in_a_row = if fell { 0 } else { self.in_a_row + 1 };
        self.last = Some(loss);
        self.is_over()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stops_at(patience: Option<u32>, losses: &[f64]) -> Option<usize> {
        let mut stopping = Stopping::new(patience);
        losses.iter().position(|&loss| stopping.stop_after(loss))
    }

    #[test]
    fn it_stops_after_three_epochs_in_a_row_without_a_fall() {
        assert_eq!(stops_at(Some(3), &[5.0, 4.0, 4.1, 4.2, 4.3, 1.0]), Some(4));
        assert_eq!(stops_at(Some(3), &[5.0, 4.0, 4.1, 4.2, 4.19, 4.3, 4.4, 4.4]), Some(7));
        assert_eq!(stops_at(Some(1), &[5.0, 5.0]), Some(1));
        assert_eq!(stops_at(None, &[1.0, 2.0, 3.0, 4.0, 5.0]), None);
    }
}
