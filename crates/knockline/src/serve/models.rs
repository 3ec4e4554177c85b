//! Models, and the threads that compute.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

use failure::{Failure, Result};
use model::{Desk, Model};
use tokio::sync::{Notify, oneshot};

use super::jobs::{AT_ONCE, Job, Reply, Room, answer, length};
use super::workers;

/// Texts that take longer are handed to another thread, which takes some 50 µs.
const QUICK: u64 = 200_000;

/// The models by name; the first answers requests that name none.
pub struct Models(Vec<Arc<Slot>>);

/// A model that can be replaced, with its queue.
pub struct Slot {
    /// Its name.
    pub name: String,
    /// Its place among the models.
    pub number: usize,
    path: PathBuf,
    current: Mutex<Arc<Model>>,
    /// Nanoseconds for each unit of [`length`] lately, times 16; 0 before any text has been answered.
    pace: AtomicU64,
    /// Counts replacements.
    generation: AtomicUsize,
    /// Wakes tasks that wait when the model is replaced, so that none keeps the old one.
    pub replaced: Notify,
    room: Arc<Room>,
    jobs: Mutex<VecDeque<Job>>,
    arrived: Condvar,
}

/// Why a job was not taken.
pub struct Full;

impl Models {
    /// Opens models, and starts `threads` threads for each.
    pub fn open(named: &[String], threads: usize, most: usize) -> Result<Self> {
        let mut all: Vec<Arc<Slot>> = Vec::new();
        for text in named {
            let (name, path) = match text.split_once('=') {
                Some((name, path)) if !name.contains('/') => (name.to_owned(), PathBuf::from(path)),
                _ => {
                    let path = PathBuf::from(text);
                    let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
                    (name.unwrap_or_default(), path)
                }
            };
            if all.iter().any(|slot| slot.name == name) {
                let what = format_args!("two models are called `{name}`");
                return Err(Failure::usage(what, "MODEL", "name one with NAME=FILE"));
            }
            let slot = Arc::new(Slot {
                current: Mutex::new(Arc::new(read(&path)?)),
                name,
                number: all.len(),
                path,
                pace: AtomicU64::new(0),
                generation: AtomicUsize::new(0),
                replaced: Notify::new(),
                room: Arc::new(Room::new(most)),
                jobs: Mutex::default(),
                arrived: Condvar::new(),
            });
            for number in 0..threads {
                let slot = Arc::clone(&slot);
                let thread = std::thread::Builder::new().name(format!("answer-{number}"));
                thread.spawn(move || slot.work()).map_err(|e| {
                    let remedy = "allow more threads, or give fewer with --threads";
                    Failure::failed(format_args!("cannot start a thread: {e}"), "--threads", remedy)
                })?;
            }
            all.push(slot);
        }
        Ok(Self(all))
    }

    /// The model of a name, or the first.
    pub fn find(&self, name: Option<&str>) -> Option<&Arc<Slot>> {
        match name {
            None => self.0.first(),
            Some(name) => self.0.iter().find(|slot| slot.name == name),
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Slot>> {
        self.0.iter()
    }
}

/// Opens a model, every byte of which is checked before it answers.
fn read(path: &Path) -> Result<Model> {
    let model = Model::open(path)?;
    model.check()?;
    Ok(model)
}

impl Slot {
    /// The model as it is now.
    pub fn model(&self) -> Arc<Model> {
        Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How often the model was replaced.
    pub fn generation(&self) -> usize {
        self.generation.load(Ordering::Acquire)
    }

    /// Reads the file again. If that fails, the model stays as it is.
    pub fn reload(&self) -> Result<()> {
        let model = Arc::new(read(&self.path)?);
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = model;
        // With the queue's lock, so that no thread is between looking at this and waiting.
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        self.generation.fetch_add(1, Ordering::Release);
        self.pace.store(0, Ordering::Relaxed);
        drop(jobs);
        self.arrived.notify_all();
        self.replaced.notify_waiters();
        Ok(())
    }

    /// How many texts wait.
    pub fn waiting(&self) -> usize {
        self.room.waiting()
    }

    /// Has texts answered: those that take little time by the thread that calls, as soon as it has read
    /// the requests that have arrived, and others by the threads of the queue.
    pub fn ask(
        &self,
        texts: Vec<String>,
        explain: bool,
    ) -> std::result::Result<oneshot::Receiver<Result<Reply>>, Full> {
        let place = self.room.place(&texts).ok_or(Full)?;
        let (reply, receiver) = oneshot::channel();
        let is_quick = !explain && self.is_quick(length(&texts));
        let mut job = Job::new(texts, explain, reply, place);
        if is_quick {
            match workers::answer_here(self.number, job) {
                Ok(()) => return Ok(receiver),
                Err(back) => job = back,
            }
        }
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).push_back(job);
        self.arrived.notify_one();
        Ok(receiver)
    }

    /// Answers jobs for ever.
    fn work(&self) {
        loop {
            let generation = self.generation();
            let model = self.model();
            let mut desk = model.desk();
            while let Some(jobs) = self.next(generation) {
                if !self.answer((&model, generation), &mut desk, jobs) {
                    break;
                }
            }
        }
    }

    /// Answers jobs with the model of a generation. Returns whether the desk can be used again.
    pub fn answer(
        &self,
        (model, generation): (&Arc<Model>, usize),
        desk: &mut Desk<'_>,
        jobs: Vec<Job>,
    ) -> bool {
        let start = Instant::now();
        let Some(length) = answer(model, desk, jobs) else { return false };
        if length > 0 && self.generation() == generation {
            let nanos = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
            let took = nanos.saturating_mul(16) / length as u64;
            // A mean in which each batch weighs 1/16. Threads may overwrite each other's figure.
            let before = self.pace.load(Ordering::Relaxed);
            let mean = if before == 0 { took } else { before - before / 16 + took / 16 };
            self.pace.store(mean.max(1), Ordering::Relaxed);
        }
        true
    }

    /// Whether texts of this length take less time than it is worth to hand them over.
    fn is_quick(&self, length: usize) -> bool {
        let pace = self.pace.load(Ordering::Relaxed);
        pace > 0 && pace.saturating_mul(length as u64) / 16 < QUICK
    }

    /// The next jobs to be answered together; `None` once the model was replaced.
    fn next(&self, generation: usize) -> Option<Vec<Job>> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if self.generation() != generation {
                return None;
            }
            if !jobs.is_empty() {
                return Some(Job::together(&mut jobs, AT_ONCE));
            }
            jobs = self.arrived.wait(jobs).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
