//! What `status` shows: plain data, the same for `GET /v1/status`, `pixchute status` and the status page.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::clock::WallTime;
use crate::job::{JobId, Phase};

/// The state of the whole agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the running agent.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// `starting`, `ready` or `stopping`.
    pub state: String,
    /// When it was started.
    pub started_at: WallTime,
    /// What time it is for the agent.
    pub now: WallTime,
    /// The configuration file; null for the defaults.
    pub config: Option<PathBuf>,
    /// Where the gallery is; null without a server.
    pub gallery: Option<String>,
    /// Why nothing is sent at the moment (`state dir full`, …); null when all is well.
    pub blocked: Option<String>,
    /// The pool.
    pub pool: PoolStatus,
    /// The drop folders.
    pub folders: Vec<FolderStatus>,
    /// The hosts.
    pub hosts: Vec<HostStatus>,
    /// The attempts that run now, longest first.
    pub attempts: Vec<AttemptStatus>,
    /// The last outcomes since the start of the agent, newest first.
    #[serde(default)]
    pub recent: Vec<OutcomeStatus>,
}

/// How many outcomes [`Status::recent`] holds at most.
pub const RECENT: usize = 20;

/// Workers and queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolStatus {
    /// Slots.
    pub workers: usize,
    /// Slots in use.
    pub busy: usize,
    /// Attempts without progress that gave their slot to others.
    pub parked: usize,
    /// Capacity of the queue.
    pub queue: usize,
    /// Jobs in the queue.
    pub queue_depth: usize,
    /// Since when the oldest job in the queue waits.
    pub oldest_queued_at: Option<WallTime>,
}

/// One drop folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderStatus {
    /// Its path.
    pub path: PathBuf,
    /// Where its images go; several names with commas between them.
    pub host: String,
    /// `native`, `poll` or `absent`.
    pub watch: String,
    /// Why it is polled or absent; null when it is watched natively.
    pub watch_reason: Option<String>,
    /// Files that are not settled yet.
    pub settling: Vec<SettlingStatus>,
    /// How many files are settling in all; `settling` lists the first ones only.
    pub settling_total: usize,
    /// Directories and files in it that could not be read, the first ones, relative to it.
    #[serde(default)]
    pub unreadable: Vec<String>,
    /// Jobs by stage.
    pub counts: StageCounts,
    /// Since when the oldest job that is neither done nor failed is known.
    pub oldest_open_at: Option<WallTime>,
    /// Since when the oldest job in each stage is known.
    #[serde(default)]
    pub oldest_at: StageTimes,
    /// When an upload from here succeeded last, since the start of the agent.
    #[serde(default)]
    pub last_success_at: Option<WallTime>,
    /// What failed last and when, since the start of the agent.
    #[serde(default)]
    pub last_error: Option<ErrorStatus>,
    /// When the next resting file from here is due.
    #[serde(default)]
    pub next_due_at: Option<WallTime>,
    /// How often more happened here than could be reported, since the start of the agent.
    #[serde(default)]
    pub overflows: u64,
    /// Its manifest.
    pub manifest: PathBuf,
    /// The user paused it then; null if not.
    #[serde(default)]
    pub held_since: Option<WallTime>,
}

/// What failed last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorStatus {
    /// When.
    pub at: WallTime,
    /// The class and the message.
    pub message: String,
}

/// A file whose end has not been seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettlingStatus {
    /// Relative to the drop folder.
    pub file: String,
    /// Since when.
    pub since: WallTime,
    /// When it changed last.
    pub last_change: WallTime,
}

/// Jobs by stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the words of `Stage`")]
pub struct StageCounts {
    pub waiting: u64,
    pub started: u64,
    pub uploaded: u64,
    pub cooling: u64,
    pub done: u64,
    pub failed: u64,
}

/// Since when the oldest job in each stage that is not over is known; null without one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the words of `Stage`")]
pub struct StageTimes {
    pub waiting: Option<WallTime>,
    pub started: Option<WallTime>,
    pub uploaded: Option<WallTime>,
    pub cooling: Option<WallTime>,
    pub failed: Option<WallTime>,
}

/// One host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostStatus {
    /// Its name.
    pub name: String,
    /// `new` (it has not answered yet), `ready`, `paused` (it asked for a rest), `quota` (the quota is used up),
    /// `circuit-open`, `half-open` (one file is or will be tried) or `suspect` (it gives no usable links).
    #[serde(default)]
    pub state: String,
    /// Attempts in flight that make progress.
    pub running: usize,
    /// Attempts in flight that do not.
    pub parked: usize,
    /// How many may run at once now.
    pub window: usize,
    /// The ceiling of the window.
    pub max_parallel: usize,
    /// Jobs in the queue.
    pub queued: usize,
    /// It rests until then.
    pub paused_until: Option<WallTime>,
    /// Why it rests.
    pub pause_reason: Option<String>,
    /// Its `quota` and what is left of it; null without one.
    #[serde(default)]
    pub quota: Option<QuotaStatus>,
    /// The user paused it then; null if not. It may rest on top of that.
    #[serde(default)]
    pub held_since: Option<WallTime>,
    /// When an upload succeeded last, since the start of the agent.
    pub last_success_at: Option<WallTime>,
    /// What failed last, since the start of the agent.
    pub last_error: Option<String>,
    /// When the next resting file is due.
    pub next_due_at: Option<WallTime>,
    /// Possible orphans: attempts that broke after the last byte, or in a crash; over restarts.
    pub unknown_outcomes: u64,
}

/// What a host may be given in a stretch of time, as the configuration says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaStatus {
    /// How many uploads.
    pub count: u32,
    /// In any stretch of so many seconds.
    pub period_seconds: u64,
    /// How many of them may begin now.
    pub left: u32,
}

/// One attempt in flight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptStatus {
    /// Its slot, 1..; null while it is parked.
    pub worker: Option<usize>,
    /// The job.
    pub job: JobId,
    /// The file, relative to its drop folder.
    pub file: String,
    /// The drop folder.
    #[serde(default)]
    pub folder: PathBuf,
    /// Where it goes.
    pub host: String,
    /// What it is doing.
    pub phase: Phase,
    /// Bytes of the body sent.
    pub sent: u64,
    /// Bytes of the body.
    pub total: u64,
    /// How many of them go per second now; 0 when none do, or it is too early to tell.
    #[serde(default)]
    pub bytes_per_second: u64,
    /// How long the rest takes at this rate; null when that cannot be said.
    #[serde(default)]
    pub left_ms: Option<u64>,
    /// Since when it runs.
    pub since: WallTime,
    /// How long it runs.
    pub age_ms: u64,
    /// How long nothing has moved.
    pub idle_ms: u64,
}

/// One outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeStatus {
    /// When.
    pub at: WallTime,
    /// The word of the manifest: `uploaded`, `linked`, `timeout`, `deferred`, `failed`.
    pub status: String,
    /// The job.
    pub job: JobId,
    /// The file, relative to its drop folder.
    pub file: String,
    /// The drop folder.
    pub folder: PathBuf,
    /// The host.
    pub host: String,
    /// The link; null without one.
    pub url: Option<String>,
    /// Why there is none.
    pub error: Option<String>,
    /// Length of the file.
    pub bytes: u64,
    /// How long the attempt took.
    pub duration_ms: u64,
}
