//! A scripted HTTP server as tasks on the test's own runtime, so that a paused clock cannot run ahead of it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use memchr::memmem::find;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::Instant;

/// What the server does with one connection's next request.
#[derive(Clone)]
pub(crate) enum Reply {
    /// Reads the request and answers with these bytes.
    Answer(String),
    /// The same, with bytes that are no text.
    Bytes(Vec<u8>),
    /// Accepts, reads nothing, waits for the end of the connection.
    SilentAfterAccept,
    /// Reads the request and never answers.
    SilentAfterRequest,
    /// Reads so many bytes of the request, then no more.
    StopsReading(usize),
    /// Reads the request, sends this much of an answer, then nothing.
    SilentAfter(String),
    /// Reads the request and sends an answer without end.
    Endless,
    /// Reads the head and resets the connection.
    ResetAfterHead,
    /// Reads the request and resets the connection.
    ResetAfterRequest,
    /// Answers as soon as the head is there, and reads no more of the body.
    Early(String),
    /// The same, but goes on reading the body slowly.
    EarlyAndReads(String),
    /// Reads slowly: so many bytes each second, then answers.
    Slow(usize, String),
    /// Reads the request and answers with what this says about it.
    Ask(Handler),
}

/// What a site with a memory answers: the text of a whole answer.
pub(crate) type Handler = Arc<dyn Fn(&Request) -> String + Send + Sync>;

/// One request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) at: Instant,
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "header {name} is there twice");
        value
    }
}

#[derive(Default)]
struct Seen {
    requests: Vec<Request>,
    connections: usize,
    /// When a connection that the server left open was closed by the client.
    closed: Vec<Instant>,
    /// Told to servers that do not read: read now, to see the end.
    release: Arc<Notify>,
}

/// The server.
pub(crate) struct Fake {
    pub(crate) addr: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

impl Fake {
    /// Answers the n-th request with the n-th reply, and all later ones with the last.
    pub(crate) async fn start(replies: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let state = (Arc::new(Mutex::new(replies)), Arc::clone(&seen));
        spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                let (replies, seen) = state.clone();
                seen.lock().unwrap().connections += 1;
                spawn(async move { connection(stream, &replies, &seen).await });
            }
        });
        Self { addr, seen }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.seen.lock().unwrap().requests.clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.seen.lock().unwrap().connections
    }

    /// Waits until the client has closed a connection that the server left open.
    pub(crate) async fn closed(&self) -> Instant {
        let deadline = Instant::now() + Duration::from_secs(3600);
        loop {
            {
                let seen = self.seen.lock().unwrap();
                if let Some(at) = seen.closed.first() {
                    return *at;
                }
                seen.release.notify_waiters();
            }
            assert!(Instant::now() < deadline, "the client kept the connection open");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the fake runs beside the code under test")]
pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(task);
}

/// While it lives, and a moment longer, a paused clock stands still: what is on its way through the system takes real time,
/// and a clock that goes on as soon as nobody has anything to do would jump to the next time-out meanwhile.
struct Brake {
    _held: std::sync::mpsc::SyncSender<()>,
}

impl Brake {
    fn new() -> Self {
        let (held, released) = std::sync::mpsc::sync_channel::<()>(0);
        // The runtime leaves the clock alone as long as blocking work runs.
        tokio::task::spawn_blocking(move || {
            let _ = released.recv();
            std::thread::sleep(Duration::from_millis(2));
        });
        Self { _held: held }
    }
}

async fn connection(mut stream: TcpStream, replies: &Mutex<Vec<Reply>>, seen: &Mutex<Seen>) {
    let mut buffer = Vec::new();
    loop {
        let reply = {
            let mut replies = replies.lock().unwrap();
            if replies.len() > 1 { replies.remove(0) } else { replies[0].clone() }
        };
        if serve(&mut stream, &mut buffer, reply, seen).await.is_none() {
            return;
        }
    }
}

/// `None` when the connection is over.
async fn serve(stream: &mut TcpStream, buffer: &mut Vec<u8>, reply: Reply, seen: &Mutex<Seen>) -> Option<()> {
    if let Reply::SilentAfterAccept = reply {
        hold_unread(stream, seen).await;
        return None;
    }
    let mut request = head(stream, buffer).await?;
    match &reply {
        Reply::ResetAfterHead => {
            stream.set_zero_linger().unwrap();
            return None;
        }
        Reply::Early(answer) => {
            seen.lock().unwrap().requests.push(request);
            stream.write_all(answer.as_bytes()).await.ok()?;
            hold_unread(stream, seen).await;
            return None;
        }
        Reply::EarlyAndReads(answer) => {
            seen.lock().unwrap().requests.push(request);
            stream.write_all(answer.as_bytes()).await.ok()?;
            let mut sink = vec![0; 64 * 1024];
            while stream.read(&mut sink).await.is_ok_and(|read| read > 0) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            seen.lock().unwrap().closed.push(Instant::now());
            return None;
        }
        Reply::StopsReading(bytes) => {
            let brake = Brake::new();
            let mut read = buffer.len();
            while read < *bytes {
                read += stream.read(&mut vec![0; bytes - read]).await.unwrap();
            }
            drop(brake);
            hold_unread(stream, seen).await;
            return None;
        }
        _ => {}
    }
    let pace = if let Reply::Slow(pace, _) = reply { Some(pace) } else { None };
    body(stream, buffer, &mut request, pace).await?;
    let asked = if let Reply::Ask(handler) = &reply { Some(handler(&request)) } else { None };
    seen.lock().unwrap().requests.push(request);
    match reply {
        Reply::Ask(_) => {
            stream.write_all(asked.unwrap_or_default().as_bytes()).await.ok()?;
            Some(())
        }
        Reply::Bytes(answer) => {
            stream.write_all(&answer).await.ok()?;
            Some(())
        }
        Reply::Answer(answer) | Reply::Slow(_, answer) => {
            stream.write_all(answer.as_bytes()).await.ok()?;
            Some(())
        }
        Reply::SilentAfter(answer) => {
            stream.write_all(answer.as_bytes()).await.ok()?;
            hold(stream, seen).await;
            None
        }
        Reply::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await.ok()?;
            while stream.write_all(b"1000\r\n").await.is_ok() && stream.write_all(&[b'x'; 0x1000]).await.is_ok() {
                stream.write_all(b"\r\n").await.ok();
            }
            seen.lock().unwrap().closed.push(Instant::now());
            None
        }
        Reply::ResetAfterRequest => {
            stream.set_zero_linger().unwrap();
            None
        }
        _ => {
            hold(stream, seen).await;
            None
        }
    }
}

