//! Answers many texts with several threads.

use std::sync::{Mutex, PoisonError};

use failure::Result;
use kernels::team;

use crate::{Desk, Known, Model};

/// Texts whose tokens stay in a cache until they are used.
const AT_ONCE: usize = 192;

/// A model with what its threads need.
pub struct Engine<'m> {
    model: &'m Model,
    desks: Vec<Mutex<Desk<'m>>>,
}

/// Answers to some texts.
pub struct Answered<'a> {
    /// The number of the first text.
    pub first: usize,
    /// The probabilities, in label order, text after text.
    pub probabilities: &'a [f32],
    /// What is known of each text.
    pub known: &'a [Known],
}

impl<'m> Engine<'m> {
    /// An engine with as many threads as there are processors.
    pub fn new(model: &'m Model) -> Self {
        let desks = (0..team::available()).map(|_| Mutex::new(model.desk())).collect();
        Self { model, desks }
    }

    /// The model.
    pub const fn model(&self) -> &'m Model {
        self.model
    }

    /// The most texts that are answered well together.
    pub fn batch(&self) -> usize {
        // With many labels, the probabilities of fewer texts fit into memory.
        let labels = self.model.labels().len();
        ((1 << 17) / labels).clamp(1, 8192) * self.desks.len()
    }

    /// Answers texts. Each thread puts what `take` makes of its texts into a value that starts as
    /// `T::default()`; the values come back in the order of the texts.
    pub fn answer<S: AsRef<str> + Sync, T: Default + Send>(
        &self,
        texts: &[S],
        take: impl Fn(Answered<'_>, &mut T) -> Result<()> + Sync,
    ) -> Result<Vec<T>> {
        // A few texts are answered sooner than a thread starts.
        let threads = if texts.len() > AT_ONCE { self.desks.len() } else { 1 };
        let answered = team::run(threads, |member| {
            let mut value = T::default();
            let share = member.share(texts.len());
            let Some(desk) = self.desks.get(member.index) else { return Ok(value) };
            let mut desk = desk.lock().unwrap_or_else(PoisonError::into_inner);
            let mut first = share.start;
            for texts in texts.get(share).unwrap_or_default().chunks(AT_ONCE) {
                let (probabilities, known) = desk.probabilities(texts)?;
                take(Answered { first, probabilities, known }, &mut value)?;
                first += texts.len();
            }
            Ok(value)
        });
        answered.into_iter().collect()
    }
}
