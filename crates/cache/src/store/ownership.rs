//! What belongs to knockline in a folder of artifacts, and what happens to the rest.

use std::path::{Path, PathBuf};

use failure::{Failure, Result};

use super::Store;
use crate::disk::{make, paths, rename};
use crate::manifest::{NAME, PARTIAL_NAME};
use crate::{Digests as _, Manifest, NodeName};

/// What a folder may contain that knockline takes for its own although it has never run there.
const HARMLESS: [&str; 4] = [".knockline", ".gitignore", ".gitkeep", "README.md"];

/// What systems put into folders on their own.
const SYSTEMS: [&str; 4] = [".DS_Store", "Thumbs.db", "desktop.ini", "lost+found"];

impl Store {
    /// Refuses a folder that is not empty and was not made by knockline.
    pub(super) fn refuse_if_foreign(&self) -> Result<()> {
        let entries = match std::fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(Failure::io("read folder", &self.root, &e)),
        };
        // Results are recognised by their manifests even if everything else was removed.
        let is_result = |entry: &std::fs::DirEntry| matches!(Manifest::read(&entry.path()), Ok(Some(manifest)) if entry.file_name() == manifest.node.as_str());
        let is_harmless = |entry: &std::fs::DirEntry| {
            HARMLESS.iter().chain(&SYSTEMS).any(|name| entry.file_name() == *name)
        };
        let is_strange = |entry: &std::fs::DirEntry| !is_harmless(entry) && !is_result(entry);
        match entries.flatten().find(is_strange) {
            None => Ok(()),
            Some(entry) => Err(Failure::usage(
                format_args!(
                    "the folder is not empty, and knockline did not make it: it contains `{}`",
                    entry.file_name().display()
                ),
                self.root.display(),
                "choose an empty folder, or a new one, with --artifacts",
            )),
        }
    }

    /// Refuses to put a result in place of a folder or a file that knockline did not make.
    ///
    /// # Errors
    /// If there is a link in the place of the current result of `node`, or something else without a
    /// manifest.
    pub fn refuse_foreign_node(&self, node: &NodeName) -> Result<()> {
        let current = self.current(node);
        if current.symlink_metadata().is_ok_and(|m| m.is_symlink()) {
            let remedy = "make the whole folder of artifacts a link instead, or choose another one with --artifacts";
            let what =
                format_args!("`{node}` is a link, and results move by renaming their folders");
            return Err(Failure::usage(what, current.display(), remedy));
        }
        // An empty folder can be replaced.
        if current.symlink_metadata().is_err()
            || current.join(NAME).exists()
            || std::fs::remove_dir(&current).is_ok()
        {
            return Ok(());
        }
        Err(Failure::usage(
            format_args!("`{node}` is not a result of knockline: it has no {NAME}"),
            current.display(),
            "move it out of the way, or choose another folder with --artifacts",
        ))
    }

    /// Moves a damaged folder out of the way, and keeps it for inspection.
    pub(crate) fn set_aside(&self, folder: &Path, node: &NodeName) -> Result<PathBuf> {
        let to = self.free_place_aside(node)?;
        rename(folder, &to)?;
        Ok(to)
    }

    fn free_place_aside(&self, node: &NodeName) -> Result<PathBuf> {
        let aside = self.inner("aside");
        make(&aside)?;
        let mut number = 1;
        while aside.join(format!("{node}-{number}")).exists() {
            number += 1;
        }
        Ok(aside.join(format!("{node}-{number}")))
    }

    /// Moves files in a result's folder that are not part of the result to `aside`, with a notice.
    /// Without a readable manifest, no file in the folder is known to be knockline's.
    pub(crate) fn set_aside_foreign_files(&self, folder: &Path, node: &NodeName) -> Result<()> {
        if folder.symlink_metadata().is_err() {
            return Ok(());
        }
        let manifest = Manifest::read(folder).ok().flatten();
        let is_ours = |path: &Path| {
            let Some(text) = path.to_str() else { return false };
            // A listed file whose content has changed is a user's edit, or damage, and is kept,
            // too.
            let listed = || {
                manifest
                    .as_ref()
                    .and_then(|m| m.digest(&text.replace(std::path::MAIN_SEPARATOR, "/")))
            };
            let same = || {
                listed().is_some_and(|digest| {
                    self.index.digest(&folder.join(path)).ok().as_ref() == Some(digest)
                })
            };
            text == NAME
                || text == PARTIAL_NAME
                || path.file_name().is_some_and(|name| SYSTEMS.iter().any(|s| name == *s))
                || same()
        };
        let foreign: Vec<PathBuf> =
            paths(folder)?.into_iter().filter(|path| !is_ours(path)).collect();
        if foreign.is_empty() {
            return Ok(());
        }
        let to = self.free_place_aside(node)?;
        for path in &foreign {
            let to = to.join(path);
            to.parent().map_or(Ok(()), make)?;
            rename(&folder.join(path), &to)?;
        }
        let names =
            foreign.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
        self.notice(format!(
            "{} had files that are not part of the result: {names}; they are kept in {}",
            folder.display(),
            to.display()
        ));
        Ok(())
    }
}
