//! Hosts and networks that do not behave: each outcome, how long it took, and that the connection is closed after it.

use std::sync::Arc;
use std::time::Duration;

use pixchute::host::Host;
use pixchute::job::{ErrorClass, Failure, Phase};
use tokio::time::{Instant, timeout};

use crate::fake::{Fake, Reply, answer, text};
use crate::{Image, a_host};

const GOOD: &str = r#"{"show_url":"https://pixhost.to/show/1/2.png","th_url":"https://t1.pixhost.to/thumbs/1/2.png"}"#;
/// More than all buffers between two sockets hold.
const LARGE: usize = 32 << 20;

fn pixhost(fake: &Fake) -> Arc<dyn Host> {
    a_host("pixhost", fake.url(), &[])
}

/// One upload of `len` bytes against `reply`: how it failed and after which (virtual) time.
async fn fail(reply: Reply, len: usize) -> (Fake, Failure, Duration) {
    let fake = Fake::start(vec![reply]).await;
    let began = Instant::now();
    let failure = Image::new(len).send(&pixhost(&fake)).await.expect_err("no upload");
    (fake, failure, began.elapsed())
}

fn about(time: Duration, seconds: u64) -> bool {
    time >= Duration::from_secs(seconds) && time < Duration::from_secs(seconds + 1)
}

#[tokio::test(start_paused = true)]
async fn r13_a_host_that_accepts_and_reads_nothing_is_left_after_the_stall_time() {
    let (fake, failure, time) = fail(Reply::SilentAfterAccept, LARGE).await;
    assert_eq!((failure.class, failure.phase, failure.timed_out), (ErrorClass::Stall, Phase::Send, true));
    assert!(failure.message.contains("pixhost moved no byte for 30s"), "{}", failure.message);
    assert!(about(time, 30), "{time:?}");
    assert!(failure.sent > 0 && failure.sent < LARGE as u64);
    fake.closed().await;
    assert_eq!(fake.connections(), 1, "a stall is not tried again at once");
}

#[tokio::test(start_paused = true)]
async fn r15_silence_after_the_last_byte_is_an_unknown_outcome() {
    for len in [500, 200_000, 3 << 20] {
        let (fake, failure, time) = fail(Reply::SilentAfterRequest, len).await;
        assert_eq!(
            (failure.class, failure.phase, failure.timed_out),
            (ErrorClass::UnknownOutcome, Phase::Response, true)
        );
        assert!(failure.message.contains("may be on the host"), "{}", failure.message);
        assert!(about(time, 30), "{time:?}");
        fake.closed().await;
        assert_eq!(fake.requests().len(), 1, "never sent again at once");
    }
}

#[tokio::test(start_paused = true)]
async fn r14_a_host_that_stops_reading_in_the_middle_is_a_stall() {
    let (fake, failure, time) = fail(Reply::StopsReading(1 << 20), LARGE).await;
    assert_eq!((failure.class, failure.phase), (ErrorClass::Stall, Phase::Send));
    assert!(about(time, 30), "{time:?}");
    fake.closed().await;
}

#[tokio::test(start_paused = true)]
async fn r14_a_slow_but_steady_host_is_not_cut() {
    // 20 MiB at 200 KiB a second: 102 s, longer than the stall time and shorter than the request time.
    let fake = Fake::start(vec![Reply::Slow(200 << 10, text("200 OK", "", GOOD))]).await;
    let began = Instant::now();
    Image::new(20 << 20).send(&pixhost(&fake)).await.expect("an upload");
    assert!(began.elapsed() > Duration::from_secs(100));
}

#[tokio::test(start_paused = true)]
async fn the_request_time_limits_one_request_and_says_so() {
    let (_, failure, time) = fail(Reply::Slow(64 << 10, text("200 OK", "", GOOD)), LARGE).await;
    assert_eq!((failure.class, failure.phase, failure.timed_out), (ErrorClass::Timeout, Phase::Send, true));
    assert!(about(time, 120), "{time:?}");
}

