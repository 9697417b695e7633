//! The recorder: turns outcomes into lasting facts, in the one order that survives a crash at any point.
//!
//! ledger (result, durable) → manifest line (fsynced) → sidecar → move → ledger (`done`). Everything that has gathered
//! is written as one batch, so that one fsync serves many; no worker waits for it. The steps of [`Desk`] block and run on
//! a blocking thread.
//!
//! Trouble with the ledger blocks everything until it is well again; trouble with one folder's manifest blocks that
//! folder only, and its results, safe in the ledger, are tried again every [`AGAIN`].

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::live;
use super::recovery::Recovered;
use super::shared::{FolderId, Note, Shared};
use super::verdict::{self, End, Recorded, Verdict};
use crate::clock::{WallTime, human};
use crate::config::{After, Cooldown, Dedupe, Folder};
use crate::job::{ErrorClass, Event as JobEvent, Failure, Fingerprint, Job, JobId, Links, Outcome, Stage};
use crate::ledger::{Answer, Durability, Write};
use crate::record::manifest::{Manifest, Repaired};
use crate::record::{Mirror, Record, RecordError, Status, sidecar};
use crate::shelf::{self, ShelfError};
use crate::telemetry::{Event, Fields, emit, shown, trouble};

/// Results that may wait for the recorder. When it is full the disk is slower than the network, and workers wait.
pub(super) const RESULTS: usize = 256;

/// How many results are written as one batch at most: bounds what one fsync waits for.
const BATCH: usize = 256;

/// How long after a failed write it is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// A job whose attempt is over.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) job: Job,
    pub(super) folder: FolderId,
    pub(super) end: End,
    /// How long the attempt took.
    pub(super) took: Duration,
    /// The slot it had, for the log.
    pub(super) worker: Option<usize>,
    /// What each host has, with `policy = "mirror"`.
    pub(super) mirrors: Vec<Mirror>,
    /// The answer of the host is on its way into the ledger.
    pub(super) kept: Option<Answered>,
}

/// A write to the ledger whose end nobody has looked at yet.
pub(super) struct Answered(pub(super) Answer<()>);

impl std::fmt::Debug for Answered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Answered")
    }
}

/// A result on its way through the desk.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) job: Job,
    pub(super) folder: FolderId,
    pub(super) record: Record,
    /// Where the file lay before.
    pub(super) from: PathBuf,
    /// Where it shall lie.
    pub(super) target: Option<PathBuf>,
    /// The line may be in the manifest already (after a crash).
    pub(super) perhaps_written: bool,
    /// A manifest line is wanted (`dedupe = "skip"` wants none).
    pub(super) wants_line: bool,
    pub(super) line_done: bool,
    pub(super) took: Duration,
    pub(super) worker: Option<usize>,
    pub(super) failure: Option<Failure>,
}

/// What became of a batch, before anything is written.
#[derive(Debug, Default)]
struct Decided {
    /// For the manifest.
    entries: Vec<Entry>,
    /// For the ledger, without the entries.
    writes: Vec<Write>,
    /// Jobs that end here: id, folder, path, and whether the path is to be looked at again.
    released: Vec<(JobId, FolderId, PathBuf, bool)>,
}

/// What lies where a job's file lay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// The file, untouched.
    Same,
    /// Something else: it was written to or replaced.
    Other,
    /// Nothing.
    Gone,
}

fn find(job: &Job) -> Found {
    match std::fs::symlink_metadata(&job.path) {
        Ok(now) if Fingerprint::of(&now) == job.fingerprint => Found::Same,
        Ok(_) => Found::Other,
        Err(_) => Found::Gone,
    }
}

/// The end of an attempt whose file was written to meanwhile: no link is published (R12).
fn changed(end: End) -> End {
    match end {
        End::Outcome(Outcome::Uploaded(links)) => End::Outcome(Outcome::Changed { links: Some(links) }),
        End::Known(_) => End::Outcome(Outcome::Changed { links: None }),
        end => end,
    }
}

