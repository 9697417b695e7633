//! `put`: links on stdout in the order of the arguments, and the same as the engine of another program.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::support::host::{FakeHost, Reply};
use crate::support::{Home, png, wait_for};

#[test]
fn r32_put_needs_no_agent_and_keeps_the_order() {
    let home = Home::new();
    let host = FakeHost::start(|name| match name {
        "0.png" => Reply::StoredAfter(Duration::from_millis(400)),
        "bad.png" => Reply::Answer(413, String::new(), "too large".into()),
        _ => Reply::Stored,
    });
    home.configure(&host, "");
    for index in 0..3 {
        fs::write(home.path(&format!("{index}.png")), png(index)).expect("written");
    }
    fs::write(home.path("bad.png"), png(9)).expect("written");
    fs::write(home.path("text.png"), "no picture").expect("written");
    let put = |more: &[&str]| home.run(&[&["--config", "config.toml", "put"], more].concat());
    let (code, out, err) = put(&["0.png", "1.png", "2.png"]);
    assert_eq!(code, 0, "{err}");
    let links: Vec<&str> = out.lines().collect();
    assert!(links.len() == 3 && (0..3).all(|index| links[index].ends_with(&format!("{index}.png"))), "{out}");
    assert!(home.path("0.png").exists() && err.is_empty(), "the file stays; no bar without a terminal: {err}");

    let (code, out, err) = put(&["--format", "bbcode", "1.png", "bad.png", "text.png", "none.png"]);
    assert_eq!((code, out.lines().count()), (1, 1), "{out}{err}");
    assert!(out.starts_with("[url="), "{out}");
    assert!(["bad.png: ", "text.png: ", "none.png: "].iter().all(|name| err.contains(name)), "{err}");
    assert_eq!(put(&["--format", "nonsense", "1.png"]).0, 2);
}

#[test]
fn r32_put_asks_a_running_agent_whether_the_host_rests() {
    let home = Home::new();
    let host = FakeHost::at_first(vec![Reply::Answer(429, "retry-after: 600\r\n".into(), "{}".into())]);
    home.configure(&host, "");
    fs::write(home.path("x.png"), png(1)).expect("written");
    let put = |more: &[&str]| home.run(&[&["--config", "config.toml", "put", "x.png"], more].concat());
    let agent = home.start().ready();
    home.drop_file("first.png", &png(2));
    wait_for("the rest", || !home.events("host-paused").is_empty());
    let before = host.received().len();
    let (code, out, err) = put(&[]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("nothing was sent: pixhost rests for ") && err.contains("429"), "{err}");
    assert_eq!(host.received().len(), before, "nothing was sent");
    assert_eq!(put(&["--anyway"]).0, 0);
    assert_eq!(home.run(&["--config", "config.toml", "resume", "pixhost"]).0, 0);
    assert_eq!(put(&[]).0, 0);
    assert_eq!(home.run(&["--config", "config.toml", "pause", "pixhost"]).0, 0);
    let (code, _, err) = put(&[]);
    assert!(code == 1 && err.contains("was paused by you"), "{err}");
    assert!(agent.stop().success());
    assert_eq!(put(&[]).0, 0, "without an agent");
}

#[test]
fn put_json_answers_each_line_and_a_bad_one_is_its_own_error_only() {
    let home = Home::new();
    let host = FakeHost::start(|name| if name == "hang.png" { Reply::Silent } else { Reply::Stored });
    home.configure(&host, "");
    for name in ["hang.png", "a.png", "b.png"] {
        fs::write(home.path(name), png(u32::from(name.as_bytes()[0]))).expect("written");
    }
    let mut child = home
        .command()
        .args(["--config", "config.toml", "put", "--json", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut input = child.stdin.take().expect("piped");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut next = |id: Option<&str>, wanted: &str| loop {
        let line = lines.next().expect("another event").expect("text");
        let event: Value = serde_json::from_str(&line).expect("JSON");
        if event["event"] == wanted && event["id"].as_str() == id {
            return event;
        }
    };
    writeln!(input, r#"{{"id":"h","path":"hang.png"}}"#).expect("written");
    next(Some("h"), "started");
    writeln!(input, "nonsense").expect("written");
    assert_eq!(next(None, "error")["line"], 2);
    writeln!(input, r#"{{"id":"n","path":"none.png"}}"#).expect("written");
    next(Some("n"), "error");
    writeln!(input, r#"{{"id":"w","path":"a.png","host":"nowhere"}}"#).expect("written");
    next(Some("w"), "error");
    writeln!(input, r#"{{"id":"a","path":"a.png","host":"pixhost"}}"#).expect("written");
    let record = next(Some("a"), "result")["record"].clone();
    assert!(record["url"].as_str().is_some_and(|url| url.ends_with("a.png")), "{record}");
    writeln!(input, r#"{{"id":"h","cancel":true}}"#).expect("written");
    assert_eq!(next(Some("h"), "error")["error"], "cancelled");
    write!(input, r#"{{"id":"b","path":"b.png"}}"#).expect("written");
    drop(input);
    assert_eq!(next(Some("b"), "result")["record"]["status"], "uploaded");
    assert_eq!(child.wait().expect("ends").code(), Some(1), "some lines were in error");
}
