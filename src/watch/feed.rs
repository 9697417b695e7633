//! What to do next: the loop of one drop folder.
//!
//! [`FolderFeed::next`] works until it has something to tell: it plans one step, has it carried out by [`Disk`] on a
//! blocking thread, and takes the result in. All of its state lies in `self`, so dropping the future loses nothing: a step
//! under way is picked up by the next call.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::disk::{Disk, FULL_SCAN, Found};
use super::hints::{Busy, Hints, Requests, Shared, lock};
use super::ignore::Ignore;
use super::scan::{Report, Step};
use super::{Feed, Settled, WatchState};
use crate::clock::Clock;
use crate::config::Folder;
use crate::inspect::Looked;
use crate::settle::{Seen, Settle, Sighted, Sign, Verdict};

/// How often the identity of the drop folder is compared: an unmount makes no event. Twice as often as R5 asks for.
const ROOT_CHECK: Duration = Duration::from_secs(5);

/// How often a drop folder that is not there is looked for.
const ABSENT_CHECK: Duration = Duration::from_secs(3);

/// How soon names that found no room in the settle table are scanned for again.
const LEFT_OUT: Duration = Duration::from_secs(5);

/// A scan is followed by a rest this many times as long as it worked, so that polling a huge tree costs two percent of one
/// processor at most; but never by a longer one than `rescan`.
const REST: u32 = 49;

/// How often the first scan is begun anew when the system has trouble that may pass: whoever waits for it (`--once`, the
/// word `ready`) is told that all is seen.
const TROUBLED_SCANS: u32 = 2;

/// The time between two of these.
const TROUBLED_REST: Duration = Duration::from_secs(1);

/// How many files are looked at in one go: a hop to another thread costs as much as a look.
const LOOKS: usize = 16;

/// Every so many steps the order of the sources is reversed, so that none can starve the others.
const REVERSE: u32 = 8;

/// The files of one drop folder as they become ready. See the module for what it promises.
pub struct FolderFeed {
    folder: Folder,
    shared: Arc<Shared>,
    clock: Clock,
    /// Here, or on its way in `running`.
    disk: Option<Box<Disk>>,
    running: Option<JoinHandle<(Box<Disk>, Done)>>,
    /// What is to be told: at most a few things, because nothing is done while something is here.
    out: VecDeque<Feed>,
    /// What the last step of the scan brought.
    names: VecDeque<PathBuf>,
    /// A scan has ended and is told about once its names are done.
    report: Option<Report>,
    present: bool,
    /// The drop folder that was there has gone, whatever is there now.
    root_left: bool,
    next_check: Instant,
    next_scan: Instant,
    next_full: Instant,
    full_wanted: bool,
    /// Events were lost, and no full scan has gone by since without losing more.
    overflowing: bool,
    scanned_before: bool,
    /// How many scans met with trouble before the first one that counts.
    troubled_scans: u32,
    steps: u32,
}

/// What a step brought.
enum Done {
    /// The drop folder was checked; true if it is newly there or another one.
    Root(bool),
    Scanned(Step),
    Looked(Vec<(PathBuf, Found)>),
}

/// What to do next.
enum Plan {
    CheckRoot { anew: bool },
    Scan { full: bool },
    ScanOn,
    Look(Vec<PathBuf>),
}

/// What the plan says.
enum Next {
    Do(Plan),
    /// There is something to tell.
    Tell,
    Wait(Instant),
}

impl FolderFeed {
    /// A feed for `folder`, with the filter made for it and the set of paths that its consumer is working on. Does
    /// nothing yet.
    #[must_use]
    pub fn new(folder: &Folder, ignore: Ignore, busy: Busy, clock: Clock) -> Self {
        let settle = Settle::new(folder.settle);
        let shared = Arc::new(Shared::new(folder.path.clone(), ignore, busy, clock.clone(), settle));
        let now = Instant::now();
        let disk = Disk::new(folder.clone(), Arc::clone(&shared), clock.clone());
        Self {
            folder: folder.clone(),
            shared,
            clock,
            disk: Some(Box::new(disk)),
            running: None,
            out: VecDeque::new(),
            names: VecDeque::new(),
            report: None,
            present: false,
            root_left: false,
            next_check: now,
            next_scan: now,
            next_full: now,
            full_wanted: false,
            overflowing: false,
            scanned_before: false,
            troubled_scans: 0,
            steps: 0,
        }
    }

    /// A handle that points the feed at things and says how it is.
    #[must_use]
    pub fn hints(&self) -> Hints {
        Hints(Arc::clone(&self.shared))
    }

