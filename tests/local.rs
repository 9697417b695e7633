//! The `local` host: what is stored, which thumbnail it gets, and what it must survive.

use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use image::{DynamicImage, GrayImage, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};
use pixchute::host::local::{LocalHost, Site, Store, StoredName};
use pixchute::host::thumb::{EDGE, MAX_PIXELS};
use pixchute::host::{Host, Progress, Source, Upload};
use pixchute::job::{ContentHash, ErrorClass, Failure, ImageFacts, ImageKind, JobId, Links};
use tempfile::TempDir;

const BASE: &str = "http://127.0.0.1:8421";

struct Bench {
    dir: TempDir,
    store: Store,
    host: LocalHost,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(&dir.path().join("data")).expect("a store");
        let host = LocalHost::new("local".into(), Site { store: store.clone(), base_url: BASE.into() });
        Self { dir, store, host }
    }

    /// An upload of these bytes with the facts that inspection would find.
    fn upload(&self, bytes: &[u8], kind: ImageKind, width: u32, height: u32) -> Upload {
        let path = self.dir.path().join("picture");
        std::fs::write(&path, bytes).expect("written");
        let (source, _) = Source::open(&path, "picture".into(), kind).expect("opened");
        Upload {
            job: JobId::generate(),
            source: Arc::new(source),
            image: ImageFacts {
                kind,
                width,
                height,
                animated: false,
                hash: ContentHash(*blake3::hash(bytes).as_bytes()),
            },
            progress: Arc::new(Progress::new()),
            doubtful: false,
            deadline: tokio::time::Instant::now() + Duration::from_secs(180),
            gallery: None,
        }
    }

    async fn send(&self, bytes: &[u8], kind: ImageKind, width: u32, height: u32) -> Result<Links, Failure> {
        self.host.upload(&self.upload(bytes, kind, width, height)).await
    }

    fn stored(&self, url: &str) -> Vec<u8> {
        let (_, name) = url.rsplit_once('/').expect("a path");
        let name: StoredName = name.parse().expect("a stored name");
        let path = if url.contains("/t/") { self.store.thumb_path(&name) } else { self.store.image_path(&name) };
        std::fs::read(path).expect("stored")
    }

    fn thumb(&self, links: &Links) -> DynamicImage {
        let bytes = self.stored(links.thumb.as_deref().expect("a thumbnail"));
        image::load_from_memory(&bytes).expect("a picture")
    }

    fn files(&self) -> usize {
        walkdir::WalkDir::new(self.store.root())
            .into_iter()
            .filter(|entry| entry.as_ref().expect("readable").file_type().is_file())
            .count()
    }
}

fn encoded(picture: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.into().write_to(&mut bytes, format).expect("encoded");
    bytes.into_inner()
}

/// Red on the left, blue on the right.
fn halves(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, _| if x < width / 2 { Rgb([220, 0, 0]) } else { Rgb([0, 0, 220]) })
}

/// A JPEG with an EXIF block that says how it is to be turned.
fn jpeg_turned(picture: RgbImage, orientation: u8) -> Vec<u8> {
    let plain = encoded(picture, ImageFormat::Jpeg);
    let mut exif = b"\xff\xe1\x00\x22Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    exif.extend([orientation, 0, 0, 0, 0, 0, 0]);
    [&plain[..2], &exif, &plain[2..]].concat()
}

#[tokio::test]
async fn the_same_bytes_come_back_under_an_address_made_of_them() {
    let bench = Bench::new();
    let bytes = encoded(halves(64, 48), ImageFormat::Png);
    let links = bench.send(&bytes, ImageKind::Png, 64, 48).await.expect("stored");
    let hash = blake3::hash(&bytes).to_hex();
    assert_eq!(links.url, format!("{BASE}/i/{}.png", &hash[..32]));
    assert_eq!(links.image.as_deref(), Some(links.url.as_str()));
    assert_eq!(bench.stored(&links.url), bytes);
}

