//! The one place that talks to `notify`; and which file systems it is no use on.
//!
//! On Linux every directory gets a watch of its own, set by the scan before it lists the directory: notify's recursive
//! watch loses what is written into a new directory before its own walk comes by, gives no say in which directories are
//! watched, and reports a limit for the whole tree only. Elsewhere one recursive watch on the drop folder does.

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::{Config, ErrorKind, RecommendedWatcher, RecursiveMode, Watcher};

use super::hints::Shared;

/// How many directories of one drop folder are watched at most: about 10 MB of memory here and 64 MB in the kernel.
/// The others are polled.
const MAX_WATCHED: usize = 65_536;

/// Whether each directory needs a watch of its own.
const PER_DIRECTORY: bool = cfg!(target_os = "linux");

/// The identity of a directory: device and inode.
pub(super) type DirectoryId = (u64, u64);

/// The watches of one drop folder.
pub(super) struct Native {
    watcher: RecommendedWatcher,
    /// By name relative to the drop folder: what is watched there, and in which full scan it was there last.
    watched: HashMap<PathBuf, (DirectoryId, u64)>,
    round: u64,
}

/// Why a directory is not watched, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct NoWatch(pub(super) String);

impl Native {
    /// A watcher that watches nothing yet and tells `shared` what happens.
    pub(super) fn start(shared: Arc<Shared>) -> Result<Self, NoWatch> {
        let config = Config::default().with_follow_symlinks(false);
        let watcher = RecommendedWatcher::new(move |event| shared.event(event), config)
            .map_err(|error| no_watch(&error).unwrap_or_else(|| NoWatch(error.to_string())))?;
        Ok(Self { watcher, watched: HashMap::new(), round: 0 })
    }

    /// Watches the directory `name` of the drop folder `root`, which is `id` now. With `again` a watch that should be
    /// there is set anew: it costs little and repairs what went wrong unseen.
    pub(super) fn watch(&mut self, root: &Path, name: &Path, id: DirectoryId, again: bool) -> Result<(), NoWatch> {
        if !PER_DIRECTORY && !name.as_os_str().is_empty() {
            return Ok(());
        }
        let path = root.join(name);
        match self.watched.get_mut(name) {
            Some((known, round)) if *known == id => {
                *round = self.round;
                if !again {
                    return Ok(());
                }
            }
            // Another directory has taken its place: the old watch would go on reporting under this name.
            Some(_) => self.unwatch(root, name),
            None => {}
        }
        if self.watched.len() >= MAX_WATCHED {
            return Err(NoWatch(format!("more than {MAX_WATCHED} directories in one drop folder are not watched")));
        }
        let mode = if PER_DIRECTORY { RecursiveMode::NonRecursive } else { RecursiveMode::Recursive };
        match self.watcher.watch(&path, mode) {
            Ok(()) => {
                self.watched.insert(name.to_owned(), (id, self.round));
                Ok(())
            }
            Err(error) => {
                self.watched.remove(name);
                no_watch(&error).map_or(Ok(()), Err)
            }
        }
    }

    /// Whether this directory has its watch.
    pub(super) fn watches(&self, name: &Path, id: DirectoryId) -> bool {
        !PER_DIRECTORY || self.watched.get(name).is_some_and(|(known, _)| *known == id)
    }

    /// Forgets the directory and all below it, if it is watched: it may have been away, and its watches with it.
    pub(super) fn forget(&mut self, root: &Path, name: &Path) {
        if self.watched.contains_key(name) {
            let below: Vec<_> = self.watched.keys().filter(|key| key.starts_with(name)).cloned().collect();
            below.iter().for_each(|name| self.unwatch(root, name));
        }
    }

    /// A full scan begins.
    pub(super) fn begin_round(&mut self) {
        self.round += 1;
    }

    /// A full scan has seen all there is: what it has not seen is gone.
    pub(super) fn end_round(&mut self, root: &Path) {
        let gone: Vec<_> =
            self.watched.iter().filter(|(_, (_, round))| *round != self.round).map(|(name, _)| name.clone()).collect();
        gone.iter().for_each(|name| self.unwatch(root, name));
    }

