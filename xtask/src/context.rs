//! What a command works on.

use std::path::Path;

use cache::Store;

use crate::config::Config;

/// The workspace, what is configured, and where results are.
#[derive(Clone, Copy)]
pub struct Context<'c> {
    /// The workspace.
    pub root: &'c Path,
    /// The nodes and their options.
    pub config: &'c Config,
    /// The folder of artifacts.
    pub store: &'c Store,
    /// Whether stdout gets JSON lines.
    pub json: bool,
}

impl<'c> Context<'c> {
    /// The folder of artifacts.
    pub fn artifacts(&self) -> &'c Path {
        self.store.root()
    }
}
