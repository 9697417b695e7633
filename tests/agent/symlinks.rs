//! `follow_symlinks`: what is reached through a link is uploaded, and beyond a link everything stays as it is.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::host::{FakeHost, Reply};
use crate::support::{Home, png, wait_for};

/// A home whose drop folder follows links, and a folder beside it.
fn linked(host: &FakeHost, more: &str, folder: &str) -> (Home, PathBuf) {
    let home = Home::new();
    let aside = home.path("aside");
    fs::create_dir_all(&aside).expect("a folder");
    home.configure_folder(host, more, &format!("follow_symlinks = true\n{folder}"));
    (home, aside)
}

fn link(target: impl AsRef<Path>, name: impl AsRef<Path>) {
    symlink(target, name).expect("a link");
}

#[expect(clippy::disallowed_methods, reason = "what a user does")]
fn remove(path: impl AsRef<Path>) {
    fs::remove_file(path).expect("removes");
}

/// What lies in `dir`, which need not be there yet.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn once(home: &Home) -> i32 {
    home.run(&["--config", "config.toml", "run", "--once"]).0
}

/// Once more with a file of its own: what else there was to find was found by then.
fn settle_all(home: &Home, name: &str, seed: u32) {
    home.drop_file(name, &png(seed));
    home.wait_for_line(name, 1);
}

fn finals(home: &Home) -> Vec<(String, String)> {
    let text = |line: &Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
    let mut all: Vec<_> = home.manifest().iter().map(|line| (text(line, "file"), text(line, "status"))).collect();
    all.sort();
    all
}

fn uploaded(names: &[&str]) -> Vec<(String, String)> {
    names.iter().map(|name| ((*name).to_owned(), "uploaded".to_owned())).collect()
}

#[test]
fn without_the_key_no_link_is_followed() {
    let host = FakeHost::well();
    let (home, aside) = linked(&host, "", "");
    home.configure(&host, "");
    fs::write(aside.join("x.png"), png(1)).expect("writes");
    link(&aside, home.drop().join("folder"));
    link(aside.join("x.png"), home.drop().join("file.png"));
    home.drop_file("a.png", &png(2));
    assert_eq!(once(&home), 0);
    assert_eq!(finals(&home), uploaded(&["a.png"]));
    assert!(home.drop().join("file.png").is_symlink() && home.drop().join("folder").is_symlink());
}

#[test]
fn a_linked_folder_is_walked_and_watched_and_nothing_in_it_is_touched() {
    let host = FakeHost::well();
    let (home, aside) = linked(&host, "", "rescan = \"1h\"");
    fs::create_dir(aside.join("deep")).expect("a folder");
    fs::write(aside.join("deep/x.png"), png(1)).expect("writes");
    link("../aside", home.drop().join("trip"));
    let agent = home.start().ready();
    let line = home.wait_for_line("trip/deep/x.png", 1);
    assert_eq!((&line["status"], &line["moved_to"]), (&json!("uploaded"), &Value::Null));
    // Events come from there, also from folders that are new.
    home.drop_into("aside", "y.png", &png(2));
    home.wait_for_line("trip/y.png", 1);
    home.drop_into("aside", "new/z.png", &png(3));
    home.wait_for_line("trip/new/z.png", 1);
    home.drop_into("aside", "text.png", b"no image");
    assert_eq!(home.wait_for_line("trip/text.png", 1)["moved_to"], Value::Null);
    assert!(agent.stop().success());
    // After a restart, a lost ledger and one more run all of it is known.
    assert_eq!(once(&home), 0);
    remove(aside.join("text.png"));
    fs::remove_dir_all(home.path("xdg-state")).expect("forgets everything");
    assert_eq!(once(&home), 0);
    assert_eq!((host.received().len(), home.manifest().len()), (3, 4));
    assert_eq!(names(&aside), ["deep", "new", "y.png"]);
    assert_eq!((names(&aside.join("deep")), names(&aside.join("new"))), (vec!["x.png".into()], vec!["z.png".into()]));
    assert_eq!(names(&home.drop()), ["manifest.jsonl", "trip"]);
}

