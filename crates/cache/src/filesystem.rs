//! What is known about the file system of a file.

use std::path::Path;

/// Whether a write through a memory map updates the change time of the file at `path` once the page
/// has been written back.
///
/// Linux's native file systems for disks do this. File systems in memory write no page back, and
/// those of a network or of another program follow rules of their own.
#[cfg(target_os = "linux")]
pub fn keeps_change_times(path: &Path) -> bool {
    // statfs(2), `f_type`.
    const EXT: u64 = 0xEF53;
    const XFS: u64 = 0x5846_5342;
    const BTRFS: u64 = 0x9123_683E;
    const F2FS: u64 = 0xF2F5_2010;
    const BCACHEFS: u64 = 0xCA45_1A4E;
    const OVERLAY: u64 = 0x794C_7630;
    // The type of the field depends on the processor, and its sign has no meaning.
    #[expect(clippy::cast_sign_loss, reason = "a magic number")]
    rustix::fs::statfs(path).is_ok_and(|found| {
        [EXT, XFS, BTRFS, F2FS, BCACHEFS, OVERLAY].contains(&(found.f_type as u64 & 0xFFFF_FFFF))
    })
}

/// On other systems, nothing better than waiting is known.
#[cfg(not(target_os = "linux"))]
pub fn keeps_change_times(_: &Path) -> bool {
    true
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_in_memory_does_not_keep_change_times() {
        assert!(!keeps_change_times(Path::new("/proc/self")));
        if Path::new("/dev/shm").is_dir() {
            assert!(!keeps_change_times(Path::new("/dev/shm")));
        }
    }
}
