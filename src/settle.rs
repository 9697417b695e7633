//! Is the file complete, and does nobody write to it?
//!
//! Pure: sightings, looks and the time go in, verdicts come out. It owns the table of files that are not settled yet and
//! decides when each is looked at again; it never touches the disk and never gives up on a file: a file leaves the
//! table when it is settled or gone, whatever that takes.
//!
//! Two things tell that a file is complete. *Its end can be seen* ([`End::Complete`]) and either its writer has closed
//! it, it was moved in, or it has been left alone for the settle time by the file system's own account. Or *nothing has
//! changed between our own looks* for the settle time ([`MARKER_GRACE`] for an image whose end is missing): a period that
//! is measured with the monotonic clock, so that a wrong wall clock can delay a file but not cut it.
//!
//! **Limits.** A writer that pauses for longer than the settle time, in a format whose end cannot be seen, is taken for
//! finished; what it writes later makes the attempt `Changed`.

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::WallTime;
use crate::job::Fingerprint;

/// How long an image without its end marker must stay unchanged until it is taken as it is: images without a marker
/// exist, and an interrupted copy is usually resumed or removed within a minute.
pub const MARKER_GRACE: Duration = Duration::from_secs(60);

/// How many files are tracked in one drop folder: a few hundred bytes each. What finds no room is left to a later scan.
pub const MAX_TRACKED: usize = 4096;

/// The first pause between two looks at a file; each further one is twice as long.
pub const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// The longest pause between two looks at a file that may be finished soon: what settles late settles at most so much
/// later than it could.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause between two looks at an empty file: whoever fills it makes an event or a new directory time.
pub const EMPTY_PAUSE: Duration = Duration::from_secs(10);

/// What one look at a file showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// The file at that moment.
    pub fingerprint: Fingerprint,
    /// The later of modification and status-change time, by the file system's clock.
    pub touched: WallTime,
    /// Whether its end is there.
    pub end: End,
}

/// What the content says about its completeness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// An image, and its end marker or its own length says that nothing is missing.
    Complete,
    /// An image, and something is missing.
    Missing,
    /// An image in a format, or of a build, whose end cannot be told.
    Unknown,
    /// Not an image.
    NotImage,
    /// Zero bytes.
    Empty,
}

/// What came out of looking at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A regular file.
    File(Look),
    /// It exists and cannot be read now: permissions, a lock, a failing disk.
    Unreadable,
    /// Nothing is there, or nothing that could be uploaded.
    Gone,
}

/// What a sighting says about the writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// Nothing: found by a scan, created, or its attributes changed.
    Seen,
    /// Somebody writes.
    Writing,
    /// The writer has closed it, or it was moved here.
    Closed,
}

/// What to do after a sighting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Sighted {
    /// Look at the file and report with [`Settle::looked`].
    Look,
    /// Nothing: its next look is planned, or it was [left out](Settle::take_left_out).
    Planned,
}

/// What a look decided.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// Complete and left alone. The file is no longer tracked.
    Settled {
        /// The file as it was seen.
        fingerprint: Fingerprint,
        /// What is odd about it.
        warning: Option<Warning>,
    },
    /// Not yet: look again then.
    LookAgain(Instant),
    /// There is nothing to wait for.
    Gone,
    /// Not yet, and the table is full: it was [left out](Settle::take_left_out).
    LeftOut,
}

/// What is odd about a file that is taken all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// The end of the image is missing.
    #[error("the end of the image is missing: the file may have been cut off")]
    NoEndMarker,
}

/// A file that is not settled yet, for `status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settling {
    /// Where it lies.
    pub path: PathBuf,
    /// When it was seen first.
    pub since: Instant,
    /// When a look found it changed last.
    pub changed: Instant,
    /// The last look found that it cannot be read.
    pub unreadable: bool,
}

