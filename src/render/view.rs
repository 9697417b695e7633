//! What templates see: a list of records with its album, its folder and its totals, as values that are worked out when a
//! template asks for them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use minijinja::Value;
use minijinja::value::{Enumerator, Object};

use super::escape::web_address;
use crate::clock::WallTime;
use crate::config::MANIFEST_FIELDS;
use crate::record::{Mirror, Record, Status};

/// What a file has besides the fields of its manifest line: one that only sidecars have, and what can be read off the others.
const BESIDES: [&str; 6] = ["removed_at", "name", "stem", "extension", "duration", "number"];

/// The fields of a file.
pub(super) const FILE: [&str; MANIFEST_FIELDS.len() + BESIDES.len()] = {
    let mut all = [""; MANIFEST_FIELDS.len() + BESIDES.len()];
    let (manifest, besides) = all.split_at_mut(MANIFEST_FIELDS.len());
    manifest.copy_from_slice(&MANIFEST_FIELDS);
    besides.copy_from_slice(&BESIDES);
    all
};

/// The fields of `album`.
pub(super) const ALBUM: [&str; 5] = ["name", "url", "id", "cover", "title"];

/// The fields of `folder`.
pub(super) const FOLDER: [&str; 2] = ["path", "name"];

/// The fields of `totals`.
pub(super) const TOTALS: [&str; 6] = ["count", "bytes", "uploaded", "linked", "failed", "duration_ms"];

/// What is known about the album of a list; all empty for a folder without albums.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Album {
    /// The sub-folder.
    pub name: Option<String>,
    /// Its page on the host.
    pub url: Option<String>,
    /// Its id there.
    pub id: Option<String>,
    /// What to show for it; the first image's thumbnail unless the host has a cover.
    pub cover: Option<String>,
}

/// What one template renders: records with links, in the order of the text, and what surrounds them.
#[derive(Clone, Debug)]
pub struct List {
    /// The records.
    pub files: Vec<Arc<Record>>,
    /// Their album.
    pub album: Album,
    /// The drop folder.
    pub folder: PathBuf,
    /// How many files of the same album or folder were given up.
    pub failed: u64,
    /// The moment it is rendered.
    pub now: WallTime,
}

impl List {
    /// The list of one record.
    #[must_use]
    pub fn one(record: &Record, now: WallTime) -> Self {
        let album = Album { name: record.album.clone(), url: record.album_url.clone(), ..Album::default() };
        let folder = PathBuf::from(&record.folder);
        Self { files: vec![Arc::new(record.clone())], album, folder, failed: 0, now }
    }

    /// The variables of a template that renders the whole list.
    pub(super) fn context(&self) -> Value {
        let file = |(index, record): (usize, &Arc<Record>)| File { record: Arc::clone(record), number: index + 1 };
        let files: Vec<Value> = self.files.iter().enumerate().map(|entry| Value::from_object(file(entry))).collect();
        Value::from_pairs([("files", Value::from(files))].into_iter().chain(self.surroundings()))
    }

