//! Albums: one gallery for each dropped sub-folder and host, whatever comes at once, fails, or is killed.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Home, is_final, png, wait_for};

/// What the host does with a request for a gallery.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Create {
    Well,
    /// The gallery is made and the connection closed without an answer.
    Lost,
    Refused,
}

/// A pixhost with galleries: keeps which were made, what went into which, and which were finished with how many.
#[derive(Default)]
struct Seen {
    creates: Vec<Create>,
    made: Vec<String>,
    images: Vec<(String, String)>,
    finished: Vec<(String, usize)>,
    broken: Vec<String>,
    slow: Duration,
}

struct GalleryHost {
    address: std::net::SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

impl GalleryHost {
    /// `creates`: what the first requests for galleries meet; the others go well.
    fn start(creates: &[Create]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::new(Mutex::new(Seen { creates: creates.to_vec(), ..Seen::default() }));
        let shared = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let seen = Arc::clone(&shared);
                std::thread::spawn(move || while serve(&seen, &stream).unwrap_or(false) {});
            }
        });
        Self { address, seen }
    }

    fn seen<T>(&self, look: impl FnOnce(&mut Seen) -> T) -> T {
        look(&mut self.seen.lock().expect("no panic inside"))
    }

    /// The galleries that were made, by name.
    fn made(&self) -> HashMap<String, usize> {
        self.seen(|seen| {
            let mut made = HashMap::new();
            seen.made.iter().for_each(|name| *made.entry(name.clone()).or_default() += 1);
            made
        })
    }

    fn images_in(&self, gallery: &str) -> Vec<String> {
        self.seen(|seen| seen.images.iter().filter(|(_, into)| into == gallery).map(|(name, _)| name.clone()).collect())
    }

    fn finished(&self) -> Vec<(String, usize)> {
        self.seen(|seen| seen.finished.clone())
    }
}

impl Drop for GalleryHost {
    fn drop(&mut self) {
        let broken = self.seen(|seen| seen.broken.clone());
        assert!(broken.is_empty() || std::thread::panicking(), "requests that break the contract: {broken:?}");
    }
}

