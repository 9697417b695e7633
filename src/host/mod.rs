//! Hosts: where images go. The only user of `reqwest`.
//!
//! A [`Host`] takes one open file and gives [`Links`] or a [`Failure`]. It retries single requests within the deadline of
//! the attempt, never whole files, and never touches our folders.

mod allowance;
mod body;
mod build;
mod classes;
mod cookies;
mod dressed;
mod engine;
mod examine;
mod follow;
mod gallery;
mod http;
mod limits;
pub mod links;
pub mod local;
mod names;
mod options;
mod packed;
mod pause;
mod prepare;
mod preview;
pub mod progress;
mod proxy;
pub mod rate;
pub mod recipe;
mod redact;
mod run;
mod session;
mod sites;
pub mod source;
mod store;
mod strip;
pub mod sxcu;
pub mod thumb;
mod verdict;
mod verified;
pub mod webhook;
mod wire;
mod wrapper;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use url::Url;

use crate::job::{Failure, ImageFacts, JobId, Links};
pub use allowance::Allowance;
pub use body::wire_name;
pub use build::{build, is_own_recipe, notes, recipe_folder};
pub use examine::{Found, Knocked, Silent, knock, look_up};
pub use limits::{Limits, Refusal};
pub use progress::Progress;
pub use recipe::library::recipes;
pub use source::Source;
pub use strip::{NotStripped, can_strip, strip};

/// What stands for an address that is not known yet, where a request is only shown. Leads nowhere (RFC 6761).
pub const NO_ADDRESS: &str = "https://base-url.invalid";

/// The future of one upload. Dropping it closes its connections.
pub type Sending<'a> = Pin<Box<dyn Future<Output = Result<Links, Failure>> + Send + 'a>>;

/// The future of a request that has no result but its success. Dropping it closes its connections.
pub type Doing<'a> = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send + 'a>>;

/// The future of a request about a gallery. Dropping it closes its connections.
pub type Making<'a> = Pin<Box<dyn Future<Output = Result<Gallery, Failure>> + Send + 'a>>;

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

    /// Closes what has been idle for too long. Asked now and then after the last upload.
    fn tidy(&self) {}

    /// Sends one file. Ends by itself before `upload.deadline` if it can say more about the failure than the deadline
    /// could; the caller drops it at the deadline in any case.
    fn upload<'a>(&'a self, upload: &'a Upload) -> Sending<'a>;

    /// Every request of this upload, in order, without sending anything; none if they cannot be told.
    fn previews(&self, _upload: &Upload) -> Vec<Preview> {
        Vec::new()
    }

    /// What it can do with galleries; `None` when it has none.
    fn galleries(&self) -> Option<&dyn Galleries> {
        None
    }

    /// Where its requests go first; `None` for a host that is a part of this program.
    fn site(&self) -> Option<Url> {
        None
    }

    /// Asks it whether it takes the account that is configured, by a request that changes nothing there; `None` when there
    /// is no account or no such request.
    fn ask_account(&self, _deadline: Instant) -> Option<Doing<'_>> {
        None
    }

    /// Deletes what was uploaded, by what [`Links`] keep for that; `None` when it cannot. What is gone already counts as
    /// deleted.
    fn delete<'a>(&'a self, _uploaded: &'a Links, _deadline: Instant) -> Option<Doing<'a>> {
        None
    }
}

/// One request as it would be sent, without secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview {
    /// Which step of what.
    pub step: String,
    /// The condition of the step, if it has one.
    pub when: Option<String>,
    /// The request method.
    pub method: String,
    /// The address; what is only known from an earlier answer is named in double braces.
    pub url: String,
    /// The headers in their order.
    pub headers: Vec<(String, String)>,
    /// The parts of the body, a line or more for each.
    pub body: Vec<String>,
}

/// Galleries of one host: made before the first image, filled by [`Upload::gallery`], finished after the last.
pub trait Galleries: Send + Sync {
    /// Makes one called `name`; the host's own rules for names are applied to it.
    fn create<'a>(&'a self, name: &'a str, deadline: Instant) -> Making<'a>;

    /// After the last image: makes the gallery visible where a host wants that, and adds `images` where albums are made
    /// of finished images. May be repeated when images have come late; gives the gallery as it is then.
    fn finish<'a>(&'a self, gallery: &'a Gallery, images: &'a [Links], deadline: Instant) -> Making<'a>;
}

/// A gallery on a host, as the host knows it. Serialisable: it outlives the agent.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gallery {
    /// The host's id for it; empty while the host has none.
    pub id: String,
    /// What uploads into it need besides the id. Never shown.
    #[serde(default)]
    pub secret: Option<String>,
    /// Its page, once it is known.
    #[serde(default)]
    pub url: Option<String>,
    /// What it was called when it was made.
    #[serde(default)]
    pub name: String,
}

impl fmt::Debug for Gallery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secret = self.secret.as_ref().map(|_| "[REDACTED]");
        f.debug_struct("Gallery")
            .field("id", &self.id)
            .field("secret", &secret)
            .field("url", &self.url)
            .field("name", &self.name)
            .finish()
    }
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
    /// An earlier attempt may have stored it: its answer was lost, or the agent was killed.
    pub doubtful: bool,
    /// The attempt ends here: no retry is begun that could not end before.
    pub deadline: Instant,
    /// The gallery it belongs to, made by the same host's [`Galleries`].
    pub gallery: Option<Gallery>,
}
