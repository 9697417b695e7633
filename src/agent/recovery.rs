//! The start: what an earlier life left unfinished is taken up, by the table in [`crate::shelf`].
//!
//! | found | done |
//! |---|---|
//! | no ledger, or it was set aside | filled from the manifests (before anything is sent) |
//! | a manifest with higher numbers than the ledger | the ledger went back to an earlier state: what they say is put in |
//! | `started`, with a final line in the manifest | the ledger could not be written when it ended: as the line says |
//! | `waiting`, `started` | due at once; `started` counts as an unknown outcome |
//! | a result with its bookkeeping unfinished | finished: line unless it is there, sidecar, move |

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::runtime::Handle;

use super::AgentError;
use super::desk::{Desk, Entry};
use super::recorder::Finished;
use super::shared::Shared;
use super::verdict::End;
use super::{pulse, steps};
use crate::config::{After, Folder};
use crate::job::{Event as JobEvent, Job, JobId, Outcome, Stage};
use crate::ledger::{Durability, HostPause, LedgerError, Memo, Write};
use crate::record::{Record, manifest, rebuild};
use crate::telemetry::{Event, Fields, emit, shown, trouble};

/// The kind of [`Memo`] that says how far the ledger was when a folder's manifests had more.
const BEHIND: &str = "behind";

/// How many rows are read or written at a time.
const PAGE: usize = 512;

/// How often the start tries to write to the ledger before it leaves another try to the service manager.
const TRIES: u32 = 30;

/// How often a manifest is read that is needed and cannot be read.
const READS: u32 = 3;

/// The time between two of these.
const AGAIN: Duration = Duration::from_secs(1);

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
    } else {
        catch_up(shared).await?;
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
            let told = told_by_manifest(shared, &job);
            // Before anything is sent: a twin is linked to it.
            writes.extend(told.clone().map(|told| Write::Put(Box::new(told))));
            let job = told.unwrap_or(job);
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
    // In the order of their lines, not in that of their jobs.
    outstanding.sort_by_key(|entry: &Entry| entry.record.seq);
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

/// A job whose last line was written while the ledger could not be, at the end of the last run: what the line says.
fn told_by_manifest(shared: &Shared, job: &Job) -> Option<Job> {
    let folder = shared.folder_of(&job.folder).filter(|_| job.stage == Stage::Started && !job.pending)?;
    let manifest = shared.folder(folder).manifest.clone();
    let line = manifest::find(&manifest, job.id, |line| line.status.is_final()).ok().flatten()?;
    let stage = if line.status.is_success() { Stage::Uploaded } else { Stage::Failed };
    Some(Job { stage, attempts: line.attempts, record: Some(line.json()), pending: true, ..job.clone() })
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
        job: Job { record: Some(record.json()), ..job },
        folder,
        record,
        target,
        perhaps_written: true,
        wants_line: true,
        line_done: false,
        shelved: false,
        refused_since: None,
        replaced: false,
        took,
        worker: None,
        failure: None,
    })))
}

/// Fills an empty ledger from the manifests of all folders that are there.
async fn rebuild_ledger(shared: &Arc<Shared>) -> Result<(), AgentError> {
    for (_, slot) in shared.folders() {
        let config = slot.config();
        let count = read_manifests(shared, &config, 0).await?;
        repaired(&config, count, |manifest| format!("the ledger was rebuilt from {manifest}: {count} files known"));
    }
    Ok(completed(shared).await?)
}

/// Puts in what the manifests know and the ledger does not: it was taken from a backup, its log lost an end that was damaged
/// (SQLite goes back to the last whole transaction without a word), or it could not be written when the last run ended.
///
/// The first job that is put in raises the ledger's number. So what was known before is noted first, and stays noted for each
/// folder until its manifests have been read: this start may be cut off, and a folder may be away.
async fn catch_up(shared: &Arc<Shared>) -> Result<(), AgentError> {
    let known = shared.ledger.last_seq().await?;
    let noted = shared.ledger.memos(BEHIND.to_owned()).await?;
    let folders: Vec<_> = shared.folders().iter().map(|(_, slot)| slot.config()).collect();
    let look = move || folders.into_iter().map(|folder| (highest_of(&folder), folder)).collect::<Vec<_>>();
    let looked = tokio::task::spawn_blocking(look).await.expect("looking returns errors and does not panic");
    let looked: Vec<(Option<u64>, Arc<Folder>, Option<u64>)> = looked
        .into_iter()
        .map(|(highest, folder)| {
            let note = noted.iter().find(|memo| memo.key == key_of(&folder)).and_then(|memo| memo.value.parse().ok());
            (highest, folder, note)
        })
        .collect();
    let is_ahead = |highest: Option<u64>, note: Option<u64>| highest.is_some_and(|last| last > note.unwrap_or(known));
    let any = looked.iter().any(|(highest, _, note)| is_ahead(*highest, *note));
    let mut notes = Vec::new();
    for (highest, folder, note) in &looked {
        let stays = is_ahead(*highest, *note) || highest.is_none() && (any || note.is_some());
        match note {
            None if stays => notes.push(note_of(folder, known)),
            Some(_) if !stays => notes.push(Write::Drop { kind: BEHIND.to_owned(), key: key_of(folder) }),
            _ => {}
        }
    }
    shared.write(notes, Durability::Process).await;
    for (_, folder, note) in looked.into_iter().filter(|(highest, _, note)| is_ahead(*highest, *note)) {
        pulse::starting(true);
        let since = note.unwrap_or(known);
        let count = read_manifests(shared, &folder, since + 1).await?;
        repaired(&folder, count, |manifest| {
            format!("the ledger lacked what {manifest} has after number {since}: {count} files put in")
        });
        let read = Write::Drop { kind: BEHIND.to_owned(), key: key_of(&folder) };
        shared.write(vec![read], Durability::Process).await;
    }
    Ok(())
}

