//! What a job is: its identity, the stages of its life, and the value an attempt ends with.
//!
//! Everything here is plain data and pure functions. [`Stage::next`] is total and is used both while running and when
//! the ledger is read back after a crash, so recovery cannot disagree with normal operation.

use std::fmt;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use ulid::Ulid;

mod kind;
mod outcome;

pub use kind::{Disposition, FailureKind};
pub use outcome::{ErrorClass, Failure, Links, Outcome, Phase};

/// Up to this size in bytes a file is read at once, and kept in memory while it is sent: measured, streaming small files
/// from disk costs half of the speed. Eight workers hold at most 8 MiB.
pub const WHOLE_FILE_LIMIT: u64 = 1 << 20;

/// The identity of one job: a ULID, sortable by the time it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(Ulid);

impl JobId {
    /// A new, unique id.
    #[must_use]
    pub fn generate() -> Self {
        Self(Ulid::generate())
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for JobId {
    type Err = ulid::DecodeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ulid::from_string(text).map(Self)
    }
}

/// What tells "the same file, untouched" without reading it: device, inode, length and modification time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint {
    /// Device number of the file system.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Length in bytes.
    pub len: u64,
    /// Modification time, nanoseconds since the Unix epoch.
    pub mtime_ns: i64,
}

impl Fingerprint {
    /// The fingerprint that belongs to `metadata`.
    #[must_use]
    pub fn of(metadata: &Metadata) -> Self {
        Self {
            dev: metadata.dev(),
            ino: metadata.ino(),
            len: metadata.len(),
            mtime_ns: metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec()),
        }
    }
}

impl Fingerprint {
    /// Whether this is the file of `other` with another modification time: the content may be the same.
    #[must_use]
    pub fn is_touched(&self, other: &Self) -> bool {
        (self.dev, self.ino, self.len) == (other.dev, other.ino, other.len) && self.mtime_ns != other.mtime_ns
    }
}

/// The blake3 hash of a file's content: what tells "the same content". Shown as 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentHash(pub [u8; 32]);

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ContentHash {
    type Err = blake3::HexError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        blake3::Hash::from_hex(text).map(|hash| Self(*hash.as_bytes()))
    }
}

/// The image types that pixchute recognises by content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum ImageKind {
    Jpeg,
    Png,
    Gif,
    Webp,
    Bmp,
    Tiff,
    Avif,
    Heic,
}

impl ImageKind {
    /// Every kind, in the order in which messages list them.
    pub const ALL: [Self; 8] =
        [Self::Jpeg, Self::Png, Self::Gif, Self::Webp, Self::Bmp, Self::Tiff, Self::Avif, Self::Heic];

    /// The MIME type sent to hosts and written to the manifest.
    #[must_use]
    pub fn mime(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::Gif => "image/gif",
            Self::Webp => "image/webp",
            Self::Bmp => "image/bmp",
            Self::Tiff => "image/tiff",
            Self::Avif => "image/avif",
            Self::Heic => "image/heic",
        }
    }

    /// The short name used in recipes (`types = ["jpeg", …]`) and messages; also the usual extension but for `jpeg`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.mime().trim_start_matches("image/")
    }

    /// The kind with this MIME type.
    #[must_use]
    pub fn from_mime(mime: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.mime() == mime)
    }
}

/// What [`crate::inspect`] found out about a settled file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageFacts {
    /// Type by content.
    pub kind: ImageKind,
    /// Width in pixels, from the header.
    pub width: u32,
    /// Height in pixels, from the header.
    pub height: u32,
    /// Whether it has more than one frame. Not kept over a restart: `false` then.
    pub animated: bool,
    /// Hash of the whole content.
    pub hash: ContentHash,
}

/// Where a job stands. The order is the order of a lucky life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Settled and queued; nothing was sent since (S1).
    Waiting,
    /// An attempt has begun and not ended: an upload may have happened (S2).
    Started,
    /// The links are known, the bookkeeping is unfinished (S3).
    Uploaded,
    /// Resting until its next try is due (S4).
    Cooling,
    /// Finished: links in the manifest, file shelved (S5).
    Done,
    /// Given up with a reason (S6).
    Failed,
}

