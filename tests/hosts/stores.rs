//! Object stores: a strict S3 server that checks every signature by its own arithmetic, and WebDAV servers with the habits
//! of nginx, WsgiDAV and copyparty.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pixchute::config::Thumbnail;
use pixchute::host::Host;
use pixchute::job::{ErrorClass, ImageKind, Links};
use ring::{digest, hmac};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::fake::{Fake, Request, answer, body, head, parts, spawn, text};
use crate::{Image, build_one, config, host_config};

const ACCESS: &str = "AKCANARY";
const SECRET: &str = "SKCANARY/+secret";

/// Whose habits the server has.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    S3,
    /// 500 for a missing folder, MKCOL wants a slash, PUT replaces silently.
    Nginx,
    /// 409 for a missing folder.
    WsgiDav,
    /// Makes folders by itself; a second file of a name is stored under another.
    Copyparty,
}

/// What goes wrong with the next PUT.
#[derive(Clone)]
enum Fault {
    /// Stores and hangs up.
    StoresAndResets,
    /// Stores and says nothing.
    StoresAndIsSilent,
    /// Stores nothing and hangs up.
    LosesAndResets,
    /// This status and body; nothing is stored.
    Says(&'static str, String),
}

/// The bytes, and the headers that came with them.
type Stored = (Vec<u8>, Vec<(String, String)>);

#[derive(Default)]
struct State {
    /// By the path as it was sent.
    objects: BTreeMap<String, Stored>,
    folders: Vec<String>,
    faults: VecDeque<Fault>,
    seen: Vec<(String, String)>,
}

struct Store {
    addr: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Store {
    async fn start(kind: Kind) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                spawn(async move {
                    let mut buffer = Vec::new();
                    while serve(&mut stream, &mut buffer, kind, addr, &state).await.is_some() {}
                });
            }
        });
        Self { addr, state }
    }

    fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state.lock().unwrap().faults.extend(faults);
    }

    /// Method and path of every request, `HEAD /x`.
    fn seen(&self) -> Vec<String> {
        self.state.lock().unwrap().seen.iter().map(|(method, path)| format!("{method} {path}")).collect()
    }

    fn paths(&self) -> Vec<String> {
        self.state.lock().unwrap().objects.keys().cloned().collect()
    }

    fn bytes(&self, path: &str) -> Vec<u8> {
        self.state.lock().unwrap().objects[path].0.clone()
    }

    fn header(&self, path: &str, name: &str) -> Option<String> {
        let state = self.state.lock().unwrap();
        let mut headers = state.objects[path].1.iter();
        headers.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
    }

    fn plant(&self, path: &str, bytes: &[u8]) {
        self.state.lock().unwrap().objects.insert(path.to_owned(), (bytes.to_vec(), Vec::new()));
    }

    /// The S3 host that speaks to it.
    fn s3(&self, options: &[(&str, &str)]) -> Arc<dyn Host> {
        let endpoint = format!("http://{}", self.addr);
        let mut all = vec![
            ("endpoint", endpoint.as_str()),
            ("bucket", "pics"),
            ("access_key", ACCESS),
            ("secret_key", SECRET),
            ("region", "eu-test-1"),
            ("public_url", "https://cdn.example/{{ key }}"),
        ];
        all.retain(|(name, _)| !options.iter().any(|(other, _)| other == name));
        all.extend(options);
        build_one(&config([host_config("s3", None, &all)])).expect("a good configuration")
    }

    fn webdav(&self, options: &[(&str, &str)]) -> Arc<dyn Host> {
        let mut all =
            vec![("user", "agent"), ("password", "CANARY:pass"), ("public_url", "https://pics.example/{{ key }}")];
        all.retain(|(name, _)| !options.iter().any(|(other, _)| other == name));
        all.extend(options);
        let base = format!("http://{}/dav", self.addr);
        build_one(&config([host_config("webdav", Some(base), &all)])).expect("a good configuration")
    }
}