    /// The next thing to know. Waits as long as there is none; nothing is lost if the future is dropped.
    ///
    /// A settled file is offered once per sighting. Whoever cannot use it now must point at it again with
    /// [`Hints::hint`]: a scan does not list an unchanged directory a second time.
    pub async fn next(&mut self) -> Feed {
        loop {
            if let Some(feed) = self.out.pop_front() {
                return feed;
            }
            if let Some(running) = &mut self.running {
                let result = running.await;
                self.running = None;
                match result {
                    Ok((disk, done)) => self.take_in(disk, done),
                    Err(error) => self.start_over(&error),
                }
                continue;
            }
            match self.plan(Instant::now()) {
                Next::Do(plan) => self.carry_out(plan),
                Next::Tell => {}
                Next::Wait(until) => {
                    self.shared.idle();
                    tokio::select! {
                        () = self.shared.woken() => {}
                        () = sleep_until(until) => {}
                    }
                }
            }
        }
    }

    /// The next step.
    fn plan(&mut self, now: Instant) -> Next {
        self.take_requests(now);
        if self.next_check <= now {
            return Next::Do(Plan::CheckRoot { anew: std::mem::take(&mut self.root_left) });
        }
        if !self.present {
            return Next::Wait(self.next_check);
        }
        let mut looks = Vec::new();
        while looks.len() < LOOKS
            && let Some(path) = self.next_look(now, &looks)
        {
            looks.push(path);
        }
        if !looks.is_empty() {
            return Next::Do(Plan::Look(looks));
        }
        if self.names.is_empty() {
            if let Some(report) = self.report.take() {
                self.end_scan(now, report);
                return Next::Tell;
            }
            if self.disk.as_ref().is_some_and(|disk| disk.scans()) {
                return Next::Do(Plan::ScanOn);
            }
            let full = self.full_wanted || self.next_full <= now;
            if full || self.next_scan <= now {
                return Next::Do(Plan::Scan { full });
            }
        }
        Next::Wait(self.next_moment())
    }

    /// The next path to look at: what somebody pointed at first, the scan last; now and then the other way round.
    /// None of those that are `planned`: two looks at once would settle a file twice.
    fn next_look(&mut self, now: Instant, planned: &[PathBuf]) -> Option<PathBuf> {
        self.steps = self.steps.wrapping_add(1);
        if self.steps.is_multiple_of(REVERSE) {
            let path = self.scanned_name(planned).or_else(|| self.due(now, planned));
            path.or_else(|| self.hinted(now, planned))
        } else {
            let path = self.hinted(now, planned).or_else(|| self.due(now, planned));
            path.or_else(|| self.scanned_name(planned))
        }
    }

    /// When something is to be done even if nothing happens.
    fn next_moment(&self) -> Instant {
        let settle = lock(&self.shared.settle).next_look();
        let scan = if self.names.is_empty() { Some(self.next_scan.min(self.next_full)) } else { None };
        [settle, scan].into_iter().flatten().fold(self.next_check, Instant::min)
    }

    fn take_requests(&mut self, now: Instant) {
        let Requests { lost, rescan, check_root, root_left } = std::mem::take(&mut lock(&self.shared.waiting).requests);
        if lost && !self.overflowing {
            self.overflowing = true;
            self.out.push_back(Feed::Overflow);
        }
        self.full_wanted |= lost || rescan;
        self.root_left |= root_left;
        if check_root || root_left {
            self.next_check = now;
        }
    }

    /// The next path somebody pointed at that needs a look now.
    fn hinted(&mut self, now: Instant, planned: &[PathBuf]) -> Option<PathBuf> {
        while let Some((path, sign)) = self.shared.next_hint() {
            if self.shared.busy.sighted(&path, sign) {
                continue;
            }
            let sighted = lock(&self.shared.settle).sighted(now, &path, sign);
            self.mind_left_out(now);
            if sighted == Sighted::Look && !planned.contains(&path) {
                return Some(path);
            }
        }
        None
    }

    /// The next settling file whose look is due.
    fn due(&self, now: Instant, planned: &[PathBuf]) -> Option<PathBuf> {
        lock(&self.shared.settle)
            .due(now)
            .find(|path| !planned.iter().any(|planned| planned == path))
            .map(Path::to_path_buf)
    }

    /// The next name of the scan, if there is room to let it settle.
    fn scanned_name(&mut self, planned: &[PathBuf]) -> Option<PathBuf> {
        loop {
            let path = self.names.front()?;
            let settle = lock(&self.shared.settle);
            let known = settle.tracks(path) || planned.contains(path) || self.shared.busy.sighted(path, Sign::Seen);
            if !known && !settle.has_room() {
                return None;
            }
            let path = self.names.pop_front()?;
            if !known {
                return Some(path);
            }
        }
    }

    fn carry_out(&mut self, plan: Plan) {
        let Some(mut disk) = self.disk.take() else { return };
        if let Plan::Scan { full } = plan {
            self.plan_next_scans(full);
        }
        self.running = Some(tokio::task::spawn_blocking(move || {
            let done = match plan {
                Plan::CheckRoot { anew } => Done::Root(disk.check_root(anew)),
                Plan::Scan { full } => {
                    disk.begin_scan(full);
                    Done::Scanned(disk.scan_on())
                }
                Plan::ScanOn => Done::Scanned(disk.scan_on()),
                Plan::Look(paths) => Done::Looked(
                    paths
                        .into_iter()
                        .map(|path| {
                            let found = disk.look(&path);
                            (path, found)
                        })
                        .collect(),
                ),
            };
            (disk, done)
        }));
    }