impl Stage {
    /// Every stage.
    pub const ALL: [Self; 6] = [Self::Waiting, Self::Started, Self::Uploaded, Self::Cooling, Self::Done, Self::Failed];

    /// The word of the ledger, of `status` and of `GET /v1/jobs?state=`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Started => "started",
            Self::Uploaded => "uploaded",
            Self::Cooling => "cooling",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }

    /// The stage with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.name() == name)
    }

    /// Where a job at this stage stands after `event`.
    ///
    /// # Errors
    /// [`IllegalEvent`] when the pair cannot happen: a bug of ours or a damaged ledger.
    pub fn next(self, event: Event) -> Result<Self, IllegalEvent> {
        match (self, event) {
            (Self::Waiting, Event::Start) => Ok(Self::Started),
            // A content that was uploaded before needs no attempt.
            (Self::Waiting | Self::Started, Event::Succeed) => Ok(Self::Uploaded),
            (Self::Started, Event::CoolDown) => Ok(Self::Cooling),
            // A file can be refused before anything is sent, and a waiting or resting job can be cancelled.
            (Self::Waiting | Self::Started | Self::Cooling, Event::Reject) => Ok(Self::Failed),
            // A restart queues what was in flight; so does a shutdown that cut an attempt short.
            (Self::Waiting | Self::Started, Event::GiveBack) => Ok(Self::Waiting),
            (Self::Cooling, Event::Requeue) => Ok(Self::Waiting),
            // What the user wants tried again rests until now.
            (Self::Cooling | Self::Failed, Event::Retry) => Ok(Self::Cooling),
            (Self::Uploaded, Event::Record) => Ok(Self::Done),
            (Self::Cooling, Event::Record) => Ok(Self::Cooling),
            (Self::Failed, Event::Record) => Ok(Self::Failed),
            (stage, event) => Err(IllegalEvent { stage, event }),
        }
    }
}

/// What can happen to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// An attempt begins.
    Start,
    /// The links are known.
    Succeed,
    /// The attempt failed for now.
    CoolDown,
    /// The job is given up, or cancelled.
    Reject,
    /// The attempt ended without a verdict on the file: shutdown, crash, changed host.
    GiveBack,
    /// The cooldown is over.
    Requeue,
    /// The user wants another try.
    Retry,
    /// Manifest, sidecar and move are done.
    Record,
}

impl Event {
    /// Every event.
    pub const ALL: [Self; 8] = [
        Self::Start,
        Self::Succeed,
        Self::CoolDown,
        Self::Reject,
        Self::GiveBack,
        Self::Requeue,
        Self::Retry,
        Self::Record,
    ];
}

/// An event that a stage does not admit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a job that is {} cannot {event:?}", stage.name())]
pub struct IllegalEvent {
    /// Where the job stood.
    pub stage: Stage,
    /// What was to happen to it.
    pub event: Event,
}

/// One settled file on its way to one host: the row of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Identity, for ever.
    pub id: JobId,
    /// The drop folder it was found in (absolute).
    pub folder: PathBuf,
    /// Its name relative to the drop folder, as it was dropped: `trip/IMG_1.jpg`.
    pub name: PathBuf,
    /// Where the file lies now (absolute): in the drop folder, `retry/`, `failed/` or `done/`.
    pub path: PathBuf,
    /// The name of the host, a key of `[host.NAME]`.
    pub host: String,
    /// Where it stands.
    pub stage: Stage,
    /// The file as it was inspected.
    pub fingerprint: Fingerprint,
    /// What inspection found; `None` for a file that is no image.
    pub image: Option<ImageFacts>,
    /// Attempts begun so far.
    pub attempts: u32,
    /// Cooldowns used up so far.
    pub requeues: u32,
    /// Attempts that ended after the last byte was sent and without an answer: possible orphans on the host.
    pub unknown_outcomes: u32,
    /// When it was queued first.
    pub queued_at: crate::clock::WallTime,
    /// Not to be tried before this moment: a `Cooling` job, or a `Waiting` one that is not in memory (it was cut off by a
    /// crash or a shutdown) and is claimed like a rested one.
    pub not_before: Option<crate::clock::WallTime>,
    /// The manifest line of its last outcome, as JSON.
    pub record: Option<String>,
    /// `record` still has to reach the manifest, the sidecar or the file's new place.
    pub pending: bool,
}

