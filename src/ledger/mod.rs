//! The ledger: what the agent remembers over restarts. The only place with SQL.
//!
//! [`Ledger`] is the whole interface: rows of [`Job`] keyed by id, and the pauses of hosts. [`sqlite`] is the real one;
//! [`memory`] keeps the rows in a map, for tests under a paused clock. A Postgres ledger for a fleet will implement the
//! same trait.
//!
//! **Durability.** Every write that was answered survives the death of the process. Writes with
//! [`Durability::Power`] also survive a power cut: a result must, because nothing else knows it; an intent need not,
//! because after a power cut the file is simply found and queued again.

#[cfg(test)]
mod conformance;
pub mod memory;
pub mod sqlite;

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::clock::WallTime;
use crate::job::{ContentHash, Job, JobId, Stage};
pub use memory::MemoryLedger;
pub use sqlite::SqliteLedger;

/// An answer that the ledger will give. Dropping it does not undo the write.
pub type Answer<T> = Pin<Box<dyn Future<Output = Result<T, LedgerError>> + Send>>;

/// The durable memory of the agent.
pub trait Ledger: Send + Sync + 'static {
    /// Applies `writes` in order, all or none.
    fn write(&self, writes: Vec<Write>, durability: Durability) -> Answer<()>;

    /// Writes down that an attempt of `job` (stage `Started`) begins, unless `link` is set and this content is on this
    /// host already: then nothing is written and the finished job (stage `Uploaded` or `Done`, status `uploaded`) is
    /// returned. One step, so that twins cannot slip past each other.
    fn start(&self, job: Job, link: bool) -> Answer<Option<Job>>;

    /// The job whose file lies at exactly this path now, whatever its stage; the newest if there are several.
    fn at_path(&self, path: PathBuf) -> Answer<Option<Job>>;

    /// Whether any job's file lies at a path strictly between these two, compared as bytes.
    fn any_between(&self, from: PathBuf, to: PathBuf) -> Answer<bool>;

    /// Up to `limit` jobs whose files lie strictly between these two paths, compared as bytes, in that order; page on with
    /// the last path as `from`.
    fn between(&self, from: PathBuf, to: PathBuf, limit: usize) -> Answer<Vec<Job>>;

    /// The finished job (stage `Uploaded` or `Done`, status `uploaded`) that brought this content to one of `hosts`; the
    /// first of them that has it decides.
    fn known(&self, content: ContentHash, hosts: Vec<String>) -> Answer<Option<Job>>;

    /// The job with this id.
    fn job(&self, id: JobId) -> Answer<Option<Job>>;

    /// Writes down that the ledger holds everything that the manifests know: until then it counts as new.
    fn complete(&self) -> Answer<()>;

    /// Up to `limit` jobs of `host` that may be claimed, longest overdue first, and the moment at which the next one after
    /// these is due. Claimable is what is not pending, and either `Cooling`, or `Waiting` with a `not_before` (one without
    /// is in memory).
    fn due(&self, host: String, now: WallTime, limit: usize) -> Answer<Due>;

    /// Up to `limit` jobs whose life was interrupted, oldest id first, with ids above `after`: stage `Waiting`, `Started`
    /// or `Uploaded`, or any stage with `pending` set.
    fn unfinished(&self, after: Option<JobId>, limit: usize) -> Answer<Vec<Job>>;

    /// Up to `limit` jobs at `stage` (any if `None`), newest id first, with ids below `before`.
    fn jobs(&self, stage: Option<Stage>, before: Option<JobId>, limit: usize) -> Answer<Vec<Job>>;

    /// How many jobs of which folder and host stand where, and since when the oldest does.
    fn census(&self) -> Answer<Vec<Census>>;

    /// The highest `seq` that any record in the ledger carries; 0 if none.
    fn last_seq(&self) -> Answer<u64>;

    /// The hosts that were told to rest and until when.
    fn pauses(&self) -> Answer<Vec<HostPause>>;

    /// Every memo of this kind, by key.
    fn memos(&self, kind: String) -> Answer<Vec<Memo>>;
}

