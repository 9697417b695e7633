//! What survives `kill -9`, SIGTERM, a lost ledger and a second agent.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::support::host::{FakeHost, Reply};
use crate::support::{Agent, Home, png, wait_for};

/// How many images and kills; by hand: `PIXCHUTE_KILLS=100 PIXCHUTE_IMAGES=2000 cargo test --release --test agent kill`.
fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

fn finals(lines: &[Value]) -> HashMap<String, usize> {
    let mut finals = HashMap::new();
    for line in lines.iter().filter(|line| matches!(line["status"].as_str(), Some("uploaded" | "linked" | "failed"))) {
        *finals.entry(line["file"].as_str().expect("a name").to_owned()).or_default() += 1;
    }
    finals
}

#[test]
fn r21_r22_kill_9_at_any_moment_loses_nothing_and_writes_no_second_final_line() {
    let (images, kills) = (number("PIXCHUTE_IMAGES", 300), number("PIXCHUTE_KILLS", 15));
    let home = Home::new();
    let host = FakeHost::start(|_| Reply::StoredAfter(Duration::from_millis(5)));
    home.configure(&host, "");
    for index in 0..images {
        home.drop_file(format!("{index}.png"), &png(u32::try_from(index).expect("small")));
    }
    for kill in 0..kills {
        let agent = home.start();
        // Each life gets a little further than the one before: some die at the start, some in the middle.
        let goal = (images * (kill + 1) / (kills + 1)).saturating_sub(7);
        wait_for("some progress", || home.manifest_lines() >= goal);
        agent.kill();
    }
    let (code, _, log) = home.run(&["--config", "config.toml", "run", "--once"]);
    assert_eq!(code, 0, "{log}");

    let lines = home.manifest();
    let finals = finals(&lines);
    assert_eq!(finals.len(), images);
    assert!(finals.values().all(|count| *count == 1), "one final line each");
    let sequence: Vec<u64> = lines.iter().filter_map(|line| line["seq"].as_u64()).collect();
    assert!(sequence.windows(2).all(|pair| pair[0] < pair[1]), "numbers only rise");
    for index in 0..images {
        let record = home.sidecar(&format!("done/{index}.png"));
        assert_eq!(record["file"], format!("{index}.png"));
    }
    let received = host.received().len();
    assert!((images..=images + kills * 8).contains(&received), "once, and once more per kill and worker: {received}");
}

#[test]
fn r23_sigterm_lets_running_uploads_finish_and_the_rest_goes_on_at_the_next_start() {
    let home = Home::new();
    let host = FakeHost::start(|_| Reply::StoredAfter(Duration::from_millis(100)));
    home.configure(&host, "");
    for index in 0..100 {
        home.drop_file(format!("{index}.png"), &png(index));
    }
    let agent = home.start();
    wait_for("some to be done", || home.manifest_lines() >= 5);
    assert!(agent.stop().success());
    let lines = home.manifest();
    assert!(lines.len() < 100 && lines.iter().all(|line| line["status"] == "uploaded"));
    assert_eq!(host.received().len(), lines.len(), "what was sent is on record");
    let (code, _, log) = home.run(&["--config", "config.toml", "run", "--once"]);
    assert_eq!((code, home.manifest().len(), host.received().len()), (0, 100, 100), "{log}");
}

#[test]
fn r23_an_upload_that_outlasts_the_drain_is_cut_and_sent_again() {
    let home = Home::new();
    let host = FakeHost::at_first(vec![Reply::Silent]);
    home.configure(&host, "[pool]\ndrain = \"300ms\"\n");
    let agent = home.start().ready();
    home.drop_file("x.png", &png(1));
    wait_for("it to be sent", || host.received().len() == 1);
    assert!(agent.stop().success());
    wait_for("the connection to be closed", || host.open() == 0);
    assert_eq!(home.manifest_lines(), 0, "nothing is claimed");
    let (code, _, log) = home.run(&["--config", "config.toml", "run", "--once"]);
    assert_eq!((code, host.received().len()), (0, 2), "{log}");
    assert_eq!(home.lines_of("x.png").len(), 1);
}

