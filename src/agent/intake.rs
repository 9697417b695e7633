//! How jobs come into the queue: fresh ones from a drop folder's feed, rested ones from the ledger. Both wait for a place
//! in their host's share of the queue first, so that the backlog stays on disk and memory stays flat; the semaphore is
//! fair, so that neither starves the other.

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use super::pulse;
use super::recorder::Finished;
use super::shared::{FolderId, Kept, Note, Shared, Task};
use super::targets::Trip;
use super::verdict::End;
use super::wiring::Fed;
use crate::clock::WallTime;
use crate::host::{NotStripped, can_strip};
use crate::inspect::{self, Inspected, Refused};
use crate::job::{ErrorClass, Event as JobEvent, Failure, Fingerprint, Job, JobId, Phase, Stage};
use crate::ledger::{Durability, Write};
use crate::record::{Mirror, Record};
use crate::schedule::HostId;
use crate::telemetry::{Event, Fields, emit, shown, trouble};
use crate::upload::STRIP_ADVICE;
use crate::watch::{Feed, Settled, WatchState};

/// The longest time between two looks for due jobs, whatever the ledger says about the next one: a wall clock that jumps
/// costs at most this.
const DUE_TICK: Duration = Duration::from_secs(30);

/// How many jobs are read at a time when a folder goes on.
const PAGE: usize = 256;

/// How long a folder may wait for a place in the queue before it is taken to be looked through: a host that rests can keep
/// the queue full for hours.
const FULL: Duration = Duration::from_secs(2);

/// How many rested jobs are claimed at once.
const CLAIM: usize = 16;

/// How long a job of a folder that is not configured any more is left alone.
const FOREIGN_REST: Duration = Duration::from_secs(600);

/// The task of one drop folder.
pub(super) async fn watch_folder(shared: Arc<Shared>, fed: Fed) {
    let Fed { folder, mut feed, end } = fed;
    let slot = shared.slot(folder);
    let mut blocked = slot.blocked.subscribe();
    let (mut held, mut turned) = (slot.held.subscribe(), slot.held.subscribe());
    let mut asked = pulse::began(&slot);
    let mut place = None;
    let mut absent = false;
    loop {
        if held.borrow_and_update().is_some() {
            // Paused: its files stay where they are, and nobody waits for them; its place is for others.
            place = None;
            let _ = shared.notes.send(Note::Checkpoint).await;
        }
        turned.borrow_and_update();
        let next = async {
            let _ = held.wait_for(Option::is_none).await;
            // While the manifest cannot be written, nothing is taken that would have to be recorded there.
            let _ = blocked.wait_for(Option::is_none).await;
            if place.is_none() {
                // The room of the host that is configured now; one more of the last host's files does no harm.
                let mut waiting = std::pin::pin!(shared.room(&slot).acquire_owned());
                let soon = tokio::time::timeout(FULL, &mut waiting).await;
                let Ok(soon) = soon else {
                    // Its host takes nothing for now and the queue is full: that must not keep the agent from being ready.
                    let _ = shared.notes.send(Note::Scanned(folder)).await;
                    place = waiting.await.ok();
                    return feed.next().await;
                };
                place = soon.ok();
            }
            feed.next().await
        };
        let item = {
            let mut next = pin!(next);
            loop {
                tokio::select! {
                    item = &mut next => break Some(item),
                    _ = turned.changed() => break None,
                    _ = asked.changed() => pulse::answer(&slot, &mut asked).await,
                    () = end.cancelled() => return pulse::ended(&slot),
                    () = shared.stopping.cancelled() => return pulse::ended(&slot),
                }
            }
        };
        let Some(item) = item else { continue };
        match item {
            Feed::Settled(settled) if slot.busy.contains(&settled.path) => {
                // Somebody else has it since: it is being cancelled.
                slot.taken.fetch_add(1, Ordering::SeqCst);
            }
            Feed::Settled(settled) => {
                let Some(place) = place.take() else { continue };
                slot.busy.insert(settled.path.clone());
                shared.open.fetch_add(1, Ordering::SeqCst);
                slot.taken.fetch_add(1, Ordering::SeqCst);
                if settled.inspected.is_some() && !slot.in_place.load(Ordering::Relaxed) {
                    // Nothing is left to wait for.
                    take_in(&shared, folder, settled, place).await;
                } else {
                    let shared_too = Arc::clone(&shared);
                    shared.tracker.spawn(async move { take_in(&shared_too, folder, settled, place).await });
                }
            }
            Feed::Scanned { first, .. } => {
                if first {
                    let _ = shared.notes.send(Note::Scanned(folder)).await;
                }
            }
            Feed::State(state) => {
                if absent && !matches!(state, WatchState::Absent { .. }) {
                    let path = &slot.config().path;
                    let fields = Fields { folder: Some(path), ..Fields::default() };
                    emit(Event::FolderBack, &fields, format_args!("{} is there again", shown(path)));
                }
                absent = matches!(state, WatchState::Absent { .. });
                log_state(&slot.config().path, &state);
                if absent {
                    // Nobody waits for what is not there.
                    let _ = shared.notes.send(Note::Scanned(folder)).await;
                }
            }
            Feed::Overflow => {
                slot.last.overflows.fetch_add(1, Ordering::Relaxed);
                emit(
                    Event::WatchOverflow,
                    &Fields { folder: Some(&slot.config().path), ..Fields::default() },
                    format_args!(
                        "more happened in {} than could be reported; it is scanned instead, nothing is missed",
                        shown(&slot.config().path)
                    ),
                )
            }
        }
    }
}