/// The files of one drop folder that are not settled yet.
#[derive(Debug)]
pub struct Settle {
    quiet: Duration,
    tracked: HashMap<Arc<Path>, Tracked>,
    /// The same files by the moment of their next look.
    looks: BTreeSet<(Instant, Arc<Path>)>,
    /// Those that nobody seems to be writing: the first to make room.
    idle: BTreeSet<Arc<Path>>,
    left_out: Vec<PathBuf>,
}

#[derive(Debug)]
struct Tracked {
    since: Instant,
    changed: Instant,
    next: Instant,
    pause: Duration,
    last: Option<Fingerprint>,
    unreadable: bool,
    /// Closed or moved in after the last change that we know of.
    closed: bool,
    /// The `Closed` sign came after the last look: it covers the change that the next look finds.
    closed_since_look: bool,
}

impl Tracked {
    fn new(now: Instant) -> Self {
        Self {
            since: now,
            changed: now,
            next: now,
            pause: FIRST_PAUSE,
            last: None,
            unreadable: false,
            closed: false,
            closed_since_look: false,
        }
    }

    fn sign(&mut self, sign: Sign) {
        match sign {
            Sign::Seen => {}
            Sign::Writing => (self.closed, self.closed_since_look) = (false, false),
            Sign::Closed => (self.closed, self.closed_since_look) = (true, true),
        }
    }

    /// Takes note of what a look showed.
    fn note(&mut self, now: Instant, fingerprint: Fingerprint) {
        if self.last.is_some_and(|last| last != fingerprint) {
            self.changed = now;
            self.closed &= self.closed_since_look;
        }
        self.last = Some(fingerprint);
        self.closed_since_look = false;
    }
}

impl Settle {
    /// An empty table. `quiet` is the settle time of the folder.
    #[must_use]
    pub fn new(quiet: Duration) -> Self {
        Self { quiet, tracked: HashMap::new(), looks: BTreeSet::new(), idle: BTreeSet::new(), left_out: Vec::new() }
    }

