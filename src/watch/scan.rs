//! Names out of a tree of directories, a few at a time.
//!
//! One scanner serves the start, the slow timer, lost events, polled folders and new directories. It holds one open
//! stream per level and never a list of what is in a directory. A directory that has not changed since it was last listed
//! whole is not listed again, only its sub-directories are visited: with a hundred thousand kept files a scan costs one
//! `stat` per directory.

use std::collections::{HashMap, VecDeque};
use std::ffi::OsString;
use std::fs::{self, Metadata, ReadDir};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::hints::{LISTED, Shared};
use super::native::{DirectoryId, Native, NoWatch};
use crate::clock::Clock;

/// How deep directories are entered: each level keeps one descriptor open.
pub const MAX_DEPTH: usize = 64;

/// How many directories and sub-directory names are remembered: a few megabytes. Others are listed by every scan.
const MAX_REMEMBERED: usize = 20_000;

/// How old a directory's time must be before an unchanged time proves an unchanged directory: the coarsest time stamps in
/// use (FAT) have two seconds.
const TIME_GRAIN: Duration = Duration::from_secs(2);

/// How many new directories wait to be entered: more that appear at once are found by a full scan.
const MAX_ARRIVALS: usize = 1024;

/// How many entries one step reads: short enough not to keep a hint waiting.
const ENTRIES_PER_STEP: usize = 256;

/// What tells that a directory is the same and unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    id: DirectoryId,
    mtime_ns: i128,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        let mtime_ns = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
        Self { id: (metadata.dev(), metadata.ino()), mtime_ns }
    }
}

/// The identity of the directory that `metadata` describes.
pub(super) fn identity(metadata: &Metadata) -> DirectoryId {
    Stamp::of(metadata).id
}

/// A drop folder that is there: its watches, and what is known of its directories.
pub(super) struct Tree {
    pub(super) root: PathBuf,
    pub(super) id: DirectoryId,
    pub(super) shared: Arc<Shared>,
    pub(super) clock: Clock,
    pub(super) native: Option<Native>,
    listed: HashMap<PathBuf, Listed>,
    remembered: usize,
}

/// A directory as it was when it was listed whole.
struct Listed {
    stamp: Stamp,
    directories: Vec<OsString>,
}

impl Tree {
    pub(super) fn new(root: PathBuf, id: DirectoryId, shared: Arc<Shared>, clock: Clock, native: Option<Native>) -> Self {
        Self { root, id, shared, clock, native, listed: HashMap::new(), remembered: 0 }
    }

    fn remember(&mut self, directory: PathBuf, listed: Listed) {
        self.forget_listing(&directory);
        let cost = 1 + listed.directories.len();
        if self.remembered + cost <= MAX_REMEMBERED {
            self.remembered += cost;
            self.listed.insert(directory, listed);
        }
    }

    /// The next scan lists this directory again.
    pub(super) fn forget_listing(&mut self, directory: &Path) {
        if let Some(listed) = self.listed.remove(directory) {
            self.remembered -= 1 + listed.directories.len();
        }
    }
}

/// A scan under way.
pub(super) struct Scan {
    levels: Vec<Level>,
    /// Directories that were pointed at and are still to be entered.
    arrivals: VecDeque<PathBuf>,
    full: bool,
    report: Report,
    gave_up_watching: bool,
}

/// One directory on the way down.
struct Level {
    directory: PathBuf,
    stamp: Stamp,
    fresh: bool,
    entries: Entries,
}

enum Entries {
    Stream {
        stream: ReadDir,
        directories: Vec<OsString>,
        /// Every entry could be read, and the listing began long enough after the directory's time.
        proves: bool,
    },
    Known(std::vec::IntoIter<OsString>),
}

/// What one step brought.
#[derive(Default)]
pub(super) struct Step {
    /// Files that may be taken, absolute.
    pub(super) files: Vec<PathBuf>,
    /// The scan is over.
    pub(super) report: Option<Report>,
}

/// What a scan has to say at its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// It covered the whole drop folder, not only new directories.
    pub(super) whole: bool,
    /// Directories that could not be read; the first ones by name.
    pub(super) unreadable: Vec<PathBuf>,
    pub(super) incomplete: bool,
    /// Directories without a watch, and why.
    pub(super) unwatched: usize,
    pub(super) no_watch: Option<NoWatch>,
    /// The drop folder is not the one it was.
    pub(super) replaced: bool,
}

impl Scan {
    /// A scan of the whole drop folder; `full` takes nothing for granted. `watch` is false while it is not time to try
    /// watching again.
    pub(super) fn whole(tree: &mut Tree, full: bool, watch: bool) -> Self {
        if full && let Some(native) = &mut tree.native {
            native.begin_round();
        }
        let report = Report { whole: true, ..Report::default() };
        let mut scan = Self { levels: Vec::new(), arrivals: VecDeque::new(), full, report, gave_up_watching: !watch };
        scan.enter(tree, PathBuf::new(), full);
        scan
    }

    /// A scan of single directories that were pointed at, of which there is none yet.
    pub(super) fn of_arrivals(watch: bool) -> Self {
        let report = Report::default();
        Self { levels: Vec::new(), arrivals: VecDeque::new(), full: false, report, gave_up_watching: !watch }
    }

    /// Adds a directory that was pointed at; false if too many are waiting.
    pub(super) fn arrived(&mut self, directory: PathBuf) -> bool {
        let room = self.arrivals.len() < MAX_ARRIVALS;
        if room {
            self.arrivals.push_back(directory);
        }
        room
    }

