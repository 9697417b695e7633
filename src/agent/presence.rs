//! Whether the drop folder that is there now is the one that a job's file came from.
//!
//! A disk that is unplugged leaves its mount point behind: an empty folder, or another file system. What is not found in
//! it has not been taken away, and nothing about its files may be written into it.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use super::recorder::Finished;
use super::shared::FolderId;
use super::verdict::End;
use crate::config::Folder;
use crate::job::{Job, Outcome};
use crate::record::manifest;
use crate::watch;

/// Whether what lies at the drop folder's path is what the file came from: it is there, and it lies on the device that the
/// file lay on, or it has the file in it, or its manifest knows the job. Devices are numbered anew now and then: that the
/// number is another one says nothing. Blocking.
pub(super) fn is_its_folder(folder: &Folder, job: &Job) -> bool {
    watch::device(folder).is_some_and(|device| is_known(device, folder, job))
}

fn is_known(device: u64, folder: &Folder, job: &Job) -> bool {
    // A `retry` elsewhere counts as much.
    let shelf = || job.path.parent().filter(|parent| !parent.starts_with(&folder.path));
    let on_its_device = |path: &Path| fs::metadata(path).is_ok_and(|found| found.dev() == job.fingerprint.dev);
    // Beyond a link it may lie on any device: then it is the manifest that tells the folder from an empty mount point.
    let is_same = if folder.follow_symlinks { folder.manifest.exists() } else { device == job.fingerprint.dev };
    is_same
        || job.path.symlink_metadata().is_ok()
        || shelf().is_some_and(on_its_device)
        // Only a file that has rested has a line already.
        || (job.record.is_some() && matches!(manifest::find(&folder.manifest, job.id, |_| true), Ok(Some(_))))
}

/// Parts the ends of attempts whose folders are there from those that have to wait for theirs. Blocking.
///
/// A file that vanished with its folder waits for nothing: if it lay in the drop folder a scan will find it again, and if
/// it rested it goes back to the ledger, which asks for it again.
pub(super) fn sort_out(
    finished: Vec<Finished>,
    config: impl Fn(FolderId) -> Arc<Folder>,
) -> (Vec<Finished>, Vec<Finished>) {
    let (mut here, mut away) = (Vec::new(), Vec::new());
    // Each folder is looked at once for all that has gathered.
    let mut folders = HashMap::new();
    for mut one in finished {
        let (folder, device) = folders.entry(one.folder).or_insert_with(|| {
            let folder = config(one.folder);
            let device = watch::device(&folder);
            (folder, device)
        });
        if device.is_some_and(|device| is_known(device, folder, &one.job)) {
            here.push(one);
        } else if !matches!(one.end, End::Outcome(Outcome::Vanished) | End::Interrupted { .. }) {
            away.push(one);
        } else {
            if one.job.path.starts_with(&folder.retry) {
                one.end = End::Interrupted { all_sent: false };
            }
            here.push(one);
        }
    }
    (here, away)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::WallTime;
    use crate::job::{Fingerprint, Stage};
    use crate::record::{Record, Status};

    /// A job whose file lay at `name`, on a device that is not there.
    fn job(folder: &Folder, name: &str) -> Job {
        let fingerprint = Fingerprint { dev: u64::MAX, ino: 2, len: 3, mtime_ns: 4 };
        let queued_at = WallTime::from_millis(0);
        let job = Job::new(folder.path.clone(), name.into(), folder.host.clone(), fingerprint, queued_at);
        Job { stage: Stage::Started, attempts: 1, ..job }
    }

    #[test]
    fn r6_an_empty_mount_point_is_not_the_folder_and_its_own_device_file_or_manifest_tell_that_it_is() {
        let top = tempfile::TempDir::new().expect("a folder");
        let folder = Folder::new(top.path().join("drop"), "local");
        let job = job(&folder, "a.png");
        assert!(!is_its_folder(&folder, &job), "nothing there");
        fs::create_dir(&folder.path).expect("a mount point");
        assert!(!is_its_folder(&folder, &job), "an empty one on another device");
        let dev = fs::metadata(&folder.path).expect("there").dev();
        let fingerprint = Fingerprint { dev, ..job.fingerprint };
        assert!(is_its_folder(&folder, &Job { fingerprint, ..job.clone() }), "the same device");
        fs::write(&job.path, "x").expect("writes");
        assert!(is_its_folder(&folder, &job), "the file is there");
        let gone = Job { path: folder.path.join("b.png"), record: Some("{}".to_owned()), ..job };
        assert!(!is_its_folder(&folder, &gone), "it has other files");
        let line = Record::of(&gone, 1, WallTime::from_millis(0), Status::Deferred).line();
        fs::write(&folder.manifest, line).expect("writes");
        assert!(is_its_folder(&folder, &gone), "the manifest knows it");
    }

    #[test]
    fn r6_what_is_missing_in_a_required_marker_s_absence_is_not_gone() {
        let top = tempfile::TempDir::new().expect("a folder");
        let folder = Folder { require_marker: Some(".here".to_owned()), ..Folder::new(top.path().to_owned(), "local") };
        let job = job(&folder, "a.png");
        fs::write(&job.path, "x").expect("writes");
        assert!(!is_its_folder(&folder, &job));
        fs::write(top.path().join(".here"), "").expect("writes");
        assert!(is_its_folder(&folder, &job));
    }
}
