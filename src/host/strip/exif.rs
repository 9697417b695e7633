//! The one thing of EXIF that is needed to show an image: which side is up.
//!
//! Source: CIPA DC-008 (Exif 2.32) 4.6, TIFF 6.0.

/// How much of an EXIF block is looked at: the first directory lies at its beginning.
pub(super) const LOOKED_AT: usize = 4 << 10;

/// The orientation (2 to 8) in a TIFF structure; `None` if it has none, or the usual one.
pub(super) fn orientation(tiff: &[u8]) -> Option<u8> {
    let big = match tiff.get(..4)? {
        b"MM\0*" => true,
        b"II*\0" => false,
        _ => return None,
    };
    let two = |at: usize| {
        let bytes = tiff.get(at..)?.first_chunk::<2>()?;
        Some(if big { u16::from_be_bytes(*bytes) } else { u16::from_le_bytes(*bytes) })
    };
    let four = |at: usize| {
        let bytes = tiff.get(at..)?.first_chunk::<4>()?;
        Some(if big { u32::from_be_bytes(*bytes) } else { u32::from_le_bytes(*bytes) })
    };
    let directory = usize::try_from(four(4)?).ok()?;
    for entry in 0..usize::from(two(directory)?) {
        let at = directory.checked_add(2 + entry * 12)?;
        // Tag 0x0112, of type SHORT.
        if two(at)? == 0x0112 && two(at + 2)? == 3 {
            return u8::try_from(two(at + 8)?).ok().filter(|value| (2..=8).contains(value));
        }
    }
    None
}

/// A TIFF structure that says which side is up, and nothing else.
pub(super) fn only(orientation: u8) -> Vec<u8> {
    let mut tiff = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    tiff.extend([orientation, 0, 0, 0, 0, 0, 0]);
    tiff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        for value in 2..=8 {
            assert_eq!(orientation(&only(value)), Some(value));
        }
        assert_eq!(only(6).len(), 26);
        assert_eq!(orientation(b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"), Some(6));
        assert_eq!(orientation(&only(1)), None, "that is how it would be shown anyway");
        assert_eq!(orientation(&only(9)), None);
        for cut in 0..26 {
            assert!(orientation(&only(6)[..cut]).is_none_or(|value| value == 6));
        }
        assert_eq!(orientation(b"MM\0*\xff\xff\xff\xff"), None);
    }
}