#[test]
fn a_link_to_a_file_is_moved_like_a_file_and_leads_to_the_same_file_from_there() {
    let host = FakeHost::well();
    let (home, aside) = linked(&host, "", "");
    let agent = home.start().ready();
    fs::write(aside.join("x.png"), png(1)).expect("writes");
    fs::write(aside.join("text.png"), "no image").expect("writes");
    fs::create_dir(home.drop().join("sub")).expect("a folder");
    link("../../aside/x.png", home.drop().join("sub/l.png"));
    link("../aside/text.png", home.drop().join("bad.png"));
    let line = home.wait_for_line("sub/l.png", 1);
    assert_eq!((&line["status"], &line["moved_to"]), (&json!("uploaded"), &json!("done/sub/l.png")));
    assert_eq!(home.wait_for_line("bad.png", 1)["moved_to"], "failed/bad.png");
    let places = ["done/sub/l.png", "done/sub/l.png.json", "failed/bad.png", "failed/bad.png.json"];
    wait_for("the moves", || home.files() == places);
    for (place, file) in [("done/sub/l.png", "x.png"), ("failed/bad.png", "text.png")] {
        let place = home.drop().join(place);
        assert!(place.is_symlink());
        assert_eq!(place.canonicalize().expect("leads there"), aside.join(file).canonicalize().expect("there"));
    }
    // The same picture again, by another link: its link is repeated.
    link(aside.join("x.png"), home.drop().join("again.png"));
    assert_eq!(home.wait_for_line("again.png", 1)["status"], "linked");
    assert_eq!(host.received().len(), 1);
    assert_eq!(names(&aside), ["text.png", "x.png"]);
    assert!(agent.stop().success());
}

#[test]
fn of_a_link_only_the_link_is_deleted_and_beyond_one_nothing_is() {
    let host = FakeHost::well();
    let (home, aside) = linked(&host, "", "after = \"delete\"");
    for (name, seed) in [("x.png", 1), ("y.png", 2)] {
        fs::write(aside.join(name), png(seed)).expect("writes");
    }
    fs::create_dir(home.path("file")).expect("a folder");
    fs::write(home.path("file/z.png"), png(3)).expect("writes");
    link(&aside, home.drop().join("folder"));
    link(home.path("file/z.png"), home.drop().join("l.png"));
    assert_eq!((once(&home), once(&home)), (0, 0));
    assert_eq!(finals(&home), uploaded(&["folder/x.png", "folder/y.png", "l.png"]));
    assert_eq!(
        (names(&aside), names(&home.path("file"))),
        (vec!["x.png".into(), "y.png".into()], vec!["z.png".into()])
    );
    assert_eq!(names(&home.drop()), ["folder", "manifest.jsonl"]);
}

#[test]
fn with_keep_a_link_stays_and_is_sent_once() {
    let host = FakeHost::well();
    let (home, aside) = linked(&host, "", "after = \"keep\"");
    fs::write(aside.join("x.png"), png(1)).expect("writes");
    link("../aside/x.png", home.drop().join("l.png"));
    assert_eq!((once(&home), once(&home)), (0, 0));
    assert_eq!(finals(&home), uploaded(&["l.png"]));
    assert!(home.drop().join("l.png").is_symlink() && home.drop().join("l.png.json").exists());
    // It leads elsewhere now: that is another picture.
    fs::write(aside.join("y.png"), png(2)).expect("writes");
    remove(home.drop().join("l.png"));
    link("../aside/y.png", home.drop().join("l.png"));
    assert_eq!(once(&home), 0);
    assert_eq!((finals(&home), host.received().len()), (uploaded(&["l.png", "l.png"]), 2));
}

#[test]
fn a_link_rests_in_retry_and_goes_to_done_and_what_is_beyond_one_rests_where_it_is() {
    let busy = || Reply::Answer(503, String::new(), "busy".into());
    let host = FakeHost::at_first((0..2).map(|_| busy()).collect());
    let more = "[retry]\nattempts = 1\n[cooldown]\nfirst = \"2s\"\n";
    let (home, aside) = linked(&host, more, "");
    fs::create_dir(home.path("file")).expect("a folder");
    fs::write(aside.join("x.png"), png(1)).expect("writes");
    fs::write(home.path("file/y.png"), png(2)).expect("writes");
    link(&aside, home.drop().join("folder"));
    link("../file/y.png", home.drop().join("l.png"));
    let agent = home.start().ready();
    assert_eq!(home.wait_for_line("l.png", 1)["moved_to"], "retry/l.png");
    let beyond = home.wait_for_line("folder/x.png", 1);
    assert_eq!((&beyond["status"], &beyond["moved_to"]), (&json!("deferred"), &Value::Null));
    for name in ["l.png", "folder/x.png"] {
        assert_eq!(home.wait_for_line(name, 2)["status"], "uploaded");
    }
    let in_place = |place: &str| names(&home.drop().join(place));
    wait_for("the link in done/ only", || in_place("done") == ["l.png", "l.png.json"] && in_place("retry").is_empty());
    assert!(home.drop().join("done/l.png").is_symlink());
    assert_eq!((names(&aside), names(&home.path("file"))), (vec!["x.png".into()], vec!["y.png".into()]));
    assert!(agent.stop().success());
}

