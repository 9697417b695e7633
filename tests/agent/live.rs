//! What a running agent shows of itself while it works.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::support::host::{FakeHost, Reply};
use crate::support::{Home, SOON, jpeg, png, wait_for};

/// A host that takes at most two megabytes a second; the system itself takes some at once.
fn slow() -> FakeHost {
    FakeHost::start(|_| Reply::Slowly(100_000, Duration::from_millis(50)))
}

fn socket(home: &Home) -> std::path::PathBuf {
    home.path("run/pixchute/control.sock")
}

/// A reader of `GET /v1/events`.
struct Events {
    lines: Box<dyn BufRead>,
}

impl Events {
    fn over(mut stream: impl Read + Write + 'static) -> Self {
        stream.write_all(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("asks");
        let mut lines: Box<dyn BufRead> = Box::new(BufReader::new(stream));
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(lines.read_line(&mut head).expect("a head"), 0, "ended: {head}");
        }
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/event-stream"), "{head}");
        let mut events = Self { lines };
        // The stream says at once that it is there: what happens from now on is in it.
        events.line(": connected");
        events
    }

    fn of(home: &Home) -> Self {
        let stream = UnixStream::connect(socket(home)).expect("the control socket");
        stream.set_read_timeout(Some(SOON)).expect("a deadline");
        Self::over(stream)
    }

    /// Reads up to this line.
    fn line(&mut self, wanted: &str) {
        let mut line = String::new();
        while line.trim_end() != wanted {
            line.clear();
            assert_ne!(self.lines.read_line(&mut line).expect("goes on"), 0, "ended before {wanted}");
        }
    }

    /// The next event; `None` at the end.
    fn next(&mut self) -> Option<(String, Value)> {
        let (mut name, mut line) = (String::new(), String::new());
        loop {
            line.clear();
            if self.lines.read_line(&mut line).expect("within the deadline") == 0 {
                return None;
            }
            if let Some(event) = line.strip_prefix("event: ") {
                event.trim_end().clone_into(&mut name);
            } else if let Some(data) = line.strip_prefix("data: ") {
                return Some((name, serde_json::from_str(data).expect("JSON")));
            }
        }
    }

    /// Everything up to and with the first event of this name.
    fn until(&mut self, last: &str) -> Vec<(String, Value)> {
        let mut events = Vec::new();
        while let Some(event) = self.next() {
            let found = event.0 == last;
            events.push(event);
            if found {
                return events;
            }
        }
        panic!("ended before {last}: {events:?}");
    }
}

#[test]
fn events_tell_the_life_of_a_file_with_its_progress_whatever_the_log_level() {
    let home = Home::new();
    let host = slow();
    home.configure(&host, "[log]\nlevel = \"error\"\nformat = \"json\"\n");
    let agent = home.start();
    wait_for("the socket", || UnixStream::connect(socket(&home)).is_ok());
    let mut events = Events::of(&home);
    home.drop_file("trip\u{1b}.jpg", &jpeg(9_000_000, 7));
    let told = events.until("job-uploaded");
    let names: Vec<&str> = told.iter().map(|(name, _)| name.as_str()).collect();
    let place =
        |wanted: &str| names.iter().position(|name| *name == wanted).unwrap_or_else(|| panic!("{wanted} in {names:?}"));
    assert!(place("job-queued") < place("job-started") && place("job-started") < place("progress"), "{names:?}");
    let job = &told.last().expect("one").1["job"];
    assert!(job.as_str().is_some_and(|id| id.len() == 26));
    assert!(told.iter().filter(|(name, _)| name != "progress").all(|(name, data)| data["event"] == *name), "{told:?}");
    let progress: Vec<&Value> = told.iter().filter(|(name, _)| name == "progress").map(|(_, data)| data).collect();
    assert!(progress.iter().all(|data| data["job"] == *job && data["host"] == "pixhost" && data["worker"] == 1));
    assert!(progress.iter().all(|data| data["file"] == "trip\\u{1b}.jpg"), "names are shown escaped: {progress:?}");
    let sent: Vec<u64> = progress.iter().filter_map(|data| data["sent"].as_u64()).collect();
    assert!(sent.len() > 2 && sent.is_sorted() && sent[0] < *sent.last().expect("some"), "it moves: {sent:?}");
    let told_rate = progress.iter().any(|data| data["bytes_per_second"].as_u64() > Some(0) && data["left_ms"].is_u64());
    assert!(told_rate, "{progress:?}");
    assert_eq!(told.last().expect("one").1["service"], "pixhost");
    assert!(!format!("{told:?}").contains("delete"), "no link that deletes");
    agent.signal("-TERM");
    events.until("agent-stopping");
    assert!(events.next().is_none(), "the stream ends with the agent");
    let _ = agent.stop();
}

#[test]
fn a_reader_that_does_not_read_costs_nothing_and_is_told_what_it_lost() {
    let home = Home::new();
    let host = FakeHost::well();
    home.configure(&host, "");
    let agent = home.start().ready();
    let mut slow = Events::of(&home);
    let (files, mut next) = (600, 0);
    // About two megabytes of events: more than the socket and the stores hold.
    for _ in 0..3 {
        for _ in 0..files {
            home.drop_file(format!("{}{next}.png", "x".repeat(200)), &png(next));
            next += 1;
        }
        let all = usize::try_from(next).expect("few");
        wait_for("all of them", || home.manifest_lines() == all);
    }
    let mut lost = 0;
    let mut seen = 0;
    home.drop_file("last.png", &png(next));
    loop {
        let (name, data) = slow.next().expect("goes on");
        match name.as_str() {
            "lagged" => lost += data["events"].as_u64().expect("a number"),
            "job-uploaded" if data["file"] == "last.png" => break,
            "progress" => {}
            _ => seen += 1,
        }
    }
    assert!(lost > 0, "nothing was lost, {seen} seen: the test is too small");
    agent.kill();
}