#[test]
fn r22_a_lost_or_damaged_ledger_is_rebuilt_from_the_manifest_before_anything_is_sent() {
    let home = Home::new();
    let host = FakeHost::well();
    home.configure_hosts(&[("pixhost", &host)], "", "after = \"keep\"");
    for index in 0..20 {
        home.drop_file(format!("{index}.png"), &png(index));
    }
    let once = || home.run(&["--config", "config.toml", "run", "--once"]);
    assert_eq!(once().0, 0);
    assert_eq!((host.received().len(), home.manifest_lines()), (20, 20));
    let ledger = home.path("xdg-state/pixchute/ledger.sqlite");
    for damage in [None, Some(&b"this is no database at all, and long enough to look at"[..])] {
        for name in ["ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"] {
            #[expect(clippy::disallowed_methods, reason = "what a user does")]
            let _ = fs::remove_file(ledger.with_file_name(name));
        }
        if let Some(bytes) = damage {
            fs::write(&ledger, bytes).expect("writes");
        }
        let (code, _, log) = once();
        assert_eq!((code, host.received().len(), home.manifest_lines()), (0, 20, 20), "{log}");
        assert!(log.contains("ledger-repaired"), "{log}");
    }
    let aside = fs::read_dir(ledger.parent().expect("has one")).expect("lists");
    assert!(aside.flatten().any(|entry| entry.file_name().to_string_lossy().contains("damaged")), "nothing is deleted");
}

/// As from a backup, or after a damage to its log that SQLite answers by going back to an earlier transaction.
#[test]
fn r22_a_ledger_older_than_the_manifest_is_told_what_it_lacks_before_anything_is_sent() {
    for after in ["keep", "move"] {
        let home = Home::new();
        let host = FakeHost::well();
        home.configure_hosts(&[("pixhost", &host)], "", &format!("after = \"{after}\""));
        let once = || home.run(&["--config", "config.toml", "run", "--once"]);
        let ledger = home.path("xdg-state/pixchute/ledger.sqlite");
        home.drop_file("old.png", &png(0));
        assert_eq!(once().0, 0);
        let older = fs::read(&ledger).expect("a ledger");
        for (name, seed) in [("old-twin.png", 0), ("new.png", 1), ("new-twin.png", 1), ("other.png", 2)] {
            home.drop_file(name, &png(seed));
        }
        assert_eq!(once().0, 0);
        assert_eq!((host.received().len(), home.manifest_lines()), (3, 5), "twins are linked");
        fs::write(&ledger, &older).expect("writes");
        let manifest = home.drop().join("manifest.jsonl");
        let rotated = manifest.with_file_name("manifest.jsonl.1");
        pixchute::shelf::move_file(&manifest, &rotated).expect("rotated");
        home.drop_file("last.png", &png(1));
        let (code, _, log) = once();
        assert_eq!((code, host.received().len(), home.manifest_lines()), (0, 3, 1), "{after}: {log}");
        assert!(log.contains("ledger-repaired") && log.contains("after number 1: 4 files"), "{log}");
        let last = home.manifest().remove(0);
        assert_eq!((&last["seq"], &last["status"]), (&Value::from(6), &Value::from("linked")), "no number twice");
        let (_, _, log) = once();
        assert!(!log.contains("ledger-repaired"), "once is enough: {log}");
    }
}

#[test]
fn r22_what_an_older_ledger_lacks_of_a_folder_that_is_away_is_put_in_when_it_is_back() {
    let home = Home::new();
    let host = FakeHost::well();
    let (near, far, away) = (home.path("near"), home.path("far"), home.path("away"));
    let folder =
        |path: &Path| format!("[[folder]]\npath = {path:?}\nhost = \"pixhost\"\nafter = \"keep\"\nsettle = \"50ms\"\n");
    home.write_config(&format!(
        "[server]\nlisten = \"off\"\n{}{}[host.pixhost]\nbase_url = {:?}\n",
        folder(&near),
        folder(&far),
        host.url()
    ));
    fs::create_dir(&near).expect("a folder");
    fs::create_dir(&far).expect("a folder");
    let once = || home.run(&["--config", "config.toml", "run", "--once"]);
    let ledger = home.path("xdg-state/pixchute/ledger.sqlite");
    fs::write(near.join("0.png"), png(0)).expect("writes");
    assert_eq!(once().0, 0);
    let older = fs::read(&ledger).expect("a ledger");
    for index in 1..6 {
        fs::write(far.join(format!("{index}.png")), png(index)).expect("writes");
    }
    assert_eq!(once().0, 0);
    fs::write(near.join("6.png"), png(6)).expect("writes");
    assert_eq!(once().0, 0);
    assert_eq!(host.received().len(), 7);
    fs::write(&ledger, &older).expect("writes");
    #[expect(clippy::disallowed_methods, reason = "a disk that is not there")]
    fs::rename(&far, &away).expect("renames");
    let (code, _, log) = once();
    assert!(log.contains("after number 1: 1 files"), "{log}");
    assert!(code == 1 && log.contains("far is not there, so nothing was taken from it"), "{code}: {log}");
    #[expect(clippy::disallowed_methods, reason = "and comes back")]
    fs::rename(&away, &far).expect("renames");
    let (code, _, log) = once();
    assert_eq!((code, host.received().len()), (0, 7), "{log}");
    assert!(log.contains("after number 1: 5 files"), "{log}");
    assert_eq!(crate::support::manifest(&far.join("manifest.jsonl")).len(), 5, "{log}");
    let (_, _, log) = once();
    assert!(!log.contains("ledger-repaired"), "once is enough: {log}");
}

