//! Which results count: all, or those with a trusted signature.

use std::fmt::Display;

use failure::{Failure, Result};

use super::Store;
use crate::{Manifest, NodeName, Trust};

impl Store {
    /// Says whose results count. Without this, all do.
    pub fn set_trust(&self, trust: Trust) {
        // Whoever can write to the folder can write to the index.
        self.index.set_paranoid(trust.is_required());
        // Only the first counts: a run has one configuration.
        let _ = self.trust.set(trust);
    }

    /// Whether only signed results count.
    pub fn requires_signatures(&self) -> bool {
        self.trust.get().is_some_and(Trust::is_required)
    }

    /// A result that counts.
    ///
    /// # Errors
    /// If only signed results count and this is not one; `remedy` says what to do.
    pub fn trusted(&self, manifest: Manifest, remedy: impl Display) -> Result<Manifest> {
        match self.distrusts(&manifest) {
            None => Ok(manifest),
            Some(problem) => Err(Failure::input(
                format_args!("the result of `{}` does not count: {problem}", manifest.node),
                self.current(&manifest.node).display(),
                remedy,
            )),
        }
    }

    /// Why a result does not count although it is undamaged, if it does not.
    pub fn distrusts(&self, manifest: &Manifest) -> Option<String> {
        self.trust.get()?.problem(manifest)
    }

    /// Fails if results made here would not count; `node` has to be made.
    ///
    /// # Errors
    /// If only signed results count, and there is no key.
    pub fn can_sign(&self, node: &NodeName) -> Result<()> {
        let Some(trust) = self.trust.get() else { return Ok(()) };
        if let Some(problem) = &trust.no_key {
            return Err(Failure::usage(
                format_args!("`{node}` has to run, but its result cannot be signed: {problem}"),
                "option `cache.sign`",
                "check the path, or set cache.sign=none to sign nothing",
            ));
        }
        if !trust.is_required() || trust.signer.is_some() {
            return Ok(());
        }
        Err(Failure::usage(
            format_args!("`{node}` has to run, but without a signature its result would not count"),
            "option `cache.sign`",
            "make a key with `openssl genpkey -algorithm ed25519 -out FILE`, and set cache.sign to FILE; or trust the key of somebody who has made the result",
        ))
    }

    /// Whether a result counts; a notice says why not.
    pub(super) fn counts(&self, manifest: &Manifest) -> bool {
        let Some(problem) = self.distrusts(manifest) else { return true };
        self.notice(format!("the result of `{}` does not count: {problem}", manifest.node));
        false
    }
}
