//! Nothing private survives, no pixel changes, and no input makes it panic.

use std::io::{Cursor, Write as _};

use image::codecs::gif::GifEncoder;
use image::{DynamicImage, ImageDecoder as _, ImageFormat, ImageReader, RgbImage};
use proptest::prelude::*;

use super::*;
use crate::job::WHOLE_FILE_LIMIT;

/// Stands for whatever must not be sent.
const SECRET: &[u8] = b"SECRET-GPS-48.2N";

fn source(bytes: &[u8], kind: ImageKind) -> Source {
    Source::in_memory(bytes.to_vec().into(), "x".to_owned(), kind)
}

fn all(source: &Source) -> Vec<u8> {
    source.read(0, usize::try_from(source.len()).expect("small")).expect("reads").to_vec()
}

fn stripped(bytes: &[u8], kind: ImageKind) -> Vec<u8> {
    let stripped = strip(&source(bytes, kind)).unwrap_or_else(|error| panic!("{kind:?}: {error}"));
    assert_eq!(stripped.kind(), kind);
    all(&stripped)
}

fn has_secret(bytes: &[u8]) -> bool {
    bytes.windows(6).any(|window| window == &SECRET[..6])
}

fn encoded(format: ImageFormat) -> Vec<u8> {
    let pixels = RgbImage::from_fn(90, 60, |x, y| image::Rgb([(x * y) as u8, (x ^ y) as u8, (x * 7 + y) as u8]));
    let mut bytes = Cursor::new(Vec::new());
    DynamicImage::from(pixels).write_to(&mut bytes, format).expect("encodes");
    bytes.into_inner()
}

fn pixels(bytes: &[u8], format: ImageFormat) -> DynamicImage {
    image::load_from_memory_with_format(bytes, format).expect("decodes")
}

fn orientation(bytes: &[u8], format: ImageFormat) -> u8 {
    let decoder = ImageReader::with_format(Cursor::new(bytes), format).into_decoder();
    decoder.expect("a header").orientation().expect("reads").to_exif()
}

/// A TIFF structure with an orientation, and a text behind it.
fn exif(orientation: u8) -> Vec<u8> {
    [&exif::only(orientation)[..], SECRET].concat()
}

fn segment(marker: u8, body: &[u8]) -> Vec<u8> {
    let len = u16::try_from(body.len() + 2).expect("short").to_be_bytes();
    [&[0xFF, marker][..], &len, body].concat()
}

/// A JPEG with everything in it, and a second picture and a film behind it.
fn jpeg(turn: u8) -> Vec<u8> {
    let mut bytes = encoded(ImageFormat::Jpeg);
    let icc = [&b"ICC_PROFILE\0\x01\x01"[..], &[7; 40]].concat();
    let added = [
        segment(0xE1, &[b"Exif\0\0", &exif(turn)[..]].concat()),
        segment(0xE1, &[b"http://ns.adobe.com/xap/1.0/\0", SECRET].concat()),
        segment(0xE2, &icc),
        segment(0xE2, &[b"MPF\0", SECRET].concat()),
        segment(0xED, &[b"Photoshop 3.0\0", SECRET].concat()),
        segment(0xEB, SECRET),
        segment(0xFE, SECRET),
    ];
    bytes.splice(2..2, added.concat());
    bytes.extend(SECRET);
    bytes
}

fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let len = u32::try_from(data.len()).expect("short").to_be_bytes();
    [&len[..], kind, data, &crc32(&[kind, data].concat()).to_be_bytes()].concat()
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { 0xEDB8_8320 ^ (crc >> 1) } else { crc >> 1 })
    })
}

fn png(turn: u8) -> Vec<u8> {
    let mut bytes = encoded(ImageFormat::Png);
    let text = [b"Comment\0", SECRET].concat();
    let added = [
        chunk(b"gAMA", &45_455_u32.to_be_bytes()),
        chunk(b"tEXt", &text),
        chunk(b"zTXt", &text),
        chunk(b"iTXt", &[b"XML:com.adobe.xmp\0\0\0\0\0", SECRET].concat()),
        chunk(b"tIME", &[7, 234, 1, 1, 1, 1, 1]),
        chunk(b"eXIf", &exif(turn)),
        chunk(b"prVt", SECRET),
    ];
    bytes.splice(33..33, added.concat());
    bytes.extend(SECRET);
    bytes
}

fn riff(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let len = u32::try_from(data.len()).expect("short").to_le_bytes();
    let filled = if data.len() % 2 == 1 { &[0][..] } else { &[] };
    [&kind[..], &len, data, filled].concat()
}

