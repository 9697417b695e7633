//! What the agent's tasks share: configuration, ledger, hosts, folders, and a few words to each other.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::albums::Albums;
use super::hooks::Hooks;
use super::links::Changes;
use super::live::Recent;
use super::pulse::{Said, Vital};
use super::recorder::Finished;
use super::slots::{FolderSlot, HostSlot};
use super::targets::Trip;
use super::{Loaded, Reload, cancel};
use crate::clock::Clock;
use crate::config::{Config, ConfigError, Folder};
use crate::control::steer::Reloaded;
use crate::flow::Trouble;
use crate::job::{ErrorClass, Failure, Job, JobId};
use crate::ledger::{Durability, Ledger, LedgerError, Memo, Write};
use crate::record::Status;
use crate::schedule::{End, HostId};
use crate::telemetry::{Event, Fields, emit};

/// Words to the pool that may wait for it. The pool never waits for anybody, so a full channel means a busy moment.
pub(super) const NOTES: usize = 256;

/// How long after a failed write to the ledger it is tried again: soon enough that nobody waits long for a disk that has
/// room again, seldom enough that a full disk is not hammered.
const LEDGER_AGAIN: Duration = Duration::from_secs(1);

/// How many files are looked at at the same time: hashing is bound by the disk and by two or four cores, and the network
/// needs its share of them.
const INSPECTORS: usize = 4;

/// How many bytes of queued files are kept in memory in all: enough that workers on a fast network find their next files
/// read, little against the limits of a small server.
const KEPT_BYTES: usize = 16 << 20;

/// Which drop folder: for as long as the agent runs, whatever becomes of the configuration. [`Shared::folder`] knows how it
/// is configured now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct FolderId(usize);

impl FolderId {
    /// Its number, to tell it from others.
    pub(super) fn number(self) -> usize {
        self.0
    }
}

#[cfg(test)]
impl FolderId {
    pub(super) fn test(index: usize) -> Self {
        Self(index)
    }
}

/// What a task tells the pool.
#[derive(Debug)]
pub(super) enum Note {
    /// A job for the queue. It holds its place there. `fresh`: the ledger does not know it yet.
    Arrived { task: Box<Task>, fresh: bool },
    /// An attempt is over. `again`: the job goes to its next host now.
    Ended { job: JobId, end: End, rest: Option<Rest>, again: Option<Box<Task>> },
    /// A request of an attempt failed, and will be sent again.
    Trouble { job: JobId, trouble: Trouble },
    /// The outcome of a job is on record.
    Recorded(JobId),
    /// A folder was scanned for the first time, or is not there.
    Scanned(FolderId),
    /// Somebody wants to know whether everything is done (`--once`).
    Checkpoint,
    /// Is the pool alive? It answers with how the agent is.
    Pulse(oneshot::Sender<Said>),
    /// The agent ends, to be started anew.
    Restart,
    /// A test wants the pool to stand still.
    Freeze,
    /// Marks of pauses were read: hosts that were not configured for a while may have one.
    Restored,
    /// The configuration was read again.
    Loaded(Box<Result<Loaded, ConfigError>>, oneshot::Sender<Reloaded>),
    /// Give up what is queued or in flight of these; tells how many there were.
    Cancel(cancel::Sought, oneshot::Sender<usize>),
}

/// A job with what it carries through the queue and its attempts.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) job: Job,
    pub(super) folder: FolderId,
    /// Its hosts and how they stand to it.
    pub(super) trip: Trip,
    pub(super) content: Option<Kept>,
    /// Its place in the queue. A job with one host gives it back when it starts; one that may have to go on to another
    /// host keeps it.
    pub(super) place: Option<OwnedSemaphorePermit>,
}

/// The content of a small file, kept from its inspection so that it need not be read a second time. Counts against
/// [`KEPT_BYTES`] until it is dropped.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) content: Bytes,
    _share: OwnedSemaphorePermit,
}

impl Kept {
    /// `None` when enough is kept already: then the file is read again when its turn comes.
    pub(super) fn try_new(shared: &Shared, content: Bytes) -> Option<Self> {
        let share = Arc::clone(&shared.kept).try_acquire_many_owned(u32::try_from(content.len()).ok()?).ok()?;
        Some(Self { content, _share: share })
    }
}

