//! The routes for people: the gallery page, the images of the `local` host, and how the agent is. Read-only,
//! but for who has the key of the live page ([`super::page`]).
//!
//! Whoever may open a loopback port may read this; so nothing here shows a secret or a `delete_url`. A foreign `Host`
//! header is refused: otherwise a web page could have its own name resolve to 127.0.0.1 and read the gallery.

use std::net::IpAddr;
use std::path::PathBuf;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, Request, State as Extract};
use axum::http::header::{self, HeaderValue};
use axum::http::{HeaderMap, StatusCode, Uri, uri::Authority};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use tokio::fs::File;
use tokio_util::io::ReaderStream;

use super::api::{self, ANSWER_DEADLINE};
use super::gallery::{self, Page};
use super::server::State;
use super::{events, metrics, page};
use crate::host::local::{Store, StoredName};
use crate::job::{JobId, Stage};
use crate::ledger::LedgerError;

/// Pictures on one page: fifteen rows of four, loaded as they are scrolled to.
pub(super) const PAGE_SIZE: usize = 60;

/// Bytes read from a stored image at a time.
const CHUNK: usize = 64 * 1024;

/// A stored image never changes: its name is its content.
const IMMUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

/// Pictures may come from the hosts; everything else comes from here, and nothing is inline.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; img-src 'self' http: https:; style-src 'self'; script-src 'self'; connect-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'",
);

pub(super) fn router(state: State, bound: IpAddr) -> Router {
    let guard = move |request: Request, next: Next| guarded(bound, request, next);
    Router::new()
        .route("/", get(gallery_page))
        .route("/i/{name}", get(image))
        .route("/t/{name}", get(thumb))
        .route("/gallery.css", get(async || asset("text/css; charset=utf-8", include_str!("gallery.css"))))
        .route("/gallery.js", get(async || asset("text/javascript; charset=utf-8", include_str!("gallery.js"))))
        .route("/v1/status", get(api::status))
        .route("/v1/events", get(events::events))
        .route("/metrics", get(metrics::metrics))
        .route("/status", get(page::page))
        .route("/live.css", get(async || asset("text/css; charset=utf-8", include_str!("live.css"))))
        .route("/live.js", get(async || asset("text/javascript; charset=utf-8", include_str!("live.js"))))
        .merge(api::changing().route_layer(middleware::from_fn(page::with_key)))
        .route("/healthz", get(async || "ok\n"))
        .fallback(async || (StatusCode::NOT_FOUND, "not found\n"))
        .layer(middleware::from_fn(guard))
        .with_state(state)
}

/// Refuses foreign names, and puts the headers on every answer that keep a browser careful.
async fn guarded(bound: IpAddr, request: Request, next: Next) -> Response {
    let mut response = if is_ours(request.headers(), request.uri(), bound) {
        next.run(request).await
    } else {
        (StatusCode::FORBIDDEN, "this server answers only to localhost and its own address\n").into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Whether the request was meant for us: every name it gives is `localhost`, a loopback address or the bound one, and so
/// is that of the page it comes from, if a script of a page made it.
fn is_ours(headers: &HeaderMap, uri: &Uri, bound: IpAddr) -> bool {
    let mut named = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (named.next(), named.next()) else { return false };
    let Some(host) = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok()) else { return false };
    let of_our_page = |origin: &HeaderValue| {
        let origin = origin.to_str().ok().and_then(|origin| origin.parse::<Uri>().ok());
        origin.is_some_and(|origin| origin.host().is_some_and(|host| is_our_name(host, bound)))
    };
    is_our_name(host.host(), bound)
        && uri.host().is_none_or(|host| is_our_name(host, bound))
        && headers.get_all(header::ORIGIN).iter().all(of_our_page)
}

fn is_our_name(host: &str, bound: IpAddr) -> bool {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback() || address == bound)
}

#[derive(Debug, Deserialize)]
struct PageQuery {
    before: Option<JobId>,
}

