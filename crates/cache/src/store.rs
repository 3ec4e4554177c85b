//! Results on the disk.
//!
//! ```text
//! artifacts/<node>/                              the current result: its files and manifest.json
//! artifacts/.knockline/store/<node>/<key>/       earlier ones, until they are wanted again
//! artifacts/.knockline/unfinished/<node>/<key>/  the run in progress
//! artifacts/.knockline/aside/                    what was damaged or is not knockline's
//! artifacts/.knockline/elsewhere/<remote>/<node>.json   newest manifest that only the remote has
//! artifacts/.knockline/borrowed/<node>/<key>/    files of such a result that a run here has read
//! ```
//!
//! A result moves between these places by renaming its folder, whole or not at all. A run writes
//! into `unfinished`; its files are synced and digested, the manifest is written, the folder is
//! renamed into the store, and only then does it change places with the current one. So a run that
//! is killed at any point leaves every finished result where it can be found.
//!
//! knockline removes only what it made: it recognises its folder by the lock file, a node's folder
//! by its manifest, and a file by the manifest's list. Everything else is refused, or moved to
//! `aside` with a notice.

mod elsewhere;
mod ownership;
mod trust;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use failure::{Failure, Result};

use crate::disk::{digest_all, folders, make, remove, rename};
use crate::manifest::{NAME, PARTIAL_NAME};
use crate::{
    ContentKey, Digest, Index, Ingredients, Lock, Manifest, ManifestError, NodeName, Output,
    RecipeKey, StageReport, Trust,
};

/// What the names of folders of pieces begin with, among the checkpoints of a shared run.
const PIECES: &str = "chunks-of-";

/// A folder of artifacts.
pub struct Store {
    root: PathBuf,
    /// Digests of files that were read before.
    pub index: Index,
    notices: Mutex<Vec<String>>,
    read_only: AtomicBool,
    trust: OnceLock<Trust>,
}

/// What was found for a key.
pub struct CheckedOut {
    /// The result, if there is an undamaged one. It is now the current one.
    pub manifest: Option<Manifest>,
    /// The damage to results that were set aside, in words.
    pub damaged: Vec<String>,
}

