//! The file of one attempt: one open descriptor, read by position, so that a retried request starts at the first byte
//! again and a renamed or replaced path cannot mix two files.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use rustix::fs::OFlags;

use super::strip::{Cut, Piece};
use crate::job::{ContentHash, Fingerprint, ImageKind, WHOLE_FILE_LIMIT};

/// How much is read at once for the hash.
const HASHED: usize = 256 << 10;

/// A file on its way to a host: open, or all of it in memory.
#[derive(Debug)]
pub struct Source {
    /// None if the content was read by somebody else.
    file: Option<File>,
    len: u64,
    /// The name for the wire: no path, no control characters, Unicode NFC.
    name: String,
    kind: ImageKind,
    whole: Option<Bytes>,
    /// What is sent of the file, and where each part begins in what is sent; empty for all of it.
    parts: Vec<(u64, Piece)>,
}

impl Source {
    /// Opens `path`; small files are read completely. Blocking.
    ///
    /// # Errors
    /// What the system says about opening or reading.
    pub fn open(path: &Path, name: String, kind: ImageKind) -> io::Result<(Self, Fingerprint)> {
        // A pipe that has taken the file's name since it was looked at must not hold this up; its fingerprint tells it apart.
        let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOCTTY).bits()).unwrap_or_default();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let fingerprint = Fingerprint::of(&file.metadata()?);
        let mut source = Self::new(Some(file), fingerprint.len, name, kind);
        if source.len <= WHOLE_FILE_LIMIT {
            source.whole = Some(source.read(0, usize::try_from(source.len).unwrap_or(usize::MAX))?);
        }
        Ok((source, fingerprint))
    }

    /// A file whose content is in memory already.
    #[must_use]
    pub fn in_memory(content: Bytes, name: String, kind: ImageKind) -> Self {
        Self { whole: Some(content.clone()), ..Self::new(None, content.len() as u64, name, kind) }
    }

    fn new(file: Option<File>, len: u64, name: String, kind: ImageKind) -> Self {
        Self { file, len, name, kind, whole: None, parts: Vec::new() }
    }

    /// The fingerprint of the open file now; `None` without one. Blocking, but only a system call.
    ///
    /// # Errors
    /// What the system says.
    pub fn fingerprint(&self) -> io::Result<Option<Fingerprint>> {
        self.file.as_ref().map(|file| Ok(Fingerprint::of(&file.metadata()?))).transpose()
    }

    /// Length in bytes as it was when the file was opened: what is announced and sent.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The name for the wire.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Type by content.
    #[must_use]
    pub fn kind(&self) -> ImageKind {
        self.kind
    }

    /// The whole content, if the file is small enough to be held in memory.
    #[must_use]
    pub fn whole(&self) -> Option<&Bytes> {
        self.whole.as_ref()
    }

    /// Reads exactly `len` bytes at `offset`. Blocking.
    ///
    /// # Errors
    /// `UnexpectedEof` when the file has become shorter, else what the system says.
    pub fn read(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        if let Some(whole) = &self.whole {
            let from = usize::try_from(offset).unwrap_or(usize::MAX);
            let part = from.checked_add(len).filter(|to| *to <= whole.len()).map(|to| whole.slice(from..to));
            return part.ok_or_else(|| io::ErrorKind::UnexpectedEof.into());
        }
        let file = self.file.as_ref().expect("what is not in memory is open");
        let mut block = Block::take();
        block.0.clear();
        if self.parts.is_empty() {
            read_exactly(file, offset, len, &mut block.0)?;
        } else {
            self.read_parts(file, offset, len, &mut block.0)?;
        }
        Ok(Bytes::from_owner(block))
    }

    fn read_parts(&self, file: &File, offset: u64, len: usize, bytes: &mut Vec<u8>) -> io::Result<()> {
        let first = self.parts.partition_point(|(start, part)| start + part.len() <= offset);
        for (start, part) in &self.parts[first..] {
            let skipped = (offset + bytes.len() as u64) - start;
            let wanted = (len - bytes.len()).min(usize::try_from(part.len() - skipped).unwrap_or(usize::MAX));
            match part {
                Piece::Keep { from, .. } => read_exactly(file, from + skipped, wanted, bytes)?,
                Piece::Insert(inserted) => {
                    let skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
                    bytes.extend_from_slice(&inserted[skipped..skipped + wanted]);
                }
            }
            if bytes.len() == len {
                return Ok(());
            }
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }

    /// The same under another name.
    ///
    /// # Errors
    /// What the system says about doubling the descriptor.
    pub(super) fn renamed(&self, name: String) -> io::Result<Self> {
        let file = self.file.as_ref().map(File::try_clone).transpose()?;
        let (whole, parts) = (self.whole.clone(), self.parts.clone());
        Ok(Self { whole, parts, ..Self::new(file, self.len, name, self.kind) })
    }

    /// What `cut` leaves of it. Blocking.
    pub(super) fn cut(&self, cut: Cut) -> io::Result<Self> {
        let mut len = 0;
        let mut parts = Vec::with_capacity(cut.pieces.len());
        for piece in cut.pieces {
            let start = len;
            len += piece.len();
            parts.push((start, piece));
        }
        if self.whole.is_none() {
            let file = self.file.as_ref().map(File::try_clone).transpose()?;
            return Ok(Self { parts, ..Self::new(file, len, self.name.clone(), self.kind) });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or_default());
        for (_, part) in &parts {
            match part {
                Piece::Keep { from, len } => {
                    bytes.extend_from_slice(&self.read(*from, usize::try_from(*len).unwrap_or(usize::MAX))?);
                }
                Piece::Insert(inserted) => bytes.extend_from_slice(inserted),
            }
        }
        Ok(Self::in_memory(bytes.into(), self.name.clone(), self.kind))
    }

    /// The hash of what is sent. Blocking; reads all of it.
    ///
    /// # Errors
    /// What the system says.
    pub fn hash(&self) -> io::Result<ContentHash> {
        let mut hasher = blake3::Hasher::new();
        let mut at = 0;
        while at < self.len {
            let len = usize::try_from(self.len - at).unwrap_or(HASHED).min(HASHED);
            hasher.update(&self.read(at, len)?);
            at += len as u64;
        }
        Ok(ContentHash(*hasher.finalize().as_bytes()))
    }
}

