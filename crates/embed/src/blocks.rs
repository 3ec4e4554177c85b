//! A window on a stream that other threads read ahead, without copying its bytes.
//!
//! Reading, from the page cache or by unpacking, is half of the work; the other half is done at the
//! same time.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes read at once. A block is small enough to stay in a cache between the two threads.
const BLOCK: usize = if cfg!(fuzzing) { 64 } else { 1 << 20 };
/// Bytes reserved in front of a block for the rest of the previous one, so that the two are
/// contiguous.
const HEAD: usize = 1 << 16;
/// Number of buffers in circulation.
const BLOCKS: usize = 5;
/// Threads that read a file.
const READERS: usize = 2;

/// A buffer, and where its bytes end; they begin at [`HEAD`].
type Block = (Vec<u8>, usize);
/// A block's number, and the block or the error of reading it.
type Numbered = (u64, io::Result<Block>);

/// Calls `work` with a window on the bytes of `reader`, which another thread reads.
pub fn read_ahead<T>(reader: impl Read + Send, work: impl FnOnce(&mut Blocks) -> T) -> T {
    let reader = Mutex::new(reader);
    let read = |_: u64, buffer: &mut [u8]| {
        // A single thread reads, so that a stream's blocks come in order.
        let mut reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
        read_whole(buffer, |_, rest| reader.read(rest))
    };
    ahead(1, read, work)
}

/// Calls `work` with a window on the bytes of `file`, which two threads read: copying a block from
/// the page cache takes longer than searching it. `progress` receives the number of bytes read.
pub fn read_file_ahead<T>(
    file: &File,
    progress: impl Fn(u64) + Sync,
    work: impl FnOnce(&mut Blocks) -> T,
) -> T {
    let read = |number: u64, buffer: &mut [u8]| {
        let start = number * BLOCK as u64;
        let end = read_whole(buffer, |at, rest| read_at(file, rest, start + at as u64))?;
        progress(start + end as u64);
        Ok(end)
    };
    ahead(READERS, read, work)
}

#[cfg(unix)]
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, offset)
}

#[cfg(windows)]
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, offset)
}

