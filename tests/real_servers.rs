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
    // In one piece: PHP's own server hangs up on a request whose first piece is not all of its head.
    let request = format!("GET /{path} HTTP/1.0\r\nHost: {host}\r\n{login}\r\n");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap_or_else(|error| panic!("{url}: {error}"));
    let end =
        answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or_else(|| panic!("no answer from {url}"));
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
    if thumbs {
        gone_when_undone(&again, &lines, user);
    }
}

/// Undoes every upload of a store of one's own: the image goes with the last file that has its link, and the thumbnail too.
fn gone_when_undone(home: &Home, lines: &[Value], user: Option<&str>) {
    let link = |line: &Value, name: &str| line[name].as_str().expect("a link").to_owned();
    for line in lines {
        let shown = format!("{line:#}");
        let twins =
            lines.iter().filter(|other| other["url"] == line["url"] && other["seq"].as_u64() > line["seq"].as_u64());
        let twins = twins.count();
        let (code, out, error) = home.run(&["--config", "config.toml", "undo", line["job"].as_str().expect("a job")]);
        assert_eq!(code, 0, "{out}{error}{shown}");
        let (image, thumb) = (get(&link(line, "url"), user).0, get(&link(line, "thumb"), user).0);
        if twins > 0 {
            assert!(out.contains("the image stays") && image == 200 && thumb == 200, "{out}{shown}");
        } else {
            assert!(out.contains("is deleted") && image == 404 && thumb == 404, "{image} {thumb} {out}{shown}");
        }
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
    two_of_one_name("bucket", &s3(&endpoint, "key = 'by name/{{ name }}'\n"));
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
        two_of_one_name("dav", &format!("recipe = 'webdav'\nbase_url = '{nginx}/up'\n{named}"));
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
fn two_of_one_name(host: &str, table: &str) {
    let home = home(host, table);
    for number in [31, 32] {
        home.drop_file("x y.jpg", &picture(number, image::ImageFormat::Jpeg));
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

/// A recipe of the user for a wiki: a token to log in with, the cookies of the session, a token to write with, and errors
/// that come with status 200.
const MEDIAWIKI: &str = r#"
name = "wiki"
about = "a MediaWiki of one's own"
site = "https://www.mediawiki.org/wiki/API:Upload"
error_message = ["json:error.info", "json:login.reason"]
[limits]
types = ["jpeg", "png", "gif"]
[random]
id = "lower:8"
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
name = "ask"
method = "GET"
url = "{{ base_url }}/api.php"
query = { action = "query", meta = "tokens", type = "login", format = "json" }
extract = { token = "json:query.tokens.logintoken" }
require = ["token"]
secret = ["token"]
[[session.step]]
name = "login"
method = "POST"
url = "{{ base_url }}/api.php"
query = { action = "login", format = "json" }
body = "form"
fields = [
    { name = "lgname", value = "{{ option.user }}" },
    { name = "lgpassword", value = "{{ option.password }}" },
    { name = "lgtoken", value = "{{ step.ask.token }}" },
]
extract = { result = "json:login.result" }
expect = [{ value = "result", like = '^Success$' }]
[[session.step]]
name = "write"
method = "GET"
url = "{{ base_url }}/api.php"
query = { action = "query", meta = "tokens", format = "json" }
extract = { token = "json:query.tokens.csrftoken" }
require = ["token"]
secret = ["token"]
[[session.expired]]
text = '"code":"(assertuserfailed|badtoken|mustbeloggedin)"'
[[step]]
name = "upload"
method = "POST"
url = "{{ base_url }}/api.php"
body = "multipart"
fields = [
    { name = "action", value = "upload" },
    { name = "format", value = "json" },
    { name = "assert", value = "user" },
    { name = "ignorewarnings", value = "1" },
    { name = "filename", value = "{{ random.id }}-{{ file.stem|replace('#', '_') }}.{{ file.extension }}" },
    { name = "token", value = "{{ session.write.token }}" },
    { name = "file", file = true },
]
extract = { name = "json:upload.filename", url = "json:upload.imageinfo.url", page = "json:upload.imageinfo.descriptionurl" }
require = ["url"]
[[step]]
name = "thumb"
method = "GET"
url = "{{ base_url }}/api.php"
query = { action = "query", titles = "File:{{ step.upload.name }}", prop = "imageinfo", iiprop = "url", iiurlwidth = "320", format = "json", formatversion = "2" }
extract = { url = "json:query.pages[0].imageinfo[0].thumburl" }
[result]
url = "{{ step.upload.url }}"
image = "{{ step.upload.url }}"
thumb = "{{ step.thumb.url }}"
[[error]]
text = '"code":"(file-too-large|verification-error|filetype-banned-type|illegal-filename)"'
class = "file"
[[error]]
text = '"code":"(badtoken|mustbeloggedin|permissiondenied|assertuserfailed)"|"result":"(Failed|WrongPass)"'
class = "account"
advice = "check `user` and `password`"
[[error]]
text = '"code":"ratelimited"|"result":"Throttled"'
class = "rate_limited"
"#;

/// How often somebody logged in at the wiki, by the server's own log.
fn logins(root: &str) -> usize {
    let log = Path::new(root).ancestors().nth(2).expect("the servers' folder").join("mediawiki.log");
    fs::read_to_string(log).expect("a log").matches("POST /api.php?action=login").count()
}

#[test]
fn mediawiki_has_a_chain_of_tokens_and_errors_with_status_200() {
    let (Some(wiki), Some(root)) = (server("MEDIAWIKI"), server("MEDIAWIKI_ROOT")) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let written_as = |name: &str, text: &str| written(folder.path(), name, text);
    let recipe = written_as("wiki.toml", MEDIAWIKI);
    let with = |recipe: &str, password: &str| {
        format!("recipe = {recipe:?}\nbase_url = '{wiki}'\nuser = 'Agent'\npassword = '{password}'\nmax_parallel = 4\n")
    };
    let before = logins(&root);
    bytes_come_back("wiki", &with(&recipe, "agent-secret-123"), None, false);
    assert_eq!(logins(&root) - before, 2, "one login for all files of a run");

    // The wiki ends all sessions while the agent runs: one more login, and nobody notices.
    let home = home("wiki", &with(&recipe, "agent-secret-123"));
    let agent = home.start().ready();
    home.drop_file("first.jpg", &picture(51, image::ImageFormat::Jpeg));
    let line = home.wait_for_line("first.jpg", 1);
    assert_eq!(get(line["url"].as_str().expect("a link"), None).1, picture(51, image::ImageFormat::Jpeg));
    let ended = std::process::Command::new("php")
        .args([&format!("{root}/maintenance/invalidateUserSessions.php"), "--user", "Agent"])
        .env("MW_INSTALL_PATH", &root)
        .output()
        .expect("php runs");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let before = logins(&root);
    for number in 52..56 {
        home.drop_file(format!("{number}.jpg"), &jpeg(200_000, number));
    }
    for number in 52..56 {
        let line = home.wait_for_line(&format!("{number}.jpg"), 1);
        assert_eq!(get(line["url"].as_str().unwrap_or_else(|| panic!("{line:#}")), None).1, jpeg(200_000, number));
    }
    assert_eq!(logins(&root) - before, 1, "four uploads at once renew the session together");
    // A picture wide enough for a thumbnail of the wiki's own.
    let wide = image::RgbImage::from_fn(800, 400, |x, y| image::Rgb([x as u8, y as u8, 9]));
    let mut bytes = std::io::Cursor::new(Vec::new());
    wide.write_to(&mut bytes, image::ImageFormat::Png).expect("encodes");
    home.drop_file("wide.png", &bytes.into_inner());
    let line = home.wait_for_line("wide.png", 1);
    let small = get(line["thumb"].as_str().unwrap_or_else(|| panic!("{line:#}")), None).1;
    assert_eq!(image::load_from_memory(&small).expect("a picture").width(), 320);
    assert!(agent.stop().success());

    // What is wrong with the file is the file's, though the status is 200.
    let line = refused("wiki", &with(&recipe, "agent-secret-123"), jpeg(5_000_000, 61));
    assert_eq!((&line["status"], &line["error"]["class"]), (&json!("failed"), &json!("file")), "{line:#}");
    assert_eq!(line["error"]["http_status"], 200);
    // A name that tells another type than the content: the wiki looks into the file.
    let lying = written_as("lying.toml", &MEDIAWIKI.replace(".{{ file.extension }}", ".gif"));
    let line = refused("wiki", &with(&lying, "agent-secret-123"), picture(62, image::ImageFormat::Jpeg));
    assert_eq!((&line["status"], &line["error"]["class"]), (&json!("failed"), &json!("file")), "{line:#}");
    assert!(
        line["error"]["response_head"].as_str().is_some_and(|head| head.contains("verification-error")),
        "{line:#}"
    );
    // A token that is never right: once more with a new session, then it is the account's.
    let bad = written_as("bad.toml", &MEDIAWIKI.replace("{{ session.write.token }}", "0123456789abcdef+\\\\"));
    let before = logins(&root);
    let line = refused("wiki", &with(&bad, "agent-secret-123"), picture(63, image::ImageFormat::Jpeg));
    assert_eq!((&line["status"], &line["error"]["class"]), (&json!("deferred"), &json!("account")), "{line:#}");
    assert!(logins(&root) - before <= 2, "one login again, and no third");
    let line = refused("wiki", &with(&recipe, "CANARY"), picture(64, image::ImageFormat::Jpeg));
    assert_eq!((&line["status"], &line["error"]["class"]), (&json!("deferred"), &json!("account")), "{line:#}");
}

/// copyparty as somebody's ShareX has it: the password in a header, the folder and the mode in the file.
const COPYPARTY_SXCU: &str = r#"{
  "Version": "17.0.0",
  "Name": "party",
  "DestinationType": "ImageUploader, FileUploader",
  "RequestMethod": "POST",
  "RequestURL": "BASE/up/sharex/",
  "Parameters": { "j": "", "replace": "" },
  "Headers": { "pw": "secret" },
  "Body": "MultipartFormData",
  "Arguments": { "act": "bput" },
  "FileFormName": "f",
  "URL": "{json:files[0].url}",
  "ThumbnailURL": "{json:files[0].url}?th=j",
  "ErrorMessage": "{json:error}"
}"#;

#[test]
fn copyparty_through_an_uploader_of_sharex_whose_secret_moved_out() {
    let Some(copyparty) = server("COPYPARTY") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let file = written(folder.path(), "party.sxcu", &COPYPARTY_SXCU.replace("BASE", &copyparty));
    let home = home("party", "recipe = 'local'\n");
    let drop = home.drop();
    home.write_config(&format!(
        "[server]\nlisten = 'off'\n[[folder]]\npath = {drop:?}\nhost = 'party'\nsettle = '200ms'\n"
    ));
    let (code, out, error) = home.run(&["--config", "config.toml", "host", "import", &file, "--write"]);
    assert_eq!(code, 0, "{out}{error}");
    let imported = home.path("hosts/party.sxcu");
    let text = fs::read_to_string(&imported).expect("the copy");
    assert!(text.contains("{secret:pw}") && !text.contains("\"secret\"") && !out.contains("\"secret\""), "{text}{out}");
    let kept = home.path("hosts/party.secrets/pw");
    assert_eq!(fs::read_to_string(&kept).expect("the secret"), "secret");
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&kept).expect("there").permissions());
    assert_eq!(mode & 0o777, 0o600);
    let (code, shown, _) = home.run(&["--config", "config.toml", "host", "test", "party", "--print-request"]);
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains(&format!("POST {copyparty}/up/sharex/?j&replace\n")), "{shown}");
    assert!(shown.contains("\npw: [secret]\n") && shown.contains("field act = \"bput\""), "{shown}");

    let pictures = pictures();
    let (lines, code, log) = send(&home, &pictures);
    assert_eq!((code, lines.len()), (0, pictures.len()), "{log}");
    for line in &lines {
        let (name, bytes) = pictures.iter().find(|(name, _)| line["file"] == *name).expect("one that was dropped");
        let (status, found) = get(line["url"].as_str().expect("a link"), None);
        assert!(status == 200 && found == *bytes, "{name}: other bytes at {}", line["url"]);
    }
    // A wrong secret is the account's.
    fs::write(&kept, "CANARY").expect("writes");
    home.drop_file("late.jpg", &picture(71, image::ImageFormat::Jpeg));
    let (code, out, log) = home.run(&["--config", "config.toml", "run", "--once"]);
    let line = home.manifest().pop().expect("a line");
    assert_eq!((code, &line["error"]["class"]), (1, &json!("account")), "{line:#}");
    assert!(!format!("{out}{log}{line}").contains("CANARY"), "{out}{log}{line}");
}
