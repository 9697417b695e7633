//! Rests: of a host that asks for one, of a file between its tries, and what ends them.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::host::{FakeHost, Reply};
use crate::support::{Home, millis, png, wait_for};

fn status(home: &Home) -> Value {
    let (code, out, err) = home.run(&["--config", "config.toml", "status", "--json"]);
    assert_eq!(code, 0, "{err}");
    serde_json::from_str(&out).expect("JSON")
}

#[test]
fn r17_a_rate_limit_rests_the_host_and_not_the_others_and_outlives_a_restart() {
    let home = Home::new();
    let limit = || Reply::Answer(429, "retry-after: 5\r\n".into(), "{}".into());
    let limited = FakeHost::at_first(vec![limit()]);
    let other = FakeHost::well();
    home.configure_hosts(&[("limited", &limited), ("other", &other)], "", "");
    let agent = home.start().ready();
    home.drop_file("first.png", &png(1));
    let line = home.wait_for_line("first.png", 1);
    let told = Instant::now();
    let error = &line["error"];
    assert_eq!(
        (&line["status"], &error["class"], &error["http_status"]),
        (&json!("deferred"), &json!("rate_limited"), &json!(429))
    );
    let rest = millis(&error["next_try_at"]) - millis(&line["at"]);
    assert!((4_900..=5_100).contains(&rest), "as long as asked: {rest} ms");
    let paused = &status(&home)["hosts"][0];
    assert_eq!((&paused["name"], &paused["paused_until"].is_string()), (&json!("limited"), &true), "{paused:#}");

    for index in 2..6 {
        home.drop_file(format!("{index}.png"), &png(index));
        home.drop_into("other", format!("{index}.png"), &png(index));
    }
    wait_for("the other host to go on", || other.received().len() == 4);
    assert!(agent.stop().success());
    let agent = home.start().ready();
    home.drop_into("other", "again.png", &png(9));
    wait_for("the other host to go on", || other.received().len() == 5);
    if told.elapsed() < Duration::from_millis(4_500) {
        assert_eq!(limited.received().len(), 1, "nothing during the rest");
    }
    home.wait_for_finals(5);
    let began = limited.began();
    let pause = began[1].duration_since(began[0]);
    assert!(pause > Duration::from_millis(4_900), "asked again after {pause:?}");
    assert_eq!(began.len(), 6);
    for line in home.manifest().iter().filter(|line| line["status"] == "uploaded") {
        assert_eq!(line["requeues"], 0, "a rest of the host costs the file nothing: {line:#}");
    }
    assert_eq!(home.manifest().len(), 6);
    assert!(!home.events("host-paused").is_empty() && !home.events("host-resumed").is_empty());
    assert!(agent.stop().success());
}

#[test]
fn tries_have_growing_gaps_and_a_rested_file_goes_by_itself_from_retry_to_done() {
    let home = Home::new();
    let busy = || Reply::Answer(503, String::new(), "busy".into());
    let host = FakeHost::at_first((0..4).map(|_| busy()).collect());
    let config = "[retry]\nbackoff = \"200ms\"\n[cooldown]\nfirst = \"2s\"\n";
    home.configure(&host, config);
    let agent = home.start().ready();
    home.drop_file("x.png", &png(1));
    let line = home.wait_for_line("x.png", 1);
    assert_eq!((&line["status"], &line["moved_to"]), (&json!("deferred"), &json!("retry/x.png")));
    wait_for("the file in retry/", || home.files() == ["retry/x.png", "retry/x.png.json"]);

    let last = home.wait_for_line("x.png", 2);
    assert_eq!((&last["status"], &last["attempts"], &last["requeues"]), (&json!("uploaded"), &json!(2), &json!(1)));
    wait_for("the file in done/", || home.files() == ["done/x.png", "done/x.png.json"]);
    let began = host.began();
    let gaps: Vec<u128> = began.windows(2).map(|pair| pair[1].duration_since(pair[0]).as_millis()).collect();
    assert_eq!(gaps.len(), 4);
    assert!(gaps[0] >= 180 && gaps[1] >= 360 && gaps[2] >= 720, "200, 400, 800 ms, a tenth less at most: {gaps:?}");
    assert!(gaps[0] < gaps[1] && gaps[1] < gaps[2], "{gaps:?}");
    assert!(gaps[3] >= 1_800, "the rest of the file: {gaps:?}");
    assert_eq!(home.events_of("job-requeued", "x.png").len(), 1);
    assert!(agent.stop().success());
}

