//! Several hosts for one folder: who gets a file when one rests, fails, refuses or hangs, and that a mirrored file reaches
//! each of them exactly once (R20).

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::host::{FakeHost, Reply};
use crate::support::{Home, is_final, millis, picture, png, wait_for};

/// One folder for these hosts, in this order.
fn configure(home: &Home, hosts: &[(&str, &FakeHost)], policy: &str, more: &str) {
    let names: Vec<&str> = hosts.iter().map(|(name, _)| *name).collect();
    let mut text = format!(
        "{more}\n[server]\nlisten = \"off\"\n[[folder]]\npath = {:?}\nhosts = {names:?}\npolicy = \"{policy}\"\nsettle = \"200ms\"\n",
        home.drop()
    );
    for (name, host) in hosts {
        let _ = write!(text, "[host.{name}]\nrecipe = \"pixhost\"\nbase_url = \"{}\"\n", host.url());
    }
    home.write_config(&text);
}

fn answer(status: u16) -> Reply {
    Reply::Answer(status, String::new(), "{}".into())
}

fn hosts_of(lines: &[Value]) -> HashMap<String, usize> {
    let mut hosts = HashMap::new();
    for line in lines.iter().filter(|line| is_final(line)) {
        *hosts.entry(line["host"].as_str().expect("a name").to_owned()).or_default() += 1;
    }
    hosts
}

#[test]
fn r20_while_the_first_host_rests_the_next_one_takes_the_files_and_afterwards_the_first_again() {
    let home = Home::new();
    let limit = Reply::Answer(429, "retry-after: 3\r\n".into(), "{}".into());
    let (first, second) = (FakeHost::at_first(vec![limit]), FakeHost::well());
    configure(&home, &[("first", &first), ("second", &second)], "failover", "");
    let agent = home.start().ready();
    home.drop_file("0.png", &png(0));
    let line = home.wait_for_line("0.png", 1);
    assert_eq!((&line["status"], &line["host"]), (&json!("uploaded"), &json!("second")), "at once: {line:#}");
    assert_eq!((&line["attempts"], &line["requeues"]), (&json!(2), &json!(0)));
    for index in 1..6 {
        home.drop_file(format!("{index}.png"), &png(index));
    }
    home.wait_for_finals(6);
    assert_eq!((first.received().len(), second.received().len()), (1, 6), "no request to the one that rests");
    wait_for("the first to be back", || !home.events("host-resumed").is_empty());
    home.drop_file("last.png", &png(99));
    assert_eq!(home.wait_for_line("last.png", 1)["host"], "first");
    assert_eq!((first.received().len(), second.received().len()), (2, 6));
    assert_eq!(home.manifest_lines(), 7, "one line each");
    assert!(agent.stop().success());
}

#[test]
fn r20_when_the_tries_at_one_host_are_used_up_the_next_one_is_tried_before_the_file_rests() {
    let home = Home::new();
    let down = || FakeHost::start(|_| answer(500));
    let (first, second, third) = (down(), down(), FakeHost::well());
    let quick = "[retry]\nattempts = 2\nbackoff = \"50ms\"\n";
    configure(&home, &[("first", &first), ("second", &second), ("third", &third)], "failover", quick);
    let agent = home.start().ready();
    home.drop_file("x.png", &png(1));
    let line = home.wait_for_line("x.png", 1);
    assert_eq!((&line["status"], &line["host"], &line["attempts"]), (&json!("uploaded"), &json!("third"), &json!(3)));
    assert_eq!((first.received().len(), second.received().len(), third.received().len()), (2, 2, 1));
    wait_for("the file in done/", || home.files() == ["done/x.png", "done/x.png.json"]);
    let passed_on = home.events_of("job-deferred", "x.png");
    assert_eq!(passed_on.len(), 2);
    assert!(passed_on[0]["message"].as_str().expect("a text").contains("its next host is tried"), "{passed_on:#?}");
    assert!(agent.stop().success());
}

#[test]
fn r20_a_file_rests_until_the_first_of_its_hosts_is_back_and_the_line_says_what_it_waits_for() {
    let home = Home::new();
    let two_hours = Reply::Answer(429, "retry-after: 7200\r\n".into(), "{}".into());
    let (first, second) = (FakeHost::at_first(vec![answer(500), two_hours]), FakeHost::well());
    configure(&home, &[("first", &first), ("second", &second)], "failover", "[retry]\nattempts = 1\n");
    let text = std::fs::read_to_string(home.path("config.toml")).expect("the configuration");
    home.write_config(&format!("{text}quota = \"1/m\"\n"));
    let agent = home.start().ready();
    home.drop_file("0.png", &png(0));
    assert_eq!(home.wait_for_line("0.png", 1)["host"], "second", "it has used up its quota with this");
    home.drop_file("1.png", &png(1));
    let line = home.wait_for_line("1.png", 1);
    let error = &line["error"];
    let message = error["message"].as_str().expect("a text");
    assert!(message.starts_with("second is not used for now: its quota is used up"), "{line:#}");
    let rest = millis(&error["next_try_at"]) - millis(&line["at"]);
    assert!((1..=70_000).contains(&rest), "a minute, not two hours: {rest} ms");
    assert!(agent.stop().success());
}

