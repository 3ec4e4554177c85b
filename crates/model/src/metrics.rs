//! How good a model is on labelled texts.

use std::collections::BTreeMap;

use comparison::Calibration;
use kernels::odds::largest;

/// Counts answers.
pub struct Tally {
    classes: usize,
    /// Answers by their true and their predicted class.
    confusion: BTreeMap<(usize, usize), u64>,
    /// Rows without an answer by their class.
    unanswered: Vec<u64>,
    loss: f64,
    calibration: Calibration,
}

/// The figures of a class.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassMetrics {
    /// Rows of the class.
    pub support: u64,
    /// The share of its predictions that are right.
    pub precision: f64,
    /// The share of its rows that are predicted; a row without an answer is not.
    pub recall: f64,
    /// The harmonic mean of both.
    pub f1: f64,
}

/// The figures of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Metrics {
    /// Rows.
    pub rows: u64,
    /// Rows for which there was an answer.
    pub answered: u64,
    /// Right answers.
    pub right: u64,
    /// The share of right answers among the rows; a row without an answer is not right.
    pub accuracy: f64,
    /// The share of right answers among the answers.
    pub accuracy_of_answers: f64,
    /// The mean cross-entropy, in nats, of all rows.
    pub loss: f64,
    /// The mean of the classes' F1.
    pub macro_f1: f64,
    /// The expected calibration error.
    pub calibration_error: f64,
    /// The figures of each class, in label order.
    pub classes: Vec<ClassMetrics>,
    /// Answers by their true and their predicted class.
    pub confusion: BTreeMap<(usize, usize), u64>,
}

impl Tally {
    /// For so many classes.
    pub fn new(classes: usize) -> Self {
        let confusion = BTreeMap::new();
        let unanswered = vec![0; classes];
        Self { classes, confusion, unanswered, loss: 0.0, calibration: Calibration::default() }
    }

    /// Adds a row with these probabilities and this label. It has no answer if nothing of it is known,
    /// or if the largest probability is below `least`.
    pub fn add(&mut self, probabilities: &[f32], is_known: bool, label: usize, least: f32) {
        let predicted = largest(probabilities);
        let p = probabilities.get(predicted).copied().unwrap_or_default();
        let own = probabilities.get(label).copied().unwrap_or_default();
        self.loss -= f64::from(own.max(f32::MIN_POSITIVE)).ln();
        if !is_known || p < least {
            if let Some(count) = self.unanswered.get_mut(label) {
                *count += 1;
            }
            return;
        }
        *self.confusion.entry((label, predicted)).or_default() += 1;
        self.calibration.add(p, predicted == label);
    }

    /// The figures.
    pub fn finish(self) -> Metrics {
        let Self { classes, confusion, unanswered, loss, mut calibration } = self;
        calibration.finish();
        let share = |part: u64, of: u64| if of == 0 { 0.0 } else { part as f64 / of as f64 };
        let (mut support, mut predicted) = (unanswered.clone(), vec![0; classes]);
        for (&(of, as_class), count) in &confusion {
            for (all, class) in [(&mut support, of), (&mut predicted, as_class)] {
                if let Some(sum) = all.get_mut(class) {
                    *sum += count;
                }
            }
        }
        let hits = |class: usize| confusion.get(&(class, class)).copied().unwrap_or_default();
        let of_classes: Vec<ClassMetrics> = support
            .into_iter()
            .zip(predicted)
            .enumerate()
            .map(|(class, (support, predicted))| ClassMetrics {
                support,
                precision: share(hits(class), predicted),
                recall: share(hits(class), support),
                f1: share(2 * hits(class), support + predicted),
            })
            .collect();
        let answered: u64 = confusion.values().sum();
        let right: u64 = (0..classes).map(hits).sum();
        let rows = answered + unanswered.iter().sum::<u64>();
        Metrics {
            rows,
            answered,
            right,
            accuracy: share(right, rows),
            accuracy_of_answers: share(right, answered),
            loss: if rows == 0 { 0.0 } else { loss / rows as f64 },
            macro_f1: of_classes.iter().map(|of| of.f1).sum::<f64>() / classes.max(1) as f64,
            calibration_error: calibration.error,
            classes: of_classes,
            confusion,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_scikit_learn_s() {
        // scikit-learn 1.9: y = [0, 0, 1, 1, 2], p = predicted [0, 1, 1, 1, 0]:
        // precision_recall_fscore_support(y, p, zero_division=0), f1_score(average="macro"),
        // log_loss
        let rows: [([f32; 3], usize); 5] = [
            ([0.5, 0.25, 0.25], 0),
            ([0.25, 0.5, 0.25], 0),
            ([0.25, 0.5, 0.25], 1),
            ([0.125, 0.75, 0.125], 1),
            ([0.5, 0.25, 0.25], 2),
        ];
        let tally = |least| {
            let mut tally = Tally::new(3);
            for (p, label) in &rows {
                tally.add(p, true, *label, least);
            }
            tally.finish()
        };
        let all = tally(0.0);
        let near = |a: f64, b: f64| (a - b).abs() < 1e-6;
        assert_eq!((all.rows, all.answered, all.right), (5, 5, 3));
        assert!(near(all.accuracy, 0.6) && near(all.macro_f1, (0.5 + 0.8) / 3.0), "{all:?}");
        let class = all.classes[1];
        assert!(near(class.precision, 2.0 / 3.0) && class.recall == 1.0 && near(class.f1, 0.8));
        assert_eq!(
            all.classes[2],
            ClassMetrics { support: 1, precision: 0.0, recall: 0.0, f1: 0.0 }
        );
        let loss = (2.0 * 2.0_f64.ln() + 2.0 * 4.0_f64.ln() - 0.75_f64.ln()) / 5.0;
        assert!(near(all.loss, loss), "{}", all.loss);
        // Four answers of probability 0.5, two of them right, and one of 0.75 that is right.
        assert!(near(all.calibration_error, 0.25 / 5.0), "{}", all.calibration_error);
        let sure = tally(0.6);
        assert_eq!((sure.rows, sure.answered, sure.accuracy), (5, 1, 0.2));
        assert_eq!(sure.accuracy_of_answers, 1.0);
        assert_eq!((sure.classes[0].support, sure.classes[1].recall), (2, 0.5));
        let mut unknown = Tally::new(2);
        unknown.add(&[0.9, 0.1], false, 0, 0.0);
        let unknown = unknown.finish();
        assert_eq!((unknown.rows, unknown.answered, unknown.classes[0].support), (1, 0, 1));
    }
}
