//! One run at a time in a folder of artifacts.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::path::Path;

use failure::{Failure, Result};

/// Held until it is dropped. The system drops it with the process, however that ends.
pub struct Lock {
    _file: File,
    /// Whether nothing can be written there, so that others may read at the same time.
    pub(crate) read_only: bool,
}

impl Lock {
    /// Takes the lock at `path`; calls `waiting` first if another run holds it. Where the file is
    /// there and cannot be written to, the lock is one for reading.
    pub fn take(path: &Path, waiting: impl FnOnce()) -> Result<Self> {
        let fail = |e: io::Error| Failure::io("lock", path, &e);
        let (file, read_only) =
            match OpenOptions::new().create(true).truncate(false).write(true).open(path) {
                Ok(file) => (file, false),
                Err(e)
                    if matches!(
                        e.kind(),
                        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem
                    ) =>
                {
                    (File::open(path).map_err(|_| fail(e))?, true)
                }
                Err(e) => return Err(fail(e)),
            };
        let (now, later): (Result<(), TryLockError>, _) = if read_only {
            (file.try_lock_shared(), File::lock_shared as fn(&File) -> io::Result<()>)
        } else {
            (file.try_lock(), File::lock as _)
        };
        match now {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                waiting();
                later(&file).map_err(fail)?;
            }
            Err(TryLockError::Error(e)) => return Err(fail(e)),
        }
        Ok(Self { _file: file, read_only })
    }
}
