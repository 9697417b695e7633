//! What survives `kill -9`, SIGTERM, a lost ledger and a second agent.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::support::host::{FakeHost, Reply};
use crate::support::{Home, png, wait_for};

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