async fn serve(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
    kind: Kind,
    addr: SocketAddr,
    state: &Mutex<State>,
) -> Option<()> {
    let mut request = head(stream, buffer).await?;
    body(stream, buffer, &mut request, None).await?;
    let (answer, open) = {
        let mut state = state.lock().unwrap();
        state.seen.push((request.method.clone(), request.target.clone()));
        let fault = if request.method == "PUT" { state.faults.pop_front() } else { None };
        match fault {
            None => (Some(respond(kind, addr, &mut state, &request)), true),
            Some(Fault::Says(status, body)) => (Some(text(status, "", &body)), true),
            Some(Fault::StoresAndResets) => {
                respond(kind, addr, &mut state, &request);
                (None, false)
            }
            Some(Fault::StoresAndIsSilent) => {
                respond(kind, addr, &mut state, &request);
                (None, true)
            }
            Some(Fault::LosesAndResets) => (None, false),
        }
    };
    match answer {
        Some(answer) => stream.write_all(answer.as_bytes()).await.ok(),
        None if open => std::future::pending().await,
        None => {
            stream.set_zero_linger().unwrap();
            None
        }
    }
}

fn respond(kind: Kind, addr: SocketAddr, state: &mut State, request: &Request) -> String {
    if kind == Kind::S3 {
        if let Err(code) = verify(addr, request) {
            // Stores repeat what they were told.
            let told = request.header("authorization").unwrap_or_default();
            return text(
                "403 Forbidden",
                "",
                &format!("<Error><Code>{code}</Code><Message>no {told}</Message></Error>"),
            );
        }
    } else {
        let expected = "Basic YWdlbnQ6Q0FOQVJZOnBhc3M=";
        match request.header("authorization") {
            Some(found) if found == expected => {}
            found => return text("401 Unauthorized", "", &format!("who is {found:?}?")),
        }
    }
    let path = request.target.clone();
    match request.method.as_str() {
        "HEAD" => match state.objects.get(&path) {
            Some((bytes, headers)) => {
                let meta = headers.iter().filter(|(name, _)| name.starts_with("x-amz-meta-"));
                let meta: String = meta.map(|(name, value)| format!("{name}: {value}\r\n")).collect();
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{meta}\r\n", bytes.len())
            }
            None => "HTTP/1.1 404 Not Found\r\n\r\n".to_owned(),
        },
        "PUT" => put(kind, state, request, path),
        "MKCOL" => {
            assert!(kind != Kind::S3 && path.ends_with('/') && request.body.is_empty());
            let parent = path.trim_end_matches('/').rsplit_once('/').unwrap().0.to_owned() + "/";
            if state.folders.contains(&path) {
                text("405 Method Not Allowed", "", "")
            } else if parent == "/dav/" || state.folders.contains(&parent) {
                state.folders.push(path);
                text("201 Created", "", "")
            } else {
                text("409 Conflict", "", "")
            }
        }
        "DELETE" => match state.objects.remove(&path) {
            Some(_) => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
            // S3 does not mind; WebDAV does.
            None if kind == Kind::S3 => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
            None => text("404 Not Found", "", ""),
        },
        other => panic!("nobody may send {other}"),
    }
}

fn put(kind: Kind, state: &mut State, request: &Request, mut path: String) -> String {
    assert!(request.header("content-type").unwrap().starts_with("image/"));
    let parent = path.rsplit_once('/').unwrap().0.to_owned() + "/";
    let there = state.folders.contains(&parent);
    match kind {
        Kind::Nginx if !there => return text("500 Internal Server Error", "", "<title>500</title>"),
        Kind::WsgiDav if !there => return text("409 Conflict", "", ""),
        Kind::Copyparty if state.objects.contains_key(&path) => path.push_str("-2"),
        Kind::S3 | Kind::WsgiDav
            if request.header("if-none-match") == Some("*") && state.objects.contains_key(&path) =>
        {
            return text("412 Precondition Failed", "", "<Code>PreconditionFailed</Code>");
        }
        _ => {}
    }
    state.objects.insert(path, (request.body.clone(), request.headers.clone()));
    text(if kind == Kind::S3 { "200 OK" } else { "201 Created" }, "", "")
}

