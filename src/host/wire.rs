//! Connections: name look-up, TCP, TLS and HTTP/1.1, all inside the future of the one who asks.
//!
//! No task of its own drives a connection. Whoever drops the future of an exchange closes its socket in the same instant,
//! and what was not sent yet is thrown away (the kernel resets the connection), so that a host which has stopped reading
//! cannot keep it open. That holds for the way through a proxy as well. A connection that has done a whole exchange is kept
//! for a moment for the next one.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use super::Progress;
use super::http::Trouble;
use super::names::Names;
use super::proxy::Proxy;
use crate::clock::{Clock, WallTime};
use crate::job::Phase;

/// Answers have some twenty headers.
const HEADERS_LIMIT: usize = 100;

/// An idle connection is not used again after this: many servers close theirs after 5 s, and a request that meets the
/// closing would end as an unknown outcome.
const IDLE: Duration = Duration::from_secs(4);

/// Idle connections kept for a host: the default number of workers.
const IDLE_CONNECTIONS: usize = 8;

/// How long one address of several is tried: the next one may answer.
const ONE_ADDRESS: Duration = Duration::from_secs(3);

/// What the system holds of a body before it is on its way. By default that is megabytes on a slow line: all of it would seem
/// to be sent in the first moment, and nothing to move for minutes.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 64 << 10;

type Body = reqwest::Body;
type Stream = Box<dyn Io>;

/// A plain or encrypted stream.
trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// The way to one site.
pub(super) struct Wire {
    host: Host<String>,
    port: u16,
    /// What stands in between.
    proxy: Option<Proxy>,
    /// Of the proxy, if there is one: it looks up the site's.
    names: Names,
    tls: Option<TlsConnector>,
    connect_timeout: Duration,
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    talk: Talk,
    since: Instant,
    /// Monotonic time stands still while the machine sleeps; a connection does not outlive that.
    since_wall: WallTime,
}

/// A connection, and the handle for the next request on it.
pub(super) struct Talk {
    sender: SendRequest<Body>,
    connection: Pin<Box<Connection<TokioIo<Stream>, Body>>>,
    line: Arc<Line>,
}

/// What is known of a TCP stream below everything that buffers.
#[derive(Default)]
struct Line {
    /// Everything that was begun on it is finished.
    whole: AtomicBool,
    /// Bytes that the system took, and gave, since somebody asked.
    written: AtomicU64,
    read: AtomicU64,
}

impl Line {
    /// Tells of what has moved since the last time.
    fn tell(&self, progress: &Progress) {
        let written = self.written.swap(0, Ordering::Relaxed);
        if written > 0 {
            progress.note_written(written);
        }
        if self.read.swap(0, Ordering::Relaxed) > 0 {
            progress.note_read();
        }
    }

    /// Counts what was written.
    fn wrote(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = written {
            self.written.fetch_add(bytes as u64, Ordering::Relaxed);
        }
        written
    }
}

