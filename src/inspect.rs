//! Is it an image, and is it whole?
//!
//! Two questions to one open descriptor each. [`look`] is the quick one, asked while a file settles: a few reads at its
//! head and tail say whether its end is there. [`inspect`] is the thorough one, asked once before a job is made: type by
//! content, dimensions from the header, hash of every byte, and the same fingerprint before and after.
//!
//! All functions block. The bytes are anybody's: every read is bounded, nothing is trusted to be what its name says, no
//! pixel is ever decoded (decoders accept files that were cut off, and can be made to eat memory), and only regular files
//! are opened: never through a symbolic link, never a pipe or a device.

mod end;
mod frames;
mod kind;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::fs::{self, File, Metadata};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use bytes::Bytes;
use rustix::fs::{Mode, OFlags};

use crate::clock::WallTime;
use crate::job::{ContentHash, Fingerprint, ImageFacts, ImageKind, WHOLE_FILE_LIMIT};
use crate::settle::{End, Look, Warning};

/// How much of the head is read to tell the type. The longest signature ends at byte 12, lists of HEIF brands a little
/// later, and HTML likes to begin with comments.
const HEAD: usize = 512;

/// How much of the header may be read to find the dimensions: JPEG and TIFF can put hundreds of kilobytes of metadata in
/// front of them, nobody needs more than this.
const DIMENSION_READS: u64 = 16 << 20;

/// How much is read at once for the hash: large enough that the system call does not show, small enough for one buffer
/// per blocking thread.
const CHUNK: usize = 256 << 10;

/// Up to this size a look reads the whole file: one system call instead of several.
const LOOKED_AT_WHOLE: u64 = 16 << 10;

/// Up to this size a complete image is inspected in the look that finds its end. A feed takes at most sixteen looks at a
/// time, so this bounds what it holds to 4 MiB.
const INSPECTED_AT_ONCE: u64 = 256 << 10;

/// The largest width or height that is believed: JPEG's own limit. A header that says more is broken or a trap, and no
/// image host takes it.
const MAX_SIDE: usize = 65_535;

/// Why a settled file does not become a job that is sent.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It is not what was seen when it settled: let it settle anew.
    #[error("the file has changed since it settled; it is looked at again")]
    Changed,
    /// Nothing is there any more.
    #[error("the file is gone")]
    Vanished,
    /// It is larger than the folder allows.
    #[error("the file has {len} bytes and this folder takes at most {max}; raise `max_bytes` of the folder to send it")]
    TooLarge {
        /// Its length in bytes.
        len: u64,
        /// `max_bytes` of the folder.
        max: u64,
    },
    /// Its content is not an image of a kind that can be sent.
    #[error("the content is not an image but looks like {found}; expected {}", expected())]
    NotAnImage {
        /// What it looks like: `text`, `a PDF document`, …
        found: &'static str,
    },
    /// It begins like an image but its header says no usable size.
    #[error(
        "the header of this {} file is damaged: {found}; expected a width and height from 1 to {MAX_SIDE} pixels. Save or copy the image anew",
        kind.name()
    )]
    BadHeader {
        /// What it begins like.
        kind: ImageKind,
        /// What is wrong.
        found: String,
    },
    /// The system did not let us read it.
    #[error("the file cannot be read: {0}; check its permissions and the disk")]
    Io(#[from] io::Error),
}

fn expected() -> String {
    ImageKind::ALL.map(ImageKind::name).join(", ")
}

/// What a look at a file showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Looked {
    /// What tells whether it is complete.
    pub look: Look,
    /// The thorough answer too, if the file is small and its end is there: it is read once instead of twice.
    pub inspected: Option<Inspected>,
}

