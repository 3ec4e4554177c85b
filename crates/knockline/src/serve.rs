//! `knockline serve`: answers over HTTP, and a page to try the model.
//!
//! Texts that take little time are answered by the threads that serve connections. Others wait in a
//! queue of bounded length, from which the threads that compute take several at a time. What does not
//! fit into the queue is refused at once, with 503. A model is replaced while
//! requests are answered: each is answered by one model, the old or the new one.

mod jobs;
mod metrics;
mod models;
mod problem;
mod routes;
mod service;
mod stream;
mod workers;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use failure::{Failure, Result};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use models::Models;
use routes::Counted;
use service::Service;
use workers::{Connection, Workers};

/// What to serve, and how.
#[derive(clap::Args)]
pub struct ServeArguments {
    /// The model files; NAME=FILE gives a model another name than its file's. Requests that name no
    /// model get the first one
    #[arg(value_name = "MODEL", required = true)]
    models: Vec<String>,
    /// The address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Answer only requests with the token in this file, as `Authorization: Bearer TOKEN`
    #[arg(long, value_name = "PATH")]
    token_file: Option<PathBuf>,
    /// Allow pages of this origin, such as `https://example.org`, to ask
    #[arg(long, value_name = "ORIGIN")]
    cors: Vec<String>,
    /// Answer requests for this host, too, and for no others but localhost; without it, a server
    /// without a token on a loopback address answers only those for localhost
    #[arg(long, value_name = "NAME", value_parser = host)]
    host: Vec<String>,
    /// Threads that serve connections, and threads that compute for each model [default: one per
    /// processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Texts that may wait for an answer, where one of a KiB or more counts as several; more are
    /// refused with 503
    #[arg(long, value_name = "N", default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(1..))]
    queue: u32,
    /// The most texts of a request
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    max_texts: u32,
    /// The most bytes of a request
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20)]
    max_body: usize,
    /// Connections that are open at once; further ones wait
    #[arg(long, value_name = "N", default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(1..))]
    max_connections: u32,
    /// Seconds that a request may take to arrive, and then to be answered
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, value_parser = seconds)]
    timeout: f64,
    /// Seconds that requests have to end after SIGTERM or Ctrl-C
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0, value_parser = seconds)]
    grace: f64,
}

fn host(text: &str) -> std::result::Result<String, String> {
    let is_name = !text.is_empty() && !text.contains([':', '/', ' ', '*']);
    if is_name { Ok(text.to_owned()) } else { Err("give a name without a scheme or a port".into()) }
}

fn seconds(text: &str) -> std::result::Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|s| *s > 0.0 && *s <= 86_400.0);
    number.ok_or_else(|| "give seconds, more than 0 and at most 86400".to_owned())
}

/// Writes a line to stderr. Nobody need read it.
fn log(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The limits of a request.
#[derive(Clone, Copy)]
struct Limits {
    texts: usize,
    body: usize,
    time: Duration,
}

/// Runs the server until it is told to stop.
pub fn run(arguments: &ServeArguments) -> Result<()> {
    let threads = arguments.threads.map_or_else(kernels::team::available, usize::from);
    let models = Models::open(&arguments.models, threads, arguments.queue as usize)?;
    let token = arguments.token_file.as_ref().map(token).transpose()?;
    if token.is_none() && !arguments.listen.ip().is_loopback() {
        log(format_args!(
            "warning: everybody who reaches {} can ask; --token-file asks for a token",
            arguments.listen
        ));
    }
    let limits = Limits {
        texts: arguments.max_texts as usize,
        body: arguments.max_body,
        time: Duration::from_secs_f64(arguments.timeout),
    };
    // A connection needs a descriptor; what the system allows is enough or is said.
    // So does the runtime of each thread, which has three, and a model that is read again.
    let reserved = 64 + 4 * threads as u64;
    let wanted = u64::from(arguments.max_connections) + reserved;
    let allowed = rlimit::increase_nofile_limit(wanted).unwrap_or(1024);
    let connections = arguments.max_connections.min(
        u32::try_from(allowed.saturating_sub(reserved)).unwrap_or(arguments.max_connections).max(1),
    );
    if connections < arguments.max_connections {
        log(format_args!(
            "note: at most {connections} connections at once, for `ulimit -n` is {allowed}"
        ));
    }
    let trusts_all = token.is_none() && arguments.listen.ip().is_loopback();
    let hosts = (trusts_all || !arguments.host.is_empty()).then(|| arguments.host.clone());
    let service = Service::new(models, limits, token, hosts);
    let router = routes::router(&service, &arguments.cors)?;
    let app = Counted::new(router, Arc::clone(&service));
    let workers = Workers::start(threads, &app, &service.slots(), limits.time)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| cannot_serve(arguments, &e))?;
    runtime.block_on(serve(arguments, &service, workers, connections as usize))
}

