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

use tokio::runtime::Handle;

use super::AgentError;
use super::recorder::{Desk, Entry};
use super::shared::{FolderId, Shared};
use crate::config::{After, Folder};
use crate::job::{Event as JobEvent, Job, JobId, Stage};
use crate::ledger::{Durability, HostPause, Write};
use crate::record::{Record, rebuild};
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
    pub(super) pauses: Vec<HostPause>,
}

/// Takes up what an earlier life left.
pub(super) async fn recover(shared: &Arc<Shared>, mut desk: Desk, rebuild: bool) -> Result<Recovered, AgentError> {
    if rebuild {
        rebuild_ledger(shared).await?;
    }
    desk = open_manifests(shared, desk).await;
    let mut outstanding = Vec::new();
    let mut after: Option<JobId> = None;
    loop {
        let jobs = shared.ledger.unfinished(after, PAGE).await?;
        let Some(last) = jobs.last() else { break };
        after = Some(last.id);
        let mut writes = Vec::new();
        for job in jobs {
            take_up(shared, job, &mut writes, &mut outstanding);
        }
        shared.write(writes, Durability::Process).await;
    }
    for (config, slot) in shared.config.folders.iter().zip(&shared.folders) {
        slot.in_place.store(any_in_place(shared, config).await?, Ordering::Relaxed);
    }
    let seq = shared.ledger.last_seq().await?;
    let pauses = shared.ledger.pauses().await?;
    Ok(Recovered { desk, seq, outstanding, pauses })
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
    let folders: Vec<_> = shared.config.folders.clone();
    let opened = tokio::task::spawn_blocking(move || {
        for (index, folder) in folders.iter().enumerate() {
            if folder.manifest.exists()
                && let Err(error) = desk.open(FolderId(index))
            {
                trouble(&format!("{} cannot be opened for now", shown(&folder.manifest)), &error);
            }
        }
        desk
    });
    opened.await.expect("opening manifests returns errors and does not panic")
}

fn take_up(shared: &Arc<Shared>, mut job: Job, writes: &mut Vec<Write>, outstanding: &mut Vec<Entry>) {
    if job.pending {
        if let Some(entry) = unfinished_entry(shared, job) {
            shared.folders[entry.folder.0].busy.insert(entry.from.clone());
            shared.open.fetch_add(1, Ordering::Relaxed);
            outstanding.push(entry);
        }
        return;
    }
    let was_started = job.stage == Stage::Started;
    if job.advance(JobEvent::GiveBack).is_err() {
        // `uploaded` with nothing pending: the last step was all that was missing.
        if job.advance(JobEvent::Record).is_ok() {
            writes.push(Write::Put(Box::new(job)));
        }
        return;
    }
    if was_started {
        job.unknown_outcomes += 1;
    }
    job.not_before = Some(shared.clock.now());
    writes.push(Write::Put(Box::new(job)));
}

/// A result that may or may not have reached the manifest.
fn unfinished_entry(shared: &Shared, job: Job) -> Option<Entry> {
    let folder = shared.folder_of(&job.folder)?;
    let record = match Record::parse(job.record.as_deref()?.as_bytes()) {
        Ok(record) => record,
        Err(error) => {
            trouble(&format!("the record of job {} in the ledger cannot be read", job.id), &error);
            return None;
        }
    };
    let target = record.moved_to.as_ref().map(|moved_to| shared.config.folders[folder.0].path.join(moved_to));
    let took = std::time::Duration::from_millis(record.duration_ms);
    Some(Entry {
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
    })
}

/// Fills an empty ledger from the manifests of all folders that are there. Until that is done nothing may be sent: a
/// manifest that cannot be read is an error, not an empty one.
async fn rebuild_ledger(shared: &Arc<Shared>) -> Result<(), AgentError> {
    for config in &shared.config.folders {
        let (folder, into) = (config.clone(), Arc::clone(shared));
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
