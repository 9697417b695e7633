//! Link files: `links.bbcode.txt` and its relatives, one for each album and one for what belongs to none.
//!
//! A link file is always worked out anew from the manifests, so that it does not depend on when or in which order files
//! were done, on a crash, or on a rotation; and it is replaced only as a whole, and only if its content changes. Knows
//! nothing of the agent: who calls this, and how often, is not its business. Blocking.
//!
//! **Limits.** What no manifest tells any more (deleted ones, packed ones) leaves the link files when they are next
//! written. While a list is written it is in memory: some 200 bytes for each image, a kilobyte with templates of one's own.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::order::natural;
use super::{Album, Format, Formats, List, RenderError};
use crate::clock::WallTime;
use crate::config::{After, Folder};
use crate::job::JobId;
use crate::record::manifest::replay;
use crate::record::{Record, Status};
use crate::shelf::{self, ShelfError};

/// Images whose lists are in memory at the same time when all lists of a folder are written.
const AT_ONCE: u64 = 100_000;

/// Which list of a folder: an album's, or that of the files without one.
pub type Group = Option<String>;

/// The link files of one drop folder.
#[derive(Clone, Debug)]
pub struct LinkFiles {
    folder: Folder,
    /// File name and format.
    formats: Vec<(String, Format)>,
    /// Every format is one line for each image.
    lines_only: bool,
}