#[test]
fn r31_a_second_agent_on_the_same_ledger_ends_with_75_and_names_the_first() {
    let home = Home::new();
    let host = FakeHost::well();
    home.configure(&host, "");
    let agent = home.start().ready();
    let (code, _, message) = home.run(&["--config", "config.toml", "run"]);
    assert_eq!(code, 75, "{message}");
    assert!(message.contains(&agent.child.id().to_string()), "{message}");
    assert!(agent.stop().success());
}

#[test]
fn a_torn_last_line_is_mended_at_the_start() {
    let home = Home::new();
    let host = FakeHost::well();
    home.configure(&host, "");
    home.drop_file("a.png", &png(1));
    let once = || home.run(&["--config", "config.toml", "run", "--once"]).0;
    assert_eq!(once(), 0);
    let manifest = home.drop().join("manifest.jsonl");
    let whole = fs::read_to_string(&manifest).expect("reads");
    fs::write(&manifest, format!("{whole}{{\"v\":1,\"seq\":2,\"jo")).expect("writes");
    home.drop_file("b.png", &png(2));
    assert_eq!(once(), 0);
    let files: Vec<Value> = home.manifest().iter().map(|line| line["file"].clone()).collect();
    assert_eq!(files, ["a.png", "b.png"]);
}

/// A picture whose move is refused, by a file in the way of the folder; then another picture gets its name.
fn replaced_before_the_move(then: impl FnOnce(&Home, Agent)) {
    let home = Home::new();
    let host = FakeHost::well();
    home.configure(&host, "");
    fs::write(home.drop().join("done"), "in the way").expect("writes");
    home.drop_file("x.png", &png(1));
    let agent = home.start().ready();
    home.wait_for_line("x.png", 1);
    then(&home, agent);
    assert_eq!(host.received().len(), 2, "the other picture was sent like any other");
    let urls: Vec<Value> = home.manifest().iter().map(|line| line["blake3"].clone()).collect();
    assert!(urls.len() == 2 && urls[0] != urls[1], "each has a line of its own");
    let place = home.manifest()[1]["moved_to"].as_str().expect("it was moved").to_owned();
    assert_eq!(fs::read(home.drop().join(&place)).expect("is there"), png(2));
    assert_eq!(home.sidecar(&place)["blake3"], urls[1]);
}

fn replace(home: &Home) {
    home.drop_file("x.png", &png(2));
    #[expect(clippy::disallowed_methods, reason = "what a user does")]
    fs::remove_file(home.drop().join("done")).expect("removes it");
}

#[test]
fn r21_a_picture_that_took_the_name_of_one_that_a_crash_left_unmoved_is_sent() {
    replaced_before_the_move(|home, agent| {
        agent.kill();
        replace(home);
        let (code, _, log) = home.run(&["--config", "config.toml", "run", "--once"]);
        assert_eq!(code, 0, "{log}");
    });
}

#[test]
fn r21_a_picture_that_took_the_name_of_one_whose_move_is_refused_is_sent() {
    replaced_before_the_move(|home, agent| {
        replace(home);
        home.wait_for_finals(2);
        wait_for("it to be moved", || !home.drop().join("x.png").exists());
        assert!(agent.stop().success());
    });
}

#[test]
fn r12_a_run_once_also_waits_for_what_changed_while_it_was_sent() {
    let home = Home::new();
    let host = FakeHost::start(|_| Reply::StoredAfter(Duration::from_millis(300)));
    home.configure(&host, "");
    home.drop_file("x.png", &png(1));
    let mut agent = home.start_with(&["--config", "config.toml", "run", "--once"]);
    wait_for("it to be sent", || !host.began().is_empty());
    home.drop_file("x.png", &png(2));
    assert!(agent.wait().success());
    assert_eq!((host.received().len(), home.manifest_lines()), (2, 1));
    assert_eq!(fs::read(home.drop().join("done/x.png")).expect("is there"), png(2));
}