/// The signature of version 4, worked out from the bytes that arrived.
fn verify(addr: SocketAddr, request: &Request) -> Result<(), &'static str> {
    let hash = |bytes: &[u8]| hex(digest::digest(&digest::SHA256, bytes).as_ref());
    let told = request.header("x-amz-content-sha256").expect("the hash of the body");
    if told != hash(&request.body) {
        return Err("XAmzContentSHA256Mismatch");
    }
    assert_eq!(request.header("host"), Some(addr.to_string().as_str()));
    let stamp = request.header("x-amz-date").expect("a date");
    assert!(stamp.len() == 16 && stamp.ends_with('Z') && &stamp[8..9] == "T", "{stamp}");
    let authorization = request.header("authorization").expect("a signature");
    let rest = authorization.strip_prefix("AWS4-HMAC-SHA256 ").expect("version 4");
    let fields: BTreeMap<&str, &str> = rest.split(',').map(|field| field.trim().split_once('=').unwrap()).collect();
    let scope = format!("{}/eu-test-1/s3/aws4_request", &stamp[..8]);
    let (id, found) = fields["Credential"].split_once('/').unwrap();
    assert_eq!(found, scope);
    if id != ACCESS {
        return Err("InvalidAccessKeyId");
    }
    let names: Vec<&str> = fields["SignedHeaders"].split(';').collect();
    assert!(names.is_sorted(), "the names of signed headers are sorted");
    for (name, _) in &request.headers {
        let name = name.to_ascii_lowercase();
        let must = name.starts_with("x-amz-") || matches!(name.as_str(), "host" | "content-type");
        assert!(!must || names.contains(&name.as_str()), "{name} is not signed");
    }
    let mut canonical = format!("{}\n{}\n\n", request.method, request.target);
    for name in &names {
        canonical += &format!("{name}:{}\n", request.header(name).expect("a signed header is sent").trim());
    }
    canonical += &format!("\n{}\n{told}", fields["SignedHeaders"]);
    let text = format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{}", hash(canonical.as_bytes()));
    let mac = |key: &[u8], text: &str| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes());
    let mut key = mac(format!("AWS4{SECRET}").as_bytes(), &stamp[..8]);
    for step in ["eu-test-1", "s3", "aws4_request"] {
        key = mac(key.as_ref(), step);
    }
    if hex(mac(key.as_ref(), &text).as_ref()) == fields["Signature"] { Ok(()) } else { Err("SignatureDoesNotMatch") }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Where an image lies by default, below the bucket or folder.
fn place(image: &Image) -> String {
    let hash = image.upload.image.hash.to_string();
    format!("{}/{}.png", &hash[..2], &hash[..32])
}

/// A picture that can be decoded, twice as wide as high.
fn picture(name: &str) -> Image {
    let pixels = image::RgbImage::from_fn(640, 320, |x, y| image::Rgb([x as u8, y as u8, 7]));
    let mut bytes = std::io::Cursor::new(Vec::new());
    pixels.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    let mut image = Image::with(name, bytes.into_inner());
    (image.upload.image.width, image.upload.image.height) = (640, 320);
    image
}

#[tokio::test]
async fn an_object_is_named_by_its_content_and_its_thumbnail_lies_beside_it() {
    let store = Store::start(Kind::S3).await;
    let host = store.s3(&[("acl", "public-read"), ("storage_class", "STANDARD_IA")]);
    let image = picture("holiday.PNG");
    let links = image.send(&host).await.unwrap();
    let key = place(&image);
    let thumb = key.replace(".png", "_thumb.jpg");
    assert_eq!(links.url, format!("https://cdn.example/{key}"));
    assert_eq!(links.image.as_ref(), Some(&links.url));
    assert_eq!(links.thumb, Some(format!("https://cdn.example/{thumb}")));
    let path = format!("/pics/{key}");
    assert_eq!(store.bytes(&path), image.bytes);
    let headers = ["content-type", "x-amz-acl", "x-amz-storage-class", "cache-control", "x-amz-meta-blake3"];
    let found = headers.map(|name| store.header(&path, name).unwrap_or_default());
    let hash = image.upload.image.hash.to_string();
    assert_eq!(found, ["image/png", "public-read", "STANDARD_IA", "public, max-age=31536000, immutable", &hash]);
    let small = image::load_from_memory(&store.bytes(&format!("/pics/{thumb}"))).unwrap();
    assert_eq!((small.width(), small.height()), (320, 160));
    assert_eq!(store.header(&format!("/pics/{thumb}"), "content-type").as_deref(), Some("image/jpeg"));
    assert!(store.seen().iter().all(|line| line.starts_with("PUT ")), "nothing is asked without a reason");
    // Again: the same object, the same link.
    assert_eq!(image.send(&host).await.unwrap(), links);
    assert_eq!(store.paths().len(), 2);
}

