//! The failure this program was written against: hosts that hang. They may cost their own files time, and nothing else.

use std::time::Duration;

use serde_json::json;

use crate::support::host::{FakeHost, Reply};
use crate::support::{Home, jpeg, png, wait_for, wait_for_within};

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
    eight_hold_up_nobody(Reply::Silent);
}

/// What arrives of an answer is no reason to hold a worker, nor a place in the window.
#[test]
fn r13_eight_answers_that_drip_do_not_hold_up_two_hundred_on_the_same_host() {
    eight_hold_up_nobody(Reply::Drips);
}

fn eight_hold_up_nobody(hang: Reply) {
    let home = Home::new();
    let host = FakeHost::start(move |name| if name.starts_with("hang") { hang.clone() } else { hangs(name) });
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
fn r14_on_a_slow_line_large_files_go_one_after_the_other_instead_of_timing_out_together() {
    let home = Home::new();
    // 400 KB a second for all together: three files need 3 s each, and 9 s side by side.
    let host = FakeHost::start(|_| Reply::InTurns(8_000, Duration::from_millis(20)));
    home.configure(&host, "[pool]\nrequest_timeout = \"8s\"\nfile_timeout = \"9s\"\nmin_rate = \"0\"\n");
    for index in 0..3 {
        home.drop_file(format!("{index}.jpg"), &jpeg(1_200_000, index));
    }
    let (code, _, log) = home.run(&["--config", "config.toml", "run", "--once"]);
    assert_eq!(code, 0, "{log}");
    assert!(home.manifest().iter().all(|line| line["status"] == "uploaded" && line["attempts"] == 1), "{log}");
    // The end of one is in the system's buffers when the next begins.
    assert!(host.most_on_line() <= 2, "{} at once", host.most_on_line());
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
