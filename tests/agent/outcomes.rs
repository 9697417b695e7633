//! One test per behaviour of a host: the manifest line, the sidecar, where the file lies, the log, and what the server saw.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::host::{FakeHost, Reply};
use crate::support::{Home, jpeg, millis, wait_for};

/// Short limits, a file that rests for an hour.
const LIMITS: &str = r#"
[pool]
file_timeout = "30s"
request_timeout = "20s"
stall_timeout = "1s"
[retry]
attempts = 4
backoff = "100ms"
[cooldown]
first = "1h"
[log]
level = "debug"
"#;

/// How much later than its limit a connection may end: a second as promised, and some for a loaded machine.
const CLOSED_WITHIN: Duration = Duration::from_secs(2);

/// What must come of one file.
struct Expected {
    status: &'static str,
    class: &'static str,
    phase: &'static str,
    http_status: Option<u16>,
    /// A part of the message.
    message: &'static str,
    /// How many requests began, and how many arrived whole.
    requests: usize,
    whole: usize,
}

/// Sends a file of `size` bytes to a host that answers with `reply` until it is well again; checks everything that is
/// told about the failure, then that `retry` brings the file through. Gives the line of the failure.
fn check(reply: Reply, limits: &str, size: usize, expected: &Expected) -> Value {
    let home = Home::new();
    let host = FakeHost::start(move |_| reply.clone());
    home.configure(&host, limits);
    let agent = home.start().ready();
    let bytes = jpeg(size, 7);
    home.drop_file("x.jpg", &bytes);

    let line = home.wait_for_line("x.jpg", 1);
    assert_eq!(line["status"], expected.status, "{line:#}");
    let error = &line["error"];
    assert_eq!(
        (&error["class"], &error["phase"], &error["http_status"]),
        (&json!(expected.class), &json!(expected.phase), &json!(expected.http_status)),
        "{line:#}"
    );
    assert!(error["message"].as_str().is_some_and(|m| m.contains(expected.message)), "{line:#}");
    assert_eq!((&line["url"], &line["thumb"], &line["image"]), (&Value::Null, &Value::Null, &Value::Null));
    assert_eq!((&line["attempts"], &line["requeues"]), (&json!(1), &json!(0)));
    let rest = millis(&error["next_try_at"]) - millis(&line["at"]);
    assert!((3_240_000..=3_960_000).contains(&rest), "an hour, more or less a tenth: {rest} ms");
    let unknown = (expected.class == "unknown_outcome").then_some(1);
    assert_eq!(error["unknown_outcomes"].as_u64(), unknown, "{line:#}");

    assert_eq!((host.began().len().max(host.accepted()), host.received().len()), (expected.requests, expected.whole));
    wait_for("the connections to be closed", || host.open() == 0);

    assert_eq!(line["moved_to"], "retry/x.jpg");
    wait_for("the file in retry/", || home.files() == ["retry/x.jpg", "retry/x.jpg.json"]);
    assert_eq!(home.sidecar("retry/x.jpg"), line);

    let event = if expected.status == "timeout" { "job-timeout" } else { "job-deferred" };
    let logged = &home.events_of(event, "x.jpg")[0];
    assert_eq!((&logged["error_class"], &logged["service"]), (&json!(expected.class), &json!("pixhost")), "{logged}");
    let message = logged["message"].as_str().expect("a message");
    assert!(message.contains(&format!("phase {}", expected.phase)), "{message}");

    host.recover();
    let (code, out, err) = home.run(&["--config", "config.toml", "retry", "drop/x.jpg"]);
    assert_eq!((code, out.as_str(), err.as_str()), (0, "1 file queued again\n", ""));
    let last = home.wait_for_line("x.jpg", 2);
    assert_eq!((&last["status"], &last["attempts"], &last["job"]), (&json!("uploaded"), &json!(2), &line["job"]));
    wait_for("the file in done/", || home.files() == ["done/x.jpg", "done/x.jpg.json"]);
    assert_eq!(host.received().last().expect("it has it").file, bytes);
    assert!(agent.stop().success());
    assert_eq!(home.lines_of("x.jpg").len(), 2, "nothing more was said");
    line
}

