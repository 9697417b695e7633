//! PNG: chunks.
//!
//! Source: W3C PNG specification, 3rd edition, 5 and 11.

use super::walk::{ENDS, Walk};
use super::{Cut, NotStripped, exif};

/// The chunks that show the image: the critical ones, colours, transparency, resolution, animation.
const SHOWN: [&[u8; 4]; 20] = [
    b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"cHRM", b"gAMA", b"iCCP", b"sBIT", b"sRGB", b"cICP", b"mDCV",
    b"cLLI", b"bKGD", b"hIST", b"pHYs", b"sPLT", b"acTL", b"fcTL", b"fdAT",
];

/// Keeps [`SHOWN`] and the orientation: texts, times, EXIF and what is not known go, and whatever follows the end.
pub(super) fn strip(mut file: Walk<'_>, cut: &mut Cut) -> Result<(), NotStripped> {
    file.skip(8)?;
    cut.keep(0, 8);
    let mut turned = false;
    loop {
        let from = file.at();
        let head = file.take::<8>()?;
        let [a, b, c, d, kind @ ..] = head;
        let len = u64::from(u32::from_be_bytes([a, b, c, d]));
        let to = file.at().saturating_add(len).saturating_add(4);
        if SHOWN.contains(&&kind) {
            cut.keep(from, to);
        } else if &kind == b"eXIf" {
            let looked_at = usize::try_from(len).unwrap_or(usize::MAX).min(exif::LOOKED_AT);
            if let Some(orientation) = exif::orientation(file.peek(looked_at)?).filter(|_| !turned) {
                turned = true;
                cut.insert(chunk(*b"eXIf", &exif::only(orientation)));
            }
        } else if kind[0] & 0x20 == 0 {
            // Without it the image could not be shown (5.4, bit 5 of the first byte).
            return Err(NotStripped::Broken("it has a critical part that is not known"));
        }
        if to - file.at() > file.left() {
            return Err(ENDS);
        }
        let rest = to - file.at();
        file.skip(rest)?;
        if &kind == b"IEND" {
            return Ok(());
        }
        cut.check()?;
    }
}

/// A chunk with its length and checksum.
fn chunk(kind: [u8; 4], data: &[u8]) -> Vec<u8> {
    let len = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let checked = [&kind[..], data].concat();
    [&len.to_be_bytes()[..], &checked, &crc(&checked).to_be_bytes()].concat()
}

/// CRC-32 of annex D. For some dozens of bytes, so without a table.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { 0xEDB8_8320 ^ (crc >> 1) } else { crc >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_specification() {
        assert_eq!(chunk(*b"IEND", &[]), [0, 0, 0, 0, b'I', b'E', b'N', b'D', 0xAE, 0x42, 0x60, 0x82]);
    }
}
