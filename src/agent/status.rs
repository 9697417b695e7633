//! What the agent tells about itself, and the retries that are asked of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::pool::Pool;
use super::shared::{FolderId, Shared};
use super::slots::{FolderSlot, HostSlot};
use crate::clock::WallTime;
use crate::control::model::{
    AttemptStatus, FolderStatus, HostStatus, PoolStatus, QuotaStatus, SettlingStatus, StageCounts, StageTimes, Status,
};
use crate::control::{Retried, RetryWhat};
use crate::flow::Cause;
use crate::host::{Progress, rate};
use crate::job::{Event as JobEvent, Job, Stage};
use crate::ledger::{Census, Durability, Write};
use crate::schedule::{HostId, LaneView};
use crate::telemetry::shown;

/// How long all that is asked for waits for last outcomes to be recorded, before they are said to be busy: a sync or two.
const RECORDING: Duration = Duration::from_secs(1);

/// The time between two looks at it.
const AGAIN: Duration = Duration::from_millis(20);

/// How many jobs `retry --all` takes from the ledger at a time.
const PAGE: usize = 256;

/// No file changed within `patience` and is still incomplete, and none is on its way to the feed or from it.
pub(super) fn nothing_settles(slot: &FolderSlot, now: WallTime, patience: Duration) -> bool {
    let feed = slot.hints().status();
    !feed.hinted
        && feed.settling.iter().all(|file| now.since(file.last_change) > patience)
        && feed.offered == slot.taken.load(Ordering::SeqCst)
}

/// Answers `status`: what the pool knows at once, the counts of the ledger in a task of their own.
pub(super) fn answer(pool: &Pool, reply: oneshot::Sender<Status>) {
    let mut status = snapshot(pool);
    let shared = Arc::clone(&pool.shared);
    pool.shared.tracker.spawn(async move {
        if let Ok(census) = shared.ledger.census().await {
            for folder in &mut status.folders {
                add_counts(folder, &census);
            }
        }
        // The one who asked may be gone.
        let _ = reply.send(status);
    });
}

fn add_counts(folder: &mut FolderStatus, census: &[Census]) {
    for row in census.iter().filter(|row| row.folder == folder.path) {
        let counts = &mut folder.counts;
        let (counter, open) = match row.stage {
            Stage::Waiting => (&mut counts.waiting, true),
            Stage::Started => (&mut counts.started, true),
            Stage::Uploaded => (&mut counts.uploaded, true),
            Stage::Cooling => (&mut counts.cooling, true),
            Stage::Done => (&mut counts.done, false),
            Stage::Failed => (&mut counts.failed, false),
        };
        *counter += row.count;
        if row.count == 0 {
            continue;
        }
        if open {
            folder.oldest_open_at = earlier(folder.oldest_open_at, row.oldest);
        }
        folder.next_due_at = earlier(folder.next_due_at, row.next_due);
        let times = &mut folder.oldest_at;
        let time = match row.stage {
            Stage::Waiting => &mut times.waiting,
            Stage::Started => &mut times.started,
            Stage::Uploaded => &mut times.uploaded,
            Stage::Cooling => &mut times.cooling,
            Stage::Failed => &mut times.failed,
            Stage::Done => continue,
        };
        *time = earlier(*time, row.oldest);
    }
}

fn earlier(one: Option<WallTime>, other: Option<WallTime>) -> Option<WallTime> {
    [one, other].into_iter().flatten().min()
}

fn snapshot(pool: &Pool) -> Status {
    let shared = &pool.shared;
    let state = match (pool.stopping, pool.ready) {
        (true, _) => "stopping",
        (false, true) => "ready",
        (false, false) => "starting",
    };
    let config = shared.config();
    let in_flight = pool.scheduler.in_flight();
    let busy = pool.scheduler.busy();
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        state: state.to_owned(),
        started_at: pool.started_at,
        now: shared.clock.now(),
        config: config.file.clone(),
        gallery: pool.gallery.clone(),
        blocked: shared.blocked.borrow().clone(),
        pool: PoolStatus {
            workers: pool.scheduler.workers(),
            busy,
            parked: in_flight.saturating_sub(busy),
            queue: config.pool.queue,
            queue_depth: pool.scheduler.depth(),
            oldest_queued_at: pool.oldest_queued_at(),
        },
        folders: shared.folders().iter().map(|(id, slot)| folder_status(pool, *id, slot)).collect(),
        hosts: shared.hosts().iter().map(|(id, slot)| host_status(pool, *id, slot)).collect(),
        attempts: attempts(pool),
        recent: shared.recent.list(),
    }
}