/// A host must rest.
#[derive(Debug, Clone)]
pub(super) struct Rest {
    pub(super) length: Duration,
    pub(super) reason: String,
}

/// Counts of outcomes since the start.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) uploaded: AtomicU64,
    pub(super) deferred: AtomicU64,
    pub(super) failed: AtomicU64,
}

/// What the tasks share.
pub(super) struct Shared {
    config: RwLock<Arc<Config>>,
    pub(super) clock: Clock,
    pub(super) ledger: Arc<dyn Ledger>,
    /// By [`HostId`]; only ever grows.
    hosts: RwLock<Vec<Arc<HostSlot>>>,
    /// By [`FolderId`]; only ever grows.
    folders: RwLock<Vec<Arc<FolderSlot>>>,
    /// Every place of a folder's own since the start.
    places: Mutex<Vec<PathBuf>>,
    pub(super) notes: mpsc::Sender<Note>,
    pub(super) results: Mutex<Option<mpsc::Sender<Finished>>>,
    /// Why nothing is sent at the moment: the ledger cannot be written.
    pub(super) blocked: watch::Sender<Option<String>>,
    /// No new files.
    pub(super) stopping: CancellationToken,
    /// Running attempts end now.
    pub(super) cut: CancellationToken,
    pub(super) tracker: TaskTracker,
    /// Looks at files at the same time: the disk's parallelism, not the network's.
    pub(super) inspectors: Semaphore,
    /// Bytes that may be kept yet.
    pub(super) kept: Arc<Semaphore>,
    /// Files between settling and record.
    pub(super) open: AtomicU64,
    pub(super) counts: Counts,
    /// Lists whose link files are out of date.
    pub(super) links: Changes,
    /// Sub-folders that are albums, and their galleries.
    pub(super) albums: Albums,
    pub(super) hooks: Hooks,
    pub(super) recent: Recent,
    /// Signs of life of the recorder.
    pub(super) recorder: Vital,
    /// How the configuration is read again.
    pub(super) reload: Option<Reload>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// What an agent is told to work with, once.
pub(super) struct Means {
    pub(super) config: Arc<Config>,
    pub(super) clock: Clock,
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) notes: mpsc::Sender<Note>,
    pub(super) results: mpsc::Sender<Finished>,
    pub(super) reload: Option<Reload>,
}

impl Shared {
    /// Without hosts and folders yet.
    pub(super) fn new(means: Means) -> Self {
        Self {
            config: RwLock::new(means.config),
            clock: means.clock,
            ledger: means.ledger,
            hosts: RwLock::default(),
            folders: RwLock::default(),
            places: Mutex::default(),
            notes: means.notes,
            results: Mutex::new(Some(means.results)),
            blocked: watch::Sender::new(None),
            stopping: CancellationToken::new(),
            cut: CancellationToken::new(),
            tracker: TaskTracker::new(),
            inspectors: Semaphore::new(INSPECTORS),
            kept: Arc::new(Semaphore::new(KEPT_BYTES)),
            open: AtomicU64::new(0),
            counts: Counts::default(),
            links: Changes::default(),
            albums: Albums::default(),
            hooks: Hooks::default(),
            recent: Recent::default(),
            recorder: Vital::default(),
            reload: means.reload,
        }
    }

