//! The threads that read requests and write answers.
//!
//! Each has a runtime of its own and its share of the connections, so that no request changes threads.
//! Texts that take little time are answered there, too: a task that they wake runs after the
//! connections that were ready, and answers together what these have read.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use failure::{Failure, Result};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use super::jobs::Job;
use super::metrics::OpenConnection;
use super::models::Slot;
use super::routes::Counted;
use super::stream::Impatient;

/// Texts that are answered before connections are served again.
const AT_ONCE: usize = 32;

/// A connection, with its place among those that may be open.
pub struct Connection {
    pub stream: TcpStream,
    pub place: (Option<OwnedSemaphorePermit>, OpenConnection),
}

/// The threads.
pub struct Workers {
    threads: Vec<UnboundedSender<Connection>>,
    next: usize,
    /// Gives nothing more when all threads have ended.
    ended: UnboundedReceiver<()>,
}

thread_local! {
    /// The queues of this thread, one for each model.
    static HERE: RefCell<Vec<UnboundedSender<Job>>> = const { RefCell::new(Vec::new()) };
}

/// Has a job answered by this thread. Gives it back if this is none of the workers.
pub fn answer_here(model: usize, job: Job) -> std::result::Result<(), Job> {
    HERE.with_borrow(|queues| match queues.get(model) {
        Some(queue) => queue.send(job).map_err(|back| back.0),
        None => Err(job),
    })
}

impl Workers {
    /// Starts `count` threads.
    pub fn start(
        count: usize,
        app: &Counted,
        slots: &[Arc<Slot>],
        patience: Duration,
    ) -> Result<Self> {
        let (alive, ended) = mpsc::unbounded_channel::<()>();
        let mut threads = Vec::new();
        for number in 0..count {
            let cannot = |e: std::io::Error| {
                let remedy = "allow more threads, or give fewer with --threads";
                Failure::failed(format_args!("cannot start a thread: {e}"), "--threads", remedy)
            };
            let (send, connections) = mpsc::unbounded_channel();
            let (app, slots, alive) = (app.clone(), slots.to_vec(), alive.clone());
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(cannot)?;
            let thread = std::thread::Builder::new().name(format!("serve-{number}"));
            let run = move || {
                runtime.block_on(work(connections, app, slots, patience));
                drop(alive);
            };
            thread.spawn(run).map_err(cannot)?;
            threads.push(send);
        }
        Ok(Self { threads, next: 0, ended })
    }

    /// Gives a connection to the next thread.
    pub fn take(&mut self, connection: Connection) {
        self.next = (self.next + 1) % self.threads.len().max(1);
        if let Some(thread) = self.threads.get(self.next) {
            // A thread ends only after this sender.
            let _ = thread.send(connection);
        }
    }

    /// Waits until open requests are answered; connections without one are closed.
    pub async fn finish(&mut self) {
        self.threads.clear();
        while self.ended.recv().await.is_some() {}
    }
}

/// Serves connections until no more come, and then until they end.
async fn work(
    mut connections: UnboundedReceiver<Connection>,
    app: Counted,
    slots: Vec<Arc<Slot>>,
    patience: Duration,
) {
    for slot in slots {
        let (send, jobs) = mpsc::unbounded_channel();
        HERE.with_borrow_mut(|queues| queues.push(send));
        tokio::spawn(answer_all(slot, jobs));
    }
    let mut http = http1::Builder::new();
    // The time to send a request's head, and to send the next one on an open connection.
    http.timer(TokioTimer::new()).header_read_timeout(patience);
    http.max_buf_size(1 << 16);
    let graceful = GracefulShutdown::new();
    while let Some(Connection { stream, place }) = connections.recv().await {
        let stream = match tokio::net::TcpStream::from_std(stream) {
            Ok(stream) => stream,
            Err(e) => {
                super::log(format_args!("warning: cannot read from a connection: {e}"));
                continue;
            }
        };
        let stream = TokioIo::new(Impatient::new(stream, patience));
        let served = http.serve_connection(stream, app.clone());
        let served = graceful.watch(served);
        tokio::spawn(async move {
            // A client that breaks off is no event.
            let _ = served.await;
            drop(place);
        });
    }
    graceful.shutdown().await;
}

/// Answers the jobs of a model that this thread has read.
async fn answer_all(slot: Arc<Slot>, mut jobs: UnboundedReceiver<Job>) {
    let mut waiting = VecDeque::new();
    loop {
        let mut replaced = std::pin::pin!(slot.replaced.notified());
        // From here on, no replacement is missed.
        replaced.as_mut().enable();
        let generation = slot.generation();
        let model = slot.model();
        let mut desk = model.desk();
        // Jobs that came with a replacement of the model are answered by the new one.
        while slot.generation() == generation {
            if waiting.is_empty() {
                tokio::select! {
                    job = jobs.recv() => match job {
                        Some(job) => waiting.push_back(job),
                        None => return,
                    },
                    () = &mut replaced => break,
                }
                while let Ok(job) = jobs.try_recv() {
                    waiting.push_back(job);
                }
                continue;
            }
            let together = Job::together(&mut waiting, AT_ONCE);
            let is_usable = slot.answer((&model, generation), &mut desk, together);
            // Connections are served before the next texts.
            tokio::task::yield_now().await;
            if !is_usable {
                break;
            }
        }
    }
}
