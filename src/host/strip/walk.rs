//! Reading a file from front to back, a window at a time.

use bytes::Bytes;

use super::NotStripped;
use crate::host::Source;

/// For formats that are read byte by byte.
const LARGE: usize = 64 << 10;

/// For formats of which only the headers of large chunks are read.
const SMALL: usize = 4 << 10;

/// A position in a file. The bytes before it are done with.
pub(super) struct Walk<'a> {
    source: &'a Source,
    at: u64,
    window: Bytes,
    window_at: u64,
    size: usize,
}

impl<'a> Walk<'a> {
    pub(super) fn large(source: &'a Source) -> Self {
        Self { source, at: 0, window: Bytes::new(), window_at: 0, size: LARGE }
    }

    pub(super) fn small(source: &'a Source) -> Self {
        Self { size: SMALL, ..Self::large(source) }
    }

    pub(super) fn at(&self) -> u64 {
        self.at
    }

    pub(super) fn left(&self) -> u64 {
        self.source.len().saturating_sub(self.at)
    }

    /// Up to `n` bytes from here, less only at the end of the file; moves nothing. `n` is at most a window.
    pub(super) fn peek(&mut self, n: usize) -> Result<&[u8], NotStripped> {
        let n = usize::try_from(self.left()).unwrap_or(usize::MAX).min(n).min(self.size);
        let start = self.at.wrapping_sub(self.window_at);
        let inside = usize::try_from(start).ok().filter(|start| start + n <= self.window.len());
        let start = match inside {
            Some(start) => start,
            None => {
                let len = usize::try_from(self.left()).unwrap_or(usize::MAX).min(self.size);
                self.window = self.source.read(self.at, len)?;
                self.window_at = self.at;
                0
            }
        };
        Ok(&self.window[start..start + n])
    }

    /// The next `N` bytes.
    pub(super) fn take<const N: usize>(&mut self) -> Result<[u8; N], NotStripped> {
        let bytes = self.peek(N)?.first_chunk::<N>().copied();
        self.at += N as u64;
        bytes.ok_or(ENDS)
    }

    pub(super) fn skip(&mut self, n: u64) -> Result<(), NotStripped> {
        if n > self.left() {
            return Err(ENDS);
        }
        self.at += n;
        Ok(())
    }

    /// Up to the byte `wanted`, or to the end; whether it is there.
    pub(super) fn find(&mut self, wanted: u8) -> Result<bool, NotStripped> {
        while self.left() > 0 {
            let window = self.peek(self.size)?;
            let (len, found) = (window.len(), window.iter().position(|byte| *byte == wanted));
            self.at += found.unwrap_or(len) as u64;
            if found.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// It ends before it should.
pub(super) const ENDS: NotStripped = NotStripped::Broken("the file ends in the middle of a part");
