//! Steering: cancel, pause, resume, rescan, from the command line and over the control socket, while much is under way.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::host::{FakeHost, Reply};
use crate::support::{Home, png, wait_for, wait_for_within};

/// How soon a command must have its effect.
const AT_ONCE: Duration = Duration::from_secs(1);

fn run(home: &Home, arguments: &[&str]) -> (i32, String, String) {
    home.run(&[&["--config", "config.toml"], arguments].concat())
}

fn status(home: &Home) -> Value {
    let (code, out, err) = run(home, &["status", "--json"]);
    assert_eq!(code, 0, "{err}");
    serde_json::from_str(&out).expect("JSON")
}

/// The manifest line of a cancelled file, which lies in `failed/`.
fn is_cancelled(home: &Home, name: &str) {
    let lines = home.lines_of(name);
    let finals: Vec<&Value> = lines.iter().filter(|line| crate::support::is_final(line)).collect();
    assert_eq!(finals.len(), 1, "{lines:#?}");
    let error = &finals[0]["error"];
    assert_eq!((&finals[0]["status"], &error["class"]), (&json!("failed"), &json!("cancelled")), "{error:#}");
    assert_eq!(finals[0]["moved_to"], format!("failed/{name}"));
    assert!(error["message"].as_str().expect("a message").starts_with("cancelled by the user"), "{error:#}");
    wait_for("it to lie in failed/", || home.drop().join("failed").join(name).exists());
}

#[test]
fn cancel_ends_what_runs_waits_or_rests_and_closes_its_connection_at_once() {
    let home = Home::new();
    let host = FakeHost::start(|name| match name {
        "resting.png" => Reply::Answer(503, String::new(), "busy".into()),
        _ => Reply::Silent,
    });
    home.configure(&host, "[pool]\nworkers = 2\nqueue = 2\n[retry]\nattempts = 1\n[cooldown]\nfirst = \"5m\"");
    let agent = home.start().ready();
    home.drop_file("resting.png", &png(0));
    wait_for("it to rest", || home.drop().join("retry/resting.png").exists());
    for index in 1..=8 {
        home.drop_file(format!("{index}.png"), &png(index));
    }
    wait_for("two uploads", || host.received().len() == 3 && status(&home)["pool"]["queue_depth"].as_u64() > Some(0));
    let running: Vec<String> = host.received()[1..].iter().map(|received| received.file_name.clone()).collect();

    let began = Instant::now();
    let (code, out, err) = run(&home, &["cancel", &format!("drop/{}", running[0])]);
    assert_eq!((code, out.as_str()), (0, "1 file cancelled\n"), "{err}");
    wait_for_within(AT_ONCE, "its connection to be closed", || {
        host.closed().iter().filter(|at| **at >= began).count() == 1
    });
    wait_for("its line", || home.lines_of(&running[0]).len() == 1);
    is_cancelled(&home, &running[0]);

    let all: Vec<String> = (1..=8).map(|index| format!("drop/{index}.png")).collect();
    let others: Vec<&str> = all.iter().map(String::as_str).filter(|path| !path.ends_with(&running[0])).collect();
    // What runs, what is queued, what waits in the folder, and what rests, by the place where it lies.
    let (code, out, err) = run(&home, &[&["cancel", "drop/retry/resting.png"], others.as_slice()].concat());
    assert_eq!((code, out.as_str()), (0, "8 files cancelled\n"), "{err}");
    wait_for("every line", || home.manifest().iter().filter(|line| crate::support::is_final(line)).count() == 9);
    for index in 1..=8 {
        is_cancelled(&home, &format!("{index}.png"));
    }
    is_cancelled(&home, "resting.png");
    wait_for("no connection", || host.open() == 0);
    wait_for("nine events", || home.events("job-cancelled").len() == 9);

    let (code, out, err) = run(&home, &["cancel", "drop/nothing.png", "drop/1.png"]);
    assert_eq!((code, out.as_str()), (1, "0 files cancelled\n"));
    assert!(err.contains("nothing.png: no waiting") && err.contains("1.png: "), "{err}");
    // A cancelled file is a failed one: it can be tried again.
    host.recover();
    assert_eq!(run(&home, &["retry", "drop/1.png"]).0, 0);
    wait_for("it to be uploaded", || home.drop().join("done/1.png").exists());
    assert!(agent.stop().success());
    assert_eq!(run(&home, &["cancel", "drop/1.png"]).0, 69, "nobody to ask");
}