/// One change of the ledger.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// The row as it is now, new or not.
    Put(Box<Job>),
    /// Forget the row: the file went back to settling, or its owner took it away.
    Remove(JobId),
    /// The host rests; replaces an earlier pause.
    Pause(HostPause),
    /// The host may be used again.
    Resume(String),
    /// The highest `seq` in use, where no row carries it.
    Seq(u64),
    /// Keep this memo; replaces an earlier one of the same kind and key.
    Keep(Memo),
    /// Forget a memo.
    Drop {
        /// Its kind.
        kind: String,
        /// Its key.
        key: String,
    },
}

/// What a write must survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// The death of the process.
    Process,
    /// A power cut.
    Power,
}

/// Jobs whose cooldown is over.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Due {
    /// They may be tried now.
    pub jobs: Vec<Job>,
    /// When the next one will be due.
    pub next: Option<WallTime>,
}

/// A count of jobs for `status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Census {
    /// Drop folder.
    pub folder: PathBuf,
    /// Host name.
    pub host: String,
    /// Where they stand.
    pub stage: Stage,
    /// How many.
    pub count: u64,
    /// When the oldest of them was queued first; not known of `Done` jobs.
    pub oldest: Option<WallTime>,
    /// When the next of them is due; only of `Cooling` jobs.
    pub next_due: Option<WallTime>,
}

/// A rest that a host asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPause {
    /// Host name.
    pub host: String,
    /// Until when.
    pub until: WallTime,
    /// When it was written: a rest never lasts longer than `until - since`, whatever the clock does.
    pub since: WallTime,
    /// Why, for `status` and the log.
    pub reason: String,
}

/// For tests of the watchdog: a memo of this kind has the writer stand still, if the environment wants so too.
pub const STANDSTILL: &str = "standstill";

/// A small fact that must survive a restart and is no job: what it means is the business of whoever wrote it. Each owner
/// has a kind of its own, so that it reads back what it wrote and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memo {
    /// Whose it is.
    pub kind: String,
    /// Which of them.
    pub key: String,
    /// JSON.
    pub value: String,
}

/// Why the ledger could not do something.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LedgerError {
    /// Another agent holds it.
    #[error("the ledger {} is in use by another agent (process {pid})", path.display())]
    InUse {
        /// The database file.
        path: PathBuf,
        /// The other agent's process id as it wrote it down, or `unknown`.
        pid: String,
    },
    /// The file cannot be opened or created.
    #[error("cannot open the ledger {}: {reason}", path.display())]
    Open {
        /// The database file.
        path: PathBuf,
        /// What the system said.
        reason: String,
        /// The disk is full, or has trouble that may pass: worth trying again.
        passing: bool,
    },
    /// The disk is full, read-only or broken: worth trying again when it is not.
    #[error("cannot write the ledger: {0}")]
    Storage(String),
    /// A row that this version does not understand.
    #[error("the ledger holds a row that cannot be read: {0}")]
    Damaged(String),
    /// The ledger's thread has ended.
    #[error("the ledger is closed")]
    Closed,
}

/// The part of a job's record that the ledger itself looks at.
#[derive(Debug, Default, Deserialize)]
struct RecordHead {
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    status: String,
    /// The image was deleted on its host again.
    #[serde(default)]
    removed_at: Option<IgnoredAny>,
}

impl RecordHead {
    /// The head of `job`'s record; all zero without a record, or with one that is no JSON object.
    fn of(job: &Job) -> Self {
        job.record.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }
}

/// Whether the life of `job` was interrupted if the agent starts now.
fn is_open(job: &Job) -> bool {
    job.pending || matches!(job.stage, Stage::Waiting | Stage::Started | Stage::Uploaded)
}

/// Whether `due` may give `job`.
fn is_claimable(job: &Job) -> bool {
    let cut_off = job.stage == Stage::Waiting && job.not_before.is_some();
    !job.pending && (job.stage == Stage::Cooling || cut_off)
}

/// Whether the links of `job` may be repeated for another file with the same content.
fn is_linkable(job: &Job, head: &RecordHead) -> bool {
    matches!(job.stage, Stage::Uploaded | Stage::Done) && head.status == "uploaded" && head.removed_at.is_none()
}
