//! A scripted pixhost on loopback: speaks its contract strictly, misbehaves on demand, and keeps its own record of what
//! it received. One thread per connection, no runtime.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use memchr::memmem::find;
use tokio::time::Instant;

/// A request as it arrived, whole.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// `POST /images HTTP/1.1`
    pub line: String,
    pub headers: HashMap<String, String>,
    /// Text fields in order.
    pub fields: Vec<(String, String)>,
    /// Name and content of the file part; it must be the last.
    pub file_name: String,
    pub file_type: String,
    pub file: Vec<u8>,
}

/// What the host does with a connection.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// Status, further header lines, body.
    Answer(u16, String, String),
    /// The answer of pixhost for a stored image.
    Stored,
    /// The same after this time.
    StoredAfter(Duration),
    /// Reads the body in pieces of so many bytes with a pause after each, and stores it.
    Slowly(usize, Duration),
    /// The same as if all connections shared a line: they take turns for each piece.
    InTurns(usize, Duration),
    /// Reads everything and never answers.
    Silent,
    /// Does not even read the body: stops after the head.
    SilentInBody,
    /// Says nothing from the moment of accepting, reads nothing.
    SilentAfterAccept,
    /// An answer whose body never ends.
    Endless,
    /// A reset in the middle of the request's body.
    Reset,
    /// Half of an answer's body, then silence.
    HalfAnswer,
    /// An answer of which a byte arrives every few milliseconds, and never the last one.
    Drips,
}

type Script = dyn Fn(&str) -> Reply + Send + Sync;

struct State {
    script: Box<Script>,
    received: Mutex<Vec<Received>>,
    /// The first byte of every request, whole or not.
    began: Mutex<Vec<Instant>>,
    /// The ends of connections.
    closed: Mutex<Vec<Instant>>,
    /// Who reads over the line that all share, and how many want to.
    line: Mutex<()>,
    on_line: AtomicUsize,
    most_on_line: AtomicUsize,
    open: AtomicUsize,
    accepted: AtomicUsize,
    well: AtomicBool,
    ended: AtomicBool,
    /// Conversations that ended with a panic: a request that breaks the contract.
    violations: AtomicUsize,
}

impl State {
    fn reply(&self, name: &str) -> Reply {
        if self.well.load(Ordering::SeqCst) { Reply::Stored } else { (self.script)(name) }
    }

    fn in_turns<'a>(
        &self,
        reader: &mut impl Read,
        pieces: impl Iterator<Item = &'a mut [u8]>,
        pause: Duration,
    ) -> std::io::Result<()> {
        self.most_on_line.fetch_max(self.on_line.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let read = pieces.into_iter().try_for_each(|piece| {
            let turn = self.line.lock().expect("no panic inside");
            std::thread::sleep(pause);
            drop(turn);
            reader.read_exact(piece)
        });
        self.on_line.fetch_sub(1, Ordering::SeqCst);
        read
    }
}

/// The host. `script` gets the name of the file and says what to do (before the body is read for the silent ones).
pub(crate) struct FakeHost {
    address: SocketAddr,
    state: Arc<State>,
}

impl FakeHost {
    pub(crate) fn start(script: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(State {
            script: Box::new(script),
            received: Mutex::default(),
            began: Mutex::default(),
            closed: Mutex::default(),
            line: Mutex::default(),
            on_line: AtomicUsize::new(0),
            most_on_line: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            accepted: AtomicUsize::new(0),
            well: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            violations: AtomicUsize::new(0),
        });
        let accepting = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if accepting.ended.load(Ordering::SeqCst) {
                    return;
                }
                let state = Arc::clone(&accepting);
                std::thread::spawn(move || serve(&state, stream));
            }
        });
        Self { address, state }
    }

    /// A host that stores everything.
    pub(crate) fn well() -> Self {
        Self::start(|_| Reply::Stored)
    }

    /// A host that answers the first requests with these, and stores everything after them.
    pub(crate) fn at_first(replies: Vec<Reply>) -> Self {
        let next = AtomicUsize::new(0);
        Self::start(move |name| {
            let ask = |index| replies.get(index).cloned().unwrap_or(Reply::Stored);
            // A connection that is accepted is no request yet.
            if name.is_empty() { Reply::Stored } else { ask(next.fetch_add(1, Ordering::SeqCst)) }
        })
    }

    /// From now on it stores everything.
    pub(crate) fn recover(&self) {
        self.state.well.store(true, Ordering::SeqCst);
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.state.received.lock().expect("no panic inside").clone()
    }

    /// How often a file of this name arrived whole.
    pub(crate) fn times(&self, name: &str) -> usize {
        self.state.received.lock().expect("no panic inside").iter().filter(|r| r.file_name == name).count()
    }

    /// Connections that are open now.
    pub(crate) fn open(&self) -> usize {
        self.state.open.load(Ordering::SeqCst)
    }

    /// When the first byte of each request arrived, whole or not.
    pub(crate) fn began(&self) -> Vec<Instant> {
        self.state.began.lock().expect("no panic inside").clone()
    }

    /// When connections ended.
    pub(crate) fn closed(&self) -> Vec<Instant> {
        self.state.closed.lock().expect("no panic inside").clone()
    }

    /// How many bodies came over the shared line at once, at most.
    pub(crate) fn most_on_line(&self) -> usize {
        self.state.most_on_line.load(Ordering::SeqCst)
    }

    pub(crate) fn accepted(&self) -> usize {
        self.state.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for FakeHost {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        let violations = self.state.violations.load(Ordering::SeqCst);
        assert!(violations == 0 || std::thread::panicking(), "{violations} requests broke the contract, see above");
    }
}

