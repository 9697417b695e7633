//! The gallery and the control socket, over real sockets, with a fake agent and a ledger of fixed rows.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pixchute::clock::{Clock, WallTime};
use pixchute::control::api::{JobsPage, RetryBody};
use pixchute::control::client::{Client, ClientError};
use pixchute::control::model::PoolStatus;
use pixchute::control::server::{self, BindError, State};
use pixchute::control::steer::{Cancelled, Reloaded, Rescanned, Turned};
use pixchute::control::{Request, Requests, Retried, RetryWhat, Status};
use pixchute::host::local::Store;
use pixchute::job::{ContentHash, Fingerprint, ImageFacts, ImageKind, Job, JobId, Links, Stage};
use pixchute::ledger::memory::MemoryLedger;
use pixchute::ledger::{Durability, Ledger, Write};
use pixchute::record::{self, Record};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

fn job(number: u64, name: &str, stage: Stage, links: Option<Links>) -> Job {
    let mut job = Job {
        id: format!("01JD{number:022}").parse().expect("a ULID"),
        folder: PathBuf::from("/home/a/Drop"),
        name: PathBuf::from(name),
        path: Path::new("/home/a/Drop/done").join(name),
        host: "local".into(),
        stage,
        fingerprint: Fingerprint { dev: 1, ino: number, len: 183_422, mtime_ns: 0 },
        image: Some(ImageFacts {
            kind: ImageKind::Jpeg,
            width: 1600,
            height: 1067,
            animated: false,
            hash: ContentHash([7; 32]),
        }),
        attempts: 1,
        requeues: 0,
        unknown_outcomes: 0,
        queued_at: WallTime::from_millis(1_795_435_200_000),
        not_before: None,
        record: None,
        pending: false,
    };
    job.record = links.map(|links| {
        let at = WallTime::from_millis(1_795_435_200_000);
        Record::of(&job, number, at, record::Status::Uploaded).with_links(links).json()
    });
    job
}

fn links(url: &str, thumb: &str) -> Option<Links> {
    let delete_url = Some("https://h.example/delete/me".to_owned());
    Some(Links { url: url.into(), thumb: Some(thumb.into()), image: None, delete_url, ..Links::default() })
}

fn status() -> Status {
    Status {
        version: "0.1.0".into(),
        pid: 7,
        state: "ready".into(),
        started_at: WallTime::from_millis(0),
        now: WallTime::from_millis(1000),
        config: None,
        gallery: None,
        blocked: None,
        pool: PoolStatus { workers: 8, ..PoolStatus::default() },
        folders: Vec::new(),
        hosts: Vec::new(),
        attempts: Vec::new(),
        recent: Vec::new(),
    }
}

/// The agent as the control side sees it.
async fn fake_agent(mut requests: Requests) {
    while let Some(request) = requests.recv().await {
        match request {
            Request::Status(reply) => drop(reply.send(status())),
            Request::Attempts(reply) => drop(reply.send(Vec::new())),
            Request::Retry(RetryWhat::All, reply) => drop(reply.send(Retried { queued: 3, refused: Vec::new() })),
            Request::Retry(RetryWhat::Paths(paths), reply) => {
                let refused = paths.iter().map(|path| format!("{}: unknown", path.display())).collect();
                drop(reply.send(Retried { queued: 0, refused }));
            }
            Request::Retry(RetryWhat::Job(_), reply) => drop(reply.send(Retried { queued: 1, refused: Vec::new() })),
            Request::Rescan(reply) => drop(reply.send(Rescanned { folders: 2 })),
            Request::Undo(_, reply) => drop(reply.send(Err("unknown".to_owned()))),
            Request::Reload(reply) => drop(reply.send(Reloaded::default())),
            Request::Cancel(_, reply) => drop(reply.send(Cancelled { cancelled: 1, refused: Vec::new() })),
            Request::Turn(_, names, reply) => {
                let refused = names.iter().filter(|named| named.name != "pixhost");
                let refused = refused.map(|named| format!("{}: unknown", named.name)).collect();
                let hosts = if names.is_empty() { vec!["local".to_owned()] } else { Vec::new() };
                drop(reply.send(Turned { hosts, refused, ..Turned::default() }));
            }
        }
    }
}