/// The blocking half: manifests and files.
#[derive(Debug)]
pub(super) struct Desk {
    shared: Arc<Shared>,
    /// The open ones, each with the path it was opened at.
    manifests: HashMap<FolderId, (PathBuf, Manifest)>,
}

impl Desk {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::clone(shared), manifests: HashMap::new() }
    }

    fn folder(&self, folder: FolderId) -> Arc<Folder> {
        self.shared.folder(folder)
    }

    /// Opens the manifest of a folder and mends its last line. The folder must be there.
    pub(super) fn open(&mut self, folder: FolderId) -> std::io::Result<()> {
        let config = self.folder(folder);
        if self.manifests.get(&folder).is_some_and(|(path, _)| *path == config.manifest) {
            return Ok(());
        }
        let (manifest, repaired) = Manifest::open(&config.manifest)?;
        log_repair(&config, &repaired);
        self.manifests.insert(folder, (config.manifest.clone(), manifest));
        Ok(())
    }

    /// What follows from each end, where the files go, and what the manifest will say.
    fn decide(&self, finished: Vec<Finished>, now: WallTime, mut seq: u64, cooldown: &Cooldown) -> Decided {
        let mut decided = Decided::default();
        let mut taken = HashSet::new();
        for Finished { job, folder, end, took, worker, mirrors, .. } in finished {
            let found = find(&job);
            let end = if found == Found::Other { changed(end) } else { end };
            let (id, path, known) = (job.id, job.path.clone(), matches!(end, End::Known(_)));
            if let End::Outcome(Outcome::Changed { links }) = &end {
                log_changed(&job, links.as_ref());
            }
            match verdict::decide(job, end, now, cooldown, super::shared::jitter()) {
                Ok(Verdict::Record(recorded)) => {
                    seq += 1;
                    let superseded = self.supersede(folder, &recorded.job);
                    decided.writes.extend(superseded.into_iter().map(Write::Remove));
                    let target = self.target(folder, &recorded.job, found, &mut taken);
                    let config = self.folder(folder);
                    let mut record = build_record(&recorded, seq, now, took, &config, target.as_deref());
                    record.mirrors = mirrors;
                    self.shared.albums.name(&mut record, &recorded.job.name, &config);
                    decided.entries.push(Entry {
                        job: Job { record: Some(record.json()), pending: true, ..recorded.job },
                        folder,
                        record,
                        from: path,
                        target,
                        perhaps_written: false,
                        wants_line: !(known && config.dedupe == Dedupe::Skip),
                        line_done: false,
                        took,
                        worker,
                        failure: recorded.failure,
                    });
                }
                Ok(Verdict::Forget { look_again }) => {
                    decided.writes.push(Write::Remove(id));
                    decided.released.push((id, folder, path, look_again));
                }
                Ok(Verdict::GiveBack(job)) => {
                    decided.writes.push(Write::Put(job));
                    decided.released.push((id, folder, path, false));
                }
                Err(error) => trouble("a job is not where it should be (a bug)", &error),
            }
        }
        decided
    }

    /// A file that was moved back by hand from `retry/` or `failed/` has left a sidecar there, and a job in the ledger:
    /// both are of the past now. Removes the sidecars and gives the jobs.
    fn supersede(&self, folder: FolderId, job: &Job) -> Vec<JobId> {
        let config = self.folder(folder);
        let left_behind = |dir: &PathBuf| {
            let place = dir.join(&job.name);
            let record = sidecar::read(&place)?;
            let same = (record.bytes, record.blake3) == (job.fingerprint.len, job.image.map(|image| image.hash));
            if record.job == job.id || !same || place.symlink_metadata().is_ok() {
                return None;
            }
            sidecar::remove_if_of(&place, record.job).ok()?;
            Some(record.job)
        };
        [&config.retry, &config.failed].into_iter().filter_map(left_behind).collect()
    }

    /// Where the file of a job goes, if it is still there and goes anywhere.
    fn target(&self, folder: FolderId, job: &Job, found: Found, taken: &mut HashSet<PathBuf>) -> Option<PathBuf> {
        let config = self.folder(folder);
        let dir = match job.stage {
            Stage::Uploaded | Stage::Done if config.after == After::Move => &config.done,
            Stage::Cooling => &config.retry,
            Stage::Failed => &config.failed,
            Stage::Uploaded | Stage::Done | Stage::Waiting | Stage::Started => return None,
        };
        if found != Found::Same {
            return None;
        }
        if job.path.starts_with(dir) {
            return Some(job.path.clone());
        }
        let target = shelf::free_name(dir, &job.name, taken).ok()?;
        taken.insert(target.clone());
        Some(target)
    }

    /// Appends the lines and makes them durable, folder by folder. Entries whose line could not be written stay as they
    /// are; the error of each such folder is returned.
    fn write_lines(&mut self, entries: &mut [Entry]) -> Vec<(FolderId, std::io::Error)> {
        let folders: HashSet<FolderId> = entries.iter().filter(|e| !e.line_done).map(|e| e.folder).collect();
        let mut troubles = Vec::new();
        for folder in folders {
            let mut of_folder: Vec<&mut Entry> =
                entries.iter_mut().filter(|e| e.folder == folder && !e.line_done).collect();
            match self.write_folder_lines(folder, &mut of_folder) {
                Ok(()) => of_folder.iter_mut().for_each(|entry| entry.line_done = true),
                Err(error) => {
                    // After a failed append nobody knows which lines are there: look before the next try.
                    of_folder.iter_mut().for_each(|entry| entry.perhaps_written = true);
                    troubles.push((folder, error));
                }
            }
        }
        troubles
    }

    fn write_folder_lines(&mut self, folder: FolderId, entries: &mut [&mut Entry]) -> std::io::Result<()> {
        self.open(folder)?;
        let path = self.folder(folder).manifest.clone();
        let mut lines = Vec::with_capacity(entries.len());
        for entry in entries.iter().filter(|entry| entry.wants_line) {
            let written =
                entry.perhaps_written && crate::record::manifest::holds(&path, entry.record.job, entry.record.seq)?;
            if !written {
                lines.push(entry.record.line());
            }
        }
        let Some((_, manifest)) = self.manifests.get_mut(&folder) else { return Ok(()) };
        manifest.append(&lines).map_err(|error| error.source)?;
        manifest.sync()
    }

    /// Sidecars and moves of the entries whose lines are written, then the directories, so that the moves are durable.
    fn shelve(&self, entries: &mut [Entry]) {
        let mut dirs = HashSet::new();
        for entry in entries.iter_mut().filter(|entry| entry.line_done) {
            self.shelve_one(entry);
            if entry.job.path != entry.from {
                dirs.extend(entry.from.parent().map(Path::to_path_buf));
                dirs.extend(entry.job.path.parent().map(Path::to_path_buf));
            }
        }
        for dir in dirs {
            if let Err(error) = shelf::sync_dir(&dir) {
                trouble("a folder could not be synced to disk", &error);
            }
        }
    }

    fn shelve_one(&self, entry: &mut Entry) {
        let config = self.folder(entry.folder);
        let target = entry.target.clone();
        let keeps = config.after == After::Keep && matches!(entry.job.stage, Stage::Uploaded);
        let beside = if keeps { Some(entry.from.clone()) } else { target.clone() };
        if let Some(beside) = beside.filter(|_| config.sidecars)
            && let Err(error) = sidecar::write(&beside, &entry.record)
        {
            trouble("a sidecar could not be written", &error);
        }
        if let Some(target) = target.filter(|target| *target != entry.from) {
            self.move_file(entry, target);
        }
        if config.after == After::Delete && entry.job.stage == Stage::Uploaded {
            delete_if_unchanged(&entry.job);
        }
        // The sidecar of an earlier outcome lies where the file lay.
        let rested = entry.from.starts_with(&config.retry) || entry.from.starts_with(&config.failed);
        if rested && entry.job.path != entry.from {
            let _ = sidecar::remove_if_of(&entry.from, entry.job.id);
        }
    }

    fn move_file(&self, entry: &mut Entry, mut target: PathBuf) {
        let config = self.folder(entry.folder);
        let dir = match entry.job.stage {
            Stage::Cooling => &config.retry,
            Stage::Failed => &config.failed,
            _ => &config.done,
        };
        let mut result = shelf::move_file(&entry.from, &target);
        if matches!(result, Err(ShelfError::Taken { .. })) {
            // Somebody took the name since it was chosen: the sidecar and the ledger tell the new one.
            let _ = sidecar::remove_if_of(&target, entry.job.id);
            if let Ok(free) = shelf::free_name(dir, &entry.job.name, &HashSet::new()) {
                entry.record = entry.record.clone().with_move(&config.path, &free);
                let _ = sidecar::write(&free, &entry.record);
                result = shelf::move_file(&entry.from, &free);
                target = free;
            }
        }
        match result {
            Ok(()) => entry.job.path = target,
            // After a crash: it was moved already.
            Err(ShelfError::Vanished { .. }) if target.exists() => entry.job.path = target,
            Err(error) => {
                let _ = sidecar::remove_if_of(&target, entry.job.id);
                trouble("a file stays where it is", &error);
            }
        }
        if let Ok(now) = std::fs::symlink_metadata(&entry.job.path) {
            entry.job.fingerprint = Fingerprint::of(&now);
        }
    }
}

