//! The way through a proxy of the system: what it is told, and that a connection ends with its attempt.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use crate::support::{Agent, Home, png, wait_for};

/// How soon after its deadline a connection is gone.
const AT_ONCE: Duration = Duration::from_secs(1);

/// A proxy on loopback: hands each connection to the test.
fn proxy() -> (u16, Receiver<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (sender, connections) = sync_channel(16);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if sender.send(stream).is_err() {
                return;
            }
        }
    });
    (port, connections)
}

fn start(home: &Home, variable: &str, port: u16) -> Agent {
    let mut command = home.command();
    command.env(variable, format!("http://ada:CANARY-of-the-proxy@127.0.0.1:{port}"));
    command.args(["--config", "config.toml", "run"]);
    home.spawn(command).ready()
}

fn configure(home: &Home, host: &str, more: &str) {
    home.write_config(&format!(
        "{more}\n[log]\nlevel = \"trace\"\n[server]\nlisten = \"off\"\n[[folder]]\npath = {:?}\nhost = \"pixhost\"\nsettle = \"200ms\"\n[host.pixhost]\n{host}\n",
        home.drop()
    ));
}

/// The head of a request, and as much of its body as came with it.
fn request(stream: &mut TcpStream) -> String {
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    let mut text = Vec::new();
    let mut piece = [0; 4_096];
    while !String::from_utf8_lossy(&text).contains("\r\n\r\n") {
        let count = stream.read(&mut piece).expect("a request");
        assert!(count > 0, "it broke off");
        text.extend_from_slice(&piece[..count]);
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn a_plain_proxy_is_told_the_whole_address_and_its_password_is_in_no_log() {
    let (port, connections) = proxy();
    let home = Home::new();
    configure(&home, "base_url = \"http://pixhost.invalid\"\nallow_http = true", "");
    let agent = start(&home, "http_proxy", port);
    home.drop_file("x.png", &png(1));
    let mut stream = connections.recv_timeout(Duration::from_secs(20)).expect("a connection");
    let head = request(&mut stream).to_lowercase();
    assert!(head.starts_with("post http://pixhost.invalid/images http/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nhost: pixhost.invalid\r\n"), "{head}");
    assert!(head.contains("\r\nproxy-authorization: basic "), "{head}");
    let body = r#"{"show_url":"https://pixhost.to/show/1/2.png","th_url":"https://t1.pixhost.to/thumbs/1/2.png"}"#;
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(answer.as_bytes()).expect("written");
    let line = home.wait_for_line("x.png", 1);
    assert_eq!(line["url"], "https://pixhost.to/show/1/2.png");
    assert!(!agent.log_text().contains("CANARY-of-the-proxy"), "{}", agent.log_text());
    assert!(agent.stop().success());
}

#[test]
fn r13_a_silent_tunnel_ends_with_its_attempt() {
    let (port, connections) = proxy();
    let home = Home::new();
    configure(&home, "", "[pool]\nfile_timeout = \"2s\"\n[retry]\nattempts = 1");
    let agent = start(&home, "https_proxy", port);
    home.drop_file("x.png", &png(1));
    let mut stream = connections.recv_timeout(Duration::from_secs(20)).expect("a connection");
    let head = request(&mut stream);
    assert!(head.starts_with("CONNECT api.pixhost.to:443 HTTP/1.1\r\n"), "{head}");
    wait_for("the deadline", || !home.lines_of("x.png").is_empty());
    stream.set_read_timeout(Some(AT_ONCE)).expect("set");
    match stream.read(&mut [0; 64]) {
        Ok(0) => {}
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        other => panic!("the connection is still open: {other:?}"),
    }
    let line = &home.lines_of("x.png")[0];
    assert_eq!((&line["status"], &line["error"]["phase"]), (&"timeout".into(), &"connect".into()), "{line:#}");
    assert!(agent.stop().success());
}

#[test]
fn a_proxy_that_refuses_the_tunnel_is_named() {
    let (port, connections) = proxy();
    let home = Home::new();
    configure(&home, "", "[retry]\nattempts = 1");
    let agent = start(&home, "https_proxy", port);
    home.drop_file("x.png", &png(1));
    let mut stream = connections.recv_timeout(Duration::from_secs(20)).expect("a connection");
    request(&mut stream);
    stream.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n").expect("written");
    let line = home.wait_for_line("x.png", 1);
    assert_eq!(line["error"]["class"], "connect", "{line:#}");
    let message = line["error"]["message"].as_str().expect("a message");
    assert!(message.contains("the proxy 127.0.0.1 opens no tunnel: HTTP/1.1 407"), "{message}");
    assert!(agent.stop().success());
}
