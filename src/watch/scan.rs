//! Names out of a tree of directories, a few at a time.
//!
//! One scanner serves the start, the slow timer, lost events, polled folders and new directories. It holds one open
//! stream per level and never a list of what is in a directory. A directory that has not changed since it was last listed
//! whole is not listed again, only its sub-directories are visited: with a hundred thousand kept files a scan costs one
//! `stat` per directory.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ffi::OsString;
use std::fs::{self, Metadata, ReadDir};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;

use super::hints::{LISTED, Shared};
use super::links::{self, Links};
use super::native::{DirectoryId, Native, NoWatch, without_events};
use crate::clock::Clock;

/// How deep directories are entered: each level keeps one descriptor open.
pub const MAX_DEPTH: usize = 64;

/// How many directories and sub-directory names are remembered: enough for 65,000 directories, in some 15 MB. Others are
/// listed by every scan, which costs several times as much.
const MAX_REMEMBERED: usize = 131_072;

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

/// A drop folder that is there: its watches, and what is known of its directories.
pub(super) struct Tree {
    pub(super) root: PathBuf,
    pub(super) id: DirectoryId,
    pub(super) shared: Arc<Shared>,
    pub(super) clock: Clock,
    pub(super) native: Option<Native>,
    /// File systems that are mounted in it are asked whether they report changes.
    pub(super) doubts: bool,
    /// Where its symbolic links lead, if they are followed.
    pub(super) links: Option<Links>,
    listed: HashMap<PathBuf, Listed>,
    remembered: usize,
}

/// A directory as it was when it was listed whole.
struct Listed {
    stamp: Stamp,
    directories: Vec<OsString>,
    /// Links in it that do not lead to a file.
    links: BTreeSet<OsString>,
}

impl Listed {
    /// How many names are remembered for it.
    fn cost(&self) -> usize {
        1 + self.directories.len() + self.links.len()
    }
}

impl Tree {
    pub(super) fn new(root: PathBuf, id: DirectoryId, shared: Arc<Shared>, clock: Clock) -> Self {
        let (native, doubts, links, listed) = (None, false, None, HashMap::new());
        Self { root, id, shared, clock, native, doubts, links, listed, remembered: 0 }
    }

    fn remember(&mut self, directory: PathBuf, listed: Listed) {
        self.forget_listing(&directory);
        let cost = listed.cost();
        if self.remembered + cost <= MAX_REMEMBERED {
            self.remembered += cost;
            self.listed.insert(directory, listed);
        }
    }

