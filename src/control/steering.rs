//! The routes that steer: cancel, pause, resume.

use std::path::PathBuf;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State as Extract};
use axum::http::StatusCode;
use axum::response::Json;
use axum::routing::post;
use serde::de::DeserializeOwned;

use super::Request;
use super::api::{ApiError, ask};
use super::server::State;
use super::steer::{CancelBody, CancelWhat, Cancelled, Named, PauseBody, Reloaded, Turn, Turned};

pub(super) fn routes() -> Router<State> {
    Router::new()
        .route("/v1/jobs/{id}/cancel", post(cancel_job))
        .route("/v1/cancel", post(cancel))
        .route("/v1/reload", post(reload))
        .route("/v1/hosts/{name}/pause", post(async |state, name| host(state, name, Turn::Pause).await))
        .route("/v1/hosts/{name}/resume", post(async |state, name| host(state, name, Turn::Resume).await))
        .route("/v1/folders/pause", post(async |state, body| folder(state, body, Turn::Pause).await))
        .route("/v1/folders/resume", post(async |state, body| folder(state, body, Turn::Resume).await))
        .route("/v1/pause", post(async |state, body| several(state, body, Turn::Pause).await))
        .route("/v1/resume", post(async |state, body| several(state, body, Turn::Resume).await))
}

async fn cancel_job(Extract(state): Extract<State>, Path(id): Path<String>) -> Result<Json<Cancelled>, ApiError> {
    let id = id.parse().map_err(|_| ApiError::bad("the job in the path is not a ULID of 26 characters"))?;
    Ok(Json(ask(&state, |reply| Request::Cancel(CancelWhat::Job(id), reply)).await?))
}

async fn cancel(Extract(state): Extract<State>, body: Bytes) -> Result<Json<Cancelled>, ApiError> {
    const FORM: &str = r#"expected {"paths": ["/absolute/path", …]}"#;
    let CancelBody { paths } = body_of(&body, FORM)?;
    if paths.is_empty() || paths.iter().any(|path| !path.is_absolute()) {
        return Err(ApiError::bad(FORM));
    }
    Ok(Json(ask(&state, |reply| Request::Cancel(CancelWhat::Paths(paths), reply)).await?))
}

/// A configuration that cannot be used changes nothing and is the caller's mistake.
async fn reload(Extract(state): Extract<State>) -> Result<Json<Reloaded>, ApiError> {
    let reloaded = ask(&state, Request::Reload).await?;
    match reloaded.rejected {
        Some(problems) => Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, problems)),
        None => Ok(Json(reloaded)),
    }
}

async fn host(Extract(state): Extract<State>, Path(name): Path<String>, turn: Turn) -> Result<Json<Turned>, ApiError> {
    one(&state, Named { name, path: None }, turn).await
}

async fn folder(Extract(state): Extract<State>, body: Bytes, turn: Turn) -> Result<Json<Turned>, ApiError> {
    const FORM: &str = r#"expected {"path": "/absolute/path"}"#;
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        path: PathBuf,
    }
    let Body { path } = body_of(&body, FORM)?;
    one(&state, Named { name: path.to_string_lossy().into_owned(), path: Some(path) }, turn).await
}

/// One thing that is part of the address: what does not exist is not found.
async fn one(state: &State, named: Named, turn: Turn) -> Result<Json<Turned>, ApiError> {
    let mut turned = ask(state, |reply| Request::Turn(turn, vec![named], reply)).await?;
    match turned.refused.pop() {
        Some(reason) => Err(ApiError::new(StatusCode::NOT_FOUND, reason)),
        None => Ok(Json(turned)),
    }
}

async fn several(Extract(state): Extract<State>, body: Bytes, turn: Turn) -> Result<Json<Turned>, ApiError> {
    const FORM: &str = r#"expected {"names": [{"name": "pixhost"}, {"name": "drop", "path": "/absolute/path"}]}, or nothing for everything"#;
    let PauseBody { names } = if body.is_empty() { PauseBody::default() } else { body_of(&body, FORM)? };
    Ok(Json(ask(&state, |reply| Request::Turn(turn, names, reply)).await?))
}

fn body_of<T: DeserializeOwned>(body: &[u8], form: &str) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError::bad(format!("unreadable body ({error}); {form}")))
}
