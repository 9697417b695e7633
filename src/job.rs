//! What a job is: its identity, the stages of its life, and the value an attempt ends with.
//!
//! Everything here is plain data and pure functions. [`Stage::next`] is total and is used both while running and when
//! the ledger is read back after a crash, so recovery cannot disagree with normal operation.

use std::fmt;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use ulid::Ulid;

mod kind;

pub use kind::{Disposition, FailureKind};

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
    pub const ALL: [Self; 7] =
        [Self::Start, Self::Succeed, Self::CoolDown, Self::Reject, Self::GiveBack, Self::Requeue, Self::Record];
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
    /// Moves on to the stage that follows from `event`.
    ///
    /// # Errors
    /// [`IllegalEvent`]; the job is then unchanged.
    pub fn advance(&mut self, event: Event) -> Result<(), IllegalEvent> {
        self.stage = self.stage.next(event)?;
        Ok(())
    }
}

/// How an attempt ended. A failed upload is a value, never an `Err`.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The host has it and told where.
    Uploaded(Links),
    /// It did not work; [`Failure::disposition`] says what follows.
    Failed(Failure),
    /// The file changed while it was sent, or since it was inspected: no link is published, the file settles anew.
    Changed {
        /// What the host answered all the same, so that it can be removed there.
        links: Option<Links>,
    },
    /// The file is gone: its owner removed it.
    Vanished,
}

/// Where an uploaded image can be found: absolute http(s) URLs.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Links {
    /// The page to link to.
    pub url: String,
    /// What to show in its place.
    pub thumb: Option<String>,
    /// The image file itself.
    pub image: Option<String>,
    /// Opening it deletes the image on the host. A secret of sorts: manifest only, never in a log.
    pub delete_url: Option<String>,
    /// What the host's delete request needs, where deleting takes a request instead of a link. As secret as that link.
    #[serde(default)]
    pub delete_token: Option<String>,
    /// Its metadata was removed before it was sent.
    #[serde(default)]
    pub stripped: bool,
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = |secret: &Option<String>| secret.as_ref().map(|_| "[REDACTED]");
        f.debug_struct("Links")
            .field("url", &self.url)
            .field("thumb", &self.thumb)
            .field("image", &self.image)
            .field("delete_url", &hidden(&self.delete_url))
            .field("delete_token", &hidden(&self.delete_token))
            .field("stripped", &self.stripped)
            .finish()
    }
}

/// What kind of failure: the `class` of a manifest line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// The deadline of the file or of one request passed.
    Timeout,
    /// No byte moved in either direction for `stall_timeout`.
    Stall,
    /// The host could not be reached, or hung up before the whole file was sent.
    Connect,
    /// The host asks for fewer uploads (429 and its relatives).
    RateLimited,
    /// The host refuses our key or account.
    Account,
    /// An answer came but it is no success: 5xx, HTML, no usable URL.
    BadResponse,
    /// This file will never be taken: not an image, too large, refused type.
    File,
    /// It broke after the last byte was sent and before the answer: the image may be on the host.
    UnknownOutcome,
    /// Our own disk or file system.
    Io,
    /// The user cancelled it.
    Cancelled,
}

impl ErrorClass {
    /// Every class.
    pub const ALL: [Self; 10] = [
        Self::Timeout,
        Self::Stall,
        Self::Connect,
        Self::RateLimited,
        Self::Account,
        Self::BadResponse,
        Self::File,
        Self::UnknownOutcome,
        Self::Io,
        Self::Cancelled,
    ];

    /// The word of the manifest and of `ERROR_CLASS`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Stall => "stall",
            Self::Connect => "connect",
            Self::RateLimited => "rate_limited",
            Self::Account => "account",
            Self::BadResponse => "bad_response",
            Self::File => "file",
            Self::UnknownOutcome => "unknown_outcome",
            Self::Io => "io",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What an attempt was doing when it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Phase {
    /// Looking at the file before anything is sent.
    Inspect,
    /// Waiting for a turn at the host's rate, or between two tries.
    Wait,
    /// Name look-up and TCP.
    Connect,
    /// Agreeing on encryption.
    Tls,
    /// Sending the request.
    Send,
    /// Waiting for the answer, or reading it.
    Response,
    /// Reading the links out of the answer.
    Parse,
    /// Manifest, sidecar, move.
    Record,
}

impl Phase {
    /// The word of the manifest and of log messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Inspect => "inspect",
            Self::Wait => "wait",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Send => "send",
            Self::Response => "response",
            Self::Parse => "parse",
            Self::Record => "record",
        }
    }
}

/// Why an attempt did not give a link.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// What happened: the word of the manifest.
    pub class: ErrorClass,
    /// What follows.
    pub kind: FailureKind,
    /// It was our own network that failed: no way out of this machine.
    pub offline: bool,
    /// What the attempt was doing.
    pub phase: Phase,
    /// One sentence for people: what, where, what was expected.
    pub message: String,
    /// What to do about it, if anything can be done.
    pub advice: Option<String>,
    /// Status of the last answer.
    pub http_status: Option<u16>,
    /// The first bytes of the last answer's body, secrets removed: at most [`Failure::RESPONSE_HEAD`] bytes.
    pub response_head: Option<String>,
    /// How long the host asks us to stay away.
    pub retry_after: Option<Duration>,
    /// It was time that ended it: the manifest says `timeout` rather than `deferred`.
    pub timed_out: bool,
    /// Bytes of the body that were handed to the connection in the last request.
    pub sent: u64,
}

impl Failure {
    /// How much of an answer's body is kept for the manifest: enough to recognise an error page.
    pub const RESPONSE_HEAD: usize = 512;

    /// A failure with its message and nothing else.
    #[must_use]
    pub fn new(class: ErrorClass, phase: Phase, message: impl Into<String>) -> Self {
        Self {
            class,
            kind: FailureKind::of(class),
            offline: false,
            phase,
            message: message.into(),
            advice: None,
            http_status: None,
            response_head: None,
            retry_after: None,
            timed_out: matches!(class, ErrorClass::Timeout | ErrorClass::Stall),
            sent: 0,
        }
    }

    /// The same failure with a word on what to do.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
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
