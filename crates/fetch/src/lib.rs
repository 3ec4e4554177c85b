//! Gets a stage's source file: a local path, or URLs that are tried in order.
//!
//! A download goes into a `.part` file that survives a kill and is resumed with `Range` and
//! `If-Range`; it gets its final name only when it is complete and has the expected SHA-256, which
//! is computed during the download. A web page, a Git LFS pointer or an error message in place of
//! the file is recognised by its first bytes; Google Drive's request for confirmation is answered.
//! Each downloaded file is reported as an event, for the manifest.

mod checksum;
mod download;
mod drive;
mod error;
mod masquerade;

use std::path::{Path, PathBuf};

use failure::{Failure, Result};
use serde::Deserialize;
use stage::{Progress, Stage};

pub use checksum::sha256_of;

/// The option `source`: one source, or several that are tried in order.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Sources {
    /// One source.
    One(String),
    /// Several sources, in the order in which they are tried.
    More(Vec<String>),
}

impl std::ops::Deref for Sources {
    type Target = [String];
    fn deref(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::More(more) => more,
        }
    }
}

impl Sources {
    /// The file for a stage, downloaded if necessary; see [`obtain`].
    pub fn file(&self, sha256: Option<&str>, stage: &Stage) -> Result<Obtained> {
        obtain(
            self,
            sha256,
            Downloads { folder: stage.downloads(), offline: stage.offline },
            &stage.progress,
        )
    }

    /// The name of the source in artifacts; see [`stage::source_name`].
    pub fn name(&self) -> String {
        let sources: Vec<&str> = self.iter().map(String::as_str).collect();
        stage::source_name(&sources)
    }
}

/// Where downloads are kept.
#[derive(Clone, Copy, Debug)]
pub struct Downloads<'d> {
    /// The folder.
    pub folder: &'d Path,
    /// Whether downloads are forbidden, so that only earlier ones can be used.
    pub offline: bool,
}

/// A source file that is on the disk.
#[derive(Clone, Debug)]
pub struct Obtained {
    /// Where it lies.
    pub path: PathBuf,
    /// Where it came from, without credentials, for messages.
    pub origin: String,
    /// Whether it was downloaded.
    pub downloaded: bool,
}

impl Obtained {
    /// Adds the path of a downloaded file to a failure to read it.
    pub fn explain(&self, mut failure: Failure) -> Failure {
        if self.downloaded {
            failure.remedy = format!(
                "{}; the downloaded file is {}: delete it to download it again",
                failure.remedy,
                self.path.display()
            );
        }
        failure
    }
}

/// The first of `sources` that can be obtained; with `sha256` (hex), the file must match it.
pub fn obtain(
    sources: &[String],
    sha256: Option<&str>,
    downloads: Downloads<'_>,
    progress: &Progress,
) -> Result<Obtained> {
    let mut last = None;
    for source in sources {
        let got = if stage::is_url(source) {
            download::download(source, sha256, downloads, progress)
        } else {
            local(Path::new(source), sha256)
        };
        match got {
            Ok(obtained) => return Ok(obtained),
            Err(failure) => {
                if let Some(earlier) = last.replace(failure) {
                    progress.warn(format!("{} ({})", earlier.what, earlier.place));
                }
            }
        }
    }
    Err(last.unwrap_or_else(|| {
        Failure::usage("no source is given", "option `source`", "give a path or a URL")
    }))
}

fn local(path: &Path, sha256: Option<&str>) -> Result<Obtained> {
    let metadata = std::fs::metadata(path).map_err(|e| {
        Failure::input(
            format_args!("cannot read the source: {e}"),
            path.display(),
            "check the path in the option `source`",
        )
    })?;
    if metadata.is_dir() {
        return Err(Failure::input(
            "the source is a folder",
            path.display(),
            "give the file itself",
        ));
    }
    masquerade::check_file(path)?;
    if let Some(want) = sha256 {
        let is = sha256_of(path).map_err(|e| Failure::io("read", path, &e))?;
        if !is.eq_ignore_ascii_case(want) {
            return Err(Failure::input(
                format_args!("SHA-256 is {is}, not {want}"),
                path.display(),
                "get the file again, or change the option `sha256` if this is the file you want",
            ));
        }
    }
    Ok(Obtained { path: path.to_owned(), origin: path.display().to_string(), downloaded: false })
}

#[cfg(test)]
mod tests;