    /// The next scan lists this directory again.
    pub(super) fn forget_listing(&mut self, directory: &Path) {
        if let Some(listed) = self.listed.remove(directory) {
            self.remembered -= listed.cost();
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
    /// Its links that are still to be looked at: last and in order, so that of several links to one directory it is always
    /// the same one that is followed.
    links: BTreeSet<OsString>,
    /// Those of them that the next scan must look at again.
    unsure: BTreeSet<OsString>,
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
    /// The system had trouble that may pass.
    pub(super) troubled: bool,
    /// Directories without a watch, and why.
    pub(super) unwatched: usize,
    pub(super) no_watch: Option<NoWatch>,
    /// A directory whose file system does not report what others change, and its kind; the first one.
    pub(super) silent: Option<(PathBuf, &'static str)>,
    /// How long it worked.
    pub(super) took: Duration,
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
        if let Some(links) = &mut tree.links {
            links.look_again(&tree.shared.ignore);
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
            match level.next(tree.links.is_some()) {
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
                Some(Ok((name, Kind::Link))) => self.follow(tree, name, &mut step),
                Some(Ok((_, Kind::Other))) => {}
                Some(Err(error)) => {
                    let directory = level.directory.clone();
                    self.unreadable(directory, &error);
                }
                None => self.leave(tree),
            }
        }
        step
    }

    /// Takes a link of the innermost directory for what it leads to. Where a file lies is judged when it is looked at.
    fn follow(&mut self, tree: &mut Tree, name: OsString, step: &mut Step) {
        let Some(level) = self.levels.last_mut() else { return };
        let (path, fresh) = (level.directory.join(&name), level.fresh);
        match links::what_is_at(&tree.root.join(&path)) {
            Ok(Some(kind)) if kind.is_file() => {
                if tree.shared.ignore.takes_here(&path) {
                    step.files.push(tree.root.join(path));
                }
            }
            Ok(Some(kind)) if kind.is_dir() => {
                level.unsure.insert(name);
                if tree.shared.ignore.enters(&path) {
                    self.enter(tree, path, fresh);
                }
            }
            Ok(Some(_)) => {}
            Ok(None) => drop(level.unsure.insert(name)),
            Err(error) => {
                level.unsure.insert(name);
                self.unreadable(path, &error);
            }
        }
    }

    /// Watches the directory, then begins to list it.
    fn enter(&mut self, tree: &mut Tree, directory: PathBuf, fresh: bool) {
        match self.open(tree, &directory, fresh) {
            Ok(Some(level)) => self.levels.push(level),
            // It is another link to what is entered by another name, or to what is ours.
            Ok(None) => tree.forget_listing(&directory),
            // It went away since its name was read: nothing is missing, unless it is the drop folder.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !directory.as_os_str().is_empty() => {
                tree.forget_listing(&directory);
            }
            Err(error) => {
                tree.forget_listing(&directory);
                self.report.replaced |= directory.as_os_str().is_empty();
                self.unreadable(directory, &error);
            }
        }
    }

    fn open(&mut self, tree: &mut Tree, directory: &Path, fresh: bool) -> io::Result<Option<Level>> {
        let path = tree.root.join(directory);
        let is_root = directory.as_os_str().is_empty();
        if let Some(links) = &mut tree.links
            && !links.enters(directory, &tree.shared.ignore)?
        {
            return Ok(None);
        }
        let followed = is_root || tree.links.is_some();
        let metadata = if followed { fs::metadata(&path)? } else { fs::symlink_metadata(&path)? };
        let stamp = Stamp::of(&metadata);
        if !metadata.is_dir() || directory.components().count() > MAX_DEPTH || (is_root && stamp.id != tree.id) {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        self.watch(tree, directory, stamp.id, fresh);
        let mut links = BTreeSet::new();
        let entries = match tree.listed.get(directory) {
            Some(listed) if listed.stamp == stamp && !fresh => {
                links.clone_from(&listed.links);
                Entries::Known(listed.directories.clone().into_iter())
            }
            _ => {
                let age = i128::from(tree.clock.now().millis()) * 1_000_000 - stamp.mtime_ns;
                let proves = age >= i128::try_from(TIME_GRAIN.as_nanos()).unwrap_or(i128::MAX);
                Entries::Stream { stream: fs::read_dir(&path)?, directories: Vec::new(), proves }
            }
        };
        Ok(Some(Level { directory: directory.to_owned(), stamp, fresh, entries, links, unsure: BTreeSet::new() }))
    }

    fn watch(&mut self, tree: &mut Tree, directory: &Path, id: DirectoryId, fresh: bool) {
        if tree.doubts && id.0 != tree.id.0 && self.report.silent.is_none() {
            let kind = without_events(&tree.root.join(directory));
            self.report.silent = kind.map(|kind| (directory.to_owned(), kind));
        }
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
                tree.remember(level.directory, Listed { stamp: level.stamp, directories, links: level.unsure });
            }
            Entries::Stream { proves: false, .. } => tree.forget_listing(&level.directory),
            Entries::Known(_) => {}
        }
    }

    fn unreadable(&mut self, directory: PathBuf, error: &io::Error) {
        const PASSING: [Errno; 6] = [Errno::IO, Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::AGAIN, Errno::STALE];
        self.report.incomplete = true;
        self.report.troubled |= Errno::from_io_error(error).is_some_and(|errno| PASSING.contains(&errno));
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
    Link,
    Other,
}

impl Level {
    /// The next entry; links only if they are followed, and last.
    fn next(&mut self, follows: bool) -> Option<io::Result<(OsString, Kind)>> {
        let entry = self.next_entry(follows);
        entry.or_else(|| self.links.pop_first().map(|name| Ok((name, Kind::Link))))
    }

    fn next_entry(&mut self, follows: bool) -> Option<io::Result<(OsString, Kind)>> {
        match &mut self.entries {
            Entries::Known(directories) => directories.next().map(|name| Ok((name, Kind::Directory))),
            Entries::Stream { stream, proves, .. } => {
                let entry = stream.next()?.and_then(|entry| Ok((entry.file_name(), entry.file_type()?)));
                Some(match entry {
                    Ok((name, kind)) if follows && kind.is_symlink() => {
                        if self.links.len() < MAX_REMEMBERED {
                            self.links.insert(name);
                            return Some(Ok((OsString::new(), Kind::Other)));
                        }
                        *proves = false;
                        Ok((name, Kind::Link))
                    }
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