pub(crate) async fn head(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Request> {
    let mut brake = None;
    let end = loop {
        if let Some(end) = find(buffer, b"\r\n\r\n") {
            break end;
        }
        if !buffer.is_empty() {
            brake.get_or_insert_with(Brake::new);
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let text = String::from_utf8(buffer[..end].to_vec()).expect("heads are text");
    buffer.drain(..end + 4);
    let mut lines = text.split("\r\n");
    let mut first = lines.next().unwrap().split(' ');
    let (method, target) = (first.next().unwrap().to_owned(), first.next().unwrap().to_owned());
    assert_eq!(first.next(), Some("HTTP/1.1"));
    let pair = |line: &str| line.split_once(": ").map(|(a, b)| (a.to_owned(), b.to_owned())).expect("a header");
    Some(Request { at: Instant::now(), method, target, headers: lines.map(pair).collect(), body: Vec::new() })
}

/// Reads exactly `Content-Length` bytes; chunked framing is an error.
pub(crate) async fn body(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
    request: &mut Request,
    pace: Option<usize>,
) -> Option<()> {
    assert_eq!(request.header("transfer-encoding"), None, "the length must be announced");
    let length: usize = request.header("content-length").map_or(0, |text| text.parse().unwrap());
    let _brake = pace.is_none().then(Brake::new);
    while buffer.len() < length {
        if let Some(pace) = pace {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let _brake = Brake::new();
            let mut block = vec![0; pace.min(length - buffer.len())];
            stream.read_exact(&mut block).await.ok()?;
            buffer.extend(block);
        } else if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    assert_eq!(buffer.len(), length, "more bytes than announced");
    request.body = std::mem::take(buffer);
    Some(())
}

/// Waits for the client's end, reading whatever still comes.
async fn hold(stream: &mut TcpStream, seen: &Mutex<Seen>) {
    let mut sink = vec![0; 64 * 1024];
    while stream.read(&mut sink).await.is_ok_and(|read| read > 0) {}
    seen.lock().unwrap().closed.push(Instant::now());
}

/// Reads nothing until the test asks for the end: it lies behind what was sent.
async fn hold_unread(stream: &mut TcpStream, seen: &Mutex<Seen>) {
    let release = Arc::clone(&seen.lock().unwrap().release);
    release.notified().await;
    hold(stream, seen).await;
}

/// A complete answer.
pub(crate) fn answer(status: &str, headers: &str, body: &str) -> Reply {
    Reply::Answer(text(status, headers, body))
}

/// The text of a complete answer.
pub(crate) fn text(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len())
}

/// One part of a multipart body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) disposition: String,
    pub(crate) content_type: Option<String>,
    pub(crate) data: Vec<u8>,
}

/// The parts of a multipart body, read strictly: every byte is accounted for.
pub(crate) fn parts(request: &Request) -> Vec<Part> {
    let content_type = request.header("content-type").unwrap();
    let boundary = content_type.strip_prefix("multipart/form-data; boundary=").expect("a boundary");
    let (open, close) = (format!("--{boundary}\r\n"), format!("--{boundary}--\r\n"));
    let mut rest = request.body.strip_suffix(close.as_bytes()).expect("the closing line");
    let mut parts = Vec::new();
    while !rest.is_empty() {
        rest = rest.strip_prefix(open.as_bytes()).expect("an opening line");
        let next = find(rest, open.as_bytes()).unwrap_or(rest.len());
        let part = rest[..next].strip_suffix(b"\r\n").expect("a line end after the data");
        let blank = find(part, b"\r\n\r\n").expect("a blank line");
        let head = String::from_utf8(part[..blank].to_vec()).unwrap();
        let mut lines = head.split("\r\n");
        let disposition = lines.next().unwrap().strip_prefix("Content-Disposition: form-data; ").unwrap().to_owned();
        let content_type = lines.next().map(|line| line.strip_prefix("Content-Type: ").unwrap().to_owned());
        assert_eq!(lines.next(), None);
        parts.push(Part { disposition, content_type, data: part[blank + 4..].to_vec() });
        rest = &rest[next..];
    }
    parts
}
