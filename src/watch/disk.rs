//! The blocking half of the feed: is the drop folder there, what is in it, what is this file.
//!
//! Everything here may take as long as the file system likes; it runs on a blocking thread, one call at a time.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::WatchState;
use super::hints::Shared;
use super::links::{Leads, Links};
use super::native::{Native, NoWatch, without_events};
use super::root::{self, RootId};
use super::scan::{Report, Scan, Step, Tree};
use crate::clock::Clock;
use crate::config::{Folder, WatchMode};
use crate::inspect::{self, Looked};
use crate::settle::Seen;

/// How often everything is listed again although nothing seems to have changed.
pub const FULL_SCAN: Duration = Duration::from_secs(3600);

/// How long watching is not tried again after a limit was hit; doubled each time.
const FIRST_RETRY: Duration = Duration::from_secs(60);

/// The longest of these rests.
const LONGEST_RETRY: Duration = Duration::from_secs(3600);

/// What is at a path.
pub(super) enum Found {
    /// A regular file with a name that is taken.
    File(Looked),
    Seen(Seen),
    /// A directory that will be scanned; false if too many are waiting for that.
    Directory(bool),
}

/// Why `what`, which lies on a file system of this kind, is polled.
fn silence(name: &str, what: &str) -> String {
    format!("{what} lies on {name}, which does not report what others change; `watch = \"native\"` overrides this")
}

/// The drop folder as the disk has it.
pub(super) struct Disk {
    folder: Folder,
    shared: Arc<Shared>,
    clock: Clock,
    tree: Option<Tree>,
    /// Which folder `tree` is.
    root: Option<RootId>,
    /// The whole folder lies where changes by others make no events.
    silent: bool,
    /// The scan of the whole folder that is under way.
    scan: Option<Scan>,
    /// The scan of new directories, which comes first.
    arrivals: Option<Scan>,
    state: WatchState,
    /// How long the scan under way has worked.
    worked: Duration,
    /// Directories without a watch, as of the last scan.
    unwatched: usize,
    no_watch: Option<NoWatch>,
    /// When watching may be tried again.
    watch_again: Option<Instant>,
    retry: Duration,
}

impl Disk {
    pub(super) fn new(folder: Folder, shared: Arc<Shared>, clock: Clock) -> Self {
        Self {
            folder,
            shared,
            clock,
            tree: None,
            root: None,
            silent: false,
            scan: None,
            arrivals: None,
            worked: Duration::ZERO,
            state: WatchState::Absent { reason: String::new() },
            unwatched: 0,
            no_watch: None,
            watch_again: None,
            retry: FIRST_RETRY,
        }
    }

    /// How the folder is watched now.
    pub(super) fn state(&self) -> &WatchState {
        &self.state
    }

    /// Whether the drop folder is there and still the one it was; true if it is another one, or newly there: then nothing
    /// that was known about it holds. With `anew` it is known to have gone: numbers of inodes are used again.
    pub(super) fn check_root(&mut self, anew: bool) -> bool {
        if anew {
            self.leave_root();
        }
        match root::find(&self.folder) {
            Err(reason) => {
                self.leave_root();
                self.state = WatchState::Absent { reason };
                false
            }
            Ok(id) if self.root == Some(id) => self.start_watching_if_due(),
            Ok(id) => {
                self.leave_root();
                self.root = Some(id);
                let path = self.folder.path.clone();
                let links = self.folder.follow_symlinks.then(|| Links::new(path.clone(), &self.shared.ignore));
                let tree = Tree::new(path, id.directory, Arc::clone(&self.shared), self.clock.clone());
                self.tree.insert(tree).links = links;
                self.start_watching();
                true
            }
        }
    }

    fn leave_root(&mut self) {
        (self.tree, self.root, self.scan, self.arrivals) = (None, None, None, None);
        (self.unwatched, self.no_watch, self.watch_again, self.retry) = (0, None, None, FIRST_RETRY);
    }

    /// Decides between watching and polling, and starts the watcher.
    fn start_watching(&mut self) {
        let Some(tree) = &mut self.tree else { return };
        if self.folder.watch == WatchMode::Poll {
            self.state = WatchState::Poll { reason: "`watch = \"poll\"` is set".to_owned(), shortage: false };
            return;
        }
        tree.doubts = self.folder.watch == WatchMode::Auto;
        let silent = if tree.doubts { without_events(&self.folder.path) } else { None };
        self.silent = silent.is_some();
        let started = Native::start(Arc::clone(&self.shared));
        if let Some(name) = silent {
            // What is done on this machine does make events: it is found at once, the rest by polling.
            tree.native = started.ok();
            self.state = WatchState::Poll { reason: silence(name, "it"), shortage: false };
            return;
        }
        match started {
            Ok(native) => {
                tree.native = Some(native);
                self.state = WatchState::Native;
            }
            Err(no_watch) => self.limit_hit(no_watch),
        }
    }