fn log_state(folder: &Path, state: &WatchState) {
    let fields = Fields { folder: Some(folder), ..Fields::default() };
    let path = shown(folder);
    match state {
        WatchState::Native => emit(Event::FolderWatching, &fields, format_args!("watching {path}")),
        WatchState::Poll { reason, shortage } => {
            let event = if *shortage { Event::WatchLimit } else { Event::FolderPolling };
            emit(event, &fields, format_args!("looking through {path} at intervals: {reason}"));
        }
        WatchState::Absent { reason } => emit(
            Event::FolderAbsent,
            &fields,
            format_args!("{path} cannot be watched: {reason}; it is looked for and taken up when it is there"),
        ),
    }
}

/// One settled file: known already, refused, or a job.
async fn take_in(shared: &Shared, folder: FolderId, mut settled: Settled, place: OwnedSemaphorePermit) {
    let inspected = settled.inspected.take();
    match consider(shared, folder, &settled, inspected).await {
        Verdict::Queue(job, trip, content) => {
            let task = Task { job: *job, folder, trip, content, place: Some(place) };
            let note = Note::Arrived { task: Box::new(task), fresh: true };
            if shared.notes.send(note).await.is_ok() {
                return;
            }
        }
        Verdict::Refuse(job, mirrors, failure) => {
            let end = End::Refused(failure);
            let finished = Finished { job: *job, folder, end, took: Duration::ZERO, worker: None, kept: None, mirrors };
            if let Some(results) = shared.results()
                && results.send(finished).await.is_ok()
            {
                return;
            }
        }
        Verdict::Leave { look_again } => {
            let slot = shared.slot(folder);
            slot.busy.remove(&settled.path);
            if look_again {
                slot.hints().hint(settled.path.clone());
            }
        }
    }
    shared.open.fetch_sub(1, Ordering::Relaxed);
    let _ = shared.notes.send(Note::Checkpoint).await;
}

/// What to do with a settled file.
enum Verdict {
    Queue(Box<Job>, Trip, Option<Kept>),
    Refuse(Box<Job>, Vec<Mirror>, Failure),
    Leave { look_again: bool },
}

async fn consider(shared: &Shared, folder: FolderId, settled: &Settled, inspected: Option<Inspected>) -> Verdict {
    let asked = shared.slot(folder).in_place.load(Ordering::Relaxed);
    let known = loop {
        if !asked {
            break None;
        }
        match shared.ledger.at_path(settled.path.clone()).await {
            Ok(known) => break known,
            Err(error) => {
                shared.ledger_is_ill(&error.to_string());
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_secs(1)) => {}
                    () = shared.stopping.cancelled() => return Verdict::Leave { look_again: false },
                }
            }
        }
    };
    if known.as_ref().is_some_and(|known| known.fingerprint == settled.fingerprint) {
        return Verdict::Leave { look_again: false };
    }
    let mut job = new_job(shared, folder, settled);
    let fits = settled.fingerprint.len <= shared.folder(folder).max_bytes;
    let inspected = match inspected.filter(|_| fits) {
        Some(inspected) => Ok(inspected),
        None => inspect_file(shared, settled.path.clone(), settled.fingerprint, folder).await,
    };
    match inspected {
        Ok(Inspected { image, content, .. }) => {
            if let Some(known) = known.filter(|known| known.image.is_some_and(|old| old.hash == image.hash)) {
                // Touched, copied over itself, or found again after the ledger was rebuilt: the content is known.
                let same = Job { fingerprint: settled.fingerprint, ..known };
                shared.write(vec![Write::Put(Box::new(same))], Durability::Process).await;
                return Verdict::Leave { look_again: false };
            }
            job.image = Some(image);
            let trip = trip_of(shared, folder, &job);
            let Some(first) = trip.open().first().copied() else {
                let failure = trip.refusal().map(|(_, failure)| failure);
                let failure = failure.unwrap_or_else(|| Failure::new(ErrorClass::File, Phase::Inspect, "no host"));
                return Verdict::Refuse(Box::new(job), trip.mirrors(), failure);
            };
            job.host.clone_from(&shared.host(first).name);
            // Not yet in the ledger: until an attempt begins the file in the drop folder is all there is to know.
            log_queued(&job);
            Verdict::Queue(Box::new(job), trip, content.and_then(|content| Kept::try_new(shared, content)))
        }
        Err(Refused::Changed) => Verdict::Leave { look_again: true },
        Err(Refused::Vanished) => Verdict::Leave { look_again: false },
        Err(Refused::Io(error)) => {
            trouble(&format!("{} cannot be read for now", shown(&settled.path)), &error);
            Verdict::Leave { look_again: true }
        }
        Err(refused) => {
            let failure = Failure::new(ErrorClass::File, Phase::Inspect, refused.to_string());
            Verdict::Refuse(Box::new(job), Vec::new(), failure)
        }
    }
}

