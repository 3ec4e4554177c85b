//! One run at a time in a folder of artifacts.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use artifact::{Failure, Result};

/// Held until it is dropped. The system drops it with the process, however that ends.
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock at `path`; calls `waiting` first if another run holds it.
    pub fn take(path: &Path, waiting: impl FnOnce()) -> Result<Self> {
        let fail = |e: std::io::Error| Failure::io("lock", path, &e);
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path).map_err(fail)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                waiting();
                file.lock().map_err(fail)?;
            }
            Err(TryLockError::Error(e)) => return Err(fail(e)),
        }
        Ok(Self { _file: file })
    }
}