#[tokio::test]
async fn what_cannot_be_decoded_has_a_link_and_no_thumbnail() {
    let store = Store::start(Kind::S3).await;
    let image = Image::new(300_000);
    let links = image.send(&store.s3(&[])).await.unwrap();
    assert_eq!((links.thumb, store.paths().len()), (None, 1));
    assert_eq!(store.bytes(&format!("/pics/{}", place(&image))), image.bytes);
}

#[tokio::test]
async fn without_a_public_url_the_link_is_the_address_of_the_object() {
    let store = Store::start(Kind::S3).await;
    let image = Image::new(10);
    let links = image.send(&store.s3(&[("public_url", "")])).await.unwrap();
    assert_eq!(links.url, format!("http://{}/pics/{}", store.addr, place(&image)));
}

#[tokio::test(start_paused = true)]
async fn r15_a_store_is_asked_whether_a_lost_answer_was_a_yes() {
    for fault in [Fault::StoresAndResets, Fault::StoresAndIsSilent] {
        let store = Store::start(Kind::S3).await;
        store.fail([fault]);
        let image = Image::new(2_000_000);
        let links = image.send(&store.s3(&[])).await.unwrap();
        let path = format!("/pics/{}", place(&image));
        assert_eq!(links.url, format!("https://cdn.example/{}", place(&image)));
        assert_eq!(store.seen(), [format!("PUT {path}"), format!("HEAD {path}")]);
    }
}

#[tokio::test(start_paused = true)]
async fn r15_a_store_that_has_nothing_leaves_the_outcome_open_and_a_later_attempt_asks_first() {
    let store = Store::start(Kind::S3).await;
    store.fail([Fault::LosesAndResets]);
    let host = store.s3(&[]);
    let mut image = Image::new(100);
    let failure = image.send(&host).await.unwrap_err();
    assert_eq!(failure.class, ErrorClass::UnknownOutcome, "{failure:?}");
    image.upload.doubtful = true;
    image.send(&host).await.unwrap();
    let path = format!("/pics/{}", place(&image));
    assert_eq!(store.seen(), ["PUT", "HEAD", "HEAD", "PUT"].map(|method| format!("{method} {path}")));
    // And once it is there, nothing is sent again.
    image.send(&host).await.unwrap();
    assert_eq!(store.seen().last(), Some(&format!("HEAD {path}")));
}

#[tokio::test(start_paused = true)]
async fn the_errors_of_a_store_have_their_classes_and_advice() {
    let xml = |code: &str, message: &str| {
        format!("<?xml version=\"1.0\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>")
    };
    let table = [
        ("403 Forbidden", "SignatureDoesNotMatch", ErrorClass::Account, "secret_key"),
        ("403 Forbidden", "InvalidAccessKeyId", ErrorClass::Account, "access_key"),
        ("403 Forbidden", "AccessDenied", ErrorClass::Account, "PutObject"),
        ("403 Forbidden", "RequestTimeTooSkewed", ErrorClass::Account, "the clock of this machine"),
        ("404 Not Found", "NoSuchBucket", ErrorClass::Account, "create the bucket"),
        ("400 Bad Request", "EntityTooLarge", ErrorClass::File, "too large"),
        ("400 Bad Request", "AuthorizationHeaderMalformed", ErrorClass::Account, "region"),
        ("301 Moved Permanently", "PermanentRedirect", ErrorClass::Account, "region"),
        ("503 Slow Down", "SlowDown", ErrorClass::RateLimited, ""),
        ("429 Too Many Requests", "TooManyRequests", ErrorClass::RateLimited, ""),
    ];
    for (status, code, class, advice) in table {
        let store = Store::start(Kind::S3).await;
        store.fail([Fault::Says(status, xml(code, "Please do not."))]);
        let failure = Image::new(10).send(&store.s3(&[])).await.unwrap_err();
        assert_eq!(failure.class, class, "{code}");
        assert!(failure.message.contains("Please do not."), "{}", failure.message);
        assert!(failure.advice.as_deref().unwrap_or_default().contains(advice), "{code}: {failure:?}");
        assert_eq!(store.seen().len(), 1, "{code}");
    }
    // A passing trouble is tried again, after the question whether it was one.
    for (status, code) in
        [("503 Service Unavailable", "ServiceUnavailable"), ("500 Internal Server Error", "InternalError")]
    {
        let store = Store::start(Kind::S3).await;
        store.fail([Fault::Says(status, xml(code, "Try again.")), Fault::Says(status, xml(code, "Try again."))]);
        Image::new(10).send(&store.s3(&[])).await.unwrap();
        assert_eq!(store.paths().len(), 1);
    }
}

