//! A stream read in large blocks and looked at without copies.

use std::io::{self, Read};

/// Size of a block. It fits the second-level cache, which a file that is in the page cache is
/// then copied through at its speed.
const BLOCK: usize = 1 << 18;

/// A window on a stream.
pub struct Blocks<'r> {
    reader: &'r mut dyn Read,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    passed: u64,
    ended: bool,
}

impl<'r> Blocks<'r> {
    /// Nothing is read yet.
    pub fn new(reader: &'r mut dyn Read) -> Self {
        Self { reader, buffer: vec![0; BLOCK], start: 0, end: 0, passed: 0, ended: false }
    }

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

    /// Reads until at least `n` bytes are at hand. `false`: the stream has ended before.
    pub fn want(&mut self, n: usize) -> io::Result<bool> {
        while self.end - self.start < n {
            if self.ended {
                return Ok(false);
            }
            self.read_more(n)?;
        }
        Ok(true)
    }

    fn read_more(&mut self, n: usize) -> io::Result<()> {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        if self.buffer.len() < n {
            self.buffer.resize(n.next_multiple_of(BLOCK), 0);
        }
        loop {
            match self.reader.read(self.buffer.get_mut(self.end..).unwrap_or_default()) {
                Ok(0) => self.ended = true,
                Ok(more) => self.end += more,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            }
            return Ok(());
        }
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
