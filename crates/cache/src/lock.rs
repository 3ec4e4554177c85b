//! A lock that allows one run at a time in a folder of artifacts.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::path::Path;

use failure::{Failure, Result};

/// A lock that is held until it is dropped. The system releases it when the process ends, even by a
/// kill.
pub struct Lock {
    _file: File,
    /// Whether the folder is read-only, so that other runs may read it at the same time.
    pub(crate) read_only: bool,
}

impl Lock {
    /// Takes the lock at `path`; calls `waiting` first if another run holds it. If the file exists
    /// and cannot be written to, the lock is for reading only and can be shared.
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
