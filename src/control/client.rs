//! The commands' end of the control socket: one small HTTP/1 exchange per question.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::api::{ANSWER_DEADLINE, ErrorBody};

/// The whole exchange. Longer than the server waits for the agent, so that its own message arrives.
pub const DEADLINE: Duration = ANSWER_DEADLINE.saturating_add(Duration::from_secs(2));

/// The largest answer that is read: some times the largest page of jobs.
pub const ANSWER_LIMIT: usize = 16 << 20;

/// Why the agent gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no agent is running (nobody answers on {}); start one with `pixchute run`", socket.display())]
    NotRunning {
        /// The socket.
        socket: PathBuf,
    },
    /// The socket is somebody else's.
    #[error("cannot open the control socket {}: {source}", socket.display())]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It takes too long.
    #[error("the agent did not answer within {} s", DEADLINE.as_secs())]
    Late,
    /// It is no HTTP, or it broke off, or it is too long.
    #[error("the agent's answer broke off: {0}")]
    Broken(Box<dyn std::error::Error + Send + Sync>),
    /// It is not what this version expects.
    #[error("the agent's answer is not understood ({0}); is it another version of pixchute?")]
    Unreadable(serde_json::Error),
    /// The agent refused.
    #[error("{message}")]
    Refused {
        /// The HTTP status.
        status: StatusCode,
        /// The reason that it gave.
        message: String,
    },
}

/// A client of the agent at one socket.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client for the agent at this socket. Connects anew for each question.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// Asks for `path`: `/v1/status`.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.exchange(Method::GET, path, Bytes::new()).await
    }

    /// Sends `body` as JSON to `path`.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| ClientError::Broken(error.into()))?;
        self.exchange(Method::POST, path, Bytes::from(body)).await
    }

    /// Like [`Client::post`], for what takes the agent longer: up to `time`.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn post_within<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        time: Duration,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| ClientError::Broken(error.into()))?;
        self.exchange_within(Method::POST, path, Bytes::from(body), time + DEADLINE).await
    }

    async fn exchange<T: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes) -> Result<T, ClientError> {
        self.exchange_within(method, path, body, DEADLINE).await
    }

    async fn exchange_within<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        deadline: Duration,
    ) -> Result<T, ClientError> {
        let whole = async { self.send(method, path, body).await };
        let (status, answer) = tokio::time::timeout(deadline, whole).await.map_err(|_| ClientError::Late)??;
        if status.is_success() {
            return serde_json::from_slice(&answer).map_err(ClientError::Unreadable);
        }
        let message = match serde_json::from_slice::<ErrorBody>(&answer) {
            Ok(body) => body.error,
            Err(_) => format!("the agent answered with HTTP status {status}"),
        };
        Err(ClientError::Refused { status, message })
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<(StatusCode, Bytes), ClientError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|source| self.not_connected(source))?;
        let handshake = http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| ClientError::Broken(error.into()))?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "localhost")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| ClientError::Broken(error.into()))?;
        // The connection moves the bytes; it ends when the sender is dropped at the end of the exchange.
        let exchange = async move {
            let response = sender.send_request(request).await.map_err(|error| ClientError::Broken(error.into()))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_LIMIT).collect().await.map_err(ClientError::Broken)?;
            Ok((status, body.to_bytes()))
        };
        let (answer, _) = tokio::join!(exchange, connection);
        answer
    }

    fn not_connected(&self, source: io::Error) -> ClientError {
        let socket = self.socket.clone();
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NotRunning { socket },
            _ => ClientError::Connect { socket, source },
        }
    }
}