fn cannot_serve(arguments: &ServeArguments, error: &std::io::Error) -> Failure {
    let remedy = "choose another address with --listen, or port 0 for a free one";
    Failure::failed(format_args!("cannot listen: {error}"), arguments.listen, remedy)
}

/// The token in a file.
fn token(path: &PathBuf) -> Result<String> {
    let text = std::fs::read_to_string(path).map_err(|e| Failure::io("read", path, &e))?;
    let token = text.trim();
    if token.len() < 16 || token.contains(char::is_whitespace) || !token.is_ascii() {
        return Err(Failure::usage(
            "the token is shorter than 16 characters, or has others than visible ASCII ones",
            path.display(),
            "make one: openssl rand -hex 32 > FILE",
        ));
    }
    Ok(token.to_owned())
}

async fn serve(
    arguments: &ServeArguments,
    service: &Arc<Service>,
    mut workers: Workers,
    connections: usize,
) -> Result<()> {
    let cannot = |e: std::io::Error| cannot_serve(arguments, &e);
    let listener = TcpListener::bind(arguments.listen).await.map_err(cannot)?;
    let address = listener.local_addr().map_err(cannot)?;
    // Not tokio's own signals: their feature would have polars, which uses tokio, compiled again.
    let mut signals = Signals::new([SIGHUP, SIGTERM, SIGINT]).map_err(cannot)?;
    let (send, mut signalled) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || signals.forever().try_for_each(|signal| send.send(signal)));
    log(format_args!("listening on http://{address}"));
    let room = Arc::new(Semaphore::new(connections));
    loop {
        let permit = async {
            // It fails only once the semaphore is closed, which nobody does.
            let permit = Arc::clone(&room).acquire_owned().await.ok();
            (permit, listener.accept().await)
        };
        let accepted = tokio::select! {
            accepted = permit => accepted,
            signal = signalled.recv() => {
                if signal != Some(SIGHUP) {
                    break;
                }
                let service = Arc::clone(service);
                tokio::task::spawn_blocking(move || service.reload());
                continue;
            }
        };
        let (permit, stream) = match accepted {
            (permit, Ok((stream, _))) => (permit, stream),
            (_, Err(e)) => {
                // Often a lack of descriptors, which passes.
                log(format_args!("warning: cannot accept a connection: {e}"));
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        // Answers are small, and waiting for more to send would delay them.
        let _ = stream.set_nodelay(true);
        let place = (permit, service.metrics.connection());
        match stream.into_std() {
            Ok(stream) => workers.take(Connection { stream, place }),
            Err(e) => log(format_args!("warning: cannot accept a connection: {e}")),
        }
    }
    drop(listener);
    log(format_args!("stopping: no new connections; open requests are answered"));
    tokio::select! {
        () = workers.finish() => Ok(()),
        _ = signalled.recv() => Err(Failure::failed(
            "a second signal cut off the open requests",
            address,
            "wait until the requests have ended",
        )),
        () = tokio::time::sleep(Duration::from_secs_f64(arguments.grace)) => Err(Failure::failed(
            "some requests did not end in time and were cut off",
            address,
            "give more time with --grace",
        )),
    }
}
