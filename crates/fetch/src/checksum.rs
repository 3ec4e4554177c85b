//! SHA-256 of a file, as publishers of data give it.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use artifact::{Failure, Result};
use sha2::{Digest, Sha256};

/// The SHA-256 of the file at `path`, in hex.
pub fn sha256_of(path: &Path) -> Result<String> {
    let fail = |e: std::io::Error| Failure::io("read", path, &e);
    let mut file = File::open(path).map_err(fail)?;
    let mut hasher = Sha256::new();
    let mut block = vec![0; 1 << 20];
    loop {
        match file.read(&mut block).map_err(fail)? {
            0 => return Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            n => hasher.update(block.get(..n).unwrap_or_default()),
        }
    }
}

/// Twelve hex digits that tell `text` from other texts.
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
