//! The file of one attempt: one open descriptor, read by position, so that a retried request starts at the first byte
//! again and a renamed or replaced path cannot mix two files.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::Bytes;

use crate::job::{Fingerprint, ImageKind};

/// Up to this size a file is read at once and kept in memory for the attempt: measured, streaming small files from disk
/// costs half of the speed. Eight workers hold at most 8 MiB.
pub const WHOLE_FILE_LIMIT: u64 = 1 << 20;

/// An open file on its way to a host.
#[derive(Debug)]
pub struct Source {
    file: File,
    len: u64,
    /// The name for the wire: no path, no control characters, Unicode NFC.
    name: String,
    kind: ImageKind,
    whole: Option<Bytes>,
}

impl Source {
    /// Opens `path`; small files are read completely. Blocking.
    ///
    /// # Errors
    /// What the system says about opening or reading.
    pub fn open(path: &Path, name: String, kind: ImageKind) -> io::Result<(Self, Fingerprint)> {
        let file = File::open(path)?;
        let fingerprint = Fingerprint::of(&file.metadata()?);
        let mut source = Self { file, len: fingerprint.len, name, kind, whole: None };
        if source.len <= WHOLE_FILE_LIMIT {
            source.whole = Some(Bytes::from(source.read(0, usize::try_from(source.len).unwrap_or(usize::MAX))?));
        }
        Ok((source, fingerprint))
    }

    /// The fingerprint of the open file now. Blocking, but only a system call.
    ///
    /// # Errors
    /// What the system says.
    pub fn fingerprint(&self) -> io::Result<Fingerprint> {
        Ok(Fingerprint::of(&self.file.metadata()?))
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
    pub fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; len];
        self.file.read_exact_at(&mut buffer, offset)?;
        Ok(buffer)
    }
}
