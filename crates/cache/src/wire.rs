//! What xtask and the remote's program say to each other: JSON, a line each.
//!
//! xtask asks on the program's stdin and reads replies on its stdout. A [`Ask::Push`] is answered
//! when it is done, in between the replies to what was asked after it; everything else in turn. The
//! two live apart so that xtask need not be built with a client for every kind of store.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{ContentKey, NodeName};

/// What xtask asks for. A manifest travels as its file's text, seal and all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Ask {
    /// The first: what to open. Not in the command line, which every user of the machine can read.
    Open {
        /// A folder's path or a URL.
        remote: String,
        /// Whether nothing is to be put there.
        read_only: bool,
        /// Seconds that it may be silent.
        timeout: f64,
    },
    /// The manifest of a node's result.
    Manifest {
        /// The node.
        node: NodeName,
        /// The content key.
        key: ContentKey,
    },
    /// Files of a result, each held against its digest, into this folder.
    Fetch {
        /// Of the result.
        manifest: String,
        /// Only these; without any, all.
        only: Vec<String>,
        /// The folder.
        into: PathBuf,
    },
    /// Keep the result that lies in this folder.
    Push {
        /// Of the result.
        manifest: String,
        /// Whether what is there already is replaced, sound or not.
        replace: bool,
        /// The folder.
        folder: PathBuf,
    },
    /// End when everything is pushed.
    Finish,
}

/// What the remote's program says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// The first one: it can be asked.
    Ready {
        /// The remote's name for messages, without credentials.
        name: String,
        /// Whether nothing can be put there.
        read_only: bool,
    },
    /// The manifest, if there is one.
    Manifest {
        /// As its file's text.
        manifest: Option<String>,
    },
    /// How far a fetch is.
    At {
        /// Bytes that are here.
        done: u64,
    },
    /// All files are here, synced.
    Fetched,
    /// A result is kept.
    Pushed {
        /// The node.
        node: NodeName,
        /// The result's key.
        key: ContentKey,
        /// Bytes that were sent: what was there already is not.
        sent: u64,
    },
    /// It did not work.
    Trouble {
        /// In words.
        what: String,
        /// Whether it was a push that did not.
        push: bool,
        /// Whether the remote is of no use for the rest of the run: a damaged object is a miss, a
        /// server that does not answer is the end.
        over: bool,
    },
}
