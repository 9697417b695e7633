//! `strip_metadata`: what is sent tells nothing about who made it.

use std::fs;

use image::ImageFormat;
use serde_json::json;

use crate::support::host::FakeHost;
use crate::support::{Home, jpeg, picture, wait_for};

/// The JPEG with a position in its EXIF data.
fn located(mut bytes: Vec<u8>) -> Vec<u8> {
    let body = b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0GPS 48.2082 N 16.3738 E";
    let len = u16::try_from(body.len() + 2).expect("short").to_be_bytes();
    bytes.splice(2..2, [&[0xFF, 0xE1][..], &len, body].concat());
    bytes
}

/// A TIFF file of 3 by 2 pixels, as far as its header goes.
fn tiff() -> Vec<u8> {
    let entry =
        |tag: u16, value: u16| [&tag.to_le_bytes()[..], &[3, 0, 1, 0, 0, 0], &value.to_le_bytes(), &[0, 0]].concat();
    [b"II*\0\x08\0\0\0\x02\0", &entry(256, 3)[..], &entry(257, 2), &[0; 4]].concat()
}

fn tells(bytes: &[u8]) -> bool {
    bytes.windows(7).any(|window| window == b"48.2082")
}

#[test]
fn metadata_is_not_sent_the_file_keeps_it_and_the_two_are_never_taken_for_each_other() {
    let home = Home::new();
    let host = FakeHost::well();
    let (private, open, url) = (home.drop(), home.path("open"), host.url());
    fs::create_dir_all(&open).expect("a folder");
    home.write_config(&format!(
        "[server]\nlisten = 'off'\n[[folder]]\npath = {private:?}\nhost = 'pixhost'\nstrip_metadata = true\n\
         [[folder]]\npath = {open:?}\nhost = 'pixhost'\n[host.pixhost]\nbase_url = '{url}'\n"
    ));
    let agent = home.start().ready();
    let bytes = located(picture(1, ImageFormat::Jpeg));
    home.drop_into("open", "open.jpg", &bytes);
    wait_for("the first to be shelved", || open.join("done/open.jpg").exists());
    home.drop_file("private.jpg", &bytes);
    let line = home.wait_for_line("private.jpg", 1);
    assert_eq!((&line["status"], &line["stripped"]), (&json!("uploaded"), &json!(true)), "{line:#}");
    assert_eq!(line["bytes"], bytes.len());
    assert_eq!(line["blake3"], blake3::hash(&bytes).to_hex().as_str());
    wait_for("the second to be shelved", || home.drop().join("done/private.jpg").exists());
    assert_eq!(fs::read(home.drop().join("done/private.jpg")).expect("reads"), bytes);
    let sent = |name: &str| host.received().into_iter().find(|sent| sent.file_name == name).expect("sent").file;
    assert!(tells(&sent("open.jpg")) && !tells(&sent("private.jpg")));
    // Too large to be held in memory; and a second copy, which needs no sending.
    let large = located(jpeg(2_000_000, 3));
    home.drop_file("large.jpg", &large);
    home.wait_for_line("large.jpg", 1);
    assert!(tells(&large) && !tells(&sent("large.jpg")));
    home.drop_file("again.jpg", &large);
    assert_eq!(home.wait_for_line("again.jpg", 1)["status"], "linked");
    assert_eq!(host.received().len(), 3);
    // What cannot be cleaned is not sent.
    let mut odd = located(picture(2, ImageFormat::Jpeg));
    odd.splice(2..2, *b"\xFF\xF0\0\x06what");
    let refused = [("scan.jpg", tiff()), ("odd.jpg", odd)];
    for (name, bytes) in refused {
        home.drop_file(name, &bytes);
        let line = home.wait_for_line(name, 1);
        assert_eq!((&line["status"], &line["error"]["class"]), (&json!("failed"), &json!("file")), "{line:#}");
    }
    assert_eq!(host.received().len(), 3);
    assert!(agent.stop().success());
}

#[test]
fn put_sends_no_metadata_to_a_host_of_such_a_folder() {
    let home = Home::new();
    let (host, other) = (FakeHost::well(), FakeHost::well());
    home.write_config(&format!(
        "[server]\nlisten = 'off'\n[[folder]]\npath = {:?}\nhosts = ['other', 'pixhost']\npolicy = 'mirror'\nstrip_metadata = true\n\
         [host.pixhost]\nbase_url = '{}'\n[host.other]\nrecipe = 'pixhost'\nbase_url = '{}'\n[host.open]\nrecipe = 'pixhost'\nbase_url = '{}'\n",
        home.drop(),
        host.url(),
        other.url(),
        other.url()
    ));
    let bytes = located(picture(1, ImageFormat::Jpeg));
    fs::write(home.path("x.jpg"), &bytes).expect("written");
    let mut odd = located(picture(2, ImageFormat::Jpeg));
    odd.splice(2..2, *b"\xFF\xF0\0\x06what");
    fs::write(home.path("odd.jpg"), odd).expect("written");
    let put = |host: &str, file: &str| home.run(&["--config", "config.toml", "put", "--host", host, file]);
    assert_eq!(put("pixhost", "x.jpg").0, 0);
    assert_eq!(put("open", "x.jpg").0, 0);
    assert!(!tells(&host.received()[0].file) && tells(&other.received()[0].file));
    let (code, _, err) = put("pixhost", "odd.jpg");
    assert!(code == 1 && err.contains("strip_metadata") && host.received().len() == 1, "{err}");
    assert_eq!(fs::read(home.path("x.jpg")).expect("it stays"), bytes);
}
