//! Models, and the threads that compute.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use failure::{Failure, Result};
use model::{Desk, Explanation, Known, Model};
use tokio::sync::oneshot;

/// Texts that a thread answers at once.
const AT_ONCE: usize = 256;

/// The models by name; the first answers requests that name none.
pub struct Models(Vec<Arc<Slot>>);

/// A model that can be replaced, with its queue.
pub struct Slot {
    /// Its name.
    pub name: String,
    path: PathBuf,
    current: Mutex<Arc<Model>>,
    /// Counts replacements.
    generation: AtomicUsize,
    queue: Mutex<Queue>,
    arrived: Condvar,
    most: usize,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    texts: usize,
}

/// Texts to answer.
struct Job {
    texts: Vec<String>,
    explain: bool,
    reply: oneshot::Sender<Result<Reply>>,
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
                path,
                generation: AtomicUsize::new(0),
                queue: Mutex::default(),
                arrived: Condvar::new(),
                most,
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

    /// Reads the file again. If that fails, the model stays as it is.
    pub fn reload(&self) -> Result<()> {
        let model = Arc::new(read(&self.path)?);
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = model;
        // With the queue's lock, so that no thread is between looking at this and waiting.
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        self.generation.fetch_add(1, Ordering::Release);
        drop(queue);
        self.arrived.notify_all();
        Ok(())
    }

    /// How many texts wait.
    pub fn waiting(&self) -> usize {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).texts
    }

    /// Puts texts into the queue.
    pub fn ask(
        &self,
        texts: Vec<String>,
        explain: bool,
    ) -> std::result::Result<oneshot::Receiver<Result<Reply>>, Full> {
        let (reply, receiver) = oneshot::channel();
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        // A request that alone is longer than the queue is taken if nothing waits.
        if queue.texts > 0 && queue.texts + texts.len() > self.most {
            return Err(Full);
        }
        queue.texts += texts.len();
        queue.jobs.push_back(Job { texts, explain, reply });
        drop(queue);
        self.arrived.notify_one();
        Ok(receiver)
    }

    /// Answers jobs for ever.
    fn work(&self) {
        loop {
            let generation = self.generation.load(Ordering::Acquire);
            let model = self.model();
            // A fault in the arithmetic takes one batch's answers, and not the thread.
            let ended = catch_unwind(AssertUnwindSafe(|| {
                let mut desk = model.desk();
                while let Some(jobs) = self.next(generation) {
                    answer(&model, &mut desk, jobs);
                }
            }));
            if ended.is_err() {
                super::log(format_args!("error: a request was not answered; please report this"));
            }
        }
    }

    /// The next jobs to be answered together; `None` once the model was replaced.
    fn next(&self, generation: usize) -> Option<Vec<Job>> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if self.generation.load(Ordering::Acquire) != generation {
                return None;
            }
            if let Some(job) = queue.jobs.pop_front() {
                // An explanation takes long, and no answer waits for it if another thread is free.
                let alone = job.explain;
                let mut count = job.texts.len();
                let mut jobs = vec![job];
                while let Some(next) = queue.jobs.front().filter(|_| !alone) {
                    count += next.texts.len();
                    if count > AT_ONCE || next.explain {
                        break;
                    }
                    jobs.extend(queue.jobs.pop_front());
                }
                queue.texts -= jobs.iter().map(|job| job.texts.len()).sum::<usize>();
                return Some(jobs);
            }
            queue = self.arrived.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Answers jobs, as many texts at once as there are.
fn answer(model: &Arc<Model>, desk: &mut Desk<'_>, jobs: Vec<Job>) {
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
        return;
    }
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
                return;
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
}