#[test]
fn a_paused_host_finishes_what_runs_starts_nothing_and_stays_paused_over_a_restart() {
    let home = Home::new();
    let slow = FakeHost::start(|_| Reply::StoredAfter(Duration::from_millis(60)));
    let other = FakeHost::well();
    home.configure_hosts(&[("slow", &slow), ("other", &other)], "", "");
    let agent = home.start().ready();
    for index in 0..500 {
        home.drop_file(format!("{index}.png"), &png(index));
    }
    wait_for("some uploads", || slow.received().len() >= 4);
    let (code, out, err) = run(&home, &["pause", "slow"]);
    let paused = Instant::now();
    assert_eq!(code, 0, "{err}");
    assert!(out.starts_with("paused slow\n") && out.contains("may finish"), "{out}");
    wait_for("what runs to finish", || slow.open() == 0 || status(&home)["hosts"][1]["running"] == 0);
    let begun = slow.began().len();
    wait_for("their lines", || home.manifest_lines() == begun);
    home.drop_into("other", "x.png", &png(1));
    wait_for("the other host to go on", || other.received().len() == 1);
    assert!(slow.began().iter().all(|at| *at < paused + AT_ONCE), "nothing new");
    let hosts = status(&home)["hosts"].clone();
    let is_held = |name: &str| {
        let host = hosts.as_array().expect("hosts").iter().find(|host| host["name"] == name).expect("it");
        host["held_since"].is_string()
    };
    assert!(is_held("slow") && !is_held("other"), "{hosts:#}");
    let (_, text, _) = run(&home, &["status"]);
    assert!(text.contains("paused by you"), "{text}");
    assert_eq!(run(&home, &["pause", "slow"]).1, "host slow was paused already\n");

    assert!(agent.stop().success());
    let agent = home.start().ready();
    home.drop_into("other", "y.png", &png(2));
    wait_for("the other host to go on", || other.received().len() == 2);
    assert_eq!(slow.began().len(), begun, "still paused");
    let (code, out, err) = run(&home, &["resume"]);
    assert_eq!((code, out.as_str()), (0, "resumed slow\n"), "{err}");
    wait_for_within(AT_ONCE, "it to go on", || slow.began().len() > begun);
    home.wait_for_finals(500);
    assert_eq!(slow.received().len(), 500, "none twice");
    assert_eq!((home.events("host-paused").len(), home.events("host-resumed").len()), (1, 1));
    assert!(agent.stop().success());
}

#[test]
fn a_paused_folder_gives_its_place_to_the_others_and_goes_on_where_it_was() {
    let home = Home::new();
    let host = FakeHost::start(|_| Reply::StoredAfter(Duration::from_millis(20)));
    let other = home.path("other");
    fs::create_dir_all(&other).expect("a folder");
    let path = home.configure_folder(&host, "[pool]\nworkers = 2\nqueue = 4", "");
    let text = fs::read_to_string(&path).expect("written");
    fs::write(&path, format!("{text}[[folder]]\npath = {other:?}\nhost = \"pixhost\"\nsettle = \"200ms\"\n"))
        .expect("written");
    let agent = home.start().ready();
    for index in 0..100 {
        home.drop_file(format!("{index}.png"), &png(index));
    }
    wait_for("some uploads", || host.received().len() >= 4);
    let (code, out, err) = run(&home, &["pause", "drop/"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.starts_with(&format!("paused {}\n", home.drop().display())), "{out}");
    wait_for("what runs to finish", || status(&home)["attempts"].as_array().is_some_and(Vec::is_empty));
    let begun = host.began().len();
    home.drop_into("other", "x.png", &png(1_000));
    wait_for("the other folder to go on", || host.times("x.png") == 1);
    assert_eq!(host.began().len(), begun + 1, "nothing of the paused folder");
    assert!(agent.stop().success());

    let agent = home.start().ready();
    home.drop_into("other", "y.png", &png(1_001));
    wait_for("the other folder to go on", || host.times("y.png") == 1);
    assert_eq!(host.began().len(), begun + 2, "still paused");
    let folder = &status(&home)["folders"][0];
    assert!(folder["held_since"].is_string(), "{folder:#}");
    assert_eq!(run(&home, &["resume", "drop"]).0, 0);
    home.wait_for_finals(100);
    assert_eq!(host.received().len(), 102, "none twice");
    assert_eq!((home.events("folder-paused").len(), home.events("folder-resumed").len()), (1, 1));
    assert!(agent.stop().success());
}

#[test]
fn resume_ends_the_rest_of_a_host_and_unknown_names_get_a_suggestion() {
    let home = Home::new();
    let limit = Reply::Answer(429, "retry-after: 600\r\n".into(), "{}".into());
    let host = FakeHost::at_first(vec![limit]);
    home.configure(&host, "");
    let agent = home.start().ready();
    home.drop_file("first.png", &png(1));
    wait_for("the rest", || status(&home)["hosts"][0]["paused_until"].is_string());
    home.drop_file("second.png", &png(2));
    assert_eq!(run(&home, &["resume", "pixhost"]).1, "resumed pixhost\n");
    wait_for_within(AT_ONCE, "it to go on", || host.times("second.png") == 1);
    assert_eq!(run(&home, &["resume", "pixhost"]).1, "host pixhost was not paused\n");

    let (code, out, err) = run(&home, &["pause", "pixhots"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("did you mean pixhost?"), "{err}");
    let (code, out, _) = run(&home, &["rescan"]);
    assert_eq!((code, out.as_str()), (0, "1 folder is scanned now\n"));
    let (code, out, _) = run(&home, &["pause"]);
    assert_eq!((code, out.as_str()), (0, "paused pixhost\n"));
    assert_eq!(run(&home, &["--once"]).0, 2, "no such thing");
    assert!(agent.stop().success());
    // What the user paused is not waited for.
    assert_eq!(run(&home, &["run", "--once"]).0, 0);
    assert_eq!(run(&home, &["resume"]).0, 69);
}
