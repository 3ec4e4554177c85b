//! What is knockline's in a folder of artifacts, and what becomes of what is not.

use std::path::{Path, PathBuf};

use artifact::{Failure, Result};

use super::Store;
use crate::Manifest;
use crate::disk::{files, make, rename};
use crate::manifest::{NAME, PARTIAL_NAME};

/// What may lie in a folder that knockline takes for its own though it has never run there.
const HARMLESS: [&str; 4] = [".knockline", ".gitignore", ".gitkeep", "README.md"];

impl Store {
    /// Refuses a folder that has something in it and was not made by knockline.
    pub(super) fn refuse_if_foreign(&self) -> Result<()> {
        let entries = match std::fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(Failure::io("read folder", &self.root, &e)),
        };
        // Results are known by their manifests also where somebody has removed everything else.
        let is_result =
            |entry: &std::fs::DirEntry| matches!(Manifest::read(&entry.path()), Ok(Some(manifest)) if entry.file_name() == *manifest.node);
        let is_strange = |entry: &std::fs::DirEntry| !HARMLESS.iter().any(|name| entry.file_name() == *name) && !is_result(entry);
        match entries.flatten().find(is_strange) {
            None => Ok(()),
            Some(entry) => Err(Failure::usage(
                format_args!("the folder is not empty, and knockline did not make it: it has `{}`", entry.file_name().display()),
                self.root.display(),
                "choose an empty folder, or a new one, with --artifacts",
            )),
        }
    }

    /// Refuses to put a result where somebody else's folder or file lies.
    ///
    /// # Errors
    /// If there is something in the place of a current result of `node` that has no manifest.
    pub fn refuse_foreign_node(&self, node: &str) -> Result<()> {
        let current = self.current(node);
        if current.symlink_metadata().is_err() || current.join(NAME).exists() {
            return Ok(());
        }
        Err(Failure::usage(
            format_args!("`{node}` is not a result of knockline: it has no {NAME}"),
            current.display(),
            "move it out of the way, or choose another folder with --artifacts",
        ))
    }

    /// Moves a damaged folder out of the way, and keeps it for a look.
    pub(crate) fn set_aside(&self, folder: &Path, node: &str) -> Result<PathBuf> {
        let to = self.free_place_aside(node)?;
        rename(folder, &to)?;
        Ok(to)
    }

    fn free_place_aside(&self, node: &str) -> Result<PathBuf> {
        let aside = self.inner("aside");
        make(&aside)?;
        let mut number = 1;
        while aside.join(format!("{node}-{number}")).exists() {
            number += 1;
        }
        Ok(aside.join(format!("{node}-{number}")))
    }

    /// Moves what lies in a result's folder and is not of the result to `aside`, and says so. Without a manifest that can be
    /// read, nothing in the folder is known to be knockline's.
    pub(crate) fn keep_strangers(&self, folder: &Path, node: &str) -> Result<()> {
        if folder.symlink_metadata().is_err() {
            return Ok(());
        }
        let manifest = Manifest::read(folder).ok().flatten();
        let is_ours = |path: &str| {
            let listed = manifest.as_ref().is_some_and(|m| m.digest(path).is_some());
            listed || path == NAME || path == PARTIAL_NAME
        };
        let strangers: Vec<String> = files(folder)?.into_iter().filter(|path| !is_ours(path)).collect();
        if strangers.is_empty() {
            return Ok(());
        }
        let to = self.free_place_aside(node)?;
        for path in &strangers {
            let to = to.join(path);
            to.parent().map_or(Ok(()), make)?;
            rename(&folder.join(path), &to)?;
        }
        let names = strangers.join(", ");
        self.notice(format!("{} had files that are not of the result: {names}; they are kept in {}", folder.display(), to.display()));
        Ok(())
    }
}
