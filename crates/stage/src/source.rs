//! Names of the sources that data comes from.

use std::path::Path;

/// Whether a source is a URL rather than a path.
pub fn is_url(source: &str) -> bool {
    source.contains("://")
}

/// Whether a source lies where only the remote's program can fetch it: in S3, Google Cloud Storage or
/// Azure's blob storage.
pub fn needs_remote(source: &str) -> bool {
    const SCHEMES: [&str; 7] = ["s3", "s3a", "gs", "az", "azure", "abfs", "abfss"];
    source.split_once("://").is_some_and(|(scheme, _)| SCHEMES.contains(&scheme))
}

/// The name of a source that was fetched, in the folder of downloads. `id` distinguishes addresses
/// whose files have the same name.
pub fn fetched_name(id: &str, source: &str) -> String {
    let is_plain = |c: &char| c.is_ascii_alphanumeric() || "._-".contains(*c);
    let name: String = file_name(source).chars().filter(is_plain).take(80).collect();
    format!("{id}-{}", if name.is_empty() { "file" } else { &name })
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
        assert_eq!(fetched_name("1f", "s3://bucket/a/b c.csv.gz?x=1"), "1f-bc.csv.gz");
        assert!(needs_remote("s3://b/x") && !needs_remote("https://b/x") && !needs_remote("s3/x"));
    }
}