/// The highest number of a folder's manifests; none if they are not there, or cannot be read now.
fn highest_of(folder: &Folder) -> Option<u64> {
    manifest::last_seq(&folder.manifest).ok().filter(|last| *last > 0)
}

fn key_of(folder: &Folder) -> String {
    folder.path.to_string_lossy().into_owned()
}

fn note_of(folder: &Folder, known: u64) -> Write {
    Write::Keep(Memo { kind: BEHIND.to_owned(), key: key_of(folder), value: known.to_string() })
}

fn repaired(folder: &Folder, count: usize, message: impl Fn(&str) -> String) {
    if count > 0 {
        let fields = Fields { folder: Some(&folder.path), ..Fields::default() };
        emit(Event::LedgerRepaired, &fields, format_args!("{}", message(&shown(&folder.manifest).to_string())));
    }
}

/// Puts the jobs of a folder's manifests into the ledger whose last line has the number `from` or a higher one; gives how
/// many. Until that is done nothing may be sent: a manifest that cannot be read is an error, not an empty one.
async fn read_manifests(shared: &Arc<Shared>, folder: &Arc<Folder>, from: u64) -> Result<usize, AgentError> {
    let (config, into, runtime) = (Arc::clone(folder), Arc::clone(shared), Handle::current());
    let read = move || patiently(|| into_ledger(&config, from, &into, &runtime));
    let unreadable = |source| AgentError::Manifest { path: folder.manifest.clone(), source };
    let read = tokio::task::spawn_blocking(read).await.map_err(|error| unreadable(io::Error::other(error)))?;
    let (count, highest_seq) = read.map_err(unreadable)?;
    if highest_seq > 0 {
        shared.write(vec![Write::Seq(highest_seq)], Durability::Process).await;
    }
    Ok(count)
}

/// Reads a few times what a disk with trouble does not give at once; what was written already is written again, which changes
/// nothing. Blocking.
fn patiently<T>(mut read: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 1..READS {
        match read() {
            Err(error) if error.kind() != io::ErrorKind::PermissionDenied => std::thread::sleep(AGAIN),
            done => return done,
        }
    }
    read()
}

/// Says that the ledger is complete; a disk that is full or has trouble gets [`TRIES`] times to take that.
async fn completed(shared: &Shared) -> Result<(), LedgerError> {
    for _ in 1..TRIES {
        match shared.ledger.complete().await {
            Err(LedgerError::Storage(reason)) => shared.ledger_is_ill(&reason),
            done => {
                shared.ledger_is_well();
                return done;
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
    shared.ledger.complete().await
}

/// One folder's jobs into the ledger, page by page; gives their number and the highest `seq`. Blocking.
fn into_ledger(folder: &Folder, from: u64, shared: &Shared, runtime: &Handle) -> io::Result<(usize, u64)> {
    let mut jobs = rebuild::jobs(folder, from)?;
    let highest_seq = jobs.highest_seq();
    let mut count = 0;
    loop {
        let page: Vec<Job> = jobs.by_ref().take(PAGE).collect::<io::Result<_>>()?;
        if page.is_empty() {
            return Ok((count, highest_seq));
        }
        let mut lacking = Vec::new();
        for job in page {
            if from == 0 || runtime.block_on(is_lacking(shared, &job)).map_err(io::Error::other)? {
                lacking.push(Write::Put(Box::new(job)));
            }
        }
        count += lacking.len();
        runtime.block_on(shared.write(lacking, Durability::Process));
    }
}

/// Whether the ledger does not know what the last line of `job` says. If it does, it may know something newer besides, such as
/// that the user wants another try.
async fn is_lacking(shared: &Shared, job: &Job) -> Result<bool, LedgerError> {
    let row = shared.ledger.job(job.id).await?;
    Ok(row.is_none_or(|row| seq_of(&row) < seq_of(job)))
}

fn seq_of(job: &Job) -> u64 {
    job.record.as_deref().and_then(|record| Record::parse(record.as_bytes()).ok()).map_or(0, |record| record.seq)
}
