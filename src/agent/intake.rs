//! How fresh jobs come into the queue, from a drop folder's feed; rested ones come from the ledger ([`super::claim`]). Both wait
//! for a place in their host's share of the queue first, so that the backlog stays on disk and memory stays flat; the
//! semaphore is fair, so that neither starves the other.

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::recorder::Finished;
use super::shared::{FolderId, Kept, Note, Shared, Task};
use super::targets::Trip;
use super::verdict::End;
use super::wiring::Fed;
use super::{anew, pulse};
use crate::host::{NotStripped, can_strip};
use crate::inspect::{self, Inspected, Refused};
use crate::job::{ErrorClass, Failure, Fingerprint, Job, Phase};
use crate::ledger::{Durability, Write};
use crate::record::{Mirror, Record};
use crate::shelf;
use crate::telemetry::{Event, Fields, emit, shown, trouble};
use crate::upload::STRIP_ADVICE;
use crate::watch::{Feed, Settled, WatchState};

/// How long a folder may wait for a place in the queue before it is taken to be looked through: a host that rests can keep
/// the queue full for hours.
const FULL: Duration = Duration::from_secs(2);

/// The task of one drop folder.
pub(super) async fn watch_folder(shared: Arc<Shared>, fed: Fed) {
    let Fed { folder, mut feed, end } = fed;
    let slot = shared.slot(folder);
    let mut blocked = slot.blocked.subscribe();
    let (mut held, mut turned) = (slot.held.subscribe(), slot.held.subscribe());
    let mut asked = pulse::began(&slot);
    let mut place = None;
    let (since, mut known, mut absent) = (Instant::now(), false, false);
    let mut unreadable = Vec::new();
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
                let now = slot.hints().status().unreadable;
                if unreadable != now && !now.is_empty() {
                    let names: Vec<String> = now.iter().map(|name| shown(name)).collect();
                    let path = shown(&slot.config().path);
                    trouble(&format!("{path} is not seen whole, check the permissions"), &names.join(", "));
                }
                unreadable = now;
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
                if std::mem::replace(&mut known, true) && !absent {
                    shared.tracker.spawn(anew::look(Arc::clone(&shared), folder, since));
                }
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
        // A link that leads nowhere has to be noticed as one.
        Err(Refused::Vanished) => Verdict::Leave { look_again: shared.folder(folder).follow_symlinks },
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
    let (max_bytes, follow) = (shared.folder(folder).max_bytes, shared.folder(folder).follow_symlinks);
    let _turn = shared.inspectors.acquire().await;
    let inspect = move || match shelf::real(&path, follow) {
        Ok(place) => inspect::inspect(&place, fingerprint, max_bytes),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(Refused::Vanished),
        Err(error) => Err(Refused::Io(error)),
    };
    let inspected = tokio::task::spawn_blocking(inspect).await;
    match inspected {
        Ok(result) => result,
        Err(join) => Err(Refused::Io(std::io::Error::other(join))),
    }
}

pub(super) fn new_job(shared: &Shared, folder: FolderId, settled: &Settled) -> Job {
    let config = shared.folder(folder);
    let (folder, name, host) = (config.path.clone(), settled.name.clone(), config.host.clone());
    let job = Job::new(folder, name, host, settled.fingerprint, shared.clock.now());
    Job { path: settled.path.clone(), ..job }
}

/// The hosts of a file and how they stand to it: what a host would refuse is not sent (R30), and what it has already is
/// not sent again.
pub(super) fn trip_of(shared: &Shared, folder: FolderId, job: &Job) -> Trip {
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
        &Fields { bytes: Some(job.fingerprint.len), ..Fields::of(job) },
        format_args!("{} is queued for {}", shown(&job.name), job.host),
    );
}
