//! Records: what became of a file, told to people and scripts.
//!
//! One [`Record`] is one line of the [`manifest`] of its drop folder and the content of the image's [`sidecar`]. The
//! manifest is also the agent's second memory: a lost ledger is [rebuilt](rebuild) from it. Manifests can be edited, cut,
//! rotated and deleted by anybody who may write in the drop folder, so nothing that is read from one is believed without
//! a check.

pub mod follow;
pub mod manifest;
mod mirror;
pub mod rebuild;
pub mod sidecar;

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::clock::WallTime;
use crate::job::{ContentHash, ErrorClass, Failure, Job, JobId, Links, Phase};
pub use mirror::Mirror;

/// The version of the record's format.
pub const VERSION: u32 = 1;

/// One outcome: the JSON object of manifest line and sidecar, fields in this order.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// [`VERSION`]
    pub v: u32,
    /// Counts the lines of one agent, over all folders.
    pub seq: u64,
    /// The job.
    pub job: JobId,
    /// When it was known.
    pub at: WallTime,
    /// What became of the file.
    pub status: Status,
    /// The file's name relative to the drop folder, `trip/IMG_1.jpg`; lossy if it is not UTF-8.
    pub file: String,
    /// The exact bytes of `file` (base64) if it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_bytes: Option<String>,
    /// The drop folder.
    pub folder: String,
    /// The host's name.
    pub host: String,
    /// The page to link to.
    pub url: Option<String>,
    /// What to show in its place.
    pub thumb: Option<String>,
    /// The image file itself.
    pub image: Option<String>,
    /// Opening it deletes the image.
    pub delete_url: Option<String>,
    /// What the host's delete request needs, on hosts that delete by request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete_token: Option<String>,
    /// What was sent is the file without its metadata (`strip_metadata`); left out if not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stripped: bool,
    /// The sub-folder as an album.
    pub album: Option<String>,
    /// The album's page.
    pub album_url: Option<String>,
    /// Size of the file.
    pub bytes: u64,
    /// Type by content; null for a file that is no image.
    pub mime: Option<String>,
    /// Width in pixels.
    pub width: Option<u32>,
    /// Height in pixels.
    pub height: Option<u32>,
    /// Hash of the content, 64 hex digits.
    #[serde(with = "hex")]
    pub blake3: Option<ContentHash>,
    /// Attempts begun so far.
    pub attempts: u32,
    /// Cooldowns used up so far.
    pub requeues: u32,
    /// How long the last attempt took, in milliseconds.
    pub duration_ms: u64,
    /// Where the file lies after this: relative to the drop folder, or absolute if it is not below it; null if it stays.
    pub moved_to: Option<String>,
    /// Why there is no link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<RecordError>,
    /// When the image was deleted on its host again: in the sidecar and in the ledger, never in a manifest line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed_at: Option<WallTime>,
    /// With `policy = "mirror"`: what each host has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<Mirror>,
}

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The host has it.
    Uploaded,
    /// The host had the same content already; its links are repeated.
    Linked,
    /// The attempt took too long; the file rests.
    Timeout,
    /// The attempt failed for now; the file rests.
    Deferred,
    /// Given up.
    Failed,
}

impl Status {
    /// Whether nothing more will be said about this job unless somebody asks for another try.
    #[must_use]
    pub fn is_final(self) -> bool {
        match self {
            Self::Uploaded | Self::Linked | Self::Failed => true,
            Self::Timeout | Self::Deferred => false,
        }
    }

    /// Whether there are links.
    #[must_use]
    pub fn is_success(self) -> bool {
        matches!(self, Self::Uploaded | Self::Linked)
    }

    /// The word of the manifest.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Uploaded => "uploaded",
            Self::Linked => "linked",
            Self::Timeout => "timeout",
            Self::Deferred => "deferred",
            Self::Failed => "failed",
        }
    }
}

/// Why there is no link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordError {
    /// What kind of failure.
    pub class: ErrorClass,
    /// What the attempt was doing.
    pub phase: Phase,
    /// One sentence for people.
    pub message: String,
    /// Status of the last answer.
    pub http_status: Option<u16>,
    /// The first bytes of the last answer.
    pub response_head: Option<String>,
    /// When the file is tried again; null if it is given up.
    pub next_try_at: Option<WallTime>,
    /// What to do about it.
    pub advice: Option<String>,
    /// Possible orphans: attempts of this job that broke after the last byte was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown_outcomes: Option<u32>,
}

impl RecordError {
    /// What a record says about `failure`.
    #[must_use]
    pub fn of(failure: &Failure, next_try_at: Option<WallTime>, unknown_outcomes: u32) -> Self {
        Self {
            class: failure.class,
            phase: failure.phase,
            message: failure.message.clone(),
            http_status: failure.http_status,
            response_head: failure.response_head.clone(),
            next_try_at,
            advice: failure.advice.clone(),
            unknown_outcomes: (unknown_outcomes > 0).then_some(unknown_outcomes),
        }
    }
}

