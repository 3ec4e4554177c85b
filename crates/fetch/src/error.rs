//! Why a download failed, and what the user is told.

use std::path::{Path, PathBuf};
use std::time::Duration;

use failure::Failure;
use reqwest::{StatusCode, Url};

use crate::masquerade;

/// Why a download, or an attempt at it, failed.
#[derive(Debug)]
pub enum DownloadError {
    /// Worth another attempt, after this wait if the server named one.
    Transient(String, Option<Duration>),
    /// The server asks for confirmation, which a request for this address gives.
    Confirmation(Url),
    /// The server sends something other than the file, such as a web page.
    Masquerade(&'static str),
    /// The server refuses with this status.
    Refused(StatusCode),
    /// A request to this address fails whenever it is made, such as one that redirects in a circle.
    Address(String),
    /// This machine cannot make requests.
    Client(String),
    /// The disk of a folder is too full: the bytes that are still needed, and those that are free.
    NoRoom(PathBuf, u64, u64),
    /// A local file operation failed: what was done, to which file, and the system's error.
    Io(&'static str, PathBuf, std::io::Error),
}

/// The remedy if an address does not deliver the file.
const OTHER_ADDRESS: &str = "check the address, or add a mirror to the option `source`";

impl DownloadError {
    pub fn io(doing: &'static str, path: &Path) -> impl Fn(std::io::Error) -> Self {
        move |error| Self::Io(doing, path.to_owned(), error)
    }

    /// The failure for the user; `origin` is the address of the file.
    pub fn explain(self, origin: &str) -> Failure {
        match self {
            Self::Transient(what, _) => {
                let remedy = "run the same command again to resume the download, or add a mirror to the option `source`";
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
            Self::Refused(status) => Failure::download(answer(status), origin, OTHER_ADDRESS),
            Self::Address(what) => Failure::download(what, origin, OTHER_ADDRESS),
            Self::Client(what) => {
                let remedy = "check the proxy variables and the system's certificates";
                Failure::download(what, origin, remedy)
            }
            Self::NoRoom(folder, wanted, free) => {
                let mb = |bytes: u64| bytes as f64 / 1e6;
                let what = format!(
                    "the download needs another {:.1} MB, and the disk has {:.1} MB free",
                    mb(wanted),
                    mb(free)
                );
                Failure::download(
                    what,
                    folder.display(),
                    "free some disk space, or choose a folder on another disk with --artifacts",
                )
            }
            Self::Io(doing, path, error) => Failure::io(doing, &path, &error),
        }
    }
}

/// What a server did that gave no file.
pub fn answer(status: StatusCode) -> String {
    format!("the server answers {status}")
}

/// The address without user, password and query, any of which may be a secret.
pub fn shown(url: &Url) -> String {
    let port = url.port().map(|p| format!(":{p}")).unwrap_or_default();
    format!("{}://{}{port}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}