/// Reads until the buffer is full or the stream ends, and returns the number of bytes.
fn read_whole(
    buffer: &mut [u8],
    mut read: impl FnMut(usize, &mut [u8]) -> io::Result<usize>,
) -> io::Result<usize> {
    let mut end = 0;
    while end < buffer.len() {
        match read(end, buffer.get_mut(end..).unwrap_or_default()) {
            Ok(0) => break,
            Ok(more) => end += more,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(end)
}

fn ahead<T>(
    threads: usize,
    read: impl Fn(u64, &mut [u8]) -> io::Result<usize> + Sync,
    work: impl FnOnce(&mut Blocks) -> T,
) -> T {
    std::thread::scope(|scope| {
        let (full, blocks) = channel();
        let (free, buffers) = channel();
        for _ in 0..BLOCKS {
            // Cannot fail: the receiver is alive.
            let _ = free.send(Vec::new());
        }
        // A thread takes a number only once it has a buffer, so the block that is waited for always
        // has a buffer.
        let next = Arc::new(Mutex::new((0, buffers)));
        for _ in 0..threads {
            let (next, full, read) = (Arc::clone(&next), full.clone(), &read);
            scope.spawn(move || fill(read, &full, &next));
        }
        drop((next, full));
        // Dropping the window at the end of `work` stops the readers.
        work(&mut Blocks {
            blocks,
            free,
            early: BTreeMap::new(),
            next: 0,
            buffer: Vec::new(),
            joined: None,
            start: 0,
            end: 0,
            passed: 0,
            ended: false,
        })
    })
}

/// Reads block after block, until the end, an error, or the loss of the receiver.
fn fill(
    read: impl Fn(u64, &mut [u8]) -> io::Result<usize>,
    full: &Sender<Numbered>,
    next: &Mutex<(u64, Receiver<Vec<u8>>)>,
) {
    loop {
        let (number, mut buffer) = {
            let mut next = next.lock().unwrap_or_else(PoisonError::into_inner);
            let Ok(buffer) = next.1.recv() else { return };
            next.0 += 1;
            (next.0 - 1, buffer)
        };
        buffer.resize(HEAD + BLOCK, 0);
        let end = read(number, buffer.get_mut(HEAD..).unwrap_or_default());
        let is_last = end.as_ref().map_or(true, |&end| end < BLOCK);
        if full.send((number, end.map(|end| (buffer, HEAD + end)))).is_err() || is_last {
            return;
        }
    }
}

/// A window on a stream.
pub struct Blocks {
    blocks: Receiver<Numbered>,
    free: Sender<Vec<u8>>,
    /// Blocks that arrived before their turn.
    early: BTreeMap<u64, io::Result<Block>>,
    /// The number of the next block.
    next: u64,
    buffer: Vec<u8>,
    /// The window in place of `buffer`, if the rest of the previous block is longer than [`HEAD`].
    joined: Option<Vec<u8>>,
    start: usize,
    end: usize,
    passed: u64,
    ended: bool,
}

impl Blocks {
    /// The bytes in the window.
    pub fn bytes(&self) -> &[u8] {
        self.joined.as_ref().unwrap_or(&self.buffer).get(self.start..self.end).unwrap_or_default()
    }

    /// The offset in the stream of the window's first byte.
    pub fn offset(&self) -> u64 {
        self.passed
    }

    /// Removes `n` bytes from the front of the window.
    pub fn pass(&mut self, n: usize) {
        let n = n.min(self.end - self.start);
        self.start += n;
        self.passed += n as u64;
    }

    /// Waits until the window has at least `n` bytes; `false` if the stream ends before that.
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
        let block = loop {
            if let Some(block) = self.early.remove(&self.next) {
                break block.inspect_err(|_| self.ended = true)?;
            }
            let Ok((number, block)) = self.blocks.recv() else {
                self.ended = true;
                return Ok(());
            };
            self.early.insert(number, block);
        };
        self.next += 1;
        let (mut buffer, end) = block;
        self.ended = end < HEAD + BLOCK;
        let rest = self.bytes();
        let start = HEAD.checked_sub(rest.len());
        if let Some((start, head)) =
            start.and_then(|start| Some((start, buffer.get_mut(start..HEAD)?)))
        {
            head.copy_from_slice(rest);
            (self.start, self.end) = (start, end);
            self.joined = None;
            std::mem::swap(&mut self.buffer, &mut buffer);
        } else {
            let joined = [rest, buffer.get(HEAD..end).unwrap_or_default()].concat();
            (self.start, self.end) = (0, joined.len());
            self.joined = Some(joined);
        }
        // Fails once the readers have ended; then no buffer is needed.
        let _ = self.free.send(buffer);
        Ok(())
    }

    /// The position in the window of the first `byte`, reading more as needed; `None` if it is
    /// beyond `limit` or absent.
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

    /// Counting bytes: the position, the end, and whether reading fails there.
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
    fn every_byte_comes_once_for_every_step_size() {
        let total = 31 * BLOCK + 12_345;
        let mut file = tempfile::tempfile().expect("a file");
        std::io::copy(&mut Source(0, total, false), &mut file).expect("writes");
        for (step, passed) in [
            (1000, 700),
            (HEAD - 1, HEAD / 2),
            (HEAD + 1, HEAD),
            (160_010, 160_010),
            (BLOCK + 3, BLOCK),
            (3 * BLOCK, BLOCK),
        ] {
            let look = |blocks: &mut Blocks| {
                let mut at = 0;
                while blocks.want(step).expect("reads") {
                    let bytes = &blocks.bytes()[..step];
                    assert!(
                        bytes.iter().enumerate().all(|(i, b)| *b == number(at + i)),
                        "step {step} at {at}"
                    );
                    assert_eq!(blocks.offset(), at as u64);
                    blocks.pass(passed);
                    at += passed;
                }
                assert_eq!(at + blocks.bytes().len(), total);
            };
            read_ahead(Source(0, total, false), look);
            read_file_ahead(&file, |_| (), look);
        }
    }

    #[test]
    fn an_error_follows_the_earlier_blocks_and_an_unfinished_window_stops_the_readers() {
        read_ahead(Source(0, 2 * BLOCK + 7, true), |blocks| {
            assert!(blocks.want(2 * BLOCK).expect("reads"));
            assert_eq!(blocks.want(2 * BLOCK + 1).expect_err("broken").to_string(), "broken");
            assert!(!blocks.want(2 * BLOCK + 1).expect("no more"));
        });
        read_ahead(Source(0, 100 * BLOCK, false), |blocks| assert!(blocks.want(1).expect("reads")));
    }
}
