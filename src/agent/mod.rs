//! The agent: wiring. The only module that spawns tasks.
//!
//! ```text
//!  per folder        per host                                      one
//!  FolderFeed ──┐    claim_due (rested jobs)                        recorder ──▶ manifest, sidecar, move
//!               ▼        ▼                                             ▲
//!            intake ─▶ Note::Arrived ─▶ Pool (Scheduler) ─▶ attempt ───┘ Finished
//!                                        ▲      ▲              │
//!                                        │      └─ Note::Ended ┘
//!                                        └─ Note::Recorded ◀─ recorder
//! ```
//!
//! Every channel is bounded and flows one way; the pool answers notes and never waits for a task, so no circle can lock.
//! Shutdown follows the flow: no new files, then running attempts get `drain`, then they are cut, then the recorder
//! writes what there is. What was cut is queued again at the next start.

mod albums;
mod attempt;
mod cancel;
mod intake;
mod links;
mod live;
mod pool;
mod recorder;
mod recovery;
mod shared;
mod status;
mod steer;
mod targets;
mod verdict;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::{Config, Folder};
use crate::control::Requests;
use crate::flow::Flow;
use crate::host::Host;
use crate::ledger::{Ledger, LedgerError};
use crate::schedule::Scheduler;
use crate::telemetry::{Event, Fields, emit};
use crate::watch::{BadPattern, Busy, FolderFeed, Ignore};
use pool::Pool;
use recorder::{Desk, RESULTS, Recorder};
use shared::{FolderId, FolderSlot, HostSlot, Means, NOTES, Shared};

/// Servers that run beside the agent until the token is cancelled.
pub type Services = Box<dyn FnOnce(CancellationToken) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// What an agent is made of.
pub struct Setup {
    /// Validated configuration.
    pub config: Arc<Config>,
    /// Where wall time comes from.
    pub clock: Clock,
    /// What it remembers.
    pub ledger: Arc<dyn Ledger>,
    /// The ledger is new: it is filled from the manifests before anything is sent.
    pub rebuild: bool,
    /// The hosts by name; every host that a folder names must be there.
    pub hosts: BTreeMap<String, Arc<dyn Host>>,
    /// Questions from the control side.
    pub requests: Requests,
    /// The servers.
    pub services: Option<Services>,
    /// Where the gallery is, for `status`.
    pub gallery: Option<String>,
    /// End when everything that is there has been dealt with.
    pub once: bool,
}

impl std::fmt::Debug for Setup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Setup").field("once", &self.once).finish_non_exhaustive()
    }
}

/// What an agent has done since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Files with a link.
    pub uploaded: u64,
    /// Attempts that put a file to rest.
    pub deferred: u64,
    /// Files given up.
    pub failed: u64,
}

/// Why an agent could not start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A manifest cannot be read, and the ledger that knew the same is lost.
    #[error(
        "the ledger has to be rebuilt from {}, which cannot be read ({source}); nothing is sent, because it may have been \
         sent before: make the file readable, or move it away", path.display()
    )]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A pattern of a folder cannot be used.
    #[error(transparent)]
    Pattern(#[from] BadPattern),
    /// A folder names a host that was not built.
    #[error("folder {folder} names the host {host:?}, which does not exist")]
    NoHost {
        /// The drop folder.
        folder: String,
        /// The host.
        host: String,
    },
}

/// Runs until `shutdown` ends, or with `once` until nothing is left to do. A second shutdown is the caller's business:
/// dropping this future cuts everything at once, and the next start recovers.
///
/// # Errors
/// When the ledger cannot be read at the start, or a host is missing.
pub async fn run(setup: Setup, shutdown: impl Future<Output = ()>) -> Result<Summary, AgentError> {
    let (notes, notes_in) = mpsc::channel(NOTES);
    let (results, results_in) = mpsc::channel(RESULTS);
    let (shared, feeds) = build(&setup, notes, results)?;
    let config = Arc::clone(&setup.config);
    emit(
        Event::AgentStarted,
        &Fields::default(),
        format_args!(
            "pixchute {} started: {} folders, {} hosts, {} workers",
            env!("CARGO_PKG_VERSION"),
            config.folders.len(),
            shared.hosts().len(),
            config.pool.workers
        ),
    );
    let services_end = CancellationToken::new();
    if let Some(services) = setup.services {
        let task = services(services_end.clone());
        shared.tracker.spawn(task);
    }
    let recovered = recovery::recover(&shared, Desk::new(&shared), setup.rebuild).await?;
    let pauses = recovered.pauses.clone();
    steer::restore(&shared).await?;
    albums::restore(&shared).await?;
    let recorder = Recorder::new(Arc::clone(&shared), recovered);
    let recording = shared.tracker.spawn(recorder.run(results_in));
    let links_end = CancellationToken::new();
    shared.tracker.spawn(links::keep(Arc::clone(&shared), links_end.clone()));
    shared.tracker.spawn(albums::keep(Arc::clone(&shared), shared.stopping.clone()));
    for (folder, feed) in feeds {
        shared.tracker.spawn(intake::watch_folder(Arc::clone(&shared), folder, feed));
    }
    for (host, _) in shared.hosts() {
        shared.tracker.spawn(intake::claim_due(Arc::clone(&shared), host));
    }
    let scheduler = Scheduler::new(config.pool.workers, config.pool.queue_warn, flows(&config, &shared));
    let mut pool = Pool::new(Arc::clone(&shared), scheduler, notes_in, setup.requests, setup.gallery, setup.once);
    pool.rest_as_before(pauses);
    pool.hold_as_before();
    pool.run(shutdown).await;
    // Every attempt has ended: nobody else sends results.
    shared.close_results();
    drop(pool);
    let _ = recording.await;
    // Nothing is recorded any more: what is left is written, then the task ends.
    links_end.cancel();
    services_end.cancel();
    shared.tracker.close();
    shared.tracker.wait().await;
    let summary = Summary {
        uploaded: shared.counts.uploaded.load(Ordering::Relaxed),
        deferred: shared.counts.deferred.load(Ordering::Relaxed),
        failed: shared.counts.failed.load(Ordering::Relaxed),
    };
    emit(
        Event::AgentStopped,
        &Fields::default(),
        format_args!(
            "stopped: {} uploaded, {} put off, {} failed since the start",
            summary.uploaded, summary.deferred, summary.failed
        ),
    );
    Ok(summary)
}