    fn unwatch(&mut self, root: &Path, name: &Path) {
        self.watched.remove(name);
        // The error says that there is no such watch (any more): that is what was wanted.
        let _ = self.watcher.unwatch(&root.join(name));
    }
}

/// What a watch that could not be set means for the user. Nothing if the directory went away or may not be read: that is
/// seen when it is listed.
pub(super) fn no_watch(error: &notify::Error) -> Option<NoWatch> {
    const TOO_MANY_OPEN_FILES: i32 = rustix::io::Errno::MFILE.raw_os_error();
    Some(NoWatch(match &error.kind {
        ErrorKind::PathNotFound => return None,
        ErrorKind::Io(io) if matches!(io.kind(), NotFound | PermissionDenied | NotADirectory) => return None,
        ErrorKind::MaxFilesWatch => limit("watches", "directories watched by this user", 524_288),
        ErrorKind::Io(io) if io.raw_os_error() == Some(TOO_MANY_OPEN_FILES) => {
            limit("instances", "programs of this user that watch files", 512)
        }
        ErrorKind::Io(io) => format!("the system refuses to watch: {io}"),
        _ => format!("the system refuses to watch: {error}"),
    }))
}

/// The message for an exhausted inotify limit (see inotify(7)): that of the machine or that of the user namespace a
/// container lives in, whichever is lower. `enough` is a sensible value where the present one says nothing.
fn limit(name: &str, what: &str, enough: u64) -> String {
    let read = |path: String| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let machine = (read(format!("/proc/sys/fs/inotify/max_user_{name}")), format!("fs.inotify.max_user_{name}"));
    let namespace = (read(format!("/proc/sys/user/max_inotify_{name}")), format!("user.max_inotify_{name}"));
    let lower = namespace.0.is_some_and(|here| machine.0.is_none_or(|machine| here < machine));
    let (now, key) = if lower { namespace } else { machine };
    let better = now.map_or(enough, |now| now.saturating_mul(4).max(enough));
    let now = now.map_or_else(|| "unknown".to_owned(), |now| now.to_string());
    format!("the limit of {what} is reached: {now}; raise it with `sysctl -w {key}={better}`")
}

/// The kind of file system that `path` lies on, if it does not report changes that others make.
#[cfg(target_os = "linux")]
pub(super) fn without_events(path: &Path) -> Option<&'static str> {
    // linux/magic.h; the types of file systems that live in modules of their own are from statfs(2). The layers of an
    // overlay may lie anywhere and be changed from outside.
    const SILENT: [(u32, &str); 15] = [
        (0x794C_7630, "an overlay"),
        (0x6969, "NFS"),
        (0x517B, "SMB"),
        (0xFF53_4D42, "CIFS"),
        (0xFE53_4D42, "SMB"),
        (0x0102_1997, "9P"),
        (0x6573_5546, "FUSE or virtiofs"),
        (0x5346_414F, "AFS"),
        (0x6B41_4653, "AFS"),
        (0x786F_4256, "VirtualBox shared folder"),
        (0x7375_7245, "Coda"),
        (0x00C3_6400, "Ceph"),
        (0x7461_636F, "OCFS2"),
        (0x0116_1970, "GFS2"),
        (0x0BD0_0BD0, "Lustre"),
    ];
    let found = rustix::fs::statfs(path).ok()?.f_type;
    SILENT.into_iter().find(|(magic, _)| i64::from(*magic) == (found as i64 & 0xFFFF_FFFF)).map(|(_, name)| name)
}

/// The kind of file system that `path` lies on, if it does not report changes that others make.
#[cfg(not(target_os = "linux"))]
pub(super) fn without_events(_: &Path) -> Option<&'static str> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r4_a_reached_limit_is_explained_with_its_number_and_the_command_to_raise_it() {
        let message = no_watch(&notify::Error::new(ErrorKind::MaxFilesWatch)).expect("a limit").to_string();
        assert!(message.contains("sysctl -w ") && message.contains("inotify"), "{message}");
        let error = notify::Error::io(std::io::Error::from_raw_os_error(24));
        assert!(no_watch(&error).expect("a limit").to_string().contains("instances="));
    }

    #[test]
    fn r8_an_ordinary_folder_reports_events() {
        assert_eq!(without_events(&std::env::temp_dir()), None);
    }
}
