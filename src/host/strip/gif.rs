//! GIF: blocks.
//!
//! Source: GIF89a specification; the application blocks are those of Netscape, and of the ICC.

use super::walk::Walk;
use super::{Cut, NotStripped};

/// Application blocks that show the image: how often it repeats, and its colours.
const SHOWN: [&[u8; 11]; 3] = [b"NETSCAPE2.0", b"ANIMEXTS1.0", b"ICCRGBG1012"];

/// Keeps images, their timing and [`SHOWN`]: comments, XMP and other programs' blocks go, and whatever follows the end.
pub(super) fn strip(mut file: Walk<'_>, cut: &mut Cut) -> Result<(), NotStripped> {
    let head = file.take::<13>()?;
    file.skip(colours(head[10]))?;
    cut.keep(0, file.at());
    loop {
        let from = file.at();
        let [block] = file.take()?;
        match block {
            // The trailer.
            0x3B => {
                cut.keep(from, file.at());
                return Ok(());
            }
            // An image: place, colours, code size.
            0x2C => {
                let place = file.take::<9>()?;
                file.skip(colours(place[8]) + 1)?;
                sub_blocks(&mut file)?;
                cut.keep(from, file.at());
            }
            0x21 => {
                let [label] = file.take()?;
                let shown = match label {
                    // Timing and transparency; text that is drawn.
                    0xF9 | 0x01 => true,
                    0xFF => {
                        let name = file.peek(12)?;
                        name.first() == Some(&11) && SHOWN.iter().any(|shown| name[1..] == shown[..])
                    }
                    _ => false,
                };
                sub_blocks(&mut file)?;
                if shown {
                    cut.keep(from, file.at());
                }
            }
            _ => return Err(NotStripped::Broken("it has a part that is not known")),
        }
        cut.check()?;
    }
}

/// Length and data, until the length is zero.
fn sub_blocks(file: &mut Walk<'_>) -> Result<(), NotStripped> {
    loop {
        match file.take()? {
            [0] => return Ok(()),
            [len] => file.skip(u64::from(len))?,
        }
    }
}

/// The length of the colour table that `flags` announce, in bytes.
fn colours(flags: u8) -> u64 {
    if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) }
}