#[tokio::test]
async fn r26_no_secret_of_a_store_is_in_a_failure() {
    let store = Store::start(Kind::S3).await;
    for (name, value) in [("secret_key", "WRONGCANARY"), ("access_key", "IDCANARY")] {
        let failure = Image::new(10).send(&store.s3(&[(name, value)])).await.unwrap_err();
        assert_eq!(failure.class, ErrorClass::Account);
        assert!(failure.message.contains("Credential="), "the server repeats what it was told: {failure:?}");
        assert!(!format!("{failure:?}").contains("CANARY"), "{failure:?}");
    }
    let store = Store::start(Kind::Nginx).await;
    let failure = Image::new(10).send(&store.webdav(&[("password", "WRONGCANARY")])).await.unwrap_err();
    assert_eq!(failure.class, ErrorClass::Account);
    let shown = format!("{failure:?}");
    assert!(shown.contains("who is") && !shown.contains("CANARY") && !shown.contains("YWdlbnQ6"), "{shown}");
}

#[tokio::test]
async fn what_lies_under_a_name_of_ones_own_is_never_replaced() {
    let store = Store::start(Kind::S3).await;
    let host = store.s3(&[("key", "up/{{ name }}")]);
    let (first, second) = (Image::with("a b.png", vec![1; 500]), Image::with("a b.png", vec![2; 500]));
    assert_eq!(first.send(&host).await.unwrap().url, "https://cdn.example/up/a%20b.png");
    let beside = second.send(&host).await.unwrap().url;
    let hash = second.upload.image.hash.to_string();
    assert_eq!(beside, format!("https://cdn.example/up/a%20b-{}.png", &hash[..16]));
    assert_eq!(store.bytes("/pics/up/a%20b.png"), first.bytes);
    // Each again: found, and not sent.
    for (image, paths) in [(&first, 2), (&second, 2)] {
        image.send(&host).await.unwrap();
        assert_eq!(store.paths().len(), paths);
    }
    assert_eq!(store.seen().iter().filter(|line| line.starts_with("PUT")).count(), 2);
}

#[tokio::test]
async fn two_files_of_one_name_at_the_same_time_are_both_kept() {
    for kind in [Kind::S3, Kind::Nginx] {
        let store = Store::start(kind).await;
        let options = [("key", "{{ name }}")];
        let host = if kind == Kind::S3 { store.s3(&options) } else { store.webdav(&options) };
        store.state.lock().unwrap().folders.push("/dav/".to_owned());
        let (first, second) = (Image::with("x.png", vec![1; 500]), Image::with("x.png", vec![2; 500]));
        let (one, two) = tokio::join!(first.send(&host), second.send(&host));
        assert_ne!(one.unwrap().url, two.unwrap().url);
        assert_eq!(store.paths().len(), 2);
    }
}

#[tokio::test]
async fn webdav_makes_its_folders_whatever_the_server_is_like() {
    for kind in [Kind::Nginx, Kind::WsgiDav, Kind::Copyparty] {
        let store = Store::start(kind).await;
        let host = store.webdav(&[("key", "a/b c/{{ blake3 }}.{{ ext }}")]);
        let (first, second) = (Image::new(300_000), Image::new(10));
        let links = first.send(&host).await.unwrap();
        second.send(&host).await.unwrap();
        let key = format!("a/b%20c/{}.png", first.upload.image.hash);
        assert_eq!(links.url, format!("https://pics.example/{key}"));
        assert_eq!(store.bytes(&format!("/dav/{key}")), first.bytes);
        let made = store.seen().into_iter().filter(|line| line.starts_with("MKCOL")).collect::<Vec<_>>();
        assert_eq!(made, ["MKCOL /dav/a/", "MKCOL /dav/a/b%20c/"], "once each");
        // The same again is the same file, and nothing is sent.
        first.send(&host).await.unwrap();
        assert_eq!(store.paths().len(), 2);
        // Somebody removes the folders: they are made again.
        let third = Image::new(11);
        store.state.lock().unwrap().folders.clear();
        tokio::time::pause();
        third.send(&host).await.unwrap();
        tokio::time::resume();
        assert_eq!(store.bytes(&format!("/dav/a/b%20c/{}.png", third.upload.image.hash)), third.bytes);
    }
}