impl Job {
    /// A job that waits for its first attempt, of the file `name` in the drop folder `folder`, where it lies too. Nothing is
    /// known of the file but its fingerprint.
    #[must_use]
    pub fn new(
        folder: PathBuf,
        name: PathBuf,
        host: String,
        fingerprint: Fingerprint,
        queued_at: crate::clock::WallTime,
    ) -> Self {
        Self {
            id: JobId::generate(),
            path: folder.join(&name),
            folder,
            name,
            host,
            stage: Stage::Waiting,
            fingerprint,
            image: None,
            attempts: 0,
            requeues: 0,
            unknown_outcomes: 0,
            queued_at,
            not_before: None,
            record: None,
            pending: false,
        }
    }

    /// Moves on to the stage that follows from `event`.
    ///
    /// # Errors
    /// [`IllegalEvent`]; the job is then unchanged.
    pub fn advance(&mut self, event: Event) -> Result<(), IllegalEvent> {
        self.stage = self.stage.next(event)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every pair that is legal; all others must be refused.
    const LEGAL: [(Stage, Event, Stage); 15] = [
        (Stage::Waiting, Event::Start, Stage::Started),
        (Stage::Waiting, Event::Succeed, Stage::Uploaded),
        (Stage::Waiting, Event::Reject, Stage::Failed),
        (Stage::Waiting, Event::GiveBack, Stage::Waiting),
        (Stage::Started, Event::Succeed, Stage::Uploaded),
        (Stage::Started, Event::CoolDown, Stage::Cooling),
        (Stage::Started, Event::Reject, Stage::Failed),
        (Stage::Started, Event::GiveBack, Stage::Waiting),
        (Stage::Cooling, Event::Reject, Stage::Failed),
        (Stage::Cooling, Event::Requeue, Stage::Waiting),
        (Stage::Cooling, Event::Record, Stage::Cooling),
        (Stage::Cooling, Event::Retry, Stage::Cooling),
        (Stage::Failed, Event::Retry, Stage::Cooling),
        (Stage::Failed, Event::Record, Stage::Failed),
        (Stage::Uploaded, Event::Record, Stage::Done),
    ];

    #[test]
    fn every_pair_of_stage_and_event_is_as_the_table_says() {
        for stage in Stage::ALL {
            for event in Event::ALL {
                let expected = LEGAL.iter().find(|(s, e, _)| (*s, *e) == (stage, event)).map(|(_, _, to)| *to);
                assert_eq!(stage.next(event).ok(), expected, "{stage:?} on {event:?}");
            }
        }
    }

    #[test]
    fn an_illegal_event_names_both_sides() {
        let error = Stage::Done.next(Event::Start).expect_err("done is done");
        assert_eq!(error.to_string(), "a job that is done cannot Start");
    }

    #[test]
    fn names_read_back() {
        for stage in Stage::ALL {
            assert_eq!(Stage::from_name(stage.name()), Some(stage));
        }
        for kind in ImageKind::ALL {
            assert_eq!(ImageKind::from_mime(kind.mime()), Some(kind));
        }
        let id = JobId::generate();
        assert_eq!(id.to_string().parse::<JobId>().expect("a ULID"), id);
        let hash = ContentHash(*blake3::hash(b"x").as_bytes());
        assert_eq!(hash.to_string().parse::<ContentHash>().expect("hex"), hash);
    }
}
