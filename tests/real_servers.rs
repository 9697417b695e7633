//! The real binary and real servers that nobody here wrote. `tests/real-servers.sh test` starts them and runs this; without
//! them every test says that it was skipped.

#[path = "support/mod.rs"]
#[expect(dead_code, reason = "these tests need a part of it")]
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use serde_json::{Value, json};
use support::{Home, jpeg, picture};

/// The address of a server, if it runs.
fn server(name: &str) -> Option<String> {
    let address = std::env::var(format!("REAL_{name}")).ok();
    if address.is_none() {
        eprintln!("SKIPPED: no {name} is running; tests/real-servers.sh test starts the servers");
    }
    address
}

/// Status and body of a GET; `user` for Basic authentication.
fn get(url: &str, user: Option<&str>) -> (u16, Vec<u8>) {
    let rest = url.strip_prefix("http://").expect("a plain URL");
    let (host, path) = rest.split_once('/').expect("a path");
    let mut stream = TcpStream::connect(host).expect("it answers");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a limit");
    let login = user.map(|user| base64::engine::general_purpose::STANDARD.encode(user));
    let login = login.map(|login| format!("Authorization: Basic {login}\r\n")).unwrap_or_default();
    write!(stream, "GET /{path} HTTP/1.0\r\nHost: {host}\r\n{login}\r\n").expect("it reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, answer.split_off(end + 4))
}

/// Pictures of several kinds and sizes, one with a name that needs encoding, two of them the same.
fn pictures() -> Vec<(&'static str, Vec<u8>)> {
    let noise =
        image::RgbImage::from_fn(900, 600, |x, y| image::Rgb([(x * y) as u8, (x ^ y) as u8, (x * 7 + y) as u8]));
    let mut png = std::io::Cursor::new(Vec::new());
    noise.write_to(&mut png, image::ImageFormat::Png).expect("encodes");
    vec![
        ("small.jpg", picture(1, image::ImageFormat::Jpeg)),
        ("same.jpg", picture(1, image::ImageFormat::Jpeg)),
        ("large.jpg", jpeg(3_000_000, 5)),
        ("gelb & grün +#?.png", png.into_inner()),
        ("loop.gif", picture(9, image::ImageFormat::Gif)),
    ]
}

/// A home whose drop folder goes to `host`, as `table` says.
fn home(host: &str, table: &str) -> Home {
    let home = Home::new();
    let drop = home.drop();
    home.write_config(&format!(
        "[server]\nlisten = 'off'\n[retry]\nattempts = 2\nbackoff = '1s'\n\
         [[folder]]\npath = {drop:?}\nhost = '{host}'\nsettle = '200ms'\n[host.{host}]\n{table}"
    ));
    home
}

/// Sends `pictures` once; the manifest, and the exit code with everything that was printed.
fn send(home: &Home, pictures: &[(&str, Vec<u8>)]) -> (Vec<Value>, i32, String) {
    for (name, bytes) in pictures {
        home.drop_file(name, bytes);
    }
    let (code, out, log) = home.run(&["--config", "config.toml", "run", "--once"]);
    (home.manifest(), code, out + &log)
}

/// Sends [`pictures`] and compares what the links give with what was dropped.
fn bytes_come_back(host: &str, table: &str, user: Option<&str>, thumbs: bool) {
    let home = home(host, table);
    let pictures = pictures();
    let (lines, code, log) = send(&home, &pictures);
    assert_eq!(code, 0, "{log}");
    assert_eq!(lines.len(), pictures.len(), "{log}");
    let mut urls = BTreeSet::new();
    for line in &lines {
        let (name, bytes) = pictures.iter().find(|(name, _)| line["file"] == *name).expect("one that was dropped");
        let url = line["url"].as_str().unwrap_or_else(|| panic!("{line:#}"));
        let (status, found) = get(url, user);
        assert_eq!((status, found.len()), (200, bytes.len()), "{name}: {url}");
        assert!(found == *bytes, "{name}: other bytes at {url}");
        urls.insert(url.to_owned());
        if thumbs {
            let (status, small) = get(line["thumb"].as_str().unwrap_or_else(|| panic!("{line:#}")), user);
            let small = image::load_from_memory(&small).unwrap_or_else(|error| panic!("{name}: {status}, {error}"));
            assert!(small.width() <= 320 && small.height() <= 320, "{name}");
        }
    }
    assert_eq!(urls.len(), pictures.len() - 1, "the same content has the same link");
    // A ledger that is lost, and the same files again: the same links.
    let again = self::home(host, table);
    let (lines, code, log) = send(&again, &pictures);
    assert_eq!(code, 0, "{log}");
    if thumbs {
        assert_eq!(
            lines.iter().map(|line| line["url"].as_str().expect("a link").to_owned()).collect::<BTreeSet<_>>(),
            urls
        );
    }
}

/// Sends one picture that is not taken; its line.
fn refused(host: &str, table: &str, bytes: Vec<u8>) -> Value {
    let home = home(host, table);
    let (lines, code, log) = send(&home, &[("x.jpg", bytes)]);
    assert_eq!(code, 1, "{log}");
    let shown = format!("{log}{}", fs::read_to_string(home.drop().join("manifest.jsonl")).unwrap_or_default());
    assert!(!shown.contains("CANARY"), "a secret was shown: {shown}");
    lines.last().unwrap_or_else(|| panic!("no line: {log}")).clone()
}

fn s3(endpoint: &str, more: &str) -> String {
    let keys = if more.contains("access_key") { "" } else { "access_key = 'AKAGENT'\nsecret_key = 'SKAGENT'\n" };
    let bucket = if more.contains("bucket") { "" } else { "bucket = 'pics'\n" };
    format!("recipe = 's3'\nendpoint = '{endpoint}'\n{bucket}{keys}{more}")
}

#[test]
fn s3_gives_back_what_was_dropped() {
    let Some(endpoint) = server("S3") else { return };
    bytes_come_back("bucket", &s3(&endpoint, ""), None, true);
    let home = home("bucket", &s3(&endpoint, "key = 'by name/{{ name }}'\n"));
    for number in [21, 22] {
        home.drop_file("x y.jpg", &picture(number, image::ImageFormat::Jpeg));
        assert_eq!(home.run(&["--config", "config.toml", "run", "--once"]).0, 0);
    }
    for (line, number) in home.manifest().iter().zip([21, 22]) {
        let url = line["url"].as_str().expect("a link");
        assert_eq!(get(url, None).1, picture(number, image::ImageFormat::Jpeg), "{url}");
    }
}

#[test]
fn r26_s3_refusals_are_the_accounts_and_show_no_key() {
    let Some(endpoint) = server("S3") else { return };
    let table = [
        ("access_key = 'AKAGENT'\nsecret_key = 'CANARY'\n", "secret_key"),
        ("access_key = 'AKCANARY'\nsecret_key = 'CANARY'\n", "access_key"),
        ("access_key = 'AKREADER'\nsecret_key = 'SKREADER'\n", "PutObject"),
        ("bucket = 'nowhere'\n", "bucket"),
    ];
    for (options, advice) in table {
        let line = refused("bucket", &s3(&endpoint, options), picture(2, image::ImageFormat::Jpeg));
        assert_eq!((&line["status"], &line["error"]["class"]), (&json!("deferred"), &json!("account")), "{line:#}");
        assert!(line["error"]["advice"].as_str().is_some_and(|text| text.contains(advice)), "{line:#}");
    }
}

#[test]
fn webdav_servers_give_back_what_was_dropped() {
    let login = "user = 'agent'\npassword = 'secret'\n";
    if let Some(nginx) = server("NGINX") {
        let public = "public_url = '{{ key }}'".replace("{{", &format!("{nginx}/pub/{{{{"));
        bytes_come_back("dav", &format!("recipe = 'webdav'\nbase_url = '{nginx}/up'\n{login}{public}\n"), None, true);
        let named = format!("{login}{public}\nkey = 'named/{{{{ stem }}}}.{{{{ ext }}}}'\n");
        bytes_come_back_once("dav", &format!("recipe = 'webdav'\nbase_url = '{nginx}/up'\n{named}"));
    }
    if let Some(wsgidav) = server("WSGIDAV") {
        let table = format!("recipe = 'webdav'\nbase_url = '{wsgidav}'\n{login}");
        bytes_come_back("dav", &table, Some("agent:secret"), true);
    }
    if let Some(copyparty) = server("COPYPARTY") {
        let login = "user = 'agent'\npassword = 'secret'\n";
        bytes_come_back("dav", &format!("recipe = 'webdav'\nbase_url = '{copyparty}/up/dav'\n{login}"), None, true);
    }
}

/// Two different images of one name: both are there afterwards, each under its link.
fn bytes_come_back_once(host: &str, table: &str) {
    let home = home(host, table);
    for number in [31, 32] {
        home.drop_file("x.jpg", &picture(number, image::ImageFormat::Jpeg));
        assert_eq!(home.run(&["--config", "config.toml", "run", "--once"]).0, 0);
    }
    for (line, number) in home.manifest().iter().zip([31, 32]) {
        let url = line["url"].as_str().expect("a link");
        assert_eq!(get(url, None).1, picture(number, image::ImageFormat::Jpeg), "{url}");
    }
}

#[test]
fn nginx_says_too_large_too_often_and_who_are_you() {
    let Some(nginx) = server("NGINX") else { return };
    let table = |place: &str, more: &str| format!("recipe = 'webdav'\nbase_url = '{nginx}/{place}'\n{more}");
    let line = refused("dav", &table("small", ""), jpeg(8_000_000, 6));
    assert_eq!((&line["status"], &line["error"]["class"]), (&json!("failed"), &json!("file")), "{line:#}");
    assert_eq!(line["error"]["http_status"], 413);
    let line = refused("dav", &table("slow", ""), jpeg(100_000, 7));
    assert_eq!((&line["status"], &line["error"]["class"]), (&json!("deferred"), &json!("rate_limited")), "{line:#}");
    let line = refused("dav", &table("up", "user = 'agent'\npassword = 'CANARY'\n"), jpeg(100_000, 8));
    assert_eq!((&line["status"], &line["error"]["class"]), (&json!("deferred"), &json!("account")), "{line:#}");
}

/// A recipe of the user for copyparty's form.
const COPYPARTY: &str = r#"
name = "copyparty"
about = "a copyparty of one's own"
site = "https://copyparty.example"
[option.password]
doc = "the password"
secret = true
required = true
[option.folder]
doc = "the folder"
default = "up"
[[step]]
name = "upload"
method = "POST"
url = "{{ base_url }}/{{ option.folder }}/?j"
headers = { PW = "{{ option.password }}" }
body = "multipart"
fields = [{ name = "act", value = "bput" }, { name = "f", file = true }]
extract = { url = "json:files[0].url" }
[result]
url = "{{ step.upload.url }}"
image = "{{ step.upload.url }}"
[[error]]
status = [400]
text = "too big"
class = "file"
"#;

#[test]
fn copyparty_takes_a_form_and_answers_in_json() {
    let Some(copyparty) = server("COPYPARTY") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let recipe = written(folder.path(), "copyparty.toml", COPYPARTY);
    let table = |more: &str| format!("recipe = {recipe:?}\nbase_url = '{copyparty}'\n{more}");
    bytes_come_back("party", &table("password = 'secret'\n"), None, false);
    // It makes no link to a thumbnail without being asked: ours is sent beside it.
    bytes_come_back("party", &table("password = 'secret'\nthumbnail = 'upload'\nfix_extension = true\n"), None, false);
    let line = refused("party", &table("password = 'CANARY'\n"), jpeg(100_000, 9));
    assert_eq!((&line["status"], &line["error"]["class"]), (&json!("deferred"), &json!("account")), "{line:#}");
    let line = refused("party", &table("password = 'secret'\nfolder = 'small'\n"), jpeg(2_000_000, 10));
    assert_eq!((&line["status"], &line["error"]["class"]), (&json!("failed"), &json!("file")), "{line:#}");
}

/// A recipe of the user for a host with a login and a cookie.
const SIMPLE_IMAGE: &str = r#"
name = "simple"
about = "simple-image-hosting"
site = "https://pypi.org/project/simple-image-hosting/"
[option.user]
doc = "the user"
required = true
[option.password]
doc = "the password"
secret = true
required = true
[session]
account = ["user", "password"]
[[session.step]]
name = "login"
method = "POST"
url = "{{ base_url }}/auth/login"
body = "json"
fields = [{ name = "username", value = "{{ option.user }}" }, { name = "password", value = "{{ option.password }}" }]
[[session.expired]]
status = [401]
[[step]]
name = "upload"
method = "POST"
url = "{{ base_url }}/upload"
body = "multipart"
fields = [{ name = "file", file = true }]
extract = { id = "json:id" }
[result]
url = "{{ base_url }}/image/{{ step.upload.id }}"
image = "{{ base_url }}/image/{{ step.upload.id }}"
thumb = "{{ base_url }}/thumbnail/{{ step.upload.id }}"
"#;

#[test]
fn simple_image_hosting_wants_a_login_and_makes_thumbnails() {
    let Some(address) = server("SIMPLE_IMAGE") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let recipe = written(folder.path(), "simple.toml", SIMPLE_IMAGE);
    let table = |password: &str| {
        format!("recipe = {recipe:?}\nbase_url = '{address}'\nuser = 'agent'\npassword = '{password}'\n")
    };
    let home = home("simple", &table("secret123"));
    let (lines, code, log) = send(
        &home,
        &[("a.jpg", picture(41, image::ImageFormat::Jpeg)), ("b.png", picture(42, image::ImageFormat::Png))],
    );
    assert_eq!((code, lines.len()), (0, 2), "{log}");
    for line in lines {
        // It encodes anew: the size is what stays.
        let (_, bytes) = get(line["url"].as_str().expect("a link"), None);
        let picture = image::load_from_memory(&bytes).expect("a picture");
        assert_eq!((picture.width(), picture.height()), (32, 24));
        assert_eq!(get(line["thumb"].as_str().expect("a thumbnail"), None).0, 200);
    }
    let line = refused("simple", &table("CANARY"), picture(43, image::ImageFormat::Jpeg));
    assert_eq!(line["error"]["class"], "account", "{line:#}");
}

fn written(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, text).expect("writes");
    path.to_str().expect("UTF-8").to_owned()
}
