//! A node's result in the store: its files and its manifest.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use cache::{ContentKey, Manifest, NodeName, Output};
use futures_util::{StreamExt as _, stream};
use object_store::ObjectStoreExt as _;

use crate::blob::{self, within};
use crate::{RemoteError, RemoteStore};

/// Concurrent transfers: most files are small, so the time is mostly latency.
const AT_ONCE: usize = 8;
/// The largest manifest that is read, in bytes; manifests only list digests.
const LARGEST_MANIFEST: u64 = 64 << 20;

impl RemoteStore {
    /// The manifest of the result of `node` under `key`, if there is one.
    pub async fn find(
        &self,
        node: &NodeName,
        key: &ContentKey,
    ) -> Result<Option<Manifest>, RemoteError> {
        let path = self.manifest(node, key);
        let read = async {
            let got = self.store.get(&path).await?;
            if got.meta.size > LARGEST_MANIFEST {
                return Err(RemoteError::Damaged(format!(
                    "the manifest of `{node}` has {} bytes",
                    got.meta.size
                )));
            }
            Ok(got.bytes().await?)
        };
        let bytes = match within(self, 0, read).await {
            Ok(bytes) => bytes,
            Err(RemoteError::Missing(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let damaged = |what: &dyn std::fmt::Display| {
            RemoteError::Damaged(format!(
                "the manifest of `{node}` in the remote is damaged: {what}"
            ))
        };
        let manifest = Manifest::parse(&bytes, path).map_err(|error| damaged(&error))?;
        if &manifest.node != node || &manifest.key != key {
            return Err(damaged(&"it belongs to another result"));
        }
        Ok(Some(manifest))
    }

    /// Fetches files of a result into the folder `into`: those named by `only`, or all if it is
    /// empty. If a file is damaged, this is noted, and the next push replaces all files of the
    /// result. Calls `arrived` with the number of bytes fetched so far.
    pub async fn fetch(
        &self,
        manifest: &Manifest,
        only: &[String],
        into: &Path,
        arrived: impl Fn(u64),
    ) -> Result<(), RemoteError> {
        let done = AtomicU64::new(0);
        let one = async |output: &Output| {
            let piece = |n: u64| arrived(done.fetch_add(n, Ordering::Relaxed) + n);
            let got = blob::get(self, output, &into.join(&output.path), piece).await;
            if let Err(RemoteError::Damaged(_)) = got {
                // The other files of the result may be damaged, too.
                manifest.outputs.iter().for_each(|output| self.mark_damaged(&output.digest));
            }
            got
        };
        let wanted = manifest.outputs.iter().filter(|o| only.is_empty() || only.contains(&o.path));
        let bytes = wanted.clone().map(|o| o.size).sum();
        let mut all = stream::iter(wanted.map(one)).buffer_unordered(AT_ONCE);
        let each = async {
            let mut first = None;
            while let Some(got) = all.next().await {
                match got {
                    Ok(()) => {}
                    Err(error) if error.is_over() => return Err(error),
                    Err(error) => drop(first.get_or_insert(error)),
                }
            }
            first.map_or(Ok(()), Err)
        };
        within(self, bytes, each).await
    }

    /// Uploads a result whose files lie in `folder`; with `replace`, existing objects are replaced.
    /// Returns the number of bytes sent.
    pub async fn push(
        &self,
        manifest: &Manifest,
        replace: bool,
        folder: &Path,
    ) -> Result<u64, RemoteError> {
        if self.read_only {
            return Err(RemoteError::Store("it is read-only".to_owned()));
        }
        // Files with the same content share a blob.
        let distinct: BTreeMap<&str, &Output> =
            manifest.outputs.iter().map(|o| (o.digest.as_str(), o)).collect();
        let one = async |output: &Output| {
            blob::put(self, output, replace, &folder.join(&output.path)).await
        };
        let mut all = stream::iter(distinct.into_values().map(one)).buffer_unordered(AT_ONCE);
        let each = async {
            let mut sent = 0;
            while let Some(put) = all.next().await {
                sent += put?;
            }
            let bytes = manifest.to_bytes().map_err(|failure| RemoteError::Local(failure.what))?;
            let path = self.manifest(&manifest.node, &manifest.key);
            let there = self.store.get(&path).await;
            let there = if let Ok(there) = there { there.bytes().await.ok() } else { None };
            if replace || there.is_none_or(|there| there != bytes) {
                sent += bytes.len() as u64;
                self.to_put.put(&path, bytes.into()).await?;
            }
            Ok(sent)
        };
        within(self, manifest.bytes(), each).await
    }
}
