//! What a command works on.

use std::path::Path;

use cache::Store;

use crate::config::Config;

/// The workspace, its configuration, and the store.
#[derive(Clone, Copy)]
pub struct Context<'c> {
    /// The folder of the workspace.
    pub root: &'c Path,
    pub config: &'c Config,
    pub store: &'c Store,
    /// Whether to print JSON lines on stdout.
    pub json: bool,
}

impl<'c> Context<'c> {
    /// The folder of artifacts.
    pub fn artifacts(&self) -> &'c Path {
        self.store.root()
    }
}
