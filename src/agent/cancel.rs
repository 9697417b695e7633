//! Cancelling: wherever a job stands, its file goes to `failed/` with a last line that says so.
//!
//! | it is | then |
//! |---|---|
//! | in flight | its attempt is dropped, which closes its connection at once |
//! | queued | it leaves the queue |
//! | resting, or cut off and not claimed yet | it is claimed and given up instead of being queued |
//! | in the drop folder, waiting for a place in the queue | it is taken in and given up |
//!
//! Between two of these a job is nowhere for a moment. So it is looked for again until it is somewhere, for [`SOUGHT`].

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;

use super::intake::{inspect_file, new_job};
use super::pool::Pool;
use super::recorder::Finished;
use super::shared::{FolderId, Note, Shared, Task};
use super::status::job_at;
use super::verdict::End;
use crate::control::steer::{CancelWhat, Cancelled};
use crate::job::{ErrorClass, Event as JobEvent, Failure, Fingerprint, Job, JobId, Phase, Stage};
use crate::ledger::{Durability, Write};
use crate::record::Record;
use crate::schedule::Input;
use crate::shelf;
use crate::telemetry::{Event, Fields, emit, shown, trouble};
use crate::watch::Settled;

/// How long a job that is between two places is looked for: far longer than it takes to get from one to the other.
const SOUGHT: Duration = Duration::from_millis(800);

/// The time between two looks.
const AGAIN: Duration = Duration::from_millis(20);

/// Files of a folder that are cancelled in one go: the answer has seconds, and each of them is looked for and read.
const MOST: usize = 1_000;

/// Files of a folder that are counted: a list of names that memory does not notice.
const FILES_SEEN: usize = 100_000;

/// Which jobs are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sought {
    /// All whose file lies there, or was dropped there.
    Path(PathBuf),
    /// This one.
    Job(JobId),
}

/// What came of looking for a job outside of the pool.
enum Found {
    /// It is given up now.
    Cancelled,
    /// It cannot be cancelled.
    Refused(String),
    /// It is between two places.
    Nowhere,
}

/// The failure of a job that its owner does not want any more.
pub(super) fn failure(phase: Phase) -> Failure {
    Failure::new(ErrorClass::Cancelled, phase, "cancelled by the user")
        .advise("`pixchute retry` with its path uploads it after all")
}

/// Cancels what is named, and says what could not be.
pub(super) async fn cancel(shared: &Arc<Shared>, what: CancelWhat) -> Cancelled {
    let sought: Vec<Sought> = match what {
        CancelWhat::Paths(paths) => paths.into_iter().map(Sought::Path).collect(),
        CancelWhat::Job(id) => vec![Sought::Job(id)],
    };
    let mut cancelled = Cancelled::default();
    for one in sought {
        if let Sought::Path(path) = &one {
            let folders = folders_of(shared, path).await;
            if !folders.is_empty() {
                cancel_below(shared, path, folders, &mut cancelled).await;
                continue;
            }
        }
        match cancel_one(shared, &one).await {
            Ok(count) => cancelled.cancelled += count,
            Err(reason) => cancelled.refused.push(reason),
        }
    }
    let (done, refused) = (cancelled.cancelled, cancelled.refused.len());
    emit(Event::AgentSteered, &Fields::default(), format_args!("asked to cancel: {done} cancelled, {refused} refused"));
    cancelled
}

/// What a path means that is a folder: itself, and the like of it in `retry/`.
async fn folders_of(shared: &Shared, path: &Path) -> Vec<PathBuf> {
    let mut places = BTreeSet::from([path.to_path_buf()]);
    for (_, slot) in shared.folders().iter() {
        let config = slot.config();
        if let Ok(name) = path.strip_prefix(&config.path) {
            places.insert(config.retry.join(name));
        }
    }
    let is_folder = |place: &PathBuf| std::fs::symlink_metadata(place).is_ok_and(|metadata| metadata.is_dir());
    let looking = tokio::task::spawn_blocking(move || places.into_iter().filter(is_folder).collect());
    looking.await.unwrap_or_default()
}