    /// Tries again to start a watcher that could not be started; true if there is one now.
    fn start_watching_if_due(&mut self) -> bool {
        let without = !self.silent && self.tree.as_ref().is_some_and(|tree| tree.native.is_none());
        if !without || self.watch_again.is_none_or(|at| at > Instant::now()) {
            return false;
        }
        self.start_watching();
        self.state == WatchState::Native
    }

    fn limit_hit(&mut self, no_watch: NoWatch) {
        self.state = WatchState::Poll { reason: no_watch.to_string(), shortage: true };
        self.no_watch = Some(no_watch);
        self.watch_again = Some(Instant::now() + self.retry);
        self.retry = self.retry.saturating_mul(2).min(LONGEST_RETRY);
    }

    /// Begins a scan of the whole folder.
    pub(super) fn begin_scan(&mut self, full: bool) {
        let watch = self.may_watch();
        if let Some(tree) = &mut self.tree {
            self.scan = Some(Scan::whole(tree, full, watch));
        }
    }

    /// Will scan a directory that was pointed at; false if too many are waiting for that.
    fn arrived(&mut self, directory: PathBuf) -> bool {
        let watch = self.may_watch();
        self.arrivals.get_or_insert_with(|| Scan::of_arrivals(watch)).arrived(directory)
    }

    fn may_watch(&self) -> bool {
        self.watch_again.is_none_or(|at| at <= Instant::now())
    }

    /// Reads on: first in new directories, then in the scan of the whole folder, whose end is reported.
    pub(super) fn scan_on(&mut self) -> Step {
        let began = Instant::now();
        let Some(tree) = &mut self.tree else { return Step::default() };
        let Some(scan) = self.arrivals.as_mut().or(self.scan.as_mut()) else { return Step::default() };
        let mut step = scan.step(tree);
        self.worked += began.elapsed();
        if let Some(mut report) = step.report.take() {
            self.learn(&report);
            if report.whole {
                report.took = std::mem::take(&mut self.worked);
                self.scan = None;
                step.report = Some(report);
            } else {
                self.arrivals = None;
            }
        }
        step
    }

    /// Whether a scan is under way.
    pub(super) fn scans(&self) -> bool {
        self.scan.is_some() || self.arrivals.is_some()
    }

    /// What a scan says about the watches.
    fn learn(&mut self, report: &Report) {
        if self.silent || self.tree.as_ref().is_none_or(|tree| tree.native.is_none()) {
            return;
        }
        self.unwatched = if report.whole { report.unwatched } else { self.unwatched + report.unwatched };
        if let Some(no_watch) = report.no_watch.clone() {
            self.limit_hit(no_watch);
        }
        if self.unwatched == 0 {
            (self.no_watch, self.watch_again, self.retry) = (None, None, FIRST_RETRY);
            if let Some((directory, name)) = &report.silent {
                let reason = silence(name, &format!("{directory:?}"));
                self.state = WatchState::Poll { reason, shortage: false };
            } else if report.whole {
                self.state = WatchState::Native;
            }
        } else if let Some(no_watch) = &self.no_watch {
            let reason = format!("{} directories are polled: {no_watch}", self.unwatched);
            self.state = WatchState::Poll { reason, shortage: true };
        }
    }

    /// What is at this path. Only regular files with a name that is taken are opened.
    pub(super) fn look(&mut self, path: &Path) -> Found {
        let Ok(name) = path.strip_prefix(&self.folder.path) else { return Found::Seen(Seen::Gone) };
        let place = match self.follow(name) {
            Ok(Some(place)) => place.unwrap_or_else(|| path.to_owned()),
            Ok(None) => return Found::Seen(Seen::Gone),
            Err(_) => return Found::Seen(Seen::Unreadable),
        };
        if self.shared.ignore.takes(name) {
            match inspect::look(&place) {
                Ok(Some(looked)) => return Found::File(looked),
                Ok(None) => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                Err(_) => return Found::Seen(Seen::Unreadable),
            }
        }
        let is_directory = fs::symlink_metadata(&place).is_ok_and(|metadata| metadata.is_dir());
        if is_directory && self.shared.ignore.enters_all(name) {
            Found::Directory(self.arrived(name.to_owned()))
        } else {
            Found::Seen(Seen::Gone)
        }
    }