async fn gallery_page(
    Extract(state): Extract<State>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Response, PageError> {
    let before = query.ok().and_then(|Query(query)| query.before);
    let read = async {
        let jobs = state.ledger.jobs(Some(Stage::Done), before, PAGE_SIZE).await?;
        Ok::<_, LedgerError>((jobs, state.ledger.census().await?))
    };
    let (jobs, census) = tokio::time::timeout(ANSWER_DEADLINE, read).await.map_err(|_| PageError::Late)??;
    let older = jobs.last().filter(|_| jobs.len() == PAGE_SIZE).map(|job| job.id);
    let page = Page { jobs, census, older, newest: before.is_none(), folders: &state.folders, now: state.clock.now() };
    Ok(gallery::render(&page).into_response())
}

/// Why the gallery cannot be shown.
#[derive(Debug, thiserror::Error)]
enum PageError {
    #[error("the ledger does not answer; reload the page in a moment")]
    Late,
    #[error("{0}")]
    Ledger(#[from] LedgerError),
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        (StatusCode::SERVICE_UNAVAILABLE, format!("{self}\n")).into_response()
    }
}

async fn image(Extract(state): Extract<State>, Path(name): Path<String>) -> Response {
    stored(&state, &name, Store::image_path).await
}

async fn thumb(Extract(state): Extract<State>, Path(name): Path<String>) -> Response {
    stored(&state, &name, Store::thumb_path).await
}

/// Streams a stored file. What is no name of one never reaches the disk.
async fn stored(state: &State, name: &str, path: impl Fn(&Store, &StoredName) -> PathBuf) -> Response {
    let not_found = || (StatusCode::NOT_FOUND, "no such image\n").into_response();
    let (Some(store), Ok(name)) = (&state.store, name.parse::<StoredName>()) else { return not_found() };
    let Ok(file) = File::open(path(store, &name)).await else { return not_found() };
    let Ok(metadata) = file.metadata().await else { return not_found() };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(name.kind().mime())),
        (header::CONTENT_LENGTH, HeaderValue::from(metadata.len())),
        (header::CACHE_CONTROL, IMMUTABLE),
    ];
    (headers, Body::from_stream(ReaderStream::with_capacity(file, CHUNK))).into_response()
}

fn asset(mime: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static(mime))], text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(host: &str, uri: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().expect("a header value"));
        is_ours(&headers, &uri.parse().expect("a URI"), "192.0.2.7".parse().expect("an address"))
    }

    #[test]
    fn only_localhost_loopback_and_the_bound_address_are_our_names() {
        for host in ["localhost", "LOCALHOST:8421", "127.0.0.1:8421", "127.9.9.9", "[::1]:8421", "192.0.2.7:1"] {
            assert!(ours(host, "/"), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example:8421", "192.0.2.8", "127.0.0.1.evil.example", "", "[::2]"]
        {
            assert!(!ours(host, "/"), "{host}");
        }
        assert!(!ours("localhost", "http://evil.example/"), "an absolute target names another host");
    }

    #[test]
    fn scripts_of_other_pages_are_refused() {
        let from = |origin: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static("localhost:8421"));
            headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
            is_ours(&headers, &Uri::from_static("/"), "127.0.0.1".parse().expect("an address"))
        };
        assert!(from("http://localhost:8421") && from("http://127.0.0.1:8421") && from("http://[::1]:8421"));
        for origin in ["https://evil.example", "null", "http://localhost.evil.example", "file://", ""] {
            assert!(!from(origin), "{origin}");
        }
    }

    #[test]
    fn a_request_without_a_name_or_with_two_is_refused() {
        let mut headers = HeaderMap::new();
        let bound = "127.0.0.1".parse().expect("an address");
        assert!(!is_ours(&headers, &Uri::from_static("/"), bound));
        headers.append(header::HOST, HeaderValue::from_static("localhost"));
        headers.append(header::HOST, HeaderValue::from_static("evil.example"));
        assert!(!is_ours(&headers, &Uri::from_static("/"), bound));
    }
}