fn folder_status(pool: &Pool, id: FolderId, slot: &FolderSlot) -> FolderStatus {
    let (waiting, oldest) = pool.fresh_of(id);
    let config = slot.config();
    let feed = slot.hints().status();
    let blocked = slot.blocked.borrow().as_ref().map(|why| format!("its manifest cannot be written: {why}"));
    FolderStatus {
        path: config.path.clone(),
        host: config.hosts().collect::<Vec<_>>().join(", "),
        watch: feed.watch.name().to_owned(),
        watch_reason: blocked.or_else(|| feed.watch.reason().map(ToOwned::to_owned)),
        settling: feed
            .settling
            .iter()
            .map(|file| SettlingStatus { file: shown(&file.name), since: file.since, last_change: file.last_change })
            .collect(),
        settling_total: feed.settling_total,
        unreadable: feed.unreadable.iter().map(|directory| shown(directory)).collect(),
        counts: StageCounts { waiting, ..StageCounts::default() },
        oldest_open_at: oldest,
        oldest_at: StageTimes { waiting: oldest, ..StageTimes::default() },
        last_success_at: slot.last.success(),
        last_error: slot.last.error(),
        next_due_at: None,
        overflows: slot.last.overflows(),
        manifest: config.manifest.clone(),
        held_since: *slot.held.borrow(),
    }
}

fn host_status(pool: &Pool, id: HostId, slot: &HostSlot) -> HostStatus {
    let view = pool.scheduler.view(Instant::now(), id);
    let (state, paused_until, pause_reason) = condition(pool, id, &view);
    HostStatus {
        name: slot.name.clone(),
        state: state.to_owned(),
        running: view.in_flight - view.parked,
        parked: view.parked,
        window: view.window,
        max_parallel: view.ceiling,
        queued: view.queued,
        paused_until,
        quota: view.quota.map(|(quota, left)| QuotaStatus {
            count: quota.count,
            period_seconds: quota.period.as_secs(),
            left,
        }),
        held_since: *slot.held.borrow(),
        pause_reason,
        last_success_at: *slot.last_success.lock().unwrap_or_else(PoisonError::into_inner),
        last_error: slot.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        next_due_at: *slot.next_due.lock().unwrap_or_else(PoisonError::into_inner),
        unknown_outcomes: slot.unknown_outcomes.load(Ordering::Relaxed),
    }
}

/// How a host is, until when, and why.
fn condition(pool: &Pool, id: HostId, view: &LaneView) -> (&'static str, Option<WallTime>, Option<String>) {
    let wall = |until: Instant| pool.shared.clock.now().after(until.saturating_duration_since(Instant::now()));
    if let Some((_, until, reason)) = pool.resting.get(&id) {
        return ("paused", Some(*until), Some(reason.clone()));
    }
    let reason = match view.circuit {
        Some(Cause::Failures) => "it failed several times in a row; then one file is tried",
        Some(Cause::Suspect) => "suspect: several answers in a row had no usable link; then one file is tried",
        None => "its quota is used up",
    };
    match (view.circuit, view.circuit_until, view.exhausted_until) {
        (Some(Cause::Suspect), until, _) => ("suspect", until.map(wall), Some(reason.to_owned())),
        (Some(_), Some(until), _) => ("circuit-open", Some(wall(until)), Some(reason.to_owned())),
        (Some(_), None, _) => ("half-open", None, None),
        (None, _, Some(until)) => ("quota", Some(wall(until)), Some(reason.to_owned())),
        (None, ..) if view.proven => ("ready", None, None),
        (None, ..) => ("new", None, None),
    }
}

pub(super) fn attempts(pool: &Pool) -> Vec<AttemptStatus> {
    let now = pool.shared.clock.now();
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut attempts: Vec<AttemptStatus> = pool
        .running
        .iter()
        .map(|(job, running)| AttemptStatus {
            worker: pool.scheduler.worker_of(*job),
            job: *job,
            file: shown(&running.name),
            folder: pool.shared.folder(running.folder).path.clone(),
            host: pool.shared.host(running.host).name.clone(),
            phase: running.progress.phase(),
            sent: running.progress.sent(),
            total: running.progress.total(),
            bytes_per_second: running.progress.bytes_per_second(),
            left_ms: time_left(&running.progress),
            since: WallTime::from_millis(now.millis().saturating_sub_unsigned(millis(running.progress.age()))),
            age_ms: millis(running.progress.age()),
            idle_ms: millis(running.progress.idle()),
        })
        .collect();
    attempts.sort_by_key(|attempt| std::cmp::Reverse(attempt.age_ms));
    attempts
}

