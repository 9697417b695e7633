//! What becomes of which file.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use image::ImageFormat;
use serde_json::json;

use crate::support::host::FakeHost;
use crate::support::{Home, SOON, jpeg, picture, png, wait_for, wait_for_within};

#[test]
fn r30_what_cannot_be_sent_goes_to_failed_without_a_request() {
    let home = Home::new();
    let host = FakeHost::well();
    home.configure_hosts(&[("pixhost", &host)], "", "max_bytes = \"20KB\"");
    let agent = home.start().ready();
    home.drop_file("text.png", b"this is text and not a picture, whatever its name says\n");
    home.drop_file("webp.webp", &picture(1, ImageFormat::WebP));
    home.drop_file("large.jpg", &crate::support::jpeg(30_000, 1));
    home.wait_for_finals(3);
    for (file, part) in [("text.png", "looks like text"), ("webp.webp", "accepts"), ("large.jpg", "30")] {
        let line = &home.lines_of(file)[0];
        assert_eq!((&line["status"], &line["error"]["class"]), (&json!("failed"), &json!("file")), "{line:#}");
        assert!(line["error"]["message"].as_str().is_some_and(|m| m.contains(part)), "{line:#}");
        assert_eq!(line["moved_to"], format!("failed/{file}"));
    }
    assert_eq!(host.received().len(), 0);
    assert!(agent.stop().success());
}

#[test]
fn r22_the_same_content_again_is_linked_and_the_same_name_again_is_numbered() {
    let home = Home::new();
    let host = FakeHost::well();
    home.configure(&host, "");
    let agent = home.start().ready();
    home.drop_file("a.png", &png(1));
    home.wait_for_line("a.png", 1);
    home.drop_file("copy.png", &png(1));
    let linked = home.wait_for_line("copy.png", 1);
    assert_eq!((&linked["status"], &linked["url"]), (&json!("linked"), &home.lines_of("a.png")[0]["url"]));
    wait_for("the first to be shelved", || home.drop().join("done/a.png").exists());
    home.drop_file("a.png", &png(2));
    let second = home.wait_for_line("a.png", 2);
    assert_eq!((&second["status"], &second["moved_to"]), (&json!("uploaded"), &json!("done/a-1.png")));
    assert_eq!(host.received().len(), 2);
    wait_for("everything in done/", || home.files().len() == 6);
    assert!(agent.stop().success());
}

#[test]
fn r11_odd_names_and_sub_folders_are_uploaded_and_kept() {
    let home = Home::new();
    let host = FakeHost::well();
    home.configure(&host, "");
    let agent = home.start().ready();
    let odd = OsStr::from_bytes(b"caf\xe9 \"quoted\"\nline.png");
    home.drop_file(odd, &png(1));
    home.drop_file("trip/day 1/x.png", &png(2));
    wait_for("both lines", || home.manifest_lines() == 2);
    let lines = home.manifest();
    assert!(lines.iter().all(|line| line["status"] == "uploaded"));
    assert_eq!(lines.iter().filter(|line| line["file_bytes"].is_string()).count(), 1);
    wait_for("both files in done/", || {
        home.drop().join("done").join(odd).exists() && home.drop().join("done/trip/day 1/x.png").exists()
    });
    assert!(agent.stop().success());
}

#[test]
fn after_keep_leaves_the_file_and_after_delete_removes_it() {
    let home = Home::new();
    let host = FakeHost::well();
    home.configure_hosts(&[("pixhost", &host)], "", "after = \"keep\"");
    home.drop_file("x.png", &png(1));
    let once = || home.run(&["--config", "config.toml", "run", "--once"]).0;
    assert_eq!((once(), once()), (0, 0));
    assert_eq!((home.files(), host.received().len()), (vec!["x.png".to_owned(), "x.png.json".to_owned()], 1));

    home.configure_hosts(&[("pixhost", &host)], "", "after = \"delete\"");
    home.drop_file("y.png", &png(2));
    assert_eq!(once(), 0);
    assert!(!home.drop().join("y.png").exists() && !home.drop().join("done/y.png").exists());
    assert_eq!(home.lines_of("y.png")[0]["status"], "uploaded");
}