    fn plan_next_scans(&mut self, full: bool) {
        let now = Instant::now();
        self.next_scan = now + self.scan_interval();
        if full {
            self.full_wanted = false;
            self.next_full = now + FULL_SCAN;
        }
    }

    /// The time between two scans, a little different for each folder so that they do not all scan at once.
    fn scan_interval(&self) -> Duration {
        let spread = blake3::hash(self.folder.path.as_os_str().as_encoded_bytes()).as_bytes()[0];
        match lock(&self.shared.told).watch {
            WatchState::Native => self.folder.rescan.mul_f64(0.9 + 0.2 * f64::from(spread) / 255.0),
            _ => self.folder.poll_interval,
        }
    }

    fn take_in(&mut self, disk: Box<Disk>, done: Done) {
        let now = Instant::now();
        let state = disk.state().clone();
        self.disk = Some(disk);
        let replaced = self.present && matches!(done, Done::Root(true));
        self.present = !matches!(state, WatchState::Absent { .. });
        if self.shared.tell(&state) || replaced {
            self.next_scan = self.next_scan.min(now + self.scan_interval());
            self.out.push_back(Feed::State(state));
        }
        match done {
            Done::Root(new) => {
                self.next_check = now + if self.present { ROOT_CHECK } else { ABSENT_CHECK };
                self.full_wanted |= new;
                if new || !self.present {
                    self.names.clear();
                    self.report = None;
                }
            }
            Done::Scanned(step) => {
                self.names.extend(step.files);
                self.report = step.report;
            }
            Done::Looked(looks) => looks.into_iter().for_each(|(path, found)| self.looked(now, &path, found)),
        }
        self.mind_left_out(now);
    }

    fn looked(&mut self, now: Instant, path: &Path, found: Found) {
        match found {
            Found::Directory(noted) => {
                self.full_wanted |= !noted;
                // Until the look it might have been a file that settles.
                self.judge(now, path, Seen::Gone);
            }
            Found::File(Looked { look, inspected }) => {
                if let Some(settled) = self.judge(now, path, Seen::File(look)) {
                    self.out.push_back(Feed::Settled(Settled { inspected, ..settled }));
                }
            }
            Found::Seen(seen) => {
                if let Some(settled) = self.judge(now, path, seen) {
                    self.out.push_back(Feed::Settled(settled));
                }
            }
        }
    }

    /// Takes a look in; the file if that settled it.
    fn judge(&mut self, now: Instant, path: &Path, seen: Seen) -> Option<Settled> {
        // It may have become busy while it was looked at.
        let seen = if self.shared.busy.sighted(path, Sign::Seen) { Seen::Gone } else { seen };
        let name = path.strip_prefix(&self.folder.path).ok()?.to_path_buf();
        let mut settle = lock(&self.shared.settle);
        let verdict = settle.looked(now, self.clock.now(), path, seen);
        let Verdict::Settled { fingerprint, warning } = verdict else { return None };
        // Under the lock of the table, so that the file is seen in one place or the other.
        self.shared.offered.fetch_add(1, Ordering::Relaxed);
        Some(Settled { path: path.to_path_buf(), name, fingerprint, warning, inspected: None })
    }

    /// What found no room to settle must be found by a scan again.
    fn mind_left_out(&mut self, now: Instant) {
        let left_out = lock(&self.shared.settle).take_left_out();
        if left_out.is_empty() {
            return;
        }
        self.next_scan = self.next_scan.min(now + LEFT_OUT);
        match &mut self.disk {
            Some(disk) => disk.forget_listings(&left_out),
            None => self.full_wanted = true,
        }
    }

    fn end_scan(&mut self, now: Instant, report: Report) {
        if report.replaced {
            self.next_check = now;
        }
        if report.whole && report.troubled && !self.scanned_before && self.troubled_scans < TROUBLED_SCANS {
            self.troubled_scans += 1;
            self.next_full = now + TROUBLED_REST;
        } else if report.whole {
            self.overflowing &= self.full_wanted;
            self.next_scan = self.next_scan.max(now + (report.took * REST).min(self.folder.rescan));
            self.shared.tell_unreadable(report.unreadable);
            self.out.push_back(Feed::Scanned { first: !self.scanned_before, complete: !report.incomplete });
            self.scanned_before = true;
        }
    }

    /// The blocking half was lost to a panic: begin anew, after a moment.
    fn start_over(&mut self, error: &tokio::task::JoinError) {
        let disk = Disk::new(self.folder.clone(), Arc::clone(&self.shared), self.clock.clone());
        self.disk = Some(Box::new(disk));
        self.names.clear();
        self.report = None;
        self.present = false;
        self.next_check = Instant::now() + ABSENT_CHECK;
        let state = WatchState::Absent { reason: format!("an internal error: {error}; please report it") };
        self.shared.tell(&state);
        self.out.push_back(Feed::State(state));
    }
}
