//! Does the image move? Told from the headers, without decoding a frame.
//!
//! Sources: GIF89a, W3C PNG 3rd edition 11.3.4.2 (`acTL`), RFC 9649 2.7 (`VP8X`), ISO/IEC 23008-12 (brand `avis`, `hevc`).

use std::io;

use super::Content;
use super::end::{self, MAX_PARTS};
use super::read_at;
use crate::job::ImageKind;

/// Whether this image has more than one frame. What cannot be told counts as one.
pub(super) fn animated(file: &Content, len: u64, kind: ImageKind) -> io::Result<bool> {
    match kind {
        ImageKind::Gif => end::gif_moves(file, len),
        ImageKind::Png => png(file),
        ImageKind::Webp => {
            // The flags of the extended header; a simple file has none.
            let head = read_at(file, 12, 9)?;
            Ok(head.starts_with(b"VP8X") && head.get(8).is_some_and(|flags| flags & 0x02 != 0))
        }
        ImageKind::Avif => Ok(read_at(file, 8, 4)? == b"avis"),
        ImageKind::Heic => Ok(matches!(&read_at(file, 8, 4)?[..], b"hevc" | b"hevx" | b"msf1")),
        ImageKind::Jpeg | ImageKind::Bmp | ImageKind::Tiff => Ok(false),
    }
}

/// An `acTL` chunk stands in front of the first `IDAT`, and says how many frames there are.
fn png(file: &Content) -> io::Result<bool> {
    let mut at = 8;
    for _ in 0..MAX_PARTS {
        let chunk = read_at(file, at, 12)?;
        let (Some(len), Some(kind)) = (chunk.first_chunk::<4>(), chunk.get(4..8)) else { break };
        match kind {
            b"acTL" => {
                let frames = chunk.get(8..12).and_then(|frames| frames.first_chunk::<4>());
                return Ok(frames.is_some_and(|frames| u32::from_be_bytes(*frames) > 1));
            }
            b"IDAT" | b"IEND" => break,
            _ => at += 12 + u64::from(u32::from_be_bytes(*len)),
        }
    }
    Ok(false)
}