#[test]
fn what_is_stored_was_sent_by_contract_and_is_told_everywhere() {
    let home = Home::new();
    let host = FakeHost::well();
    home.configure(&host, "[log]\nlevel = \"debug\"");
    let agent = home.start().ready();
    let bytes = jpeg(183_000, 7);
    home.drop_file("x.jpg", &bytes);

    let line = home.wait_for_line("x.jpg", 1);
    let received = host.received();
    assert_eq!(received.len(), 1);
    let request = &received[0];
    assert_eq!(request.line, "POST /images HTTP/1.1");
    assert_eq!(request.headers["accept"], "application/json");
    let fields: Vec<(&str, &str)> = request.fields.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(fields, [("content_type", "0"), ("max_th_size", "200")]);
    assert_eq!((request.file_name.as_str(), request.file_type.as_str()), ("x.jpg", "image/jpeg"));
    assert!(request.file == bytes, "byte for byte");

    let hash = blake3::hash(&bytes).to_hex().to_string();
    let expected = [
        ("v", json!(1)),
        ("seq", json!(1)),
        ("status", json!("uploaded")),
        ("file", json!("x.jpg")),
        ("folder", json!(home.drop())),
        ("host", json!("pixhost")),
        ("url", json!("https://pixhost.to/show/7/1_x.jpg")),
        ("thumb", json!("https://t7.pixhost.to/thumbs/7/1_x.jpg")),
        ("image", json!("https://img7.pixhost.to/images/7/1_x.jpg")),
        ("delete_url", Value::Null),
        ("album", Value::Null),
        ("bytes", json!(bytes.len())),
        ("mime", json!("image/jpeg")),
        ("width", json!(32)),
        ("height", json!(24)),
        ("blake3", json!(hash)),
        ("attempts", json!(1)),
        ("requeues", json!(0)),
        ("moved_to", json!("done/x.jpg")),
        ("error", Value::Null),
    ];
    for (key, value) in expected {
        assert_eq!(line[key], value, "{key} in {line:#}");
    }
    wait_for("the file in done/", || home.files() == ["done/x.jpg", "done/x.jpg.json"]);
    assert!(fs::read(home.drop().join("done/x.jpg")).expect("readable") == bytes);
    assert_eq!(home.sidecar("done/x.jpg"), line);

    let started = &home.events_of("job-started", "x.jpg")[0];
    assert_eq!((&started["worker_id"], &started["service"]), (&json!(1), &json!("pixhost")));
    let uploaded = &home.events_of("job-uploaded", "x.jpg")[0];
    assert_eq!((&uploaded["url"], &uploaded["job"]), (&line["url"], &line["job"]));
    assert!(uploaded["duration_ms"].is_u64() && uploaded["message_id"].is_string(), "{uploaded}");
    assert!(agent.stop().success());
    wait_for("the connection to be closed", || host.open() == 0);
}

#[test]
fn r13_r15_silence_after_accept_ends_at_the_stall_limit() {
    let expected = Expected {
        status: "timeout",
        class: "unknown_outcome",
        phase: "response",
        http_status: None,
        message: "moved no byte for 1s",
        requests: 1,
        whole: 0,
    };
    check(Reply::SilentAfterAccept, LIMITS, 2_000, &expected);
}

#[test]
fn r15_silence_after_the_last_byte_is_an_unknown_outcome_and_is_not_sent_again_at_once() {
    let expected = Expected {
        status: "timeout",
        class: "unknown_outcome",
        phase: "response",
        http_status: None,
        message: "the image may be on the host",
        requests: 1,
        whole: 1,
    };
    check(Reply::Silent, LIMITS, 2_000, &expected);
}

#[test]
fn r13_a_host_that_stops_reading_in_mid_body_is_left_at_the_stall_limit() {
    let expected = Expected {
        status: "timeout",
        class: "stall",
        phase: "send",
        http_status: None,
        message: "moved no byte for 1s",
        requests: 1,
        whole: 0,
    };
    check(Reply::SilentInBody, LIMITS, 9_000_000, &expected);
}

#[test]
fn r13_r16_an_endless_answer_is_cut_and_tried_four_times() {
    let expected = Expected {
        status: "deferred",
        class: "bad_response",
        phase: "response",
        http_status: Some(200),
        message: "sent an answer larger than",
        requests: 4,
        whole: 4,
    };
    check(Reply::Endless, LIMITS, 2_000, &expected);
}

#[test]
fn r16_a_page_instead_of_an_answer_gives_no_link() {
    let page = "<html><body>Something went wrong</body></html>";
    let reply = Reply::Answer(200, "content-type: text/html\r\n".into(), page.into());
    let expected = Expected {
        status: "deferred",
        class: "bad_response",
        phase: "parse",
        http_status: Some(200),
        message: "pixhost answered 200 OK with something that is not JSON",
        requests: 4,
        whole: 4,
    };
    let line = check(reply, LIMITS, 2_000, &expected);
    assert_eq!(line["error"]["response_head"], page);
}

#[test]
fn r16_a_link_that_leads_nowhere_gives_no_link() {
    let body =
        r#"{"name":"x.jpg","show_url":"https:\/\/pixhost.to\/show\/","th_url":"https:\/\/t7.pixhost.to\/thumbs\/"}"#;
    let reply = Reply::Answer(200, "content-type: application/json\r\n".into(), body.into());
    let expected = Expected {
        status: "deferred",
        class: "bad_response",
        phase: "parse",
        http_status: Some(200),
        message: "leads nowhere",
        requests: 4,
        whole: 4,
    };
    let line = check(reply, LIMITS, 2_000, &expected);
    assert_eq!(line["error"]["response_head"], body);
}