    /// The variables of a template that renders the list line by line, at one of its records.
    pub(super) fn context_of(&self, index: usize, surroundings: &[(&'static str, Value)]) -> Value {
        let file = File { record: Arc::clone(&self.files[index]), number: index + 1 };
        Value::from_pairs([("file", Value::from_object(file))].into_iter().chain(surroundings.iter().cloned()))
    }

    /// `album`, `folder`, `totals` and `now`.
    pub(super) fn surroundings(&self) -> [(&'static str, Value); 4] {
        let Album { name, url, id, cover } = self.album.clone();
        let shown = |record: &Arc<Record>| address(record.thumb.as_deref().or(record.image.as_deref()));
        let cover = cover.map(Value::from).or_else(|| self.files.iter().map(shown).find(|shown| !shown.is_none()));
        let title = name.as_deref().map(|name| name.rsplit('/').next().unwrap_or(name).to_owned());
        let album = Value::from_pairs([
            ("name", Value::from(name)),
            ("title", Value::from(title)),
            ("url", address(url.as_deref())),
            ("id", Value::from(id)),
            ("cover", cover.unwrap_or_else(|| Value::from(()))),
        ]);
        let count = |status: Status| self.files.iter().filter(|record| record.status == status).count();
        let sum =
            |number: fn(&Record) -> u64| self.files.iter().fold(0_u64, |sum, file| sum.saturating_add(number(file)));
        let totals = Value::from_pairs([
            ("count", Value::from(self.files.len())),
            ("bytes", Value::from(sum(|record| record.bytes))),
            ("uploaded", Value::from(count(Status::Uploaded))),
            ("linked", Value::from(count(Status::Linked))),
            ("failed", Value::from(self.failed)),
            ("duration_ms", Value::from(sum(|record| record.duration_ms))),
        ]);
        let folder = Value::from_object(Folder(self.folder.clone()));
        [("album", album), ("folder", folder), ("totals", totals), ("now", Value::from(self.now.to_string()))]
    }
}

/// An address that may be printed, or none.
fn address(text: Option<&str>) -> Value {
    Value::from(text.and_then(web_address))
}

/// `file`: a record.
#[derive(Debug)]
struct File {
    record: Arc<Record>,
    /// Its place in the list, from 1.
    number: usize,
}

impl Object for File {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let record = &*self.record;
        let text = |text: &Option<String>| Value::from(text.clone());
        Some(match key.as_str()? {
            "v" => Value::from(record.v),
            "seq" => Value::from(record.seq),
            "job" => Value::from(record.job.to_string()),
            "at" => Value::from(record.at.to_string()),
            "status" => Value::from(record.status.name()),
            "file" => Value::from(record.file.as_str()),
            "file_bytes" => text(&record.file_bytes),
            "folder" => Value::from(record.folder.as_str()),
            "host" => Value::from(record.host.as_str()),
            "url" => address(record.url.as_deref()),
            "thumb" => address(record.thumb.as_deref()),
            "image" => address(record.image.as_deref()),
            "delete_url" => address(record.delete_url.as_deref()),
            "delete_token" => text(&record.delete_token),
            "stripped" => Value::from(record.stripped),
            "album" => text(&record.album),
            "album_url" => address(record.album_url.as_deref()),
            "bytes" => Value::from(record.bytes),
            "mime" => text(&record.mime),
            "width" => Value::from(record.width),
            "height" => Value::from(record.height),
            "blake3" => Value::from(record.blake3.map(|hash| hash.to_string())),
            "attempts" => Value::from(record.attempts),
            "requeues" => Value::from(record.requeues),
            "duration_ms" => Value::from(record.duration_ms),
            "moved_to" => text(&record.moved_to),
            "mirrors" => record.mirrors.iter().map(mirror).collect(),
            "removed_at" => Value::from(record.removed_at.map(|at| at.to_string())),
            // A record with a link has none.
            "error" => Value::from(()),
            "name" => Value::from(base_name(record)),
            "stem" => {
                Value::from(Path::new(base_name(record)).file_stem().map(|stem| stem.to_string_lossy().into_owned()))
            }
            "extension" => Value::from(
                Path::new(base_name(record)).extension().map(|ending| ending.to_string_lossy().into_owned()),
            ),
            // In seconds, for people.
            "duration" => Value::from(seconds(record.duration_ms)),
            "number" => Value::from(self.number),
            _ => return None,
        })
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Str(&FILE)
    }
}

/// What one host of a mirrored file has.
fn mirror(mirror: &Mirror) -> Value {
    let links = [&mirror.url, &mirror.thumb, &mirror.image, &mirror.delete_url];
    let links = ["url", "thumb", "image", "delete_url"].into_iter().zip(links.map(|link| address(link.as_deref())));
    Value::from_pairs([("host", Value::from(mirror.host.as_str()))].into_iter().chain(links))
}

#[expect(clippy::cast_precision_loss, reason = "exact up to some thousand years")]
fn seconds(millis: u64) -> f64 {
    millis as f64 / 1000.0
}

/// The file's name without its folders.
pub(super) fn base_name(record: &Record) -> &str {
    record.file.rsplit('/').next().unwrap_or(&record.file)
}

/// `folder`: its path, with its parts.
#[derive(Debug)]
struct Folder(PathBuf);

impl Object for Folder {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match key.as_str()? {
            "path" => Some(Value::from(self.0.to_string_lossy().into_owned())),
            "name" => Some(Value::from(self.0.file_name().unwrap_or_default().to_string_lossy().into_owned())),
            _ => None,
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Str(&FOLDER)
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.display())
    }
}