/// A TCP stream that is closed in good order only after whole exchanges.
struct Socket {
    stream: TcpStream,
    line: Arc<Line>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        if !self.line.whole.load(Ordering::Relaxed) {
            // Otherwise the kernel would go on for minutes to offer the rest to a host that does not read.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.line.read.fetch_add((buf.filled().len() - before) as u64, Ordering::Relaxed);
        read
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.line.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.line.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Wire {
    /// The way to the site of `base_url`, which has a host, directly or through a proxy.
    ///
    /// # Errors
    /// When the system's certificates cannot be loaded.
    pub(super) fn new(base_url: &Url, proxy: Option<Proxy>, connect_timeout: Duration) -> Result<Self, rustls::Error> {
        let tls = (base_url.scheme() == "https").then(tls).transpose()?;
        let host = base_url.host().map_or(Host::Domain(String::new()), |host| host.to_owned());
        let port = base_url.port_or_known_default().unwrap_or(80);
        let names = match &proxy {
            Some(proxy) => Names::of(&proxy.host.to_string(), proxy.port),
            None => Names::of(base_url.host_str().unwrap_or_default(), port),
        };
        Ok(Self { host, port, proxy, names, tls, connect_timeout, idle: Mutex::default() })
    }

    /// The proxy that passes on what is sent here: it must be told where to.
    pub(super) fn passed_on_by(&self) -> Option<&Proxy> {
        self.proxy.as_ref().filter(|_| self.tls.is_none())
    }

    /// Sends `request` and gives its answer's head; the body is read with [`Talk::with`].
    pub(super) async fn send(
        &self,
        mut request: hyper::Request<Body>,
        progress: &Progress,
    ) -> Result<(hyper::Response<Incoming>, Talk), Trouble> {
        loop {
            let (mut talk, is_new) = match self.take() {
                Some(talk) => (talk, false),
                None => (self.connect(progress).await?, true),
            };
            talk.line.whole.store(false, Ordering::Relaxed);
            progress.enter(Phase::Send);
            let answer = talk.sender.try_send_request(request);
            match with(&mut talk.connection, || talk.line.tell(progress), answer).await {
                Ok(Ok(response)) => return Ok((response, talk)),
                Ok(Err(mut refused)) => match refused.take_message() {
                    // The host has closed it while it was idle, and has not seen the request.
                    Some(unsent) if !is_new => request = unsent,
                    _ => return Err(broken(refused.error())),
                },
                Err(error) => return Err(broken(&error)),
            }
        }
    }

    /// Keeps the connection of a whole exchange for the next one, if the host wants that too.
    pub(super) fn keep(&self, mut talk: Talk) {
        let ready = {
            let ready = with(&mut talk.connection, || (), talk.sender.ready());
            futures_util::FutureExt::now_or_never(ready)
        };
        talk.line.whole.store(true, Ordering::Relaxed);
        // The end of a host's connection could not be told from that of the proxy's.
        if self.proxy.is_none() && matches!(ready, Some(Ok(Ok(())))) {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.retain(Idle::is_fresh);
            if idle.len() < IDLE_CONNECTIONS {
                idle.push(Idle { talk, since: Instant::now(), since_wall: Clock::System.now() });
            }
        }
    }

    /// Closes what has been idle for too long.
    pub(super) fn tidy(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).retain(Idle::is_fresh);
    }

    /// An idle connection that is still open.
    fn take(&self) -> Option<Talk> {
        loop {
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
            if !idle.is_fresh() {
                continue;
            }
            let mut talk = idle.talk;
            let ended = futures_util::FutureExt::now_or_never(&mut talk.connection);
            if ended.is_none() && talk.sender.is_ready() {
                return Some(talk);
            }
        }
    }

    /// Name look-up, TCP, TLS.
    async fn connect(&self, progress: &Progress) -> Result<Talk, Trouble> {
        progress.enter(Phase::Connect);
        let deadline = Instant::now() + self.connect_timeout;
        let late = |phase| Trouble::Connect { phase, timed_out: true, offline: false, reason: String::new() };
        let failed = |phase, error: &io::Error| Trouble::Connect {
            phase,
            timed_out: false,
            offline: is_offline(error),
            reason: error.to_string(),
        };
        let stream = match timeout_at(deadline, self.tcp()).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(failed(Phase::Connect, &error)),
            Err(_) => return Err(late(Phase::Connect)),
        };
        // Small requests leave at once.
        let _ = stream.set_nodelay(true);
        #[cfg(target_os = "linux")]
        let _ = socket2::SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT);
        let line = Arc::<Line>::default();
        let mut socket = Socket { stream, line: Arc::clone(&line) };
        if let (Some(proxy), Some(_)) = (&self.proxy, &self.tls) {
            match timeout_at(deadline, proxy.tunnel(&mut socket, &self.host, self.port)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(failed(Phase::Connect, &error)),
                Err(_) => return Err(late(Phase::Connect)),
            }
        }
        let stream: Stream = match &self.tls {
            None => Box::new(socket),
            Some(tls) => {
                progress.enter(Phase::Tls);
                let name = self.server_name().map_err(|error| failed(Phase::Tls, &error))?;
                match timeout_at(deadline, tls.connect(name, socket)).await {
                    Ok(Ok(stream)) => Box::new(stream),
                    Ok(Err(error)) => return Err(failed(Phase::Tls, &error)),
                    Err(_) => return Err(late(Phase::Tls)),
                }
            }
        };
        let shake = http1::Builder::new().max_headers(HEADERS_LIMIT).handshake(TokioIo::new(stream));
        let (sender, connection) = shake.await.map_err(|error| broken(&error))?;
        Ok(Talk { sender, connection: Box::pin(connection), line })
    }

    fn server_name(&self) -> io::Result<ServerName<'static>> {
        match &self.host {
            Host::Domain(name) => ServerName::try_from(name.clone()).map_err(io::Error::other),
            Host::Ipv4(address) => Ok(ServerName::IpAddress((*address).into())),
            Host::Ipv6(address) => Ok(ServerName::IpAddress((*address).into())),
        }
    }

    /// The first address that answers.
    async fn tcp(&self) -> io::Result<TcpStream> {
        let (host, port) = self.proxy.as_ref().map_or((&self.host, self.port), |proxy| (&proxy.host, proxy.port));
        let addresses: Vec<SocketAddr> = match host {
            Host::Domain(_) => self.names.addresses().await.map_err(looked_up)?,
            Host::Ipv4(address) => vec![(*address, port).into()],
            Host::Ipv6(address) => vec![(*address, port).into()],
        };
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for (index, address) in addresses.iter().enumerate() {
            let connecting = TcpStream::connect(*address);
            let more = index + 1 < addresses.len();
            let connected = if more { timeout(ONE_ADDRESS, connecting).await } else { Ok(connecting.await) };
            match connected {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = error,
                Err(_) => last = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(last)
    }
}

impl Idle {
    fn is_fresh(&self) -> bool {
        let slept = Clock::System.now().since(self.since_wall);
        self.since.elapsed() < IDLE && slept < IDLE
    }
}

impl Talk {
    /// Runs `future`, which waits for something on this connection, and the connection itself.
    ///
    /// # Errors
    /// When the connection breaks before the future is done.
    pub(super) async fn with<F: Future>(&mut self, progress: &Progress, future: F) -> Result<F::Output, Trouble> {
        let line = &self.line;
        with(&mut self.connection, || line.tell(progress), future).await.map_err(|error| broken(&error))
    }
}

/// Runs `future` and the connection; `look` is called whenever the connection may have moved something.
async fn with<F: Future>(
    connection: &mut Pin<Box<Connection<TokioIo<Stream>, Body>>>,
    look: impl Fn(),
    future: F,
) -> Result<F::Output, hyper::Error> {
    let mut future = pin!(future);
    let mut ended = None;
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        if ended.is_none() {
            let poll = connection.as_mut().poll(cx);
            look();
            if let Poll::Ready(end) = poll {
                ended = Some(end);
                // What it has brought before it ended.
                if let Poll::Ready(output) = future.as_mut().poll(cx) {
                    return Poll::Ready(Ok(output));
                }
            }
        }
        match ended.take() {
            Some(Err(error)) => Poll::Ready(Err(error)),
            other => {
                ended = other;
                Poll::Pending
            }
        }
    })
    .await
}

fn tls() -> Result<TlsConnector, rustls::Error> {
    use rustls_platform_verifier::ConfigVerifierExt;
    let mut config = rustls::ClientConfig::with_platform_verifier()?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The failure of a name look-up. Whether it is the network of this machine that is missing, only the system's words tell:
/// the library gives no number. They are the C library's own (EAI_AGAIN), never a host's.
fn looked_up(error: io::Error) -> io::Error {
    let temporary = ["Temporary failure in name resolution", "Try again"];
    let text = error.to_string();
    if temporary.iter().any(|words| text.contains(words)) {
        return io::Error::new(io::ErrorKind::NetworkDown, text);
    }
    error
}

/// Whether the trouble is that of this machine's network.
fn is_offline(error: &io::Error) -> bool {
    use io::ErrorKind::{NetworkDown, NetworkUnreachable};
    matches!(error.kind(), NetworkDown | NetworkUnreachable)
}

fn broken(error: &hyper::Error) -> Trouble {
    let mut reason = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let text = cause.to_string();
        if !reason.ends_with(&text) {
            reason = format!("{reason}: {text}");
        }
        source = cause.source();
    }
    Trouble::Broken(reason)
}