    /// Whether one more file can be tracked.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.tracked.len() < MAX_TRACKED || !self.idle.is_empty()
    }

    /// Whether this file is tracked.
    #[must_use]
    pub fn tracks(&self, path: &Path) -> bool {
        self.tracked.contains_key(path)
    }

    /// How many files are tracked.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tracked.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tracked.is_empty()
    }

    /// Something happened to `path`. A file somebody writes to is not looked at for every write, only as planned.
    pub fn sighted(&mut self, now: Instant, path: &Path, sign: Sign) -> Sighted {
        if let Some(tracked) = self.tracked.get_mut(path) {
            tracked.sign(sign);
            if sign != Sign::Writing {
                return Sighted::Look;
            }
            if tracked.next > now + LONGEST_PAUSE {
                self.hurry(now, path);
            }
            return Sighted::Planned;
        }
        let mut tracked = Tracked::new(now);
        tracked.sign(sign);
        match sign {
            Sign::Seen => return Sighted::Look,
            Sign::Writing => tracked.next = now + FIRST_PAUSE,
            Sign::Closed => {}
        }
        if self.plan(path, tracked, false) && sign == Sign::Closed { Sighted::Look } else { Sighted::Planned }
    }

    /// The files whose look is due at `now`, the longest overdue first.
    pub fn due(&self, now: Instant) -> impl Iterator<Item = &Path> {
        self.looks.iter().take_while(move |(at, _)| *at <= now).map(|(_, path)| &**path)
    }

    /// When the next look is due.
    #[must_use]
    pub fn next_look(&self) -> Option<Instant> {
        self.looks.first().map(|(at, _)| *at)
    }

    /// A look at `path` showed `seen`; it is `now`, and `wall` by the wall clock.
    pub fn looked(&mut self, now: Instant, wall: WallTime, path: &Path, seen: Seen) -> Verdict {
        let mut tracked = self.take(path).unwrap_or_else(|| Tracked::new(now));
        tracked.unreadable = seen == Seen::Unreadable;
        let (wait, longest, idle) = match seen {
            Seen::Gone => return Verdict::Gone,
            Seen::Unreadable => (Duration::MAX, self.quiet.max(LONGEST_PAUSE), true),
            Seen::File(look) => {
                tracked.note(now, look.fingerprint);
                match self.missing_quiet(&tracked, now, wall, &look) {
                    Duration::ZERO => {
                        let warning = (look.end == End::Missing).then_some(Warning::NoEndMarker);
                        return Verdict::Settled { fingerprint: look.fingerprint, warning };
                    }
                    wait => (wait, self.longest_pause(look.end), look.end == End::Empty),
                }
            }
        };
        let pause = tracked.pause.min(wait).min(longest);
        tracked.next = now + pause;
        tracked.pause = tracked.pause.saturating_mul(2).min(longest);
        let next = tracked.next;
        if self.plan(path, tracked, idle) { Verdict::LookAgain(next) } else { Verdict::LeftOut }
    }

    /// How much longer the file must stay as it is; zero when it is settled.
    fn missing_quiet(&self, tracked: &Tracked, now: Instant, wall: WallTime, look: &Look) -> Duration {
        let needed = match look.end {
            End::Empty => return Duration::MAX,
            End::Complete if tracked.closed || self.long_untouched(wall, look) => return Duration::ZERO,
            End::Complete | End::Unknown | End::NotImage => self.quiet,
            End::Missing => self.quiet.max(MARKER_GRACE),
        };
        needed.saturating_sub(now - tracked.changed)
    }

    /// The file system says that nobody has touched it for the settle time. A time in the future says nothing.
    fn long_untouched(&self, wall: WallTime, look: &Look) -> bool {
        look.touched <= wall && wall.since(look.touched) >= self.quiet
    }

    fn longest_pause(&self, end: End) -> Duration {
        match end {
            End::Empty => self.quiet.max(EMPTY_PAUSE),
            End::Missing => self.quiet.max(LONGEST_PAUSE),
            End::Complete | End::Unknown | End::NotImage => LONGEST_PAUSE,
        }
    }

    /// The files that found no room in the table, or lost it to one that is being written: a scan must find them again.
    #[must_use]
    pub fn take_left_out(&mut self) -> Vec<PathBuf> {
        std::mem::take(&mut self.left_out)
    }

    /// The files that settle longest, at most `limit`.
    #[must_use]
    pub fn oldest(&self, limit: usize) -> Vec<Settling> {
        let mut all: Vec<_> = self.tracked.iter().collect();
        all.sort_by_key(|(path, tracked)| (tracked.since, Arc::clone(path)));
        all.truncate(limit);
        all.into_iter()
            .map(|(path, tracked)| Settling {
                path: path.to_path_buf(),
                since: tracked.since,
                changed: tracked.changed,
                unreadable: tracked.unreadable,
            })
            .collect()
    }

    /// A file that lay idle is written to again: looks at it soon.
    fn hurry(&mut self, now: Instant, path: &Path) {
        if let Some(tracked) = self.take(path) {
            self.plan(path, Tracked { next: now + FIRST_PAUSE, pause: FIRST_PAUSE, ..tracked }, false);
        }
    }

    /// Plans the next look; false if there is no room for it.
    fn plan(&mut self, path: &Path, tracked: Tracked, idle: bool) -> bool {
        if self.tracked.len() >= MAX_TRACKED {
            let loser = self.idle.first().map(|idle| idle.to_path_buf());
            self.left_out.push(loser.clone().unwrap_or_else(|| path.to_path_buf()));
            match loser {
                Some(loser) => drop(self.take(&loser)),
                None => return false,
            }
        }
        let path: Arc<Path> = path.into();
        if idle {
            self.idle.insert(Arc::clone(&path));
        }
        self.looks.insert((tracked.next, Arc::clone(&path)));
        self.tracked.insert(path, tracked);
        true
    }

    fn take(&mut self, path: &Path) -> Option<Tracked> {
        let (key, tracked) = self.tracked.remove_entry(path)?;
        self.idle.remove(&key);
        self.looks.remove(&(tracked.next, key));
        Some(tracked)
    }
}
