//! Every kind whole, cut and damaged; and bytes that mean harm.

use std::io::Cursor;
use std::path::PathBuf;
use std::sync::LazyLock;

use image::{DynamicImage, ImageFormat, RgbImage};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

/// An image with content that does not compress to nothing, encoded by the `image` crate.
fn encoded(format: ImageFormat) -> Vec<u8> {
    let pixels = RgbImage::from_fn(160, 90, |x, y| image::Rgb([(x * y) as u8, (x ^ y) as u8, (x * 7 + y * 13) as u8]));
    let mut bytes = Cursor::new(Vec::new());
    DynamicImage::from(pixels).write_to(&mut bytes, format).expect("encodes");
    bytes.into_inner()
}

/// The smallest bitmap that says its own length: 1 × 1 pixel of 24 bits.
fn bmp() -> Vec<u8> {
    let mut bytes = b"BM\x3A\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\x18\0".to_vec();
    bytes.resize(58, 0);
    bytes
}

fn atom(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let len = u32::try_from(content.len() + 8).expect("small");
    [&len.to_be_bytes()[..], kind, content].concat()
}

/// The boxes of an AVIF or HEIC file of 64 × 48 pixels, without real image data.
fn heif(brands: &[u8]) -> Vec<u8> {
    let ispe = atom(b"ispe", &[0, 0, 0, 0, 0, 0, 0, 64, 0, 0, 0, 48]);
    let meta = atom(b"meta", &[&[0; 4][..], &atom(b"iprp", &atom(b"ipco", &ispe))].concat());
    [atom(b"ftyp", brands), meta, atom(b"mdat", &[7; 300])].concat()
}

/// Every kind whose end can be told, as a whole file.
static WHOLE: LazyLock<[(ImageKind, Vec<u8>); 7]> = LazyLock::new(|| {
    [
        (ImageKind::Jpeg, encoded(ImageFormat::Jpeg)),
        (ImageKind::Png, encoded(ImageFormat::Png)),
        (ImageKind::Gif, encoded(ImageFormat::Gif)),
        (ImageKind::Webp, encoded(ImageFormat::WebP)),
        (ImageKind::Bmp, bmp()),
        (ImageKind::Avif, heif(b"avif\0\0\0\0avifmif1")),
        (ImageKind::Heic, heif(b"mif1\0\0\0\0mif1heic")),
    ]
});

struct Dropped {
    _folder: TempDir,
    path: PathBuf,
}

fn dropped(bytes: &[u8]) -> Dropped {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("x.png");
    fs::write(&path, bytes).expect("writes");
    Dropped { _folder: folder, path }
}

fn end_of(bytes: &[u8]) -> End {
    look(&dropped(bytes).path).expect("reads").expect("a file").look.end
}

fn inspected(bytes: &[u8]) -> Result<(ImageFacts, Option<Warning>), Refused> {
    let dropped = dropped(bytes);
    let fingerprint = look(&dropped.path).expect("reads").expect("a file").look.fingerprint;
    inspect(&dropped.path, fingerprint, 1 << 20).map(|found| (found.image, found.warning))
}

#[test]
fn whole_images_are_complete_and_described() {
    for (kind, bytes) in WHOLE.iter() {
        assert_eq!(end_of(bytes), End::Complete, "{kind:?}");
        let (facts, warning) = inspected(bytes).unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        let size = match kind {
            ImageKind::Bmp => (1, 1),
            ImageKind::Avif | ImageKind::Heic => (64, 48),
            _ => (160, 90),
        };
        assert_eq!((facts.kind, (facts.width, facts.height), warning), (*kind, size, None));
        assert_eq!(facts.hash.0, *blake3::hash(bytes).as_bytes());
    }
}

#[test]
fn r1_an_image_cut_anywhere_is_not_complete() {
    for (kind, bytes) in WHOLE.iter() {
        for len in (1..bytes.len()).rev().step_by(1 + bytes.len() / 150) {
            let end = end_of(&bytes[..len]);
            // AVIF and HEIC may be cut between two boxes; then only time can tell.
            let between_boxes = matches!(kind, ImageKind::Avif | ImageKind::Heic) && len <= bytes.len() - 308;
            assert!(end != End::Complete || between_boxes, "{kind:?} cut to {len} of {}", bytes.len());
        }
    }
}