fn webp(turn: u8) -> Vec<u8> {
    let simple = encoded(ImageFormat::WebP);
    let extended = riff(b"VP8X", &[0x0C, 0, 0, 0, 89, 0, 0, 59, 0, 0]);
    let others = [riff(b"EXIF", &exif(turn)), riff(b"XMP ", SECRET), riff(b"prVt", SECRET)].concat();
    let body = [&b"WEBP"[..], &extended, &simple[12..], &others].concat();
    [&riff(b"RIFF", &body)[..], SECRET].concat()
}

fn gif() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = GifEncoder::new(&mut bytes);
    encoder.set_repeat(image::codecs::gif::Repeat::Infinite).expect("repeats");
    for shade in [10, 200] {
        let frame = image::RgbaImage::from_pixel(20, 10, image::Rgba([shade, shade, 0, 255]));
        encoder.encode_frame(image::Frame::new(frame)).expect("encodes");
    }
    drop(encoder);
    let block = |label: u8, name: &[u8], data: &[u8]| {
        let mut block = vec![0x21, label];
        for part in [name, data].into_iter().filter(|part| !part.is_empty()) {
            block.push(u8::try_from(part.len()).expect("short"));
            block.extend(part);
        }
        block.push(0);
        block
    };
    // XMP is no chain of blocks: 258 bytes at its end lead every reader out of it.
    let magic: Vec<u8> = std::iter::once(1).chain((0..=255).rev()).chain([0]).collect();
    let xmp = [&b"\x21\xFF\x0BXMP DataXMP<x>"[..], SECRET, &magic].concat();
    let added = [block(0xFE, &[], SECRET), block(0xFF, b"PRIVATE 1.0", SECRET), xmp].concat();
    let table = 13 + if bytes[10] & 0x80 == 0 { 0 } else { 3 << ((bytes[10] & 7) + 1) };
    bytes.splice(table..table, added);
    bytes.extend(SECRET);
    bytes
}

#[test]
fn nothing_private_survives_and_no_pixel_changes() {
    let table = [
        (jpeg(6), ImageKind::Jpeg, ImageFormat::Jpeg),
        (png(6), ImageKind::Png, ImageFormat::Png),
        (webp(6), ImageKind::Webp, ImageFormat::WebP),
        (gif(), ImageKind::Gif, ImageFormat::Gif),
    ];
    for (bytes, kind, format) in table {
        assert!(has_secret(&bytes));
        let clean = stripped(&bytes, kind);
        assert!(!has_secret(&clean), "{kind:?}");
        assert_eq!(pixels(&clean, format), pixels(&bytes, format), "{kind:?}");
        assert_eq!(stripped(&clean, kind), clean, "{kind:?}: what is clean stays as it is");
    }
}

#[test]
fn the_side_that_is_up_stays_up() {
    for turn in 1..=8 {
        for (bytes, kind, format) in [
            (jpeg(turn), ImageKind::Jpeg, ImageFormat::Jpeg),
            (png(turn), ImageKind::Png, ImageFormat::Png),
            (webp(turn), ImageKind::Webp, ImageFormat::WebP),
        ] {
            let clean = stripped(&bytes, kind);
            assert_eq!(orientation(&clean, format), turn, "{kind:?}");
            assert!(!has_secret(&clean), "{kind:?}");
        }
    }
}

#[test]
fn an_image_without_metadata_is_sent_byte_for_byte() {
    for (kind, format) in [
        (ImageKind::Jpeg, ImageFormat::Jpeg),
        (ImageKind::Png, ImageFormat::Png),
        (ImageKind::Webp, ImageFormat::WebP),
        (ImageKind::Gif, ImageFormat::Gif),
    ] {
        assert_eq!(stripped(&encoded(format), kind), encoded(format), "{kind:?}");
    }
}

#[test]
fn what_shows_the_image_stays() {
    let clean = stripped(&jpeg(1), ImageKind::Jpeg);
    assert!(clean.windows(12).any(|window| window == b"ICC_PROFILE\0"), "the colour profile");
    assert!(!clean.windows(4).any(|window| window == b"Exif"), "nothing to say about the orientation");
    let clean = stripped(&png(1), ImageKind::Png);
    assert!(clean.windows(4).any(|window| window == b"gAMA"));
    let clean = stripped(&gif(), ImageKind::Gif);
    assert!(clean.windows(11).any(|window| window == b"NETSCAPE2.0"), "the animation repeats");
}

#[test]
fn the_preview_in_a_jfif_header_goes() {
    let mut bytes = encoded(ImageFormat::Jpeg);
    assert_eq!(&bytes[2..4], [0xFF, 0xE0]);
    let preview = [&b"JFIF\0\x01\x02\0\0\x01\0\x01\x02\x01"[..], b"SECRET"].concat();
    bytes.splice(2..20, segment(0xE0, &preview));
    let clean = stripped(&bytes, ImageKind::Jpeg);
    assert!(!has_secret(&clean) && clean.windows(5).any(|window| window == b"JFIF\0"));
    assert_eq!(pixels(&clean, ImageFormat::Jpeg), pixels(&bytes, ImageFormat::Jpeg));
}