#[test]
fn when_every_host_fails_the_file_rests_once_and_the_line_says_why_for_each() {
    let home = Home::new();
    let (first, second) = (FakeHost::start(|_| answer(500)), FakeHost::start(|_| answer(503)));
    let quick = "[retry]\nattempts = 1\n[cooldown]\nfirst = \"1h\"\n";
    configure(&home, &[("first", &first), ("second", &second)], "failover", quick);
    let agent = home.start().ready();
    home.drop_file("x.png", &png(1));
    let line = home.wait_for_line("x.png", 1);
    assert_eq!((&line["status"], &line["attempts"], &line["requeues"]), (&json!("deferred"), &json!(2), &json!(0)));
    let message = line["error"]["message"].as_str().expect("a text");
    assert!(message.contains("first answered 500") && message.contains("second answered 503"), "{message}");
    first.recover();
    second.recover();
    wait_for("it to be on record", || home.events("job-deferred").len() == 2);
    let (code, _, err) = home.run(&["--config", "config.toml", "retry", "drop/x.png"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(home.wait_for_line("x.png", 2)["host"], "first", "the first host is asked first again");
    assert!(agent.stop().success());
}

#[test]
fn after_an_unknown_outcome_the_file_rests_before_another_host_gets_it() {
    let home = Home::new();
    let (first, second) = (FakeHost::at_first(vec![Reply::Silent]), FakeHost::well());
    let limits = "[pool]\nrequest_timeout = \"1s\"\nstall_timeout = \"1s\"\n[cooldown]\nfirst = \"1s\"\n";
    configure(&home, &[("first", &first), ("second", &second)], "failover", limits);
    let agent = home.start().ready();
    home.drop_file("x.png", &png(1));
    let line = home.wait_for_line("x.png", 1);
    assert_eq!((&line["host"], &line["error"]["class"]), (&json!("first"), &json!("unknown_outcome")), "{line:#}");
    assert_eq!(second.received().len(), 0);
    assert_eq!(home.wait_for_line("x.png", 2)["status"], "uploaded");
    assert_eq!(first.received().len() + second.received().len(), 2);
    assert!(agent.stop().success());
}

#[test]
fn r20_a_type_that_one_host_refuses_goes_to_the_next_without_a_request() {
    let home = Home::new();
    let first = FakeHost::well();
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[[folder]]\npath = {:?}\nhosts = [\"first\", \"local\"]\nsettle = \"200ms\"\n\
         [host.first]\nrecipe = \"pixhost\"\nbase_url = \"{}\"\n",
        home.drop(),
        first.url()
    );
    home.write_config(&text);
    home.drop_file("x.webp", &picture(7, image::ImageFormat::WebP));
    home.drop_file("y.png", &png(1));
    let (code, _, log) = home.run(&["--config", "config.toml", "run", "--once"]);
    assert_eq!(code, 0, "{log}");
    assert_eq!(home.wait_for_line("x.webp", 1)["host"], "local");
    assert_eq!(home.wait_for_line("y.png", 1)["host"], "first");
    assert_eq!((first.accepted().min(1), first.times("x.webp")), (1, 0));
}

#[test]
fn r20_round_robin_spreads_evenly_and_links_what_any_host_has() {
    let home = Home::new();
    let slow = || FakeHost::start(|_| Reply::StoredAfter(Duration::from_millis(20)));
    let (one, two, three) = (slow(), slow(), slow());
    configure(&home, &[("one", &one), ("two", &two), ("three", &three)], "round_robin", "");
    for index in 0..60 {
        home.drop_file(format!("{index}.png"), &png(index));
    }
    let once = || home.run(&["--config", "config.toml", "run", "--once"]);
    assert_eq!(once().0, 0);
    let shares = hosts_of(&home.manifest());
    assert_eq!(shares.len(), 3);
    assert!(shares.values().all(|share| (18..=22).contains(share)), "{shares:?}");
    assert_eq!([&one, &two, &three].map(|host| host.received().len()).iter().sum::<usize>(), 60);

    home.drop_file("again.png", &png(7));
    assert_eq!(once().0, 0);
    let line = home.wait_for_line("again.png", 1);
    assert_eq!(line["status"], "linked", "whichever host has it");
    let of_first = home.wait_for_line("7.png", 1);
    assert_eq!((&line["host"], &line["url"]), (&of_first["host"], &of_first["url"]));
}

#[test]
fn a_host_of_a_round_that_hangs_costs_the_others_nothing() {
    let home = Home::new();
    let (well, hung) = (FakeHost::well(), FakeHost::start(|_| Reply::Silent));
    configure(&home, &[("well", &well), ("hung", &hung)], "round_robin", "[pool]\ndrain = \"100ms\"\n");
    for index in 0..60 {
        home.drop_file(format!("{index}.png"), &png(index));
    }
    let agent = home.start().ready();
    home.wait_for_finals(45);
    assert_eq!(hosts_of(&home.manifest()).keys().collect::<Vec<_>>(), ["well"]);
    assert!(agent.stop().success());
}

#[test]
fn r20_a_mirrored_file_has_one_line_with_the_links_of_every_host() {
    let home = Home::new();
    let (a, b, c) = (FakeHost::well(), FakeHost::start(|_| answer(415)), FakeHost::well());
    configure(&home, &[("a", &a), ("b", &b), ("c", &c)], "mirror", "");
    let agent = home.start().ready();
    home.drop_file("x.png", &png(1));
    let line = home.wait_for_line("x.png", 1);
    assert_eq!((&line["status"], &line["host"]), (&json!("uploaded"), &json!("a")), "{line:#}");
    let mirrors = line["mirrors"].as_array().expect("an array");
    let hosts: Vec<&Value> = mirrors.iter().map(|mirror| &mirror["host"]).collect();
    assert_eq!(hosts, ["a", "b", "c"]);
    assert_eq!(mirrors[0]["url"], line["url"]);
    assert!(mirrors[2]["url"].is_string() && mirrors[2]["thumb"].is_string() && mirrors[2]["error"].is_null());
    assert_eq!((&mirrors[1]["url"], &mirrors[1]["error"]["class"]), (&Value::Null, &json!("file")));
    wait_for("the file in done/", || home.files() == ["done/x.png", "done/x.png.json"]);
    assert_eq!(home.sidecar("done/x.png"), line);

    home.drop_file("y.png", &png(1));
    let linked = home.wait_for_line("y.png", 1);
    let sent = [&a, &b, &c].map(|host| host.received().len());
    assert_eq!(sent, [1, 2, 1], "only the one that has it not is asked");
    assert_eq!((&linked["status"], &linked["mirrors"][2]["url"]), (&json!("linked"), &mirrors[2]["url"]));
    assert!(agent.stop().success());
    assert_eq!(home.manifest_lines(), 2);
}

#[test]
fn r20_a_host_that_has_a_mirrored_file_is_never_sent_it_again_across_rests_restarts_and_a_lost_ledger() {
    let home = Home::new();
    let (a, b) = (FakeHost::well(), FakeHost::start(|_| answer(500)));
    let quick = "[retry]\nattempts = 1\n[cooldown]\nfirst = \"1s\"\nfactor = 1.0\nrequeues = 1000\n";
    configure(&home, &[("a", &a), ("b", &b)], "mirror", quick);
    home.drop_file("x.png", &png(1));
    let agent = home.start().ready();
    let line = home.wait_for_line("x.png", 1);
    assert_eq!((&line["status"], &line["host"]), (&json!("deferred"), &json!("b")), "{line:#}");
    assert!(line["mirrors"][0]["url"].is_string() && line["url"].is_null());
    home.wait_for_line("x.png", 2);
    agent.kill();
    for name in ["ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"] {
        #[expect(clippy::disallowed_methods, reason = "what a user does")]
        let _ = std::fs::remove_file(home.path("xdg-state/pixchute").join(name));
    }
    b.recover();
    let agent = home.start().ready();
    home.wait_for_finals(1);
    let last = home.manifest().pop().expect("a line");
    assert_eq!((&last["status"], &last["host"]), (&json!("uploaded"), &json!("a")), "{last:#}");
    assert!(last["mirrors"].as_array().expect("two").iter().all(|mirror| mirror["url"].is_string()));
    assert_eq!(a.received().len(), 1);
    wait_for("the file in done/, and nothing else", || home.files() == ["done/x.png", "done/x.png.json"]);
    assert!(agent.stop().success());
}

#[test]
fn r20_kill_9_during_a_mirror_writes_one_final_line_each_and_sends_little_twice() {
    let (images, kills) = (60, 8);
    let home = Home::new();
    let slow = || FakeHost::start(|_| Reply::StoredAfter(Duration::from_millis(5)));
    let (a, b, c) = (slow(), slow(), slow());
    configure(&home, &[("a", &a), ("b", &b), ("c", &c)], "mirror", "");
    for index in 0..images {
        home.drop_file(format!("{index}.png"), &png(index));
    }
    for kill in 0..kills {
        let agent = home.start();
        let goal = (images as usize * (kill + 1) / (kills + 1)).saturating_sub(3);
        wait_for("some progress", || home.manifest_lines() >= goal);
        agent.kill();
    }
    let (code, _, log) = home.run(&["--config", "config.toml", "run", "--once"]);
    assert_eq!(code, 0, "{log}");
    let lines = home.manifest();
    assert_eq!(lines.iter().filter(|line| line["status"] == "uploaded").count(), images as usize);
    assert_eq!(lines.len(), images as usize, "and no other line");
    for line in &lines {
        assert!(line["mirrors"].as_array().expect("three").iter().all(|mirror| mirror["url"].is_string()), "{line:#}");
    }
    let sent: usize = [&a, &b, &c].map(|host| host.received().len()).iter().sum();
    let once = images as usize * 3;
    assert!((once..=once + kills * 8).contains(&sent), "once more per kill and worker at most: {sent}");
}
