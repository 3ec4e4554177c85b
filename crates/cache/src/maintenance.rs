//! Maintenance of a store: rereads every file, and removes what no current result needs.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use failure::{Failure, Result};

use crate::disk::{folders, remove};
use crate::manifest::NAME;
use crate::{Earlier, Index, Manifest, ManifestError, NodeName, Retention, Store};

/// What a check of one result found.
pub struct Checked {
    /// The node.
    pub node: NodeName,
    /// The result's folder, relative to the folder of artifacts.
    pub place: String,
    /// The size of its files in bytes.
    pub bytes: u64,
    /// What is wrong with it, and where it lies if it was set aside; a folder that is not
    /// knockline's stays where it is.
    pub damaged: Option<(String, Option<PathBuf>)>,
}

impl Store {
    /// The nodes that have a result here, current or stored, by name.
    pub fn nodes(&self) -> Vec<NodeName> {
        let name = |folder: &PathBuf| NodeName::try_from(folder.file_name()?.to_str()?).ok();
        let current = folders(self.root()).into_iter().filter(|folder| folder.join(NAME).exists());
        let mut nodes: Vec<NodeName> = current
            .chain(folders(&self.inner("store")))
            .filter_map(|folder| name(&folder))
            .collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }

    /// The manifests of the earlier results of a node that are still in the store.
    pub fn earlier(&self, node: &NodeName) -> Vec<Manifest> {
        let mut stored = folders(&self.inner("store").join(node));
        stored.sort_unstable();
        let manifests = stored.iter().filter_map(|folder| Manifest::read(folder).ok().flatten());
        let counts =
            |manifest: &Manifest| &manifest.node == node && self.distrusts(manifest).is_none();
        manifests.filter(counts).collect()
    }

    /// The folders of the results of a node that are here, the current one first, each with its
    /// manifest or the reason why it cannot be read. Those that do not count are left out.
    pub fn results(&self, node: &NodeName) -> Vec<(PathBuf, Result<Manifest, ManifestError>)> {
        let mut stored = folders(&self.inner("store").join(node));
        stored.sort_unstable();
        let all = std::iter::once(self.current(node)).chain(stored);
        all.filter_map(|folder| {
            let manifest = Manifest::read(&folder).transpose()?;
            if manifest.as_ref().is_ok_and(|manifest| self.distrusts(manifest).is_some()) {
                return None;
            }
            Some((folder, manifest))
        })
        .collect()
    }

    /// The manifests of all results of a node that are here, current or stored, or were found in a
    /// remote.
    pub fn seen(&self, node: &NodeName) -> Vec<Manifest> {
        let mut seen = self.earlier(node);
        seen.extend(Manifest::read(&self.current(node)).ok().flatten());
        for remote in folders(&self.inner("elsewhere")) {
            let path = remote.join(format!("{node}.json"));
            seen.extend(
                std::fs::read(&path)
                    .ok()
                    .and_then(|bytes| Manifest::parse(&bytes, path.display()).ok()),
            );
        }
        seen.retain(|manifest| &manifest.node == node && self.distrusts(manifest).is_none());
        seen
    }

