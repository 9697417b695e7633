//! How rested jobs come back into the queue when they are due, or when somebody asks for them.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use super::intake::{inspect_file, trip_of};
use super::presence;
use super::recorder::Finished;
use super::shared::{FolderId, Note, Shared, Task};
use super::verdict::End;
use crate::clock::WallTime;
use crate::job::{ErrorClass, Event as JobEvent, Failure, Fingerprint, Job, Phase, Stage};
use crate::ledger::{Durability, Write};
use crate::schedule::HostId;
use crate::shelf;
use crate::telemetry::{Event, Fields, emit, shown, trouble};

/// The longest time between two looks for due jobs, whatever the ledger says about the next one: a wall clock that jumps
/// costs at most this.
const DUE_TICK: Duration = Duration::from_secs(30);

/// How many jobs are read at a time when a folder goes on.
const PAGE: usize = 256;

/// How many rested jobs are claimed at once.
const CLAIM: usize = 16;

/// How long a job of a folder that is not configured any more is left alone.
const FOREIGN_REST: Duration = Duration::from_secs(600);

/// The task that brings a host's rested jobs back when they are due.
pub(super) async fn claim_due(shared: Arc<Shared>, host: HostId) {
    let slot = shared.host(host);
    loop {
        let now = shared.clock.now();
        let next = claim_round(&shared, host, now).await;
        slot.claimed_once.store(true, Ordering::Relaxed);
        let _ = shared.notes.send(Note::Checkpoint).await;
        let pause = next.map_or(DUE_TICK, |at| at.since(shared.clock.now()).clamp(Duration::from_millis(1), DUE_TICK));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = slot.due.notified() => {}
            () = shared.stopping.cancelled() => return,
        }
    }
}

/// Claims everything that is due now; tells when the next is.
async fn claim_round(shared: &Arc<Shared>, host: HostId, now: WallTime) -> Option<WallTime> {
    let slot = shared.host(host);
    loop {
        // A place first: what cannot be queued stays in the ledger.
        let first = tokio::select! {
            place = Arc::clone(&slot.room.places).acquire_owned() => place.ok()?,
            () = shared.stopping.cancelled() => return None,
        };
        let mut places = vec![first];
        while places.len() < CLAIM {
            let Ok(place) = Arc::clone(&slot.room.places).try_acquire_owned() else { break };
            places.push(place);
        }
        let _claiming = slot.claiming.lock().await;
        let due = match shared.ledger.due(slot.name.clone(), latest(shared, now, host).await, places.len()).await {
            Ok(due) => due,
            Err(error) => {
                trouble("the ledger cannot be read", &error);
                return Some(now.after(Duration::from_secs(1)));
            }
        };
        *slot.next_due.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = due.next;
        if due.jobs.is_empty() {
            return due.next;
        }
        for job in due.jobs {
            let Some(place) = places.pop() else { break };
            bring_back(shared, job, place).await;
        }
    }
}

/// Up to which moment jobs count as due: now; or later, when the next one lies further in the future than any cooldown is
/// long, which only a wall clock that was set back can bring about.
async fn latest(shared: &Shared, now: WallTime, host: HostId) -> WallTime {
    let slot = shared.host(host);
    let horizon = now.after(shared.config().cooldown.backoff.max() + DUE_TICK);
    match shared.ledger.due(slot.name.clone(), WallTime::from_millis(i64::MIN), 0).await {
        Ok(due) => due.next.filter(|next| *next > horizon).unwrap_or(now),
        Err(_) => now,
    }
}