/// Gives up every file below a folder that waits, is being sent or rests. What is no picture stays as it is.
async fn cancel_below(shared: &Arc<Shared>, named: &Path, folders: Vec<PathBuf>, cancelled: &mut Cancelled) {
    let over = shared
        .folders()
        .iter()
        .flat_map(|(_, slot)| [slot.config().done.clone(), slot.config().failed.clone()])
        .collect();
    let listing = tokio::task::spawn_blocking(move || files_below(folders, &over));
    let files = listing.await.unwrap_or_default();
    let before = cancelled.cancelled;
    for file in files.iter().take(MOST) {
        cancelled.cancelled += cancel_one(shared, &Sought::Path(file.clone())).await.unwrap_or(0);
    }
    if files.len() > MOST {
        let left = files.len() - MOST;
        cancelled.refused.push(format!("{}: {left} files more lie there; say it again for these", shown(named)));
    } else if cancelled.cancelled == before {
        cancelled.refused.push(format!("{}: nothing in this folder waits, is being uploaded or rests", shown(named)));
    }
}

/// The files in these folders and below, except in those that are `over`; no more than can be said to be too many.
fn files_below(mut open: Vec<PathBuf>, over: &BTreeSet<PathBuf>) -> BTreeSet<PathBuf> {
    let mut files = BTreeSet::new();
    while let Some(folder) = open.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && !over.contains(&path) => open.push(path),
                Ok(kind) if kind.is_file() && files.len() < FILES_SEEN => {
                    files.insert(path);
                }
                _ => {}
            }
        }
    }
    files
}

async fn cancel_one(shared: &Arc<Shared>, sought: &Sought) -> Result<u64, String> {
    let name = match sought {
        Sought::Path(path) => shown(path),
        Sought::Job(id) => id.to_string(),
    };
    let looking = async {
        loop {
            let in_memory = in_pool(shared, sought).await;
            if in_memory > 0 {
                return Ok(in_memory);
            }
            match at_rest(shared, sought).await {
                Found::Cancelled => return Ok(1),
                Found::Refused(reason) => return Err(format!("{name}: {reason}")),
                Found::Nowhere => tokio::time::sleep(AGAIN).await,
            }
        }
    };
    let late = |_| Err(format!("{name}: its last outcome is being recorded; try again"));
    tokio::time::timeout(SOUGHT, looking).await.unwrap_or_else(late)
}

async fn in_pool(shared: &Shared, sought: &Sought) -> u64 {
    let (reply, answer) = oneshot::channel();
    if shared.notes.send(Note::Cancel(sought.clone(), reply)).await.is_err() {
        return 0;
    }
    answer.await.unwrap_or(0) as u64
}

impl Pool {
    /// Gives up what is queued or in flight.
    pub(super) fn cancel(&mut self, sought: &Sought) -> usize {
        let means = |id: JobId, path: &Path, dropped: PathBuf| match sought {
            Sought::Job(job) => *job == id,
            Sought::Path(wanted) => wanted == path || *wanted == dropped,
        };
        let mut count = 0;
        for (id, running) in &self.running {
            let dropped = self.shared.folder(running.folder).path.join(&running.name);
            if means(*id, &running.path, dropped) && !running.cancel.is_cancelled() {
                running.cancel.cancel();
                count += 1;
            }
        }
        let queued = self.queued.iter().filter(|(id, queued)| {
            let job = &queued.task.job;
            means(**id, &job.path, job.folder.join(&job.name))
        });
        let ids: Vec<JobId> = queued.map(|(id, _)| *id).collect();
        for id in ids {
            let Some(queued) = self.queued.remove(&id) else { continue };
            self.handle(Input::Withdraw(id));
            let shared = Arc::clone(&self.shared);
            let Task { job, folder, .. } = *queued.task;
            self.shared.tracker.spawn(async move { give_up(&shared, job, folder).await });
            count += 1;
        }
        count
    }
}

/// Hands a job that is in nobody's hands to the recorder.
async fn give_up(shared: &Shared, job: Job, folder: FolderId) {
    let end = End::Refused(failure(Phase::Wait));
    if let Some(results) = shared.results() {
        // What some hosts have of a mirrored file already.
        let record = job.record.as_deref().and_then(|json| Record::parse(json.as_bytes()).ok());
        let mirrors = record.map(|record| record.mirrors).unwrap_or_default();
        let finished = Finished { job, folder, end, took: Duration::ZERO, worker: None, kept: None, mirrors };
        let _ = results.send(finished).await;
    }
}

