//! Texts to answer, and their answers.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use failure::Result;
use model::{Desk, Explanation, Known, Model};
use tokio::sync::oneshot;

/// Texts that are answered at once.
pub const AT_ONCE: usize = 256;
/// A longer text counts as several.
const BYTES_OF_A_TEXT: usize = 1024;

/// Texts to answer.
pub struct Job {
    pub texts: Vec<String>,
    pub explain: bool,
    pub reply: oneshot::Sender<Result<Reply>>,
    /// Counts the texts as waiting; `None` once they are taken from the queue.
    _place: Option<Place>,
}

/// The answer to a job.
pub struct Reply {
    /// The model that gave it.
    pub model: Arc<Model>,
    /// The texts.
    pub texts: Vec<String>,
    /// Probabilities in label order, text after text.
    pub probabilities: Vec<f32>,
    /// What is known of each text.
    pub known: Vec<Known>,
    /// If explanations were wanted: one for each text.
    pub explanations: Vec<Explanation>,
}

/// How many texts wait, and how many may.
pub struct Room {
    waiting: AtomicUsize,
    most: usize,
}

/// The place of a job's texts among those that wait, until it is dropped.
pub struct Place {
    room: Arc<Room>,
    texts: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.waiting.fetch_sub(self.texts, Ordering::Relaxed);
    }
}

impl Room {
    pub const fn new(most: usize) -> Self {
        Self { waiting: AtomicUsize::new(0), most }
    }

    /// How many texts wait.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// A place for texts; `None` if too many wait.
    pub fn place(self: &Arc<Self>, texts: &[String]) -> Option<Place> {
        let texts = texts.iter().map(|text| weight(text)).sum::<usize>().max(1);
        // A request that alone is longer than the queue is taken if nothing waits.
        let with = |waiting: usize| {
            let all = waiting.saturating_add(texts);
            (waiting == 0 || all <= self.most).then_some(all)
        };
        let taken = self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, with);
        taken.ok().map(|_| Place { room: Arc::clone(self), texts })
    }
}

/// How many texts a text counts as.
const fn weight(text: &str) -> usize {
    1 + text.len() / BYTES_OF_A_TEXT
}

/// A measure of how long texts take: their bytes, and something for each text.
pub fn length(texts: &[String]) -> usize {
    texts.iter().map(|text| 16 + text.len()).sum()
}

impl Job {
    pub const fn new(
        texts: Vec<String>,
        explain: bool,
        reply: oneshot::Sender<Result<Reply>>,
        place: Place,
    ) -> Self {
        Self { texts, explain, reply, _place: Some(place) }
    }

    fn weight(&self) -> usize {
        self.texts.iter().map(|text| weight(text)).sum()
    }

    /// The next jobs to be answered together, with at most so many texts if there are several.
    pub fn together(waiting: &mut VecDeque<Self>, most: usize) -> Vec<Self> {
        let mut jobs = Vec::new();
        let mut count = 0;
        while let Some(next) = waiting.front() {
            count += next.weight();
            // An explanation takes long, and no answer waits for it if another thread is free.
            if !jobs.is_empty() && (count > most || next.explain) {
                break;
            }
            let is_alone = next.explain;
            jobs.extend(waiting.pop_front().map(|job| Self { _place: None, ..job }));
            if is_alone {
                break;
            }
        }
        jobs
    }
}

/// Answers jobs, as many texts at once as there are. Returns the length of the texts, without those
/// that were explained or that nobody waits for. `None` if the desk cannot be used again: a fault in
/// the arithmetic takes these jobs' answers, and not the thread.
pub fn answer(model: &Arc<Model>, desk: &mut Desk<'_>, jobs: Vec<Job>) -> Option<usize> {
    let ended = catch_unwind(AssertUnwindSafe(|| answer_all(model, desk, jobs)));
    if ended.is_err() {
        super::log(format_args!("error: a request was not answered; please report this"));
    }
    ended.ok()
}

