//! Hooks: they get what they asked for, and one that hangs or refuses changes nothing but its own log lines.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::support::host::{FakeHost, Reply};
use crate::support::{Home, png, wait_for, wait_for_within};

/// An address that answers each request with this status, and counts.
fn address(status: u16) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/notify/geheim", listener.local_addr().expect("an address"));
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut text = Vec::new();
            let mut byte = [0; 4_096];
            // The whole request: its head and as many bytes as it announces.
            while let Ok(read) = stream.read(&mut byte) {
                text.extend(&byte[..read]);
                if read == 0 || text.ends_with(b"}") {
                    break;
                }
            }
            counted.fetch_add(1, Ordering::SeqCst);
            let _ = stream.write_all(format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n").as_bytes());
        }
    });
    (url, count)
}

#[test]
fn hooks_get_the_record_and_their_words_filled_in() {
    let home = Home::new();
    let host = FakeHost::start(|name| match name {
        "bad.png" => Reply::Answer(413, String::new(), "too large".into()),
        _ => Reply::Stored,
    });
    let out = home.path("out");
    fs::create_dir_all(&out).expect("a folder");
    let (url, count) = address(204);
    let target = format!("{}/{{{{ status }}}} {{{{ file }}}}", out.display());
    let hooks = format!(
        "[[hook]]\non = [\"uploaded\", \"failed\"]\nexec = [\"sh\", \"-c\", 'cat > \"$1.new\"; echo \"$2\" >> \"$1.new\"; mv \"$1.new\" \"$1\"', \"sh\", {target:?}, \"{{{{ url }}}}\"]\n[[hook]]\non = [\"failed\"]\nwebhook = {url:?}\n"
    );
    home.configure(&host, &hooks);
    let agent = home.start().ready();
    home.drop_file("a 'b' $(c).png", &png(1));
    home.drop_file("bad.png", &png(2));
    home.drop_file("bad.gif", b"no picture");
    let read = |name: &str| {
        wait_for(name, || out.join(name).exists());
        fs::read_to_string(out.join(name)).expect("written")
    };
    let text = read("uploaded a 'b' $(c).png");
    let record: Value = serde_json::from_str(text.lines().next().expect("a line")).expect("JSON");
    assert_eq!(record["file"], "a 'b' $(c).png");
    assert_eq!(text.lines().nth(1), record["url"].as_str(), "{text}");
    assert!(record.get("delete_url").is_none());
    assert_eq!(read("failed bad.gif").lines().nth(1), Some(""), "no link, no text");
    wait_for("the address to be told", || count.load(Ordering::SeqCst) >= 1);
    assert!(agent.stop().success());
}

#[test]
fn a_hook_that_hangs_and_an_address_that_answers_500_change_nothing_but_the_log() {
    let home = Home::new();
    let host = FakeHost::start(|_| Reply::StoredAfter(Duration::from_millis(5)));
    let (url, count) = address(500);
    let hooks = format!(
        "[[hook]]\non = [\"uploaded\"]\nexec = [\"sh\", \"-c\", \"sleep 4321 & sleep 4321\"]\ntimeout = \"1s\"\nretries = 0\n[[hook]]\non = [\"uploaded\"]\nwebhook = {url:?}\nretries = 1\n[[hook]]\non = [\"uploaded\"]\nexec = [\"/no/such/program\"]\n"
    );
    home.configure(&host, &hooks);
    let agent = home.start().ready();
    for index in 0..60 {
        home.drop_file(format!("{index}.png"), &png(index));
    }
    home.wait_for_finals(60);
    assert!(home.manifest().iter().all(|line| line["status"] == "uploaded"));
    assert_eq!(host.received().len(), 60);
    wait_for("a try and another one", || count.load(Ordering::SeqCst) >= 2);
    wait_for("their log lines", || {
        let log = agent.log_text();
        ["was killed", "answered 500", "cannot be started"].iter().all(|part| log.contains(part))
    });
    assert!(!agent.log_text().contains("geheim"), "an address may hold a token");
    let began = tokio::time::Instant::now();
    assert!(agent.stop().success());
    assert!(began.elapsed() < Duration::from_secs(15), "the end does not wait for hooks");
    // With all they have started.
    wait_for_within(Duration::from_secs(5), "no process of theirs", || {
        let processes = fs::read_dir("/proc").expect("a list").flatten();
        let lines = processes.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
        lines.filter(|line| line.starts_with(b"sleep\x004321")).count() == 0
    });
}