/// A rested job goes back to the queue, if its file is still there.
async fn bring_back(shared: &Arc<Shared>, mut job: Job, place: OwnedSemaphorePermit) {
    let Some(folder) = shared.folder_of(&job.folder) else {
        job.not_before = Some(shared.clock.now().after(FOREIGN_REST));
        shared.write(vec![Write::Put(Box::new(job))], Durability::Process).await;
        return;
    };
    if shared.host_named(&job.host).is_some_and(|id| shared.host(id).is_gone()) {
        // Its host is not configured any more: it goes where the folder's files go now.
        job.host = shared.folder(folder).host.clone();
        job.not_before = Some(shared.clock.now());
        shared.write(vec![Write::Put(Box::new(job))], Durability::Process).await;
        return shared.wake_claimers();
    }
    let (path, follow) = (job.path.clone(), shared.folder(folder).follow_symlinks);
    let there =
        tokio::task::spawn_blocking(move || shelf::metadata(&path, follow).map_err(|error| (error, path.is_symlink())));
    let now = match there.await {
        Ok(Ok(metadata)) => Fingerprint::of(&metadata),
        // A link that leads nowhere is still there: what it led to may come back.
        Ok(Err((error, false))) if error.kind() == ErrorKind::NotFound && is_home(shared, folder, &job).await => {
            return forget(shared, &job).await;
        }
        // The folder is away, or the disk has trouble: later.
        _ => {
            job.not_before = Some(shared.clock.now().after(DUE_TICK));
            return shared.write(vec![Write::Put(Box::new(job))], Durability::Process).await;
        }
    };
    let slot = shared.slot(folder);
    if slot.held.borrow().is_some() {
        return set_aside(shared, folder, job).await;
    }
    slot.busy.insert(job.path.clone());
    shared.open.fetch_add(1, Ordering::Relaxed);
    let was_cooling = job.stage == Stage::Cooling;
    if was_cooling && let Err(error) = job.advance(JobEvent::Requeue) {
        trouble("a job is not where it should be (a bug)", &error);
    }
    job.not_before = None;
    let refused = if now == job.fingerprint && job.image.is_some() {
        None
    } else {
        reinspect(shared, folder, &mut job, now).await
    };
    shared.write(vec![Write::Put(Box::new(job.clone()))], Durability::Process).await;
    let trip = trip_of(shared, folder, &job);
    let over = match refused {
        Some(failure) => Some(End::Refused(failure)),
        None => trip.finished().map(|over| {
            job.host.clone_from(&shared.host(over.host).name);
            over.end
        }),
    };
    if let Some(end) = over {
        if let Some(results) = shared.results() {
            let (took, mirrors) = (Duration::ZERO, trip.mirrors());
            let finished = Finished { job, folder, end, took, worker: None, kept: None, mirrors };
            let _ = results.send(finished).await;
        }
        return;
    }
    emit(
        Event::JobRequeued,
        &Fields { attempt: Some(job.attempts + 1), ..Fields::of(&job) },
        format_args!("{} is queued again for {}", shown(&job.name), job.host),
    );
    let task = Task { job, folder, trip, content: None, place: Some(place) };
    let _ = shared.notes.send(Note::Arrived { task: Box::new(task), fresh: false }).await;
}

/// Whether the folder that is there is the job's own, so that what is not in it was taken away.
async fn is_home(shared: &Shared, folder: FolderId, job: &Job) -> bool {
    let (config, job) = (shared.folder(folder), job.clone());
    tokio::task::spawn_blocking(move || presence::is_its_folder(&config, &job)).await.unwrap_or(false)
}

/// A due or queued job of a paused or removed folder waits in the ledger: [`make_due`] finds it there by its stage. One
/// of a folder that is only configured anew is due at once.
pub(super) async fn set_aside(shared: &Shared, folder: FolderId, mut job: Job) {
    if job.stage == Stage::Cooling
        && let Err(error) = job.advance(JobEvent::Requeue)
    {
        trouble("a job is not where it should be (a bug)", &error);
    }
    let path = job.path.clone();
    let slot = shared.slot(folder);
    let waits = slot.held.borrow().is_some() || slot.if_active().is_none();
    job.not_before = Some(shared.clock.now().after(if waits { FOREIGN_REST } else { Duration::ZERO }));
    shared.write(vec![Write::Put(Box::new(job))], Durability::Process).await;
    if !waits {
        shared.wake_claimers();
    }
    if slot.busy.contains(&path) {
        slot.busy.remove(&path);
        shared.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The jobs of this folder that were due while it was paused are due now.
pub(super) async fn make_due(shared: &Shared, folder: &Path) {
    let mut before = None;
    while let Ok(jobs) = shared.ledger.jobs(Some(Stage::Waiting), before, PAGE).await
        && let Some(last) = jobs.last()
    {
        before = Some(last.id);
        let waiting = jobs.into_iter().filter(|job| job.folder == folder && job.not_before.is_some());
        let due = |job| Write::Put(Box::new(Job { not_before: Some(shared.clock.now()), ..job }));
        shared.write(waiting.map(due).collect(), Durability::Process).await;
    }
    shared.wake_claimers();
}

/// The file was touched or edited while it rested.
async fn reinspect(shared: &Shared, folder: FolderId, job: &mut Job, now: Fingerprint) -> Option<Failure> {
    match inspect_file(shared, job.path.clone(), now, folder).await {
        Ok(inspected) => {
            job.fingerprint = now;
            job.image = Some(inspected.image);
            None
        }
        Err(refused) => {
            job.fingerprint = now;
            Some(Failure::new(ErrorClass::File, Phase::Inspect, refused.to_string()))
        }
    }
}

/// Its owner took the file away while it rested: back into the drop folder, or for good.
async fn forget(shared: &Shared, job: &Job) {
    shared.write(vec![Write::Remove(job.id)], Durability::Process).await;
    let (path, id) = (job.path.clone(), job.id);
    let _ = tokio::task::spawn_blocking(move || crate::record::sidecar::remove_if_of(&path, id)).await;
    emit(
        Event::JobCancelled,
        &Fields::of(job),
        format_args!("{} was taken away by hand; if it comes back it is a new file", shown(&job.path)),
    );
}
