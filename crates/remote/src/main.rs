//! The program that uses the remote: xtask writes requests to its stdin and reads replies from its
//! stdout, see [`cache::wire`].

use std::fs::File;
use std::io::{BufRead, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cache::Manifest;
use cache::wire::{Ask, Reply};
use clap::Parser;
use failure::{Exit, Failure};
use remote::{RemoteError, RemoteStore, shown};
use tokio::runtime::{Builder, Runtime};

/// Share results with other machines; run by `cargo xtask`
#[derive(Parser)]
#[command(name = "remote", max_term_width = 100)]
struct RemoteCli {
    /// The lock that the program holds while it runs
    #[arg(long, hide = true)]
    stage_lock: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&RemoteCli::parse()) {
        Ok(()) => Exit::Done.into(),
        Err(failure) => {
            say(&Reply::Failed {
                what: format!("{} ({})", failure.what, failure.place),
                push: false,
                over: true,
            });
            failure.exit.into()
        }
    }
}

fn run(cli: &RemoteCli) -> failure::Result<()> {
    // The program of a killed run may still be writing, and the next run must not use the same
    // files until it has ended.
    let _lock = cli.stage_lock.as_ref().map(|path| {
        File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .and_then(|file| file.lock_shared().map(|()| file))
    });
    let asks = asks();
    let first = asks.recv();
    if let Ok(Ok(Ask::File { url, to, timeout })) = &first {
        return fetch_file(url, to, *timeout);
    }
    let Ok(Ok(Ask::Open { remote, read_only, timeout })) = first else {
        return Err(Failure::usage(
            "this program has to be run by xtask",
            "stdin",
            "use `cargo xtask cache push` or `pull`",
        ));
    };
    let timeout = seconds(timeout)?;
    let place = Arc::new(RemoteStore::open(&remote, read_only, timeout)?);
    let runtime = Arc::new(runtime()?);
    say(&Reply::Ready { name: shown(&remote), read_only: place.read_only });
    let (to_push, queue) = channel();
    let pusher = {
        let (place, runtime) = (Arc::clone(&place), Arc::clone(&runtime));
        std::thread::spawn(move || push_all(&place, &runtime, &queue))
    };
    for ask in asks {
        let reply = match ask {
            Ok(Ask::Manifest { node, key }) => match runtime.block_on(place.find(&node, &key)) {
                Ok(manifest) => {
                    text(manifest.as_ref()).map(|manifest| Reply::Manifest { manifest })
                }
                Err(error) => Err(error),
            },
            Ok(Ask::Fetch { manifest, only, into }) => {
                let last = Mutex::new(Instant::now());
                let fetch = |m: Manifest| {
                    runtime.block_on(place.fetch(&m, &only, &into, |done| at(&last, done)))
                };
                parse(&manifest).and_then(fetch).map(|()| Reply::Fetched)
            }
            Ok(Ask::Push { manifest, replace, folder }) => {
                let _ = to_push.send((manifest, replace, folder));
                continue;
            }
            Ok(Ask::Finish) => {
                drop(to_push);
                let _ = pusher.join();
                return Ok(());
            }
            Ok(Ask::Open { .. } | Ask::File { .. }) => {
                Err(RemoteError::Store("the remote is already open".to_owned()))
            }
            Err(e) => Err(RemoteError::Store(format!("cannot parse the request of xtask: {e}"))),
        };
        say(&reply.unwrap_or_else(|error| Reply::Failed {
            what: error.to_string(),
            push: false,
            over: error.is_over(),
        }));
    }
    Ok(())
}

fn seconds(timeout: f64) -> failure::Result<Duration> {
    Duration::try_from_secs_f64(timeout)
        .map_err(|e| Failure::usage(e, "option `cache.timeout`", "give a number of seconds"))
}

fn runtime() -> failure::Result<Runtime> {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(|e| {
        Failure::failed(e, "the remote's program", "free some memory, or end other processes")
    })
}

/// Fetches one file, a source of the pipeline.
fn fetch_file(url: &str, to: &Path, timeout: f64) -> failure::Result<()> {
    let place = RemoteStore::open(url, true, seconds(timeout)?)?;
    let last = Mutex::new(Instant::now());
    let fetched = runtime()?.block_on(place.fetch_file(to, |done| at(&last, done)));
    say(&match fetched {
        Ok(()) => Reply::Fetched,
        Err(error) => Reply::Failed { what: error.to_string(), push: false, over: true },
    });
    Ok(())
}

/// The requests of xtask. When its end of the pipe closes, xtask has ended, and nobody waits for
/// the rest.
fn asks() -> Receiver<serde_json::Result<Ask>> {
    let (sender, asks) = channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            // Reading continues after the last request: until the pipe closes, xtask waits for the
            // pushes.
            let _ = sender.send(serde_json::from_str(&line));
        }
        std::process::exit(Exit::Failed as i32);
    });
    asks
}

/// Reports the progress of a fetch, at most ten times a second.
fn at(last: &Mutex<Instant>, done: u64) {
    let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
    if last.elapsed() > Duration::from_millis(100) {
        *last = Instant::now();
        say(&Reply::At { done });
    }
}

/// Pushes one result after the other, until an error after which the remote must not be used.
fn push_all(place: &RemoteStore, runtime: &Runtime, queue: &Receiver<(String, bool, PathBuf)>) {
    for (manifest, replace, folder) in queue {
        let reply = match push(place, runtime, &manifest, replace, &folder) {
            Ok(reply) => reply,
            Err(error) => {
                Reply::Failed { what: error.to_string(), push: true, over: error.is_over() }
            }
        };
        say(&reply);
        if matches!(reply, Reply::Failed { over: true, .. }) {
            return;
        }
    }
}

fn push(
    place: &RemoteStore,
    runtime: &Runtime,
    manifest: &str,
    replace: bool,
    folder: &Path,
) -> Result<Reply, RemoteError> {
    let manifest = parse(manifest)?;
    let sent = runtime.block_on(place.push(&manifest, replace, folder))?;
    Ok(Reply::Pushed { node: manifest.node, key: manifest.key, sent })
}

fn parse(manifest: &str) -> Result<Manifest, RemoteError> {
    Manifest::parse(manifest.as_bytes(), "xtask's request")
        .map_err(|failure| RemoteError::Local(failure.to_string()))
}

fn text(manifest: Option<&Manifest>) -> Result<Option<String>, RemoteError> {
    let bytes = manifest
        .map(Manifest::to_bytes)
        .transpose()
        .map_err(|failure| RemoteError::Local(failure.to_string()))?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

fn say(reply: &Reply) {
    let line = serde_json::to_string(reply).unwrap_or_default();
    // If the pipe is closed, nobody wants the reply.
    let _ = writeln!(std::io::stdout(), "{line}");
}