/// An accepted connection; dropping it writes down its end, also that of a panic.
struct Connection<'a>(&'a State);

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.violations.fetch_add(1, Ordering::SeqCst);
        }
        self.0.closed.lock().expect("no panic inside").push(Instant::now());
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

fn serve(state: &State, stream: TcpStream) {
    state.accepted.fetch_add(1, Ordering::SeqCst);
    state.open.fetch_add(1, Ordering::SeqCst);
    let _connection = Connection(state);
    let _ = stream.set_nodelay(true);
    let _ = converse(state, &stream);
    let _ = stream.shutdown(Shutdown::Both);
}

/// Requests on one connection, until somebody closes it.
fn converse(state: &State, stream: &TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::with_capacity(256 * 1024, stream);
    match state.reply("") {
        Reply::SilentAfterAccept => return until_gone(stream),
        // A small window, or the system would take megabytes at once and nobody would see how slow this host is.
        Reply::Slowly(..) | Reply::InTurns(..) => rustix::net::sockopt::set_socket_recv_buffer_size(stream, 16_384)?,
        _ => {}
    }
    loop {
        if reader.fill_buf()?.is_empty() {
            return Ok(());
        }
        let began = Instant::now();
        state.began.lock().expect("no panic inside").push(began);
        let Some((line, headers)) = read_head(&mut reader)? else { return Ok(()) };
        let length: usize = headers.get("content-length").and_then(|l| l.parse().ok()).expect("a Content-Length");
        assert!(!headers.contains_key("transfer-encoding"), "a known length is announced, not chunked");
        let (peeked, name) = peek_name(&mut reader, length)?;
        match state.reply(&name) {
            Reply::SilentInBody => {
                // Keep the window shut, notice the end all the same: a closed connection makes a write fail.
                return until_gone(stream);
            }
            Reply::Reset => return reset(stream),
            reply => {
                let mut body = peeked;
                let missing = length - body.len();
                let mut rest = vec![0; missing];
                match reply {
                    Reply::Slowly(piece, pause) => {
                        for part in rest.chunks_mut(piece) {
                            reader.read_exact(part)?;
                            std::thread::sleep(pause);
                        }
                    }
                    Reply::InTurns(piece, pause) => state.in_turns(&mut reader, rest.chunks_mut(piece), pause)?,
                    _ => reader.read_exact(&mut rest)?,
                }
                body.extend(rest);
                state.received.lock().expect("no panic inside").push(parse(&line, headers, &body));
                if !answer(state, stream, &mut reader, &name, &reply)? {
                    return Ok(());
                }
            }
        }
    }
}

/// Carries out a reply; false when the connection is over.
fn answer(
    state: &State,
    mut stream: &TcpStream,
    reader: &mut BufReader<&TcpStream>,
    name: &str,
    reply: &Reply,
) -> std::io::Result<bool> {
    match reply {
        Reply::Stored | Reply::Slowly(..) | Reply::InTurns(..) => stream.write_all(stored(name).as_bytes())?,
        Reply::StoredAfter(time) => {
            std::thread::sleep(*time);
            stream.write_all(stored(name).as_bytes())?;
        }
        Reply::Answer(status, headers, body) => stream.write_all(http(*status, headers, body).as_bytes())?,
        Reply::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{\"name\": \"")?;
            while !state.ended.load(Ordering::SeqCst) {
                stream.write_all(&[b'x'; 65_536])?;
            }
            return Ok(false);
        }
        Reply::Drips => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 900000\r\n\r\n")?;
            while !state.ended.load(Ordering::SeqCst) {
                stream.write_all(b" ")?;
                std::thread::sleep(Duration::from_millis(2));
            }
            return Ok(false);
        }
        Reply::HalfAnswer => {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{\"na")?;
            until_closed(reader)?;
            return Ok(false);
        }
        Reply::Silent | Reply::SilentInBody | Reply::SilentAfterAccept | Reply::Reset => {
            until_closed(reader)?;
            return Ok(false);
        }
    }
    Ok(true)
}

