//! `POST /v1/undo`: delete what was uploaded. The words, and the route.

use std::path::PathBuf;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State as Extract;
use axum::http::StatusCode;
use axum::response::Json;
use axum::routing::post;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::Request;
use super::api::ApiError;
use super::server::State;
use crate::clock::WallTime;
use crate::job::JobId;

/// How long a host may take to delete an image: a session may have to be opened first.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// How long a connection waits for all of it.
pub const ANSWER: Duration = Duration::from_secs(40);

/// Which upload is meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The job.
    Job(JobId),
    /// Any of its links.
    Url(String),
    /// The file, absolute: where it lies now or as it was dropped.
    Path(PathBuf),
}

/// What `POST /v1/undo` takes: `{"target": {"path": "/…"}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UndoBody {
    /// Which upload.
    pub target: Target,
    /// Only say what would be done.
    #[serde(default)]
    pub dry_run: bool,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undone {
    /// What was done, or would be.
    pub result: UndoResult,
    /// The file, as it was dropped.
    pub file: String,
    /// The host.
    pub host: String,
    /// The link that ends.
    pub url: String,
    /// Other files that have the same link, because they had the same content: they lose it too, or keep the image there
    /// ([`UndoResult::Kept`]).
    pub also: Vec<String>,
}

/// What was done about one upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UndoResult {
    /// The image is gone.
    Deleted,
    /// It can be deleted; nothing was done (`dry_run`).
    Possible,
    /// The file has given up its link; the image stays on the host, because other files have the same link.
    Kept,
    /// It was undone before.
    Already(WallTime),
    /// The host wants somebody to open this page.
    Page(String),
    /// The host has no way to delete it, or keeps no key for it.
    Impossible,
    /// The host refused, or did not answer.
    Failed(String),
}

pub(super) fn routes() -> Router<State> {
    Router::new().route("/v1/undo", post(undo))
}

async fn undo(Extract(state): Extract<State>, body: Bytes) -> Result<Json<Undone>, ApiError> {
    const FORM: &str = r#"expected {"target": {"path": "/absolute/path"}}, {"target": {"url": "https://…"}} or {"target": {"job": "01…"}}"#;
    let body: UndoBody =
        serde_json::from_slice(&body).map_err(|error| ApiError::bad(format!("unreadable body ({error}); {FORM}")))?;
    if matches!(&body.target, Target::Path(path) if !path.is_absolute()) {
        return Err(ApiError::bad(FORM));
    }
    let (reply, answer) = oneshot::channel();
    let exchange = async {
        state.handle.send(Request::Undo(body, reply)).await.ok()?;
        answer.await.ok()
    };
    let late = |_| ApiError::new(StatusCode::GATEWAY_TIMEOUT, "the host did not answer in time");
    let answer = tokio::time::timeout(ANSWER, exchange).await.map_err(late)?;
    let answer = answer.ok_or_else(|| ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "the agent is stopping"))?;
    answer.map(Json).map_err(|reason| ApiError::new(StatusCode::NOT_FOUND, reason))
}
