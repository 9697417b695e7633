//! `verify`: a link counts only once it was seen to answer with the image (R16).

#![expect(clippy::disallowed_methods, reason = "a fake host is a task of its own")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pixchute::config::Verify;
use pixchute::host::Host;
use pixchute::job::ErrorClass;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::{Image, build_one, config, host_config};

/// How the site shows an image that it has taken.
#[derive(Clone, Copy)]
enum Shows {
    /// As it was sent.
    Image,
    /// As it was sent, from the third look on.
    Late,
    /// A page, with status 200.
    Page,
    /// A part of it.
    Part,
    /// Nothing under this address.
    NotFound,
    /// Somewhere else.
    Elsewhere,
}

/// A pixhost whose links lead to itself; counts the looks at the image.
async fn site(shows: Shows, content: Vec<u8>) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let looks = Arc::new(AtomicUsize::new(0));
    let (address, counted) = (base.clone(), Arc::clone(&looks));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (address, content, counted) = (address.clone(), content.clone(), Arc::clone(&counted));
            tokio::spawn(async move { answer(stream, &address, shows, &content, &counted).await });
        }
    });
    (base, looks)
}

async fn answer(mut stream: TcpStream, address: &str, shows: Shows, content: &[u8], looks: &AtomicUsize) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer).await.unwrap_or(0);
        request.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&request).to_ascii_lowercase();
        let Some((head, _)) = text.split_once("\r\n\r\n") else {
            if read == 0 {
                return;
            }
            continue;
        };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
        if request.len() >= head.len() + 4 + length {
            break;
        }
    }
    let page = b"<html>gone".to_vec();
    let stored =
        format!(r#"{{"name":"x.png","show_url":"{address}/show/1/2_x.png","th_url":"{address}/thumbs/1/2_x.png"}}"#);
    let (status, kind, body) = if request.starts_with(b"POST") {
        ("200 OK", "application/json", stored.into_bytes())
    } else {
        assert!(request.windows(12).any(|part| part == b" /images/1/2"), "{}", String::from_utf8_lossy(&request));
        let look = looks.fetch_add(1, Ordering::SeqCst);
        match shows {
            Shows::Image => ("200 OK", "image/png", content.to_vec()),
            Shows::Late if look >= 2 => ("200 OK", "image/png", content.to_vec()),
            Shows::Page => ("200 OK", "text/html", page),
            Shows::Part => ("200 OK", "image/png", content[..content.len() / 2].to_vec()),
            Shows::NotFound | Shows::Late => ("404 Not Found", "text/html", page),
            Shows::Elsewhere => ("302 Found\r\nLocation: /removed.png", "image/png", Vec::new()),
        }
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(head.as_bytes()).await;
    if !request.starts_with(b"HEAD") {
        let _ = stream.write_all(&body).await;
    }
}

fn host(base_url: String, how: Verify) -> Arc<dyn Host> {
    let host = host_config("pixhost", Some(base_url), &[]);
    build_one(&config([pixchute::config::HostConfig { verify: how, ..host }])).expect("a good configuration")
}

#[tokio::test(start_paused = true)]
async fn r16_a_link_that_shows_the_image_counts_at_the_first_look_or_a_little_later() {
    for how in [Verify::Head, Verify::Get] {
        for (shows, expected) in [(Shows::Image, 1), (Shows::Late, 3)] {
            let image = Image::new(5_000);
            let (base, looks) = site(shows, image.bytes.clone()).await;
            let links = image.send(&host(base, how)).await.expect("verified");
            assert!(links.image.expect("has one").contains("/images/1/2_x.png"));
            assert_eq!(looks.load(Ordering::SeqCst), expected, "{how:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn r16_a_link_that_does_not_show_the_image_is_a_bad_response() {
    let cases = [
        (Shows::Page, "is no image but text/html"),
        (Shows::Part, "has 2500 bytes, 5000 were sent"),
        (Shows::NotFound, "answers 404"),
        (Shows::Elsewhere, "answers 302"),
    ];
    for how in [Verify::Head, Verify::Get] {
        for (shows, expected) in cases {
            let image = Image::new(5_000);
            let (base, looks) = site(shows, image.bytes.clone()).await;
            let failure = image.send(&host(base, how)).await.expect_err("not verified");
            assert_eq!(failure.class, ErrorClass::BadResponse);
            assert!(failure.message.contains(expected), "{how:?}: {}", failure.message);
            assert_eq!(looks.load(Ordering::SeqCst), 3);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_verify_nobody_looks() {
    let image = Image::new(5_000);
    let (base, looks) = site(Shows::Page, image.bytes.clone()).await;
    image.send(&host(base, Verify::Off)).await.expect("taken at its word");
    assert_eq!(looks.load(Ordering::SeqCst), 0);
}