#[tokio::test]
async fn a_repeat_gives_the_same_links_and_no_second_file() {
    let bench = Bench::new();
    let bytes = encoded(halves(640, 480), ImageFormat::Jpeg);
    let first = bench.send(&bytes, ImageKind::Jpeg, 640, 480).await.expect("stored");
    let files = bench.files();
    let (second, third) =
        tokio::join!(bench.send(&bytes, ImageKind::Jpeg, 640, 480), bench.send(&bytes, ImageKind::Jpeg, 640, 480));
    assert_eq!((second.expect("stored"), third.expect("stored")), (first.clone(), first));
    assert_eq!((files, bench.files()), (2, 2));
}

#[tokio::test]
async fn twins_at_the_same_moment_do_not_spoil_each_other() {
    let bench = Bench::new();
    let bytes = vec![3; 12 << 20];
    let uploads: Vec<Upload> = (0..6).map(|_| bench.upload(&bytes, ImageKind::Bmp, 10, 10)).collect();
    let all = futures_util::future::join_all(uploads.iter().map(|upload| bench.host.upload(upload))).await;
    for links in all {
        assert!(bench.stored(&links.expect("stored").url) == bytes);
    }
    assert_eq!(bench.files(), 1);
}

#[tokio::test]
async fn a_file_larger_than_a_chunk_is_copied_whole_and_counted() {
    let bench = Bench::new();
    let bytes: Vec<u8> = (0..3_500_000u32).flat_map(u32::to_le_bytes).collect();
    let upload = bench.upload(&bytes, ImageKind::Bmp, 10, 10);
    let links = bench.host.upload(&upload).await.expect("stored");
    assert_eq!(bench.stored(&links.url), bytes);
    assert_eq!((upload.progress.sent(), upload.progress.total()), (14_000_000, 14_000_000));
}

#[tokio::test]
async fn thumbnails_fit_the_frame_and_keep_the_shape() {
    let bench = Bench::new();
    for (width, height, expected) in [(1200, 600, (EDGE, 160)), (600, 1200, (160, EDGE)), (100, 50, (100, 50))] {
        for (kind, format) in [
            (ImageKind::Jpeg, ImageFormat::Jpeg),
            (ImageKind::Png, ImageFormat::Png),
            (ImageKind::Gif, ImageFormat::Gif),
            (ImageKind::Webp, ImageFormat::WebP),
        ] {
            let bytes = encoded(DynamicImage::from(halves(width, height)).to_rgba8(), ImageFormat::Png);
            let bytes = match format {
                ImageFormat::Png => bytes,
                ImageFormat::Jpeg => encoded(halves(width, height), format),
                other => encoded(DynamicImage::from(halves(width, height)).to_rgba8(), other),
            };
            let links = bench.send(&bytes, kind, width, height).await.expect("stored");
            let thumb = bench.thumb(&links);
            assert_eq!((thumb.width(), thumb.height()), expected, "{kind:?}");
            assert!(links.thumb.is_some_and(|url| url.ends_with(".jpg")), "{kind:?} is opaque");
        }
    }
}

#[tokio::test]
async fn a_turned_camera_gives_an_upright_thumbnail() {
    let bench = Bench::new();
    // 6: the top of the picture is on the right of what was stored, so red (left) ends at the top.
    let links = bench.send(&jpeg_turned(halves(800, 400), 6), ImageKind::Jpeg, 800, 400).await.expect("stored");
    let thumb = bench.thumb(&links).to_rgb8();
    assert_eq!(thumb.dimensions(), (160, EDGE));
    let (top, bottom) = (thumb.get_pixel(80, 20), thumb.get_pixel(80, 300));
    assert!(top[0] > 180 && top[2] < 60, "red at the top, found {top:?}");
    assert!(bottom[2] > 180 && bottom[0] < 60, "blue at the bottom, found {bottom:?}");
}

#[tokio::test]
async fn transparency_survives_in_a_png_thumbnail() {
    let bench = Bench::new();
    let glass = RgbaImage::from_pixel(500, 500, Rgba([0, 200, 0, 40]));
    let links = bench.send(&encoded(glass, ImageFormat::Png), ImageKind::Png, 500, 500).await.expect("stored");
    assert!(links.thumb.as_deref().is_some_and(|url| url.ends_with(".png")));
    assert_eq!(bench.thumb(&links).to_rgba8().get_pixel(5, 5)[3], 40);
}

