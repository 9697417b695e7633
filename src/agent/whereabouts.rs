//! Where the file of a job lies, whether it is still that file, and where it goes. All of it blocks.

use std::path::Path;

use crate::config::{After, Folder};
use crate::job::{Fingerprint, Job, Stage};
use crate::shelf;

/// What lies where a job's file lay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The file, untouched.
    Same,
    /// Something else: it was written to or replaced.
    Other,
    /// Nothing.
    Gone,
}

/// What lies there when the attempt is over.
pub(super) fn find(job: &Job, follow: bool) -> Found {
    match shelf::metadata(&job.path, follow) {
        Ok(now) if Fingerprint::of(&now) == job.fingerprint => Found::Same,
        Ok(now) if is_only_touched(job, Fingerprint::of(&now), follow) => Found::Same,
        Ok(_) => Found::Other,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Found::Gone,
        // Nobody can say at the moment: the attempt has looked at it last, and moving it will tell.
        Err(_) => Found::Same,
    }
}

/// The same when the file is about to be moved. That can be long after: a crash or a full disk lay between.
pub(super) fn find_again(job: &Job, follow: bool) -> Found {
    match find(job, follow) {
        Found::Other if has_its_content(job, follow) => Found::Same,
        found => found,
    }
}

/// Whether the file lies in a folder that is only linked to: there it is read, and nothing is moved, removed or written.
pub(super) fn is_elsewhere(folder: &Folder, job: &Job) -> bool {
    let is_dropped = || job.path == folder.path.join(&job.name);
    folder.follow_symlinks && is_dropped() && shelf::is_beyond_link(&folder.path, &job.name)
}

/// The folder that a file belongs in now, if it does not stay where it is or is deleted.
pub(super) fn goes_to<'a>(folder: &'a Folder, job: &Job) -> Option<&'a Path> {
    match job.stage {
        Stage::Uploaded | Stage::Done if folder.after == After::Move => Some(&folder.done),
        Stage::Cooling => Some(&folder.retry),
        Stage::Failed => Some(&folder.failed),
        Stage::Uploaded | Stage::Done | Stage::Waiting | Stage::Started => None,
    }
}

/// The folder that a file cannot be moved to, or out of: then its line says that it stays. Not if nothing can be written at
/// the moment, the manifest neither: a disk that is read-only as a whole is waited for, and nobody knows what it can then.
pub(super) fn closed_to_moves<'a>(folder: &'a Folder, job: &'a Job, dir: &'a Path) -> Option<&'a Path> {
    let closed = [job.path.parent(), Some(dir)].into_iter().flatten().find(|dir| !shelf::may_write(dir))?;
    folder.manifest.parent().is_some_and(shelf::may_write).then_some(closed)
}

/// Whether nothing but the time of the file is another one: a `touch` changes nothing (R9).
fn is_only_touched(job: &Job, now: Fingerprint, follow: bool) -> bool {
    now.is_touched(&job.fingerprint) && has_its_content(job, follow)
}

/// Whether what lies at the place of a job is the image that was inspected, byte by byte.
fn has_its_content(job: &Job, follow: bool) -> bool {
    let hash = || shelf::hash_of(&shelf::real(&job.path, follow).ok()?).ok();
    job.image.is_some_and(|image| hash() == Some(image.hash))
}
