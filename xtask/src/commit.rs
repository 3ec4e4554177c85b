//! The commit of the workspace, which results record.

use std::path::Path;
use std::process::Command;

/// The commit of the workspace at `root`, with `-dirty` if tracked files differ from it. `None` if
/// it is not known: without git, or inside another project's repository.
///
/// It is not an ingredient of a key: a result records which commit made it, and stays right when
/// another commit would have made the same.
pub fn describe(root: &Path) -> Option<String> {
    let git = |args: &[&str]| {
        let output = Command::new("git")
            .arg("-C")
            .arg(root)
            .args(args)
            .output()
            .ok()
            .filter(|o| o.status.success())?;
        String::from_utf8(output.stdout).ok()
    };
    let found = git(&["rev-parse", "--show-toplevel", "--short=12", "HEAD"])?;
    let mut lines = found.lines();
    let (top, commit) = (lines.next()?, lines.next()?);
    let here = |path: &Path| path.canonicalize().ok();
    if here(Path::new(top)) != here(root) {
        return None;
    }
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])
        .is_none_or(|changes| !changes.is_empty());
    Some(if changed { format!("{commit}-dirty") } else { commit.to_owned() })
}
