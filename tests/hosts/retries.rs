//! Tries of one request inside the deadline, and what never leaves the host: secrets.

use std::time::Duration;

use pixchute::job::ErrorClass;
use tokio::time::Instant;

use crate::fake::{Fake, Reply, answer, parts};
use crate::{Image, a_host};

const LINK: &str = "https://files.catbox.moe/a.png";

fn unavailable() -> Reply {
    answer("503 Service Unavailable", "", "<html>")
}

#[tokio::test(start_paused = true)]
async fn r18_a_temporary_failure_is_tried_four_times_with_growing_gaps() {
    let fake = Fake::start(vec![unavailable()]).await;
    let failure = Image::new(3 << 20).send(&a_host("catbox", fake.url(), &[])).await.expect_err("never well");
    assert_eq!((failure.class, failure.http_status), (ErrorClass::BadResponse, Some(503)));
    let requests = fake.requests();
    let gaps: Vec<f64> = requests.windows(2).map(|pair| (pair[1].at - pair[0].at).as_secs_f64()).collect();
    assert_eq!(gaps.len(), 3);
    for (gap, exact) in gaps.iter().zip([2.0, 4.0, 8.0]) {
        assert!((exact * 0.9..=exact * 1.1 + 0.1).contains(gap), "{gaps:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_retried_request_carries_the_whole_file_again() {
    let fake = Fake::start(vec![unavailable(), Reply::ResetAfterHead, answer("200 OK", "", LINK)]).await;
    let image = Image::new(8 << 20);
    let links = image.send(&a_host("catbox", fake.url(), &[])).await.expect("the third try");
    assert_eq!(links.url, LINK);
    assert!(parts(fake.requests().last().unwrap()).pop().unwrap().data == image.bytes);
    assert!(image.upload.progress.all_sent());
}

#[tokio::test(start_paused = true)]
async fn no_try_begins_after_the_deadline() {
    let fake = Fake::start(vec![unavailable()]).await;
    let mut image = Image::new(500);
    let began = Instant::now();
    image.upload.deadline = began + Duration::from_secs(5);
    image.send(&a_host("catbox", fake.url(), &[])).await.expect_err("never well");
    assert_eq!(fake.requests().len(), 2);
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn the_account_the_rate_and_the_file_are_not_tried_again() {
    for status in ["401 Unauthorized", "403 Forbidden", "429 Too Many Requests", "413 Payload Too Large"] {
        let fake = Fake::start(vec![answer(status, "", "")]).await;
        Image::new(500).send(&a_host("catbox", fake.url(), &[])).await.expect_err("refused");
        assert_eq!(fake.requests().len(), 1, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn connections_are_used_again() {
    let fake = Fake::start(vec![answer("200 OK", "", LINK)]).await;
    let host = a_host("catbox", fake.url(), &[]);
    for _ in 0..5 {
        Image::new(500).send(&host).await.expect("an upload");
    }
    assert_eq!((fake.connections(), fake.requests().len()), (1, 5));
}

#[tokio::test(start_paused = true)]
async fn r26_secrets_appear_in_no_failure_even_if_the_host_repeats_them() {
    const CANARY: &str = "CANARY/se+cret\"42";
    let echo = r#"{"error":{"message":"Invalid key CANARY/se+cret\"42 (CANARY%2Fse%2Bcret%2242)"}}"#;
    let replies = [
        answer("403 Forbidden", "", echo),
        answer("200 OK", "", echo),
        answer("200 OK", "", "<html>CANARY/se+cret\"42</html>"),
        Reply::SilentAfterRequest,
        Reply::ResetAfterRequest,
        Reply::Endless,
    ];
    for reply in replies {
        for recipe in ["imgbb", "chevereto", "freeimage"] {
            let fake = Fake::start(vec![reply.clone()]).await;
            let host = a_host(recipe, fake.url(), &[("api_key", CANARY)]);
            let failure = Image::new(500).send(&host).await.expect_err("no link");
            let sent = &fake.requests()[0];
            let shown = format!("{:?}{}", sent.headers, String::from_utf8_lossy(&sent.body));
            assert!(shown.contains("CANARY"), "the key was sent");
            let told = format!("{failure:?}");
            assert!(!told.contains("CANARY") && !told.contains("cret"), "{told}");
        }
    }
}
