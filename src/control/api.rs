//! The routes of the control socket: `/v1/…`, JSON in and out, errors as `{"error": "…"}`.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{DefaultBodyLimit, Path, Query, State as Extract};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::oneshot;

use super::page::Address;
use super::server::State;
use super::steer::Rescanned;
use super::{Request, Retried, RetryWhat, Status, steering};
use crate::clock::WallTime;
use crate::job::{Job, JobId, Stage};
use crate::ledger::LedgerError;

/// How long a connection waits for the agent or the ledger. Both answer in milliseconds, or are stuck.
pub const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// The largest request body: a list of some ten thousand paths.
pub const BODY_LIMIT: usize = 1 << 20;

/// Jobs in one answer when the request does not say.
const DEFAULT_JOBS: usize = 100;

/// Most jobs in one answer: about a megabyte. `before` asks for more.
pub const MAX_JOBS: usize = 1000;

pub(super) fn router(state: State) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/jobs", get(jobs))
        .merge(changing())
        .route("/v1/events", get(super::events::events))
        .route("/metrics", get(super::metrics::metrics))
        .fallback(async || ApiError::new(StatusCode::NOT_FOUND, "no such route; see `GET /v1/status`, `GET /v1/jobs`"))
        .method_not_allowed_fallback(async || {
            ApiError::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "wrong method: what changes something is a POST, all else a GET",
            )
        })
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(state)
}

/// The routes that change something.
pub(super) fn changing() -> Router<State> {
    Router::new()
        .route("/v1/jobs/{id}/retry", post(retry_job))
        .route("/v1/retry", post(retry))
        .route("/v1/folders/rescan", post(rescan))
        .merge(steering::routes())
        .merge(super::undo::routes())
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
}

/// What `POST /v1/retry` takes: `{"all": true}` or `{"paths": ["/…"]}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetryBody {
    /// Everything that rests or has failed.
    pub all: bool,
    /// Absolute paths.
    pub paths: Vec<PathBuf>,
}

/// What `GET /v1/jobs` answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobsPage {
    /// Newest first.
    pub jobs: Vec<JobView>,
    /// The `before` of the next page; null at the end.
    pub next: Option<JobId>,
}

/// A job as `GET /v1/jobs` shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobView {
    /// Its identity.
    pub id: JobId,
    /// The word for its stage.
    pub state: String,
    /// The drop folder.
    pub folder: String,
    /// Its name in there.
    pub file: String,
    /// Where the file lies.
    pub path: String,
    /// The host.
    pub host: String,
    /// Length of the file.
    pub bytes: u64,
    /// Attempts begun.
    pub attempts: u32,
    /// Cooldowns used up.
    pub requeues: u32,
    /// When it was queued first.
    pub queued_at: WallTime,
    /// Not to be tried before.
    pub not_before: Option<WallTime>,
    /// Its last manifest line, without what deletes the image.
    pub record: Option<Value>,
}

impl From<&Job> for JobView {
    fn from(job: &Job) -> Self {
        let record = job.record.as_deref().and_then(|line| serde_json::from_str(line).ok()).map(|mut record: Value| {
            if let Some(fields) = record.as_object_mut() {
                fields.remove("delete_url");
                fields.remove("delete_token");
            }
            record
        });
        Self {
            id: job.id,
            state: job.stage.name().to_owned(),
            folder: job.folder.to_string_lossy().into_owned(),
            file: job.name.to_string_lossy().into_owned(),
            path: job.path.to_string_lossy().into_owned(),
            host: job.host.clone(),
            bytes: job.fingerprint.len,
            attempts: job.attempts,
            requeues: job.requeues,
            queued_at: job.queued_at,
            not_before: job.not_before,
            record,
        }
    }
}

/// An answer that is no success.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    message: String,
}

/// The body of every answer that is no success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What went wrong and what was expected.
    pub error: String,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(super) fn busy(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }
}