#[test]
fn r30_what_moves_is_told_by_its_headers() {
    let gif = |frames: u16| {
        let mut bytes = Cursor::new(Vec::new());
        let mut encoder = image::codecs::gif::GifEncoder::new(&mut bytes);
        let frame = || image::Frame::new(image::RgbaImage::from_pixel(20, 20, image::Rgba([9, 9, 9, 255])));
        encoder.encode_frames((0..frames).map(|_| frame())).expect("encodes");
        drop(encoder);
        bytes.into_inner()
    };
    let png = |frames: u8| {
        let mut bytes = encoded(ImageFormat::Png);
        // Behind the header's chunk. The checksum is not looked at.
        let chunk = [&[0, 0, 0, 8][..], b"acTL", &[0, 0, 0, frames, 0, 0, 0, 0], &[0; 4]].concat();
        bytes.splice(33..33, chunk);
        bytes
    };
    let webp = |flags: u8| {
        let body = [&b"WEBPVP8X"[..], &[10, 0, 0, 0, flags, 0, 0, 0, 9, 0, 0, 9, 0, 0]].concat();
        [b"RIFF", &u32::try_from(body.len()).expect("small").to_le_bytes()[..], &body].concat()
    };
    let table = [
        (gif(1), false),
        (gif(2), true),
        (gif(40), true),
        (encoded(ImageFormat::Png), false),
        (png(1), false),
        (png(2), true),
        (encoded(ImageFormat::WebP), false),
        (webp(0x00), false),
        (webp(0x02), true),
        (heif(b"avif\0\0\0\0avifmif1"), false),
        (heif(b"avis\0\0\0\0avifmif1"), true),
        (encoded(ImageFormat::Jpeg), false),
    ];
    for (index, (bytes, moves)) in table.iter().enumerate() {
        let (facts, _) = inspected(bytes).unwrap_or_else(|error| panic!("number {index}: {error}"));
        assert_eq!(facts.animated, *moves, "number {index}");
    }
}

#[test]
fn a_cut_image_is_inspected_with_a_warning() {
    let bytes = encoded(ImageFormat::Jpeg);
    let (_, warning) = inspected(&bytes[..bytes.len() - 100]).expect("taken");
    assert_eq!(warning, Some(Warning::NoEndMarker));
}

#[test]
fn the_end_marker_of_a_preview_is_not_the_end_of_the_picture() {
    let preview = [&[0xFF, 0xE1, 0x00, 0x40][..], &[0; 0x3C], &[0xFF, 0xD9]].concat();
    let picture = encoded(ImageFormat::Jpeg);
    let with_preview = [&picture[..2], &preview, &picture[2..]].concat();
    assert_eq!(end_of(&with_preview), End::Complete);
    assert_eq!(end_of(&with_preview[..2 + preview.len() + 30]), End::Missing);
}

#[test]
fn what_cameras_append_does_not_hide_the_end_but_a_long_film_leaves_it_open() {
    let picture = encoded(ImageFormat::Jpeg);
    assert_eq!(end_of(&[&picture[..], &[0; 500]].concat()), End::Complete);
    assert_eq!(end_of(&[&picture[..], &[7; 200_000]].concat()), End::Unknown);
    assert_eq!(end_of(&[&encoded(ImageFormat::Png)[..], b"note"].concat()), End::Complete);
    assert_eq!(end_of(&[&encoded(ImageFormat::Gif)[..], b"\0\0"].concat()), End::Complete);
}

#[test]
fn a_bitmap_may_be_stored_from_top_to_bottom() {
    let mut bytes = bmp();
    bytes[22..26].copy_from_slice(&(-1i32).to_le_bytes());
    assert_eq!(inspected(&bytes).map(|(facts, _)| (facts.width, facts.height)).expect("taken"), (1, 1));
}

#[test]
fn the_end_of_a_tiff_cannot_be_told() {
    assert_eq!(end_of(b"II\x2A\0\x08\0\0\0\0\0\0\0\0\0"), End::Unknown);
}

#[test]
fn r30_what_is_no_image_is_refused_by_what_it_looks_like() {
    let cases: [(&[u8], &str); 8] = [
        (b"", "an empty file"),
        (b"holiday plans\n", "text"),
        ("Grüße aus Köln".as_bytes(), "text"),
        (b"<!DOCTYPE html><title>404</title>", "HTML"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b"\0\0\0\x18ftypisom\0\0\x02\0isommp42", "a video"),
        (&[0; 4_096], "zeros"),
        (b"BMW is a car maker", "text"),
    ];
    for (bytes, looks_like) in cases {
        let refused = inspected(bytes).expect_err("refused");
        let message = refused.to_string();
        assert!(matches!(refused, Refused::NotAnImage { .. }) && message.contains(looks_like), "{message}");
        assert!(message.contains("expected jpeg, png, gif"), "{message}");
        assert_eq!(end_of(bytes), if bytes.is_empty() { End::Empty } else { End::NotImage });
    }
}