#[test]
fn a_link_that_leads_nowhere_while_it_rests_is_waited_for() {
    let host = FakeHost::at_first(vec![Reply::Answer(503, String::new(), "busy".into())]);
    let more = "[retry]\nattempts = 1\n[cooldown]\nfirst = \"1s\"\n";
    let (home, aside) = linked(&host, more, "");
    fs::write(aside.join("x.png"), png(1)).expect("writes");
    link("../aside/x.png", home.drop().join("l.png"));
    assert_eq!(once(&home), 1);
    assert!(home.drop().join("retry/l.png").is_symlink());
    remove(aside.join("x.png"));
    let agent = home.start().ready();
    let retry = || home.run(&["--config", "config.toml", "retry", "drop/retry/l.png"]);
    assert_eq!(retry().0, 0);
    settle_all(&home, "between.png", 2);
    fs::write(aside.join("x.png"), png(1)).expect("writes");
    let (code, _, err) = retry();
    assert_eq!(code, 0, "{err}");
    assert_eq!(home.wait_for_line("l.png", 2)["status"], "uploaded");
    assert!(agent.stop().success());
}

#[test]
fn circles_end_and_no_directory_is_taken_twice() {
    let host = FakeHost::well();
    let (home, aside) = linked(&host, "", "rescan = \"200ms\"");
    let (one, two) = (aside.join("one"), aside.join("two"));
    fs::create_dir_all(&one).expect("a folder");
    fs::create_dir_all(&two).expect("a folder");
    for (dir, seed) in [(&one, 1), (&two, 2), (&aside, 3), (&home.drop(), 4)] {
        fs::write(dir.join("x.png"), png(seed)).expect("writes");
    }
    link(&two, one.join("to two"));
    link(&one, two.join("to one"));
    link(".", one.join("self"));
    link(".", home.drop().join("self"));
    link("..", home.drop().join("up"));
    link("../aside", home.drop().join("second"));
    link("loop", home.drop().join("loop"));
    link("x.png", home.drop().join("inside.png"));
    let agent = home.start().ready();
    home.wait_for_finals(4);
    settle_all(&home, "last.png", 5);
    assert_eq!(after_another_scan(&home), 5, "{:?}", finals(&home));
    assert_eq!(host.received().len(), 6);
    assert!(finals(&home).iter().all(|(_, status)| status == "uploaded"), "{:?}", finals(&home));
    assert!(agent.stop().success());
    let incomplete = home.events("agent-trouble");
    assert!(incomplete.is_empty(), "{incomplete:?}");
    assert_eq!(once(&home), 0);
    assert_eq!(home.manifest().len(), 6);
}

/// How many lines there are after some more scans.
fn after_another_scan(home: &Home) -> usize {
    let (code, _, err) = home.run(&["--config", "config.toml", "rescan"]);
    assert_eq!(code, 0, "{err}");
    settle_all(home, "very last.png", 99);
    home.manifest().len() - 1
}

#[test]
fn links_to_our_own_folders_are_closed() {
    let host = FakeHost::well();
    let home = Home::new();
    let (drop, other, url) = (home.drop(), home.path("other"), host.url());
    fs::create_dir_all(&other).expect("a folder");
    home.write_config(&format!(
        "[server]\nlisten = 'off'\n[[folder]]\npath = {drop:?}\nhost = 'pixhost'\nsettle = '200ms'\nrescan = '200ms'\n\
         follow_symlinks = true\ndone = {:?}\n[[folder]]\npath = {other:?}\nhost = 'pixhost'\nsettle = '200ms'\n\
         [host.pixhost]\nbase_url = '{url}'\n",
        home.path("elsewhere/done")
    ));
    link("../elsewhere", drop.join("all"));
    link("../elsewhere/done", drop.join("again"));
    link("failed", drop.join("failures"));
    link("../other", drop.join("other"));
    link("../other/done", drop.join("other done"));
    link(home.path("xdg-data/pixchute"), drop.join("store"));
    link(home.path("elsewhere/done/a.png"), drop.join("a-link.png"));
    fs::create_dir_all(home.path("xdg-data/pixchute/images")).expect("a folder");
    fs::write(home.path("xdg-data/pixchute/images/s.png"), png(7)).expect("writes");
    let agent = home.start().ready();
    home.drop_file("a.png", &png(1));
    home.drop_file("b.png", b"no image");
    home.drop_into("other", "c.png", &png(2));
    home.wait_for_finals(2);
    wait_for("the moves", || home.path("elsewhere/done/a.png").exists() && drop.join("failed/b.png").exists());
    wait_for("the other folder", || other.join("done/c.png").exists());
    assert_eq!(after_another_scan(&home), 2, "{:?}", finals(&home));
    assert_eq!(host.received().len(), 3, "two pictures and the last one");
    assert!(agent.stop().success());
}