/// `after = "delete"`: only if the file still has the content that was sent.
fn delete_if_unchanged(job: &Job) {
    let same = shelf::hash_of(&job.path).is_ok_and(|hash| job.image.is_some_and(|image| image.hash == hash));
    if same && let Err(error) = shelf::remove(&job.path) {
        trouble("an uploaded file could not be deleted", &error);
    }
}

/// The recorder's task.
#[derive(Debug)]
pub(super) struct Recorder {
    shared: Arc<Shared>,
    desk: Option<Desk>,
    seq: u64,
    /// In the ledger, not yet in their folder's manifest.
    outstanding: Vec<Entry>,
    /// Answers of hosts that an earlier life wrote down and did not come to record.
    answered: Vec<Finished>,
}

impl Recorder {
    /// A recorder that first takes up what was recovered.
    pub(super) fn new(shared: Arc<Shared>, recovered: Recovered) -> Self {
        let Recovered { desk, seq, outstanding, answered, .. } = recovered;
        Self { shared, desk: Some(desk), seq, outstanding, answered }
    }

    /// Records until every sender is gone and everything is written; gives up on what cannot be written then, which the
    /// ledger knows and the next start finishes.
    pub(super) async fn run(mut self, mut results: mpsc::Receiver<Finished>) {
        let answered = std::mem::take(&mut self.answered);
        self.record(answered).await;
        let mut batch = Vec::with_capacity(BATCH);
        let mut again = Instant::now();
        loop {
            let wait = self.outstanding.is_empty();
            tokio::select! {
                received = results.recv_many(&mut batch, BATCH) => {
                    if received == 0 {
                        break;
                    }
                    let finished = std::mem::take(&mut batch);
                    self.record(finished).await;
                }
                () = tokio::time::sleep_until(again), if !wait => {
                    let entries = std::mem::take(&mut self.outstanding);
                    self.file(entries).await;
                    again = Instant::now() + AGAIN;
                }
            }
        }
        let entries = std::mem::take(&mut self.outstanding);
        self.file(entries).await;
    }