/// Looks at the file: its fingerprint, and whether its end is there. `None` if it is not a regular file. Blocking.
///
/// # Errors
/// What the system says about opening or reading; `NotFound` when nothing is there.
pub fn look(path: &Path) -> io::Result<Option<Looked>> {
    let Some((file, metadata)) = open(path)? else { return Ok(None) };
    let fingerprint = Fingerprint::of(&metadata);
    let content = Content::of(file, fingerprint.len, LOOKED_AT_WHOLE)?;
    let millis = |seconds: i64, nanos: i64| seconds.saturating_mul(1_000).saturating_add(nanos / 1_000_000);
    let touched = millis(metadata.mtime(), metadata.mtime_nsec()).max(millis(metadata.ctime(), metadata.ctime_nsec()));
    let end = if fingerprint.len == 0 {
        End::Empty
    } else {
        match kind::sniff(&head(&content)?) {
            Ok(kind) => end::of(&content, fingerprint.len, kind)?,
            Err(_) => End::NotImage,
        }
    };
    let look = Look { fingerprint, touched: WallTime::from_millis(touched), end };
    let small = end == End::Complete && fingerprint.len <= INSPECTED_AT_ONCE;
    // What speaks against it is found again, and told, when its turn comes.
    let inspected =
        if small { content.read_through(INSPECTED_AT_ONCE).and_then(|it| examine(it, fingerprint)).ok() } else { None };
    Ok(Some(Looked { look, inspected }))
}

/// A settled file that is an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// What it is.
    pub image: ImageFacts,
    /// What is odd about it.
    pub warning: Option<Warning>,
    /// Its content, if it is small enough to be read at once.
    pub content: Option<Bytes>,
}

/// Finds out what a settled file is. `expected` is the fingerprint it settled with, `max_bytes` the limit of its folder.
/// Blocking; reads the whole file once.
///
/// # Errors
/// [`Refused`]: why the file is not to be sent, or not now.
pub fn inspect(path: &Path, expected: Fingerprint, max_bytes: u64) -> Result<Inspected, Refused> {
    let (file, metadata) = match open(path) {
        Ok(Some(opened)) => opened,
        Ok(None) => return Err(Refused::Changed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Refused::Vanished),
        Err(error) => return Err(Refused::Io(error)),
    };
    if Fingerprint::of(&metadata) != expected {
        return Err(Refused::Changed);
    }
    if expected.len > max_bytes {
        return Err(Refused::TooLarge { len: expected.len, max: max_bytes });
    }
    examine(Content::of(file, expected.len, WHOLE_FILE_LIMIT)?, expected)
}

/// Everything about a content, and that the file is still the expected one after it was read.
fn examine(content: Content, expected: Fingerprint) -> Result<Inspected, Refused> {
    let kind = kind::sniff(&head(&content)?).map_err(|found| Refused::NotAnImage { found })?;
    let end = end::of(&content, expected.len, kind)?;
    let (width, height) = dimensions(&content, kind)?;
    let animated = frames::animated(&content, expected.len, kind)?;
    let hash = hash(&content, expected.len)?;
    if Fingerprint::of(&content.file.metadata()?) != expected {
        return Err(Refused::Changed);
    }
    let warning = (end == End::Missing).then_some(Warning::NoEndMarker);
    Ok(Inspected { image: ImageFacts { kind, width, height, animated, hash }, warning, content: content.whole })
}

/// What is read of a file: by position, or from memory if it is small.
pub(super) struct Content {
    file: File,
    len: u64,
    whole: Option<Bytes>,
}

impl Content {
    /// The content of `file`, which has `len` bytes; read at once if that is at most `limit`.
    fn of(file: File, len: u64, limit: u64) -> io::Result<Self> {
        let mut content = Self { file, len, whole: None };
        if len <= limit {
            // A file that is shorter by now has changed, which its fingerprint will tell.
            content.whole = Some(Bytes::from(read_whole(&content.file, usize::try_from(len).unwrap_or(usize::MAX))?));
        }
        Ok(content)
    }

    /// The same content, read at once if it was not and has at most `limit` bytes.
    fn read_through(self, limit: u64) -> Result<Self, Refused> {
        if self.whole.is_some() { Ok(self) } else { Ok(Self::of(self.file, self.len, limit)?) }
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let Some(whole) = &self.whole else { return self.file.read_at(buffer, offset) };
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(whole.len());
        let n = buffer.len().min(whole.len() - from);
        buffer[..n].copy_from_slice(&whole[from..from + n]);
        Ok(n)
    }
}