impl Store {
    /// The store in the folder `root`, which need not exist yet and is not created by reading.
    pub fn open(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            index: Index::open(&root.join(".knockline").join("index.json")),
            notices: Mutex::default(),
            read_only: AtomicBool::new(false),
            trust: OnceLock::new(),
        }
    }

    /// Makes the index read every file again, even if it knows the digest.
    pub fn paranoid(mut self, paranoid: bool) -> Self {
        self.index = self.index.paranoid(paranoid);
        self
    }

    /// Makes the index wait `settled` before it trusts a file's time stamps, for tests that cannot
    /// wait.
    pub fn settled_after(mut self, settled: Duration) -> Self {
        self.index = self.index.settled_after(settled);
        self
    }

    /// Creates the folder and waits until no other run works in it.
    ///
    /// Finished results that a killed run left go into the store, unfinished training runs stay so
    /// that this run can resume them, and everything else that it left is removed. If the folder is
    /// read-only, the lock is for reading only.
    ///
    /// # Errors
    /// If the folder contains files and was not made by knockline.
    pub fn lock(&self, waiting: impl FnOnce()) -> Result<Lock> {
        let inner = self.inner("");
        if !self.inner("lock").exists() {
            self.refuse_if_foreign()?;
        }
        make(&inner)?;
        let lock = Lock::take(&inner.join("lock"), waiting)?;
        self.read_only.store(lock.read_only, Ordering::Relaxed);
        if lock.read_only {
            return Ok(lock);
        }
        // A stage whose run was killed may live a moment longer; it holds this lock while it does.
        drop(Lock::take(&self.stage_lock(), || ())?);
        self.rescue()?;
        remove(&self.inner("trash"))?;
        remove(&self.inner("incoming"))?;
        for node in folders(&self.inner("unfinished")) {
            for run in folders(&node) {
                // Without a checkpoint there is nothing to resume, and a finished result needs no
                // checkpoint.
                if !run.join("checkpoints").exists() || self.is_finished(&node, &run) {
                    remove(&run)?;
                }
            }
            let _ = std::fs::remove_dir(&node);
        }
        let _ = std::fs::remove_dir(self.inner("unfinished"));
        Ok(lock)
    }

    /// Whether the result that the unfinished `run` in the folder of its `node` was to make exists
    /// and is not older than the run. If the result is older, the run was forced.
    fn is_finished(&self, node: &Path, run: &Path) -> bool {
        let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
        let node = name(node).and_then(|node| NodeName::try_from(node).ok());
        let key = name(run).and_then(|key| Digest::try_from(key).ok()).map(ContentKey::from);
        let (Some(node), Some(key)) = (node, key) else { return false };
        if self.peek(&node, &key).is_none() {
            return false;
        }
        let written = |path: &Path| std::fs::metadata(path).and_then(|m| m.modified()).ok();
        let result = [self.current(&node), self.stored(&node, &key)]
            .iter()
            .filter_map(|folder| written(&folder.join(NAME)))
            .max();
        result >= written(&run.join("checkpoints"))
    }

    /// Whether the folder is read-only.
    pub fn is_read_only(&self) -> bool {
        self.read_only.load(Ordering::Relaxed)
    }

    /// What was moved out of the way since the last call, in words.
    pub fn notices(&self) -> Vec<String> {
        std::mem::take(&mut self.notices.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The lock that a stage holds while it writes into its work folder.
    pub fn stage_lock(&self) -> PathBuf {
        self.inner("stage.lock")
    }

    /// Moves finished results that a killed run left in its work folder into the store.
    fn rescue(&self) -> Result<()> {
        for node in folders(&self.inner("unfinished")) {
            for work in folders(&node) {
                let Ok(Some(manifest)) = Manifest::read(&work) else { continue };
                let stored = self.stored(&manifest.node, &manifest.key);
                if node.file_name().is_some_and(|name| name == manifest.node.as_str())
                    && !stored.exists()
                {
                    stored.parent().map_or(Ok(()), make)?;
                    rename(&work, &stored)?;
                }
            }
        }
        Ok(())
    }

    /// The manifest of the result of `node` under `key`, current or stored, if it is undamaged.
    /// Nothing is moved.
    pub fn peek(&self, node: &NodeName, key: &ContentKey) -> Option<Manifest> {
        let places = [self.current(node), self.stored(node, key)];
        places.iter().find_map(|folder| {
            let manifest = Manifest::read(folder).ok()??;
            (&manifest.node == node
                && &manifest.key == key
                && self.distrusts(&manifest).is_none()
                && manifest.check(folder, &self.index).is_none())
            .then_some(manifest)
        })
    }

    /// Moves the current result of a node into the store.
    pub fn put_away(&self, node: &NodeName) -> Result<()> {
        let current = self.current(node);
        let Ok(Some(old)) = Manifest::read(&current) else { return Ok(()) };
        let place = self.stored(node, &old.key);
        place.parent().map_or(Ok(()), make)?;
        self.set_aside_foreign_files(&current, node)?;
        self.set_aside_foreign_files(&place, node)?;
        self.discard(&place)?;
        rename(&current, &place)
    }

    /// Where a node's current result lies.
    pub fn current(&self, node: &NodeName) -> PathBuf {
        self.root.join(node)
    }

    /// Where downloads are kept.
    pub fn downloads(&self) -> PathBuf {
        self.inner("downloads")
    }

    /// The folder of artifacts.
    pub fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn inner(&self, name: &str) -> PathBuf {
        self.root.join(".knockline").join(name)
    }

    /// Where an earlier result of a node lies.
    pub fn stored(&self, node: &NodeName, key: &ContentKey) -> PathBuf {
        self.inner("store").join(node).join(key.as_str())
    }

    /// Makes the result of `node` under `key` the current one, if it is here, whether as the
    /// current one already or as an earlier one. A result with a wrong file is set aside and never
    /// used.
    pub fn check_out(&self, node: &NodeName, key: &ContentKey) -> Result<CheckedOut> {
        let mut damaged = Vec::new();
        let current = self.current(node);
        if let Some(manifest) =
            self.sound(&current, node, key, &mut damaged)?.filter(|m| &m.key == key)
            && self.counts(&manifest)
        {
            return Ok(CheckedOut { manifest: Some(manifest), damaged });
        }
        let manifest = self
            .sound(&self.stored(node, key), node, key, &mut damaged)?
            .filter(|m| &m.key == key && self.counts(m));
        if manifest.is_some() {
            self.writable(format_args!(
                "an earlier result of `{node}` has to become the current one"
            ))?;
            self.make_current(node, key)?;
        }
        Ok(CheckedOut { manifest, damaged })
    }

    /// The manifest in `folder`. If its key is `wanted`, its files are checked. A damaged result is
    /// set aside.
    fn sound(
        &self,
        folder: &Path,
        node: &NodeName,
        wanted: &ContentKey,
        damaged: &mut Vec<String>,
    ) -> Result<Option<Manifest>> {
        let problem = match Manifest::read(folder) {
            Ok(None) => return Ok(None),
            Ok(Some(manifest)) if &manifest.node != node => {
                format!("the manifest belongs to `{}`", manifest.node)
            }
            Ok(Some(manifest)) => match (wanted == &manifest.key)
                .then(|| manifest.check(folder, &self.index))
                .flatten()
            {
                None => return Ok(Some(manifest)),
                Some(problem) => problem,
            },
            Err(damaged @ ManifestError::Damaged { .. }) => damaged.to_string(),
            Err(error) => return Err(error.into()),
        };
        self.writable(format_args!("the result of `{node}` has to be set aside ({problem})"))?;
        let aside = self.set_aside(folder, node)?;
        damaged.push(format!("{node}: {problem}; set aside in {}", aside.display()));
        Ok(None)
    }

    /// Fails if the folder is read-only; `why` states what has to be written.
    ///
    /// # Errors
    /// If the lock that is held is for reading only.
    pub fn writable(&self, why: std::fmt::Arguments<'_>) -> Result<()> {
        if !self.is_read_only() {
            return Ok(());
        }
        let remedy =
            "run it where the folder can be written to, or choose another one with --artifacts";
        Err(Failure::failed(
            format_args!("{why}, and the folder is read-only"),
            self.root.display(),
            remedy,
        ))
    }

    pub(crate) fn notice(&self, notice: String) {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner).push(notice);
    }

    /// Whether there is an unfinished run of `node` under `key`.
    pub fn has_unfinished(&self, node: &NodeName, key: &ContentKey) -> bool {
        self.inner("unfinished").join(node).join(key.as_str()).join("checkpoints").is_dir()
    }

    /// Whether there is an unfinished run of `node`, but none under `key`.
    pub fn has_other_unfinished(&self, node: &NodeName, key: &ContentKey) -> bool {
        let folder = self.inner("unfinished").join(node);
        !folder.join(key.as_str()).exists() && !folders(&folder).is_empty()
    }

    /// The folder for a run of `node` under `key`. It is empty unless `resume` is set, with which
    /// an unfinished run of the same key stays in it.
    pub fn work(&self, node: &NodeName, key: &ContentKey, resume: bool) -> Result<PathBuf> {
        let folder = self.inner("unfinished").join(node).join(key.as_str());
        if !resume {
            remove(&folder)?;
        }
        make(&folder)?;
        Ok(folder)
    }

    /// Removes the unfinished run of `node` under `key`.
    pub fn drop_unfinished(&self, node: &NodeName, key: &ContentKey) -> Result<()> {
        remove(&self.inner("unfinished").join(node).join(key.as_str()))
    }

    /// An empty folder for a result of `node` that arrives from elsewhere. What a killed run left
    /// in it is removed.
    pub fn incoming(&self, node: &NodeName) -> Result<PathBuf> {
        let folder = self.inner("incoming").join(node);
        remove(&folder)?;
        make(&folder)?;
        Ok(folder)
    }

    /// Removes what did not arrive completely. What cannot be removed now is removed when the store
    /// is locked next.
    pub fn drop_incoming(&self) {
        let _ = remove(&self.inner("incoming"));
    }

    /// Makes a result whose files lie in `folder`, synced and checked against the `manifest`, the
    /// current one of its node.
    pub fn adopt(&self, folder: &Path, manifest: &Manifest) -> Result<()> {
        manifest.write(folder)?;
        self.store(folder, manifest)
    }

    /// Makes what a run wrote into its work folder the current result of `node`.
    pub fn publish(
        &self,
        node: &NodeName,
        recipe: RecipeKey,
        ingredients: Ingredients,
        report: impl Into<StageReport>,
    ) -> Result<Manifest> {
        let work = self.work(node, &ingredients.content_key(), true)?;
        let outputs = outputs_in(&work)?;
        let mut manifest = Manifest::new(node, recipe, ingredients, report, outputs);
        if let Some(trust) = self.trust.get() {
            trust.sign(&mut manifest);
        }
        manifest.write(&work)?;
        self.store(&work, &manifest)?;
        Ok(manifest)
    }

    /// Moves a complete result into the store, and then into the place of the current one.
    fn store(&self, folder: &Path, manifest: &Manifest) -> Result<()> {
        let stored = self.stored(&manifest.node, &manifest.key);
        if let Some(parent) = stored.parent() {
            make(parent)?;
        }
        // The old result of this key is removed only when the new one has its name.
        self.set_aside_foreign_files(&stored, &manifest.node)?;
        let old = self.to_trash(&stored)?;
        rename(folder, &stored)?;
        // The folders above it are removed if they are empty now.
        for parent in folder.ancestors().skip(1).take(2) {
            if std::fs::remove_dir(parent).is_err() {
                break;
            }
        }
        old.map_or(Ok(()), |old| remove(&old))?;
        self.make_current(&manifest.node, &manifest.key)
    }

    /// Moves a stored result into the place of the current one, and that one into the store.
    fn make_current(&self, node: &NodeName, key: &ContentKey) -> Result<()> {
        let current = self.current(node);
        self.refuse_foreign_node(node)?;
        match Manifest::read(&current) {
            // Even if it is damaged: a result in the store is checked before it is used.
            Ok(Some(old)) if &old.node == node => {
                self.set_aside_foreign_files(&current, node)?;
                let place = self.stored(node, &old.key);
                if &old.key == key {
                    self.discard(&current)?;
                } else {
                    self.set_aside_foreign_files(&place, node)?;
                    self.discard(&place)?;
                    rename(&current, &place)?;
                }
            }
            _ if current.exists() => {
                let aside = self.set_aside(&current, node)?;
                self.notice(format!(
                    "{} was damaged; set aside in {}",
                    current.display(),
                    aside.display()
                ));
            }
            _ => {}
        }
        rename(&self.stored(node, key), &current)
    }

    /// Removes a folder in two steps, so that no part of it is ever seen under its name.
    pub(crate) fn discard(&self, folder: &Path) -> Result<()> {
        self.to_trash(folder)?.map_or(Ok(()), |trash| remove(&trash))
    }

    fn to_trash(&self, folder: &Path) -> Result<Option<PathBuf>> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        if !folder.exists() {
            return Ok(None);
        }
        let trash = self.inner("trash");
        make(&trash)?;
        let name = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let to = trash.join(name);
        rename(folder, &to)?;
        Ok(Some(to))
    }
}

/// Syncs the files of a result and lists them. A manifest or a partial one that a killed run left
/// is removed.
fn outputs_in(folder: &Path) -> Result<Vec<Output>> {
    // A process of a shared run that was given up, but lives on, may leave a piece.
    let checkpoints = folder.join("checkpoints");
    for pieces in folders(&checkpoints) {
        if pieces.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PIECES)) {
            remove(&pieces)?;
            let _ = std::fs::remove_dir(&checkpoints);
        }
    }
    let files = digest_all(folder, &[NAME, PARTIAL_NAME])?;
    Ok(files.into_iter().map(|(path, size, digest)| Output { path, size, digest }).collect())
}

#[cfg(test)]
mod tests;