    /// Where links on the way lead, if they are followed and there is any; `None` if that is not to be looked at.
    fn follow(&mut self, name: &Path) -> io::Result<Option<Option<PathBuf>>> {
        let Some(tree) = &mut self.tree else { return Ok(Some(None)) };
        let Some(links) = &tree.links else { return Ok(Some(None)) };
        Ok(match links.follow(name)? {
            Leads::Here => Some(None),
            Leads::Beyond(place) => Some(Some(place)),
            Leads::Closed => None,
            Leads::Nowhere => {
                // A scan does not list an unchanged directory again, and what a link leads to may come back.
                if tree.root.join(name).is_symlink() {
                    tree.forget_listing(name.parent().unwrap_or(Path::new("")));
                }
                None
            }
        })
    }

    /// The next scan lists the directory of each of these files again.
    pub(super) fn forget_listings(&mut self, files: &[PathBuf]) {
        let Some(tree) = &mut self.tree else { return };
        for file in files {
            if let Some(Ok(directory)) = file.parent().map(|directory| directory.strip_prefix(&tree.root)) {
                let directory = directory.to_owned();
                tree.forget_listing(&directory);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::hints::Busy;
    use super::super::ignore::{Ignore, tests::folder};
    use super::*;
    use crate::settle::Settle;

    fn disk(path: &Path) -> Disk {
        let folder = folder(path);
        let ignore = Ignore::new(&folder, []).expect("good patterns");
        let shared =
            Shared::new(path.to_owned(), ignore, Busy::default(), Clock::System, Settle::new(Duration::from_secs(2)));
        Disk::new(folder, Arc::new(shared), Clock::System)
    }

    fn without_watch(unwatched: usize) -> Report {
        Report { whole: true, unwatched, no_watch: Some(NoWatch("limit reached".to_owned())), ..Report::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn r4_directories_without_a_watch_are_polled_and_watching_is_tried_again_ever_more_rarely() {
        let top = tempfile::TempDir::new().expect("a folder");
        let mut disk = disk(top.path());
        assert!(disk.check_root(false));
        assert_eq!(*disk.state(), WatchState::Native);
        for rest in [60, 120, 240] {
            disk.learn(&without_watch(2));
            assert_eq!(disk.state().reason(), Some("2 directories are polled: limit reached"));
            tokio::time::advance(Duration::from_secs(rest - 1)).await;
            assert!(!disk.may_watch());
            tokio::time::advance(Duration::from_secs(1)).await;
            assert!(disk.may_watch());
        }
        disk.learn(&Report { whole: true, ..Report::default() });
        assert_eq!(*disk.state(), WatchState::Native);
    }

    #[tokio::test]
    async fn r4_a_scan_that_may_not_watch_counts_what_is_not_watched_and_a_later_one_watches_it() {
        let top = tempfile::TempDir::new().expect("a folder");
        fs::create_dir_all(top.path().join("a/b")).expect("folders");
        let mut disk = disk(top.path());
        disk.check_root(false);
        disk.limit_hit(NoWatch("limit reached".to_owned()));
        disk.begin_scan(true);
        while disk.scans() {
            let _ = disk.scan_on();
        }
        assert_eq!((disk.unwatched, disk.state().name()), (3, "poll"));
        disk.watch_again = None;
        disk.begin_scan(false);
        while disk.scans() {
            let _ = disk.scan_on();
        }
        assert_eq!((disk.unwatched, disk.state().name()), (0, "native"));
    }

    #[test]
    fn a_folder_that_cannot_be_read_makes_the_scan_incomplete_and_is_named() {
        let top = tempfile::TempDir::new().expect("a folder");
        let mut deep = top.path().join("d");
        (0..super::super::MAX_DEPTH).for_each(|_| deep.push("d"));
        fs::create_dir_all(&deep).expect("folders");
        let mut disk = disk(top.path());
        disk.check_root(false);
        disk.begin_scan(false);
        let report = loop {
            if let Some(report) = disk.scan_on().report {
                break report;
            }
        };
        assert!(report.incomplete && !report.replaced);
        assert_eq!(top.path().join(&report.unreadable[0]), deep);
    }
}
