//! What only a remote has: the newest manifest of each node there, and the files of such a result
//! that a run here has read.

use std::path::{Path, PathBuf};

use failure::Result;

use super::Store;
use crate::disk::{folders, make, rename, write_atomically};
use crate::{Digest, Digests as _, Manifest, NodeName};

impl Store {
    /// The manifest of the newest result of `node` that was found in this remote and left there.
    pub fn elsewhere(&self, remote: &str, node: &NodeName) -> Option<Manifest> {
        let path = self.elsewhere_path(remote, node);
        let manifest = Manifest::parse(&std::fs::read(&path).ok()?, path.display()).ok()?;
        (&manifest.node == node).then_some(manifest)
    }

    /// Keeps such a manifest, so that the next run need not ask for it. If another result of the
    /// node is current here, it goes into the store, so that nothing that runs later takes it for
    /// the one that was asked for.
    pub fn note_elsewhere(&self, remote: &str, manifest: &Manifest) -> Result<()> {
        let path = self.elsewhere_path(remote, &manifest.node);
        path.parent().map_or(Ok(()), make)?;
        write_atomically(&path, &manifest.to_bytes()?)?;
        self.put_away(&manifest.node)
    }

    /// The folder for single files of a result that only a remote has, and which of `files` are not
    /// in it yet. The files of the node's other results are removed.
    pub fn borrowed(
        &self,
        manifest: &Manifest,
        files: &[String],
    ) -> Result<(PathBuf, Vec<String>)> {
        let node = self.inner("borrowed").join(&manifest.node);
        let folder = node.join(manifest.key.as_str());
        for other in folders(&node).iter().filter(|other| **other != folder) {
            self.discard(other)?;
        }
        let is_there = |file: &&String| {
            let path = folder.join(file);
            self.index.digest(&path).is_ok_and(|digest| Some(&digest) == manifest.digest(file))
        };
        let missing = files.iter().filter(|file| !is_there(file)).cloned().collect();
        Ok((folder, missing))
    }

    /// Moves such files, which are synced and checked, from the folder `from` to where
    /// [`Store::borrowed`] finds them.
    pub fn borrow(&self, from: &Path, to: &Path, files: &[String]) -> Result<()> {
        for file in files {
            let to = to.join(file);
            to.parent().map_or(Ok(()), make)?;
            rename(&from.join(file), &to)?;
        }
        Ok(())
    }

    fn elsewhere_path(&self, remote: &str, node: &NodeName) -> PathBuf {
        // The remote's name may contain anything, even a password.
        let remote = Digest::of(remote.as_bytes());
        self.inner("elsewhere").join(remote.short()).join(format!("{node}.json"))
    }
}
