//! Looking after a store: rereading everything, and dropping what nothing needs.

use std::path::{Path, PathBuf};

use artifact::{Failure, Result};

use crate::disk::{folders, remove};
use crate::{Index, Manifest, Store};

/// What was found of one result.
pub struct Checked {
    /// The node.
    pub node: String,
    /// The folder's place below the artifacts' one.
    pub place: String,
    /// Bytes of its files.
    pub bytes: u64,
    /// What is wrong with it, and where it lies now.
    pub damaged: Option<(String, PathBuf)>,
}

impl Store {
    /// The earlier results of a node that are still there, as their manifests say.
    pub fn earlier(&self, node: &str) -> Vec<Manifest> {
        let mut stored = folders(&self.inner("store").join(node));
        stored.sort_unstable();
        let manifests = stored.iter().filter_map(|folder| Manifest::read(folder).ok().flatten());
        manifests.filter(|manifest| manifest.node == node).collect()
    }

    /// The manifests of every result of a node that is here, current or stored, or was seen in a remote.
    pub fn seen(&self, node: &str) -> Vec<Manifest> {
        let mut seen = self.earlier(node);
        seen.extend(Manifest::read(&self.current(node)).ok().flatten());
        for remote in folders(&self.inner("elsewhere")) {
            let path = remote.join(format!("{node}.json"));
            seen.extend(std::fs::read(&path).ok().and_then(|bytes| Manifest::parse(&bytes, path.display()).ok()));
        }
        seen.retain(|manifest| manifest.node == node);
        seen
    }

    /// Rereads every file of every result, current or stored, and trusts no index. What is damaged
    /// is set aside. To be called with the lock held.
    pub fn verify(&self, nodes: &[&str], mut report: impl FnMut(&Checked)) -> Result<()> {
        for node in nodes {
            let mut results = vec![self.current(node)];
            let mut stored = folders(&self.inner("store").join(node));
            stored.sort_unstable();
            results.extend(stored);
            for folder in results.iter().filter(|folder| folder.exists()) {
                report(&self.verify_one(node, folder)?);
            }
        }
        Ok(())
    }

    fn verify_one(&self, node: &str, folder: &Path) -> Result<Checked> {
        let (bytes, problem) = match Manifest::read(folder) {
            Ok(Some(manifest)) if manifest.node != node => (0, Some(format!("the manifest is that of `{}`", manifest.node))),
            Ok(Some(manifest)) => (manifest.bytes(), manifest.check(folder, &Index::default())),
            Ok(None) => (0, Some("there is no manifest".to_owned())),
            Err(failure) if failure.exit == artifact::Exit::BadInput => (0, Some(failure.what)),
            Err(failure) => return Err(failure),
        };
        let place = folder.strip_prefix(self.root()).unwrap_or(folder).display().to_string();
        let damaged = match problem {
            Some(problem) => Some((problem, self.set_aside(folder, node)?)),
            None => None,
        };
        Ok(Checked { node: node.to_owned(), place, bytes, damaged })
    }

    /// Removes what no current result needs: earlier results, unfinished runs, what was set aside.
    /// Returns the bytes that it took; with `keep` nothing is removed. To be called with the lock held.
    pub fn collect(&self, keep: bool) -> Result<u64> {
        let mut freed = size(&self.inner("trash"))?;
        for name in ["store", "unfinished", "aside", "borrowed"] {
            let folder = self.inner(name);
            freed += size(&folder)?;
            if !keep {
                self.discard(&folder)?;
            }
        }
        if !keep {
            remove(&self.inner("trash"))?;
        }
        Ok(freed)
    }
}

/// Bytes of all files below a folder.
fn size(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    let mut todo = vec![folder.to_owned()];
    while let Some(folder) = todo.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(e) => return Err(Failure::io("read folder", &folder, &e)),
        };
        for entry in entries {
            let entry = entry.map_err(|e| Failure::io("read folder", &folder, &e))?;
            let metadata = entry.metadata().map_err(|e| Failure::io("read", &entry.path(), &e))?;
            if metadata.is_dir() { todo.push(entry.path()) } else { bytes += metadata.len() }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Ingredients;
    use std::fs;

    fn publish(store: &Store, lr: &str) -> Manifest {
        let mut all = Ingredients::new();
        all.add("option lr", lr);
        let work = store.work("train.slp", &all.key()).expect("a folder");
        fs::write(work.join("model"), format!("{lr:>9}")).expect("writes");
        store.publish("train.slp", all.key(), all, String::new()).expect("publishes")
    }

    fn verified(store: &Store) -> Vec<(String, bool)> {
        let mut seen = Vec::new();
        store.verify(&["train.slp", "train.mlp"], |c| seen.push((c.place.clone(), c.damaged.is_none()))).expect("verifies");
        seen
    }

    #[test]
    fn every_flipped_bit_and_every_lost_file_is_found_whatever_the_index_says() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(dir.path());
        let first = publish(&store, "0.1");
        publish(&store, "0.2");
        assert_eq!(verified(&store), [("train.slp".to_owned(), true), (format!(".knockline/store/train.slp/{}", first.key), true)]);
        for bit in 0..9 * 8 {
            let path = store.current("train.slp").join("model");
            let mut bytes = fs::read(&path).expect("reads");
            bytes[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, bytes).expect("writes");
            assert_eq!(verified(&store)[0], ("train.slp".to_owned(), false), "bit {bit}");
            assert!(!path.exists(), "it is set aside");
            publish(&store, "0.2");
        }
        fs::remove_file(dir.path().join(format!(".knockline/store/train.slp/{}/model", first.key))).expect("removes");
        assert!(!verified(&store)[1].1);
        assert_eq!(verified(&store), [("train.slp".to_owned(), true)]);
    }

    #[test]
    fn collecting_keeps_what_is_current() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(dir.path());
        publish(&store, "0.1");
        publish(&store, "0.2");
        let freed = store.collect(true).expect("looks");
        assert!(freed > 9 && dir.path().join(".knockline/store/train.slp").exists());
        assert_eq!(store.collect(false).expect("removes"), freed);
        assert!(!dir.path().join(".knockline/store").exists() && !dir.path().join(".knockline/trash").exists());
        assert_eq!(verified(&store), [("train.slp".to_owned(), true)]);
        assert_eq!(store.collect(false).expect("removes"), 0);
    }
}
