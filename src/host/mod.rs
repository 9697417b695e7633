//! Hosts: where images go. The only user of `reqwest`.
//!
//! A [`Host`] takes one open file and gives [`Links`] or a [`Failure`]. It retries single requests within the deadline of
//! the attempt, never whole files, and never touches our folders.

mod body;
mod build;
mod classes;
mod engine;
mod http;
mod limits;
pub mod links;
pub mod local;
mod options;
mod pause;
pub mod progress;
pub mod recipe;
mod redact;
pub mod source;
pub mod thumb;
mod verdict;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::time::Instant;

use crate::job::{Failure, ImageFacts, JobId, Links};
pub use body::wire_name;
pub use build::{build, recipe_folder};
pub use limits::{Limits, Refusal};
pub use progress::Progress;
pub use recipe::library::recipes;
pub use source::Source;

/// The future of one upload. Dropping it closes its connections.
pub type Sending<'a> = Pin<Box<dyn Future<Output = Result<Links, Failure>> + Send + 'a>>;

/// A named destination.
pub trait Host: Send + Sync + 'static {
    /// Its name: the key of `[host.NAME]`, the `SERVICE` of the logs.
    fn name(&self) -> &str;

    /// What it takes, checked before anything is sent.
    fn limits(&self) -> &Limits;

    /// How many uploads at once it bears, whatever the user allows; `None` when it does not say.
    fn max_parallel(&self) -> Option<usize> {
        None
    }

    /// Sends one file. Ends by itself before `upload.deadline` if it can say more about the failure than the deadline
    /// could; the caller drops it at the deadline in any case.
    fn upload<'a>(&'a self, upload: &'a Upload) -> Sending<'a>;
}

/// One file to send.
#[derive(Debug)]
pub struct Upload {
    /// The job, for request ids and logs.
    pub job: JobId,
    /// The open file.
    pub source: Arc<Source>,
    /// What inspection found.
    pub image: ImageFacts,
    /// Where the host tells how far it is.
    pub progress: Arc<Progress>,
    /// The attempt ends here: no retry is begun that could not end before.
    pub deadline: Instant,
}