#[tokio::test]
async fn webdav_never_replaces_what_it_cannot_tell_apart_and_mends_what_was_cut() {
    let store = Store::start(Kind::Nginx).await;
    store.state.lock().unwrap().folders.push("/dav/".to_owned());
    store.plant("/dav/x.png", b"somebody's");
    let image = Image::named("x.png", 10);
    let links = image.send(&store.webdav(&[("key", "{{ name }}")])).await.unwrap();
    let hash = image.upload.image.hash.to_string();
    assert_eq!(links.url, format!("https://pics.example/x-{}.png", &hash[..16]));
    assert_eq!(store.bytes("/dav/x.png"), b"somebody's");
    let path = format!("/dav/{}", place(&image));
    store.plant(&path, b"cut");
    image.send(&store.webdav(&[])).await.unwrap();
    assert_eq!(store.bytes(&path), image.bytes);
}

#[tokio::test(start_paused = true)]
async fn r15_webdav_is_asked_after_a_lost_answer() {
    let store = Store::start(Kind::Nginx).await;
    store.fail([Fault::StoresAndIsSilent]);
    let image = Image::new(1000);
    image.send(&store.webdav(&[])).await.unwrap();
    assert_eq!(store.seen().iter().filter(|line| line.starts_with("PUT")).count(), 1);
}

#[test]
fn mistakes_in_the_options_of_a_store_are_told_with_their_keys() {
    let good = [("bucket", "pics"), ("access_key", "AK"), ("secret_key", "SK")];
    let table: [(&str, &str, &str); 7] = [
        ("bucket", "a/b", "not the name of a bucket"),
        ("key", "{{ hash }}.jpg", "there is no `hash` here"),
        ("public_url", "https://cdn.example/{{ name }}", "there is no `name` here"),
        ("public_url", "https://cdn.example/", "the same link"),
        ("endpoint", "http://store.example", "plain http"),
        ("path_style", "maybe", "is not one of \"auto\", \"false\", \"true\""),
        ("access_key", "AKé", "cannot be sent in a header"),
    ];
    for (name, value, expected) in table {
        let mut options: Vec<_> = good.iter().copied().filter(|(other, _)| *other != name).collect();
        options.push((name, value));
        let problems = build_one(&config([host_config("s3", None, &options)])).err().unwrap_or_default();
        let found: Vec<_> = problems.iter().map(|problem| (problem.key.as_str(), problem.message.as_str())).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].0, format!("host.s3.{name}"));
        assert!(found[0].1.contains(expected), "{found:?}");
    }
    assert!(build_one(&config([host_config("s3", None, &good)])).is_ok(), "AWS needs no endpoint");
    assert!(build_one(&config([host_config("webdav", None, &[])])).is_err(), "WebDAV needs a base_url");
}

#[tokio::test(start_paused = true)]
async fn r13_a_thumbnail_holds_up_no_link() {
    let store = Store::start(Kind::S3).await;
    let host = store.s3(&[]);
    let image = picture("x.png");
    image.send(&host).await.unwrap();
    // The image is known to be there; the thumbnail's answer never comes.
    let mut second = picture("x.png");
    second.upload.doubtful = true;
    store.fail([Fault::StoresAndIsSilent]);
    let began = tokio::time::Instant::now();
    let links = second.send(&host).await.unwrap();
    assert!(links.thumb.is_some() || began.elapsed() <= Duration::from_secs(31), "{:?}", began.elapsed());
    assert_eq!(second.upload.source.kind(), ImageKind::Png);
}