fn answer_all(model: &Arc<Model>, desk: &mut Desk<'_>, jobs: Vec<Job>) -> usize {
    // A client that has gone needs no answer.
    let (explained, plain): (Vec<Job>, Vec<Job>) =
        jobs.into_iter().filter(|job| !job.reply.is_closed()).partition(|job| job.explain);
    for Job { texts, reply, .. } in explained {
        let wanted = texts.iter().take_while(|_| !reply.is_closed());
        let explanations: Result<Vec<Explanation>> =
            wanted.map(|text| desk.explain(text)).collect();
        let answer = explanations.map(|explanations| Reply {
            model: Arc::clone(model),
            texts,
            probabilities: Vec::new(),
            known: Vec::new(),
            explanations,
        });
        let _ = reply.send(answer);
    }
    if plain.is_empty() {
        return 0;
    }
    let length = plain.iter().map(|job| length(&job.texts)).sum();
    let all: Vec<&str> =
        plain.iter().flat_map(|job| job.texts.iter().map(String::as_str)).collect();
    let classes = model.labels().len();
    // The sums of a long request are kept small.
    let mut probabilities = Vec::with_capacity(all.len() * classes);
    let mut known = Vec::with_capacity(all.len());
    for texts in all.chunks(AT_ONCE) {
        match desk.probabilities(texts) {
            Ok((p, k)) => {
                probabilities.extend_from_slice(p);
                known.extend_from_slice(k);
            }
            Err(failure) => {
                for job in plain {
                    let _ = job.reply.send(Err(failure.clone()));
                }
                return 0;
            }
        }
    }
    let mut start = 0;
    for Job { texts, reply, .. } in plain {
        let end = start + texts.len();
        let part = |width: usize| start * width..end * width;
        let answer = Reply {
            model: Arc::clone(model),
            probabilities: probabilities.get(part(classes)).unwrap_or_default().to_vec(),
            known: known.get(part(1)).unwrap_or_default().to_vec(),
            explanations: Vec::new(),
            texts,
        };
        let _ = reply.send(Ok(answer));
        start = end;
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(room: &Arc<Room>, lengths: &[usize], explain: bool) -> Job {
        let texts: Vec<String> = lengths.iter().map(|length| "x".repeat(*length)).collect();
        let place = room.place(&texts).expect("room");
        Job::new(texts, explain, oneshot::channel().0, place)
    }

    #[test]
    fn long_texts_fill_the_queue_sooner() {
        let room = Arc::new(Room::new(4));
        let first = job(&room, &[3000], false);
        assert_eq!(room.waiting(), 3);
        let second = job(&room, &[5], false);
        assert!(room.place(&["x".to_owned()]).is_none());
        assert_eq!(room.waiting(), 4, "a refused text does not wait");
        // What is taken from the queue waits no longer.
        let taken = Job::together(&mut [first, second].into(), AT_ONCE);
        assert_eq!((taken.len(), room.waiting()), (2, 0));
        let empty = job(&room, &[], false);
        assert_eq!(room.waiting(), 1, "a request without texts waits, too");
        drop(empty);
        // A request that alone is longer than the queue.
        assert_eq!(job(&room, &[1, 1, 1, 1, 1], false).texts.len(), 5);
        assert_eq!(room.waiting(), 0);
    }

    #[test]
    fn jobs_are_answered_together_but_explanations_alone() {
        let room = Arc::new(Room::new(100_000));
        let mut waiting: VecDeque<Job> = [
            job(&room, &[1; 200], false),
            job(&room, &[1; 56], false),
            job(&room, &[300_000], false),
            job(&room, &[1], true),
            job(&room, &[1], false),
        ]
        .into();
        let mut sizes = Vec::new();
        while !waiting.is_empty() {
            sizes.push(Job::together(&mut waiting, AT_ONCE).len());
        }
        assert_eq!(sizes, [2, 1, 1, 1]);
    }
}
