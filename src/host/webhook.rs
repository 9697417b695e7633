//! Tells a record to an address of the user's: one request under one deadline. Here because only hosts speak HTTP.

use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::http;
use crate::config::Pool;

/// Why the address did not take it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What happened, without the address, which may hold a token.
    pub reason: String,
    /// Whether it may work at another time.
    pub again: bool,
}

/// Posts `json`; everything but an answer of 2xx within `limit` is a failure. The answer's body is not read.
///
/// # Errors
/// [`Refused`]
pub async fn post(address: &SecretString, json: String, limit: Duration, pool: &Pool) -> Result<(), Refused> {
    let broken = |reason: String| Refused { reason, again: true };
    let url = Url::parse(address.expose_secret())
        .map_err(|_| Refused { reason: "the address is no URL".to_owned(), again: false })?;
    let client = http::client(&url, pool).map_err(|error| broken(error.without_url().to_string()))?;
    let sending = client.plain().post(url).header(CONTENT_TYPE, "application/json").body(json).send();
    let answer = tokio::time::timeout(limit, sending).await.map_err(|_| broken("no answer in time".to_owned()))?;
    let status = answer.map_err(|error| broken(error.without_url().to_string()))?.status();
    if status.is_success() {
        return Ok(());
    }
    let again = status.is_server_error() || matches!(status.as_u16(), 408 | 429);
    Err(Refused { reason: format!("it answered {status}"), again })
}