/// Why link files were not written.
#[derive(Debug, thiserror::Error)]
pub enum LinksError {
    /// The drop folder is not there: its manifest would seem empty.
    #[error("{} is not there", .0.display())]
    Absent(PathBuf),
    /// A manifest cannot be read.
    #[error(transparent)]
    Manifest(#[from] io::Error),
    /// A link file cannot be written.
    #[error(transparent)]
    Shelf(#[from] ShelfError),
    /// A template cannot render the list. No use in trying again before something changes.
    #[error(transparent)]
    Render(#[from] RenderError),
}

/// Facts about a folder that its manifests do not tell.
#[derive(Debug, Default)]
pub struct Facts {
    /// Jobs whose images were deleted on their host again.
    pub removed: HashSet<JobId>,
    /// What the hosts know of albums, by name.
    pub albums: HashMap<String, Album>,
}

/// One image of a list.
#[derive(Debug)]
struct Entry {
    seq: u64,
    file: String,
    content: Content,
}

#[derive(Debug)]
enum Content {
    /// Its line in each format.
    Lines(Vec<String>),
    /// Everything, for templates.
    Record(Arc<Record>),
    /// It was deleted on its host.
    Removed,
    /// It has no link and never will.
    Failed,
}

/// A list while it is read.
#[derive(Debug, Default)]
struct Collected {
    entries: HashMap<Key, Entry>,
    album_url: Option<(u64, String)>,
}

/// What is listed once: a job; with files that stay where they are, the newest content of a file on each host.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Key {
    Job(JobId),
    File(String, String),
}

impl LinkFiles {
    /// Those of `folder`; `None` if it wants none.
    #[must_use]
    pub fn of(folder: &Folder, formats: &Formats) -> Option<Self> {
        let known = |rendering: &crate::config::Rendering| {
            formats.find(&rendering.format).ok().map(|format| (rendering.file.clone(), format))
        };
        let formats: Vec<_> = folder.render.iter().filter_map(known).collect();
        let lines_only = formats.iter().all(|(_, format)| format.is_lines());
        (!formats.is_empty()).then(|| Self { folder: folder.clone(), formats, lines_only })
    }

    /// The list that a record belongs to.
    #[must_use]
    pub fn group_of(record: &Record) -> Group {
        record.album.clone().filter(|album| is_below(album))
    }

    /// Writes every list of the folder.
    ///
    /// # Errors
    /// The first trouble with the disk: the lists after it are not written then. Templates that fail are told when all
    /// other files are written.
    pub fn write_all(&self, facts: &Facts, now: WallTime) -> Result<(), LinksError> {
        self.is_there()?;
        let mut sizes: BTreeMap<Group, u64> = BTreeMap::new();
        for record in replay(&self.folder.manifest)? {
            let record = record?;
            if record.status.is_final() {
                *sizes.entry(Self::group_of(&record)).or_default() += 1;
            }
        }
        let (mut turns, mut groups, mut together) = (Vec::new(), BTreeSet::new(), 0);
        for (group, size) in sizes {
            if together + size > AT_ONCE && !groups.is_empty() {
                turns.push(std::mem::take(&mut groups));
                together = 0;
            }
            together += size;
            groups.insert(group);
        }
        turns.push(groups);
        let mut bad = Ok(());
        for groups in turns {
            match self.write(&groups, facts, now) {
                Err(LinksError::Render(error)) => bad = bad.and(Err(error.into())),
                written => written?,
            }
        }
        bad
    }

    /// Writes these lists.
    ///
    /// # Errors
    /// The first trouble with the disk: the lists after it are not written then. Templates that fail are told when all
    /// other files are written.
    pub fn write(&self, groups: &BTreeSet<Group>, facts: &Facts, now: WallTime) -> Result<(), LinksError> {
        self.is_there()?;
        let mut failed = None;
        for (group, collected) in self.collect(groups, facts)? {
            match self.write_one(group, collected, facts, now) {
                // One bad template keeps nobody else's file back.
                Err(LinksError::Render(error)) => failed = failed.or(Some(error)),
                written => written?,
            }
        }
        failed.map_or(Ok(()), |error| Err(error.into()))
    }

    fn is_there(&self) -> Result<(), LinksError> {
        let there = self.folder.path.is_dir();
        if there { Ok(()) } else { Err(LinksError::Absent(self.folder.path.clone())) }
    }

    /// The lists that have anything in the manifests.
    fn collect(&self, groups: &BTreeSet<Group>, facts: &Facts) -> io::Result<BTreeMap<Group, Collected>> {
        let mut lists: BTreeMap<Group, Collected> = BTreeMap::new();
        if groups.is_empty() {
            return Ok(lists);
        }
        for record in replay(&self.folder.manifest)? {
            let record = record?;
            let group = Self::group_of(&record);
            if record.status.is_final() && groups.contains(&group) {
                lists.entry(group).or_default().add(self, record, facts);
            }
        }
        Ok(lists)
    }

    fn write_one(&self, group: Group, collected: Collected, facts: &Facts, now: WallTime) -> Result<(), LinksError> {
        let Collected { entries, album_url } = collected;
        let count = |is: fn(&Content) -> bool| entries.values().filter(|entry| is(&entry.content)).count();
        let (failed, removed) =
            (count(|content| matches!(content, Content::Failed)), count(|content| matches!(content, Content::Removed)));
        let place = self.place(group.as_deref());
        let mut album = group.as_ref().and_then(|name| facts.albums.get(name)).cloned().unwrap_or_default();
        album.url = album.url.or(album_url.map(|(_, url)| url));
        album.name = group;
        let mut entries: Vec<Entry> = entries.into_values().filter(Entry::has_link).collect();
        entries.sort_by(|one, other| natural(&one.file, &other.file).then(one.seq.cmp(&other.seq)));
        let records = entries.iter().filter_map(|entry| match &entry.content {
            Content::Record(record) => Some(Arc::clone(record)),
            _ => None,
        });
        let (files, folder) = (records.collect(), self.folder.path.clone());
        let list = List { files, album, folder, failed: failed as u64, now };
        let mut bad = None;
        for (index, (file, format)) in self.formats.iter().enumerate() {
            let path = place.join(file);
            let text = match if self.lines_only { Ok(lines(&entries, index)) } else { format.list(&list) } {
                Ok(text) => text,
                Err(error) => {
                    bad = bad.or(Some(error));
                    continue;
                }
            };
            // Where nothing was ever listed no file appears; one whose images were all deleted becomes empty.
            if !entries.is_empty() || (removed > 0 && path.is_file()) {
                write_if_new(&path, text.as_bytes())?;
            }
        }
        bad.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Where the files of a list lie: an album's beside its images, the others in the drop folder.
    fn place(&self, group: Option<&str>) -> PathBuf {
        match group {
            None => self.folder.path.clone(),
            Some(album) if self.folder.after == After::Keep && !self.is_linked(album) => self.folder.path.join(album),
            Some(album) => self.folder.done.join(album),
        }
    }

    /// Whether the album is a folder that is only linked to: nothing is written there.
    fn is_linked(&self, album: &str) -> bool {
        self.folder.follow_symlinks && shelf::is_beyond_link(&self.folder.path, &Path::new(album).join("image"))
    }
}

impl Collected {
    fn add(&mut self, files: &LinkFiles, record: Record, facts: &Facts) {
        if let Some(url) = record.album_url.clone()
            && self.album_url.as_ref().is_none_or(|(seq, _)| *seq < record.seq)
        {
            self.album_url = Some((record.seq, url));
        }
        let key = match files.folder.after {
            After::Keep => Key::File(record.host.clone(), record.file.clone()),
            After::Move | After::Delete => Key::Job(record.job),
        };
        if self.entries.get(&key).is_some_and(|known| known.seq > record.seq) {
            return;
        }
        let (seq, file) = (record.seq, record.file.clone());
        let content = if record.status == Status::Failed {
            Content::Failed
        } else if facts.removed.contains(&record.job) {
            Content::Removed
        } else if files.lines_only {
            Content::Lines(files.formats.iter().filter_map(|(_, format)| format.line(&record)).collect())
        } else {
            Content::Record(Arc::new(record))
        };
        self.entries.insert(key, Entry { seq, file, content });
    }
}

impl Entry {
    fn has_link(&self) -> bool {
        matches!(self.content, Content::Lines(_) | Content::Record(_))
    }
}

/// The lines of the format at `index`, one after the other.
fn lines(entries: &[Entry], index: usize) -> String {
    let line = |entry: &Entry| match &entry.content {
        Content::Lines(lines) => lines.get(index).cloned().unwrap_or_default(),
        _ => String::new(),
    };
    entries.iter().map(line).collect()
}

/// Replaces the file unless it says the same already.
fn write_if_new(path: &Path, content: &[u8]) -> Result<(), ShelfError> {
    let length = path.symlink_metadata().ok().filter(std::fs::Metadata::is_file).map(|metadata| metadata.len());
    let same = length == Some(content.len() as u64) && std::fs::read(path).is_ok_and(|known| known == content);
    if same { Ok(()) } else { shelf::write_atomic(path, content, true) }
}

/// Whether an album's name is a path below its folder: manifests can be edited.
fn is_below(album: &str) -> bool {
    let mut parts = Path::new(album).components().peekable();
    parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_))) && !album.contains('\0')
}

#[cfg(test)]
#[path = "links_tests.rs"]
mod tests;