/// What pixhost answers for a stored image.
pub(crate) fn stored(name: &str) -> String {
    // A name like any server's: nothing of it that could break a URL.
    let slug: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    http(200, "content-type: application/json\r\n", &stored_body(&slug))
}

fn stored_body(slug: &str) -> String {
    format!(
        "{{\"name\":\"{slug}\",\"show_url\":\"https:\\/\\/pixhost.to\\/show\\/7\\/1_{slug}\",\"th_url\":\"https:\\/\\/t7.pixhost.to\\/thumbs\\/7\\/1_{slug}\"}}"
    )
}

fn http(status: u16, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
}

/// Waits until the other side closes, taking in what comes.
fn until_closed(reader: &mut impl Read) -> std::io::Result<()> {
    let mut buffer = [0; 4_096];
    while reader.read(&mut buffer)? > 0 {}
    Ok(())
}

/// Waits until the other side has closed the connection, without reading a byte: behind a shut window its end cannot arrive
/// here, so the kernel is asked about its socket (`/proc/net/tcp`: addresses in the second and third column, 01 for an
/// established connection in the fourth).
fn until_gone(stream: &TcpStream) -> std::io::Result<()> {
    let ends_with = |column: Option<&str>, port: u16| column.is_some_and(|c| c.ends_with(&format!(":{port:04X}")));
    let (ours, theirs) = (stream.local_addr()?.port(), stream.peer_addr()?.port());
    loop {
        std::thread::sleep(Duration::from_millis(20));
        let table = std::fs::read_to_string("/proc/net/tcp")?;
        let is_open = table.lines().any(|line| {
            let mut columns = line.split_whitespace().skip(1);
            ends_with(columns.next(), theirs) && ends_with(columns.next(), ours) && columns.next() == Some("01")
        });
        if !is_open {
            return Ok(());
        }
    }
}

fn reset(stream: &TcpStream) -> std::io::Result<()> {
    // Unread data at close makes the kernel send a reset.
    stream.shutdown(Shutdown::Both)
}

type Head = (String, HashMap<String, String>);

fn read_head(reader: &mut impl BufRead) -> std::io::Result<Option<Head>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut headers = HashMap::new();
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header)? == 0 {
            return Ok(None);
        }
        let Some((name, value)) = header.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    Ok(Some((line.trim_end().to_owned(), headers)))
}

/// Reads as much of the body as it takes to know the file's name.
fn peek_name(reader: &mut impl Read, length: usize) -> std::io::Result<(Vec<u8>, String)> {
    let mut body = Vec::new();
    while body.len() < length {
        let mut byte = [0; 512];
        let want = (length - body.len()).min(byte.len());
        let got = reader.read(&mut byte[..want])?;
        if got == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        body.extend(&byte[..got]);
        let text = String::from_utf8_lossy(&body);
        if let Some(start) = text.find("filename=\"")
            && let Some(end) = text[start + 10..].find('"')
        {
            let name = text[start + 10..start + 10 + end].to_owned();
            return Ok((body, name));
        }
    }
    Ok((body, String::new()))
}

/// Takes a multipart body apart, strictly: text fields first, one file, last.
fn parse(line: &str, headers: HashMap<String, String>, body: &[u8]) -> Received {
    let kind = headers.get("content-type").expect("a content type");
    let boundary = kind.split("boundary=").nth(1).expect("a boundary").trim_matches('"');
    let delimiter = format!("\r\n--{boundary}").into_bytes();
    let mut padded = b"\r\n".to_vec();
    padded.extend(body);
    let mut received = Received {
        line: line.to_owned(),
        headers: headers.clone(),
        fields: Vec::new(),
        file_name: String::new(),
        file_type: String::new(),
        file: Vec::new(),
    };
    let mut rest = &padded[find(&padded, &delimiter).expect("the first boundary") + delimiter.len()..];
    while !rest.starts_with(b"--") {
        let part_end = find(rest, &delimiter).expect("the next boundary");
        let part = &rest[2..part_end];
        let head_end = find(part, b"\r\n\r\n").expect("the end of a part's head");
        let (head, content) = (String::from_utf8_lossy(&part[..head_end]).into_owned(), &part[head_end + 4..]);
        let name = quoted(&head, "; name=\"").expect("a field name");
        assert!(received.file_name.is_empty(), "the file is the last part");
        match quoted(&head, "filename=\"") {
            Some(file_name) => {
                received.file_name = file_name;
                received.file_type = head.split("Content-Type: ").nth(1).unwrap_or_default().trim().to_owned();
                received.file = content.to_vec();
            }
            None => received.fields.push((name, String::from_utf8_lossy(content).into_owned())),
        }
        rest = &rest[part_end + delimiter.len()..];
    }
    assert_eq!(rest, b"--\r\n", "the body ends with the last boundary");
    received
}

fn quoted(head: &str, before: &str) -> Option<String> {
    let start = head.find(before)? + before.len();
    Some(head[start..start + head[start..].find('"')?].to_owned())
}
