//! The digests that show whether a file is whole.
//!
//! The first tensor, `seal`, is a list of BLAKE3 digests. The first is that of the header and of the
//! digests after it, which are those of the rest of the file in blocks of 64 KiB. So a block can be
//! checked when it is first used, and a large file need not be read before it answers.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use formats::arrays::Bytes;

/// Bytes of a digest.
pub const DIGEST: usize = blake3::OUT_LEN;
/// Bytes of a block.
const BLOCK: usize = 1 << 16;
/// Bytes whose digests take longer than starting a thread.
const WORTH_A_THREAD: usize = 1 << 20;

/// How many digests a file with so many bytes after the seal has.
pub const fn digests(rest: usize) -> usize {
    1 + rest.div_ceil(BLOCK)
}

/// Digests blocks of bytes that arrive in pieces.
pub struct BlockDigests {
    hasher: blake3::Hasher,
    /// Bytes of the block that have arrived.
    filled: usize,
    all: Vec<u8>,
}

impl BlockDigests {
    pub fn new() -> Self {
        Self { hasher: blake3::Hasher::new(), filled: 0, all: Vec::new() }
    }

    /// Takes the next bytes.
    pub fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK - self.filled));
            self.hasher.update(now);
            self.filled += now.len();
            bytes = later;
            if self.filled == BLOCK {
                self.end_block();
            }
        }
    }

    fn end_block(&mut self) {
        self.all.extend_from_slice(self.hasher.finalize().as_bytes());
        self.hasher.reset();
        self.filled = 0;
    }

    /// The whole seal, for a file that begins with `header`.
    pub fn finish(mut self, header: &[u8]) -> Vec<u8> {
        if self.filled > 0 {
            self.end_block();
        }
        let mut seal = first(header, &self.all).to_vec();
        seal.append(&mut self.all);
        seal
    }
}

/// The first digest.
fn first(header: &[u8], others: &[u8]) -> [u8; DIGEST] {
    *blake3::Hasher::new().update(header).update(others).finalize().as_bytes()
}

/// A file's bytes and its seal.
pub struct Seal {
    bytes: Arc<Bytes>,
    /// Where the digests of the blocks begin, and where they end and the first block begins.
    digests: Range<usize>,
    /// A bit for each block that was found whole.
    checked: Vec<AtomicU64>,
    /// Whether all blocks were.
    is_whole: AtomicBool,
}

/// The first byte of a block that is not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged(pub usize);

impl Seal {
    /// Reads the seal, whose bytes follow those of the header, and checks both. `None` if they are
    /// damaged.
    pub fn read(bytes: &Arc<Bytes>, place: Range<usize>) -> Option<Self> {
        let (header, seal) = (bytes.get(..place.start)?, bytes.get(place.clone())?);
        let rest = bytes.len().checked_sub(place.end)?;
        if seal.len() != digests(rest) * DIGEST {
            return None;
        }
        let (own, others) = seal.split_at_checked(DIGEST)?;
        if first(header, others) != own {
            return None;
        }
        let words = rest.div_ceil(BLOCK).div_ceil(64);
        Some(Self {
            bytes: Arc::clone(bytes),
            digests: place.start + DIGEST..place.end,
            checked: std::iter::repeat_with(|| AtomicU64::new(0)).take(words).collect(),
            is_whole: AtomicBool::new(false),
        })
    }

    /// Checks the blocks of these bytes of the file, which lie after the seal, unless they have been
    /// checked before.
    #[inline]
    pub fn check(&self, place: Range<usize>) -> Result<(), Damaged> {
        if place.is_empty() {
            return Ok(());
        }
        let offset = |at: usize| at.saturating_sub(self.digests.end) / BLOCK;
        let last = offset(place.end.saturating_sub(1));
        for block in offset(place.start)..=last {
            let is_known = self
                .checked
                .get(block / 64)
                .is_some_and(|word| word.load(Ordering::Relaxed) >> (block % 64) & 1 == 1);
            if !is_known {
                self.check_block(block)?;
            }
        }
        Ok(())
    }

    #[cold]
    fn check_block(&self, block: usize) -> Result<(), Damaged> {
        let start = self.digests.end + block * BLOCK;
        let end = self.bytes.len().min(start + BLOCK);
        let at = self.digests.start + block * DIGEST;
        let is_whole = self
            .bytes
            .get(start..end)
            .zip(self.bytes.get(at..at + DIGEST))
            .is_some_and(|(bytes, digest)| blake3::hash(bytes).as_bytes() == digest);
        match self.checked.get(block / 64) {
            Some(word) if is_whole => {
                word.fetch_or(1 << (block % 64), Ordering::Relaxed);
                Ok(())
            }
            _ => Err(Damaged(start)),
        }
    }

    /// Checks all blocks, by several threads.
    pub fn check_all(&self) -> Result<(), Damaged> {
        self.check_range(self.digests.end..self.bytes.len())?;
        self.is_whole.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Whether all bytes have been checked.
    pub fn is_whole(&self) -> bool {
        self.is_whole.load(Ordering::Relaxed)
    }

    /// The same as [`Seal::check`], by several threads if there is much to check.
    pub fn check_range(&self, place: Range<usize>) -> Result<(), Damaged> {
        let threads = (place.len() / WORTH_A_THREAD).clamp(1, kernels::team::available());
        let results = kernels::team::run(threads, |member| {
            let share = member.share(place.len());
            self.check(place.start + share.start..place.start + share.end)
        });
        results.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_changed_byte_is_found_when_its_block_is_used() {
        let header = b"header";
        let rest: Vec<u8> = (0..251).cycle().take(3 * BLOCK + 5).collect();
        let mut digests = BlockDigests::new();
        rest.chunks(999).for_each(|part| digests.push(part));
        let seal = digests.finish(header);
        assert_eq!(seal.len(), 5 * DIGEST);
        let place = header.len()..header.len() + seal.len();
        let whole = [&header[..], &seal, &rest].concat();
        let open = |bytes: Vec<u8>| Seal::read(&Arc::new(Bytes::from(bytes)), place.clone());
        let seal = open(whole.clone()).expect("whole");
        assert_eq!(seal.check_all(), Ok(()));
        for at in 0..place.end {
            let mut bytes = whole.clone();
            bytes[at] ^= 4;
            assert!(open(bytes).is_none(), "byte {at}");
        }
        for block in 0..4 {
            let start = place.end + block * BLOCK;
            let mut bytes = whole.clone();
            *bytes.get_mut(start + 4).expect("a byte") ^= 1;
            let seal = open(bytes).expect("the header is whole");
            assert_eq!(seal.check_all(), Err(Damaged(start)));
            let others = (0..4).filter(|other| *other != block);
            for other in others {
                let at = place.end + other * BLOCK;
                assert_eq!(seal.check(at..at + 1), Ok(()));
            }
            assert_eq!(seal.check(start + 4..start + 5), Err(Damaged(start)));
        }
        for shorter in [1, 5, 6, BLOCK, rest.len()] {
            let cut = open(whole[..whole.len() - shorter].to_vec());
            assert!(cut.is_none_or(|seal| seal.check_all().is_err()));
        }
        assert!(open([&whole[..], &[0]].concat()).is_some_and(|s| s.check_all().is_err()));
    }
}