    async fn record(&mut self, mut finished: Vec<Finished>) {
        if finished.is_empty() {
            return;
        }
        let kept = kept(&mut finished).await;
        let (now, seq, cooldown) = (self.shared.clock.now(), self.seq, self.shared.config().cooldown.clone());
        let decided = self.at_the_desk(move |desk| desk.decide(finished, now, seq, &cooldown)).await;
        self.seq = decided.entries.iter().map(|entry| entry.record.seq).max().unwrap_or(seq);
        let mut writes = decided.writes;
        // What is in the ledger already is made durable by this write too.
        let unwritten = decided.entries.iter().filter(|entry| !kept.contains(&entry.job.id));
        writes.extend(unwritten.map(|entry| Write::Put(Box::new(entry.job.clone()))));
        // No number is used twice, wherever a crash comes.
        writes.push(Write::Seq(self.seq));
        self.shared.write(writes, Durability::Power).await;
        for (job, folder, path, look_again) in decided.released {
            Self::release(&self.shared, job, folder, &path, look_again).await;
        }
        self.file(decided.entries).await;
    }

    /// Manifest, sidecars, moves, and the word `done`.
    async fn file(&mut self, entries: Vec<Entry>) {
        if entries.is_empty() {
            return;
        }
        let (entries, troubles) = self
            .at_the_desk(move |desk| {
                let mut entries = entries;
                let troubles = desk.write_lines(&mut entries);
                desk.shelve(&mut entries);
                (entries, troubles)
            })
            .await;
        for (folder, error) in troubles {
            self.shared.block_folder(folder, &error.to_string());
        }
        let (mut done, waiting): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| entry.line_done);
        self.outstanding.extend(waiting);
        let mut writes = Vec::with_capacity(done.len());
        for entry in &mut done {
            self.shared.unblock_folder(entry.folder);
            entry.job.pending = false;
            if let Err(error) = entry.job.advance(JobEvent::Record) {
                trouble("a job is not where it should be (a bug)", &error);
            }
            entry.job.record = Some(entry.record.json());
            writes.push(Write::Put(Box::new(entry.job.clone())));
        }
        self.shared.write(writes, Durability::Process).await;
        for entry in done {
            let slot = self.shared.slot(entry.folder);
            log_recorded(&slot.config(), &entry);
            self.shared.call_hooks(&entry.record);
            if entry.job.path == entry.from {
                slot.in_place.store(true, Ordering::Relaxed);
            }
            if entry.record.status.is_final() {
                self.shared.albums.stir(entry.folder, &slot.config(), &entry.job.name);
            }
            if entry.record.status.is_final() && !slot.config().render.is_empty() {
                self.shared.links.note(entry.folder, &entry.record);
            }
            self.shared.count(entry.record.status);
            self.shared.note_outcome(&entry.job, entry.failure.as_ref());
            live::recorded(&self.shared, &slot, &entry.job, &entry.record, entry.failure.as_ref());
            if entry.job.stage == Stage::Cooling {
                self.shared.wake_claimers();
            }
            Self::release(&self.shared, entry.job.id, entry.folder, &entry.from, false).await;
        }
    }

    async fn release(shared: &Shared, job: JobId, folder: FolderId, path: &Path, look_again: bool) {
        let slot = shared.slot(folder);
        slot.busy.remove(path);
        if look_again {
            slot.hints().hint(path.to_path_buf());
        }
        // The pool ends before the recorder does: nobody to tell then.
        let _ = shared.notes.send(Note::Recorded(job)).await;
    }

    /// Runs a blocking step with the desk.
    async fn at_the_desk<T: Send + 'static>(&mut self, step: impl FnOnce(&mut Desk) -> T + Send + 'static) -> T {
        let mut desk = self.desk.take().expect("the desk is put back after each step");
        let joined = tokio::task::spawn_blocking(move || {
            let value = step(&mut desk);
            (desk, value)
        })
        .await;
        let (desk, value) = joined.expect("steps of the desk return errors and do not panic");
        self.desk = Some(desk);
        value
    }
}