/// The memory of blocks that were sent, to be used again for what is read next: fresh memory for each block costs as much
/// as reading it.
static SPARE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// How many blocks are kept: two for each of sixteen attempts that read large files, 8 MiB.
const MOST_SPARE: usize = 32;

/// Longer ones are not kept: they were whole files.
const LONGEST_SPARE: usize = 256 << 10;

/// Memory for a piece of a file, which goes to [`SPARE`] when nobody needs it any more.
struct Block(Vec<u8>);

impl Block {
    fn take() -> Self {
        Self(SPARE.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default())
    }
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.0);
        let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
        if bytes.capacity() <= LONGEST_SPARE && spare.len() < MOST_SPARE {
            spare.push(bytes);
        }
    }
}

/// Reads exactly `len` bytes at `offset` to the end of `bytes`, in memory that is not cleared first: that would cost as much as the
/// reading.
fn read_exactly(file: &File, offset: u64, len: usize, bytes: &mut Vec<u8>) -> io::Result<()> {
    let before = bytes.len();
    bytes.reserve_exact(len);
    while bytes.len() < before + len {
        let at = offset.saturating_add((bytes.len() - before) as u64);
        match rustix::io::pread(file, rustix::buffer::spare_capacity(bytes), at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // The memory may have more room than was asked for.
    bytes.truncate(before + len);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r13_a_pipe_in_the_place_of_the_file_is_opened_at_once_and_is_another_file() {
        let top = tempfile::TempDir::new().expect("a folder");
        let path = top.path().join("x.png");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo runs").success());
        let (source, fingerprint) = Source::open(&path, "x.png".to_owned(), ImageKind::Png).expect("opens");
        assert_eq!((source.len(), fingerprint.len), (0, 0));
    }
}