struct Bench {
    dir: TempDir,
    address: SocketAddr,
    client: Client,
    stop: CancellationToken,
    server: JoinHandle<()>,
}

impl Bench {
    fn socket(&self) -> PathBuf {
        self.dir.path().join("run/control.sock")
    }

    async fn start(jobs: Vec<Job>) -> Self {
        let (handle, requests) = mpsc::channel(16);
        spawn(fake_agent(requests));
        Self::start_with(jobs, handle).await
    }

    async fn start_with(jobs: Vec<Job>, handle: mpsc::Sender<Request>) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let people = server::bind_people(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a port");
        let address = people.base_url().trim_start_matches("http://").parse().expect("an address");
        let socket = dir.path().join("run/control.sock");
        let control = server::bind_control(&socket).expect("a socket");
        let ledger = MemoryLedger::new();
        let rows = jobs.into_iter().map(|job| Write::Put(Box::new(job))).collect();
        ledger.write(rows, Durability::Process).await.expect("written");
        let state = State {
            ledger: Arc::new(ledger),
            handle,
            store: Some(Store::open(dir.path()).expect("a store")),
            folders: vec![PathBuf::from("/home/a/<Drop>")],
            clock: Clock::starting_at(WallTime::from_millis(1_795_435_500_000)),
        };
        let stop = CancellationToken::new();
        let server = spawn(server::serve(Some(people), Some(control), state, stop.clone()));
        Self { address, client: Client::new(&socket), dir, stop, server }
    }

    /// One request to the people's side, as bytes, so that a library cannot tidy it up.
    async fn send(&self, request: &str) -> Reply {
        let mut stream = TcpStream::connect(self.address).await.expect("connected");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut bytes = Vec::new();
        within(stream.read_to_end(&mut bytes)).await.expect("an answer");
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
        let head = String::from_utf8(bytes[..end].to_vec()).expect("text").to_lowercase();
        Reply { head, body: bytes[end + 4..].to_vec() }
    }

    async fn get(&self, target: &str) -> Reply {
        self.send(&format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")).await
    }
}

struct Reply {
    head: String,
    body: Vec<u8>,
}

impl Reply {
    fn status(&self) -> &str {
        self.head.split(' ').nth(1).expect("a status")
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }
}

#[expect(clippy::disallowed_methods, reason = "a test plays the agent's part")]
fn spawn<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(future)
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), future).await.expect("within ten seconds")
}

#[tokio::test]
async fn the_gallery_shows_what_was_uploaded_with_links_to_copy() {
    let jobs = vec![
        job(1, "trip/IMG_1.jpg", Stage::Done, links("http://127.0.0.1:8421/i/a.jpg", "http://127.0.0.1:8421/t/a.jpg")),
        job(2, "resting.jpg", Stage::Cooling, None),
        job(3, "bad.jpg", Stage::Failed, None),
    ];
    let bench = Bench::start(jobs).await;
    let reply = bench.get("/").await;
    assert_eq!(reply.status(), "200");
    let page = reply.text();
    for expected in [
        "trip/IMG_1.jpg",
        "183.4 kB · 1600 × 1067 · 5 min ago",
        r#"<img src="http://127.0.0.1:8421/t/a.jpg" alt="" loading="lazy""#,
        "[url=http://127.0.0.1:8421/i/a.jpg][img]http://127.0.0.1:8421/t/a.jpg[/img][/url]",
        "<b>1</b> uploaded",
        "<b>1</b> cooling",
        "<b>1</b> failed",
    ] {
        assert!(page.contains(expected), "{expected} is missing in\n{page}");
    }
    assert!(!page.contains("resting.jpg") && !page.contains("delete"), "{page}");
    assert!(!page.contains("Older"), "one page only");
    for header in ["x-content-type-options: nosniff", "content-security-policy: default-src 'none'", "no-store"] {
        assert!(reply.head.contains(header), "{header} is missing in\n{}", reply.head);
    }
}