/// What each folder is read from.
type Feeds = Vec<(FolderId, FolderFeed)>;

/// The shared state and a feed per folder.
fn build(
    setup: &Setup,
    notes: mpsc::Sender<shared::Note>,
    results: mpsc::Sender<recorder::Finished>,
) -> Result<(Arc<Shared>, Feeds), AgentError> {
    let config = &setup.config;
    let mut names: Vec<&str> = config.folders.iter().flat_map(Folder::hosts).collect();
    names.sort_unstable();
    names.dedup();
    let shared = Shared::new(Means {
        config: Arc::clone(config),
        clock: setup.clock.clone(),
        ledger: Arc::clone(&setup.ledger),
        notes,
        results,
    });
    let several = config.folders.iter().filter(|folder| !folder.also.is_empty()).count();
    for name in &names {
        let uses = |folder: &&Folder| folder.hosts().any(|host| host == *name);
        let users = config.folders.iter().filter(uses).count();
        let host = setup.hosts.get(*name).cloned().ok_or_else(|| AgentError::NoHost {
            folder: config.folders.iter().find(uses).map_or_else(String::new, |f| f.path.display().to_string()),
            host: (*name).to_owned(),
        })?;
        let room = share_of_queue(config.pool.queue, names.len() + several, users);
        shared.add_host(HostSlot::new((*name).to_owned(), host, room));
    }
    let mut feeds = Vec::with_capacity(config.folders.len());
    for folder in &config.folders {
        let busy = Busy::default();
        // Sidecars, manifests and ledgers are no images by name; what lies in our own folders is named here.
        let ignore = Ignore::new(folder, own_places(config))?;
        let feed = FolderFeed::new(folder, ignore, busy.clone(), setup.clock.clone());
        let hosts = folder.hosts().filter_map(|name| shared.host_named(name)).collect();
        // Jobs with several hosts keep their places while they are in flight.
        let room = share_of_queue(config.pool.queue, names.len() + several, 1) + config.pool.workers;
        let slot = FolderSlot::new(Arc::new(folder.clone()), hosts, room, busy, feed.hints());
        feeds.push((shared.add_folder(slot), feed));
    }
    Ok((Arc::new(shared), feeds))
}

/// The places of a host, or of a folder with several hosts, in the queue: an equal share, so that a host that rests or hangs cannot fill the queue; and at least
/// one for each folder that feeds it and one for rested jobs, or they would wait for each other.
fn share_of_queue(queue: usize, hosts: usize, folders: usize) -> usize {
    (queue / hosts.max(1)).max(folders + 1)
}

/// The places of every folder: one folder's `done` may lie in another one.
fn own_places(config: &Config) -> Vec<PathBuf> {
    let places =
        |folder: &Folder| [folder.done.clone(), folder.retry.clone(), folder.failed.clone(), folder.manifest.clone()];
    config.folders.iter().flat_map(places).collect()
}

fn flows(config: &Config, shared: &Shared) -> Vec<Flow> {
    let flow = |slot: &HostSlot| {
        let host = config.hosts.get(&slot.name);
        let ceiling = host.and_then(|host| host.max_parallel).or_else(|| slot.host().max_parallel());
        Flow::new(ceiling.unwrap_or(config.pool.workers), host.and_then(|host| host.rate))
    };
    shared.hosts().iter().map(|(_, slot)| flow(slot)).collect()
}