#[tokio::test]
async fn a_bomb_is_stored_without_a_thumbnail_whatever_inspection_said() {
    let bench = Bench::new();
    // One grey pixel more in each row than the limit allows: complete and decodable, a small file.
    let (width, height) = (10_001, 10_000);
    assert!(u64::from(width) * u64::from(height) > MAX_PIXELS);
    let bomb = encoded(GrayImage::new(width, height), ImageFormat::Png);
    for (width, height) in [(width, height), (2, 2)] {
        let links = bench.send(&bomb, ImageKind::Png, width, height).await.expect("stored");
        assert_eq!(links.thumb, None);
        assert!(bench.stored(&links.url) == bomb, "the image itself is stored");
    }
}

#[tokio::test]
async fn what_cannot_be_decoded_is_stored_without_a_thumbnail() {
    let bench = Bench::new();
    let png = encoded(halves(900, 900), ImageFormat::Png);
    for (bytes, kind) in [
        (png[..png.len() / 2].to_vec(), ImageKind::Png),
        (b"\xff\xd8\xff no picture at all".to_vec(), ImageKind::Jpeg),
        (b"GIF89a".to_vec(), ImageKind::Gif),
        (b"....ftypavif".to_vec(), ImageKind::Avif),
        (Vec::new(), ImageKind::Png),
    ] {
        let links = bench.send(&bytes, kind, 900, 900).await.expect("stored");
        assert_eq!((bench.stored(&links.url), links.thumb), (bytes, None), "{kind:?}");
    }
}

#[tokio::test]
async fn a_file_that_changed_since_inspection_is_refused_and_leaves_nothing() {
    let bench = Bench::new();
    let mut upload = bench.upload(b"other bytes", ImageKind::Gif, 1, 1);
    upload.image.hash = ContentHash(*blake3::hash(b"what was inspected").as_bytes());
    let failure = bench.host.upload(&upload).await.expect_err("refused");
    assert_eq!(failure.class, ErrorClass::Io);
    assert!(failure.message.contains("changed"), "{}", failure.message);
    assert_eq!(bench.files(), 0);
}

#[tokio::test]
async fn a_dropped_upload_stops_and_leaves_no_half_file() {
    let bench = Bench::new();
    let bytes = vec![7; 64 << 20];
    let upload = bench.upload(&bytes, ImageKind::Bmp, 10, 10);
    let mut sending = bench.host.upload(&upload);
    // One look starts the copy; then the attempt is given up.
    assert!(futures_util::poll!(&mut sending).is_pending());
    drop(sending);
    let source = Arc::downgrade(&upload.source);
    drop(upload);
    wait_until("the copy lets go of the file", || source.upgrade().is_none()).await;
    assert_eq!(bench.files(), 0);
}

async fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap_or_else(|_| panic!("in vain: {what}"));
}

#[test]
fn only_names_of_stored_images_are_read() {
    let good = "0123456789abcdef0123456789abcdef.jpg";
    assert_eq!(good.parse::<StoredName>().map(|name| name.to_string()), Ok(good.to_owned()));
    for bad in [
        "",
        ".jpg",
        "..",
        "../../etc/passwd",
        "0123456789abcdef0123456789abcdef",
        "0123456789abcdef0123456789abcdef.svg",
        "0123456789abcdef0123456789abcdef.jpg.html",
        "0123456789abcdef0123456789abcde/.jpg",
        "0123456789ABCDEF0123456789ABCDEF.jpg",
        "0123456789abcdef0123456789abcdé.jpg",
        "0123456789abcdef0123456789abcdef.jpg\0",
    ] {
        assert!(bad.parse::<StoredName>().is_err(), "{bad:?}");
    }
}

#[tokio::test]
async fn a_full_or_broken_disk_is_our_trouble_and_says_where() {
    let bench = Bench::new();
    let images = bench.store.root().join("images");
    std::fs::remove_dir(&images).expect("empty");
    std::fs::write(&images, "in the way").expect("written");
    let failure = bench.send(b"GIF89a", ImageKind::Gif, 1, 1).await.expect_err("cannot be stored");
    assert_eq!(failure.class, ErrorClass::Io);
    assert!(failure.message.contains(&images.display().to_string()), "{}", failure.message);
    assert!(Path::new(&images).is_file());
}
