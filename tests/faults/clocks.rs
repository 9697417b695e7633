//! A wall clock that jumps a year while files rest and settle, by a library that is loaded before the C library. Monotonic
//! time goes on as it is.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::scene::Scene;
use crate::support::host::Reply;
use crate::support::{png, wait_for, wait_for_within};

/// How long a jump may hold up what rests: due jobs are looked for this often at least, and a second for the work.
const TICK: Duration = Duration::from_secs(45);

/// So many requests are refused at first: enough for each file to rest.
const REFUSED: usize = 10;

#[test]
fn r28_a_clock_that_jumps_a_year_delays_nothing_beyond_a_tick_and_sends_nothing_again() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let library = &dir.path().join("clock.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faults/clock.c");
    let built = Command::new("cc").args(["-shared", "-fPIC", "-O2", "-o"]).arg(library).arg(source).status();
    if !cfg!(target_os = "linux") || !built.is_ok_and(|status| status.success()) {
        println!("skipped: no library can be built here that moves the clock of one process");
        return;
    }
    std::thread::scope(|scope| {
        for step in ["-31536000", "+31536000"] {
            for restarts in [false, true] {
                scope.spawn(move || jump(library, step, restarts));
            }
        }
    });
}

fn jump(library: &Path, step: &str, restarts: bool) {
    let refused = AtomicUsize::new(0);
    let reply = move |name: &str| match name {
        "" => Reply::Stored,
        _ if refused.fetch_add(1, Ordering::SeqCst) < REFUSED => {
            Reply::Answer(500, String::new(), "<html>busy</html>".to_owned())
        }
        _ => Reply::Stored,
    };
    let scene = Scene::with_host(reply, "", "");
    let clock = scene.home.path("clock");
    fs::write(&clock, "+0").expect("sets the clock");
    let start = || {
        let mut command = scene.home.command();
        command.args(["--config", "config.toml", "run"]).env("LD_PRELOAD", library).env("FAKE_CLOCK", &clock);
        scene.home.spawn(command)
    };
    let mut agent = start().ready();
    wait_for("files that rest", || scene.home.manifest().iter().any(|line| line["status"] == "deferred"));
    if restarts {
        agent.kill();
        fs::write(&clock, step).expect("sets the clock");
        agent = start().ready();
    } else {
        fs::write(&clock, step).expect("sets the clock");
    }
    let rest = format!("all files to be uploaded ({step}, {restarts})");
    wait_for_within(TICK, &rest, || {
        scene.home.manifest().iter().filter(|line| line["status"] == "uploaded" || line["status"] == "linked").count()
            == 4
    });
    // What comes now has a time of change a year away from now.
    scene.home.drop_file("later.png", &png(90));
    scene.home.wait_for_line("later.png", 1);
    assert!(agent.stop().success());
    assert_eq!(scene.home.events("job-timeout").len(), 0, "no deadline came early");
    let stored = scene.host.received().len();
    // Twins that are on their way at the same time are both sent; and once more what a kill cut off, at most the four there are.
    let more = if restarts { 4 } else { 0 };
    assert!(
        (REFUSED + 4..=REFUSED + 5 + more).contains(&stored),
        "{stored} requests ({step}, {restarts}): the refused ones, and one for each image"
    );
}
