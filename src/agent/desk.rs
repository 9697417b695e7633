//! The desk of the recorder: what follows from each end, and the files that tell of it. All of it blocks.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::presence;
use super::recorder::Finished;
use super::shared::{FolderId, Shared};
use super::verdict::{self, End, Recorded, Verdict};
use super::whereabouts::{Found, closed_to_moves, find, find_again, goes_to, is_elsewhere};
use crate::clock::WallTime;
use crate::config::{After, Cooldown, Dedupe, Folder};
use crate::job::{Failure, Fingerprint, Job, JobId, Links, Outcome, Stage};
use crate::ledger::Write;
use crate::record::manifest::{Manifest, Repaired};
use crate::record::{Record, RecordError, Status, sidecar};
use crate::shelf::{self, ShelfError};
use crate::telemetry::{Event, Fields, emit, shown, trouble};

/// How long moves and sidecars that the system refuses are tried again. A passing fault is over by then; a folder that
/// nothing can be moved out of, because it is read-only, keeps its files after that. A full disk is waited for longer.
const SHELVING: Duration = Duration::from_secs(10);

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
    /// Its file and sidecar lie where they shall, or stay where they are for good.
    pub(super) shelved: bool,
    /// Since when the system refuses to move the file or to write the sidecar.
    pub(super) refused_since: Option<Instant>,
    /// Another file has its name by now, which is to be looked at like any other.
    pub(super) replaced: bool,
    pub(super) took: Duration,
    pub(super) worker: Option<usize>,
    pub(super) failure: Option<Failure>,
}

impl Entry {
    /// The manifest line: what the ledger has, so that the record is put into words once.
    fn line(&self) -> String {
        self.job.record.as_ref().map_or_else(|| self.record.line(), |json| format!("{json}\n"))
    }
}

/// What became of a batch, before anything is written.
#[derive(Debug, Default)]
pub(super) struct Decided {
    /// For the manifest.
    pub(super) entries: Vec<Entry>,
    /// For the ledger, without the entries.
    pub(super) writes: Vec<Write>,
    /// Jobs that end here: id, folder, path, and whether the path is to be looked at again.
    pub(super) released: Vec<(JobId, FolderId, PathBuf, bool)>,
    /// Nothing yet: their drop folders are away.
    pub(super) away: Vec<Finished>,
}

/// A file that was moved back by hand from one of `resting`, mended or not, has left a sidecar there, and a job in the ledger:
/// both are of the past now. Removes the sidecars and gives the jobs.
fn supersede(resting: &[PathBuf], job: &Job) -> Vec<JobId> {
    let left_behind = |dir: &PathBuf| {
        let place = dir.join(&job.name);
        let record = sidecar::read(&place)?;
        if record.job == job.id || place.symlink_metadata().is_ok() {
            return None;
        }
        sidecar::remove_if_of(&place, record.job).ok()?;
        Some(record.job)
    };
    resting.iter().filter_map(left_behind).collect()
}

/// The end of an attempt whose file was written to meanwhile: no link is published (R12).
fn changed(end: End) -> End {
    match end {
        End::Outcome(Outcome::Uploaded(links)) => End::Outcome(Outcome::Changed { links: Some(links) }),
        End::Known(_) => End::Outcome(Outcome::Changed { links: None }),
        end => end,
    }
}