#[test]
fn metadata_between_the_frames_of_an_animation_goes() {
    let still = encoded(ImageFormat::WebP);
    let place = [0, 0, 0, 0, 0, 0, 89, 0, 0, 59, 0, 0, 100, 0, 0, 0];
    let frame = riff(b"ANMF", &[&place[..], &still[12..], &riff(b"prVt", SECRET)].concat());
    let header = [riff(b"VP8X", &[0x02, 0, 0, 0, 89, 0, 0, 59, 0, 0]), riff(b"ANIM", &[0; 6])].concat();
    let bytes = riff(b"RIFF", &[&b"WEBP"[..], &header, &frame, &frame].concat());
    let clean = stripped(&bytes, ImageKind::Webp);
    assert!(!has_secret(&clean));
    let plain = riff(b"ANMF", &[&place[..], &still[12..]].concat());
    assert_eq!(clean, riff(b"RIFF", &[&b"WEBP"[..], &header, &plain, &plain].concat()));
}

#[test]
fn what_cannot_be_cleaned_is_refused() {
    for kind in [ImageKind::Tiff, ImageKind::Avif, ImageKind::Heic] {
        assert!(!can_strip(kind));
        let error = strip(&source(b"MM\0*", kind)).expect_err("refused");
        assert!(error.to_string().contains("without encoding"), "{error}");
    }
    let cut = |bytes: Vec<u8>, kind| strip(&source(&bytes[..bytes.len() / 2], kind)).is_err();
    assert!(cut(encoded(ImageFormat::Png), ImageKind::Png));
    assert!(cut(encoded(ImageFormat::Gif), ImageKind::Gif));
    assert!(strip(&source(b"\xFF\xD8garbage", ImageKind::Jpeg)).is_err());
}

#[test]
fn a_large_file_is_not_held_in_memory_and_reads_the_same_in_any_pieces() {
    let mut bytes = png(6);
    // An ignored chunk and image data that go beyond what is read at once.
    let large = usize::try_from(WHOLE_FILE_LIMIT).expect("small") + 70_000;
    bytes.splice(33..33, chunk(b"prVt", &vec![b'S'; large]));
    bytes.splice(33..33, chunk(b"sPLT", &(0..=255).cycle().take(large).collect::<Vec<u8>>()));
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(&bytes).expect("writes");
    let (on_disk, _) = Source::open(file.path(), "x".to_owned(), ImageKind::Png).expect("opens");
    let clean = strip(&on_disk).expect("clean");
    assert!(clean.whole().is_none() && clean.len() < on_disk.len());
    let expected = stripped(&bytes, ImageKind::Png);
    assert_eq!(all(&clean), expected);
    for (offset, len) in [(0, 1), (5, 9), (30, 200), (33, large), (large, 90), (expected.len() - 3, 3)] {
        assert_eq!(clean.read(offset as u64, len).expect("reads"), expected[offset..offset + len], "{offset} {len}");
    }
    assert!(clean.read(clean.len() - 1, 2).is_err());
    assert_eq!(clean.hash().expect("reads").0, *blake3::hash(&expected).as_bytes());
}

proptest! {
    /// Whatever is changed in an image, it is refused or gives something that is clean already, and never panics.
    #[test]
    fn a_damaged_image_makes_no_panic(which in 0_usize..4, cut in 0_usize..4_000, flips in prop::collection::vec((0_usize..4_000, any::<u8>()), 0..6)) {
        let (mut bytes, kind) = match which {
            0 => (jpeg(6), ImageKind::Jpeg),
            1 => (png(6), ImageKind::Png),
            2 => (webp(6), ImageKind::Webp),
            _ => (gif(), ImageKind::Gif),
        };
        for (at, value) in flips {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        bytes.truncate(bytes.len().saturating_sub(cut / 8));
        if let Ok(clean) = strip(&source(&bytes, kind)) {
            let once = all(&clean);
            prop_assert_eq!(once.len() as u64, clean.len());
            if let Ok(again) = strip(&source(&once, kind)) {
                prop_assert_eq!(all(&again), once);
            }
        }
    }

    #[test]
    fn random_bytes_make_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), kind in 0_usize..4) {
        let (kind, head) = [
            (ImageKind::Jpeg, &b"\xFF\xD8\xFF"[..]),
            (ImageKind::Png, b"\x89PNG\r\n\x1A\n"),
            (ImageKind::Webp, b"RIFF\xFF\0\0\0WEBP"),
            (ImageKind::Gif, b"GIF89a"),
        ][kind];
        let _ = strip(&source(&[head, &bytes].concat(), kind));
    }
}