/// One request; whether the connection goes on.
fn serve(seen: &Mutex<Seen>, mut stream: &TcpStream) -> std::io::Result<bool> {
    let mut reader = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    if reader.read_line(&mut line)? == 0 {
        return Ok(false);
    }
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        match header.trim_end().to_ascii_lowercase().split_once(':') {
            Some(("content-length", value)) => length = value.trim().parse().expect("a length"),
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body = String::from_utf8_lossy(&body).into_owned();
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let slow = seen.lock().expect("no panic inside").slow;
    std::thread::sleep(slow);
    let mut seen = seen.lock().expect("no panic inside");
    let (status, answer) = match path.trim_start_matches('/').split('/').collect::<Vec<_>>()[..] {
        ["galleries"] => {
            let next = if seen.creates.is_empty() { Create::Well } else { seen.creates.remove(0) };
            if next == Create::Refused {
                (503, "{}".to_owned())
            } else {
                let name = body.split('&').find_map(|pair| pair.strip_prefix("gallery_name=")).unwrap_or_default();
                seen.made.push(name.to_owned());
                let number = seen.made.len();
                if next == Create::Lost {
                    return Ok(false);
                }
                let url = format!("https://pixhost.to/gallery/{name}{number}");
                let fields = json!({"gallery_hash": format!("{name}{number}"), "gallery_upload_hash": "s3cret", "gallery_url": url});
                (200, fields.to_string())
            }
        }
        ["galleries", hash, "finalize"] => {
            if !body.contains("gallery_upload_hash=s3cret") {
                seen.broken.push(format!("finalize without its secret: {body}"));
            }
            let count = seen.images.iter().filter(|(_, into)| into == hash).count();
            seen.finished.push((hash.to_owned(), count));
            (200, "{}".to_owned())
        }
        ["images"] => {
            let part = |name: &str| {
                Some(body.split(&format!("name=\"{name}\"\r\n\r\n")).nth(1)?.split("\r\n").next()?.to_owned())
            };
            let name = body.split("filename=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default();
            let gallery = part("gallery_hash").unwrap_or_default();
            if gallery.is_empty() != part("gallery_upload_hash").is_none() {
                seen.broken.push(format!("{name}: half of a gallery"));
            }
            seen.images.push((name.to_owned(), gallery));
            let stored = json!({"name": name, "show_url": format!("https://pixhost.to/show/1/{name}"),
                "th_url": format!("https://t1.pixhost.to/thumbs/1/{name}")});
            (200, stored.to_string())
        }
        _ => {
            seen.broken.push(line);
            (404, "{}".to_owned())
        }
    };
    drop(seen);
    write!(
        stream,
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{answer}",
        answer.len()
    )?;
    Ok(reader.buffer().is_empty())
}

fn configure(home: &Home, hosts: &[(&str, &GalleryHost)], folder: &str, more: &str) {
    use std::fmt::Write as _;
    let names: Vec<&str> = hosts.iter().map(|(name, _)| *name).collect();
    let mut text = format!(
        "{more}\n[server]\nlisten = \"off\"\n[[folder]]\npath = {:?}\nhosts = {names:?}\nsettle = \"200ms\"\nalbum = \"subfolder\"\n{folder}\n",
        home.drop()
    );
    for (name, host) in hosts {
        let _ = write!(text, "[host.{name}]\nrecipe = \"pixhost\"\nbase_url = \"http://{}\"\n", host.address);
    }
    home.write_config(&text);
}

fn once(home: &Home) -> String {
    let (code, _, log) = home.run(&["--config", "config.toml", "run", "--once"]);
    assert_eq!(code, 0, "{log}");
    log
}

#[test]
fn a_dropped_folder_is_one_gallery_made_first_filled_and_finished_last_and_again_for_late_files() {
    let home = Home::new();
    let host = GalleryHost::start(&[]);
    configure(&home, &[("pixhost", &host)], "", "");
    for index in 0..20 {
        home.drop_file(format!("trip/{index}.png"), &png(index));
    }
    home.drop_file("trip/day2/deep.png", &png(50));
    home.drop_file("other/x.png", &png(51));
    home.drop_file("alone.png", &png(52));
    let log = once(&home);
    assert_eq!(host.made(), [("trip".to_owned(), 1), ("other".to_owned(), 1)].into());
    let trip = home.wait_for_line("trip/0.png", 1);
    let page = trip["album_url"].as_str().expect("a page");
    let gallery = page.rsplit('/').next().expect("a name").to_owned();
    assert_eq!((trip["album"].as_str(), host.images_in(&gallery).len()), (Some("trip"), 21));
    let deep = home.wait_for_line("trip/day2/deep.png", 1);
    assert_eq!(
        (&deep["album"], &deep["album_url"]),
        (&json!("trip"), &trip["album_url"]),
        "one album for one dropped folder"
    );
    let alone = home.wait_for_line("alone.png", 1);
    assert_eq!((&alone["album"], &alone["album_url"]), (&Value::Null, &Value::Null));
    assert_eq!(host.images_in(""), ["alone.png"]);
    assert!(host.finished().contains(&(gallery.clone(), 21)), "finished when all are in: {:?}", host.finished());
    assert_eq!(host.finished().len(), 2, "and once");
    assert!(!log.contains("s3cret"), "what uploads into it need is shown to nobody");

    home.drop_file("trip/late.png", &png(60));
    once(&home);
    assert_eq!(host.made().len(), 2, "the same gallery");
    assert_eq!(host.finished().last(), Some(&(gallery, 22)), "finished again");
    once(&home);
    assert_eq!(host.finished().len(), 3, "and not without a reason");
}

#[test]
fn a_gallery_that_cannot_be_made_lets_its_images_rest_and_one_whose_answer_is_lost_is_told() {
    let home = Home::new();
    let host = GalleryHost::start(&[Create::Lost]);
    let quick = "[cooldown]\nfirst = \"32s\"\n";
    configure(&home, &[("pixhost", &host)], "", quick);
    let agent = home.start().ready();
    for index in 0..6 {
        home.drop_file(format!("trip/{index}.png"), &png(index));
    }
    wait_for("all to rest", || home.manifest_lines() == 6);
    assert_eq!(host.made(), [("trip".to_owned(), 1)].into(), "six images, one request");
    assert!(host.seen(|seen| seen.images.is_empty()), "no image goes beside it");
    assert!(home.manifest().iter().all(|line| line["status"] == "deferred" || line["status"] == "timeout"));
    assert_eq!(home.events("album-doubtful").len(), 0);
    agent.kill();
    let agent = home.start().ready();
    let (code, out, err) = home.run(&["--config", "config.toml", "retry", "--all"]);
    assert_eq!(code, 0, "{out}{err}");
    home.wait_for_finals(6);
    assert_eq!(host.made()["trip"], 2, "another one, and it is told");
    assert_eq!(home.events("album-doubtful").len(), 1, "{:#?}", home.manifest()[0]);
    wait_for("it to be finished", || host.finished() == [("trip2".to_owned(), 6)]);
    assert!(agent.stop().success());
}

#[test]
fn a_refused_gallery_is_asked_for_again_after_the_rest_and_nothing_is_in_doubt() {
    let home = Home::new();
    let host = GalleryHost::start(&[Create::Refused]);
    let quick = "[retry]\nattempts = 1\n[cooldown]\nfirst = \"31s\"\n";
    configure(&home, &[("pixhost", &host)], "", quick);
    let agent = home.start().ready();
    home.drop_file("trip/1.png", &png(1));
    let line = home.wait_for_line("trip/1.png", 1);
    let message = line["error"]["message"].as_str().expect("a text");
    assert!(message.contains("gallery \"trip\" could not be made"), "{message}");
    agent.kill();
    let agent = home.start().ready();
    let _ = home.run(&["--config", "config.toml", "retry", "--all"]);
    home.wait_for_finals(1);
    assert_eq!((host.made()["trip"], home.events("album-doubtful").len()), (1, 0));
    assert!(agent.stop().success());
}

#[test]
fn mirrored_albums_have_a_gallery_on_each_host_across_kill_9() {
    let (images, kills) = (40, 6);
    let home = Home::new();
    let (a, b) = (GalleryHost::start(&[]), GalleryHost::start(&[]));
    for host in [&a, &b] {
        host.seen(|seen| seen.slow = Duration::from_millis(5));
    }
    configure(&home, &[("a", &a), ("b", &b)], "policy = \"mirror\"", "");
    for index in 0..images {
        home.drop_file(format!("trip/{index}.png"), &png(index));
    }
    for kill in 0..kills {
        let agent = home.start();
        // Past the making of the galleries, which a kill can put in doubt.
        let goal = 1 + (images as usize * kill / kills);
        wait_for("some progress", || home.manifest_lines() >= goal);
        agent.kill();
    }
    once(&home);
    let lines = home.manifest();
    assert_eq!((lines.len(), lines.iter().filter(|line| is_final(line)).count()), (images as usize, images as usize));
    for (host, name) in [(&a, "a"), (&b, "b")] {
        assert_eq!(host.made(), [("trip".to_owned(), 1)].into(), "one gallery on {name}");
        let mut stored = host.images_in("trip1");
        stored.sort_unstable();
        stored.dedup();
        assert_eq!(stored.len(), images as usize);
        assert_eq!(host.finished().last().map(|(gallery, _)| gallery.as_str()), Some("trip1"));
    }
    for line in &lines {
        let pages: Vec<&Value> = line["mirrors"].as_array().expect("two").iter().map(|m| &m["album_url"]).collect();
        assert!(pages.iter().all(|page| page.is_string()) && *pages[0] == line["album_url"], "{line:#}");
    }
}
