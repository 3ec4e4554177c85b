//! SHA-256 of a file, the checksum that publishers of data provide.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

/// The SHA-256 of the file at `path`, in hex.
pub fn sha256_of(path: &Path) -> io::Result<String> {
    Sum::default().finish(path)
}

/// SHA-256 of as much of a file as exists so far.
#[derive(Default)]
pub struct Sum {
    hasher: Sha256,
    /// The number of bytes that are included.
    pub of: u64,
}

impl Sum {
    /// Makes this the sum of the first `size` bytes of the file at `path`, which are read unless
    /// this is the sum of as many bytes already.
    pub fn reach(&mut self, path: &Path, size: u64) -> io::Result<()> {
        if self.of == size {
            return Ok(());
        }
        *self = Self::default();
        let mut file = File::open(path)?.take(size);
        let mut block = vec![0; 1 << 20];
        loop {
            match file.read(&mut block)? {
                0 => return Ok(()),
                n => self.update(block.get(..n).unwrap_or_default()),
            }
        }
    }

    /// Includes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.of += bytes.len() as u64;
    }

    /// The sum of the whole file at `path`, in hex.
    pub fn finish(mut self, path: &Path) -> io::Result<String> {
        let size = std::fs::metadata(path)?.len();
        self.reach(path, size)?;
        Ok(hex(self.hasher))
    }
}

fn hex(hasher: Sha256) -> String {
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Twelve hex digits that distinguish `text` from other texts.
pub fn short(text: &str) -> String {
    Sha256::digest(text).iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha256_is_the_standard_s() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("abc");
        std::fs::write(&path, "abc").expect("writes");
        // FIPS 180-2, appendix B.1
        let want = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256_of(&path).expect("reads"), want);
    }
}
