//! Answers that a host packs although nobody asked for it.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use pixchute::job::ErrorClass;

use crate::fake::{Fake, Reply};
use crate::{Image, a_host};

const GOOD: &str = r#"{"show_url":"https://pixhost.to/show/1/2.png","th_url":"https://t1.pixhost.to/thumbs/1/2.png"}"#;

fn gzip(text: &str) -> Vec<u8> {
    let mut packing = GzEncoder::new(Vec::new(), Compression::default());
    packing.write_all(text.as_bytes()).expect("writing to memory");
    packing.finish().expect("writing to memory")
}

fn packed(status: &str, headers: &str, body: &[u8]) -> Reply {
    let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    Reply::Bytes([head.as_bytes(), body].concat())
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_packed_unasked_gives_its_link() {
    let fake = Fake::start(vec![packed("200 OK", "Content-Encoding: gzip\r\n", &gzip(GOOD))]).await;
    let links = Image::new(500).send(&a_host("pixhost", fake.url(), &[])).await.expect("an upload");
    assert_eq!(links.url, "https://pixhost.to/show/1/2.png");
    assert_eq!(fake.requests()[0].header("accept-encoding"), None, "nobody asked");
}

#[tokio::test(start_paused = true)]
async fn an_error_that_was_packed_unasked_is_read_too() {
    let body = gzip(r#"{"error_msg":"that is no picture"}"#);
    let fake = Fake::start(vec![packed("400 Bad Request", "Content-Encoding: gzip\r\n", &body)]).await;
    let failure = Image::new(500).send(&a_host("pixhost", fake.url(), &[])).await.expect_err("no upload");
    assert!(failure.message.contains("that is no picture"), "{}", failure.message);
}

#[tokio::test(start_paused = true)]
async fn a_packing_that_is_not_known_is_named_and_never_taken_for_a_link() {
    let fake = Fake::start(vec![packed("200 OK", "Content-Encoding: br\r\n", GOOD.as_bytes())]).await;
    let failure = Image::new(500).send(&a_host("pixhost", fake.url(), &[])).await.expect_err("no upload");
    assert_eq!(failure.class, ErrorClass::BadResponse);
    assert!(failure.message.contains("cannot be unpacked (br)"), "{}", failure.message);
    // What a refusal means is told by its status.
    let limit = packed("429 Too Many Requests", "Retry-After: 7\r\nContent-Encoding: br\r\n", b"\x0b\x02");
    let failure = Image::new(500).send(&a_host("pixhost", Fake::start(vec![limit]).await.url(), &[])).await;
    let failure = failure.expect_err("no upload");
    assert_eq!((failure.class, failure.http_status), (ErrorClass::RateLimited, Some(429)));
}
