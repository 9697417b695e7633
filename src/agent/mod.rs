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
mod anew;
mod attempt;
mod cancel;
mod claim;
mod desk;
mod hooks;
mod intake;
mod links;
mod live;
mod once;
mod pool;
mod presence;
mod pulse;
pub mod put;
mod recorder;
mod recovery;
mod reload;
mod rest;
mod shared;
mod slots;
mod status;
mod steer;
mod steps;
mod stop;
mod targets;
pub mod undo;
mod verdict;
mod whereabouts;
mod wiring;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::clock::Clock;
use crate::config::{Config, ConfigError};
use crate::control::Requests;
use crate::flow::Scale;
use crate::host::Host;
use crate::ledger::{Ledger, LedgerError};
use crate::panics;
use crate::schedule::Scheduler;
use crate::telemetry::{self, Event, Fields, emit};
use crate::watch::BadPattern;
use desk::Desk;
use pool::Pool;
use recorder::{RESULTS, Recorder};
use shared::{Means, NOTES, Shared};

/// Servers that run beside the agent until the token is cancelled.
pub type Services = Box<dyn FnOnce(CancellationToken) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// A configuration that was read again, and its hosts.
pub struct Loaded {
    /// Validated.
    pub config: Config,
    /// The hosts by name.
    pub hosts: BTreeMap<String, Arc<dyn Host>>,
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Reads the configuration again, with everything that is wrong with it. May block.
pub type Reload = Arc<dyn Fn() -> Result<Loaded, ConfigError> + Send + Sync>;

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
    /// How to read the configuration again; `None` if it came from no file.
    pub reload: Option<Reload>,
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Files with a link.
    pub uploaded: u64,
    /// Attempts that put a file to rest.
    pub deferred: u64,
    /// Files given up.
    pub failed: u64,
    /// What was not waited for any longer, with `once`.
    pub gave_up: Option<String>,
    /// It has ended by itself and wants to be started anew, because its sandbox shuts it out of a new drop folder.
    pub restarting: bool,
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
    /// The ledger cannot be written, and with `once` that is not waited for any longer.
    #[error("nothing was sent, because the ledger cannot be written: {reason}")]
    Blocked {
        /// What it said.
        reason: String,
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
pub async fn run(setup: Setup, shutdown: impl Future<Output = ()> + Send + 'static) -> Result<Summary, AgentError> {
    let (notes, notes_in) = mpsc::channel(NOTES);
    let (results, results_in) = mpsc::channel(RESULTS);
    let config = Arc::clone(&setup.config);
    let shared = Arc::new(Shared::new(Means {
        config: Arc::clone(&config),
        clock: setup.clock.clone(),
        ledger: Arc::clone(&setup.ledger),
        notes,
        results,
        reload: setup.reload,
    }));
    let wired = wiring::wire(&shared, Arc::clone(&config), &setup.hosts)?;
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
    pulse::starting(setup.rebuild);
    let recovered = tokio::select! {
        recovered = recovery::recover(&shared, Desk::new(&shared), setup.rebuild) => recovered?,
        stuck = once::start_is_stuck(&shared, setup.once) => return Err(stuck),
    };
    let pauses = recovered.pauses.clone();
    let (circuits, budgets) = (recovered.circuits.clone(), recovered.budgets.clone());
    steer::restore(&shared).await?;
    albums::restore(&shared).await?;
    let recorder = Recorder::new(Arc::clone(&shared), recovered);
    let recording = shared.tracker.spawn(panics::essential(recorder.run(results_in)));
    let links_end = CancellationToken::new();
    shared.tracker.spawn(links::keep(Arc::clone(&shared), links_end.clone()));
    shared.tracker.spawn(albums::keep(Arc::clone(&shared), shared.stopping.clone()));
    shared.tracker.spawn(pulse::keep(Arc::clone(&shared)));
    shared.tracker.spawn(hooks::keep(Arc::clone(&shared), links_end.clone()));
    let flows = shared.hosts().iter().map(|(_, slot)| wiring::flow_of(&config, slot)).collect();
    reload::start_tasks(&shared, wired);
    let size = &config.pool;
    let scale = Scale::new(size.min_workers, size.workers, size.max_workers);
    let mut scheduler = Scheduler::new(scale, size.queue_warn, flows);
    scheduler.seed(shared::seed());
    let mut pool = Pool::new(Arc::clone(&shared), scheduler, notes_in, setup.requests, setup.gallery, setup.once);
    pool.rest_as_before(pauses);
    pool.flow_as_before(circuits, budgets);
    pool.hold_as_before();
    // As a task: the thread that waits for this future would have to be woken for each of its words. Dropping the handle
    // ends it.
    let pooling = shared.tracker.spawn(panics::essential(async move { pool.run(shutdown).await }));
    let ended = AbortOnDropHandle::new(pooling).await.unwrap_or_default();
    pulse::closing();
    // Every attempt has ended: nobody else sends results.
    shared.close_results();
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
        gave_up: ended.gave_up,
        restarting: ended.restarting,
    };
    telemetry::settle();
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
