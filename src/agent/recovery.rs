//! The start: what an earlier life left unfinished is taken up, by the table in [`crate::shelf`].
//!
//! | found | done |
//! |---|---|
//! | no ledger, or it was set aside | filled from the manifests (before anything is sent) |
//! | `waiting`, `started` | due at once; `started` counts as an unknown outcome |
//! | a result with its bookkeeping unfinished | finished: line unless it is there, sidecar, move |

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::runtime::Handle;

use super::AgentError;
use super::recorder::{Desk, Entry, Finished};
use super::shared::Shared;
use super::steps;
use super::verdict::End;
use crate::config::{After, Folder};
use crate::job::{Event as JobEvent, Job, JobId, Outcome, Stage};
use crate::ledger::{Durability, HostPause, Memo, Write};
use crate::record::{Record, manifest, rebuild};
use crate::telemetry::{Event, Fields, emit, shown, trouble};

/// How many rows are read or written at a time.
const PAGE: usize = 512;

/// What the start found.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) desk: Desk,
    pub(super) seq: u64,
    /// Results whose bookkeeping is to be finished first.
    pub(super) outstanding: Vec<Entry>,
    /// Answers of hosts that have no line yet.
    pub(super) answered: Vec<Finished>,
    pub(super) pauses: Vec<HostPause>,
    /// Circuits that were open.
    pub(super) circuits: Vec<Memo>,
    /// What was begun towards hosts with a rate or a quota.
    pub(super) budgets: Vec<Memo>,
}

/// Takes up what an earlier life left.
pub(super) async fn recover(shared: &Arc<Shared>, mut desk: Desk, rebuild: bool) -> Result<Recovered, AgentError> {
    if rebuild {
        rebuild_ledger(shared).await?;
    }
    shared.orphans_as_before().await?;
    desk = open_manifests(shared, desk).await;
    let (mut outstanding, mut answered) = (Vec::new(), Vec::new());
    let mut after: Option<JobId> = None;
    loop {
        let jobs = shared.ledger.unfinished(after, PAGE).await?;
        let Some(last) = jobs.last() else { break };
        after = Some(last.id);
        let mut writes = Vec::new();
        for job in jobs {
            if job.pending {
                match finish_later(shared, job) {
                    Some(Unfinished::Entry(entry)) => outstanding.push(*entry),
                    Some(Unfinished::Answer(finished)) => answered.push(*finished),
                    None => {}
                }
            } else {
                writes.extend(take_up(shared, job));
            }
        }
        shared.write(writes, Durability::Process).await;
    }
    for (_, slot) in shared.folders() {
        slot.in_place.store(any_in_place(shared, &slot.config()).await?, Ordering::Relaxed);
    }
    let seq = shared.ledger.last_seq().await?;
    let pauses = shared.ledger.pauses().await?;
    let circuits = shared.ledger.memos(steps::CIRCUITS.to_owned()).await?;
    let budgets = shared.ledger.memos(steps::BUDGETS.to_owned()).await?;
    Ok(Recovered { desk, seq, outstanding, answered, pauses, circuits, budgets })
}

/// Whether files of jobs lie, or will lie, in the drop folder itself.
async fn any_in_place(shared: &Shared, folder: &Folder) -> Result<bool, AgentError> {
    if folder.after != After::Move {
        return Ok(true);
    }
    // The paths below a folder are those between it with a slash and with the character after the slash; those below its
    // own folders are left out.
    let end = |path: &Path, character: &str| {
        let mut bytes = path.as_os_str().to_owned();
        bytes.push(character);
        PathBuf::from(bytes)
    };
    let mut own = [&folder.done, &folder.retry, &folder.failed];
    own.sort();
    let mut from = end(&folder.path, "/");
    for dir in own.into_iter().filter(|dir| dir.starts_with(&folder.path)) {
        if shared.ledger.any_between(from, dir.clone()).await? {
            return Ok(true);
        }
        from = end(dir, "0");
    }
    Ok(shared.ledger.any_between(from, end(&folder.path, "0")).await?)
}

/// Opens the manifests of the folders that are there, which mends torn last lines.
async fn open_manifests(shared: &Shared, mut desk: Desk) -> Desk {
    let folders = shared.folders();
    let opened = tokio::task::spawn_blocking(move || {
        for (id, slot) in folders {
            let folder = slot.config();
            if folder.manifest.exists()
                && let Err(error) = desk.open(id)
            {
                trouble(&format!("{} cannot be opened for now", shown(&folder.manifest)), &error);
            }
        }
        desk
    });
    opened.await.expect("opening manifests returns errors and does not panic")
}

