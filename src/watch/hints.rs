//! The bounded store between whoever sees something and the feed: the watcher's thread, the agent, the control socket.
//!
//! Nobody who puts something in ever waits: a full store forgets the single paths and remembers that a full scan is
//! needed.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::WatchState;
use super::ignore::Ignore;
use super::sign::{Meaning, meaning};
use crate::clock::{Clock, WallTime};
use crate::settle::{Settle, Sign};

/// How many paths wait to be looked at: a burst that is longer is found faster by a scan. About a megabyte.
pub(super) const MAX_HINTS: usize = 4096;

/// How many settling files `status` lists by name.
pub(super) const LISTED: usize = 20;

/// What the state of a folder says before the first check.
const NOT_YET: &str = "not looked at yet";

/// Locks, also after a panic elsewhere: every critical section here leaves its data whole.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Absolute paths of files that are queued or in flight: the feed does not look at them. One set belongs to one drop
/// folder; it holds as many paths as the agent put in.
#[derive(Clone, Debug, Default)]
pub struct Busy(Arc<BusySet>);

#[derive(Debug, Default)]
struct BusySet {
    /// The paths, each with what was seen of it since it is busy.
    paths: Mutex<HashMap<PathBuf, Option<Sign>>>,
    /// Those that were seen while they were busy and are not any more.
    released: Mutex<Vec<(PathBuf, Sign)>>,
    wake: Notify,
}

impl Busy {
    /// Whether `path` is queued or in flight.
    #[must_use]
    pub fn contains(&self, path: &Path) -> bool {
        lock(&self.0.paths).contains_key(path)
    }

    /// Whether any path of which `is` holds is queued or in flight.
    #[must_use]
    pub fn any(&self, is: impl Fn(&Path) -> bool) -> bool {
        lock(&self.0.paths).keys().any(|path| is(path))
    }

    /// `path` is queued: do not look at it.
    pub fn insert(&self, path: PathBuf) {
        lock(&self.0.paths).entry(path).or_default();
    }

    /// `path` is no longer queued or in flight: if something happened to it meanwhile, the feed looks at it now.
    pub fn remove(&self, path: &Path) {
        let Some((path, Some(sign))) = lock(&self.0.paths).remove_entry(path) else { return };
        lock(&self.0.released).push((path, sign));
        self.0.wake.notify_one();
    }

    /// Notes that a busy path was seen; false if it is not busy.
    pub(super) fn sighted(&self, path: &Path, sign: Sign) -> bool {
        match lock(&self.0.paths).get_mut(path) {
            Some(seen) => {
                *seen = Some(joined(*seen, sign));
                true
            }
            None => false,
        }
    }

    fn take_released(&self) -> Vec<(PathBuf, Sign)> {
        std::mem::take(&mut lock(&self.0.released))
    }
}

/// What two sightings one after the other say: attributes say nothing about the writer, so they change nothing.
fn joined(before: Option<Sign>, after: Sign) -> Sign {
    match (before, after) {
        (Some(before), Sign::Seen) => before,
        (_, after) => after,
    }
}

/// What waits for the feed.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    order: VecDeque<PathBuf>,
    signs: HashMap<PathBuf, Sign>,
    pub(super) requests: Requests,
}

/// What is to be done beside looking at single paths.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Requests {
    /// Paths went by without being kept.
    pub(super) lost: bool,
    /// Somebody wants a full scan.
    pub(super) rescan: bool,
    /// Something happened to the drop folder itself.
    pub(super) check_root: bool,
    /// The drop folder was removed or moved.
    pub(super) root_left: bool,
}

impl Waiting {
    fn push(&mut self, path: PathBuf, sign: Sign) {
        if let Some(known) = self.signs.get_mut(&path) {
            *known = joined(Some(*known), sign);
        } else if self.order.len() < MAX_HINTS {
            self.order.push_back(path.clone());
            self.signs.insert(path, sign);
        } else {
            self.requests.lost = true;
        }
    }

    pub(super) fn pop(&mut self) -> Option<(PathBuf, Sign)> {
        let path = self.order.pop_front()?;
        let sign = self.signs.remove(&path).unwrap_or(Sign::Seen);
        Some((path, sign))
    }
}

/// What the feed last said about the folder.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) watch: WatchState,
    unreadable: Vec<PathBuf>,
}

/// What the feed shares with its handles and with the watcher's thread.
#[derive(Debug)]
pub(super) struct Shared {
    root: PathBuf,
    pub(super) ignore: Ignore,
    pub(super) busy: Busy,
    clock: Clock,
    pub(super) waiting: Mutex<Waiting>,
    /// The feed has taken something out of it since it was idle; changed under its lock.
    in_hand: AtomicBool,
    pub(super) settle: Mutex<Settle>,
    /// Files that have left the table as settled; changed under its lock.
    pub(super) offered: AtomicU64,
    pub(super) told: Mutex<Told>,
    wake: Notify,
}

