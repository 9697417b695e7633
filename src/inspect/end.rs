//! Is the end of the image there?
//!
//! By the formats' own words: an end marker where there is one (JPEG, PNG, GIF), the length that the header announces
//! (WebP, BMP), boxes that end where the file does (AVIF, HEIC). Data after the end is no fault: cameras and telephones
//! append previews and films.
//!
//! Sources: ITU-T T.81 B.1 (JPEG), W3C PNG 5.3 and 11.2.5, GIF89a, RFC 9649 (WebP), ISO/IEC 14496-12 4.2 (boxes).

use std::io;

use super::{Content, read_at};
use crate::job::ImageKind;
use crate::settle::End;

/// How much of the tail is searched for an end marker: previews and notes that programs append are rarely longer.
const TAIL: usize = 8 << 10;

/// How many parts of a file (segments, boxes, blocks of an index) are walked at most. An ordinary JPEG has about ten
/// segments, one with a large colour profile and XMP a few hundred.
pub(super) const MAX_PARTS: usize = 4_096;

/// How much is read at most to walk through a file or to search it for its end; larger files count as "cannot be told".
const MAX_WALK: u64 = 64 << 20;

/// How much is read at once while walking.
const STEP: usize = 64 << 10;

/// Whether the end of this image of `len` bytes is there.
pub(super) fn of(file: &Content, len: u64, kind: ImageKind) -> io::Result<End> {
    match kind {
        ImageKind::Jpeg => jpeg(file, len),
        ImageKind::Png => png(file, len),
        ImageKind::Gif => gif(file, len),
        ImageKind::Webp => webp(file, len),
        ImageKind::Bmp => bmp(file, len),
        ImageKind::Avif | ImageKind::Heic => boxes(file, len),
        ImageKind::Tiff => Ok(End::Unknown),
    }
}

/// The last bytes of the file and where they begin.
fn tail(file: &Content, len: u64) -> io::Result<(u64, Vec<u8>)> {
    let start = len.saturating_sub(TAIL as u64);
    Ok((start, read_at(file, start, TAIL)?))
}

/// `FF D9` after the first scan has begun. Not before: the preview in the metadata has an end marker of its own, and a
/// copy that has come just so far is not complete.
fn jpeg(file: &Content, len: u64) -> io::Result<End> {
    let Some(scan) = first_scan(file)? else { return Ok(End::Missing) };
    let (start, bytes) = tail(file, len)?;
    let from = usize::try_from(scan.saturating_sub(start)).unwrap_or(usize::MAX).min(bytes.len());
    if bytes[from..].windows(2).any(|pair| pair == [0xFF, 0xD9]) {
        return Ok(End::Complete);
    }
    // A film or a second picture may follow, longer than the tail: then the picture ends further in front, and whether
    // what follows is whole cannot be told.
    search(file, scan, start, [0xFF, 0xD9])
}

/// Where the data of the first scan begins; `None` if the segments end before.
fn first_scan(file: &Content) -> io::Result<Option<u64>> {
    let mut at = 2;
    for _ in 0..MAX_PARTS {
        let header = read_at(file, at, 4)?;
        match header[..] {
            // Fill bytes, and markers without a length: TEM and RST.
            [0xFF, 0xFF, ..] => at += 1,
            [0xFF, 0x01 | 0xD0..=0xD7, ..] => at += 2,
            [0xFF, marker, high, low] => {
                at += 2 + u64::from(u16::from_be_bytes([high, low]).max(2));
                if marker == 0xDA {
                    return Ok(Some(at));
                }
            }
            _ => return Ok(None),
        }
    }
    Ok(None)
}

/// `Unknown` if the two bytes occur from `from` to `to`, or it would take too long to find out; else `Missing`.
fn search(file: &Content, from: u64, to: u64, marker: [u8; 2]) -> io::Result<End> {
    if to.saturating_sub(from) > MAX_WALK {
        return Ok(End::Unknown);
    }
    let mut at = from;
    while at < to {
        let bytes = read_at(file, at, STEP)?;
        if bytes.windows(2).any(|pair| pair == marker) {
            return Ok(End::Unknown);
        }
        if bytes.len() < STEP {
            break;
        }
        // The marker may lie across the border.
        at += STEP as u64 - 1;
    }
    Ok(End::Missing)
}

/// The `IEND` chunk with its length and checksum, which never vary.
fn png(file: &Content, len: u64) -> io::Result<End> {
    const IEND: [u8; 12] = [0, 0, 0, 0, b'I', b'E', b'N', b'D', 0xAE, 0x42, 0x60, 0x82];
    let (_, bytes) = tail(file, len)?;
    Ok(if bytes.windows(IEND.len()).any(|window| window == IEND) { End::Complete } else { End::Missing })
}

/// The length that the RIFF header announces; the file is padded to an even one.
fn webp(file: &Content, len: u64) -> io::Result<End> {
    let head = read_at(file, 4, 4)?;
    let Some(announced) = head.first_chunk::<4>() else { return Ok(End::Missing) };
    Ok(if len >= 8 + u64::from(u32::from_le_bytes(*announced)) { End::Complete } else { End::Missing })
}

