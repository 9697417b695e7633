//! The agent's ear and voice: HTTP on a Unix socket (`/v1/…`) for the commands, and on a loopback address for people (the
//! gallery and the images of the `local` host).
//!
//! Reads go to the ledger directly; everything that changes something, and everything only the agent knows, goes to it
//! as a [`Request`] over a bounded channel and comes back on a oneshot. Nothing here can block the agent.

pub mod api;
pub mod client;
pub mod events;
mod exposition;
mod gallery;
pub mod human;
mod metrics;
pub mod model;
mod moving;
mod page;
mod people;
mod process;
pub mod server;
pub mod steer;
mod steering;
pub mod texts;
pub mod undo;

use std::path::PathBuf;

use tokio::sync::{mpsc, oneshot};

use crate::job::JobId;
pub use model::{AttemptStatus, Status};
use steer::{CancelWhat, Cancelled, Named, Reloaded, Rescanned, Turn, Turned};
use undo::{UndoBody, Undone};

/// How many requests may wait for the agent: each comes from a connection that waits for its answer, and the agent
/// answers in microseconds; a full channel makes the connection wait, not the agent.
pub const REQUEST_QUEUE: usize = 16;

/// What the control side asks of the agent.
#[derive(Debug)]
pub enum Request {
    /// How are you?
    Status(oneshot::Sender<Status>),
    /// What runs now? Costs the agent a look at its memory.
    Attempts(oneshot::Sender<Vec<AttemptStatus>>),
    /// Try these again now.
    Retry(RetryWhat, oneshot::Sender<Retried>),
    /// Scan all folders now.
    Rescan(oneshot::Sender<Rescanned>),
    /// Delete what was uploaded; the error is for the user.
    Undo(UndoBody, oneshot::Sender<Result<Undone, String>>),
    /// Give these up.
    Cancel(CancelWhat, oneshot::Sender<Cancelled>),
    /// Pause hosts and folders, or let them go on; no name means everything.
    Turn(Turn, Vec<Named>, oneshot::Sender<Turned>),
    /// Read the configuration again.
    Reload(oneshot::Sender<Reloaded>),
}

/// Which jobs shall be tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RetryWhat {
    /// Everything in `retry/` and `failed/`.
    All,
    /// The files at these absolute paths, in `retry/` or `failed/` or under their dropped name.
    Paths(Vec<PathBuf>),
    /// One job.
    Job(JobId),
}

/// What became of a [`Request::Retry`].
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Retried {
    /// How many jobs are due now.
    pub queued: u64,
    /// The paths that belong to no resting or failed job, each with the reason.
    pub refused: Vec<String>,
}

/// The agent's end of the request channel.
pub type Requests = mpsc::Receiver<Request>;

/// The control side's end of the request channel.
pub type Handle = mpsc::Sender<Request>;
