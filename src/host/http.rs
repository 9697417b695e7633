//! The HTTP client: the only place that builds one, and the exchange of one request and its answer under all limits.

use std::error::Error as _;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::BytesMut;
use reqwest::header::HeaderMap;
use reqwest::{Client, RequestBuilder, Response, redirect, retry};
use tokio::time::{sleep, timeout};
use url::Url;

use super::Progress;
use super::options::is_loopback;
use crate::config::Pool;
use crate::job::Phase;

/// The largest answer that is read. Result pages of image hosts have 10 to 200 kB.
pub(super) const ANSWER_LIMIT: usize = 1 << 20;

/// Answers have some twenty headers; the client's own limit is a hundred as well, said here so that it stays.
const HEADERS_LIMIT: usize = 100;

/// An idle connection is not used again after this: many servers close theirs after 5 s, and a request that meets the
/// closing would end as an unknown outcome.
const IDLE: Duration = Duration::from_secs(4);

/// Idle connections kept for a host: the default number of workers.
const IDLE_CONNECTIONS: usize = 8;

/// Who we are: some hosts hang up on clients that do not say.
pub(super) const USER_AGENT: &str = concat!("pixchute/", env!("CARGO_PKG_VERSION"), " (drop folder image uploader)");

/// A client for the site at `base_url`.
///
/// HTTP/1.1 only: dropping a request must close its connection, and several requests in one connection would not allow
/// that. No redirects: neither the image nor a key goes to another place than the recipe's. No time-outs but that of
/// connecting: the client's own would cut slow but steady uploads.
///
/// # Errors
/// When the system's certificates cannot be loaded.
pub(super) fn client(base_url: &Url, pool: &Pool) -> Result<Client, reqwest::Error> {
    // Fails only if there is a provider already, which is then used.
    rustls::crypto::ring::default_provider().install_default().ok();
    let builder = Client::builder()
        .http1_only()
        .http1_max_headers(HEADERS_LIMIT)
        .user_agent(USER_AGENT)
        .connect_timeout(pool.connect_timeout)
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .referer(false)
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
        .tcp_nodelay(true);
    // hyper closes a connection once what it has buffered is written, and a host that reads no more prevents that: only
    // the kernel can end it then. It counts from the moment the host stopped, so the shortest of our limits is right: the
    // socket is gone when the attempt is.
    #[cfg(target_os = "linux")]
    let builder = builder.tcp_user_timeout(pool.stall_timeout.min(pool.request_timeout).min(pool.file_timeout));
    let builder = if is_loopback(base_url) { builder.no_proxy() } else { builder };
    // Nothing is ever sent there over TLS, and reading the system's certificates takes 20 ms.
    let plain = base_url.scheme() == "http";
    if plain { builder.tls_certs_only([]) } else { builder }.build()
}

/// What arrived of an answer.
#[derive(Debug, Default)]
pub(super) struct Received {
    /// Zero until the head is there.
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: BytesMut,
}

/// Why an exchange did not end with a complete answer.
#[derive(Debug)]
pub(super) enum Trouble {
    /// No connection; `timed_out` after `connect_timeout`.
    Connect { timed_out: bool, reason: String },
    /// The connection broke.
    Broken(String),
    /// The file could not be read, or ended early.
    File(io::Error),
    /// The answer is larger than [`ANSWER_LIMIT`].
    TooLarge,
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
    request: RequestBuilder,
    received: &mut Received,
    progress: &Progress,
    file_trouble: &Arc<OnceLock<io::Error>>,
    limits: (Duration, Duration),
) -> Result<(), Trouble> {
    let (request_timeout, stall_timeout) = limits;
    let exchange = async {
        tokio::select! {
            done = converse(request, received, progress) => done,
            () = stalled(progress, stall_timeout) => Err(Trouble::Stall(stall_timeout)),
        }
    };
    let done = timeout(request_timeout, exchange).await.unwrap_or(Err(Trouble::Timeout(request_timeout)));
    match file_trouble.get() {
        Some(error) if done.is_err() => Err(Trouble::File(io::Error::new(error.kind(), error.to_string()))),
        _ => done,
    }
}

async fn converse(request: RequestBuilder, received: &mut Received, progress: &Progress) -> Result<(), Trouble> {
    let mut response: Response = request.send().await.map_err(trouble)?;
    received.status = response.status().as_u16();
    received.headers = std::mem::take(response.headers_mut());
    progress.enter(Phase::Response);
    while let Some(chunk) = response.chunk().await.map_err(trouble)? {
        progress.add_received(chunk.len() as u64);
        let room = ANSWER_LIMIT - received.body.len();
        received.body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            return Err(Trouble::TooLarge);
        }
    }
    Ok(())
}

/// Returns when no byte has moved for `limit`.
async fn stalled(progress: &Progress, limit: Duration) {
    while let Some(left) = limit.checked_sub(progress.idle()).filter(|left| !left.is_zero()) {
        sleep(left).await;
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
        Trouble::Connect { timed_out: error.is_timeout(), reason }
    } else {
        Trouble::Broken(reason)
    }
}
