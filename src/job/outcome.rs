//! How attempts end: links, or a failure with its class.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::FailureKind;

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

    /// What its owner can do once the file was given up: what the failure says itself, or else what its class means.
    #[must_use]
    pub fn last_advice(&self) -> &str {
        self.advice.as_deref().unwrap_or(match self.class {
            ErrorClass::File => "convert it or make it smaller, or give its folder another host",
            ErrorClass::Io => "check its permissions and the disk, then `pixchute retry` with its path",
            ErrorClass::Account => {
                "check the keys of its host with `pixchute check`, then `pixchute retry` with its path"
            }
            _ => "`pixchute retry` with its path sends it once more when its host is well again",
        })
    }

    /// The same failure with a word on what to do.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }
}
