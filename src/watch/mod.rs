//! Notices files in a drop folder and hands them over when they are settled.
//!
//! Events are hints, the folder is the truth: a lost, doubled or reordered event changes when a file is found and nothing
//! else. Start, overflow, a folder that comes back and a slow timer all run the same scan, and every directory is watched
//! *before* it is listed, so nothing falls between the two.
//!
//! [`FolderFeed`] is pulled by its consumer and does nothing while it is not: no file is touched before its turn, names
//! come from one open directory stream, and every store of its own is bounded. It owns the watches and the memory of
//! what was listed; it writes nothing, moves nothing and decides nothing about jobs: it may offer a file again that is
//! known, never one that is [ours](Ignore).
//!
//! | file | does |
//! |---|---|
//! | `sign` | what an event of the operating system means for us (pure) |
//! | `hints` | the bounded store between whoever sees something and the feed |
//! | `ignore` | which names are taken |
//! | `links` | where symbolic links lead, for folders that follow them |
//! | `native` | the one place that talks to `notify`; which file systems cannot be watched |
//! | `probe` | whether the system tells what happens in a folder, for `doctor` |
//! | `root` | is the drop folder there, and the one it was |
//! | `scan` | names out of a tree of directories, a few at a time |
//! | `disk` | the blocking half of the feed: the folder's identity, scans, looks |
//! | `feed` | what to do next |
//!
//! **Limits.** On a folder that is polled, a settled file that is rewritten in place is found by the full scan only, see
//! [`FULL_SCAN`]. A directory more than [`MAX_DEPTH`] levels down is not entered and makes scans incomplete. A file system
//! that is mounted on a directory *in* the drop folder is found by the next scan, for nothing tells of it.

mod disk;
mod feed;
mod hints;
mod ignore;
mod links;
pub mod mounts;
mod native;
mod probe;
mod root;
mod scan;
mod sign;

use std::fmt;
use std::path::PathBuf;

use crate::inspect::Inspected;
use crate::job::Fingerprint;
use crate::settle::Warning;

pub use disk::FULL_SCAN;
pub use feed::FolderFeed;
pub use hints::{Busy, FeedStatus, Hints, SettlingFile};
pub use ignore::{BadPattern, IGNORED, Ignore};
pub use probe::{Told, probe};
pub use root::device;
pub use scan::MAX_DEPTH;

/// What the feed has to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Feed {
    /// A file is complete and nobody writes to it.
    Settled(Settled),
    /// A scan has offered everything it found.
    Scanned {
        /// The first one since the start.
        first: bool,
        /// Every directory could be read: what was not offered is not there.
        complete: bool,
    },
    /// The folder is watched in another way than before, or not at all; or another folder has taken its place.
    State(WatchState),
    /// Events were lost; a full scan follows. Once per burst.
    Overflow,
}

/// A settled file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Where it lies, absolute.
    pub path: PathBuf,
    /// Its name relative to the drop folder.
    pub name: PathBuf,
    /// The file as it was when it settled.
    pub fingerprint: Fingerprint,
    /// What is odd about it.
    pub warning: Option<Warning>,
    /// What it is, if that was found out on the way.
    pub inspected: Option<Inspected>,
}

/// How changes of a drop folder are noticed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchState {
    /// By events of the operating system, and slow scans.
    Native,
    /// By scans every `poll_interval`.
    Poll {
        /// Why, and what to do about it.
        reason: String,
        /// It should be watched, but the system refuses more watches.
        shortage: bool,
    },
    /// Not: the folder is not there. It is looked for every few seconds.
    Absent {
        /// What is there instead.
        reason: String,
    },
}

impl WatchState {
    /// The word of `status`: `native`, `poll` or `absent`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Poll { .. } => "poll",
            Self::Absent { .. } => "absent",
        }
    }

    /// Why it is polled or absent.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Native => None,
            Self::Poll { reason, .. } | Self::Absent { reason } => Some(reason),
        }
    }
}

impl fmt::Display for WatchState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason() {
            None => f.write_str(self.name()),
            Some(reason) => write!(f, "{} ({reason})", self.name()),
        }
    }
}