#[tokio::test(start_paused = true)]
async fn silence_in_the_middle_of_an_answer_is_an_unknown_outcome() {
    for beginning in ["HTTP/1.1 200 OK\r\nX-A: b\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"show_url\":"] {
        let (fake, failure, time) = fail(Reply::SilentAfter(beginning.into()), 500).await;
        assert_eq!((failure.class, failure.timed_out), (ErrorClass::UnknownOutcome, true));
        assert!(about(time, 30), "{time:?}");
        fake.closed().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_status_counts_even_if_its_page_never_ends() {
    let (_, failure, _) =
        fail(Reply::SilentAfter("HTTP/1.1 413 Too Large\r\nContent-Length: 500\r\n\r\nno".into()), 500).await;
    assert_eq!((failure.class, failure.http_status), (ErrorClass::File, Some(413)));
}

#[tokio::test(start_paused = true)]
async fn an_endless_answer_is_cut_at_its_limit() {
    let (fake, failure, _) = fail(Reply::Endless, 500).await;
    assert_eq!(failure.class, ErrorClass::BadResponse);
    assert!(failure.message.contains("answer larger than 1048576 bytes"), "{}", failure.message);
    assert_eq!(failure.response_head.as_ref().map(String::len), Some(Failure::RESPONSE_HEAD));
    fake.closed().await;
}

#[tokio::test(start_paused = true)]
async fn r16_a_success_without_a_usable_link_is_a_bad_response() {
    let table = [
        ("<html><title>Down &lt;now</title></html>", "with something that is not JSON"),
        ("", "with something that is not JSON"),
        ("{}", "without a link"),
        (r#"{"show_url":null}"#, "without a link"),
        (r#"{"show_url":"","th_url":""}"#, "without a link"),
        (r#"{"show_url":"/show/1/2.png"}"#, "no absolute http or https URL"),
        (r#"{"show_url":"ftp://pixhost.to/2.png"}"#, "no absolute http or https URL"),
        (r#"{"show_url":"https://pixhost.to/show/{id}"}"#, "placeholder"),
        (r#"{"success":false,"show_url":"https://pixhost.to/show/1/2.png"}"#, "and refused the image"),
        (r#"{"show_url":"https://pixhost.to/show/1/","th_url":"https://t1.pixhost.to/thumbs/1/2.png"}"#, "not stored"),
        (r#"{"show_url":"https://pixhost.to/show/1/2.png","th_url":"https://t1.pixhost.to/thumbs/"}"#, "not stored"),
    ];
    for (body, message) in table {
        let (fake, failure, _) = fail(answer("200 OK", "", body), 500).await;
        assert_eq!(fake.requests().len(), 4, "it is tried again: {body}");
        assert_eq!((failure.class, failure.http_status), (ErrorClass::BadResponse, Some(200)), "{body}");
        assert!(failure.message.contains(message), "{body}: {}", failure.message);
        assert_eq!(failure.response_head.is_some(), !body.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn r17_retry_after_is_read_in_seconds_and_as_a_date() {
    let date = "Date: Mon, 23 Nov 2026 12:00:00 GMT\r\nRetry-After: Mon, 23 Nov 2026 12:05:00 GMT\r\n";
    let table = [
        ("429 Too Many Requests", "Retry-After: 90\r\n", ErrorClass::RateLimited, Some(90)),
        ("429 Too Many Requests", date, ErrorClass::RateLimited, Some(300)),
        ("429 Too Many Requests", "Retry-After: 99999999\r\n", ErrorClass::RateLimited, Some(86_400)),
        ("429 Too Many Requests", "Retry-After: soon\r\n", ErrorClass::RateLimited, None),
        ("429 Too Many Requests", "", ErrorClass::RateLimited, None),
        ("503 Service Unavailable", "Retry-After: 5\r\n", ErrorClass::RateLimited, Some(5)),
        ("503 Service Unavailable", "", ErrorClass::BadResponse, None),
    ];
    for (status, headers, class, seconds) in table {
        let (fake, failure, _) = fail(answer(status, headers, "slow down"), 500).await;
        assert_eq!(
            (failure.class, failure.retry_after.map(|wait| wait.as_secs())),
            (class, seconds),
            "{status} {headers}"
        );
        assert_eq!(fake.requests().len(), if class == ErrorClass::RateLimited { 1 } else { 4 });
    }
}

#[tokio::test(start_paused = true)]
async fn a_reset_before_the_last_byte_is_tried_again_and_one_after_it_is_not() {
    let (fake, failure, _) = fail(Reply::ResetAfterHead, LARGE).await;
    assert_eq!((failure.class, failure.phase, failure.timed_out), (ErrorClass::Connect, Phase::Send, false));
    assert!(failure.advice.is_some_and(|advice| advice.contains("too large")));
    assert_eq!(fake.connections(), 4);
    let (fake, failure, _) = fail(Reply::ResetAfterRequest, 500).await;
    assert_eq!((failure.class, failure.timed_out), (ErrorClass::UnknownOutcome, false));
    assert_eq!(fake.connections(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_early_413_is_used_although_the_body_was_not_read() {
    let (fake, failure, time) = fail(Reply::Early(text("413 Payload Too Large", "", "too big")), LARGE).await;
    assert_eq!((failure.class, failure.http_status), (ErrorClass::File, Some(413)));
    assert!(time < Duration::from_secs(30), "{time:?}");
    fake.closed().await;
}

// In real time: megabytes through a socket leave moments in which nothing happens, and a paused clock would jump over the
// stall limit in one of them.
#[tokio::test]
async fn after_an_early_answer_nothing_more_is_sent_and_the_connection_is_not_used_again() {
    let busy = Reply::EarlyAndReads(text("503 Service Unavailable", "", ""));
    let fake = Fake::start(vec![busy, answer("200 OK", "", GOOD)]).await;
    let image = Image::new(LARGE);
    image.send(&pixhost(&fake)).await.expect("the second try");
    fake.closed().await;
    assert_eq!(fake.connections(), 2);
    assert_eq!(image.upload.progress.sent(), image.upload.progress.total(), "only the second try is counted");
}

#[tokio::test(start_paused = true)]
async fn an_early_success_is_not_believed() {
    let (_, failure, _) = fail(Reply::Early(text("200 OK", "", GOOD)), LARGE).await;
    assert_eq!(failure.class, ErrorClass::BadResponse, "{failure:?}");
    assert!(failure.message.contains("before it had the whole file"), "{}", failure.message);
}

#[tokio::test(start_paused = true)]
async fn a_redirect_is_not_followed() {
    let elsewhere = Fake::start(vec![answer("200 OK", "", GOOD)]).await;
    for status in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let (_, failure, _) = fail(answer(status, &format!("Location: {}/images\r\n", elsewhere.url()), ""), 500).await;
        assert_eq!((failure.class, failure.http_status), (ErrorClass::BadResponse, status[..3].parse().ok()));
        assert!(failure.advice.is_some_and(|advice| advice.contains("base_url")));
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn oversized_heads_are_refused() {
    let many: String = (0..200).map(|i| format!("X-{i}: y\r\n")).collect();
    let long = format!("X-Long: {}\r\n", "y".repeat(2 << 20));
    for headers in [many, long] {
        let (_, failure, _) = fail(answer("200 OK", &headers, GOOD), 500).await;
        assert_eq!(failure.class, ErrorClass::UnknownOutcome, "{}", failure.message);
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_listening_is_a_connection_failure() {
    let fake = Fake::start(vec![Reply::SilentAfterAccept]).await;
    let free = { tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap() };
    assert_ne!(free, fake.addr);
    let failure = Image::new(500).send(&a_host("pixhost", format!("http://{free}"), &[])).await.expect_err("nobody");
    assert_eq!((failure.class, failure.phase, failure.sent), (ErrorClass::Connect, Phase::Connect, 0));
    assert!(failure.message.contains("refused"), "{}", failure.message);
}

#[tokio::test]
async fn r13_dropping_an_upload_closes_its_connection_within_a_second() {
    for (reply, len) in [
        (Reply::SilentAfterAccept, 500),
        (Reply::SilentAfterRequest, 500),
        (Reply::StopsReading(1 << 20), LARGE),
        (Reply::SilentAfter("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{".into()), 500),
    ] {
        let fake = Fake::start(vec![reply]).await;
        let host = pixhost(&fake);
        let image = Image::new(len);
        timeout(Duration::from_millis(300), image.send(&host)).await.expect_err("it hangs");
        timeout(Duration::from_secs(1), fake.closed()).await.expect("the server sees the end");
    }
}

#[tokio::test(start_paused = true)]
async fn r12_a_file_that_ends_early_breaks_the_request() {
    let fake = Fake::start(vec![answer("200 OK", "", GOOD)]).await;
    let image = Image::new(8 << 20);
    std::fs::OpenOptions::new().write(true).open(&image.path).unwrap().set_len(3 << 20).unwrap();
    let failure = image.send(&pixhost(&fake)).await.expect_err("no upload");
    assert_eq!((failure.class, failure.phase), (ErrorClass::Io, Phase::Send));
    assert_eq!(fake.requests().len(), 0);
}

#[tokio::test]
async fn r12_a_file_that_grows_is_sent_with_its_announced_length() {
    let fake = Fake::start(vec![answer("200 OK", "", GOOD)]).await;
    let image = Image::new(3 << 20);
    std::fs::OpenOptions::new().write(true).open(&image.path).unwrap().set_len(8 << 20).unwrap();
    image.send(&pixhost(&fake)).await.expect("an upload");
    assert!(crate::fake::parts(&fake.requests()[0]).pop().unwrap().data == image.bytes);
}