    /// The configuration as it is now. It may be another one at the next call: what belongs together is taken from one.
    pub(super) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The places that are not taken: `new` ones, and what were such places before, so that no uploaded file is found
    /// again because `done` lies elsewhere now. None of them may hide a folder.
    pub(super) fn keep_places(&self, new: Vec<PathBuf>, config: &Config) -> Vec<PathBuf> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.extend(new);
        places.sort_unstable();
        places.dedup();
        places.retain(|place| !config.folders.iter().any(|folder| folder.path.starts_with(place)));
        places.clone()
    }

    pub(super) fn set_config(&self, config: Arc<Config>) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    pub(super) fn add_host(&self, slot: HostSlot) -> HostId {
        let mut hosts = self.hosts.write().unwrap_or_else(PoisonError::into_inner);
        hosts.push(Arc::new(slot));
        HostId(hosts.len() - 1)
    }

    pub(super) fn add_folder(&self, slot: FolderSlot) -> FolderId {
        let mut folders = self.folders.write().unwrap_or_else(PoisonError::into_inner);
        folders.push(Arc::new(slot));
        FolderId(folders.len() - 1)
    }

    pub(super) fn host(&self, id: HostId) -> Arc<HostSlot> {
        Arc::clone(&self.hosts.read().unwrap_or_else(PoisonError::into_inner)[id.0])
    }

    /// The host of this name.
    pub(super) fn host_named(&self, name: &str) -> Option<HostId> {
        let hosts = self.hosts.read().unwrap_or_else(PoisonError::into_inner);
        hosts.iter().position(|slot| slot.name == name).map(HostId)
    }

    /// Every host that is configured.
    pub(super) fn hosts(&self) -> Vec<(HostId, Arc<HostSlot>)> {
        self.all_hosts().into_iter().filter(|(_, slot)| !slot.is_gone()).collect()
    }

    /// Every host, also those that are not configured any more.
    pub(super) fn all_hosts(&self) -> Vec<(HostId, Arc<HostSlot>)> {
        let hosts = self.hosts.read().unwrap_or_else(PoisonError::into_inner);
        hosts.iter().enumerate().map(|(index, slot)| (HostId(index), Arc::clone(slot))).collect()
    }

    pub(super) fn slot(&self, id: FolderId) -> Arc<FolderSlot> {
        Arc::clone(&self.folders.read().unwrap_or_else(PoisonError::into_inner)[id.0])
    }

    /// How this folder is configured now.
    pub(super) fn folder(&self, id: FolderId) -> Arc<Folder> {
        self.slot(id).config()
    }

    /// The places in the queue that the files of this folder take.
    pub(super) fn room(&self, slot: &FolderSlot) -> Arc<Semaphore> {
        match *slot.hosts() {
            [host] => Arc::clone(&self.host(host).room.places),
            _ => Arc::clone(&slot.room.places),
        }
    }

    /// Every drop folder that is configured.
    pub(super) fn folders(&self) -> Vec<(FolderId, Arc<FolderSlot>)> {
        self.all_folders().into_iter().filter(|(_, slot)| slot.if_active().is_some()).collect()
    }

    /// The folder at this path, also if it is not configured any more.
    pub(super) fn slot_at(&self, path: &Path) -> Option<(FolderId, Arc<FolderSlot>)> {
        self.all_folders().into_iter().find(|(_, slot)| slot.config().path == path)
    }

    fn all_folders(&self) -> Vec<(FolderId, Arc<FolderSlot>)> {
        let folders = self.folders.read().unwrap_or_else(PoisonError::into_inner);
        folders.iter().enumerate().map(|(index, slot)| (FolderId(index), Arc::clone(slot))).collect()
    }

    pub(super) fn folder_of(&self, path: &Path) -> Option<FolderId> {
        self.folders().into_iter().find(|(_, slot)| slot.config().path == path).map(|(id, _)| id)
    }

    /// The way to the recorder; `None` once the agent is past its last result.
    pub(super) fn results(&self) -> Option<mpsc::Sender<Finished>> {
        self.results.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Closes the way to the recorder: it ends when the last sender is gone.
    pub(super) fn close_results(&self) {
        self.results.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Writes to the ledger and does not give up: while it fails, the pool is blocked and says so once. Gives up only when
    /// running attempts are cut at shutdown: the next start finds what is there.
    pub(super) async fn write(&self, writes: Vec<Write>, durability: Durability) {
        loop {
            match self.ledger.write(writes.clone(), durability).await {
                Ok(()) => return self.ledger_is_well(),
                Err(error) => {
                    self.ledger_is_ill(&error.to_string());
                    tokio::select! {
                        () = tokio::time::sleep(LEDGER_AGAIN) => {}
                        () = self.cut.cancelled() => return,
                    }
                }
            }
        }
    }

    pub(super) fn ledger_is_ill(&self, reason: &str) {
        let first = self.blocked.send_if_modified(|blocked| {
            let first = blocked.is_none();
            *blocked = Some(reason.to_owned());
            first
        });
        if first {
            emit(
                Event::DiskBlocked,
                &Fields::default(),
                format_args!(
                    "nothing is sent until results can be recorded again: {reason}; check free space and permissions of {}",
                    self.config().ledger.display()
                ),
            );
        }
    }

    pub(super) fn ledger_is_well(&self) {
        if self.blocked.borrow().is_some() && self.blocked.send_replace(None).is_some() {
            emit(Event::DiskOk, &Fields::default(), format_args!("results can be recorded again"));
        }
    }

    /// Nothing is taken from this folder until its manifest can be written.
    pub(super) fn block_folder(&self, folder: FolderId, reason: &str) {
        let slot = self.slot(folder);
        let config = slot.config();
        if slot.blocked.send_replace(Some(reason.to_owned())).is_none() {
            emit(
                Event::DiskBlocked,
                &Fields { folder: Some(&config.path), ..Fields::default() },
                format_args!(
                    "nothing is taken from {} until its manifest {} can be written: {reason}",
                    config.path.display(),
                    config.manifest.display()
                ),
            );
        }
    }

    pub(super) fn unblock_folder(&self, folder: FolderId) {
        let slot = self.slot(folder);
        if slot.blocked.borrow().is_some() && slot.blocked.send_replace(None).is_some() {
            let path = &slot.config().path;
            emit(
                Event::DiskOk,
                &Fields { folder: Some(path), ..Fields::default() },
                format_args!("the manifest of {} can be written again", path.display()),
            );
        }
    }

    /// Something may be due: a cooldown was written or a retry asked for.
    pub(super) fn wake_claimers(&self) {
        for (_, slot) in self.hosts() {
            slot.due.notify_one();
        }
    }

    pub(super) fn count(&self, status: Status) {
        let counter = match status {
            Status::Uploaded | Status::Linked => &self.counts.uploaded,
            Status::Timeout | Status::Deferred => &self.counts.deferred,
            Status::Failed => &self.counts.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// What `status` shows of a host's last outcomes.
    pub(super) fn note_outcome(&self, job: &Job, failure: Option<&Failure>) {
        let Some(slot) = self.host_named(&job.host).map(|id| self.host(id)) else { return };
        match failure {
            None => *slot.last_success.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.clock.now()),
            // No fault of the host.
            Some(failure) if matches!(failure.class, ErrorClass::File | ErrorClass::Io | ErrorClass::Cancelled) => {}
            Some(failure) => {
                let text = format!("{}: {}", failure.class.name(), failure.message);
                *slot.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
                if failure.class == ErrorClass::UnknownOutcome {
                    self.count_orphan(&slot);
                }
            }
        }
    }
}

impl Shared {
    /// One possible orphan more on this host. The number outlives the agent; nobody waits for it to be written.
    pub(super) fn count_orphan(&self, slot: &HostSlot) {
        let count = slot.unknown_outcomes.fetch_add(1, Ordering::Relaxed) + 1;
        let memo = Memo { kind: ORPHANS.to_owned(), key: slot.name.clone(), value: count.to_string() };
        drop(self.ledger.write(vec![Write::Keep(memo)], Durability::Process));
    }

    /// Takes up the numbers of an earlier life.
    pub(super) async fn orphans_as_before(&self) -> Result<(), LedgerError> {
        for memo in self.ledger.memos(ORPHANS.to_owned()).await? {
            if let (Some(host), Ok(count)) = (self.host_named(&memo.key), memo.value.parse::<u64>()) {
                self.host(host).unknown_outcomes.fetch_add(count, Ordering::Relaxed);
            }
        }
        Ok(())
    }
}

/// The kind of the memos about possible orphans; the key is the host.
const ORPHANS: &str = "orphans";

/// A number that no other agent has.
pub(super) fn seed() -> u64 {
    let hash = blake3::hash(JobId::generate().to_string().as_bytes());
    hash.as_bytes().iter().take(8).fold(0, |seed, byte| seed << 8 | u64::from(*byte))
}

/// A number in 0.0..1.0 for spreading delays. Not secret, so the id generator's randomness will do.
pub(super) fn jitter() -> f64 {
    let hash = blake3::hash(JobId::generate().to_string().as_bytes());
    let bytes = hash.as_bytes();
    f64::from(u16::from_le_bytes([bytes[0], bytes[1]])) / f64::from(u16::MAX)
}