#[test]
fn people_may_follow_as_well_and_status_tells_how_far_a_file_is() {
    let home = Home::new();
    let host = slow();
    let config = home.configure(&host, "");
    let text = std::fs::read_to_string(&config).expect("it").replace("listen = \"off\"", "listen = \"127.0.0.1:0\"");
    home.write_config(&text);
    let agent = home.start().ready();
    let status = || -> Value {
        let (code, out, error) = home.run(&["--config", "config.toml", "status", "--json"]);
        assert_eq!(code, 0, "{error}");
        serde_json::from_str(&out).expect("JSON")
    };
    let gallery = status()["gallery"].as_str().expect("an address").trim_start_matches("http://").to_owned();
    let stream = TcpStream::connect(&gallery).expect("connected");
    stream.set_read_timeout(Some(SOON)).expect("a deadline");
    let mut events = Events::over(stream);
    home.drop_file("x.jpg", &jpeg(9_000_000, 8));
    events.until("progress");
    let mut attempt = Value::Null;
    wait_for("a rate", || {
        attempt = status()["attempts"][0].clone();
        attempt["bytes_per_second"].as_u64() > Some(0)
    });
    assert_eq!((&attempt["file"], &attempt["worker"], &attempt["phase"]), (&"x.jpg".into(), &1.into(), &"send".into()));
    assert_eq!(attempt["folder"].as_str().map(Path::new), Some(home.drop().as_path()));
    assert!(attempt["sent"].as_u64() <= attempt["total"].as_u64() && attempt["since"].is_string(), "{attempt}");
    events.until("job-uploaded");
    let mut recent = Value::Null;
    wait_for("the outcome", || {
        recent = status()["recent"][0].clone();
        !recent.is_null()
    });
    assert_eq!(
        (&recent["status"], &recent["file"], &recent["host"]),
        (&"uploaded".into(), &"x.jpg".into(), &"pixhost".into())
    );
    let folder = &status()["folders"][0];
    assert!(folder["last_success_at"].is_string() && folder["last_error"].is_null(), "{folder}");
    agent.kill();
}

#[test]
fn r29_each_folder_tells_its_oldest_its_last_error_and_its_next_try() {
    let home = Home::new();
    let host = FakeHost::start(|_| Reply::Answer(500, String::new(), "no".to_owned()));
    home.configure(&host, "[retry]\nattempts = 1\n");
    let agent = home.start().ready();
    home.drop_file("x.png", &png(1));
    home.drop_file("notes.png", b"no picture at all, only text, and more of it");
    let status = || -> Value {
        let (_, out, _) = home.run(&["--config", "config.toml", "status", "--json"]);
        serde_json::from_str(&out).expect("JSON")
    };
    let mut folder = Value::Null;
    wait_for("both outcomes", || {
        folder = status()["folders"][0].clone();
        folder["counts"]["cooling"] == 1 && folder["counts"]["failed"] == 1
    });
    let oldest = &folder["oldest_at"];
    assert!(oldest["cooling"].is_string() && oldest["failed"].is_string() && oldest["waiting"].is_null(), "{folder}");
    assert!(folder["next_due_at"].as_str() > oldest["cooling"].as_str(), "it rests: {folder}");
    assert!(folder["last_error"]["at"].is_string() && folder["last_success_at"].is_null(), "{folder}");
    agent.kill();
}

/// What `GET /metrics` answers on the control socket.
fn metrics(home: &Home) -> String {
    let mut stream = UnixStream::connect(socket(home)).expect("the control socket");
    stream.set_read_timeout(Some(SOON)).expect("a deadline");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("asks");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("text");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("text/plain; version=0.0.4"), "{answer}");
    answer
}

#[test]
fn metrics_count_what_happened_by_host_and_outcome() {
    let home = Home::new();
    let host = FakeHost::at_first(vec![Reply::Answer(500, String::new(), "no".to_owned())]);
    home.configure(&host, "[retry]\nbackoff = \"10ms\"\n[pool]\nworkers = 1\n");
    let agent = home.start().ready();
    assert!(metrics(&home).contains("pixchute_uploads_total{host=\"pixhost\",status=\"uploaded\"} 0\n"));
    home.drop_file("a.png", &png(1));
    home.drop_file("text.png", b"no picture at all, only text, and more of it");
    let mut page = String::new();
    wait_for("both outcomes", || {
        page = metrics(&home);
        let counted =
            |status| page.contains(&format!("pixchute_uploads_total{{host=\"pixhost\",status=\"{status}\"}} 1\n"));
        counted("uploaded") && counted("failed")
    });
    for line in [
        "pixchute_errors_total{host=\"pixhost\",class=\"file\"} 1",
        "pixchute_upload_duration_seconds_count{host=\"pixhost\",status=\"uploaded\"} 1",
        "pixchute_upload_size_bytes_count{host=\"pixhost\"} 1",
        "pixchute_request_retries_total{host=\"pixhost\"} 1",
        "pixchute_workers 1",
        "pixchute_ready 1",
        "pixchute_events_total{event=\"job-uploaded\"} 1",
        &format!("pixchute_jobs{{folder=\"{}\",state=\"done\"}} 1", home.drop().display()),
    ] {
        assert!(page.lines().any(|found| found == line), "{line} in\n{page}");
    }
    let sent = page.lines().find_map(|line| line.strip_prefix("pixchute_sent_bytes_total{host=\"pixhost\"} "));
    let once = u64::try_from(png(1).len()).expect("small");
    assert!(sent.and_then(|sent| sent.parse().ok()) > Some(2 * once), "two tries: {sent:?} of {once}");
    agent.kill();
}