pub(super) async fn inspect_file(
    shared: &Shared,
    path: std::path::PathBuf,
    fingerprint: Fingerprint,
    folder: FolderId,
) -> Result<Inspected, Refused> {
    let max_bytes = shared.folder(folder).max_bytes;
    let _turn = shared.inspectors.acquire().await;
    let inspected = tokio::task::spawn_blocking(move || inspect::inspect(&path, fingerprint, max_bytes)).await;
    match inspected {
        Ok(result) => result,
        Err(join) => Err(Refused::Io(std::io::Error::other(join))),
    }
}

pub(super) fn new_job(shared: &Shared, folder: FolderId, settled: &Settled) -> Job {
    let config = shared.folder(folder);
    Job {
        id: JobId::generate(),
        folder: config.path.clone(),
        name: settled.name.clone(),
        path: settled.path.clone(),
        host: config.host.clone(),
        stage: Stage::Waiting,
        fingerprint: settled.fingerprint,
        image: None,
        attempts: 0,
        requeues: 0,
        unknown_outcomes: 0,
        queued_at: shared.clock.now(),
        not_before: None,
        record: None,
        pending: false,
    }
}

/// The hosts of a file and how they stand to it: what a host would refuse is not sent (R30), and what it has already is
/// not sent again.
fn trip_of(shared: &Shared, folder: FolderId, job: &Job) -> Trip {
    let slot = shared.slot(folder);
    let hosts: Vec<_> = slot.hosts().iter().map(|host| (*host, shared.host(*host))).collect();
    let mut trip = Trip::new(slot.config().policy, hosts.iter().map(|(host, slot)| (*host, slot.name.clone())));
    let keep_clean = slot.config().strip_metadata;
    let Some(image) = job.image else { return trip };
    for (host, slot) in &hosts {
        if keep_clean && !can_strip(image.kind) {
            let message = format!("{}: {}", shown(&job.name), NotStripped::Kind(image.kind));
            trip.refuse(*host, Failure::new(ErrorClass::File, Phase::Inspect, message).advise(STRIP_ADVICE));
        } else if let Some(refusal) = slot.host().limits().refuses(&image, job.fingerprint.len) {
            let message = refusal.explain(shown(&job.name), &slot.name);
            let failure = Failure::new(ErrorClass::File, Phase::Inspect, message).advise(refusal.advice());
            trip.refuse(*host, failure);
        }
    }
    if let Some(record) = job.record.as_deref().and_then(|json| Record::parse(json.as_bytes()).ok()) {
        trip.recall(&record, image.hash);
    }
    trip
}

fn log_queued(job: &Job) {
    emit(
        Event::JobQueued,
        &Fields {
            job: Some(job.id),
            service: Some(&job.host),
            file: Some(&job.name),
            folder: Some(&job.folder),
            bytes: Some(job.fingerprint.len),
            ..Fields::default()
        },
        format_args!("{} is queued for {}", shown(&job.name), job.host),
    );
}

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
    let path = job.path.clone();
    let there = tokio::task::spawn_blocking(move || std::fs::symlink_metadata(path)).await;
    let now = match there {
        Ok(Ok(metadata)) => Fingerprint::of(&metadata),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound && job.folder.exists() => {
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
        &Fields {
            job: Some(job.id),
            service: Some(&job.host),
            file: Some(&job.name),
            folder: Some(&job.folder),
            attempt: Some(job.attempts + 1),
            ..Fields::default()
        },
        format_args!("{} is queued again for {}", shown(&job.name), job.host),
    );
    let task = Task { job, folder, trip, content: None, place: Some(place) };
    let _ = shared.notes.send(Note::Arrived { task: Box::new(task), fresh: false }).await;
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
        &Fields {
            job: Some(job.id),
            service: Some(&job.host),
            file: Some(&job.name),
            folder: Some(&job.folder),
            ..Fields::default()
        },
        format_args!("{} was taken away by hand; if it comes back it is a new file", shown(&job.path)),
    );
}
