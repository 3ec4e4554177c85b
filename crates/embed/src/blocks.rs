//! A stream that a thread of its own reads ahead, looked at without copies.
//!
//! Reading is half of the work, be it copying from the page cache or unpacking; the rest is done meanwhile.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

/// Bytes read at once. Few enough to stay in a cache between the two threads.
const BLOCK: usize = 1 << 20;
/// Room before them for what is left of the block before, which so becomes one piece with them.
const HEAD: usize = 1 << 16;
/// Blocks that are on their way at once.
const BLOCKS: usize = 4;

/// A buffer, and where its bytes end; they begin at [`HEAD`].
type Block = (Vec<u8>, usize);

/// Calls `work` with a window on the bytes of `reader`, which are read meanwhile.
pub fn read_ahead<T>(reader: impl Read + Send, work: impl FnOnce(&mut Blocks) -> T) -> T {
    std::thread::scope(|scope| {
        let (full, blocks) = sync_channel(BLOCKS);
        let (free, buffers) = channel();
        scope.spawn(move || fill(reader, &full, &buffers));
        // What it drops at its end stops the reading.
        work(&mut Blocks { blocks, free, buffer: Vec::new(), start: 0, end: 0, passed: 0, ended: false })
    })
}

/// Reads block after block, until the end or an error, or until nobody wants more.
fn fill(mut reader: impl Read, full: &SyncSender<io::Result<Block>>, free: &Receiver<Vec<u8>>) {
    for number in 0.. {
        let buffer = if number < BLOCKS { Some(vec![0; HEAD + BLOCK]) } else { free.recv().ok() };
        let Some(mut buffer) = buffer else { return };
        let mut end = HEAD;
        let error = loop {
            match reader.read(buffer.get_mut(end..).unwrap_or_default()) {
                Ok(0) => break None,
                Ok(more) => end += more,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => break Some(e),
            }
        };
        let is_last = end < HEAD + BLOCK;
        if full.send(Ok((buffer, end))).is_err() {
            return;
        }
        if let Some(error) = error {
            // Nobody may be there to hear it.
            let _ = full.send(Err(error));
            return;
        }
        if is_last {
            return;
        }
    }
}

/// A window on a stream.
pub struct Blocks {
    blocks: Receiver<io::Result<Block>>,
    free: Sender<Vec<u8>>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    passed: u64,
    ended: bool,
}

impl Blocks {
    /// The bytes that are at hand.
    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// The offset in the stream of the first byte at hand.
    pub fn offset(&self) -> u64 {
        self.passed
    }

    /// Passes over `n` bytes that are at hand.
    pub fn pass(&mut self, n: usize) {
        let n = n.min(self.end - self.start);
        self.start += n;
        self.passed += n as u64;
    }

    /// Waits until at least `n` bytes are at hand. `false`: the stream has ended before.
    pub fn want(&mut self, n: usize) -> io::Result<bool> {
        while self.end - self.start < n {
            if self.ended {
                return Ok(false);
            }
            self.next_block()?;
        }
        Ok(true)
    }

    fn next_block(&mut self) -> io::Result<()> {
        let Ok(block) = self.blocks.recv() else {
            self.ended = true;
            return Ok(());
        };
        let (mut buffer, end) = block.inspect_err(|_| self.ended = true)?;
        let rest = self.bytes();
        match HEAD.checked_sub(rest.len()).and_then(|start| Some((start, buffer.get_mut(start..HEAD)?))) {
            Some((start, head)) => {
                head.copy_from_slice(rest);
                (self.start, self.end) = (start, end);
                std::mem::swap(&mut self.buffer, &mut buffer);
            }
            None => {
                // An entry that is longer than the room for it.
                let joined = [rest, buffer.get(HEAD..end).unwrap_or_default()].concat();
                (self.start, self.end) = (0, joined.len());
                self.buffer = joined;
            }
        }
        if buffer.len() == HEAD + BLOCK {
            // Where all is read, nobody needs it.
            let _ = self.free.send(buffer);
        }
        Ok(())
    }

    /// How far the next `byte` is from the first byte at hand, reading on as needed up to
    /// `limit`; `None` if it is not within that.
    pub fn find(&mut self, byte: u8, limit: usize) -> io::Result<Option<usize>> {
        let mut seen = 0;
        loop {
            let bytes = self.bytes();
            if let Some(at) = bytes.get(seen..).and_then(|rest| memchr::memchr(byte, rest)) {
                return Ok(Some(seen + at).filter(|&at| at <= limit));
            }
            seen = bytes.len();
            if seen > limit || !self.want(seen + 1)? {
                return Ok(None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers as bytes, and an error where they end, if wanted.
    struct Source(usize, usize, bool);
    impl Read for Source {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            if self.0 == self.1 && self.2 {
                return Err(io::Error::other("broken"));
            }
            let n = buf.len().min(self.1 - self.0).min(300_007);
            for (i, to) in buf.iter_mut().take(n).enumerate() {
                *to = u8::try_from((self.0 + i) % 251).expect("small");
            }
            self.0 += n;
            Ok(n)
        }
    }

    fn number(i: usize) -> u8 {
        u8::try_from(i % 251).expect("small")
    }

    #[test]
    fn every_byte_comes_once_whatever_is_asked_for() {
        let total = 9 * BLOCK + 12_345;
        for step in [1000, HEAD - 1, HEAD + 1, BLOCK + 3, 3 * BLOCK] {
            read_ahead(Source(0, total, false), |blocks| {
                let mut at = 0;
                while blocks.want(step).expect("reads") {
                    let bytes = &blocks.bytes()[..step];
                    assert!(bytes.iter().enumerate().all(|(i, b)| *b == number(at + i)), "step {step} at {at}");
                    assert_eq!(blocks.offset(), at as u64);
                    // Most of it, so that a rest stays.
                    let n = step - step / 3;
                    blocks.pass(n);
                    at += n;
                }
                assert_eq!(at + blocks.bytes().len(), total);
            });
        }
    }

    #[test]
    fn an_error_comes_after_what_was_read_before_it_and_nobody_waits_for_who_leaves() {
        read_ahead(Source(0, 2 * BLOCK + 7, true), |blocks| {
            assert!(blocks.want(2 * BLOCK + 7).expect("reads"));
            assert_eq!(blocks.want(2 * BLOCK + 8).expect_err("broken").to_string(), "broken");
        });
        read_ahead(Source(0, 100 * BLOCK, false), |blocks| assert!(blocks.want(1).expect("reads")));
    }
}