#[test]
fn what_leads_nowhere_is_ignored_until_it_does_and_special_files_always() {
    let host = FakeHost::well();
    let (home, aside) = linked(&host, "", "rescan = \"300ms\"");
    link("../aside/later", home.drop().join("folder"));
    link("../aside/later.png", home.drop().join("l.png"));
    link("/dev/zero", home.drop().join("zero.png"));
    link("../aside/pipe", home.drop().join("pipe.png"));
    let made = std::process::Command::new("mkfifo").arg(aside.join("pipe")).status().expect("mkfifo runs");
    assert!(made.success());
    let agent = home.start().ready();
    settle_all(&home, "first.png", 1);
    fs::create_dir(aside.join("later")).expect("a folder");
    fs::write(aside.join("later/x.png"), png(2)).expect("writes");
    home.wait_for_line("folder/x.png", 1);
    fs::write(aside.join("later.png"), png(3)).expect("writes");
    assert_eq!(home.wait_for_line("l.png", 1)["moved_to"], "done/l.png");
    assert_eq!(finals(&home), uploaded(&["first.png", "folder/x.png", "l.png"]));
    assert!(home.events("agent-trouble").is_empty() && home.events("job-failed").is_empty());
    assert!(agent.stop().success());
}

#[test]
fn a_link_that_is_turned_to_another_folder_is_followed_there() {
    let host = FakeHost::well();
    let (home, aside) = linked(&host, "", "rescan = \"1h\"");
    for (dir, seed) in [("one", 1), ("two", 2)] {
        fs::create_dir(aside.join(dir)).expect("a folder");
        fs::write(aside.join(dir).join(format!("{dir}.png")), png(seed)).expect("writes");
    }
    link("../aside/one", home.drop().join("now"));
    let agent = home.start().ready();
    home.wait_for_line("now/one.png", 1);
    link("../aside/two", home.path("turned"));
    #[expect(clippy::disallowed_methods, reason = "as `ln -sfn` does")]
    fs::rename(home.path("turned"), home.drop().join("now")).expect("turns it");
    home.wait_for_line("now/two.png", 1);
    home.drop_into("aside/two", "new.png", &png(3));
    home.wait_for_line("now/new.png", 1);
    // Nobody leads to the first one any more.
    home.drop_into("aside/one", "unseen.png", &png(4));
    settle_all(&home, "last.png", 5);
    assert_eq!((finals(&home).len(), host.received().len()), (4, 4));
    assert!(agent.stop().success());
}

#[test]
fn a_link_whose_file_changes_while_it_is_sent_gives_no_link_and_is_sent_anew() {
    let host = FakeHost::start(|name| match name {
        "l.png" => Reply::StoredAfter(std::time::Duration::from_millis(700)),
        _ => Reply::Stored,
    });
    let (home, aside) = linked(&host, "", "");
    fs::write(aside.join("x.png"), png(1)).expect("writes");
    fs::write(aside.join("y.png"), png(2)).expect("writes");
    let agent = home.start().ready();
    link("../aside/x.png", home.drop().join("l.png"));
    wait_for("the request", || !host.began().is_empty());
    link("../aside/y.png", home.path("turned"));
    #[expect(clippy::disallowed_methods, reason = "as `ln -sfn` does")]
    fs::rename(home.path("turned"), home.drop().join("l.png")).expect("turns it");
    let line = home.wait_for_line("l.png", 1);
    assert_eq!(line["blake3"], blake3::hash(&png(2)).to_hex().as_str());
    wait_for("the move", || home.drop().join("done/l.png").is_symlink());
    assert_eq!(finals(&home), uploaded(&["l.png"]));
    assert_eq!(names(&aside), ["x.png", "y.png"]);
    assert!(agent.stop().success());
}