impl Shared {
    pub(super) fn new(root: PathBuf, ignore: Ignore, busy: Busy, clock: Clock, settle: Settle) -> Self {
        let told = Told { watch: WatchState::Absent { reason: NOT_YET.to_owned() }, unreadable: Vec::new() };
        Self {
            root,
            ignore,
            busy,
            clock,
            waiting: Mutex::default(),
            in_hand: AtomicBool::new(false),
            settle: Mutex::new(settle),
            offered: AtomicU64::new(0),
            told: Mutex::new(told),
            wake: Notify::new(),
        }
    }

    /// Takes an event in. Called on the watcher's thread: never waits, never fails.
    pub(super) fn event(&self, event: notify::Result<notify::Event>) {
        let meaning = event.map_or(Meaning::Lost, meaning);
        let mut waiting = lock(&self.waiting);
        match meaning {
            Meaning::Nothing => return,
            Meaning::Lost => waiting.requests.lost = true,
            Meaning::Left(paths) => {
                if !paths.contains(&self.root) {
                    return;
                }
                waiting.requests.root_left = true;
            }
            Meaning::Signs(sign, paths) => {
                let news = paths.into_iter().filter_map(|path| self.sort_in(&mut waiting, path, sign)).count();
                if news == 0 {
                    return;
                }
            }
        }
        drop(waiting);
        self.wake.notify_one();
    }

    /// Keeps a path that concerns us.
    fn sort_in(&self, waiting: &mut Waiting, path: PathBuf, sign: Sign) -> Option<()> {
        let name = path.strip_prefix(&self.root).ok()?;
        if name.as_os_str().is_empty() {
            waiting.requests.check_root = true;
            return Some(());
        }
        // Whether it is a file or a directory is seen when it is looked at; only files are written to.
        let concerns = self.ignore.takes(name) || (sign != Sign::Writing && self.ignore.enters_all(name));
        concerns.then(|| waiting.push(path, sign))
    }

    /// The next path somebody pointed at: first those that were busy.
    pub(super) fn next_hint(&self) -> Option<(PathBuf, Sign)> {
        let mut waiting = lock(&self.waiting);
        for (path, sign) in self.busy.take_released() {
            waiting.push(path, sign);
        }
        let next = waiting.pop();
        self.in_hand.fetch_or(next.is_some(), Ordering::Relaxed);
        next
    }

    /// The feed has nothing to do.
    pub(super) fn idle(&self) {
        let _waiting = lock(&self.waiting);
        self.in_hand.store(false, Ordering::Relaxed);
    }

    /// Whether there is a next hint, or the last ones may not have been looked at yet.
    fn is_hinted(&self) -> bool {
        let waiting = lock(&self.waiting);
        let waits = !waiting.order.is_empty() || !lock(&self.busy.0.released).is_empty();
        waits || self.in_hand.load(Ordering::Relaxed)
    }

    /// Waits until something new may be there. A wake-up that came earlier is not lost.
    pub(super) async fn woken(&self) {
        tokio::select! {
            () = self.wake.notified() => {}
            () = self.busy.0.wake.notified() => {}
        }
    }

    /// Notes how the folder is watched; true if that is new.
    pub(super) fn tell(&self, watch: &WatchState) -> bool {
        let mut told = lock(&self.told);
        let new = told.watch != *watch;
        told.watch = watch.clone();
        new
    }

    /// Notes which directories the last scan could not read.
    pub(super) fn tell_unreadable(&self, unreadable: Vec<PathBuf>) {
        lock(&self.told).unreadable = unreadable;
    }
}

/// A handle on a feed: points it at things, and tells how it is. Cheap to clone, usable from any thread.
#[derive(Clone, Debug)]
pub struct Hints(pub(super) Arc<Shared>);

impl Hints {
    /// Look at this path again: it changed, or could not be taken when it was offered.
    pub fn hint(&self, path: PathBuf) {
        lock(&self.0.waiting).push(path, Sign::Seen);
        self.0.wake.notify_one();
    }

    /// Scan the whole folder now.
    pub fn rescan(&self) {
        lock(&self.0.waiting).requests.rescan = true;
        self.0.wake.notify_one();
    }

