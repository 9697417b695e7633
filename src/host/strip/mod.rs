//! Takes what an image tells about its maker out of it, without touching a pixel: EXIF with its GPS position and previews,
//! XMP, IPTC, comments, texts, times, whatever a program put in for itself, and whatever follows behind the end.
//!
//! What stays is what is needed to show the image: its data, colour profile, transparency, animation, resolution; and its
//! orientation, in a new EXIF block that says nothing else. The result is a [`Cut`]: which parts of the file are sent, and
//! what stands between them. The file itself is never written to, and is not held in memory.
//!
//! The input is anybody's: every read is bounded, every length is checked, and what is not understood is refused rather
//! than sent with what it may hide.
//!
//! Limits: TIFF, AVIF and HEIC mix their metadata with the image data and are refused. A colour profile may name the
//! program that made it. Gain maps, depth maps and the films of moving photographs are removed with the rest.

mod exif;
mod gif;
mod jpeg;
mod png;
#[cfg(test)]
mod tests;
mod walk;
mod webp;

use std::io;

use self::walk::Walk;
use super::Source;
use crate::job::ImageKind;

/// The most parts of one result. An ordinary one has three; a comment for each frame of a long animation makes some
/// thousands.
const MAX_PIECES: usize = 1 << 16;

/// Why an image could not be cleaned.
#[derive(Debug, thiserror::Error)]
pub enum NotStripped {
    /// This kind of file cannot be.
    #[error("metadata cannot be removed from {} files without encoding them anew", .0.name())]
    Kind(ImageKind),
    /// The file is not built as its kind should be.
    #[error("metadata cannot be removed: {0}")]
    Broken(&'static str),
    /// It cannot be read.
    #[error("the file cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// A part of what is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// So many bytes of the file, from there.
    Keep {
        /// The first byte.
        from: u64,
        /// How many.
        len: u64,
    },
    /// These bytes.
    Insert(Vec<u8>),
}

impl Piece {
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Keep { len, .. } => *len,
            Self::Insert(bytes) => bytes.len() as u64,
        }
    }
}

/// What is sent of a file. Never empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) pieces: Vec<Piece>,
}

impl Cut {
    /// Keeps the bytes from `from` to before `to`.
    fn keep(&mut self, from: u64, to: u64) {
        let more = to.saturating_sub(from);
        match self.pieces.last_mut() {
            Some(Piece::Keep { from: first, len }) if *first + *len == from => *len += more,
            _ if more > 0 => self.pieces.push(Piece::Keep { from, len: more }),
            _ => {}
        }
    }

    fn insert(&mut self, bytes: impl Into<Vec<u8>>) {
        self.pieces.push(Piece::Insert(bytes.into()));
    }

    fn len(&self) -> u64 {
        self.pieces.iter().map(Piece::len).sum()
    }

    fn check(&self) -> Result<(), NotStripped> {
        if self.pieces.len() > MAX_PIECES { Err(NotStripped::Broken("it has too many parts")) } else { Ok(()) }
    }
}

/// Whether metadata can be removed from this kind of image.
#[must_use]
pub fn can_strip(kind: ImageKind) -> bool {
    match kind {
        ImageKind::Jpeg | ImageKind::Png | ImageKind::Gif | ImageKind::Webp | ImageKind::Bmp => true,
        ImageKind::Tiff | ImageKind::Avif | ImageKind::Heic => false,
    }
}

/// `source` without metadata. Blocking: walks through the file once.
///
/// # Errors
/// [`NotStripped`]; nothing may be sent then.
pub fn strip(source: &Source) -> Result<Source, NotStripped> {
    let cut = cut(source)?;
    cut.check()?;
    Ok(source.cut(cut)?)
}

fn cut(source: &Source) -> Result<Cut, NotStripped> {
    let mut cut = Cut::default();
    match source.kind() {
        ImageKind::Jpeg => jpeg::strip(Walk::large(source), &mut cut)?,
        ImageKind::Png => png::strip(Walk::small(source), &mut cut)?,
        ImageKind::Gif => gif::strip(Walk::large(source), &mut cut)?,
        ImageKind::Webp => webp::strip(Walk::small(source), &mut cut)?,
        // There is no place for any in it.
        ImageKind::Bmp => cut.keep(0, source.len()),
        kind @ (ImageKind::Tiff | ImageKind::Avif | ImageKind::Heic) => return Err(NotStripped::Kind(kind)),
    }
    Ok(cut)
}
