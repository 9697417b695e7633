//! JPEG: segments, and scans of coded data.
//!
//! Sources: ITU-T T.81 annex B, T.871 (JFIF), ICC.1 annex B.4 (`APP2`), T.872 6.5.3 (`APP14`).

use super::walk::{ENDS, Walk};
use super::{Cut, NotStripped, exif};

/// Keeps tables, frames and scans; of the application segments JFIF (without its preview), ICC profiles and Adobe's, which
/// says how colours are coded. The orientation stays. Whatever follows the end of the image goes.
pub(super) fn strip(mut file: Walk<'_>, cut: &mut Cut) -> Result<(), NotStripped> {
    if file.take::<2>()? != [0xFF, 0xD8] {
        return Err(NotStripped::Broken("it does not begin like a JPEG"));
    }
    cut.keep(0, 2);
    let mut turned = false;
    loop {
        let from = file.at();
        let marker = marker(&mut file)?;
        match marker {
            0xD9 => {
                cut.keep(file.at() - 2, file.at());
                return Ok(());
            }
            // TEM and RST have no content.
            0x01 | 0xD0..=0xD7 => {
                cut.keep(from, file.at());
                continue;
            }
            _ => {}
        }
        let len = u64::from(u16::from_be_bytes(file.take()?));
        let body = len.checked_sub(2).filter(|body| *body <= file.left()).ok_or(ENDS)?;
        let to = file.at() + body;
        match marker {
            // Frames (but DHT, JPG and DAC among them), tables, and the parts of hierarchical images.
            0xC0..=0xC7 | 0xC9..=0xCF | 0xDB..=0xDF => cut.keep(from, to),
            0xDA => {
                file.skip(body)?;
                if !scan(&mut file)? {
                    // Cut off: what is there is sent, as it would be without us.
                    cut.keep(from, file.at());
                    return Ok(());
                }
                cut.keep(from, file.at());
                continue;
            }
            0xE0 if file.peek(5)? == b"JFIF\0" => jfif(&mut file, (from, to), cut)?,
            0xE1 if file.peek(6)? == b"Exif\0\0" => {
                let head = file.peek(6 + exif::LOOKED_AT)?;
                let inside = &head[6..head.len().min(usize::try_from(body).unwrap_or(usize::MAX))];
                if let Some(orientation) = exif::orientation(inside).filter(|_| !turned) {
                    turned = true;
                    let tiff = exif::only(orientation);
                    let len = u16::try_from(2 + 6 + tiff.len()).unwrap_or(u16::MAX);
                    cut.insert([&[0xFF, 0xE1][..], &len.to_be_bytes(), b"Exif\0\0", &tiff].concat());
                }
            }
            0xE2 if file.peek(12)? == b"ICC_PROFILE\0" => cut.keep(from, to),
            0xEE if file.peek(5)? == b"Adobe" => cut.keep(from, to),
            // All other application segments, and comments.
            0xE0..=0xEF | 0xFE => {}
            _ => return Err(NotStripped::Broken("it has parts that no ordinary JPEG has")),
        }
        let rest = to - file.at();
        file.skip(rest)?;
    }
}

/// Reads a marker with the bytes that may stand before it to fill up.
fn marker(file: &mut Walk<'_>) -> Result<u8, NotStripped> {
    let [mut byte] = file.take()?;
    if byte != 0xFF {
        return Err(NotStripped::Broken("its segments do not follow each other"));
    }
    while byte == 0xFF {
        [byte] = file.take()?;
    }
    if matches!(byte, 0x00 | 0xD8) {
        return Err(NotStripped::Broken("its segments do not follow each other"));
    }
    Ok(byte)
}

/// The segment as it is; without its preview, if it has one.
fn jfif(file: &mut Walk<'_>, (from, to): (u64, u64), cut: &mut Cut) -> Result<(), NotStripped> {
    let body = to - file.at();
    let head = file.peek(14)?;
    match head.first_chunk::<14>() {
        Some([fixed @ .., 0, 0]) if fixed.len() == 12 && body == 14 => cut.keep(from, to),
        Some([fixed @ .., _, _]) if body >= 14 => {
            cut.insert([&[0xFF, 0xE0, 0, 16][..], fixed, &[0, 0]].concat());
        }
        // Too short to say anything.
        _ => {}
    }
    Ok(())
}

/// Walks over coded data to the next marker; `false` if the file ends before.
fn scan(file: &mut Walk<'_>) -> Result<bool, NotStripped> {
    while file.find(0xFF)? {
        match file.peek(2)? {
            // A byte of the data, the restart of the coder, or a fill byte.
            [_, 0x00 | 0xD0..=0xD7] => file.skip(2)?,
            [_, 0xFF] => file.skip(1)?,
            [_, _] => return Ok(true),
            _ => file.skip(1)?,
        }
    }
    Ok(false)
}