#[tokio::test]
async fn a_host_without_thumbnails_gets_one_as_a_second_image() {
    let replies = ["https://files.example/a.jpg", "https://files.example/t.jpg"].map(|link| answer("200 OK", "", link));
    let fake = Fake::start(replies.to_vec()).await;
    let mut host = host_config("catbox", Some(fake.url()), &[]);
    (host.thumbnail, host.fix_extension) = (Thumbnail::Upload, true);
    let host = build_one(&config([host])).expect("a good configuration");
    let links = picture("x.jpg").send(&host).await.unwrap();
    assert_eq!(links.url, "https://files.example/a.jpg");
    assert_eq!(links.thumb.as_deref(), Some("https://files.example/t.jpg"));
    let names: Vec<String> = fake.requests().iter().map(|request| parts(request).pop().unwrap().disposition).collect();
    assert_eq!(names, [r#"name="fileToUpload"; filename="x.png""#, r#"name="fileToUpload"; filename="x_thumb.jpg""#]);
    let small = image::load_from_memory(&parts(&fake.requests()[1]).pop().unwrap().data).unwrap();
    assert_eq!((small.width(), small.height()), (320, 160));
}

#[tokio::test]
async fn a_refused_thumbnail_takes_no_link_away() {
    let replies = vec![answer("200 OK", "", "https://files.example/a.jpg"), answer("413 Payload Too Large", "", "")];
    let fake = Fake::start(replies).await;
    let mut host = host_config("catbox", Some(fake.url()), &[]);
    host.thumbnail = Thumbnail::Upload;
    let host = build_one(&config([host])).expect("a good configuration");
    let links = picture("x.png").send(&host).await.unwrap();
    assert_eq!((links.url.as_str(), links.thumb), ("https://files.example/a.jpg", None));
}

#[tokio::test]
async fn a_thumbnail_can_stay_on_this_machine() {
    let fake = Fake::start(vec![answer("200 OK", "", "https://files.example/a.jpg")]).await;
    let mut host = host_config("catbox", Some(fake.url()), &[]);
    host.thumbnail = Thumbnail::Local;
    assert!(build_one(&config([host.clone()])).is_err(), "without the server it has no place");
    let data = tempfile::tempdir().unwrap();
    let store = pixchute::host::local::Store::open(data.path()).unwrap();
    let site = pixchute::host::local::Site { store: store.clone(), base_url: "http://127.0.0.1:8421".into() };
    let hosts = pixchute::host::build(&config([host]), Some(site)).unwrap();
    let thumb = picture("x.png").send(&hosts["catbox"]).await.unwrap().thumb.unwrap();
    let name = thumb.strip_prefix("http://127.0.0.1:8421/t/").expect("served here").parse().unwrap();
    assert!(store.thumb_path(&name).exists());
}

/// Deletes what these links lead to; the reason if the store did not.
async fn undo(host: &Arc<dyn Host>, links: &Links) -> Result<(), String> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    host.delete(links, deadline).expect("a note of what was stored").await.map_err(|failure| failure.message)
}

#[tokio::test]
async fn what_was_stored_is_deleted_with_its_thumbnail_and_nothing_else() {
    for kind in [Kind::S3, Kind::Nginx, Kind::WsgiDav, Kind::Copyparty] {
        for key in ["{{ blake3[:2] }}/{{ blake3[:32] }}.{{ ext }}", "by name/{{ name }}"] {
            let store = Store::start(kind).await;
            let options = [("key", key)];
            let host = if kind == Kind::S3 { store.s3(&options) } else { store.webdav(&options) };
            store.plant("/pics/other.png", b"somebody's");
            let links = picture("a b.png").send(&host).await.unwrap();
            assert_eq!(store.paths().len(), 3, "image and thumbnail: {:?}", store.paths());
            undo(&host, &links).await.unwrap();
            assert_eq!(store.paths(), ["/pics/other.png"], "{key}");
            // Again: what is gone is gone.
            undo(&host, &links).await.unwrap();
            let deleted = store.seen().iter().filter(|line| line.starts_with("DELETE")).count();
            assert_eq!(deleted, 4);
        }
    }
}

#[tokio::test]
async fn what_was_replaced_meanwhile_is_not_deleted() {
    for kind in [Kind::S3, Kind::Nginx] {
        let store = Store::start(kind).await;
        let options = [("key", "{{ name }}")];
        let host = if kind == Kind::S3 { store.s3(&options) } else { store.webdav(&options) };
        store.state.lock().unwrap().folders.push("/dav/".to_owned());
        let image = Image::named("x.png", 500);
        let links = image.send(&host).await.unwrap();
        let path = store.paths()[0].clone();
        store.plant(&path, b"somebody's");
        let reason = undo(&host, &links).await.unwrap_err();
        assert!(reason.contains("it was replaced"), "{reason}");
        assert_eq!(store.bytes(&path), b"somebody's");
        // A note that somebody wrote into the manifest gives no right to another object.
        store.plant(&path.replace("x.png", "secret.png"), &image.bytes);
        let token = links.delete_token.clone().unwrap();
        for forged in [token.replace("x.png", "secret.png"), token.replace("x.png", "../x.png")] {
            let bytes = format!(",\"bytes\":{}", image.bytes.len());
            for forged in [forged.clone(), forged.replace(&bytes, "")] {
                let links = Links { delete_token: Some(forged), ..links.clone() };
                let refused = undo(&host, &links).await;
                let same_bytes = kind == Kind::Nginx && refused.is_ok();
                assert!(refused.is_err() || same_bytes, "WebDAV can only compare lengths");
            }
        }
        assert!(store.paths().contains(&path));
    }
}

#[tokio::test]
async fn another_store_of_the_same_name_is_not_asked_to_delete() {
    let store = Store::start(Kind::S3).await;
    let links = Image::new(500).send(&store.s3(&[])).await.unwrap();
    let moved = store.s3(&[("bucket", "other")]);
    let reason = undo(&moved, &links).await.unwrap_err();
    assert!(reason.contains("another store now"), "{reason}");
    let refused = store.s3(&[("secret_key", "WRONGCANARY")]);
    let reason = undo(&refused, &links).await.unwrap_err();
    assert!(reason.contains("403 Forbidden") && !reason.contains("CANARY"), "{reason}");
    assert_eq!(store.paths().len(), 1);
    let bare = Links { delete_token: None, ..links };
    let deadline = tokio::time::Instant::now() + Duration::from_secs(1);
    assert!(store.s3(&[]).delete(&bare, deadline).is_none(), "without a note there is nothing that can be deleted");
}

#[tokio::test]
async fn r26_the_requests_of_a_store_are_shown_without_its_secrets() {
    let store = Store::start(Kind::S3).await;
    let image = picture("a b.png");
    let lines = |host: &Arc<dyn Host>| -> Vec<String> {
        let show = |preview: pixchute::host::Preview| {
            let headers: String = preview.headers.iter().map(|(name, value)| format!("\n{name}: {value}")).collect();
            format!("{} | {} {}{headers}\n{}", preview.step, preview.method, preview.url, preview.body.join("\n"))
        };
        host.previews(&image.upload).into_iter().map(show).collect()
    };
    let s3 = lines(&store.s3(&[("session_token", "TOKENCANARY"), ("acl", "private")]));
    assert_eq!(s3.len(), 2, "the image and its thumbnail: {s3:#?}");
    let url = format!("http://{}/pics/{}", store.addr, place(&image));
    assert!(s3[0].starts_with(&format!("upload: store | PUT {url}\nhost: {}\nuser-agent: pixchute/", store.addr)));
    for part in [
        "\ncontent-type: image/png\n",
        "\nx-amz-acl: private\n",
        "\nx-amz-security-token: [secret]\n",
        "\nauthorization: AWS4-HMAC-SHA256 Credential=[secret]/",
        "/eu-test-1/s3/aws4_request,SignedHeaders=cache-control;content-type;host;x-amz-acl;x-amz-content-sha256;\
         x-amz-date;x-amz-meta-blake3;x-amz-security-token,Signature=[secret]\n",
        &format!("\ncontent-length: {}\n", image.bytes.len()),
        &format!("the file: {} bytes of image/png", image.bytes.len()),
    ] {
        assert!(s3[0].contains(part), "{part:?} in {}", s3[0]);
    }
    let dav = lines(&store.webdav(&[]));
    let methods: Vec<&str> = dav.iter().map(|line| line.split(" http").next().unwrap()).collect();
    assert_eq!(methods[..3], ["upload: is it there? | HEAD", "upload: make the folder | MKCOL", "upload: store | PUT"]);
    assert!(dav[2].contains("\nauthorization: Basic [secret]"), "{}", dav[2]);
    let all = s3.concat() + &dav.concat();
    assert!(!all.contains("CANARY") && !all.contains("YWdlbnQ6"), "{all}");
    assert!(store.seen().is_empty(), "nothing was sent");
}