    /// How the feed is.
    #[must_use]
    pub fn status(&self) -> FeedStatus {
        let (now, wall) = (Instant::now(), self.0.clock.now());
        // Before the table: a path goes from here to there.
        let hinted = self.0.is_hinted();
        let (settling_total, oldest, offered) = {
            let settle = lock(&self.0.settle);
            (settle.len(), settle.oldest(LISTED), self.0.offered.load(Ordering::Relaxed))
        };
        let ago = |then: Instant| WallTime::from_millis(wall.millis() - millis(now.saturating_duration_since(then)));
        let name = |path: &Path| path.strip_prefix(&self.0.root).unwrap_or(path).to_path_buf();
        let Told { watch, mut unreadable } = lock(&self.0.told).clone();
        unreadable.extend(oldest.iter().filter(|file| file.unreadable).map(|file| name(&file.path)));
        let settling = oldest
            .into_iter()
            .map(|file| SettlingFile { name: name(&file.path), since: ago(file.since), last_change: ago(file.changed) })
            .collect();
        let hinted = !matches!(watch, WatchState::Absent { .. }) && hinted;
        FeedStatus { watch, settling, settling_total, offered, hinted, unreadable }
    }
}

fn millis(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// How a feed is, for `status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedStatus {
    /// How the folder is watched.
    pub watch: WatchState,
    /// The files that settle longest, at most 20.
    pub settling: Vec<SettlingFile>,
    /// How many files are settling in all.
    pub settling_total: usize,
    /// How many files have settled since the start: each is offered by the feed, or was.
    pub offered: u64,
    /// Paths that somebody pointed at wait for a look, or are being looked at. Never while the folder is absent.
    pub hinted: bool,
    /// Directories that the last scan could not read, and files that are settling and cannot be read: relative to the drop
    /// folder, at most 20 each.
    pub unreadable: Vec<PathBuf>,
}

/// A file whose end has not been seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettlingFile {
    /// Relative to the drop folder.
    pub name: PathBuf,
    /// Since when.
    pub since: WallTime,
    /// When it was found changed last.
    pub last_change: WallTime,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use notify::event::{AccessKind, AccessMode, CreateKind, DataChange, EventKind, ModifyKind};

    use super::super::ignore::tests::folder;
    use super::*;

    fn shared() -> Shared {
        let root = PathBuf::from("/d");
        let ignore = Ignore::new(&folder(&root), []).expect("good patterns");
        Shared::new(root, ignore, Busy::default(), Clock::System, Settle::new(Duration::from_secs(2)))
    }

    fn event(kind: EventKind, path: &str) -> notify::Result<notify::Event> {
        Ok(notify::Event::new(kind).add_path(PathBuf::from(path)))
    }

    const CLOSED: EventKind = EventKind::Access(AccessKind::Close(AccessMode::Write));
    const WRITTEN: EventKind = EventKind::Modify(ModifyKind::Data(DataChange::Any));

    #[test]
    fn many_events_of_one_file_are_one_hint_that_says_what_was_last() {
        let shared = shared();
        for kind in [EventKind::Create(CreateKind::File), WRITTEN, WRITTEN, CLOSED, EventKind::Any] {
            shared.event(event(kind, "/d/a.jpg"));
        }
        shared.event(event(CLOSED, "/d/b.jpg"));
        shared.event(event(WRITTEN, "/d/b.jpg"));
        assert_eq!(shared.next_hint(), Some((PathBuf::from("/d/a.jpg"), Sign::Closed)));
        assert_eq!(shared.next_hint(), Some((PathBuf::from("/d/b.jpg"), Sign::Writing)));
        assert_eq!(shared.next_hint(), None);
    }

    #[test]
    fn what_is_not_taken_never_becomes_a_hint() {
        let shared = shared();
        for path in ["/d/done/a.jpg", "/d/.a.jpg", "/d/manifest.jsonl", "/elsewhere/a.jpg"] {
            shared.event(event(CLOSED, path));
        }
        shared.event(event(WRITTEN, "/d/notes.txt"));
        assert_eq!(shared.next_hint(), None);
    }

    #[test]
    fn r3_more_hints_than_there_is_room_for_are_remembered_as_lost() {
        let shared = shared();
        for n in 0..=MAX_HINTS {
            assert!(!lock(&shared.waiting).requests.lost, "{n}");
            shared.event(event(CLOSED, &format!("/d/{n}.jpg")));
        }
        assert!(lock(&shared.waiting).requests.lost);
        assert_eq!(std::iter::from_fn(|| shared.next_hint()).count(), MAX_HINTS);
    }

    #[test]
    fn r9_what_happens_to_a_busy_file_is_kept_until_it_is_free() {
        let shared = shared();
        let path = PathBuf::from("/d/a.jpg");
        shared.busy.insert(path.clone());
        assert!(shared.busy.sighted(&path, Sign::Closed) && shared.busy.sighted(&path, Sign::Seen));
        assert_eq!(shared.next_hint(), None);
        shared.busy.remove(&path);
        assert_eq!(shared.next_hint(), Some((path.clone(), Sign::Closed)));
        shared.busy.insert(path.clone());
        shared.busy.remove(&path);
        assert_eq!((shared.next_hint(), shared.busy.contains(&path)), (None, false));
    }
}