/// Why a line is no record.
#[derive(Debug, thiserror::Error)]
pub enum NoRecord {
    /// Not JSON, or not with the fields of a record.
    #[error("not a record: {0}")]
    Json(#[from] serde_json::Error),
    /// A format that this program does not know.
    #[error("a record of version {0}, this program knows version {VERSION}")]
    Version(u32),
    /// It claims success and has no usable link, or the other way round.
    #[error("a record with status {0} whose url does not fit to it")]
    Link(&'static str),
}

impl Record {
    /// The record of `job` with everything that the job itself knows: no links, no error, no move.
    #[must_use]
    pub fn of(job: &Job, seq: u64, at: WallTime, status: Status) -> Self {
        let name = job.name.as_os_str();
        let exact = name.to_str().is_none().then(|| STANDARD.encode(name.as_bytes()));
        Self {
            v: VERSION,
            seq,
            job: job.id,
            at,
            status,
            file: name.to_string_lossy().into_owned(),
            file_bytes: exact,
            folder: job.folder.to_string_lossy().into_owned(),
            host: job.host.clone(),
            url: None,
            thumb: None,
            image: None,
            delete_url: None,
            delete_token: None,
            stripped: false,
            album: None,
            album_url: None,
            bytes: job.fingerprint.len,
            mime: job.image.map(|image| image.kind.mime().to_owned()),
            width: job.image.map(|image| image.width),
            height: job.image.map(|image| image.height),
            blake3: job.image.map(|image| image.hash),
            attempts: job.attempts,
            requeues: job.requeues,
            duration_ms: 0,
            moved_to: None,
            error: None,
            removed_at: None,
            mirrors: Vec::new(),
        }
    }

    /// The same record with these links.
    #[must_use]
    pub fn with_links(mut self, links: Links) -> Self {
        self.url = Some(links.url);
        self.thumb = links.thumb;
        self.image = links.image;
        self.delete_url = links.delete_url;
        self.delete_token = links.delete_token;
        self.stripped = links.stripped;
        self
    }

    /// The same record, moved to `path`.
    #[must_use]
    pub fn with_move(mut self, folder: &Path, path: &Path) -> Self {
        self.moved_to = Some(path.strip_prefix(folder).unwrap_or(path).to_string_lossy().into_owned());
        self
    }

    /// The same record, of a file that stays where it is.
    #[must_use]
    pub fn unmoved(mut self) -> Self {
        self.moved_to = None;
        self
    }

    /// The manifest line: JSON and a line feed, and no other line feed.
    #[must_use]
    pub fn line(&self) -> String {
        let mut line = self.json();
        line.push('\n');
        line
    }

    /// The record as JSON on one line, as the ledger keeps it.
    #[must_use]
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("a record has string keys and no failing values")
    }

    /// Reads a line; unknown fields are skipped, other links that are not http(s) are dropped.
    ///
    /// # Errors
    /// [`NoRecord`] for anything but a record of this version with an absolute http(s) `url` exactly if it is a success.
    pub fn parse(line: &[u8]) -> Result<Self, NoRecord> {
        #[derive(Deserialize)]
        struct Version {
            v: u32,
        }
        let Version { v } = serde_json::from_slice(line)?;
        if v != VERSION {
            return Err(NoRecord::Version(v));
        }
        let mut record: Self = serde_json::from_slice(line)?;
        for link in [&mut record.url, &mut record.thumb, &mut record.image, &mut record.delete_url] {
            link.take_if(|link| !is_web_address(link));
        }
        record.mirrors.iter_mut().for_each(Mirror::check);
        if record.url.is_some() != record.status.is_success() {
            return Err(NoRecord::Link(record.status.name()));
        }
        Ok(record)
    }

    /// The links; `None` unless it is a success.
    #[must_use]
    pub fn links(&self) -> Option<Links> {
        let url = self.url.clone()?;
        Some(Links {
            url,
            thumb: self.thumb.clone(),
            image: self.image.clone(),
            delete_url: self.delete_url.clone(),
            delete_token: self.delete_token.clone(),
            stripped: self.stripped,
        })
    }

    /// The links on this host; `None` if the record knows none.
    #[must_use]
    pub fn links_on(&self, host: &str) -> Option<Links> {
        if self.host == host {
            return self.links();
        }
        self.mirrors.iter().find(|mirror| mirror.host == host)?.links()
    }

    /// The exact name relative to the drop folder; `None` if it would lead out of it.
    #[must_use]
    pub fn name(&self) -> Option<PathBuf> {
        let name = match &self.file_bytes {
            Some(bytes) => PathBuf::from(OsString::from_vec(STANDARD.decode(bytes).ok()?)),
            None => PathBuf::from(&self.file),
        };
        let inside = name.components().all(|component| matches!(component, Component::Normal(_)));
        (inside && name.file_name().is_some()).then_some(name)
    }
}

impl fmt::Debug for Record {
    /// Without the links: the one that deletes must not reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("seq", &self.seq)
            .field("job", &self.job)
            .field("status", &self.status)
            .field("file", &self.file)
            .field("host", &self.host)
            .field("moved_to", &self.moved_to)
            .finish_non_exhaustive()
    }
}

fn is_web_address(text: &str) -> bool {
    // The parser would drop line feeds, and what surrounds the address.
    let plain = text.starts_with("http") && !text.contains(|c: char| c.is_control() || c.is_whitespace());
    plain && url::Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

/// A content hash as 64 hex digits or null.
mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de};

    use crate::job::ContentHash;

    #[expect(clippy::ref_option, reason = "the signature that serde calls")]
    pub(super) fn serialize<S: Serializer>(hash: &Option<ContentHash>, serializer: S) -> Result<S::Ok, S::Error> {
        match hash {
            Some(hash) => serializer.collect_str(hash),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ContentHash>, D::Error> {
        let text: Option<String> = Option::deserialize(deserializer)?;
        text.map(|text| text.parse().map_err(de::Error::custom)).transpose()
    }
}

#[cfg(test)]
pub(crate) mod tests;