/// Looks for the job in the ledger, and for its file in the drop folders.
async fn at_rest(shared: &Arc<Shared>, sought: &Sought) -> Found {
    let job = match sought {
        Sought::Job(id) => shared.ledger.job(*id).await.unwrap_or_default(),
        Sought::Path(path) => job_at(shared, path).await,
    };
    match (job, sought) {
        (Some(job), Sought::Path(path)) if is_over(&job) && job.path != *path => unseen(shared, path).await,
        (Some(job), _) => claim(shared, job).await,
        (None, Sought::Path(path)) => unseen(shared, path).await,
        (None, Sought::Job(_)) => Found::Refused("no such job".to_owned()),
    }
}

fn is_over(job: &Job) -> bool {
    !job.pending && matches!(job.stage, Stage::Uploaded | Stage::Done | Stage::Failed)
}

/// Takes a resting job for good. Under the lock of its host, so that it is not queued at the same time.
async fn claim(shared: &Shared, seen: Job) -> Found {
    match seen.stage {
        Stage::Uploaded | Stage::Done => {
            return Found::Refused("it is uploaded already; `pixchute undo` can delete it on some hosts".to_owned());
        }
        Stage::Failed => return Found::Refused("it was given up already and lies in failed/".to_owned()),
        Stage::Waiting | Stage::Started | Stage::Cooling => {}
    }
    let Some(folder) = shared.folder_of(&seen.folder) else {
        return Found::Refused(format!("{} is no drop folder any more", shown(&seen.folder)));
    };
    let Some(host) = shared.host_named(&seen.host).map(|id| shared.host(id)) else {
        return Found::Refused(format!("the host {} is not configured any more", seen.host));
    };
    let _claiming = host.claiming.lock().await;
    let Ok(Some(mut job)) = shared.ledger.job(seen.id).await else { return Found::Nowhere };
    let resting = job.stage == Stage::Cooling || (job.stage == Stage::Waiting && job.not_before.is_some());
    if job.pending || !resting {
        return Found::Nowhere;
    }
    if job.stage == Stage::Cooling
        && let Err(error) = job.advance(JobEvent::Requeue)
    {
        trouble("a job is not where it should be (a bug)", &error);
    }
    job.not_before = None;
    shared.slot(folder).busy.insert(job.path.clone());
    shared.open.fetch_add(1, Ordering::Relaxed);
    // As if it were queued: nobody else claims it from now on.
    shared.write(vec![Write::Put(Box::new(job.clone()))], Durability::Process).await;
    give_up(shared, job, folder).await;
    Found::Cancelled
}

/// A file in a drop folder that no job knows yet: it waits there until the queue has room, or until it is settled.
async fn unseen(shared: &Arc<Shared>, path: &Path) -> Found {
    let unknown = || Found::Refused("no waiting, running or resting upload of this name".to_owned());
    let folders = shared.folders();
    let own = |slot: &super::slots::FolderSlot| {
        let config = slot.config();
        [&config.done, &config.retry, &config.failed].into_iter().any(|dir| path.starts_with(dir))
    };
    let lies_in = folders.iter().find(|(_, slot)| path.starts_with(&slot.config().path));
    let Some((folder, slot)) = lies_in.filter(|_| !folders.iter().any(|(_, slot)| own(slot))) else {
        return unknown();
    };
    if slot.busy.contains(path) {
        return Found::Nowhere;
    }
    let (looked_at, follow) = (path.to_path_buf(), slot.config().follow_symlinks);
    let metadata = tokio::task::spawn_blocking(move || shelf::metadata(&looked_at, follow)).await;
    let Ok(Ok(metadata)) = metadata else { return unknown() };
    let Ok(name) = path.strip_prefix(&slot.config().path) else { return unknown() };
    let (fingerprint, name) = (Fingerprint::of(&metadata), name.to_path_buf());
    slot.busy.insert(path.to_path_buf());
    match inspect_file(shared, path.to_path_buf(), fingerprint, *folder).await {
        Ok(inspected) => {
            let settled = Settled { path: path.to_path_buf(), name, fingerprint, warning: None, inspected: None };
            let mut job = new_job(shared, *folder, &settled);
            job.image = Some(inspected.image);
            shared.open.fetch_add(1, Ordering::Relaxed);
            give_up(shared, job, *folder).await;
            Found::Cancelled
        }
        Err(refused) => {
            slot.busy.remove(path);
            slot.hints().hint(path.to_path_buf());
            Found::Refused(format!("no upload of this name, and no picture either: {refused}"))
        }
    }
}