/// The end of an attempt whose link leads nowhere any more: it is not gone, and what it led to may come back.
fn dangling(end: End, job: &Job, folder: &Folder) -> End {
    let vanished = matches!(end, End::Outcome(Outcome::Vanished));
    if !vanished || !folder.follow_symlinks || !job.path.is_symlink() {
        return end;
    }
    let is_dropped = job.path == folder.path.join(&job.name);
    if is_dropped { End::Outcome(Outcome::Changed { links: None }) } else { End::Interrupted { all_sent: false } }
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

    /// Closes the manifests; the next line opens its own again.
    pub(super) fn close(&mut self) {
        self.manifests.clear();
    }

    /// What follows from each end, where the files go, and what the manifest will say.
    pub(super) fn decide(&self, finished: Vec<Finished>, now: WallTime, mut seq: u64, cooldown: &Cooldown) -> Decided {
        let (here, away) = presence::sort_out(finished, |folder| self.folder(folder));
        let mut decided = Decided { away, ..Decided::default() };
        let mut taken = HashSet::new();
        let mut resting = HashMap::new();
        for Finished { job, folder, end, took, worker, mirrors, .. } in here {
            let config = self.folder(folder);
            let found = find(&job, config.follow_symlinks);
            let end = if found == Found::Other { changed(end) } else { dangling(end, &job, &config) };
            let (id, path, known) = (job.id, job.path.clone(), matches!(end, End::Known(_)));
            if let End::Outcome(Outcome::Changed { links }) = &end {
                log_changed(&job, links.as_ref());
            }
            match verdict::decide(job, end, now, cooldown, super::shared::jitter()) {
                Ok(Verdict::Record(recorded)) => {
                    seq += 1;
                    let resting = resting.entry(folder).or_insert_with(|| self.resting(folder));
                    let superseded = supersede(resting, &recorded.job);
                    decided.writes.extend(superseded.into_iter().map(Write::Remove));
                    let target = self.target(folder, &recorded.job, found, &mut taken);
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
                        shelved: false,
                        refused_since: None,
                        replaced: false,
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

    /// The folders for rested and failed files that exist: most drop folders have none.
    fn resting(&self, folder: FolderId) -> Vec<PathBuf> {
        let config = self.folder(folder);
        [&config.retry, &config.failed].into_iter().filter(|dir| dir.is_dir()).cloned().collect()
    }

    /// Where the file of a job goes, if it is still there and goes anywhere.
    fn target(&self, folder: FolderId, job: &Job, found: Found, taken: &mut HashSet<PathBuf>) -> Option<PathBuf> {
        let config = self.folder(folder);
        let dir = goes_to(&config, job)?;
        if found != Found::Same || is_elsewhere(&config, job) {
            return None;
        }
        if job.path.starts_with(dir) {
            return Some(job.path.clone());
        }
        if let Some(closed) = closed_to_moves(&config, job, dir) {
            trouble("files stay where they are, because a folder cannot be written to", &shown(closed));
            return None;
        }
        let target = shelf::free_name(dir, &job.name, taken).ok()?;
        taken.insert(target.clone());
        Some(target)
    }

    /// Appends the lines and makes them durable, folder by folder. Entries whose line could not be written stay as they
    /// are; the error of each such folder is returned.
    pub(super) fn write_lines(&mut self, entries: &mut [Entry]) -> Vec<(FolderId, std::io::Error)> {
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
                lines.push(entry.line());
            }
        }
        let Some((_, manifest)) = self.manifests.get_mut(&folder) else { return Ok(()) };
        manifest.append(&lines).map_err(|error| error.source)?;
        manifest.sync()
    }

    /// Sidecars and moves of the entries whose lines are written, then the directories, so that the moves are durable.
    /// What the system refuses is tried again with the next batch, for [`SHELVING`]; what a full disk keeps from its place
    /// is the trouble of its folder.
    pub(super) fn shelve(&self, entries: &mut [Entry]) -> Vec<(FolderId, std::io::Error)> {
        let (mut dirs, mut troubles) = (HashSet::new(), Vec::new());
        for entry in entries.iter_mut().filter(|entry| entry.line_done && !entry.shelved) {
            match self.shelve_one(entry) {
                Ok(()) => entry.shelved = true,
                // Gone with its folder: it is waited for.
                Err(error @ ShelfError::Vanished { .. }) => troubles.push((entry.folder, std::io::Error::other(error))),
                Err(error) if error.is_full_disk() => troubles.push((entry.folder, std::io::Error::other(error))),
                Err(error) => self.perhaps_give_up(entry, &error),
            }
            self.shared.recorder.step();
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
        troubles
    }

    /// The file stays where it is once that was tried long enough: the move is bookkeeping.
    fn perhaps_give_up(&self, entry: &mut Entry, error: &ShelfError) {
        let since = *entry.refused_since.get_or_insert_with(Instant::now);
        if error.may_pass() && since.elapsed() < SHELVING {
            return;
        }
        entry.shelved = true;
        trouble("a file or its sidecar is not where it should be", error);
        if let Some(target) = entry.target.take_if(|target| entry.job.path == entry.from && *target != entry.from) {
            let _ = sidecar::remove_if_of(&target, entry.job.id);
            self.tell_that_it_stays(entry);
        }
    }

    /// What the ledger and the sidecar have is put right. The line in the manifest says where the file was to go: it was on
    /// disk before that was tried, and there is only one.
    fn tell_that_it_stays(&self, entry: &mut Entry) {
        entry.record = entry.record.clone().unmoved();
        entry.job.record = Some(entry.record.json());
        if self.folder(entry.folder).sidecars {
            let _where_it_can_be = sidecar::write_line(&entry.from, &entry.line());
        }
    }

    fn shelve_one(&self, entry: &mut Entry) -> Result<(), ShelfError> {
        let config = self.folder(entry.folder);
        if entry.job.path == entry.from && find_again(&entry.job, config.follow_symlinks) == Found::Other {
            entry.replaced = true;
            log_replaced(&entry.job);
            // Our file may have been moved before a crash; else its owner has put the other one in its place.
            let moved = entry.target.take().filter(|target| target.symlink_metadata().is_ok());
            entry.job.path = moved.unwrap_or_else(|| entry.job.path.clone());
            return Ok(());
        }
        let target = entry.target.clone();
        let elsewhere = is_elsewhere(&config, &entry.job);
        let keeps = config.after == After::Keep && matches!(entry.job.stage, Stage::Uploaded);
        let is_kept_out = || {
            let same = || find(&entry.job, config.follow_symlinks) == Found::Same;
            target.is_none() && goes_to(&config, &entry.job).is_some() && same()
        };
        let keeps = !elsewhere && (keeps || is_kept_out());
        let beside = if keeps { Some(entry.from.clone()) } else { target.clone() };
        // Nothing is made beside a file that is not there: its whole disk may have gone in this moment.
        let there = |path: &Path| {
            path.symlink_metadata().map_or_else(|error| error.kind() != std::io::ErrorKind::NotFound, |_| true)
        };
        let beside = beside.filter(|place| config.sidecars && (there(&entry.from) || there(place)));
        if let Some(beside) = beside {
            match sidecar::write_line(&beside, &entry.line()) {
                // Not ours: it stays, and the image goes without.
                Err(error @ ShelfError::Taken { .. }) => trouble("a sidecar could not be written", &error),
                written => written?,
            }
        }
        if let Some(target) = target.filter(|target| *target != entry.from) {
            self.move_file(entry, target)?;
        }
        if config.after == After::Delete && entry.job.stage == Stage::Uploaded && !elsewhere {
            delete_if_unchanged(&entry.job, config.follow_symlinks)?;
        }
        // The sidecar of an earlier outcome lies where the file lay.
        let rested = entry.from.starts_with(&config.retry) || entry.from.starts_with(&config.failed);
        if rested && entry.job.path != entry.from {
            let _ = sidecar::remove_if_of(&entry.from, entry.job.id);
        }
        Ok(())
    }

    fn move_file(&self, entry: &mut Entry, mut target: PathBuf) -> Result<(), ShelfError> {
        let config = self.folder(entry.folder);
        // Kept or deleted by a configuration that is newer than the target.
        let dir = goes_to(&config, &entry.job).unwrap_or(&config.done);
        let is_link = config.follow_symlinks && entry.from.is_symlink();
        let move_it = if is_link { shelf::move_link } else { shelf::move_file };
        let mut result = move_it(&entry.from, &target);
        if matches!(result, Err(ShelfError::Taken { .. })) {
            // Somebody took the name since it was chosen: the sidecar and the ledger tell the new one.
            let _ = sidecar::remove_if_of(&target, entry.job.id);
            if let Ok(free) = shelf::free_name(dir, &entry.job.name, &HashSet::new()) {
                entry.record = entry.record.clone().with_move(&config.path, &free);
                entry.job.record = Some(entry.record.json());
                let _ = sidecar::write_line(&free, &entry.line());
                result = move_it(&entry.from, &free);
                entry.target = Some(free.clone());
                target = free;
            }
        }
        match result {
            Ok(()) => entry.job.path = target,
            // After a crash: it was moved already.
            Err(ShelfError::Vanished { .. }) if target.symlink_metadata().is_ok() => entry.job.path = target,
            Err(error @ ShelfError::Vanished { .. }) if presence::is_its_folder(&config, &entry.job) => {
                let _ = sidecar::remove_if_of(&target, entry.job.id);
                trouble("a file stays where it is", &error);
            }
            Err(error) => return Err(error),
        }
        if let Ok(now) = shelf::metadata(&entry.job.path, config.follow_symlinks) {
            entry.job.fingerprint = Fingerprint::of(&now);
        }
        Ok(())
    }
}

/// `after = "delete"`: only if the file still has the content that was sent. Of a link only the link is removed.
fn delete_if_unchanged(job: &Job, follow: bool) -> Result<(), ShelfError> {
    let hash = shelf::real(&job.path, follow).and_then(|place| shelf::hash_of(&place));
    let same = hash.is_ok_and(|hash| job.image.is_some_and(|image| image.hash == hash));
    if same { shelf::remove(&job.path) } else { Ok(()) }
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
    // The last line of a file never leaves open what to do.
    if let (Status::Failed, Some(error), Some(failure)) = (record.status, &mut record.error, &recorded.failure) {
        error.advice = Some(failure.last_advice().to_owned());
    }
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

/// The one that was sent is on record, and nothing else is left of it.
fn log_replaced(job: &Job) {
    let what = format!("{} could not be moved, and something else has its name now", shown(&job.path));
    trouble(&what, &"what is there is a new file");
}

/// The host may have a picture that is not published: its owner may want it gone.
fn log_changed(job: &Job, links: Option<&Links>) {
    let url = links.map(|links| links.url.as_str());
    let copy = url.map(|url| format!("; {} has a copy that is not published: {url}", job.host)).unwrap_or_default();
    emit(
        Event::JobCancelled,
        &Fields { url, ..Fields::of(job) },
        format_args!("{} changed while it was being sent and settles anew{copy}", shown(&job.name)),
    );
}
