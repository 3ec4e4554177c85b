//! Fetches sources that lie in a cloud's store: the stages can download from the web only, and the
//! remote's program, which is built when it is needed, can read those stores.

use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use cache::wire::{Ask, Reply};
use cache::{Index, sha256_of_text};
use failure::{Failure, Result, without_credentials};
use serde_json::Value as Json;
use stage::Options;
use stage::source::{fetched_name, needs_remote};

use crate::binaries::Binaries;

/// Hex digits of a checksum that distinguish addresses, as the stages take them.
const DIGITS: usize = 12;
/// How long a store may be silent, in seconds.
const TIMEOUT: f64 = 60.0;

/// The program that fetches, and where files go.
pub struct SourceFetcher<'f> {
    pub root: &'f Path,
    pub index: &'f Index,
    pub downloads: &'f Path,
    /// The lock that the program holds while it runs.
    pub lock: &'f Path,
    pub offline: bool,
}

impl SourceFetcher<'_> {
    /// Fetches what the options of a node name and is not here yet.
    pub fn fetch(&self, options: &Options) -> Result<()> {
        let is_set = |name: &str| options.get(name).is_some_and(|value| !value.is_null());
        for (name, value) in options {
            // Files take the place of a source.
            if name == "source" && is_set("files") {
                continue;
            }
            let items: Vec<&str> = match value {
                Json::Array(items) => items.iter().filter_map(Json::as_str).collect(),
                one => one.as_str().into_iter().collect(),
            };
            let are_mirrors = name == "source" && items.len() > 1;
            for url in &items {
                // The stage tries one after the other.
                if are_mirrors && Path::new(url).exists() {
                    break;
                }
                if !needs_remote(url) {
                    continue;
                }
                let id = sha256_of_text(url);
                let path =
                    self.downloads.join(fetched_name(id.get(..DIGITS).unwrap_or_default(), url));
                match if path.exists() { Ok(()) } else { self.one(url, &path) } {
                    Ok(()) if are_mirrors => break,
                    Ok(()) => {}
                    Err(failure) if are_mirrors => {
                        eprintln!("warning: {} ({})", failure.what, failure.place);
                    }
                    Err(failure) => return Err(failure),
                }
            }
        }
        Ok(())
    }

    fn one(&self, url: &str, path: &Path) -> Result<()> {
        let shown = without_credentials(url);
        let shown = shown.split(['?', '#']).next().unwrap_or_default();
        if self.offline {
            return Err(Failure::download(
                "the file has not been downloaded, and --offline forbids a download",
                shown,
                "run it once without --offline, or give the path of a file",
            ));
        }
        std::fs::create_dir_all(self.downloads)
            .map_err(|e| Failure::io("create folder", self.downloads, &e))?;
        let failed = |what: &dyn std::fmt::Display| {
            Failure::download(
                what,
                shown,
                "check the address, and the credentials in the environment (docs/remote.md)",
            )
        };
        let start = |program: &Path| {
            Command::new(program)
                .arg("--stage-lock")
                .arg(self.lock)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
        };
        let binaries = Binaries::new(self.root, "cpu", &["remote"], self.index);
        let mut child = binaries.spawn("remote", None, start)?;
        let ask = Ask::File { url: url.to_owned(), to: path.to_owned(), timeout: TIMEOUT };
        let line = serde_json::to_string(&ask).map_err(|e| failed(&e))?;
        // The pipe stays open: when it closes, the program ends.
        let mut stdin = child.stdin.take();
        if let Some(stdin) = &mut stdin {
            writeln!(stdin, "{line}").map_err(|e| failed(&e))?;
        }
        let replies = child.stdout.take().map(BufReader::new).into_iter().flat_map(BufRead::lines);
        let mut done = Err(failed(&"the program that fetches it has ended"));
        for line in replies.map_while(std::io::Result::ok) {
            match serde_json::from_str(&line) {
                Ok(Reply::Fetched) => done = Ok(()),
                Ok(Reply::Failed { what, .. }) => {
                    // The part after `?` may be a secret.
                    let query = url.split_once('?').map_or("", |(_, query)| query);
                    let what = if query.is_empty() { what } else { what.replace(query, "…") };
                    done = Err(failed(&what));
                }
                _ => {}
            }
        }
        let _ = child.wait();
        drop(stdin);
        done
    }
}