/// Milliseconds until the body is sent, if that can be said.
fn time_left(progress: &Progress) -> Option<u64> {
    let left = rate::time_left(progress.sent(), progress.total(), progress.bytes_per_second())?;
    u64::try_from(left.as_millis()).ok()
}

/// Makes resting and failed jobs due now.
pub(super) async fn retry(shared: &Shared, what: RetryWhat) -> Retried {
    let mut retried = Retried::default();
    let until = Instant::now() + RECORDING;
    match what {
        RetryWhat::All => {
            for stage in [Stage::Cooling, Stage::Failed] {
                retry_stage(shared, stage, None, until, &mut retried).await;
            }
        }
        RetryWhat::Paths(paths) => {
            for path in paths {
                match job_at(shared, &path).await {
                    Some(job) => retry_job(shared, job, until, &mut retried).await,
                    None => retry_below(shared, &path, until, &mut retried).await,
                }
            }
        }
        RetryWhat::Job(id) => match shared.ledger.job(id).await {
            Ok(Some(job)) => retry_job(shared, job, until, &mut retried).await,
            _ => retried.refused.push(format!("{id}: no such job")),
        },
    }
    shared.wake_claimers();
    retried
}

/// The job whose file lies at `path`, or was dropped there and lies in `retry/` or `failed/` now.
pub(super) async fn job_at(shared: &Shared, path: &Path) -> Option<Job> {
    if let Ok(Some(job)) = shared.ledger.at_path(path.to_path_buf()).await {
        return Some(job);
    }
    let folders = shared.folders();
    let folder = folders.iter().map(|(_, slot)| slot.config()).find(|folder| path.starts_with(&folder.path))?;
    let name = path.strip_prefix(&folder.path).ok()?;
    let places: [PathBuf; 2] = [folder.retry.join(name), folder.failed.join(name)];
    for place in places {
        if let Ok(Some(job)) = shared.ledger.at_path(place).await {
            return Some(job);
        }
    }
    None
}

/// Every resting or failed job whose file lies below this folder, or was dropped there.
async fn retry_below(shared: &Shared, folder: &Path, until: Instant, retried: &mut Retried) {
    let before = (retried.queued, retried.refused.len());
    for stage in [Stage::Cooling, Stage::Failed] {
        retry_stage(shared, stage, Some(folder), until, retried).await;
    }
    if before == (retried.queued, retried.refused.len()) {
        retried.refused.push(format!(
            "{}: no resting or failed upload of this name, or in a folder of this name; a file in the drop folder is taken by itself",
            shown(folder)
        ));
    }
}

async fn retry_stage(shared: &Shared, stage: Stage, below: Option<&Path>, until: Instant, retried: &mut Retried) {
    let meant = |job: &Job| {
        below.is_none_or(|below| job.path.starts_with(below) || job.folder.join(&job.name).starts_with(below))
    };
    let mut before = None;
    loop {
        let Ok(jobs) = shared.ledger.jobs(Some(stage), before, PAGE).await else { return };
        let Some(last) = jobs.last() else { return };
        before = Some(last.id);
        for job in jobs {
            if meant(&job) && shared.folder_of(&job.folder).is_some() {
                retry_job(shared, job, until, retried).await;
            }
        }
    }
}

/// The job once its last outcome is recorded, if that is `until` then.
async fn recorded(shared: &Shared, mut job: Job, until: Instant) -> Job {
    while job.pending && Instant::now() < until {
        tokio::time::sleep(AGAIN).await;
        if let Ok(Some(now)) = shared.ledger.job(job.id).await {
            job = now;
        }
    }
    job
}

async fn retry_job(shared: &Shared, job: Job, until: Instant, retried: &mut Retried) {
    let mut job = recorded(shared, job, until).await;
    if job.pending {
        retried.refused.push(format!("{}: its last outcome is being recorded; try again", shown(&job.path)));
        return;
    }
    match job.advance(JobEvent::Retry) {
        Ok(()) => {
            job.requeues = 0;
            job.not_before = Some(shared.clock.now());
            shared.write(vec![Write::Put(Box::new(job))], Durability::Process).await;
            retried.queued += 1;
        }
        Err(_) => {
            let why = match job.stage {
                Stage::Uploaded | Stage::Done => "it is uploaded already; `pixchute find` shows its link",
                _ => "it waits or is being uploaded already",
            };
            retried.refused.push(format!("{}: {why}", shown(&job.path)));
        }
    }
}