    /// Rereads every file of every result of `nodes`, current or stored, without an index. Damaged
    /// results are set aside. The caller must hold the lock.
    pub fn verify(&self, nodes: &[NodeName], mut report: impl FnMut(&Checked)) -> Result<()> {
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

    fn verify_one(&self, node: &NodeName, folder: &Path) -> Result<Checked> {
        let (bytes, problem) = match Manifest::read(folder) {
            Ok(Some(manifest)) if &manifest.node != node => {
                (0, Some(format!("the manifest belongs to `{}`", manifest.node)))
            }
            Ok(Some(manifest)) => (manifest.bytes(), manifest.check(folder, &Index::default())),
            Ok(None) => (0, Some("there is no manifest".to_owned())),
            Err(damaged @ ManifestError::Damaged { .. }) => (0, Some(damaged.to_string())),
            Err(error) => return Err(error.into()),
        };
        let place = folder.strip_prefix(self.root()).unwrap_or(folder).display().to_string();
        let damaged = match problem {
            Some(problem) if folder.join(NAME).exists() && !self.is_read_only() => {
                Some((problem, Some(self.set_aside(folder, node)?)))
            }
            Some(problem) => Some((problem, None)),
            None => None,
        };
        Ok(Checked { node: node.clone(), place, bytes, damaged })
    }

    /// Removes what no current result needs: earlier results that the limits do not keep, unfinished
    /// runs, and copies of files that a remote has. Of the latter two, only old ones if there are
    /// limits. Files in an earlier result's folder that are not part of the result are set aside. The
    /// caller must hold the lock.
    pub fn collect(&self, wanted: &Collection) -> Result<Collected> {
        let Collection { dry_run, aside, retention } = *wanted;
        let mut freed = size(&self.inner("trash"))?;
        let mut dropped = 0;
        let earlier = self.all_earlier()?;
        let all = earlier.len();
        for Earlier { result: folder, node, bytes, .. } in retention.dropped(earlier) {
            dropped += 1;
            if !dry_run && let Ok(name) = NodeName::try_from(node.as_str()) {
                self.set_aside_foreign_files(&folder, &name)?;
            }
            freed += bytes;
            if !dry_run {
                self.discard(&folder)?;
            }
        }
        let set_aside = folders(&self.inner("aside"))
            .into_iter()
            .map(|folder| Ok((size(&folder)?, folder)))
            .collect::<Result<Vec<_>>>()?;
        let mut gone = Vec::new();
        for folder in ["unfinished", "borrowed"].map(|name| self.inner(name)) {
            if retention.is_any() {
                let of_nodes = folders(&folder);
                gone.extend(of_nodes.into_iter().flat_map(|node| folders(&node)).filter(
                    |folder| {
                        let last = last_change(folder);
                        retention.since.zip(last).is_some_and(|(since, last)| last < since)
                    },
                ));
            } else {
                gone.push(folder);
            }
        }
        gone.extend(aside.then(|| self.inner("aside")));
        for folder in gone {
            freed += size(&folder)?;
            if !dry_run {
                self.discard(&folder)?;
            }
        }
        if !dry_run {
            if dropped == all {
                remove(&self.inner("store"))?;
            }
            remove(&self.inner("trash"))?;
            self.remove_partial_indexes();
        }
        Ok(Collected { freed, kept: all - dropped, set_aside })
    }

    /// The folders of all earlier results.
    fn all_earlier(&self) -> Result<Vec<Earlier<PathBuf>>> {
        let mut all = Vec::new();
        for of_node in folders(&self.inner("store")) {
            let node = of_node.file_name().unwrap_or_default().to_string_lossy().into_owned();
            for folder in folders(&of_node) {
                // The manifest is the last file of a result that is written.
                let made = std::fs::metadata(folder.join(NAME)).and_then(|m| m.modified());
                all.push(Earlier {
                    made: made.unwrap_or(SystemTime::UNIX_EPOCH),
                    bytes: size(&folder)?,
                    node: node.clone(),
                    result: folder,
                });
            }
        }
        Ok(all)
    }
}

/// When a file below this folder was last written.
fn last_change(folder: &Path) -> Option<SystemTime> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let of_entry = |entry: std::fs::DirEntry| {
        let metadata = entry.metadata().ok()?;
        let own = metadata.modified().ok();
        if metadata.is_dir() { last_change(&entry.path()).max(own) } else { own }
    };
    let own = std::fs::metadata(folder).and_then(|m| m.modified()).ok();
    entries.filter_map(of_entry).max().max(own)
}

/// What to remove from a store.
#[derive(Clone, Copy, Debug, Default)]
pub struct Collection {
    /// Whether to remove nothing, and only tell what would be removed.
    pub dry_run: bool,
    /// Whether to remove also what was set aside.
    pub aside: bool,
    /// Which earlier results stay.
    pub retention: Retention,
}

impl Store {
    /// Removes what is left of an index that was being saved when its process was killed. If the
    /// process still runs, it saves its index the next time.
    fn remove_partial_indexes(&self) {
        let entries = std::fs::read_dir(self.inner("")).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with("index.") && name.ends_with(".partial") {
                let _ = std::fs::remove_file(&path);
            }
        }
    }
}

/// What [`Store::collect`] found.
pub struct Collected {
    /// The number of bytes that were freed, or could be.
    pub freed: u64,
    /// How many earlier results stay.
    pub kept: usize,
    /// What was set aside, with its size in bytes.
    pub set_aside: Vec<(u64, PathBuf)>,
}

