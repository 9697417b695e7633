//! The HTTP client: the only place that builds one, and the exchange of one request and its answer under all limits.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use http_body_util::BodyExt;
use reqwest::header::{ACCEPT, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHORIZATION, USER_AGENT};
use reqwest::{Method, RequestBuilder, Response, redirect, retry};
use tokio::time::{Instant, sleep, sleep_until};
use url::Url;

use super::allowance::StoodStill;
use super::options::is_loopback;
use super::packed::unpack;
use super::proxy::{Proxy, Way, way_to};
use super::wire::Wire;
use super::{Allowance, Progress};
use crate::config::{HostFlow, Pool};
use crate::job::Phase;

/// The largest answer that is read. Result pages of image hosts have 10 to 200 kB.
pub(super) const ANSWER_LIMIT: usize = 1 << 20;

/// Answers have some twenty headers; the client's own limit is a hundred as well, said here so that it stays.
const HEADERS_LIMIT: usize = 100;

/// Who we are: some hosts hang up on clients that do not say.
pub(super) const AGENT: &str = concat!("pixchute/", env!("CARGO_PKG_VERSION"), " (drop folder image uploader)");

/// The most sites that a recipe has connections of our own to; any more go another way.
const SITES_LIMIT: usize = 16;

/// A client for the sites of one host.
///
/// HTTP/1.1 only: dropping a request must close its connection, and several requests in one connection would not allow
/// that. No redirects: neither the image nor a key goes to another place than the recipe's. No time-outs but that of
/// connecting: the client's own would cut slow but steady uploads.
#[derive(Clone)]
pub(super) struct Client {
    /// Our own connections by site: they end when the future does that uses them. `None` for a site behind a proxy that does
    /// not speak plain HTTP.
    wires: Arc<Mutex<BTreeMap<String, Option<Arc<Wire>>>>>,
    /// For what goes through such a proxy.
    other: reqwest::Client,
    connect_timeout: Duration,
}

impl Client {
    /// A request to `url`.
    pub(super) fn request(&self, method: Method, url: Url) -> Outgoing {
        let wire = self.wire(&url);
        Outgoing { builder: self.other.request(method, url), wire }
    }

    /// For requests that may end like anybody's: small ones, to no host of images.
    pub(super) fn plain(&self) -> &reqwest::Client {
        &self.other
    }

    /// Closes connections that have been idle for too long.
    pub(super) fn tidy(&self) {
        let wires = self.wires.lock().unwrap_or_else(PoisonError::into_inner);
        wires.values().flatten().for_each(|wire| wire.tidy());
    }

    fn wire(&self, url: &Url) -> Option<Arc<Wire>> {
        let site = url.origin().ascii_serialization();
        let mut wires = self.wires.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = wires.get(&site) {
            return known.clone();
        }
        if wires.len() >= SITES_LIMIT {
            return None;
        }
        let proxy = match way_to(url) {
            Way::Direct => Some(None),
            Way::Through(proxy) => Some(Some(proxy)),
            Way::Other => None,
        };
        let wire = proxy.and_then(|proxy| Wire::new(url, proxy, self.connect_timeout).ok()).map(Arc::new);
        wires.insert(site, wire.clone());
        wire
    }
}

/// Whether the system has a proxy for `url`.
pub(super) fn is_proxied(url: &Url) -> bool {
    !matches!(way_to(url), Way::Direct)
}

/// A request to be sent.
pub(super) struct Outgoing {
    builder: RequestBuilder,
    wire: Option<Arc<Wire>>,
}

impl Outgoing {
    /// With a header more.
    pub(super) fn header<V>(self, name: HeaderName, value: V) -> Self
    where
        HeaderValue: TryFrom<V>,
        <HeaderValue as TryFrom<V>>::Error: Into<hyper::http::Error>,
    {
        Self { builder: self.builder.header(name, value), ..self }
    }

    /// With these headers more.
    pub(super) fn headers(self, headers: HeaderMap) -> Self {
        Self { builder: self.builder.headers(headers), ..self }
    }

    /// With this body.
    pub(super) fn body(self, body: reqwest::Body) -> Self {
        Self { builder: self.builder.body(body), ..self }
    }
}