/// The length that the header announces; some writers leave it zero or write something shorter.
fn bmp(file: &Content, len: u64) -> io::Result<End> {
    let head = read_at(file, 2, 4)?;
    let Some(announced) = head.first_chunk::<4>() else { return Ok(End::Missing) };
    Ok(match len.cmp(&u64::from(u32::from_le_bytes(*announced))) {
        std::cmp::Ordering::Less => End::Missing,
        std::cmp::Ordering::Equal => End::Complete,
        std::cmp::Ordering::Greater => End::Unknown,
    })
}

/// Boxes, one behind the other, that end exactly where the file does.
fn boxes(file: &Content, len: u64) -> io::Result<End> {
    let mut at: u64 = 0;
    for _ in 0..MAX_PARTS {
        if at == len {
            return Ok(End::Complete);
        }
        let header = read_at(file, at, 16)?;
        let Some(short) = header.first_chunk::<4>() else { return Ok(End::Missing) };
        let (size, least) = match u32::from_be_bytes(*short) {
            // "To the end of the file", whatever that will be.
            0 => return Ok(End::Unknown),
            1 => match header.get(8..16).and_then(|long| long.first_chunk::<8>()) {
                Some(long) => (u64::from_be_bytes(*long), 16),
                None => return Ok(End::Missing),
            },
            size => (u64::from(size), 8),
        };
        if size < least {
            return Ok(End::Unknown);
        }
        at = match at.checked_add(size) {
            Some(next) if next <= len => next,
            _ => return Ok(End::Missing),
        };
    }
    Ok(End::Unknown)
}

/// The blocks from the header to the trailer `3B`.
fn gif(file: &Content, len: u64) -> io::Result<End> {
    if len > MAX_WALK {
        return Ok(End::Unknown);
    }
    match Blocks::of(file).walk(u32::MAX) {
        Ok(Stop::Trailer) => Ok(End::Complete),
        // A block of an unknown type: whatever the program meant, its end cannot be told.
        Ok(Stop::Unknown | Stop::Frame) => Ok(End::Unknown),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(End::Missing),
        Err(error) => Err(error),
    }
}

/// Whether a GIF has a second frame.
pub(super) fn gif_moves(file: &Content, len: u64) -> io::Result<bool> {
    if len > MAX_WALK {
        return Ok(false);
    }
    match Blocks::of(file).walk(2) {
        Ok(stop) => Ok(stop == Stop::Frame),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// Where a walk over a GIF ended.
#[derive(PartialEq)]
enum Stop {
    Trailer,
    /// At the frame that was asked for.
    Frame,
    /// At a block of an unknown type.
    Unknown,
}

/// A walk over the blocks of a GIF, reading a piece at a time.
struct Blocks<'a> {
    file: &'a Content,
    /// Where the piece begins in the file.
    offset: u64,
    bytes: Vec<u8>,
    at: usize,
}

impl<'a> Blocks<'a> {
    fn of(file: &'a Content) -> Self {
        Self { file, offset: 0, bytes: Vec::new(), at: 0 }
    }

    /// Walks to the end, or to frame number `frame`.
    fn walk(&mut self, frame: u32) -> io::Result<Stop> {
        const IMAGE: u8 = 0x2C;
        const EXTENSION: u8 = 0x21;
        const TRAILER: u8 = 0x3B;
        self.skip(10);
        let flags = self.byte()?;
        self.skip(2 + colours(flags));
        let mut frames = 0;
        loop {
            match self.byte()? {
                TRAILER => return Ok(Stop::Trailer),
                EXTENSION => self.skip(1),
                IMAGE => {
                    frames += 1;
                    if frames == frame {
                        return Ok(Stop::Frame);
                    }
                    self.skip(8);
                    let flags = self.byte()?;
                    // The colour table, and the code size.
                    self.skip(colours(flags) + 1);
                }
                _ => return Ok(Stop::Unknown),
            }
            self.sub_blocks()?;
        }
    }

    /// Length and data, until the length is zero.
    fn sub_blocks(&mut self) -> io::Result<()> {
        loop {
            match self.byte()? {
                0 => return Ok(()),
                len => self.skip(usize::from(len)),
            }
        }
    }

    fn byte(&mut self) -> io::Result<u8> {
        if self.at >= self.bytes.len() {
            self.offset += self.at as u64;
            self.bytes = read_at(self.file, self.offset, STEP)?;
            self.at = 0;
        }
        let byte = self.bytes.get(self.at).copied().ok_or(io::ErrorKind::UnexpectedEof)?;
        self.at += 1;
        Ok(byte)
    }

    fn skip(&mut self, n: usize) {
        self.at += n;
    }
}

/// The length of the colour table that `flags` announce, in bytes.
fn colours(flags: u8) -> usize {
    if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) }
}
