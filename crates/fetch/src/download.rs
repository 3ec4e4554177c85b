//! One download: partial file, resume, retries.

use std::fs::{File, OpenOptions};
use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use failure::{Failure, Result};
use reqwest::blocking::{Client, Response};
use reqwest::header::{
    CONTENT_RANGE, ETAG, HeaderMap, IF_RANGE, LAST_MODIFIED, RANGE, RETRY_AFTER,
};
use reqwest::redirect::Policy;
use reqwest::{StatusCode, Url};
use serde::{Deserialize, Serialize};
use stage::Unit;
use stage::{Event, Progress};

use crate::checksum::{self, Sum};
use crate::{Downloads, Obtained, drive, masquerade};

/// Attempts in a row that bring no new byte before a mirror is given up.
const ATTEMPTS: u32 = 5;
/// A connection that says nothing for this long is dead.
const STALL: Duration = Duration::from_secs(30);
/// No wait between attempts is longer, whatever the server asks for.
const LONGEST_WAIT: Duration = Duration::from_mins(1);
/// Redirects that are followed.
const REDIRECTS: usize = 10;
/// No page that asks for confirmation is longer.
const LONGEST_PAGE: u64 = 1 << 20;
/// What something is, is seen in so many of its first bytes.
const START: u64 = 512;
/// A download whose end is not known stops when the disk has no more room than this.
const RESERVE: u64 = 1 << 26;
/// An attempt that brings fewer new bytes is none that helps.
const SOME: u64 = 1 << 12;

/// What makes a partial file resumable, kept beside it.
#[derive(Default, Serialize, Deserialize)]
struct Resume {
    validator: Option<String>,
}

