//! One download: its partial file, resuming it, and retries.

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
use stage::{Event, Progress, Unit};

use crate::checksum::{self, Sum};
use crate::error::{DownloadError, answer, shown};
use crate::{Downloads, Obtained, drive, masquerade};

/// Consecutive attempts without progress before a mirror is given up.
const ATTEMPTS: u32 = 5;
/// A connection that sends nothing for this long is dead.
const STALL: Duration = Duration::from_secs(30);
/// The longest wait between attempts, even if the server asks for a longer one.
const LONGEST_WAIT: Duration = Duration::from_mins(1);
/// The number of redirects that are followed.
const REDIRECTS: usize = 10;
/// The number of bytes that are read of a page that asks for confirmation.
const LONGEST_PAGE: u64 = 1 << 20;
/// A download of unknown length stops when the disk has no more free bytes than this.
const RESERVE: u64 = 1 << 26;
/// The number of new bytes that count as progress.
const SOME: u64 = 1 << 12;

/// What is needed to resume a partial file, kept beside it.
#[derive(Default, Serialize, Deserialize)]
struct Resume {
    validator: Option<String>,
}

/// Downloads `url` into the downloads folder unless that already contains the file.
pub fn download(
    url: &str,
    sha256: Option<&str>,
    downloads: Downloads<'_>,
    progress: &Progress,
) -> Result<Obtained> {
    // The part after `?` may be a secret, even if the rest is not a URL.
    let public = url.split(['?', '#']).next().unwrap_or_default();
    let parsed = Url::parse(url).map_err(|e| {
        Failure::usage(format_args!("not a URL: {e}"), public, "check the option `source`")
    })?;
    let origin = shown(&parsed);
    if stage::source::needs_remote(url) {
        return fetched(url, sha256, origin, downloads, progress);
    }
    if !matches!(parsed.scheme(), "http" | "https") {
        return Err(Failure::usage(
            format_args!("cannot download over {}", parsed.scheme()),
            origin,
            "give an address that begins with http, https, s3, gs or az, or a path",
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
    // Two concurrent downloads would write to the same file.
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
                    "the SHA-256 of the downloaded file is {is}, not {}",
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
            "try another mirror, or change the option `sha256` if this is the file you want",
        ));
    }
    atomic::rename(&part, &path).map_err(|e| Failure::io("rename", &part, &e))?;
    remove(&with_suffix(&part, ".json")).map_err(|e| e.explain(&origin))?;
    obtained(is)
}

/// The file of an address in a cloud's store, which xtask has fetched.
fn fetched(
    url: &str,
    sha256: Option<&str>,
    origin: String,
    downloads: Downloads<'_>,
    progress: &Progress,
) -> Result<Obtained> {
    let path = downloads.folder.join(stage::source::fetched_name(&checksum::short(url), url));
    if !path.exists() {
        return Err(Failure::download(
            "the file has not been fetched",
            origin,
            "run the stage by `cargo xtask pipeline`, which fetches it, without --offline",
        ));
    }
    let is = checksum::sha256_of(&path).map_err(|e| Failure::io("read", &path, &e))?;
    if let Some(want) = sha256.filter(|want| !is.eq_ignore_ascii_case(want)) {
        let remedy = format!(
            "delete {} to fetch it again, or change the option `sha256` if this is the file you want",
            path.display()
        );
        return Err(Failure::download(format_args!("SHA-256 is {is}, not {want}"), origin, remedy));
    }
    progress.send(&Event::Download { url: origin.clone(), bytes: size(&path), sha256: is });
    Ok(Obtained { path, origin, downloaded: true })
}

