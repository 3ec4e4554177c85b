//! Content digests: BLAKE3, in hex.

use std::fmt::{self, Display};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The size in bytes from which a file is digested by several threads.
const LARGE: u64 = 16 << 20;
/// The number of bytes that are read at a time.
const BLOCK: usize = 4 << 20;

/// The BLAKE3 digest of some bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(blake3::hash(bytes).to_hex().to_string())
    }

    /// The digest of the file at `path`; a large file is digested on all processors.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let mut hasher = blake3::Hasher::new();
        if file.metadata()?.len() < LARGE {
            hasher.update_reader(file)?;
        } else {
            // Without a memory map: if the file were truncated meanwhile, it would kill the
            // process.
            let mut block = vec![0; BLOCK];
            loop {
                let n = fill(&mut file, &mut block)?;
                let Some(bytes) = block.get(..n).filter(|bytes| !bytes.is_empty()) else { break };
                hasher.update_rayon(bytes);
            }
        }
        Ok(Self(hasher.finalize().to_hex().to_string()))
    }

    /// The digest and the SHA-256 (in hex) of the file at `path`, both of the same bytes.
    pub fn with_sha256(path: &Path) -> io::Result<(Self, String)> {
        let mut file = File::open(path)?;
        let (mut hasher, mut sum) = (blake3::Hasher::new(), Sha256::new());
        let mut block = vec![0; BLOCK];
        loop {
            let n = fill(&mut file, &mut block)?;
            let Some(bytes) = block.get(..n).filter(|bytes| !bytes.is_empty()) else { break };
            hasher.update_rayon(bytes);
            sum.update(bytes);
        }
        let sum = sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok((Self(hasher.finalize().to_hex().to_string()), sum))
    }

    /// All 64 hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 hex digits, for people.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

/// The SHA-256 of a text, in hex.
pub fn sha256_of_text(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

/// Applies `work` to every item on all processors, and returns the results in the order of the
/// items.
pub fn on_all_processors<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(items.len());
    if threads < 2 {
        return items.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let one = || {
        let mut done = Vec::new();
        while let Some((place, item)) =
            Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|i| Some((i, items.get(i)?)))
        {
            done.push((place, work(item)));
        }
        done
    };
    let mut all: Vec<(usize, R)> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(one)).collect();
        let mut all = one();
        // The panic of a thread continues here.
        all.extend(others.into_iter().flat_map(|thread| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        }));
        all
    });
    all.sort_unstable_by_key(|(place, _)| *place);
    all.into_iter().map(|(_, result)| result).collect()
}

impl TryFrom<String> for Digest {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let hex = text.len() == 64
            && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if hex { Ok(Self(text)) } else { Err(format!("`{text}` is not a digest")) }
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

impl Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_blake3() {
        // BLAKE3's own test vectors: the empty input.
        let empty = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        assert_eq!(Digest::of(b"").as_str(), empty);
        let dir = tempfile::tempdir().expect("a folder");
        for size in [0, 100_000, (16 << 20) - 1, 16 << 20, (20 << 20) + 1] {
            let bytes: Vec<u8> = (0..=250).cycle().take(size).collect();
            std::fs::write(dir.path().join("x"), &bytes).expect("writes");
            assert_eq!(
                Digest::of_file(&dir.path().join("x")).expect("reads"),
                Digest::of(&bytes),
                "{size} bytes"
            );
        }
    }

    #[test]
    fn work_on_all_processors_comes_back_in_order() {
        let items: Vec<usize> = (0..1000).collect();
        assert_eq!(
            on_all_processors(&items, |i| i * 2),
            (0..1000).map(|i| i * 2).collect::<Vec<_>>()
        );
        assert!(on_all_processors(&[0; 0], |i| *i).is_empty());
    }

    #[test]
    fn only_digests_are_digests() {
        assert!(Digest::try_from("ab".to_owned()).is_err());
        assert!(Digest::try_from("../".repeat(22)).is_err());
        assert!(Digest::try_from("AF".repeat(32)).is_err());
    }
}
