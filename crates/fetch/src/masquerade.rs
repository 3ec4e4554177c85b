//! Recognises files that are often delivered in place of a data file.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use failure::{Failure, Result};

/// The description of a web page in messages.
pub const PAGE: &str = "a web page (a warning or a log-in page)";

/// The remedy for a file that is not data.
pub const REMEDY: &str =
    "open the address in a browser, download the file there, and give its path";

/// What a file is according to its first bytes, if it is not data.
pub fn recognise(name: &str, start: &[u8]) -> Option<&'static str> {
    let text = start.trim_ascii_start();
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let begins = |with: &str| {
        text.get(..with.len()).is_some_and(|t| t.eq_ignore_ascii_case(with.as_bytes()))
    };
    match () {
        () if begins("<!doctype html") || begins("<html") => Some(PAGE),
        () if begins("version https://git-lfs") => Some("a Git LFS pointer"),
        () if begins("<?xml") || begins("<error") => Some("an XML error message"),
        () if !is_json(name) && is_json_message(text) => Some("a JSON message"),
        () => None,
    }
}

/// The number of first bytes that are enough to recognise what a file is.
pub const START: usize = 512;

/// Whether a file or an address is called JSON, so that it may be.
fn is_json(name: &str) -> bool {
    let name = name.split(['?', '#']).next().unwrap_or_default().to_ascii_lowercase();
    [".json", ".jsonl", ".ndjson"].iter().any(|end| name.ends_with(end))
}

/// Whether a text is one JSON object. JSON lines have several.
fn is_json_message(text: &[u8]) -> bool {
    let is_object = [&b"{\""[..], b"{ \"", b"{\n"].iter().any(|start| text.starts_with(start));
    is_object && !text.windows(2).any(|pair| pair == b"\n{")
}

/// Refuses the file at `path` if it is not data. A file that is called JSON may be JSON.
pub fn check_file(path: &Path) -> Result<()> {
    let mut start = Vec::new();
    let read = File::open(path).and_then(|f| f.take(START as u64).read_to_end(&mut start));
    read.map_err(|e| Failure::io("read", path, &e))?;
    match recognise(&path.to_string_lossy(), &start) {
        None => Ok(()),
        Some(what) => Err(Failure::input(sentence(what), path.display(), REMEDY)),
    }
}

/// The message about a file that is `what`.
pub fn sentence(what: &str) -> String {
    format!("this is {what}, not the file")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_impostors_are_recognised() {
        assert!(recognise("x.bin", b"\n <!DOCTYPE html><html>").is_some());
        assert!(recognise("x.bin", b"version https://git-lfs.github.com/spec/v1\n").is_some());
        assert!(recognise("x.bin", b"{\"error\": 404}").is_some());
        assert!(recognise("x.bin", b"{\"text\": \"a\"}\n{\"text\": \"b\"}\n").is_none());
        assert!(recognise("https://a.example/x.jsonl?y=1", b"{\"text\": \"a\"}").is_none());
        let long = format!("{{\"error\": \"{}", "a".repeat(600));
        assert!(recognise("x.bin", long.as_bytes()).is_some());
        assert!(recognise("x.bin", b"<?xml version='1.0'?><Error>").is_some());
        assert!(recognise("x.bin", b"PK\x03\x04").is_none());
        assert!(recognise("x.bin", b"3000000 300\n</s> ").is_none());
        assert!(recognise("x.bin", b"1\tFed official says\thttp").is_none());
        assert!(recognise("x.bin", b"").is_none());
    }
}