/// The jobs whose answers the ledger has by now.
async fn kept(finished: &mut [Finished]) -> HashSet<JobId> {
    let mut kept = HashSet::new();
    for job in finished {
        if let Some(Answered(answer)) = job.kept.take()
            && answer.await.is_ok()
        {
            kept.insert(job.job.id);
        }
    }
    kept
}

/// The manifest line of an outcome.
fn build_record(
    recorded: &Recorded,
    seq: u64,
    at: WallTime,
    took: Duration,
    folder: &Folder,
    target: Option<&Path>,
) -> Record {
    let job = &recorded.job;
    let mut record = Record::of(job, seq, at, recorded.status);
    record.requeues = recorded.requeues;
    record.duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    if let Some(target) = target {
        record = record.with_move(&folder.path, target);
    }
    if let Some(links) = &recorded.links {
        record = record.with_links(links.clone());
    }
    let next_try_at = if job.stage == Stage::Cooling { job.not_before } else { None };
    let error = |failure| RecordError::of(failure, next_try_at, job.unknown_outcomes);
    record.error = recorded.failure.as_ref().map(error);
    record
}

/// Says what was wrong with the end of a manifest.
fn log_repair(folder: &Folder, repaired: &Repaired) {
    let fields = Fields { folder: Some(&folder.path), ..Fields::default() };
    let manifest = shown(&folder.manifest);
    match repaired {
        Repaired::Nothing => {}
        Repaired::Completed => {
            emit(Event::ManifestRepaired, &fields, format_args!("the last line of {manifest} had no end and got one"));
        }
        Repaired::Cut { bytes, saved } => emit(
            Event::ManifestRepaired,
            &fields,
            format_args!("the last line of {manifest} was torn: its {bytes} bytes are kept in {}", shown(saved)),
        ),
    }
}

