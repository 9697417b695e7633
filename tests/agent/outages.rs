//! Hosts that are down, say yes and give nothing, or have a limit: what they are asked meanwhile, counted by themselves.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::host::{FakeHost, Reply, stored};
use crate::support::{Home, png, wait_for, wait_for_within};

/// Far longer than it takes, for a loaded machine.
const LONG: Duration = Duration::from_secs(90);

fn configure(home: &Home, host: &FakeHost, more: &str, keys: &str) {
    let (drop, url) = (home.drop(), host.url());
    let mut text = format!("{more}\n[server]\nlisten = \"off\"\n");
    let _ = write!(
        text,
        "[[folder]]\npath = {drop:?}\nhost = \"pixhost\"\nsettle = \"200ms\"\n[host.pixhost]\nbase_url = \"{url}\"\n{keys}\n"
    );
    home.write_config(&text);
}

fn state(home: &Home) -> Value {
    let (code, out, err) = home.run(&["--config", "config.toml", "status", "--json"]);
    assert_eq!(code, 0, "{err}");
    let status: Value = serde_json::from_str(&out).expect("JSON");
    status["hosts"][0]["state"].clone()
}

fn linked(headers: &str) -> Reply {
    let answer = stored("x.png");
    let body = answer.split("\r\n\r\n").nth(1).expect("a body").to_owned();
    Reply::Answer(200, format!("content-type: application/json\r\n{headers}"), body)
}

#[test]
fn r18_a_host_that_is_down_is_asked_seldom_and_met_slowly_when_it_is_back() {
    let home = Home::new();
    let host = FakeHost::start(|_| Reply::Answer(503, String::new(), "down".into()));
    let flow = "[flow]\ncircuit_min = \"500ms\"\ncircuit_max = \"2s\"\n[retry]\nbackoff = \"100ms\"\n[cooldown]\nfirst = \"1s\"\n";
    configure(&home, &host, flow, "");
    for index in 0..200 {
        home.drop_file(format!("{index}.png"), &png(index));
    }
    let agent = home.start().ready();
    wait_for("the circuit to open", || !home.events("circuit-open").is_empty());
    let at_open = host.began().len();
    assert!(at_open <= 24, "{at_open} requests before it opens");
    // Several probes later, and over a restart, it has not been asked much more.
    wait_for_within(LONG, "a few probes", || home.events("circuit-half-open").len() >= 3);
    assert!(agent.stop().success());
    let before = host.began().len();
    assert!(before <= 40, "{before} requests");
    let agent = home.start().ready();
    assert!(["circuit-open", "half-open"].contains(&state(&home).as_str().expect("a word")));
    wait_for_within(LONG, "one probe more", || host.began().len() > before);
    host.recover();
    wait_for_within(LONG, "the circuit to close", || !home.events("circuit-closed").is_empty());
    let uploaded = || home.manifest().iter().filter(|line| line["status"] == "uploaded").count();
    wait_for_within(LONG, "all to be uploaded", || uploaded() == 200);
    let lines = home.manifest();
    assert!(lines.iter().all(|line| line["status"] != "failed"));
    let waited = lines.iter().filter(|line| line["status"] == "uploaded" && line["attempts"] == json!(1)).count();
    assert!(waited >= 160, "those that only waited have lost nothing: {waited}");
    assert!(agent.stop().success());
}

#[test]
fn r16_a_host_that_gives_no_links_becomes_suspect_and_the_queue_is_not_burnt() {
    let home = Home::new();
    let host =
        FakeHost::start(|_| Reply::Answer(200, "content-type: text/html\r\n".into(), "<html>welcome</html>".into()));
    configure(&home, &host, "[retry]\nattempts = 1\n", "suspect_after = 5");
    for index in 0..60 {
        home.drop_file(format!("{index}.png"), &png(index));
    }
    let agent = home.start().ready();
    wait_for("the host to be suspect", || !home.events("host-paused").is_empty());
    wait_for("its state", || state(&home) == "suspect");
    let asked = host.began().len();
    assert!((5..=13).contains(&asked), "five answers, and what was under way: {asked}");
    let paused = &home.events("host-paused")[0];
    assert!(paused["message"].as_str().is_some_and(|text| text.contains("suspect")), "{paused}");
    assert_eq!(host.began().len(), asked, "nothing more");
    agent.kill();
}

