//! What the agent knows of each host and each folder, whatever becomes of the configuration.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::live::Last;
use super::shared::Shared;
use super::targets::Away;
use crate::clock::WallTime;
use crate::config::Folder;
use crate::host::Host;
use crate::schedule::HostId;
use crate::watch::{Busy, Hints};

/// Places in the queue.
pub(super) struct Room {
    pub(super) places: Arc<Semaphore>,
    /// How many there are, taken or not.
    count: AtomicUsize,
}

impl Room {
    fn new(count: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(count)), count: AtomicUsize::new(count) }
    }

    /// So many from now on; surplus ones that are taken go when they are free.
    pub(super) fn resize(&self, count: usize, shared: &Shared) {
        let before = self.count.swap(count, Ordering::Relaxed);
        self.places.add_permits(count.saturating_sub(before));
        let (places, surplus) = (Arc::clone(&self.places), before.saturating_sub(count));
        if surplus > 0 {
            shared.tracker.spawn(async move {
                for _ in 0..surplus {
                    let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
                    place.forget();
                }
            });
        }
    }
}

/// A host and what belongs to it.
pub(super) struct HostSlot {
    pub(super) name: String,
    /// Replaced when it is configured anew; an attempt keeps the one that it began with.
    host: RwLock<Arc<dyn Host>>,
    /// Its places in the queue.
    pub(super) room: Room,
    /// It is not configured any more.
    gone: AtomicBool,
    /// Something of it may be due.
    pub(super) due: Notify,
    pub(super) next_due: Mutex<Option<WallTime>>,
    pub(super) last_success: Mutex<Option<WallTime>>,
    pub(super) last_error: Mutex<Option<String>>,
    pub(super) unknown_outcomes: AtomicU64,
    /// Since when the user has it paused.
    pub(super) held: watch::Sender<Option<WallTime>>,
    /// Taken by whoever turns resting jobs into queued or cancelled ones, so that none is both.
    pub(super) claiming: tokio::sync::Mutex<()>,
    /// Its due jobs were looked for at least once.
    pub(super) claimed_once: AtomicBool,
    /// Until when it turns everything away, and why: what the pool knows, for those who choose another host.
    away: Mutex<Option<(Instant, String)>>,
}

impl HostSlot {
    pub(super) fn new(name: String, host: Arc<dyn Host>, room: usize) -> Self {
        Self {
            name,
            host: RwLock::new(host),
            room: Room::new(room),
            gone: AtomicBool::new(false),
            due: Notify::new(),
            next_due: Mutex::default(),
            last_success: Mutex::default(),
            last_error: Mutex::default(),
            unknown_outcomes: AtomicU64::new(0),
            held: watch::Sender::new(None),
            claiming: tokio::sync::Mutex::default(),
            claimed_once: AtomicBool::new(false),
            away: Mutex::default(),
        }
    }

    /// Whether it turns everything away at the moment, for how long at least, and why.
    pub(super) fn away(&self) -> Option<Away> {
        let away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, reason) = away.as_ref()?;
        Some(Away { rest: until.saturating_duration_since(Instant::now()), reason: reason.clone() })
    }

    /// Notes what the pool knows.
    pub(super) fn set_away(&self, away: Option<(Instant, String)>) {
        *self.away.lock().unwrap_or_else(PoisonError::into_inner) = away;
    }

    /// The host as it is configured now.
    pub(super) fn host(&self) -> Arc<dyn Host> {
        Arc::clone(&self.host.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on it is this one.
    pub(super) fn set_host(&self, host: Arc<dyn Host>) {
        *self.host.write().unwrap_or_else(PoisonError::into_inner) = host;
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    pub(super) fn set_gone(&self, gone: bool) {
        self.gone.store(gone, Ordering::Relaxed);
    }
}

/// A drop folder and what belongs to it.
pub(super) struct FolderSlot {
    wiring: RwLock<Wiring>,
    /// Its places in the queue if it has several hosts: none of them may be kept from it by the files of another folder.
    pub(super) room: Room,
    pub(super) busy: Busy,
    /// Files of jobs may lie in the drop folder itself: kept ones, and those that could not be moved. Only then a settled
    /// file can belong to a known job and the ledger has to be asked.
    pub(super) in_place: AtomicBool,
    /// How many files that its feed offered were taken; counted after [`Shared::open`].
    pub(super) taken: AtomicU64,
    /// Why nothing is taken from it at the moment: its manifest cannot be written.
    pub(super) blocked: watch::Sender<Option<String>>,
    /// Results wait for the drop folder, which is away.
    pub(super) away: AtomicBool,
    /// Since when the user has it paused.
    pub(super) held: watch::Sender<Option<WallTime>>,
    pub(super) last: Last,
    /// The number of the round in which its task is asked for a sign of life, and the last one it answered.
    pub(super) asked: watch::Sender<u64>,
    pub(super) beat: watch::Sender<u64>,
}

/// What of a drop folder changes with the configuration.
#[derive(Clone)]
pub(super) struct Wiring {
    pub(super) config: Arc<Folder>,
    pub(super) hosts: Arc<[HostId]>,
    pub(super) hints: Hints,
    /// Places that are not taken and could be reached from this folder.
    pub(super) places: Vec<PathBuf>,
    /// Ends the task that reads the folder.
    pub(super) feed: CancellationToken,
    /// It is not configured any more.
    pub(super) gone: bool,
}

impl FolderSlot {
    pub(super) fn new(wiring: Wiring, room: usize, busy: Busy) -> Self {
        Self {
            wiring: RwLock::new(wiring),
            room: Room::new(room),
            busy,
            in_place: AtomicBool::new(true),
            taken: AtomicU64::new(0),
            blocked: watch::Sender::new(None),
            away: AtomicBool::new(false),
            held: watch::Sender::new(None),
            last: Last::default(),
            asked: watch::Sender::new(0),
            beat: watch::Sender::new(0),
        }
    }

    /// Held only to copy something out of it.
    fn wiring(&self) -> RwLockReadGuard<'_, Wiring> {
        self.wiring.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Configures it anew.
    pub(super) fn rewire(&self, anew: impl FnOnce(Wiring) -> Wiring) {
        let mut wiring = self.wiring.write().unwrap_or_else(PoisonError::into_inner);
        *wiring = anew(wiring.clone());
    }

    /// Nothing is taken from it any more; what is in flight is recorded as before.
    pub(super) fn remove(&self) {
        self.rewire(|wiring| {
            wiring.feed.cancel();
            Wiring { gone: true, ..wiring }
        });
    }

    /// How it is configured, and the places in it that are not taken; `None` if it is not configured any more.
    pub(super) fn if_active(&self) -> Option<(Arc<Folder>, Vec<PathBuf>)> {
        let wiring = self.wiring();
        (!wiring.gone).then(|| (Arc::clone(&wiring.config), wiring.places.clone()))
    }

    /// How it is configured now.
    pub(super) fn config(&self) -> Arc<Folder> {
        Arc::clone(&self.wiring().config)
    }

    /// The hosts its images go to now, in order; at least one.
    pub(super) fn hosts(&self) -> Arc<[HostId]> {
        Arc::clone(&self.wiring().hosts)
    }

    /// The ear of its feed.
    pub(super) fn hints(&self) -> Hints {
        self.wiring().hints.clone()
    }
}
