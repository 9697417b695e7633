//! WebP: chunks of a RIFF file.
//!
//! Source: RFC 9649, 2.

use super::walk::{ENDS, Walk};
use super::{Cut, NotStripped, Piece, exif};

const HAS_EXIF: u8 = 0x08;
const HAS_XMP: u8 = 0x04;

/// A chunk's header.
struct Chunk {
    kind: [u8; 4],
    from: u64,
    /// Behind its content, and behind the byte that fills it up to an even length.
    to: u64,
    len: u64,
}

/// Keeps image data, colour profile and animation, and the orientation; all else goes, and whatever follows the end.
pub(super) fn strip(mut file: Walk<'_>, cut: &mut Cut) -> Result<(), NotStripped> {
    let head = file.take::<12>()?;
    let [b'R', b'I', b'F', b'F', a, b, c, d, b'W', b'E', b'B', b'P'] = head else {
        return Err(NotStripped::Broken("it does not begin like a WebP"));
    };
    // The length is known at the end.
    cut.insert(head);
    let end = 8 + u64::from(u32::from_le_bytes([a, b, c, d]));
    let (mut extended, mut turned) = (None, None);
    while file.at() + 8 <= end {
        let chunk = next(&mut file)?;
        match &chunk.kind {
            b"VP8X" => {
                let mut flags = file.take::<10>()?;
                flags[0] &= !(HAS_EXIF | HAS_XMP);
                extended = Some(cut.pieces.len());
                cut.insert([&b"VP8X\x0A\0\0\0"[..], &flags].concat());
            }
            b"ICCP" | b"ANIM" | b"ALPH" | b"VP8 " | b"VP8L" => cut.keep(chunk.from, chunk.to),
            b"ANMF" => frame(&mut file, &chunk, cut)?,
            b"EXIF" => {
                let looked_at = usize::try_from(chunk.len).unwrap_or(usize::MAX).min(exif::LOOKED_AT);
                let tiff = file.peek(looked_at)?;
                // Some programs put JPEG's prefix before it.
                turned = exif::orientation(tiff.strip_prefix(b"Exif\0\0").unwrap_or(tiff)).or(turned);
            }
            _ => {}
        }
        let rest = chunk.to.checked_sub(file.at()).ok_or(ENDS)?;
        file.skip(rest)?;
        cut.check()?;
    }
    if let (Some(orientation), Some(Piece::Insert(header))) = (turned, extended.and_then(|at| cut.pieces.get_mut(at))) {
        header[8] |= HAS_EXIF;
        let tiff = exif::only(orientation);
        let len = u32::try_from(tiff.len()).unwrap_or(u32::MAX);
        cut.insert([&b"EXIF"[..], &len.to_le_bytes(), &tiff].concat());
    }
    let len = u32::try_from(cut.len() - 8).map_err(|_| NotStripped::Broken("it is too long"))?;
    if let Some(Piece::Insert(head)) = cut.pieces.first_mut() {
        head[4..8].copy_from_slice(&len.to_le_bytes());
    }
    Ok(())
}

/// The next chunk, and its end: some writers forget to fill up the last one.
fn next(file: &mut Walk<'_>) -> Result<Chunk, NotStripped> {
    let from = file.at();
    let [k, i, n, d, len @ ..] = file.take::<8>()?;
    let len = u64::from(u32::from_le_bytes(len));
    let filled = len + len % 2;
    let whole = if file.left() + 1 == filled { len } else { filled };
    if whole > file.left() {
        return Err(ENDS);
    }
    Ok(Chunk { kind: [k, i, n, d], from, to: file.at() + whole, len })
}

/// A frame of an animation: its place and time, and chunks of its own.
fn frame(file: &mut Walk<'_>, frame: &Chunk, cut: &mut Cut) -> Result<(), NotStripped> {
    let place = file.take::<16>()?;
    let mut kept = Cut::default();
    while file.at() + 8 <= frame.to {
        let chunk = next(file)?;
        if chunk.to > frame.to {
            return Err(ENDS);
        }
        if matches!(&chunk.kind, b"ALPH" | b"VP8 " | b"VP8L") {
            kept.keep(chunk.from, chunk.to);
        }
        let rest = chunk.to - file.at();
        file.skip(rest)?;
    }
    let len = u32::try_from(16 + kept.len()).map_err(|_| NotStripped::Broken("a frame is too long"))?;
    if u64::from(len) == frame.len {
        cut.keep(frame.from, frame.to);
    } else {
        cut.insert([&b"ANMF"[..], &len.to_le_bytes(), &place].concat());
        cut.pieces.extend(kept.pieces);
    }
    Ok(())
}