#[tokio::test]
async fn what_was_undone_has_no_link_any_more() {
    let there = job(1, "there.jpg", Stage::Done, links("https://h.example/1", "https://h.example/t1"));
    let mut gone = job(2, "gone.jpg", Stage::Done, links("https://h.example/2", "https://h.example/t2"));
    gone.record = gone.record.map(|record| record.replacen('{', r#"{"removed_at":"2026-11-23T11:00:00Z","#, 1));
    let bench = Bench::start(vec![there, gone]).await;
    let reply = bench.get("/").await;
    let page = reply.text();
    assert!(page.contains("https://h.example/1") && page.contains("gone.jpg") && page.contains("undone "), "{page}");
    assert!(!page.contains("https://h.example/2") && !page.contains("https://h.example/t2"), "{page}");
}

#[tokio::test]
async fn hostile_names_and_links_stay_text() {
    let name = "<script>alert(1)</script>\"'.jpg";
    let jobs = vec![
        job(1, name, Stage::Done, links("javascript:alert(1)", "javascript:alert(2)")),
        job(2, name, Stage::Done, links("https://h.example/\"><script>", "data:image/svg+xml,<svg onload=alert(3)>")),
        Job { record: Some("{torn".into()), ..job(3, "no-json", Stage::Done, None) },
    ];
    let bench = Bench::start(jobs).await;
    let reply = bench.get("/").await;
    let page = reply.text();
    assert_eq!(page.matches("<script").count(), 1, "only our own script:\n{page}");
    assert!(!page.contains("javascript:") && !page.contains("data:") && !page.contains("onload"), "{page}");
    assert_eq!(page.matches("no usable link").count(), 2);
}

#[tokio::test]
async fn the_gallery_is_paged_and_an_empty_one_says_where_to_drop() {
    let jobs = (1..=61).map(|n| job(n, &format!("n{n}.jpg"), Stage::Done, links("https://h.example/", ""))).collect();
    let bench = Bench::start(jobs).await;
    let first = bench.get("/").await;
    assert!(first.text().contains("n61.jpg") && first.text().contains("n2.jpg") && !first.text().contains(">n1.jpg"));
    let (_, rest) = first.text().split_once("href=\"/?before=").expect("a link to the next page");
    let before = rest.split('"').next().expect("an id");
    let second = bench.get(&format!("/?before={before}")).await;
    assert!(second.text().contains("n1.jpg") && !second.text().contains("n2.jpg"), "{}", second.text());
    assert_eq!(bench.get("/?before=nonsense").await.status(), "200");

    let empty = Bench::start(Vec::new()).await.get("/").await;
    assert!(empty.text().contains("/home/a/&lt;Drop&gt;"), "{}", empty.text());
}

#[tokio::test]
async fn foreign_hosts_are_refused_on_every_route() {
    let bench = Bench::start(Vec::new()).await;
    for target in ["/", "/healthz", "/gallery.css", "/i/x"] {
        for host in ["Host: evil.example", "Host: localhost\r\nHost: evil.example", "X: y"] {
            let reply = bench.send(&format!("GET {target} HTTP/1.1\r\n{host}\r\nConnection: close\r\n\r\n")).await;
            assert_eq!(reply.status(), "403", "{target} with {host}");
        }
    }
    let address = bench.address;
    let own = bench.send(&format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")).await;
    assert_eq!((own.status(), own.text()), ("200", "ok\n"));
}

#[tokio::test]
async fn images_are_served_and_nothing_else() {
    let bench = Bench::start(Vec::new()).await;
    let id = "0123456789abcdef0123456789abcdef";
    let folder = bench.dir.path().join("local/images/01");
    std::fs::create_dir_all(&folder).expect("made");
    std::fs::write(folder.join(format!("{id}.png")), b"picture").expect("written");
    std::fs::write(bench.dir.path().join("local/secret.png"), b"secret").expect("written");

    let reply = bench.get(&format!("/i/{id}.png")).await;
    assert_eq!((reply.status(), reply.text()), ("200", "picture"));
    for header in ["content-type: image/png", "content-length: 7", "immutable", "nosniff"] {
        assert!(reply.head.contains(header), "{header} is missing in\n{}", reply.head);
    }
    let head = bench.send(&format!("HEAD /i/{id}.png HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")).await;
    assert!(head.head.contains("content-length: 7") && head.body.is_empty(), "{}", head.head);

    for bad in [
        "/i/../../secret.png",
        "/i/..%2f..%2fsecret.png",
        "/i/%2e%2e/%2e%2e/secret.png",
        "/i/%00.png",
        &format!("/i/{id}.jpg"),
        &format!("/t/{id}.png"),
        "/i/",
        "/v1/jobs",
    ] {
        let reply = bench.get(bad).await;
        assert_eq!(reply.status(), "404", "{bad}");
        assert!(!reply.text().contains("secret"), "{bad}");
    }
    let post = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    assert_eq!(bench.send(post).await.status(), "405");
}

#[tokio::test]
async fn the_client_and_the_agent_understand_each_other() {
    let jobs = (1..=3).map(|n| job(n, &format!("n{n}.jpg"), Stage::Failed, links("https://h/", ""))).collect();
    let bench = Bench::start(jobs).await;
    let client = &bench.client;
    assert_eq!(client.get::<Status>("/v1/status").await.expect("a status"), status());

    let retry = RetryBody { all: true, paths: Vec::new() };
    let retried: Retried = client.post("/v1/retry", &retry).await.expect("queued");
    assert_eq!(retried.queued, 3);
    let retry = RetryBody { all: false, paths: vec![PathBuf::from("/x/ä.jpg")] };
    let retried: Retried = client.post("/v1/retry", &retry).await.expect("answered");
    assert_eq!(retried.refused, ["/x/ä.jpg: unknown"]);
    let one: Retried = client.post(&format!("/v1/jobs/{}/retry", JobId::generate()), &()).await.expect("queued");
    assert_eq!(one.queued, 1);
    client.post::<serde_json::Value>("/v1/folders/rescan", &()).await.expect("scanned");

    let page: JobsPage = client.get("/v1/jobs?state=failed&limit=2").await.expect("jobs");
    assert_eq!(page.jobs.iter().map(|job| job.file.as_str()).collect::<Vec<_>>(), ["n3.jpg", "n2.jpg"]);
    assert!(page.jobs[0].record.as_ref().is_some_and(|record| record.get("delete_url").is_none()));
    let before = page.next.expect("one more");
    let page: JobsPage = client.get(&format!("/v1/jobs?limit=2&before={before}")).await.expect("jobs");
    assert_eq!((page.jobs.len(), page.next), (1, None));
}

#[tokio::test]
async fn what_is_asked_wrongly_is_answered_with_a_reason() {
    let bench = Bench::start(Vec::new()).await;
    let refused = async |target: &str, body: Option<serde_json::Value>| {
        let answer = match body {
            None => bench.client.get::<serde_json::Value>(target).await,
            Some(body) => bench.client.post(target, &body).await,
        };
        match answer {
            Err(ClientError::Refused { status, message }) => (status.as_u16(), message),
            other => panic!("{target}: {other:?}"),
        }
    };
    let json = |text: &str| Some(serde_json::from_str(text).expect("JSON"));
    for (target, body, status, reason) in [
        ("/v1/jobs?state=lost", None, 400, "`state=lost` is no state; known are waiting, started"),
        ("/v1/jobs?limit=x", None, 400, "limit"),
        ("/v1/jobs?colour=red", None, 400, "colour"),
        ("/v1/retry", json("{}"), 400, r#"expected {"all": true} or"#),
        ("/v1/retry", json(r#"{"paths": ["relative.jpg"]}"#), 400, "absolute"),
        ("/v1/retry", json(r#"{"everything": true}"#), 400, "everything"),
        ("/v1/jobs/x/retry", json("{}"), 400, "ULID"),
        ("/v1/retry", None, 405, "wrong method"),
        ("/v2/status", None, 404, "no such route"),
    ] {
        let (got, message) = refused(target, body).await;
        assert_eq!(got, status, "{target}: {message}");
        assert!(message.contains(reason), "{target}: {message}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_is_stuck_or_gone_is_reported() {
    let (handle, requests) = mpsc::channel(1);
    let bench = Bench::start_with(Vec::new(), handle).await;
    let stuck = bench.client.get::<Status>("/v1/status").await.expect_err("no answer");
    assert!(matches!(&stuck, ClientError::Refused { status, .. } if status.as_u16() == 504), "{stuck}");
    drop(requests);
    let gone = bench.client.get::<Status>("/v1/status").await.expect_err("no answer");
    assert!(matches!(&gone, ClientError::Refused { status, .. } if status.as_u16() == 503), "{gone}");
}

#[tokio::test]
async fn the_socket_is_ours_alone_and_goes_away_with_the_server() {
    let bench = Bench::start(Vec::new()).await;
    let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&bench.socket()), 0o600);
    assert_eq!(mode(bench.socket().parent().expect("a folder")), 0o700);
    let beside = std::fs::read_dir(bench.socket().parent().expect("a folder")).expect("readable").count();
    assert_eq!(beside, 1, "nothing is left of making it");
    let socket = bench.socket();
    bench.stop.cancel();
    within(bench.server).await.expect("no panic");
    assert!(!socket.exists());
    let gone = bench.client.get::<Status>("/v1/status").await.expect_err("nobody there");
    assert!(matches!(gone, ClientError::NotRunning { .. }), "{gone}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn other_users_are_refused_even_where_the_mode_of_the_socket_was_opened() {
    use std::io::{Read, Write};
    const NOBODY: u32 = 65_534;
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root can be somebody else");
        return;
    }
    let bench = Bench::start(Vec::new()).await;
    let socket = bench.socket();
    for path in socket.ancestors().take_while(|path| path.starts_with(std::env::temp_dir())) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).expect("root may");
    }
    let ask = move |user: Option<u32>| {
        let socket = socket.clone();
        tokio::task::spawn_blocking(move || {
            // Of this thread alone.
            let become_user = |user| rustix::thread::set_thread_uid(rustix::fs::Uid::from_raw(user));
            std::thread::spawn(move || {
                user.map(become_user).transpose().expect("root may");
                let mut stream = std::os::unix::net::UnixStream::connect(&socket)?;
                stream.write_all(b"GET /v1/status HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n")?;
                let mut answer = String::new();
                stream.read_to_string(&mut answer).map(|_| answer)
            })
            .join()
            .expect("no panic")
        })
    };
    assert!(within(ask(None)).await.expect("no panic").expect("an answer").starts_with("HTTP/1.1 200"));
    let refused = within(ask(Some(NOBODY))).await.expect("no panic");
    assert!(refused.as_ref().map_or(true, String::is_empty), "{refused:?}");
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("control.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
    assert!(path.exists(), "a listener of the standard library leaves its file behind");
    let first = server::bind_control(&path).expect("replaced");
    assert!(matches!(server::bind_control(&path), Err(BindError::Taken { .. })));
    drop(first);
    std::fs::write(&path, "precious").expect("written");
    assert!(matches!(server::bind_control(&path), Err(BindError::NotASocket { .. })));
    assert_eq!(std::fs::read(&path).expect("there"), b"precious");
}

#[tokio::test]
async fn an_old_server_leaves_its_successors_socket_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("control.sock");
    let first = server::bind_control(&path).expect("bound");
    let aside = std::process::Command::new("rm").arg(&path).status().expect("rm runs");
    assert!(aside.success());
    let second = server::bind_control(&path).expect("bound anew");
    drop(first);
    assert!(path.exists());
    drop(second);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_taken_port_names_the_address_and_the_key() {
    let first = server::bind_people(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a port");
    let address: SocketAddr = first.base_url().trim_start_matches("http://").parse().expect("an address");
    let error = server::bind_people(address).await.expect_err("taken");
    let message = error.to_string();
    assert!(message.contains(&address.to_string()) && message.contains("[server] listen"), "{message}");
}

#[tokio::test]
async fn stopping_does_not_wait_for_idle_or_silent_connections() {
    let bench = Bench::start(Vec::new()).await;
    let mut idle = TcpStream::connect(bench.address).await.expect("connected");
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /heal").await.expect("sent");
    let mut first = [0; 12];
    within(idle.read_exact(&mut first)).await.expect("an answer");
    assert_eq!(&first, b"HTTP/1.1 200");
    bench.stop.cancel();
    let deadline = server::STOP_DEADLINE + Duration::from_secs(1);
    tokio::time::timeout(deadline, bench.server).await.expect("in time").expect("no panic");
    let mut rest = Vec::new();
    let end: io::Result<usize> = within(idle.read_to_end(&mut rest)).await;
    assert!(end.is_ok() || end.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn connections_beyond_the_bound_wait_their_turn() {
    let bench = Bench::start(Vec::new()).await;
    let mut silent = Vec::new();
    for _ in 0..server::MAX_CONNECTIONS {
        silent.push(TcpStream::connect(bench.address).await.expect("connected"));
    }
    let mut late = TcpStream::connect(bench.address).await.expect("in the backlog");
    let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    late.write_all(request).await.expect("sent");
    let mut answer = Vec::new();
    let early = tokio::time::timeout(Duration::from_millis(200), late.read_to_end(&mut answer)).await;
    assert!(early.is_err(), "served although the bound is reached");
    silent.pop();
    within(late.read_to_end(&mut answer)).await.expect("an answer");
    assert!(answer.starts_with(b"HTTP/1.1 200"));
}

#[tokio::test]
async fn the_live_page_shows_to_everybody_and_steers_only_with_the_key_of_the_socket() {
    let bench = Bench::start(Vec::new()).await;
    let page = bench.get("/status").await;
    assert_eq!(page.status(), "200");
    assert!(page.text().contains("job-uploaded") && page.text().contains("/live.js"), "{}", page.text());
    assert!(page.head.contains("connect-src 'self'") && !page.head.contains("unsafe"), "{}", page.head);
    for (asset, kind) in [("/live.js", "text/javascript"), ("/live.css", "text/css")] {
        let reply = bench.get(asset).await;
        assert!(reply.status() == "200" && reply.head.contains(kind), "{asset}: {}", reply.head);
    }
    let shown: serde_json::Value = bench.client.get("/v1/status").await.expect("a status");
    let address = shown["page"].as_str().expect("where the page is");
    let (place, key) = address.split_once("/status#").expect("the key behind #");
    assert_eq!(place, format!("http://{}", bench.address));
    let public = bench.get("/v1/status").await;
    assert!(public.status() == "200" && !public.text().contains(key), "the key is for the user of the agent only");
    let post = async |route: &str, header: &str| {
        let body = "{\"all\": true}";
        let request = format!(
            "POST {route} HTTP/1.1\r\nHost: localhost\r\n{header}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        bench.send(&request).await
    };
    let wrong = format!("Authorization: Bearer {}\r\n", key.chars().rev().collect::<String>());
    for route in
        ["/v1/retry", "/v1/folders/rescan", "/v1/pause", "/v1/hosts/x/pause", "/v1/jobs/x/cancel", "/v1/reload"]
    {
        for header in ["", "Authorization: Bearer \r\n", "Authorization: Basic x\r\n", &wrong] {
            assert_eq!(post(route, header).await.status(), "401", "{route} with {header:?}");
        }
    }
    let right = format!("Authorization: Bearer {key}\r\n");
    let reply = post("/v1/retry", &right).await;
    assert_eq!((reply.status(), reply.text()), ("200", "{\"queued\":3,\"refused\":[]}"));
    let foreign = format!(
        "POST /v1/retry HTTP/1.1\r\nHost: evil.example\r\n{right}Content-Length: 0\r\nConnection: close\r\n\r\n"
    );
    assert_eq!(bench.send(&foreign).await.status(), "403", "no name of another machine, key or not");
    assert_eq!(bench.get("/metrics").await.status(), "200");
}
