//! The errors of a remote, and how serious they are.

use std::fmt::{self, Display};
use std::io;
use std::path::Path;

use object_store::Error;

/// Why a transfer failed.
#[derive(Debug)]
pub enum RemoteError {
    /// The object does not exist.
    Missing(String),
    /// The object is not what it should be.
    Damaged(String),
    /// Something on this machine failed, such as a file operation.
    Local(String),
    /// The store itself failed, and is not used for the rest of the run.
    Store(String),
}

impl RemoteError {
    /// A file operation of this machine failed.
    pub fn local(doing: &str, path: &Path, error: &io::Error) -> Self {
        Self::Local(format!("cannot {doing} {}: {error}", path.display()))
    }

    /// Converts a writer's error, which may contain an error of the store.
    pub fn of_writer(error: io::Error) -> Self {
        match error.downcast::<Error>() {
            Ok(error) => error.into(),
            Err(error) => Self::Store(short(&error.to_string())),
        }
    }

    /// Whether the remote must not be used for the rest of the run.
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Store(_) | Self::Local(_))
    }
}

impl Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Missing(what) | Self::Damaged(what) | Self::Local(what) | Self::Store(what)) =
            self;
        f.write_str(what)
    }
}

impl From<Error> for RemoteError {
    fn from(error: Error) -> Self {
        match &error {
            // A missing bucket is not a miss, but a mistake.
            Error::NotFound { source, .. }
                if ["NoSuchBucket", "ContainerNotFound", "bucket does not exist"]
                    .iter()
                    .any(|s| source_says(&**source, s)) =>
            {
                Self::Store(format!("the bucket does not exist ({})", cause(&error)))
            }
            Error::NotFound { path, .. } => Self::Missing(format!("{path} does not exist")),
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => Self::Store(format!(
                "access is denied ({}); check the credentials and their permissions",
                cause(&error)
            )),
            _ => Self::Store(cause(&error)),
        }
    }
}

/// Whether the message of an error, or of one of its causes, contains `text`.
fn source_says(error: &(dyn std::error::Error + 'static), text: &str) -> bool {
    error.to_string().contains(text)
        || error.source().is_some_and(|source| source_says(source, text))
}

/// The innermost cause in a few words: with the server's error code if there is one, but not a page
/// of XML.
fn cause(error: &Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    short(&inner.to_string())
}

fn short(text: &str) -> String {
    const LONGEST: usize = 200;
    let code = text.split_once("<Code>").and_then(|(_, rest)| Some(rest.split_once("</Code>")?.0));
    let text = text.strip_prefix("Server returned non-2xx status code: ").unwrap_or(text);
    let line = text.split(['\n', '<']).next().unwrap_or_default().trim().trim_end_matches(':');
    let line: String = line.chars().take(LONGEST).collect();
    code.map_or_else(|| line.clone(), |code| format!("{line}: {code}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_xml_is_cut_to_its_code() {
        let body = "Server returned non-2xx status code: 403 Forbidden: <?xml version=\"1.0\"?>\n<Error><Code>InvalidAccessKeyId</Code><RequestId>x</RequestId></Error>";
        assert_eq!(short(body), "403 Forbidden: InvalidAccessKeyId");
        assert_eq!(short("Connection refused (os error 111)"), "Connection refused (os error 111)");
        assert_eq!(short(&"x".repeat(1000)).len(), 200);
    }
}
