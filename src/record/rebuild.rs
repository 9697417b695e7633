//! The jobs that a ledger has lost, all or the last ones, from the manifests: before anything is sent, so that nothing is
//! sent twice.
//!
//! The line with the highest `seq` decides about a job. Two passes over the files, so that memory holds 24 bytes for each
//! job and not its record: about 50 MB for a million.
//!
//! A manifest may have been edited: a record names a file of ours only if that lies in the drop folder or its `done/`,
//! `retry/` or `failed/`; else the file counts as where it was dropped.
//!
//! **Limits.** What no manifest knows is lost: pauses of hosts, attempts of files that never had an outcome (they lie in
//! the drop folder and are found again), and rotated manifests that were packed or deleted.

use std::collections::HashMap;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::manifest::{HIGHEST_SEQ, Replay, replay_from};
use super::{Record, Status};
use crate::config::{After, Folder};
use crate::job::{Fingerprint, ImageFacts, ImageKind, Job, JobId, Stage};
use crate::shelf;

/// The jobs of one folder; an error for a file that could not be read.
#[derive(Debug)]
pub struct Jobs {
    folder: Folder,
    /// The deciding `seq` of each job that has not come yet.
    last: HashMap<JobId, u64>,
    replay: Replay,
    highest_seq: u64,
    skipped: u64,
}

/// Reads the manifests of `folder` once, to learn which lines decide, and gives the jobs in a second pass: those whose
/// deciding line has the number `from` or a higher one.
///
/// # Errors
/// What the system says about a manifest or its folder: then nothing may be sent, for it may have been sent before.
pub fn jobs(folder: &Folder, from: u64) -> io::Result<Jobs> {
    let mut last = HashMap::new();
    let mut highest_seq = 0;
    let mut first_pass = replay_from(&folder.manifest, from)?;
    for record in first_pass.by_ref() {
        let record = record?;
        if record.seq < from || record.seq >= HIGHEST_SEQ {
            continue;
        }
        highest_seq = highest_seq.max(record.seq);
        let seq = last.entry(record.job).or_insert(record.seq);
        *seq = record.seq.max(*seq);
    }
    let skipped = first_pass.skipped();
    Ok(Jobs { folder: folder.clone(), last, replay: replay_from(&folder.manifest, from)?, highest_seq, skipped })
}

impl Jobs {
    /// The highest `seq` in the manifests; 0 if they have none from the first one asked for.
    #[must_use]
    pub fn highest_seq(&self) -> u64 {
        self.highest_seq
    }

    /// How many lines were no records.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped
    }
}

impl Iterator for Jobs {
    type Item = io::Result<Job>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let record = match self.replay.next()? {
                Ok(record) => record,
                Err(error) => return Some(Err(error)),
            };
            if self.last.get(&record.job) == Some(&record.seq) {
                self.last.remove(&record.job);
                if let Some(job) = job_of(&self.folder, &record) {
                    return Some(Ok(job));
                }
            }
        }
    }
}

/// The job as it stood when `record` was written; `None` if its name leads out of the folder.
fn job_of(folder: &Folder, record: &Record) -> Option<Job> {
    let name = record.name()?;
    let dropped = folder.path.join(&name);
    let moved_to = place(folder, record, &name);
    // Did the agent die after the line and before the move? Looked at closely: by now another file may have the name.
    let moves = match &moved_to {
        Some(moved_to) => moved_to.symlink_metadata().is_err(),
        None => folder.after == After::Delete && record.status.is_success(),
    };
    let unmoved = moves && is_content(&dropped, record, folder.follow_symlinks);
    let (stage, not_before) = match record.status {
        Status::Uploaded | Status::Linked => (Stage::Done, None),
        Status::Failed => (Stage::Failed, None),
        Status::Timeout | Status::Deferred => {
            let next_try_at = record.error.as_ref().and_then(|error| error.next_try_at);
            (Stage::Cooling, Some(next_try_at.unwrap_or(record.at)))
        }
    };
    Some(Job {
        id: record.job,
        folder: folder.path.clone(),
        name,
        path: if unmoved { dropped } else { moved_to.unwrap_or(dropped) },
        host: record.host.clone(),
        stage,
        fingerprint: Fingerprint { dev: 0, ino: 0, len: record.bytes, mtime_ns: 0 },
        image: image_of(record),
        attempts: record.attempts,
        requeues: record.requeues,
        unknown_outcomes: record.error.as_ref().and_then(|error| error.unknown_outcomes).unwrap_or(0),
        queued_at: record.at,
        not_before,
        record: Some(record.json()),
        pending: unmoved,
    })
}

fn image_of(record: &Record) -> Option<ImageFacts> {
    let kind = ImageKind::from_mime(record.mime.as_deref()?)?;
    Some(ImageFacts { kind, width: record.width?, height: record.height?, animated: false, hash: record.blake3? })
}

/// Where `moved_to` says the file lies, if that is one of our places.
fn place(folder: &Folder, record: &Record, name: &Path) -> Option<PathBuf> {
    let stated = folder.path.join(record.moved_to.as_ref()?);
    let detour = stated.components().any(|component| component == Component::ParentDir);
    let ours = [&folder.path, &folder.done, &folder.retry, &folder.failed];
    if detour || !ours.iter().any(|dir| stated.starts_with(dir)) {
        return None;
    }
    // `moved_to` is lossy: take the exact name if it is the same but for that.
    let exact =
        ours[1..].iter().map(|dir| dir.join(name)).find(|path| path.to_string_lossy() == stated.to_string_lossy());
    Some(exact.unwrap_or(stated))
}

fn is_content(path: &Path, record: &Record, follow: bool) -> bool {
    let is_as_long = shelf::metadata(path, follow).is_ok_and(|metadata| metadata.len() == record.bytes);
    let hash = || shelf::hash_of(&shelf::real(path, follow).ok()?).ok();
    is_as_long && record.blake3.is_some() && hash() == record.blake3
}

#[cfg(test)]
mod tests;
