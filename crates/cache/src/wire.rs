//! The protocol between xtask and the program `remote`: JSON, one object per line.
//!
//! xtask writes requests to the program's stdin and reads replies from its stdout. An [`Ask::Push`]
//! is answered when it is done, between the replies to later requests; all other requests are
//! answered in order. The two are separate programs so that xtask need not be built with a client
//! for every kind of store.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{ContentKey, NodeName};

/// A request. A manifest is sent as its file's text, with its seal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Ask {
    /// The first request: what to open. It is not on the command line, which every user of the
    /// machine can read.
    Open {
        /// A folder's path or a URL.
        remote: String,
        /// Whether pushes are refused.
        read_only: bool,
        /// How long the remote may be silent, in seconds.
        timeout: f64,
    },
    /// Instead of opening a remote: fetch one file, a source of the pipeline, and end.
    File {
        /// Its address.
        url: String,
        /// Where it goes when it is complete.
        to: PathBuf,
        /// How long the store may be silent, in seconds.
        timeout: f64,
    },
    /// Get the manifest of a node's result.
    Manifest {
        /// The node.
        node: NodeName,
        /// The content key.
        key: ContentKey,
    },
    /// Fetch files of a result into a folder, and check each against its digest.
    Fetch {
        /// The result's manifest.
        manifest: String,
        /// The files to fetch; all if this is empty.
        only: Vec<String>,
        /// The folder.
        into: PathBuf,
    },
    /// Upload the result that lies in a folder.
    Push {
        /// The result's manifest.
        manifest: String,
        /// Whether existing objects are replaced, even undamaged ones.
        replace: bool,
        /// The folder.
        folder: PathBuf,
    },
    /// End when everything is pushed.
    Finish,
}

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// The first reply: the program is ready for requests.
    Ready {
        /// The remote's name for messages, without credentials.
        name: String,
        /// Whether pushes are refused.
        read_only: bool,
    },
    /// The manifest that was asked for.
    Manifest {
        /// The text of its file, if it exists.
        manifest: Option<String>,
    },
    /// The progress of a fetch.
    At {
        /// The number of bytes that have arrived.
        done: u64,
    },
    /// All files have arrived and are synced.
    Fetched,
    /// A result was pushed.
    Pushed {
        /// The node.
        node: NodeName,
        /// The result's key.
        key: ContentKey,
        /// The number of bytes sent; existing objects are not sent again.
        sent: u64,
    },
    /// A request failed.
    Failed {
        /// What went wrong, in words.
        what: String,
        /// Whether the request was a push.
        push: bool,
        /// Whether the remote must not be used for the rest of the run: a damaged object is only a
        /// miss, but a server that does not answer is not asked again.
        over: bool,
    },
}