    /// Reads on for a bounded number of entries.
    pub(super) fn step(&mut self, tree: &mut Tree) -> Step {
        let mut step = Step::default();
        for _ in 0..ENTRIES_PER_STEP {
            let Some(level) = self.levels.last_mut() else {
                let Some(directory) = self.arrivals.pop_front() else {
                    step.report = Some(self.end(tree));
                    return step;
                };
                if let Some(native) = &mut tree.native {
                    native.forget(&tree.root, &directory);
                }
                self.enter(tree, directory, true);
                continue;
            };
            let fresh = level.fresh;
            match level.next() {
                Some(Ok((name, Kind::Directory))) => {
                    let directory = level.directory.join(&name);
                    if tree.shared.ignore.enters(&directory) {
                        level.note(name);
                        self.enter(tree, directory, fresh);
                    }
                }
                Some(Ok((name, Kind::File))) => {
                    let name = level.directory.join(name);
                    if tree.shared.ignore.takes_here(&name) {
                        step.files.push(tree.root.join(name));
                    }
                }
                Some(Ok((_, Kind::Other))) => {}
                Some(Err(_)) => {
                    let directory = level.directory.clone();
                    self.unreadable(directory);
                }
                None => self.leave(tree),
            }
        }
        step
    }

    /// Watches the directory, then begins to list it.
    fn enter(&mut self, tree: &mut Tree, directory: PathBuf, fresh: bool) {
        match self.open(tree, &directory, fresh) {
            Ok(level) => self.levels.push(level),
            // It went away since its name was read: nothing is missing, unless it is the drop folder.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !directory.as_os_str().is_empty() => {
                tree.forget_listing(&directory);
            }
            Err(_) => {
                tree.forget_listing(&directory);
                self.report.replaced |= directory.as_os_str().is_empty();
                self.unreadable(directory);
            }
        }
    }

    fn open(&mut self, tree: &mut Tree, directory: &Path, fresh: bool) -> io::Result<Level> {
        let path = tree.root.join(directory);
        let is_root = directory.as_os_str().is_empty();
        let metadata = if is_root { fs::metadata(&path)? } else { fs::symlink_metadata(&path)? };
        let stamp = Stamp::of(&metadata);
        if !metadata.is_dir() || directory.components().count() > MAX_DEPTH || (is_root && stamp.id != tree.id) {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        self.watch(tree, directory, stamp.id, fresh);
        let entries = match tree.listed.get(directory) {
            Some(listed) if listed.stamp == stamp && !fresh => Entries::Known(listed.directories.clone().into_iter()),
            _ => {
                let age = i128::from(tree.clock.now().millis()) * 1_000_000 - stamp.mtime_ns;
                let proves = age >= i128::try_from(TIME_GRAIN.as_nanos()).unwrap_or(i128::MAX);
                Entries::Stream { stream: fs::read_dir(&path)?, directories: Vec::new(), proves }
            }
        };
        Ok(Level { directory: directory.to_owned(), stamp, fresh, entries })
    }

    fn watch(&mut self, tree: &mut Tree, directory: &Path, id: DirectoryId, fresh: bool) {
        let Some(native) = &mut tree.native else { return };
        let result = if self.gave_up_watching && !native.watches(directory, id) {
            Err(None)
        } else {
            native.watch(&tree.root, directory, id, fresh).map_err(Some)
        };
        if let Err(reason) = result {
            self.gave_up_watching = true;
            self.report.unwatched += 1;
            self.report.no_watch = self.report.no_watch.take().or(reason);
        }
    }

    fn leave(&mut self, tree: &mut Tree) {
        let Some(level) = self.levels.pop() else { return };
        match level.entries {
            Entries::Stream { directories, proves: true, .. } => {
                tree.remember(level.directory, Listed { stamp: level.stamp, directories });
            }
            Entries::Stream { proves: false, .. } => tree.forget_listing(&level.directory),
            Entries::Known(_) => {}
        }
    }

    fn unreadable(&mut self, directory: PathBuf) {
        self.report.incomplete = true;
        let known = &mut self.report.unreadable;
        if known.len() < LISTED && known.last() != Some(&directory) {
            known.push(directory);
        }
    }

    fn end(&mut self, tree: &mut Tree) -> Report {
        if self.full
            && !self.report.incomplete
            && let Some(native) = &mut tree.native
        {
            native.end_round(&tree.root);
        }
        std::mem::take(&mut self.report)
    }
}

enum Kind {
    File,
    Directory,
    Other,
}

impl Level {
    fn next(&mut self) -> Option<io::Result<(OsString, Kind)>> {
        match &mut self.entries {
            Entries::Known(directories) => directories.next().map(|name| Ok((name, Kind::Directory))),
            Entries::Stream { stream, proves, .. } => {
                let entry = stream.next()?.and_then(|entry| Ok((entry.file_name(), entry.file_type()?)));
                Some(match entry {
                    Ok((name, kind)) if kind.is_file() => Ok((name, Kind::File)),
                    Ok((name, kind)) if kind.is_dir() => Ok((name, Kind::Directory)),
                    Ok((name, _)) => Ok((name, Kind::Other)),
                    Err(error) => {
                        *proves = false;
                        Err(error)
                    }
                })
            }
        }
    }

    /// Notes a sub-directory for the next scan. A directory with very many is not remembered.
    fn note(&mut self, name: OsString) {
        if let Entries::Stream { directories, proves, .. } = &mut self.entries {
            if directories.len() < MAX_REMEMBERED {
                directories.push(name);
            } else {
                *proves = false;
            }
        }
    }
}
