//! What the first bytes of a file say it is.

use crate::job::ImageKind;

/// The kind of image that `head` begins, or words for what it looks like instead.
pub(super) fn sniff(head: &[u8]) -> Result<ImageKind, &'static str> {
    match head {
        [0xFF, 0xD8, 0xFF, ..] => Ok(ImageKind::Jpeg),
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1A, b'\n', ..] => Ok(ImageKind::Png),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Ok(ImageKind::Gif),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Ok(ImageKind::Webp),
        // "BM" alone begins many a text: the two reserved fields are zero in every bitmap.
        [b'B', b'M', _, _, _, _, 0, 0, 0, 0, ..] => Ok(ImageKind::Bmp),
        [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..] => Ok(ImageKind::Tiff),
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => heif(head),
        _ => Err(other(head)),
    }
}

/// Tells the images among the files that begin with an ISO-BMFF `ftyp` box, by their brands
/// (<https://mp4ra.org/registered-types/brands>): a generic major brand (`mif1`) leaves it to the compatible ones.
fn heif(head: &[u8]) -> Result<ImageKind, &'static str> {
    let len = head.first_chunk::<4>().map_or(0, |len| u32::from_be_bytes(*len) as usize);
    let end = len.min(head.len());
    let major = head.get(8..12).unwrap_or_default();
    let compatible = head.get(16..end).unwrap_or_default().chunks_exact(4);
    std::iter::once(major)
        .chain(compatible)
        .find_map(|brand| match brand {
            b"avif" | b"avis" => Some(ImageKind::Avif),
            b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" => Some(ImageKind::Heic),
            _ => None,
        })
        .ok_or("a video or audio file")
}

/// What a file that is no image of ours looks like, for the message to its owner.
fn other(head: &[u8]) -> &'static str {
    const SIGNATURES: [(&[u8], &str); 12] = [
        (b"%PDF-", "a PDF document"),
        (b"PK\x03\x04", "a ZIP archive or office document"),
        (b"Rar!", "a RAR archive"),
        (b"7z\xBC\xAF\x27\x1C", "a 7z archive"),
        (b"\x1F\x8B", "a gzip archive"),
        (b"\x1A\x45\xDF\xA3", "a Matroska or WebM video"),
        (b"RIFF", "a RIFF file that is not WebP"),
        (b"8BPS", "a Photoshop document"),
        (b"\x00\x00\x01\x00", "an icon"),
        (b"\xFF\x0A", "a JPEG XL image, which is not supported"),
        (b"\x00\x00\x00\x0CJXL ", "a JPEG XL image, which is not supported"),
        (b"\x7FELF", "a program"),
    ];
    if let Some((_, name)) = SIGNATURES.iter().find(|(signature, _)| head.starts_with(signature)) {
        return name;
    }
    let text = String::from_utf8_lossy(head).trim_start_matches('\u{FEFF}').trim_start().to_ascii_lowercase();
    if head.is_empty() {
        "an empty file"
    } else if head.iter().all(|byte| *byte == 0) {
        "zeros: a file that was allocated but never written"
    } else if text.contains("<svg") {
        "an SVG drawing, which is not supported"
    } else if text.starts_with("<!doctype html") || text.starts_with("<html") || text.contains("<head") {
        "HTML: perhaps an error page that was saved as an image"
    } else if is_text(head) {
        "text"
    } else {
        "unknown binary data"
    }
}

/// UTF-8 without control characters, but for a character that the end of the head may have cut.
fn is_text(head: &[u8]) -> bool {
    let valid = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    valid.chars().all(|c| !c.is_control() || c.is_whitespace())
}