/// The size in bytes of all files below a folder.
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
    use crate::name::named;
    use std::fs;

    const ALL: Collection = Collection {
        dry_run: false,
        aside: false,
        retention: Retention { newest: None, since: None, most_bytes: None },
    };

    fn publish(store: &Store, lr: &str) -> Manifest {
        let mut all = Ingredients::new();
        all.add("option lr", lr);
        let work = store.work(&named("train.slp"), &all.content_key(), false).expect("a folder");
        fs::write(work.join("model"), format!("{lr:>9}")).expect("writes");
        store.publish(&named("train.slp"), all.recipe_key(), all, String::new()).expect("publishes")
    }

    fn verified(store: &Store) -> Vec<(String, bool)> {
        let mut seen = Vec::new();
        store
            .verify(&["train.slp", "train.mlp"].map(named), |c| {
                seen.push((c.place.clone(), c.damaged.is_none()));
            })
            .expect("verifies");
        seen
    }

    #[test]
    fn every_flipped_bit_and_every_lost_file_is_found_without_the_index() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(dir.path());
        let first = publish(&store, "0.1");
        publish(&store, "0.2");
        assert_eq!(
            verified(&store),
            [
                ("train.slp".to_owned(), true),
                (format!(".knockline/store/train.slp/{}", first.key), true)
            ]
        );
        for bit in 0..9 * 8 {
            let path = store.current(&named("train.slp")).join("model");
            let mut bytes = fs::read(&path).expect("reads");
            bytes[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, bytes).expect("writes");
            assert_eq!(verified(&store)[0], ("train.slp".to_owned(), false), "bit {bit}");
            assert!(!path.exists(), "it is set aside");
            publish(&store, "0.2");
        }
        fs::remove_file(dir.path().join(format!(".knockline/store/train.slp/{}/model", first.key)))
            .expect("removes");
        assert!(!verified(&store)[1].1);
        assert_eq!(verified(&store), [("train.slp".to_owned(), true)]);
    }

    #[test]
    fn collecting_keeps_what_is_current() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(dir.path());
        publish(&store, "0.1");
        publish(&store, "0.2");
        // As a killed process leaves it.
        let index = dir.path().join(".knockline/index.17.partial");
        fs::write(&index, "{").expect("writes");
        let freed = store.collect(&Collection { dry_run: true, ..ALL }).expect("looks").freed;
        assert!(index.exists());
        assert!(freed > 9 && dir.path().join(".knockline/store/train.slp").exists());
        assert_eq!(store.collect(&ALL).expect("removes").freed, freed);
        assert!(!index.exists());
        assert!(
            !dir.path().join(".knockline/store").exists()
                && !dir.path().join(".knockline/trash").exists()
        );
        assert_eq!(verified(&store), [("train.slp".to_owned(), true)]);
        assert_eq!(store.collect(&ALL).expect("removes").freed, 0);
    }

    #[test]
    fn collecting_keeps_what_the_limits_say() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(dir.path());
        let made: Vec<Manifest> = ["0.1", "0.2", "0.3", "0.4"].map(|lr| publish(&store, lr)).into();
        let stored = |of: &Manifest| store.stored(&named("train.slp"), &of.key);
        for (of, hours) in made.iter().zip([72, 48]) {
            let old = SystemTime::now() - std::time::Duration::from_hours(hours);
            let manifest = fs::File::options().append(true).open(stored(of).join(NAME));
            manifest.and_then(|file| file.set_modified(old)).expect("sets the time");
        }
        let mut ingredients = Ingredients::new();
        ingredients.add("option lr", "0.5");
        let key = ingredients.content_key();
        let unfinished = store.work(&named("train.slp"), &key, true).expect("a folder");
        fs::write(unfinished.join("checkpoint"), "half").expect("writes");
        let there = || made.iter().map(|of| stored(of).exists()).collect::<Vec<_>>();
        let with = |retention| store.collect(&Collection { retention, ..ALL }).expect("removes");

        let since = Some(SystemTime::now() - std::time::Duration::from_hours(24));
        let two = with(Retention { newest: Some(2), since, most_bytes: None });
        assert_eq!((two.kept, there()), (2, vec![false, true, true, false]));
        let young = with(Retention { since, ..Retention::default() });
        assert_eq!((young.kept, there()), (1, vec![false, false, true, false]));
        let small = with(Retention { most_bytes: Some(1), ..Retention::default() });
        assert_eq!((small.kept, there()), (0, vec![false; 4]));
        assert!(unfinished.exists(), "an unfinished run of today was dropped");
        let now = Some(SystemTime::now() + std::time::Duration::from_hours(1));
        with(Retention { since: now, ..Retention::default() });
        assert!(!unfinished.exists());
        assert_eq!(verified(&store), [("train.slp".to_owned(), true)]);
    }

    #[test]
    fn collecting_removes_nothing_that_knockline_did_not_make() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(dir.path());
        let first = publish(&store, "0.1");
        fs::write(store.current(&named("train.slp")).join("notes.txt"), "mine").expect("writes");
        publish(&store, "0.2");
        assert_eq!(
            fs::read_to_string(dir.path().join(".knockline/aside/train.slp-1/notes.txt"))
                .expect("reads"),
            "mine"
        );
        assert!(store.notices()[0].contains("notes.txt"));
        fs::write(store.stored(&named("train.slp"), &first.key).join("more.txt"), "mine, too")
            .expect("writes");
        let collected = store.collect(&ALL).expect("removes");
        assert_eq!(collected.set_aside.len(), 2, "it is listed");
        assert_eq!(
            fs::read_to_string(dir.path().join(".knockline/aside/train.slp-2/more.txt"))
                .expect("reads"),
            "mine, too"
        );
        assert_eq!(store.collect(&Collection { aside: true, ..ALL }).expect("removes").freed, 13);
        assert!(!dir.path().join(".knockline/aside").exists(), "on demand, this is removed, too");
    }

    #[test]
    fn verifying_leaves_a_folder_that_is_not_knockline_s_where_it_is() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(dir.path());
        fs::create_dir(dir.path().join("train.slp")).expect("a folder");
        fs::write(dir.path().join("train.slp/mine"), "precious").expect("writes");
        assert_eq!(verified(&store), [("train.slp".to_owned(), false)]);
        assert_eq!(
            fs::read_to_string(dir.path().join("train.slp/mine")).expect("reads"),
            "precious"
        );
    }
}