/// The host may have a picture that is not published: its owner may want it gone.
fn log_changed(job: &Job, links: Option<&Links>) {
    let url = links.map(|links| links.url.as_str());
    let copy = url.map(|url| format!("; {} has a copy that is not published: {url}", job.host)).unwrap_or_default();
    emit(
        Event::JobCancelled,
        &Fields {
            job: Some(job.id),
            service: Some(&job.host),
            file: Some(&job.name),
            folder: Some(&job.folder),
            url,
            ..Fields::default()
        },
        format_args!("{} changed while it was being sent and settles anew{copy}", shown(&job.name)),
    );
}

/// One log line per outcome.
fn log_recorded(folder: &Folder, entry: &Entry) {
    let (job, record) = (&entry.job, &entry.record);
    let failure = entry.failure.as_ref();
    let fields = Fields {
        job: Some(job.id),
        worker_id: entry.worker,
        service: Some(&job.host),
        file: Some(&job.name),
        folder: Some(&folder.path),
        attempt: Some(job.attempts),
        bytes: Some(record.bytes),
        duration: Some(entry.took),
        http_status: failure.and_then(|f| f.http_status),
        error_class: failure.map(|f| f.class),
        url: record.url.as_deref(),
        next_try_at: if job.stage == Stage::Cooling { job.not_before } else { None },
        ..Fields::default()
    };
    let name = shown(&job.name);
    let url = record.url.as_deref().unwrap_or("");
    let took = human(Duration::from_millis(record.duration_ms));
    match (record.status, failure) {
        (Status::Uploaded, _) => emit(Event::JobUploaded, &fields, format_args!("{name} → {url} ({took})")),
        (Status::Linked, _) => {
            emit(Event::JobUploaded, &fields, format_args!("{name} → {url} (the same image was uploaded before)"));
        }
        (status, Some(failure)) => {
            let event = match status {
                Status::Failed if failure.class == ErrorClass::Cancelled => Event::JobCancelled,
                Status::Failed => Event::JobFailed,
                Status::Timeout => Event::JobTimeout,
                _ => Event::JobDeferred,
            };
            let next = fields.next_try_at.map(|at| format!("; next try at {at}")).unwrap_or_default();
            let advice = failure.advice.as_ref().map(|advice| format!("; {advice}")).unwrap_or_default();
            emit(
                event,
                &fields,
                format_args!(
                    "{name} was not uploaded to {}: {} (phase {}){next}{advice}",
                    job.host,
                    failure.message,
                    failure.phase.name()
                ),
            );
            if failure.class == ErrorClass::Account {
                emit(
                    Event::AccountError,
                    &fields,
                    format_args!(
                        "{} refuses the key or account: {}; check [host.{}] with `pixchute check`",
                        job.host, failure.message, job.host
                    ),
                );
            }
        }
        (_, None) => {}
    }
}
