//! The one error type that reaches a user.
//!
//! Its constructors require what is wrong, where, and what to do about it, so that an error without
//! a place or a remedy does not compile.

use std::fmt::{self, Display};
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

/// `Result` with a [`Failure`].
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// The exit status of every command and every stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// The command succeeded.
    Done = 0,
    /// A stage failed.
    Failed = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// The input data is wrong.
    BadInput = 3,
    /// A download failed.
    Download = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// What is wrong, where, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub struct Failure {
    /// The exit status that the program ends with.
    pub exit: Exit,
    /// What is wrong, as a phrase that starts in lower case and has no full stop.
    pub what: String,
    /// Where it is wrong: a file, row, byte or option.
    pub place: String,
    /// What the user can do about it, as an imperative.
    pub remedy: String,
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  where: {}\n  hint:  {}", self.what, self.place, self.remedy)
    }
}

impl Failure {
    fn new(exit: Exit, what: impl Display, place: impl Display, remedy: impl Display) -> Self {
        Self {
            exit,
            what: visible(&without_credentials(&what.to_string())),
            place: visible(&without_credentials(&place.to_string())),
            remedy: remedy.to_string(),
        }
    }

    /// The work itself failed (exit status 1).
    pub fn failed(what: impl Display, place: impl Display, remedy: impl Display) -> Self {
        Self::new(Exit::Failed, what, place, remedy)
    }

    /// The command line or the configuration is wrong (exit status 2).
    pub fn usage(what: impl Display, place: impl Display, remedy: impl Display) -> Self {
        Self::new(Exit::Usage, what, place, remedy)
    }

    /// The input data is wrong (exit status 3).
    pub fn input(what: impl Display, place: impl Display, remedy: impl Display) -> Self {
        Self::new(Exit::BadInput, what, place, remedy)
    }

    /// A download failed (exit status 4).
    pub fn download(what: impl Display, place: impl Display, remedy: impl Display) -> Self {
        Self::new(Exit::Download, what, place, remedy)
    }

    /// A file operation failed: `doing` names it ("read", "write", "rename").
    pub fn io(doing: &str, path: &Path, error: &io::Error) -> Self {
        let remedy = match error.kind() {
            io::ErrorKind::NotFound => "check that the path exists",
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                "check the permissions, or choose another folder with --artifacts"
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "free some disk space and run the same command again; no finished result is lost"
            }
            io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
                "a file is where a folder should be; move it, or choose another folder with --artifacts"
            }
            io::ErrorKind::IsADirectory => "give a file, not a folder",
            _ => "if it happens again, check the disk",
        };
        Self::failed(format_args!("cannot {doing}: {error}"), path.display(), remedy)
    }

    /// Prints the error to stderr and, with `json`, also as an object to stdout. Returns the exit
    /// status.
    pub fn report(&self, json: bool) -> ExitCode {
        eprintln!("error: {self}");
        if json {
            let line = serde_json::json!({ "error": self });
            // If stdout is closed, nobody wants the line.
            let _ = writeln!(io::stdout(), "{line}");
        }
        self.exit.into()
    }

    /// An artifact that another stage wrote is not what this stage expects.
    pub fn artifact(what: impl Display, path: &Path) -> Self {
        Self::input(
            what,
            path.display(),
            "run `cargo xtask pipeline --force NODE` to make it again; NODE is the folder's name",
        )
    }
}

/// Escapes control characters, so that data quoted in a message cannot control the terminal.
fn visible(text: &str) -> String {
    let spelled = |c: char| {
        if c.is_control() && !matches!(c, '\n' | '\t') {
            c.escape_default().to_string()
        } else {
            c.to_string()
        }
    };
    if text.chars().any(char::is_control) {
        text.chars().map(spelled).collect()
    } else {
        text.to_owned()
    }
}

/// Removes users and passwords from the URLs in a text.
///
/// This is everything between `://` and the last `@` before white space or a quote, so malformed
/// URLs are covered, too.
pub fn without_credentials(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        let end = after
            .find(|c: char| c.is_whitespace() || matches!(c, '"' | '`' | '\''))
            .unwrap_or(after.len());
        let (address, behind) = after.split_at(end);
        out += before;
        out += "://";
        out += address.rsplit_once('@').map_or(address, |(_, host)| host);
        rest = behind;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_ever_shown() {
        for url in [
            "https://me:secret@a.example/x",
            "https://me:sec#secret@a.example/x",
            "https://me:secret@a.example/x",
            "x://secret@a@a.example/x",
        ] {
            let shown = Failure::usage(format_args!("no `{url}` \"{url}\""), url, "x").to_string();
            assert!(!shown.contains("secret") && shown.contains("a.example/x"), "{shown}");
        }
        assert_eq!(
            without_credentials("mail me@a.example about s3://b/c"),
            "mail me@a.example about s3://b/c"
        );
    }

    #[test]
    fn quoted_data_cannot_control_the_terminal() {
        let shown = Failure::input("has `\u{1b}[31m\u{7}` as its id\nand more", "x", "y").what;
        assert_eq!(shown, "has `\\u{1b}[31m\\u{7}` as its id\nand more");
    }

    #[test]
    fn an_error_shows_what_where_and_what_to_do() {
        let shown =
            Failure::input("row has 7 columns, not 8", "a.csv, row 17", "fix the row").to_string();
        assert_eq!(shown, "row has 7 columns, not 8\n  where: a.csv, row 17\n  hint:  fix the row");
    }

    #[test]
    fn a_full_disk_says_that_nothing_is_lost() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let failure = Failure::io("write", Path::new("x"), &full);
        assert!(failure.remedy.contains("free some disk space"), "{failure}");
        assert_eq!(failure.exit, Exit::Failed);
    }
}