/// Why a download, or an attempt at it, did not come.
#[derive(Debug)]
pub enum DownloadError {
    /// Worth another attempt, after this wait if the server named one.
    Transient(String, Option<Duration>),
    /// The server asks whether the file is really wanted; this address says yes.
    Confirmation(Url),
    /// What the server gives is not the file: a web page, say.
    Masquerade(&'static str),
    /// It is not to be had from there; what the user can do.
    Refused(String, &'static str),
    /// The disk has too little room: bytes that are to come, and bytes that are free.
    NoRoom(PathBuf, u64, u64),
    /// A file of this machine: what was done to it, and what the system says.
    Io(&'static str, PathBuf, std::io::Error),
}

/// What helps where an address gives nothing.
const OTHER_ADDRESS: &str = "check the address, or add a mirror to the option `source`";

impl DownloadError {
    fn io(doing: &'static str, path: &Path) -> impl Fn(std::io::Error) -> Self {
        move |error| Self::Io(doing, path.to_owned(), error)
    }

    /// For the user; `origin` is where the file was to come from.
    pub fn explain(self, origin: &str) -> Failure {
        match self {
            Self::Transient(what, _) => {
                let remedy = "run the same command again to go on where it stopped, or add a mirror to the option `source`";
                Failure::download(what, origin, remedy)
            }
            Self::Confirmation(page) => Failure::download(
                masquerade::sentence(masquerade::PAGE),
                shown(&page),
                masquerade::REMEDY,
            ),
            Self::Masquerade(what) => {
                Failure::download(masquerade::sentence(what), origin, masquerade::REMEDY)
            }
            Self::Refused(what, remedy) => Failure::download(what, origin, remedy),
            Self::NoRoom(folder, wanted, free) => {
                let mb = |bytes: u64| bytes as f64 / 1e6;
                let what = format!(
                    "{:.1} MB are still to come, and the disk has room for {:.1} MB",
                    mb(wanted),
                    mb(free)
                );
                Failure::download(
                    what,
                    folder.display(),
                    "make room, or let --artifacts name a folder on another disk",
                )
            }
            Self::Io(doing, path, error) => Failure::io(doing, &path, &error),
        }
    }
}

/// Downloads `url` into the downloads' folder unless it is there already.
pub fn download(
    url: &str,
    sha256: Option<&str>,
    downloads: Downloads<'_>,
    progress: &Progress,
) -> Result<Obtained> {
    // What stands behind `?` may be a secret, also where the rest is no URL.
    let public = url.split(['?', '#']).next().unwrap_or_default();
    let parsed = Url::parse(url).map_err(|e| {
        Failure::usage(format_args!("not a URL: {e}"), public, "check the option `source`")
    })?;
    let origin = shown(&parsed);
    if !matches!(parsed.scheme(), "http" | "https") {
        return Err(Failure::usage(
            format_args!("cannot download by {}", parsed.scheme()),
            origin,
            "give an http or https address, or a path",
        ));
    }
    let Downloads { folder, offline } = downloads;
    let path = folder.join(file_name(&parsed));
    let right = |is: &str| sha256.is_none_or(|want| is.eq_ignore_ascii_case(want));
    let obtained = |is: String| {
        let bytes = size(&path);
        progress.send(&Event::Download { url: origin.clone(), bytes, sha256: is });
        Ok(Obtained { path: path.clone(), origin: origin.clone(), downloaded: true })
    };
    // Two that download at once would write into the same file.
    std::fs::create_dir_all(folder).map_err(|e| Failure::io("create folder", folder, &e))?;
    let lock = File::create(folder.join(".lock")).and_then(|file| file.lock().map(|()| file));
    let _lock = lock.map_err(|e| Failure::io("lock", folder, &e))?;
    let mut there = None;
    if path.exists() {
        let is = checksum::sha256_of(&path).map_err(|e| Failure::io("read", &path, &e))?;
        if right(&is) {
            return obtained(is);
        }
        there = Some(is);
    }
    if offline {
        let what = there.map_or_else(
            || "the file has not been downloaded".to_owned(),
            |is| {
                format!(
                    "the SHA-256 of what was downloaded is {is}, not {}",
                    sha256.unwrap_or_default()
                )
            },
        );
        let remedy = "run it once without --offline, or give the path of a file";
        return Err(Failure::download(
            format_args!("{what}, and --offline forbids a download"),
            origin,
            remedy,
        ));
    }
    let part = with_suffix(&path, ".part");
    let is = transfer(parsed.clone(), &part, progress).map_err(|e| e.explain(&origin))?;
    if !right(&is) {
        remove(&part).map_err(|e| e.explain(&origin))?;
        let want = sha256.unwrap_or_default();
        return Err(Failure::download(
            format_args!("SHA-256 is {is}, not {want}"),
            origin,
            "the server sends another file; try another mirror, or change the option `sha256` if this is the one you want",
        ));
    }
    atomic::rename(&part, &path).map_err(|e| Failure::io("rename", &part, &e))?;
    remove(&with_suffix(&part, ".json")).map_err(|e| e.explain(&origin))?;
    obtained(is)
}

/// Attempts until the file is whole, and returns its SHA-256. An attempt that brought bytes does
/// not count against the limit: a line that is cut every few megabytes still ends.
fn transfer(mut url: Url, part: &Path, progress: &Progress) -> Result<String, DownloadError> {
    let client = client()?;
    let mut sum = Sum::default();
    let mut failures = 0;
    let mut asked = false;
    let mut most = size(part);
    loop {
        let (what, wait) = match attempt(&client, &url, part, &mut sum, progress) {
            Ok(()) => return sum.finish(part).map_err(DownloadError::io("read", part)),
            Err(DownloadError::Confirmation(yes)) if !asked => {
                (url, asked) = (yes, true);
                continue;
            }
            Err(DownloadError::Transient(what, wait)) => (what, wait),
            Err(other) => return Err(other),
        };
        // Where the server cannot go on, every attempt begins at 0; one byte more is not worth a
        // further one.
        failures = if size(part) >= most + SOME { 1 } else { failures + 1 };
        most = most.max(size(part));
        if failures >= ATTEMPTS {
            return Err(DownloadError::Transient(format!("{what}, {ATTEMPTS} times"), None));
        }
        let wait =
            wait.unwrap_or(Duration::from_millis(200) * 2_u32.pow(failures)).min(LONGEST_WAIT);
        progress.warn(format!("{what}; trying again in {:.1} s", wait.as_secs_f32()));
        std::thread::sleep(wait);
    }
}

fn client() -> Result<Client, DownloadError> {
    // The provider is the process's own; a second call finds it installed already.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .user_agent(concat!("knockline/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(15))
        .timeout(STALL)
        // The address may have a secret in it.
        .referer(false)
        .redirect(Policy::custom(|attempt| {
            let from_https =
                attempt.previous().last().is_some_and(|before| before.scheme() == "https");
            if !matches!(attempt.url().scheme(), "http" | "https") {
                attempt.error("a redirect to what is neither http nor https")
            } else if attempt.previous().len() > REDIRECTS {
                attempt.error("too many redirects")
            } else if from_https && attempt.url().scheme() != "https" {
                attempt.error("a redirect from https to http, where anybody could send the file")
            } else {
                attempt.follow()
            }
        }))
        .build()
        .map_err(|e| {
            DownloadError::Refused(
                e.to_string(),
                "check the proxy variables and the system's certificates",
            )
        })
}

fn attempt(
    client: &Client,
    url: &Url,
    part: &Path,
    sum: &mut Sum,
    progress: &Progress,
) -> Result<(), DownloadError> {
    let state = with_suffix(part, ".json");
    let resume: Resume = std::fs::read(&state)
        .ok()
        .and_then(|b| serde_json::from_slice(&b).ok())
        .unwrap_or_default();
    let have = if resume.validator.is_some() { size(part) } else { 0 };
    let mut request = client.get(url.clone());
    if let Some(validator) = resume.validator.as_ref().filter(|_| have > 0) {
        request = request.header(RANGE, format!("bytes={have}-")).header(IF_RANGE, validator);
    }
    let passing = |e: reqwest::Error| {
        let is_final = e.is_redirect() || e.is_builder();
        if is_final {
            DownloadError::Refused(plain(e), OTHER_ADDRESS)
        } else {
            DownloadError::Transient(plain(e), None)
        }
    };
    let mut response = request.send().map_err(passing)?;
    let range = content_range(response.headers());
    let (start, total) = match response.status() {
        // What comes is what was asked for, and may be less than all that is still missing.
        StatusCode::PARTIAL_CONTENT => match range {
            Some((Some(from), total)) if have > 0 && from == have => (have, total),
            _ => return Err(start_anew(part)),
        },
        // A run that was killed after the last byte left the whole file.
        StatusCode::RANGE_NOT_SATISFIABLE if range == Some((None, Some(have))) => return Ok(()),
        StatusCode::RANGE_NOT_SATISFIABLE => return Err(start_anew(part)),
        status if status.is_success() => (0, response.content_length()),
        status => return Err(refused(status, response.headers())),
    };
    let io = DownloadError::io("write", part);
    // What is there already goes, where it begins anew.
    let freed = if start == 0 { size(part) } else { 0 };
    room(total.map_or(0, |total| total.saturating_sub(start)), freed, part)?;
    let first = if start == 0 { beginning(&mut response)? } else { Vec::new() };
    // First the old bytes go, then the new validator comes: the two never stand together.
    let mut file =
        OpenOptions::new().create(true).write(true).truncate(start == 0).open(part).map_err(&io)?;
    file.set_len(start).map_err(&io)?;
    // An answer with a part need not say again what was said with the whole.
    let validator =
        validator(response.headers()).or_else(|| resume.validator.filter(|_| start > 0));
    let json = serde_json::to_vec(&Resume { validator }).unwrap_or_default();
    std::fs::write(&state, json).map_err(&io)?;
    std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(start)).map_err(&io)?;
    sum.reach(part, start).map_err(DownloadError::io("read", part))?;
    progress.begin("downloading", total, Unit::Bytes);
    copy(
        &mut Cursor::new(first).chain(&mut response),
        &mut file,
        sum,
        total.is_none(),
        part,
        progress,
    )?;
    file.sync_all().map_err(&io)?;
    match total {
        Some(total) if sum.of < total => Err(DownloadError::Transient(
            format!("the connection ended after {} of {total} bytes", sum.of),
            None,
        )),
        Some(total) if sum.of > total => Err(start_anew(part)),
        // A part of a whole that nobody knows: asked for what is behind its end, the server says
        // whether there is more.
        None if start > 0 => Err(DownloadError::Transient(
            "the server does not say how long the file is".into(),
            None,
        )),
        _ => Ok(()),
    }
}

/// The first bytes of an answer that is a file; nothing has been written yet if it is none.
fn beginning(response: &mut Response) -> Result<Vec<u8>, DownloadError> {
    let broke = |e: std::io::Error| {
        DownloadError::Transient(format!("the connection broke at its beginning: {e}"), None)
    };
    let mut first = Vec::new();
    response.take(START).read_to_end(&mut first).map_err(broke)?;
    let Some(what) = masquerade::recognise(&first) else { return Ok(first) };
    if what == masquerade::PAGE {
        let _ = response.take(LONGEST_PAGE).read_to_end(&mut first);
        if let Some(yes) = drive::confirmed(response.url(), &first) {
            return Err(DownloadError::Confirmation(yes));
        }
    }
    Err(DownloadError::Masquerade(what))
}

/// Refuses to begin what the disk has no room for, when `freed` bytes of it are given back.
fn room(wanted: u64, freed: u64, part: &Path) -> Result<(), DownloadError> {
    let Some(folder) = part.parent() else { return Ok(()) };
    let Some(free) = free(folder).map(|free| free.saturating_add(freed)) else { return Ok(()) };
    if wanted <= free {
        return Ok(());
    }
    Err(DownloadError::NoRoom(folder.to_owned(), wanted, free))
}

/// Bytes that the disk of this folder has room for, where the system says it.
fn free(folder: &Path) -> Option<u64> {
    #[cfg(unix)]
    // Some systems of files say nothing, by zeros.
    return rustix::fs::statvfs(folder)
        .ok()
        .filter(|disk| disk.f_blocks > 0)
        .map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    #[cfg(not(unix))]
    return None;
}

/// Appends what comes. `endless`: nobody knows how much that is.
fn copy(
    from: &mut impl Read,
    file: &mut File,
    sum: &mut Sum,
    endless: bool,
    part: &Path,
    progress: &Progress,
) -> Result<(), DownloadError> {
    let mut block = vec![0; 1 << 18];
    let mut looked = 0;
    loop {
        let broke = |e: std::io::Error| {
            DownloadError::Transient(
                format!("the connection broke after {} bytes: {e}", sum.of),
                None,
            )
        };
        let n = from.read(&mut block).map_err(broke)?;
        let bytes = block.get(..n).unwrap_or_default();
        if n == 0 {
            return Ok(());
        }
        file.write_all(bytes).map_err(DownloadError::io("write", part))?;
        sum.update(bytes);
        progress.at(sum.of, String::new);
        if endless && sum.of - looked >= RESERVE / 4 {
            looked = sum.of;
            if let Err(error) = room(RESERVE, 0, part) {
                // It may never have ended.
                remove(part)?;
                return Err(error);
            }
        }
    }
}

/// The first byte and the whole length of `Content-Range: bytes 0-9/100`, each where it is known.
fn content_range(headers: &HeaderMap) -> Option<(Option<u64>, Option<u64>)> {
    let (range, whole) =
        headers.get(CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?.split_once('/')?;
    let from = range.split_once('-').and_then(|(from, _)| from.parse().ok());
    if from.is_none() && range != "*" {
        return None;
    }
    Some((from, whole.parse().ok()))
}

fn start_anew(part: &Path) -> DownloadError {
    match remove(part) {
        Ok(()) => {
            DownloadError::Transient("the partial file does not fit the server's".into(), None)
        }
        Err(error) => error,
    }
}

fn refused(status: StatusCode, headers: &HeaderMap) -> DownloadError {
    if status.is_server_error()
        || status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::REQUEST_TIMEOUT
    {
        let wait = headers
            .get(RETRY_AFTER)
            .and_then(|v| v.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        return DownloadError::Transient(format!("the server answers {status}"), wait);
    }
    DownloadError::Refused(format!("the server answers {status}"), OTHER_ADDRESS)
}

/// What `If-Range` may carry: a strong entity tag, or a date.
fn validator(headers: &HeaderMap) -> Option<String> {
    let text = |name| headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    text(ETAG).filter(|tag| !tag.starts_with("W/")).or_else(|| text(LAST_MODIFIED))
}

/// The error's own words and its causes', without the URL, which may carry credentials.
fn plain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

/// The address without user, password and query, any of which may be a secret.
fn shown(url: &Url) -> String {
    let port = url.port().map(|p| format!(":{p}")).unwrap_or_default();
    format!("{}://{}{port}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}

/// A file name that tells downloads of different addresses apart.
fn file_name(url: &Url) -> String {
    let name = url.path_segments().and_then(|mut s| s.next_back()).unwrap_or_default();
    let name: String =
        name.chars().filter(|c| c.is_ascii_alphanumeric() || "._-".contains(*c)).take(80).collect();
    let id = checksum::short(url.as_str());
    format!("{id}-{}", if name.is_empty() { "file" } else { &name })
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn size(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |m| m.len())
}

fn remove(path: &Path) -> Result<(), DownloadError> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(DownloadError::io("remove", path)(e))
        }
        _ => Ok(()),
    }
}