#[test]
fn r17_a_success_that_spends_the_last_of_a_limit_rests_the_host() {
    let home = Home::new();
    let host = FakeHost::start(|_| linked("x-ratelimit-remaining: 0\r\nx-ratelimit-reset: 2\r\n"));
    configure(&home, &host, "[pool]\nworkers = 1\n", "");
    let agent = home.start().ready();
    home.drop_file("a.png", &png(1));
    home.wait_for_line("a.png", 1);
    home.drop_file("b.png", &png(2));
    home.wait_for_line("b.png", 1);
    let began = host.began();
    assert!(began[1] - began[0] >= Duration::from_millis(1_900), "{:?}", began[1] - began[0]);
    assert!(home.manifest().iter().all(|line| line["status"] == "uploaded"), "before a 429");
    assert!(agent.stop().success());
}

#[test]
fn r17_a_quota_holds_over_a_restart_and_a_kill() {
    let home = Home::new();
    let host = FakeHost::well();
    configure(&home, &host, "", "quota = \"60/h\"\nmax_parallel = 2");
    let agent = home.start().ready();
    for index in 0..30 {
        home.drop_file(format!("{index}.png"), &png(index));
    }
    home.wait_for_finals(30);
    agent.kill();
    let agent = home.start().ready();
    for index in 100..150 {
        home.drop_file(format!("{index}.png"), &png(index));
    }
    wait_for("the quota to be used up", || state(&home) == "quota");
    let all = host.received().len();
    assert!((57..=60).contains(&all), "{all}");
    assert!(agent.stop().success());
    let agent = home.start().ready();
    wait_for("the quota to be used up still", || state(&home) == "quota");
    assert!(host.received().len() <= 60);
    agent.kill();
}

#[test]
fn r17_several_attempts_that_meet_a_rate_limit_lose_nothing() {
    let home = Home::new();
    let limit = || Reply::Answer(429, "retry-after: 2\r\n".into(), "{}".into());
    let host = FakeHost::at_first((0..8).map(|_| limit()).collect());
    configure(&home, &host, "", "");
    for index in 0..20 {
        home.drop_file(format!("{index}.png"), &png(index));
    }
    let agent = home.start().ready();
    wait_for_within(LONG, "all of them", || {
        home.manifest().iter().filter(|line| line["status"] == "uploaded").count() == 20
    });
    for line in home.manifest().iter().filter(|line| line["status"] == "uploaded") {
        assert_eq!((&line["attempts"], &line["requeues"]), (&json!(1), &json!(0)), "{line}");
    }
    assert!(agent.stop().success());
}

#[test]
fn r19_the_user_says_what_is_final_and_what_passes() {
    let home = Home::new();
    let host = FakeHost::start(|name| {
        let status = if name.starts_with("gone") { 404 } else { 403 };
        Reply::Answer(status, String::new(), String::new())
    });
    let keys = "retry_on = [403]\nfail_on = [404]";
    configure(&home, &host, "[retry]\nattempts = 1\n", keys);
    let agent = home.start().ready();
    home.drop_file("gone.png", &png(1));
    home.drop_file("locked.png", &png(2));
    let gone = home.wait_for_line("gone.png", 1);
    assert_eq!((&gone["status"], &gone["error"]["class"]), (&json!("failed"), &json!("bad_response")));
    let locked = home.wait_for_line("locked.png", 1);
    assert_eq!((&locked["status"], &locked["error"]["class"]), (&json!("deferred"), &json!("account")));
    assert_eq!(state(&home), "new", "no rest of the host");
    agent.kill();
}
