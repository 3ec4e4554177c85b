//! Names of the sources that data comes from.

use std::path::Path;

/// Whether a source is a URL rather than a path.
pub fn is_url(source: &str) -> bool {
    source.contains("://")
}

/// The name under which artifacts record a source: the first file name among `sources` that has a
/// dot, or else the first of all.
///
/// An artifact must not contain a folder of the machine that made it, a query or a password; and
/// mirrors of a file agree on its name.
pub fn source_name(sources: &[&str]) -> String {
    let names = || sources.iter().map(|source| file_name(source));
    names().find(|name| name.contains('.')).or_else(|| names().next()).unwrap_or_default()
}

fn file_name(source: &str) -> String {
    let Some((_, address)) = source.split_once("://") else {
        return Path::new(source)
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    };
    let path = address.split(['?', '#']).next().unwrap_or_default();
    let mut segments = path.split('/').filter(|s| !s.is_empty());
    let host = segments.next().unwrap_or_default();
    let host = host.rsplit('@').next().unwrap_or_default();
    segments.next_back().unwrap_or(host).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_recorded_by_its_file_name() {
        assert_eq!(source_name(&["/home/me/uci.zip"]), "uci.zip");
        assert_eq!(
            source_name(&["https://a.example/download?id=1.2", "https://b.example/x/v.bin.gz"]),
            "v.bin.gz"
        );
        assert_eq!(source_name(&["/home/me/a#1/vectors"]), "vectors");
        assert_eq!(source_name(&["https://user:secret@a.example?token=secret"]), "a.example");
    }
}
