//! What is said about a folder means everything in it: retry, cancel, and the patterns of `include` and `exclude`.

use std::fs;

use serde_json::Value;

use crate::support::host::{FakeHost, Reply};
use crate::support::{Home, is_final, png, wait_for};

fn run(home: &Home, arguments: &[&str]) -> (i32, String, String) {
    home.run(&[&["--config", "config.toml"], arguments].concat())
}

/// A host that is down until it recovers, and files that rest or were given up.
const DOWN: &str = "[retry]\nattempts = 1\n[cooldown]\nfirst = \"1h\"\n[flow]\ncircuit_failures = 100";

fn down() -> FakeHost {
    FakeHost::start(|_| Reply::Answer(503, String::new(), "down".into()))
}

#[test]
fn retry_of_a_folder_means_what_rests_or_has_failed_in_it() {
    let (home, host) = (Home::new(), down());
    home.configure(&host, DOWN);
    let agent = home.start().ready();
    for (index, name) in ["a.png", "trip/b.png", "trip/day/c.png", "other/d.png"].into_iter().enumerate() {
        home.drop_file(name, &png(u32::try_from(index).expect("few")));
    }
    for name in ["a.png", "trip/b.png", "trip/day/c.png", "other/d.png"] {
        wait_for("it to rest", || home.drop().join("retry").join(name).exists());
    }
    host.recover();
    // By the name that it was dropped with, and by where it lies.
    let (code, out, err) = run(&home, &["retry", "drop/trip"]);
    assert_eq!((code, out.as_str()), (0, "2 files queued again\n"), "{err}");
    wait_for("both", || ["b.png", "day/c.png"].iter().all(|name| home.drop().join("done/trip").join(name).exists()));
    assert!(home.drop().join("retry/a.png").exists(), "it was not meant");
    let (code, out, err) = run(&home, &["retry", "drop/retry/other"]);
    assert_eq!((code, out.as_str()), (0, "1 file queued again\n"), "{err}");
    let (code, out, err) = run(&home, &["retry", "drop"]);
    assert_eq!((code, out.as_str()), (0, "1 file queued again\n"), "{err}");
    wait_for("all", || home.manifest().iter().filter(|line| line["status"] == "uploaded").count() == 4);
    let (code, _, err) = run(&home, &["retry", "drop/trip"]);
    assert_eq!(code, 1);
    assert!(err.contains("no resting or failed upload of this name, or in a folder of this name"), "{err}");
    let (code, _, err) = run(&home, &["retry", "drop/done/a.png"]);
    assert_eq!(code, 1);
    assert!(err.contains("a.png: it is uploaded already; `pixchute find` shows its link"), "{err}");
    assert!(agent.stop().success());
}

#[test]
fn cancel_of_a_folder_means_what_rests_waits_or_is_sent_in_it() {
    let home = Home::new();
    let host = FakeHost::start(|name| match name {
        "rests.png" => Reply::Answer(503, String::new(), "down".into()),
        _ => Reply::Silent,
    });
    home.configure(&host, &format!("[pool]\nworkers = 2\nqueue = 2\n{DOWN}"));
    let agent = home.start().ready();
    home.drop_file("trip/rests.png", &png(0));
    wait_for("it to rest", || home.drop().join("retry/trip/rests.png").exists());
    for index in 1..=6 {
        home.drop_file(format!("trip/{index}.png"), &png(index));
    }
    home.drop_file("stays.png", &png(7));
    home.drop_file("trip/notes.txt", b"no picture");
    wait_for("uploads", || host.received().len() >= 3);
    let (code, out, err) = run(&home, &["cancel", "drop/trip"]);
    assert_eq!((code, out.as_str()), (0, "7 files cancelled\n"), "{err}");
    let cancelled = |line: &&Value| is_final(line) && line["error"]["class"] == "cancelled";
    wait_for("seven lines", || home.manifest().iter().filter(cancelled).count() == 7);
    assert!(home.lines_of("stays.png").is_empty() && home.drop().join("stays.png").exists(), "it was not meant");
    assert!(home.drop().join("trip/notes.txt").exists(), "what is no picture is left alone");
    let (code, out, err) = run(&home, &["cancel", "drop/trip"]);
    assert_eq!((code, out.as_str()), (1, "0 files cancelled\n"));
    assert!(err.contains("nothing in this folder waits, is being uploaded or rests"), "{err}");
    assert!(agent.stop().success());
}

#[test]
fn patterns_with_a_slash_are_compared_with_the_path_below_the_drop_folder() {
    let (home, host) = (Home::new(), FakeHost::well());
    let patterns = "include = [\"*.png\", \"raw/*.gif\"]\nexclude = [\"private/**\", \"drafts\"]";
    home.configure_folder(&host, "", patterns);
    let taken = ["a.png", "trip/private/b.png", "raw/c.png"];
    let left = ["private/d.png", "private/deep/e.png", "trip/drafts/f.png", "raw/deep/g.gif"];
    for (index, name) in taken.iter().chain(&left).enumerate() {
        home.drop_file(name, &png(u32::try_from(index).expect("few")));
    }
    let (code, out, err) = run(&home, &["run", "--once"]);
    assert_eq!(code, 0, "{out}{err}");
    let mut uploaded: Vec<String> =
        home.manifest().iter().filter_map(|line| Some(line["file"].as_str()?.to_owned())).collect();
    uploaded.sort_unstable();
    assert_eq!(uploaded, ["a.png", "raw/c.png", "trip/private/b.png"]);
    assert!(left.iter().all(|name| fs::exists(home.drop().join(name)).expect("a look")));
}

#[test]
fn the_last_line_of_a_file_says_what_can_be_done() {
    let home = Home::new();
    let host = down();
    let never = "[retry]\nattempts = 1\n[cooldown]\nfirst = \"10ms\"\nmax = \"20ms\"\nrequeues = 0";
    home.configure(&host, never);
    home.drop_file("down.png", &png(1));
    home.drop_file("text.png", b"no picture at all");
    assert_eq!(run(&home, &["run", "--once"]).0, 1);
    for (name, word) in [("down.png", "`pixchute retry`"), ("text.png", "convert it")] {
        let line = home.lines_of(name).pop().expect("a line");
        let advice = line["error"]["advice"].as_str().unwrap_or_default();
        assert!(line["status"] == "failed" && advice.contains(word), "{line:#}");
    }
}
