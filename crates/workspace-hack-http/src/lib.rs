//! Requests the features that the workspace as a whole enables in crates that HTTP clients and servers
//! are built on, as `workspace-hack` does for polars. The crates that use HTTP depend on it, so that a
//! stage that downloads nothing does not build an HTTP client.