#[test]
fn a_file_moved_back_by_hand_is_tried_again_and_once_tells_by_its_exit_code() {
    let home = Home::new();
    let host = FakeHost::start(|name| {
        use crate::support::host::Reply;
        if name == "x.png" { Reply::Answer(415, String::new(), String::new()) } else { Reply::Stored }
    });
    home.configure(&host, "");
    home.drop_file("x.png", &png(1));
    let once = || home.run(&["--config", "config.toml", "run", "--once"]).0;
    assert_eq!(once(), 1);
    assert_eq!(home.lines_of("x.png")[0]["moved_to"], "failed/x.png");
    host.recover();
    #[expect(clippy::disallowed_methods, reason = "what a user does")]
    fs::rename(home.drop().join("failed/x.png"), home.drop().join("x.png")).expect("moves it back");
    assert_eq!(once(), 0);
    assert_eq!(home.lines_of("x.png")[1]["status"], "uploaded");
    assert_eq!(home.files(), ["done/x.png", "done/x.png.json"], "nothing of the past is left");
}

#[test]
fn a_file_that_was_mended_and_moved_back_leaves_nothing_of_the_past_either() {
    let home = Home::new();
    let host = FakeHost::well();
    home.configure(&host, "");
    let agent = home.start().ready();
    home.drop_file("x.png", b"this is no image");
    assert_eq!(home.wait_for_line("x.png", 1)["moved_to"], "failed/x.png");
    wait_for("the move", || home.drop().join("failed/x.png").exists());
    #[expect(clippy::disallowed_methods, reason = "what a user does")]
    fs::remove_file(home.drop().join("failed/x.png")).expect("takes it away");
    home.drop_file("x.png", &png(1));
    assert_eq!(home.wait_for_line("x.png", 2)["status"], "uploaded");
    wait_for("the move", || home.files() == ["done/x.png", "done/x.png.json"]);
    drop(agent);
}

#[test]
fn r9_a_thousand_touches_in_mid_upload_do_not_send_a_file_twice() {
    use crate::support::host::Reply;
    let home = Home::new();
    let host = FakeHost::start(|_| Reply::StoredAfter(Duration::from_secs(2)));
    home.configure(&host, "");
    let agent = home.start().ready();
    // One that is held in memory while it is sent, and one that is not.
    for (name, bytes) in [("small.png", png(1)), ("large.jpg", jpeg(3 << 20, 1))] {
        home.drop_file(name, &bytes);
        wait_for("it to be sent", || host.times(name) == 1);
        let file = fs::File::options().append(true).open(home.drop().join(name)).expect("is there");
        for second in 0..1_000 {
            let then = std::time::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + second);
            file.set_modified(then).expect("touches it");
        }
        drop(file);
        assert_eq!(home.wait_for_line(name, 1)["status"], "uploaded");
        wait_for("the move", || home.drop().join("done").join(name).exists());
    }
    assert!(agent.stop().success());
    assert_eq!((host.received().len(), home.manifest_lines()), (2, 2));
}

#[test]
fn r27_two_thousand_files_at_once_are_all_uploaded_once() {
    let home = Home::new();
    let host = FakeHost::well();
    home.configure(&host, "");
    let agent = home.start().ready();
    for index in 0..2_000 {
        home.drop_file(format!("{index}.png"), &png(index));
    }
    wait_for_within(4 * SOON, "all of them", || home.manifest_lines() == 2_000);
    assert_eq!(host.received().len(), 2_000);
    assert_eq!(home.events("queue-filling").len(), home.events("queue-drained").len().max(1), "once per crossing");
    assert!(agent.stop().success());
}

#[test]
fn an_empty_file_is_never_sent_and_a_file_that_grows_is_sent_whole() {
    use std::io::Write;
    let home = Home::new();
    let host = FakeHost::well();
    home.configure(&host, "");
    let agent = home.start().ready();
    home.drop_file("empty.png", b"");
    let bytes = crate::support::jpeg(50_000, 3);
    let mut slow = fs::File::create(home.drop().join("slow.jpg")).expect("creates it");
    for part in bytes.chunks(5_000) {
        slow.write_all(part).expect("writes");
        slow.flush().expect("writes");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    drop(slow);
    home.wait_for_line("slow.jpg", 1);
    assert!(host.received().len() == 1 && host.received()[0].file == bytes, "r1: whole and once");
    assert!(home.drop().join("empty.png").exists());
    assert!(agent.stop().success());
}

#[test]
fn r6_a_folder_that_is_not_there_is_waited_for_and_not_made() {
    let home = Home::new();
    let host = FakeHost::well();
    home.configure(&host, "");
    fs::remove_dir_all(home.drop()).expect("takes it away");
    let agent = home.start().ready();
    assert_eq!(home.events("folder-absent").len(), 1);
    assert!(!home.drop().exists());
    home.drop_file("x.png", &png(1));
    home.wait_for_line("x.png", 1);
    assert_eq!(home.events("folder-back").len(), 1);
    assert!(agent.stop().success());
}