/// Opens a regular file; `None` for anything else. The flags matter in the instant between the look at the type and the
/// opening: a pipe that has taken the file's place cannot hold us up, a link cannot lead us away.
fn open(path: &Path) -> io::Result<Option<(File, Metadata)>> {
    if !fs::symlink_metadata(path)?.is_file() {
        return Ok(None);
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(descriptor) => File::from(descriptor),
        Err(rustix::io::Errno::LOOP) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    let metadata = file.metadata()?;
    Ok(metadata.is_file().then_some((file, metadata)))
}

/// Reads `len` bytes from the beginning, less only if there are no more, into memory that is not cleared first.
fn read_whole(file: &File, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        let at = bytes.len() as u64;
        match rustix::io::pread(file, rustix::buffer::spare_capacity(&mut bytes), at) {
            Ok(0) => break,
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    bytes.truncate(len);
    Ok(bytes)
}

fn head(file: &Content) -> io::Result<Vec<u8>> {
    read_at(file, 0, HEAD)
}

/// Reads up to `len` bytes at `offset`; less only at the end of the file.
fn read_at(file: &Content, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; len];
    let mut filled = 0;
    while filled < len {
        match file.read_at(&mut buffer[filled..], offset.saturating_add(filled as u64)) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    buffer.truncate(filled);
    Ok(buffer)
}

/// Width and height from the header.
fn dimensions(file: &Content, kind: ImageKind) -> Result<(u32, u32), Refused> {
    let bad = |found: String| Refused::BadHeader { kind, found };
    let mut reader = BufReader::new(Bounded { file, at: 0, left: DIMENSION_READS });
    let size = match imagesize::reader_size(&mut reader) {
        Ok(size) => size,
        Err(imagesize::ImageError::IoError(error)) if error.raw_os_error().is_some() => return Err(Refused::Io(error)),
        Err(_) => return Err(bad("it says no width and height".to_owned())),
    };
    // A bitmap with a negative height is stored from top to bottom.
    let height = match (kind, u32::try_from(size.height)) {
        (ImageKind::Bmp, Ok(height)) => height.cast_signed().unsigned_abs() as usize,
        _ => size.height,
    };
    match (side(size.width), side(height)) {
        (Some(width), Some(height)) => Ok((width, height)),
        _ => Err(bad(format!("it says {} × {} pixels", size.width, size.height))),
    }
}

fn side(pixels: usize) -> Option<u32> {
    (1..=MAX_SIDE).contains(&pixels).then(|| u32::try_from(pixels).ok())?
}

/// A reader with a position of its own that ends after so many bytes, wherever it was sent.
struct Bounded<'a> {
    file: &'a Content,
    at: u64,
    left: u64,
}

impl Read for Bounded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let n = self.file.read_at(&mut buffer[..most], self.at)?;
        self.at = self.at.saturating_add(n as u64);
        self.left -= n as u64;
        Ok(n)
    }
}

impl Seek for Bounded<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.file.len.checked_add_signed(by),
        };
        self.at = target.filter(|at| i64::try_from(*at).is_ok()).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

/// The hash of exactly `len` bytes: a file that has become shorter has changed, one that has grown is found out by its
/// fingerprint.
fn hash(file: &Content, len: u64) -> Result<ContentHash, Refused> {
    if let Some(whole) = &file.whole {
        let all_there = whole.len() as u64 == len;
        return if all_there { Ok(ContentHash(*blake3::hash(whole).as_bytes())) } else { Err(Refused::Changed) };
    }
    let mut hasher = blake3::Hasher::new();
    BUFFER.with_borrow_mut(|buffer| {
        buffer.resize(CHUNK, 0);
        let mut at = 0;
        while at < len {
            let most = buffer.len().min(usize::try_from(len - at).unwrap_or(usize::MAX));
            match file.read_at(&mut buffer[..most], at) {
                Ok(0) => return Err(Refused::Changed),
                Ok(n) => {
                    hasher.update(&buffer[..n]);
                    at += n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Refused::Io(error)),
            }
        }
        Ok(ContentHash(*hasher.finalize().as_bytes()))
    })
}

thread_local! {
    /// Fresh memory for each file would cost as much as its hash.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}