/// A client for the site at `base_url`.
///
/// # Errors
/// When the system's certificates cannot be loaded.
pub(super) fn client(base_url: &Url, pool: &Pool) -> Result<Client, reqwest::Error> {
    // Fails only if there is a provider already, which is then used.
    rustls::crypto::ring::default_provider().install_default().ok();
    let builder = reqwest::Client::builder()
        .http1_only()
        .http1_max_headers(HEADERS_LIMIT)
        .user_agent(AGENT)
        .connect_timeout(pool.connect_timeout)
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .referer(false)
        // Their end could not be told from that of the proxy.
        .pool_max_idle_per_host(0)
        .tcp_nodelay(true);
    // Such a connection is closed once what is buffered is written, and a host that reads no more prevents that: only the
    // kernel can end it then. It counts from the moment the host stopped, so the shortest of our limits is right.
    #[cfg(target_os = "linux")]
    let builder = builder.tcp_user_timeout(pool.stall_timeout.min(pool.request_timeout).min(pool.file_timeout));
    let builder = if is_loopback(base_url) { builder.no_proxy() } else { builder };
    // Nothing is ever sent there over TLS, and reading the system's certificates takes 20 ms.
    let plain = base_url.scheme() == "http";
    let other = if plain { builder.tls_certs_only([]) } else { builder }.build()?;
    Ok(Client { wires: Arc::default(), other, connect_timeout: pool.connect_timeout })
}

/// A client for links that hosts gave, wherever they lead; `near`: to hosts on this machine, around any proxy.
///
/// # Errors
/// When the system's certificates cannot be loaded.
pub(super) fn visitor(pool: &Pool, near: bool) -> Result<reqwest::Client, reqwest::Error> {
    rustls::crypto::ring::default_provider().install_default().ok();
    let builder = reqwest::Client::builder()
        .http1_only()
        .user_agent(AGENT)
        .connect_timeout(pool.connect_timeout)
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .referer(false)
        .pool_max_idle_per_host(0);
    if near { builder.no_proxy() } else { builder }.build()
}

/// What arrived of an answer.
#[derive(Debug, Default)]
pub(super) struct Received {
    /// Zero until the head is there.
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: BytesMut,
}

/// How long an exchange may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// All of it: `request_timeout`, and `min_rate` for a body that moves.
    pub(super) request: Allowance,
    /// Nothing moves: `stall_timeout`.
    pub(super) stall: Duration,
}

impl Times {
    /// Those of `[pool]`, with what the host's table says instead.
    pub(super) fn new(pool: &Pool, host: &HostFlow) -> Self {
        let base = host.request_timeout.unwrap_or(pool.request_timeout);
        let request = Allowance { base, min_rate: host.min_rate.unwrap_or(pool.min_rate) };
        Self { request, stall: host.stall_timeout.unwrap_or(pool.stall_timeout) }
    }
}

/// Why an exchange did not end with a complete answer.
#[derive(Debug)]
pub(super) enum Trouble {
    /// No connection; `timed_out` after `connect_timeout`; `offline` if it is this machine that has no network.
    Connect { phase: Phase, timed_out: bool, offline: bool, reason: String },
    /// The connection broke.
    Broken(String),
    /// The file could not be read, or ended early.
    File(io::Error),
    /// The answer is larger than [`ANSWER_LIMIT`].
    TooLarge,
    /// The whole answer is there, packed in this way, which is not understood or was done wrong.
    Packed(String),
    /// Nothing moved for so long.
    Stall(Duration),
    /// `request_timeout` passed.
    Timeout(Duration),
}

/// Sends `request` and reads the whole answer into `received`, which keeps what arrived if it breaks.
///
/// # Errors
/// [`Trouble`]. The connection is closed then.
pub(super) async fn exchange(
    request: Outgoing,
    received: &mut Received,
    progress: &Progress,
    file_trouble: &Arc<OnceLock<io::Error>>,
    times: &Times,
) -> Result<(), Trouble> {
    let began = Instant::now();
    let done = tokio::select! {
        biased;
        // First: what begins to move again in the very moment in which the time is over comes too late.
        () = stalled(progress, times.stall) => Err(Trouble::Stall(times.stall)),
        done = converse(request, received, progress) => done,
        () = times.request.over(began, progress) => Err(Trouble::Timeout(times.request.base)),
    };
    match file_trouble.get() {
        Some(error) if done.is_err() => Err(Trouble::File(io::Error::new(error.kind(), error.to_string()))),
        _ => done,
    }
}