#[test]
fn after_the_last_requeue_the_file_fails_and_stays_in_failed() {
    let home = Home::new();
    let host = FakeHost::start(|_| Reply::Answer(500, String::new(), String::new()));
    let config = "[retry]\nattempts = 1\n[cooldown]\nfirst = \"200ms\"\nrequeues = 2\n";
    home.configure(&host, config);
    let agent = home.start().ready();
    home.drop_file("x.png", &png(1));
    home.wait_for_finals(1);
    let lines = home.lines_of("x.png");
    let statuses: Vec<&str> = lines.iter().filter_map(|line| line["status"].as_str()).collect();
    assert_eq!(statuses, ["deferred", "deferred", "failed"]);
    assert_eq!((&lines[2]["requeues"], &lines[2]["error"]["next_try_at"]), (&json!(2), &Value::Null));
    wait_for("the file in failed/", || home.files() == ["failed/x.png", "failed/x.png.json"]);
    assert_eq!(host.received().len(), 3);
    assert_eq!(home.events_of("job-failed", "x.png").len(), 1);
    assert!(agent.stop().success());
}

#[test]
fn a_file_that_is_removed_while_it_rests_is_not_sent() {
    let home = Home::new();
    let host = FakeHost::at_first(vec![Reply::Answer(500, String::new(), String::new())]);
    home.configure(&host, "[retry]\nattempts = 1\n[cooldown]\nfirst = \"1s\"\n");
    let agent = home.start().ready();
    home.drop_file("x.png", &png(1));
    wait_for("the file in retry/", || home.drop().join("retry/x.png").exists() && home.lines_of("x.png").len() == 1);
    #[expect(clippy::disallowed_methods, reason = "what a user does")]
    fs::remove_file(home.drop().join("retry/x.png")).expect("removes it");
    home.events_of("job-cancelled", "x.png");
    home.drop_file("y.png", &png(2));
    home.wait_for_line("y.png", 1);
    assert_eq!((host.times("x.png"), home.lines_of("x.png").len()), (1, 1));
    wait_for("the sidecar to be gone with it", || home.files() == ["done/y.png", "done/y.png.json"]);
    assert!(agent.stop().success());
}

#[test]
fn retry_all_brings_back_what_rests_and_what_has_failed() {
    let home = Home::new();
    let host = FakeHost::start(|name| {
        let refuse = |status| Reply::Answer(status, String::new(), String::new());
        if name.starts_with("bad") { refuse(415) } else { refuse(500) }
    });
    home.configure(&host, "[retry]\nattempts = 1\n[cooldown]\nfirst = \"1h\"\n");
    let agent = home.start().ready();
    home.drop_file("bad.png", &png(1));
    home.drop_file("trip/busy.png", &png(2));
    wait_for("both to lie where they belong", || {
        home.files() == ["failed/bad.png", "failed/bad.png.json", "retry/trip/busy.png", "retry/trip/busy.png.json"]
    });
    home.events_of("job-failed", "bad.png");
    home.events_of("job-deferred", "trip/busy.png");
    host.recover();
    let (code, _, err) = home.run(&["--config", "config.toml", "retry", "drop/nothing.png"]);
    assert!(code == 1 && err.contains("drop/nothing.png"), "{code}: {err}");
    let (code, out, err) = home.run(&["--config", "config.toml", "retry", "--all"]);
    assert_eq!((code, out.as_str()), (0, "2 files queued again\n"), "{err}");
    wait_for("both in done/", || {
        home.files() == ["done/bad.png", "done/bad.png.json", "done/trip/busy.png", "done/trip/busy.png.json"]
    });
    assert!(agent.stop().success());
}