impl From<LedgerError> for ApiError {
    fn from(error: LedgerError) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(ErrorBody { error: self.message })).into_response()
    }
}

/// Waits for an answer as long as a connection waits.
async fn within<T>(who: &str, answer: impl Future<Output = T>) -> Result<T, ApiError> {
    tokio::time::timeout(ANSWER_DEADLINE, answer).await.map_err(|_| {
        let message = format!("the {who} did not answer within {} s", ANSWER_DEADLINE.as_secs());
        ApiError::new(StatusCode::GATEWAY_TIMEOUT, message)
    })
}

/// Asks the agent something and waits for its answer.
pub(super) async fn ask<T>(state: &State, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Result<T, ApiError> {
    let (reply, answer) = oneshot::channel();
    let exchange = async {
        state.handle.send(request(reply)).await.ok()?;
        answer.await.ok()
    };
    let stopping = || ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "the agent is stopping");
    within("agent", exchange).await?.ok_or_else(stopping)
}

/// The status, and where the live page is for who may steer from it.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    #[serde(flatten)]
    status: Status,
    page: Option<String>,
}

pub(super) async fn status(
    Extract(state): Extract<State>,
    Extension(Address(page)): Extension<Address>,
) -> Result<Json<Shown>, ApiError> {
    Ok(Json(Shown { status: ask(&state, Request::Status).await?, page }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct JobsQuery {
    state: Option<String>,
    limit: Option<usize>,
    before: Option<JobId>,
}

async fn jobs(
    Extract(state): Extract<State>,
    query: Result<Query<JobsQuery>, QueryRejection>,
) -> Result<Json<JobsPage>, ApiError> {
    let Query(query) = query.map_err(|error| ApiError::bad(error.body_text()))?;
    let stage = query.state.as_deref().map(stage_named).transpose()?;
    let limit = query.limit.unwrap_or(DEFAULT_JOBS).clamp(1, MAX_JOBS);
    let rows = within("ledger", state.ledger.jobs(stage, query.before, limit)).await??;
    let next = rows.last().filter(|_| rows.len() == limit).map(|job| job.id);
    Ok(Json(JobsPage { jobs: rows.iter().map(JobView::from).collect(), next }))
}

fn stage_named(name: &str) -> Result<Stage, ApiError> {
    Stage::from_name(name).ok_or_else(|| {
        let known = Stage::ALL.map(Stage::name).join(", ");
        ApiError::bad(format!("`state={name}` is no state; known are {known}"))
    })
}

async fn retry_job(Extract(state): Extract<State>, Path(id): Path<String>) -> Result<Json<Retried>, ApiError> {
    let id = id.parse().map_err(|_| ApiError::bad("the job in the path is not a ULID of 26 characters"))?;
    Ok(Json(ask(&state, |reply| Request::Retry(RetryWhat::Job(id), reply)).await?))
}

async fn retry(Extract(state): Extract<State>, body: Bytes) -> Result<Json<Retried>, ApiError> {
    let what = retry_what(&body)?;
    Ok(Json(ask(&state, |reply| Request::Retry(what, reply)).await?))
}

fn retry_what(body: &[u8]) -> Result<RetryWhat, ApiError> {
    const FORMS: &str = r#"expected {"all": true} or {"paths": ["/absolute/path", …]}"#;
    let body: RetryBody =
        serde_json::from_slice(body).map_err(|error| ApiError::bad(format!("unreadable body ({error}); {FORMS}")))?;
    match body {
        RetryBody { all: true, paths } if paths.is_empty() => Ok(RetryWhat::All),
        RetryBody { all: false, paths } if !paths.is_empty() && paths.iter().all(|path| path.is_absolute()) => {
            Ok(RetryWhat::Paths(paths))
        }
        _ => Err(ApiError::bad(FORMS)),
    }
}

async fn rescan(Extract(state): Extract<State>) -> Result<Json<Rescanned>, ApiError> {
    Ok(Json(ask(&state, Request::Rescan).await?))
}