/// Tries until the file is complete, and returns its SHA-256. An attempt that made progress does
/// not count against the limit, so that even a connection that breaks every few megabytes gets to
/// the end.
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
        // If the server cannot resume, every attempt starts at 0, and a few more bytes than before
        // do not justify another one.
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
    // The provider is global to the process; a second call finds it already installed.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .user_agent(concat!("knockline/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(15))
        .timeout(STALL)
        // The address may contain a secret.
        .referer(false)
        .redirect(Policy::custom(|attempt| {
            let from_https =
                attempt.previous().last().is_some_and(|before| before.scheme() == "https");
            if !matches!(attempt.url().scheme(), "http" | "https") {
                attempt.error("a redirect to an address that is neither http nor https")
            } else if attempt.previous().len() > REDIRECTS {
                attempt.error("too many redirects")
            } else if from_https && attempt.url().scheme() != "https" {
                attempt.error("a redirect from https to http, where anyone could replace the file")
            } else {
                attempt.follow()
            }
        }))
        .build()
        .map_err(|e| DownloadError::Client(e.to_string()))
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
            DownloadError::Address(plain(e))
        } else {
            DownloadError::Transient(plain(e), None)
        }
    };
    let mut response = request.send().map_err(passing)?;
    let range = content_range(response.headers());
    let (start, total) = match response.status() {
        // The response is the requested range, or only the beginning of it.
        StatusCode::PARTIAL_CONTENT => match range {
            Some((Some(from), total)) if have > 0 && from == have => (have, total),
            _ => return Err(restart(part)),
        },
        // A run that was killed after the last byte left the whole file.
        StatusCode::RANGE_NOT_SATISFIABLE if range == Some((None, Some(have))) => return Ok(()),
        StatusCode::RANGE_NOT_SATISFIABLE => return Err(restart(part)),
        status if status.is_success() => (0, response.content_length()),
        status => return Err(refused(status, response.headers())),
    };
    let io = DownloadError::io("write", part);
    // A download that starts from scratch frees the space of the partial file.
    let freed = if start == 0 { size(part) } else { 0 };
    room(total.map_or(0, |total| total.saturating_sub(start)), freed, part)?;
    let first = if start == 0 { beginning(&mut response, part)? } else { Vec::new() };
    // The old bytes are removed before the new validator is written, so that the two are never
    // together.
    let mut file =
        OpenOptions::new().create(true).write(true).truncate(start == 0).open(part).map_err(&io)?;
    file.set_len(start).map_err(&io)?;
    // A partial response need not repeat the validator of the complete one.
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
        Some(total) if sum.of > total => Err(restart(part)),
        // A range of a file of unknown length: the next attempt asks for the bytes after it, and
        // the response shows whether there are any.
        None if start > 0 => Err(DownloadError::Transient(
            "the server does not report how long the file is".into(),
            None,
        )),
        _ => Ok(()),
    }
}

/// The first bytes of a response. If they are not those of a data file, this fails before anything
/// has been written.
fn beginning(response: &mut Response, part: &Path) -> Result<Vec<u8>, DownloadError> {
    let broke = |e: std::io::Error| {
        DownloadError::Transient(format!("the connection broke at the beginning: {e}"), None)
    };
    // Without `.part`, it ends as the address does.
    let name = part.file_stem().unwrap_or_default();
    let mut first = Vec::new();
    response.take(masquerade::START as u64).read_to_end(&mut first).map_err(broke)?;
    let Some(what) = masquerade::recognise(&name.to_string_lossy(), &first) else {
        return Ok(first);
    };
    if what == masquerade::PAGE {
        let _ = response.take(LONGEST_PAGE).read_to_end(&mut first);
        if let Some(yes) = drive::confirmed(response.url(), &first) {
            return Err(DownloadError::Confirmation(yes));
        }
    }
    Err(DownloadError::Masquerade(what))
}

/// Fails if `wanted` bytes do not fit on the disk after `freed` bytes of it have been freed.
fn room(wanted: u64, freed: u64, part: &Path) -> Result<(), DownloadError> {
    let Some(folder) = part.parent() else { return Ok(()) };
    let Some(free) = free(folder).map(|free| free.saturating_add(freed)) else { return Ok(()) };
    if wanted <= free {
        return Ok(());
    }
    Err(DownloadError::NoRoom(folder.to_owned(), wanted, free))
}

/// The free bytes on the disk of this folder, if the system reports them.
fn free(folder: &Path) -> Option<u64> {
    #[cfg(unix)]
    // Some file systems report zeros in place of sizes.
    return rustix::fs::statvfs(folder)
        .ok()
        .filter(|disk| disk.f_blocks > 0)
        .map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    #[cfg(not(unix))]
    return None;
}

/// Appends the response to the file. `endless` means that its length is unknown.
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
                // The response may be endless, and its beginning useless.
                remove(part)?;
                return Err(error);
            }
        }
    }
}

/// The first byte and the whole length in `Content-Range: bytes 0-9/100`, each if it is known.
fn content_range(headers: &HeaderMap) -> Option<(Option<u64>, Option<u64>)> {
    let (range, whole) =
        headers.get(CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?.split_once('/')?;
    let from = range.split_once('-').and_then(|(from, _)| from.parse().ok());
    if from.is_none() && range != "*" {
        return None;
    }
    Some((from, whole.parse().ok()))
}

fn restart(part: &Path) -> DownloadError {
    match remove(part) {
        Ok(()) => DownloadError::Transient(
            "the partial file does not match the server's file".into(),
            None,
        ),
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
        return DownloadError::Transient(answer(status), wait);
    }
    DownloadError::Refused(status)
}

/// What `If-Range` may carry: a strong entity tag, or a date.
fn validator(headers: &HeaderMap) -> Option<String> {
    let text = |name| headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    text(ETAG).filter(|tag| !tag.starts_with("W/")).or_else(|| text(LAST_MODIFIED))
}

/// The messages of the error and its causes, without the URL, which may contain credentials.
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

/// A file name that distinguishes downloads from different addresses.
fn file_name(url: &Url) -> String {
    let name = url.path_segments().and_then(|mut s| s.next_back()).unwrap_or_default();
    stage::source::fetched_name(&checksum::short(url.as_str()), name)
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
