//! The failure this program was written against: hosts that hang. They may cost their own files time, and nothing else.

use std::time::Duration;

use serde_json::json;

use crate::support::host::{FakeHost, Reply};
use crate::support::{Home, png, wait_for, wait_for_within};

/// How long the files that do not hang may take: far less than the stall limit that the others wait for.
const NOT_LATE: Duration = Duration::from_secs(20);

fn hangs(name: &str) -> Reply {
    if name.starts_with("hang") { Reply::Silent } else { Reply::StoredAfter(Duration::from_millis(20)) }
}

fn uploaded(home: &Home) -> usize {
    home.manifest().iter().filter(|line| line["status"] == "uploaded").count()
}

#[test]
fn r13_eight_files_that_hang_do_not_hold_up_two_hundred_on_the_same_host() {
    let home = Home::new();
    let host = FakeHost::start(hangs);
    home.configure(&host, "");
    for index in 0..8 {
        home.drop_file(format!("hang-{index}.png"), &png(index));
    }
    let agent = home.start().ready();
    wait_for("the pool to be full of files that hang", || host.began().len() >= 3);
    for index in 100..300 {
        home.drop_file(format!("{index}.png"), &png(index));
    }
    wait_for_within(NOT_LATE, "the others to be done", || uploaded(&home) == 200);
    let lines = home.manifest();
    assert!(lines.iter().all(|line| line["status"] == "uploaded"), "the eight are still under way: no line of theirs");
    assert!(lines.iter().all(|line| line["attempts"] == json!(1)));
    assert!(host.open() <= 16, "bounded by window and late attempts: {}", host.open());
    agent.kill();
}

#[test]
fn r13_eight_files_that_hang_do_not_hold_up_another_host() {
    let home = Home::new();
    let (silent, well) = (FakeHost::start(|_| Reply::Silent), FakeHost::start(hangs));
    home.configure_hosts(&[("silent", &silent), ("well", &well)], "", "");
    let agent = home.start().ready();
    for index in 0..8 {
        home.drop_file(format!("hang-{index}.png"), &png(index));
    }
    wait_for("the silent host to be asked", || !silent.began().is_empty());
    for index in 100..300 {
        home.drop_into("well", format!("{index}.png"), &png(index));
    }
    wait_for_within(NOT_LATE, "the others to be done", || well.received().len() == 200);
    assert!(silent.open() <= 16);
    agent.kill();
}

#[test]
fn a_log_that_nobody_reads_does_not_stop_uploads() {
    let home = Home::new();
    let host = FakeHost::well();
    home.configure(&host, "[log]\nlevel = \"debug\"\nformat = \"json\"\n");
    let mut command = home.command();
    // Pipes that are never read: 64 KiB each.
    let mut child = command
        .args(["--config", "config.toml", "run"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("starts");
    for index in 0..300 {
        home.drop_file(format!("{index}.png"), &png(index));
    }
    wait_for("all of them", || uploaded(&home) == 300);
    child.kill().expect("kills it");
    child.wait().expect("reaps it");
}