async fn converse(request: Outgoing, received: &mut Received, progress: &Progress) -> Result<(), Trouble> {
    match request.wire {
        Some(wire) => converse_directly(&wire, request.builder, received, progress).await,
        None => converse_otherwise(request.builder, received, progress).await,
    }
}

async fn converse_directly(
    wire: &Wire,
    request: RequestBuilder,
    received: &mut Received,
    progress: &Progress,
) -> Result<(), Trouble> {
    let request = plain(request.build().map_err(trouble)?, wire.passed_on_by())?;
    let (response, mut talk) = wire.send(request, progress).await?;
    let (head, mut body) = response.into_parts();
    received.status = head.status.as_u16();
    received.headers = head.headers;
    progress.enter(Phase::Response);
    while let Some(frame) = talk.with(progress, body.frame()).await? {
        let frame = frame.map_err(|error| Trouble::Broken(error.to_string()))?;
        if let Ok(chunk) = frame.into_data() {
            received.take(&chunk, progress)?;
        }
    }
    wire.keep(talk);
    unpack(received)
}

/// The request as it goes on the wire: the path, or the whole address for a proxy that passes it on; and what every
/// request of ours says.
fn plain(request: reqwest::Request, proxy: Option<&Proxy>) -> Result<hyper::Request<reqwest::Body>, Trouble> {
    let url = request.url().clone();
    let request = hyper::Request::try_from(request).map_err(trouble)?;
    let (mut head, body) = request.into_parts();
    let broken = |error: &dyn std::fmt::Display| Trouble::Broken(error.to_string());
    let path = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
    let target = if proxy.is_some() { format!("{}{path}", url.origin().ascii_serialization()) } else { path };
    head.uri = target.parse().map_err(|error: hyper::http::uri::InvalidUri| broken(&error))?;
    let host = url.host_str().unwrap_or_default();
    let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let host = HeaderValue::from_str(&host).map_err(|error| broken(&error))?;
    head.headers.entry(HOST).or_insert(host);
    if let Some(authorization) = proxy.and_then(|proxy| proxy.authorization.as_ref()) {
        head.headers.insert(PROXY_AUTHORIZATION, authorization.clone());
    }
    head.headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(AGENT));
    head.headers.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
    Ok(hyper::Request::from_parts(head, body))
}

async fn converse_otherwise(
    request: RequestBuilder,
    received: &mut Received,
    progress: &Progress,
) -> Result<(), Trouble> {
    let mut response: Response = request.send().await.map_err(trouble)?;
    received.status = response.status().as_u16();
    received.headers = std::mem::take(response.headers_mut());
    progress.enter(Phase::Response);
    while let Some(chunk) = response.chunk().await.map_err(trouble)? {
        received.take(&chunk, progress)?;
    }
    Ok(())
}

impl Received {
    fn take(&mut self, chunk: &[u8], progress: &Progress) -> Result<(), Trouble> {
        progress.add_received(chunk.len() as u64);
        let room = ANSWER_LIMIT - self.body.len();
        self.body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room { Err(Trouble::TooLarge) } else { Ok(()) }
    }
}

/// Returns when no byte has moved for `limit`.
async fn stalled(progress: &Progress, limit: Duration) {
    let mut stood_still = StoodStill::default();
    while let Some(left) = limit.checked_sub(progress.idle()).filter(|left| !left.is_zero()) {
        let until = Instant::now() + left;
        sleep_until(until).await;
        if let Some(grace) = stood_still.since(until) {
            sleep(grace.min(limit)).await;
        }
    }
}

fn trouble(error: reqwest::Error) -> Trouble {
    // The URL can carry a key.
    let error = error.without_url();
    let mut reason = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !reason.ends_with(&cause_text) {
            reason = format!("{reason}: {cause_text}");
        }
        source = cause.source();
    }
    if error.is_connect() {
        Trouble::Connect { phase: Phase::Connect, timed_out: error.is_timeout(), offline: false, reason }
    } else {
        Trouble::Broken(reason)
    }
}