#[test]
fn r30_a_header_with_an_absurd_size_is_refused() {
    for side in [[0, 0, 0, 0], [0x7F, 0xFF, 0xFF, 0xFF]] {
        let mut bytes = encoded(ImageFormat::Png);
        bytes[16..20].copy_from_slice(&side);
        let refused = inspected(&bytes).expect_err("refused");
        assert!(matches!(refused, Refused::BadHeader { kind: ImageKind::Png, .. }), "{refused}");
    }
    let refused = inspected(&[0xFF, 0xD8, 0xFF, 0xE0, 0, 4]).expect_err("refused");
    assert!(refused.to_string().contains("no width and height"), "{refused}");
}

#[test]
fn a_file_above_the_limit_is_refused_and_one_at_the_limit_is_not() {
    let dropped = dropped(&encoded(ImageFormat::Png));
    let fingerprint = look(&dropped.path).expect("reads").expect("a file").look.fingerprint;
    assert!(inspect(&dropped.path, fingerprint, fingerprint.len).is_ok());
    let refused = inspect(&dropped.path, fingerprint, fingerprint.len - 1).expect_err("refused");
    assert!(matches!(refused, Refused::TooLarge { len, max } if len == max + 1), "{refused}");
    assert!(refused.to_string().contains("raise `max_bytes`"));
}

#[test]
fn r12_a_file_that_is_not_the_one_that_settled_has_changed() {
    let dropped = dropped(&encoded(ImageFormat::Png));
    let fingerprint = look(&dropped.path).expect("reads").expect("a file").look.fingerprint;
    let older = Fingerprint { mtime_ns: fingerprint.mtime_ns - 1, ..fingerprint };
    assert!(matches!(inspect(&dropped.path, older, 1 << 20), Err(Refused::Changed)));
    assert!(matches!(inspect(Path::new("/nonexistent/x.png"), fingerprint, 1 << 20), Err(Refused::Vanished)));
}

#[test]
fn only_regular_files_are_opened() {
    let folder = TempDir::new().expect("a folder");
    let (pipe, link) = (folder.path().join("pipe.jpg"), folder.path().join("link.jpg"));
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
    std::os::unix::fs::symlink("/etc/passwd", &link).expect("a link");
    for path in [pipe.as_path(), &link, folder.path()] {
        assert_eq!(look(path).expect("looks"), None, "{}", path.display());
    }
    assert_eq!(look(&folder.path().join("none")).expect_err("nothing there").kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_file_longer_than_one_read_is_hashed_whole() {
    let mut bytes = encoded(ImageFormat::Jpeg);
    bytes.resize(CHUNK * 2 + 17, 0xAB);
    let (facts, _) = inspected(&bytes).expect("taken");
    assert_eq!(facts.hash.0, *blake3::hash(&bytes).as_bytes());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Damaged images of every kind: an answer, no panic, no endless walk.
    #[test]
    fn nothing_in_a_damaged_image_makes_it_panic(
        which in 0usize..7,
        damage in proptest::collection::vec((0.0f64..1.0, any::<u8>()), 0..20),
        cut in 0.0f64..1.0,
    ) {
        let mut bytes = WHOLE[which].1.clone();
        for (at, byte) in damage {
            // Most of the damage goes to the header, where the lengths are.
            let index = (at * at * at * bytes.len() as f64) as usize;
            bytes[index] = byte;
        }
        let cut = (cut.sqrt() * bytes.len() as f64) as usize;
        bytes.truncate(cut);
        let _ = end_of(&bytes);
        let _ = inspected(&bytes);
    }

    /// Anything behind the signature of every kind.
    #[test]
    fn nothing_behind_a_signature_makes_it_panic(
        which in 0usize..8,
        bytes in proptest::collection::vec(any::<u8>(), 0..600),
    ) {
        let signature: &[u8] = [
            &b"\xFF\xD8\xFF"[..], b"\x89PNG\r\n\x1A\n", b"GIF89a", b"RIFF\xFF\0\0\0WEBP", b"BM\0\x01\0\0\0\0\0\0",
            b"II*\0", b"\0\0\0\x18ftypavif\0\0\0\0mif1avif", b"\0\0\0\x14ftypheic\0\0\0\0heic",
        ][which];
        let bytes = [signature, &bytes].concat();
        let _ = end_of(&bytes);
        let _ = inspected(&bytes);
    }
}