#[test]
fn a_503_is_tried_four_times_and_deferred() {
    let expected = Expected {
        status: "deferred",
        class: "bad_response",
        phase: "parse",
        http_status: Some(503),
        message: "pixhost answered 503",
        requests: 4,
        whole: 4,
    };
    check(Reply::Answer(503, String::new(), "busy".into()), LIMITS, 2_000, &expected);
}

#[test]
fn a_reset_in_mid_body_is_tried_four_times_and_deferred() {
    let expected = Expected {
        status: "deferred",
        class: "connect",
        phase: "send",
        http_status: None,
        message: "broke the connection",
        requests: 4,
        whole: 0,
    };
    check(Reply::Reset, LIMITS, 9_000_000, &expected);
}

#[test]
fn r15_half_an_answer_is_an_unknown_outcome() {
    let expected = Expected {
        status: "timeout",
        class: "unknown_outcome",
        phase: "response",
        http_status: Some(200),
        message: "every byte had been sent",
        requests: 1,
        whole: 1,
    };
    let line = check(Reply::HalfAnswer, LIMITS, 2_000, &expected);
    assert_eq!(line["error"]["response_head"], "{\"na");
}

/// The deadline of the file cuts whatever the other limits would allow; `limits` are those of requests.
fn closes_at(limit: Duration, limits: &str, message: &str, class: &str) {
    for (reply, size, class) in [(Reply::Silent, 2_000, "unknown_outcome"), (Reply::SilentInBody, 9_000_000, class)] {
        let home = Home::new();
        let host = FakeHost::start(move |_| reply.clone());
        home.configure(&host, limits);
        let _agent = home.start().ready();
        home.drop_file("x.jpg", &jpeg(size, 9));
        wait_for("the request", || host.began().len() == 1);
        wait_for("the end of its connection", || host.open() == 0);
        let took = host.closed()[0].duration_since(host.began()[0]);
        assert!(took + Duration::from_millis(100) > limit && took < limit + CLOSED_WITHIN, "closed after {took:?}");
        let line = home.wait_for_line("x.jpg", 1);
        assert_eq!((&line["status"], &line["error"]["class"]), (&json!("timeout"), &json!(class)), "{line:#}");
        let logged = &home.events_of("job-timeout", "x.jpg")[0];
        assert!(logged["message"].as_str().is_some_and(|m| m.contains(message)), "{logged}");
        assert_eq!(host.accepted(), 1);
    }
}

#[test]
fn r13_the_file_deadline_closes_the_connection_within_a_second() {
    let limits = "[pool]\nfile_timeout = \"1500ms\"\n";
    closes_at(Duration::from_millis(1_500), limits, "file_timeout = 1s 500ms", "timeout");
}

#[test]
fn r13_the_request_limit_closes_the_connection_within_a_second() {
    let limits = "[pool]\nrequest_timeout = \"1200ms\"\n";
    closes_at(Duration::from_millis(1_200), limits, "did not finish the request within 1s 200ms", "timeout");
}

#[test]
fn r14_a_slow_host_that_moves_bytes_is_not_called_stalled() {
    let home = Home::new();
    let host = FakeHost::start(|_| Reply::StoredAfter(Duration::from_millis(700)));
    home.configure(&host, LIMITS);
    let _agent = home.start().ready();
    let began = Instant::now();
    for index in 0..4 {
        home.drop_file(format!("{index}.jpg"), &jpeg(2_000, index));
    }
    home.wait_for_finals(4);
    assert!(home.manifest().iter().all(|line| line["status"] == "uploaded" && line["attempts"] == 1));
    assert!(began.elapsed() > Duration::from_millis(700));
    assert_eq!(host.received().len(), 4);
}

#[test]
fn r14_a_slow_line_that_takes_a_byte_now_and_then_is_not_called_stalled() {
    // Handed to the system in a moment, and then on the way for six seconds: three times the stall time.
    let home = Home::new();
    let host = FakeHost::start(|_| Reply::Slowly(16_384, Duration::from_millis(100)));
    home.configure(&host, &LIMITS.replace("stall_timeout = \"1s\"", "stall_timeout = \"2s\""));
    let _agent = home.start().ready();
    let began = Instant::now();
    home.drop_file("x.jpg", &jpeg(1_000_000, 1));
    wait_for("its line", || !home.manifest().is_empty());
    let line = &home.manifest()[0];
    assert_eq!((&line["status"], &line["attempts"]), (&json!("uploaded"), &json!(1)), "{line:#}");
    assert!(began.elapsed() > Duration::from_secs(5));
    assert_eq!(host.accepted(), 1);
}
