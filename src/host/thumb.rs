//! Thumbnails for hosts that make none: a small picture from an untrusted big one, in bounded memory.
//!
//! Never fails an upload: whatever cannot be decoded has no thumbnail. BMP, TIFF, AVIF and HEIC have none in any case.
//!
//! Limits: a decode that has begun cannot be interrupted; it ends within a few seconds because its size is bounded, and
//! it keeps its permit until then. A JPEG file is held in memory while it is decoded.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Source;
use crate::job::{ImageFacts, ImageKind};

/// A thumbnail fits into a square of this many pixels: four in a row on a small screen, sharp on a dense one.
pub const EDGE: u32 = 320;

/// Above this many pixels there is no thumbnail: larger than any camera's picture, small enough to decode in seconds.
pub const MAX_PIXELS: u64 = 100_000_000;

/// Most memory that one decoded picture may take: [`MAX_PIXELS`] with four bytes each.
pub const MAX_DECODED_BYTES: u64 = MAX_PIXELS * 4;

/// Pictures above this size decode alone: two of them at once would double the peak for no gain.
pub const LARGE_DECODED_BYTES: u64 = 64 << 20;

/// Decodes at a time. More would take the processors from the uploads.
const DECODES: u32 = 2;

/// How much of a source is read at once.
const READ: usize = 64 << 10;

/// JPEG quality: no visible loss at this size, about 15 kB.
const QUALITY: u8 = 80;

/// An encoded thumbnail.
#[derive(Clone, PartialEq, Eq)]
pub struct Thumb {
    /// The encoded picture.
    pub bytes: Vec<u8>,
    /// `Jpeg`, or `Png` for a picture with transparency.
    pub kind: ImageKind,
    /// Width and height in pixels.
    pub size: (u32, u32),
}

/// Makes thumbnails, a bounded number at a time.
#[derive(Clone, Debug)]
pub struct Thumbnailer {
    permits: Arc<Semaphore>,
}

impl Default for Thumbnailer {
    fn default() -> Self {
        Self { permits: Arc::new(Semaphore::new(DECODES as usize)) }
    }
}

impl Thumbnailer {
    /// The thumbnail of the picture at `path`, or `None` when none can be made of it.
    pub async fn of_file(&self, path: &Path, facts: &ImageFacts) -> Option<Thumb> {
        let path = path.to_owned();
        self.make(move || File::open(path).map(BufReader::new), facts).await
    }

    /// The thumbnail of a picture on its way to a host, or `None` when none can be made of it.
    pub async fn of(&self, source: &Arc<Source>, facts: &ImageFacts) -> Option<Thumb> {
        let source = Arc::clone(source);
        self.make(move || Ok(BufReader::with_capacity(READ, Reader { source, at: 0 })), facts).await
    }

    async fn make<R: BufRead + Seek>(
        &self,
        open: impl FnOnce() -> io::Result<R> + Send + 'static,
        facts: &ImageFacts,
    ) -> Option<Thumb> {
        let format = format(facts.kind)?;
        let budget = budget(facts)?;
        let permit = self.permit(budget).await?;
        let decode = tokio::task::spawn_blocking(move || {
            // Held by the thread, not by the future: a dropped upload must not let a third decode begin.
            let _permit = permit;
            decode(open().ok()?, format, budget).ok().and_then(|picture| encode(&picture).ok())
        });
        // A decoder that panics on a picture made for it is one more reason for no thumbnail.
        decode.await.ok().flatten()
    }

    async fn permit(&self, budget: u64) -> Option<OwnedSemaphorePermit> {
        let wanted = if budget > LARGE_DECODED_BYTES { DECODES } else { 1 };
        Arc::clone(&self.permits).acquire_many_owned(wanted).await.ok()
    }
}

/// A position in a source.
struct Reader {
    source: Arc<Source>,
    at: u64,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.source.len().saturating_sub(self.at)).unwrap_or(usize::MAX);
        let bytes = self.source.read(self.at, left.min(buffer.len()))?;
        buffer[..bytes.len()].copy_from_slice(&bytes);
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }
}

impl Seek for Reader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.source.len().checked_add_signed(by),
        };
        self.at = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

/// Whether a thumbnail can be hoped for, and the memory its decoder may take.
fn budget(facts: &ImageFacts) -> Option<u64> {
    let pixels = u64::from(facts.width) * u64::from(facts.height);
    if pixels == 0 || pixels > MAX_PIXELS {
        return None;
    }
    // Sixteen bits per channel take eight bytes a pixel; what needs more than was foreseen is refused by `decode`.
    let foreseen = pixels.saturating_mul(8);
    Some(if foreseen <= LARGE_DECODED_BYTES { LARGE_DECODED_BYTES } else { MAX_DECODED_BYTES })
}

fn format(kind: ImageKind) -> Option<ImageFormat> {
    match kind {
        ImageKind::Jpeg => Some(ImageFormat::Jpeg),
        ImageKind::Png => Some(ImageFormat::Png),
        ImageKind::Gif => Some(ImageFormat::Gif),
        ImageKind::Webp => Some(ImageFormat::WebP),
        ImageKind::Bmp | ImageKind::Tiff | ImageKind::Avif | ImageKind::Heic => None,
    }
}

/// Decodes the (first) picture, shrinks it and turns it upright.
fn decode(file: impl BufRead + Seek, format: ImageFormat, budget: u64) -> image::ImageResult<DynamicImage> {
    let mut limits = Limits::default();
    limits.max_alloc = Some(budget);
    let mut reader = ImageReader::with_format(file, format);
    reader.limits(limits);
    let mut decoder = reader.into_decoder()?;
    // The limits above do not cover `from_decoder`: a 109 kB PNG of 30,000 × 30,000 pixels would be decoded all the same.
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS || decoder.total_bytes() > budget {
        return Err(io::Error::other("more pixels than a thumbnail is worth").into());
    }
    let orientation = decoder.orientation()?;
    let picture = DynamicImage::from_decoder(decoder)?;
    let mut small =
        if picture.width() <= EDGE && picture.height() <= EDGE { picture } else { picture.thumbnail(EDGE, EDGE) };
    // Turned after shrinking: the frame is a square, and a small picture turns faster.
    small.apply_orientation(orientation);
    Ok(small)
}

fn encode(picture: &DynamicImage) -> image::ImageResult<Thumb> {
    let mut bytes = Vec::new();
    let size = (picture.width(), picture.height());
    if is_transparent(picture) {
        let rgba = DynamicImage::from(picture.to_rgba8());
        rgba.write_to(&mut io::Cursor::new(&mut bytes), ImageFormat::Png)?;
        return Ok(Thumb { bytes, kind: ImageKind::Png, size });
    }
    picture.to_rgb8().write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, QUALITY))?;
    Ok(Thumb { bytes, kind: ImageKind::Jpeg, size })
}

fn is_transparent(picture: &DynamicImage) -> bool {
    picture.color().has_alpha() && picture.to_rgba8().pixels().any(|pixel| pixel.0[3] != u8::MAX)
}