/// A job whose attempt was cut off is queued again.
fn take_up(shared: &Shared, mut job: Job) -> Option<Write> {
    let was_started = job.stage == Stage::Started;
    if job.advance(JobEvent::GiveBack).is_err() {
        // `uploaded` with nothing pending: the last step was all that was missing.
        return job.advance(JobEvent::Record).is_ok().then(|| Write::Put(Box::new(job)));
    }
    job.unknown_outcomes += u32::from(was_started);
    if was_started && let Some(host) = shared.host_named(&job.host) {
        shared.count_orphan(&shared.host(host));
    }
    job.not_before = Some(shared.clock.now());
    Some(Write::Put(Box::new(job)))
}

/// Bookkeeping that was interrupted.
enum Unfinished {
    /// The record is complete; its line may be in the manifest.
    Entry(Box<Entry>),
    /// The host's answer is known and nothing else.
    Answer(Box<Finished>),
}

/// What is left to do for a job with a pending record. Its path is nobody else's until then.
fn finish_later(shared: &Shared, job: Job) -> Option<Unfinished> {
    let folder = shared.folder_of(&job.folder)?;
    let mut record = match Record::parse(job.record.as_deref()?.as_bytes()) {
        Ok(record) => record,
        Err(error) => {
            trouble(&format!("the record of job {} in the ledger cannot be read", job.id), &error);
            return None;
        }
    };
    let slot = shared.slot(folder);
    let config = slot.config();
    slot.busy.insert(job.path.clone());
    shared.open.fetch_add(1, Ordering::Relaxed);
    let took = Duration::from_millis(record.duration_ms);
    if record.seq == 0 {
        match manifest::find(&config.manifest, job.id, |line| line.status == record.status) {
            Ok(Some(line)) => record = line,
            // Not there, or the folder is away: the recorder sees to it.
            _ => {
                let end = End::Outcome(Outcome::Uploaded(record.links()?));
                let job = Job { stage: Stage::Started, record: None, pending: false, ..job };
                let (mirrors, kept) = (record.mirrors, None);
                let answer = Finished { job, folder, end, took, worker: None, kept, mirrors };
                return Some(Unfinished::Answer(Box::new(answer)));
            }
        }
    }
    let target = record.moved_to.as_ref().map(|moved_to| config.path.join(moved_to));
    Some(Unfinished::Entry(Box::new(Entry {
        from: job.path.clone(),
        job,
        folder,
        record,
        target,
        perhaps_written: true,
        wants_line: true,
        line_done: false,
        took,
        worker: None,
        failure: None,
    })))
}

/// Fills an empty ledger from the manifests of all folders that are there. Until that is done nothing may be sent: a
/// manifest that cannot be read is an error, not an empty one.
async fn rebuild_ledger(shared: &Arc<Shared>) -> Result<(), AgentError> {
    for (_, slot) in shared.folders() {
        let config = slot.config();
        let (folder, into) = (Arc::clone(&config), Arc::clone(shared));
        let runtime = tokio::runtime::Handle::current();
        let read = tokio::task::spawn_blocking(move || rebuild_folder(&folder, &into, &runtime)).await;
        let unreadable = |source| AgentError::Manifest { path: config.manifest.clone(), source };
        let (count, highest_seq) = read.map_err(|error| unreadable(io::Error::other(error)))?.map_err(unreadable)?;
        shared.write(vec![Write::Seq(highest_seq)], Durability::Process).await;
        if count > 0 {
            emit(
                Event::LedgerRepaired,
                &Fields { folder: Some(&config.path), ..Fields::default() },
                format_args!("the ledger was rebuilt from {}: {count} files known", shown(&config.manifest)),
            );
        }
    }
    Ok(shared.ledger.complete().await?)
}

/// One folder's jobs into the ledger, page by page; gives their number and the highest `seq`.
fn rebuild_folder(folder: &Folder, shared: &Shared, runtime: &Handle) -> io::Result<(usize, u64)> {
    let mut jobs = rebuild::jobs(folder)?;
    let highest_seq = jobs.highest_seq();
    let mut count = 0;
    loop {
        let page: Vec<Write> =
            jobs.by_ref().take(PAGE).map(|job| job.map(|job| Write::Put(Box::new(job)))).collect::<io::Result<_>>()?;
        if page.is_empty() {
            return Ok((count, highest_seq));
        }
        count += page.len();
        runtime.block_on(shared.write(page, Durability::Process));
    }
}
