//! Keeps the link files up to date: one task that is told which lists have changed and writes them when a moment is quiet.
//!
//! The recorder only notes what has changed; nothing waits for a link file. A list is written half a second after its last
//! change, during a burst at least every few seconds, and never for more than a tenth of the time, because each writing
//! reads the folder's manifests. At the start all lists are looked through, so that a crash between a manifest line and its
//! link file costs nothing; at the end what is left is written.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::shared::{FolderId, Shared};
use super::undo::removed;
use crate::config::Config;
use crate::host::Gallery;
use crate::ledger::Memo;
use crate::record::Record;
use crate::render::links::{Facts, Group, LinkFiles, LinksError};
use crate::render::{Album, Formats};
use crate::telemetry::{shown, trouble};

/// A list that did not change for so long is written.
const QUIET: Duration = Duration::from_millis(500);

/// A list that changes all the time is written this often.
const AT_LEAST_EVERY: Duration = Duration::from_secs(3);

/// How much longer than a writing took the next one waits for: a tenth of one processor at most.
const REST: u32 = 9;

/// How long after a failed writing it is tried again, if nothing changes.
const AGAIN: Duration = Duration::from_secs(10);

/// The kind of the memos about galleries.
const ALBUM: &str = "album";

/// More changed lists of one folder than this are not told apart: all are looked through.
const TOLD_APART: usize = 256;

/// Which lists of a folder have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Lists {
    These(BTreeSet<Group>),
    All,
}

#[derive(Debug, Default)]
struct Noted {
    lists: BTreeMap<FolderId, Lists>,
    /// The first and the last change that was not written yet.
    changed: Option<(Instant, Instant)>,
    /// Folders or templates are configured otherwise: every list is to be looked through.
    all: bool,
}

/// What the recorder has noted and the task has not written.
#[derive(Debug, Default)]
pub(super) struct Changes {
    noted: Mutex<Noted>,
    wake: Notify,
}

impl Changes {
    /// The list of this record has changed. Cheap, and waits for nobody.
    pub(super) fn note(&self, folder: FolderId, record: &Record) {
        self.note_list(folder, LinkFiles::group_of(record));
    }

    /// Folders or templates are configured otherwise.
    pub(super) fn look_through(&self) {
        let mut noted = self.lock();
        let now = Instant::now();
        noted.changed = Some((now, now));
        noted.all = true;
        drop(noted);
        self.wake.notify_one();
    }

    pub(super) fn note_list(&self, folder: FolderId, group: Group) {
        let mut noted = self.lock();
        let now = Instant::now();
        noted.changed = Some((noted.changed.map_or(now, |(first, _)| first), now));
        let lists = noted.lists.entry(folder).or_insert_with(|| Lists::These(BTreeSet::new()));
        if let Lists::These(groups) = lists {
            groups.insert(group);
            if groups.len() > TOLD_APART {
                *lists = Lists::All;
            }
        }
        drop(noted);
        self.wake.notify_one();
    }

    /// Everything is to be looked through, or what could not be written is to be tried again.
    fn put_back(&self, folder: FolderId, lists: Lists) {
        let mut noted = self.lock();
        let both = match (noted.lists.remove(&folder), lists) {
            (Some(Lists::These(one)), Lists::These(other)) => Lists::These(one.union(&other).cloned().collect()),
            (None, lists) => lists,
            _ => Lists::All,
        };
        noted.lists.insert(folder, both);
    }

    /// Whether everything is to be looked through; asked once.
    fn take_all(&self) -> bool {
        std::mem::take(&mut self.lock().all)
    }

    fn take(&self) -> BTreeMap<FolderId, Lists> {
        let mut noted = self.lock();
        // Unless something else has come since it was asked for.
        if !noted.all {
            noted.changed = None;
        }
        std::mem::take(&mut noted.lists)
    }

    /// When what was noted is to be written, were it for the changes alone.
    fn due(&self) -> Option<Instant> {
        self.lock().changed.map(|(first, last)| (first + AT_LEAST_EVERY).min(last + QUIET))
    }

    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task. Ends when `end` is cancelled and everything is written that can be.
pub(super) async fn keep(shared: Arc<Shared>, end: CancellationToken) {
    let mut keeper = Keeper { shared, known: None, told: BTreeMap::new() };
    let mut cost = keeper.write().await;
    let mut ended = Instant::now();
    while !end.is_cancelled() {
        let due = match keeper.shared.links.due() {
            Some(due) => Some(due.max(ended + cost * REST)),
            None if keeper.told.is_empty() => None,
            None => Some(ended + AGAIN),
        };
        tokio::select! {
            () = tokio::time::sleep_until(due.unwrap_or(ended)), if due.is_some() => {
                cost = keeper.write().await;
                ended = Instant::now();
            }
            // Another change may have moved the moment.
            () = keeper.shared.links.wake.notified() => {}
            () = end.cancelled() => {}
        }
    }
    keeper.write().await;
}

struct Keeper {
    shared: Arc<Shared>,
    /// The configuration that was in force, and what its templates are.
    known: Option<(Arc<Config>, Formats)>,
    /// Folders whose last writing failed, with what was said about it.
    told: BTreeMap<FolderId, String>,
}

impl Keeper {
    /// What can be rendered now. With a new configuration everything is looked through.
    fn formats(&mut self) -> Formats {
        let told = self.shared.links.take_all();
        let config = self.shared.config();
        if let Some((known, formats)) = &self.known
            && Arc::ptr_eq(known, &config)
            && !told
        {
            return formats.clone();
        }
        for (folder, slot) in self.shared.folders() {
            if !slot.config().render.is_empty() {
                self.shared.links.put_back(folder, Lists::All);
            }
        }
        // One that has become unusable since the configuration was checked costs its own files and nothing else.
        let formats = Formats::from_config(&config).unwrap_or_else(|problems| {
            trouble("no template can be used", &config.rejected(problems));
            Formats::builtin()
        });
        self.known = Some((config, formats.clone()));
        formats
    }

    /// Writes everything that was noted; how long that took.
    async fn write(&mut self) -> Duration {
        let began = Instant::now();
        let formats = self.formats();
        let removed = removed(&*self.shared.ledger).await.unwrap_or_else(|error| {
            trouble("which images were deleted cannot be read", &error);
            HashSet::new()
        });
        let memos = self.shared.ledger.memos(ALBUM.to_owned()).await.unwrap_or_default();
        for (folder, lists) in self.shared.links.take() {
            let config = self.shared.folder(folder);
            let Some(files) = LinkFiles::of(&config, &formats) else { continue };
            let facts = Facts { removed: removed.clone(), albums: albums_of(&config.path, &memos) };
            let (now, these) = (self.shared.clock.now(), lists.clone());
            let written = tokio::task::spawn_blocking(move || match &these {
                Lists::All => files.write_all(&facts, now),
                Lists::These(groups) => files.write(groups, &facts, now),
            })
            .await;
            match written {
                Ok(Ok(())) => {
                    self.told.remove(&folder);
                }
                Ok(Err(error)) => self.failed(folder, lists, &error),
                Err(panic) => trouble("link files were not written (a bug)", &panic),
            }
        }
        began.elapsed()
    }

    /// Says once what is wrong, and keeps in mind what is worth another try.
    fn failed(&mut self, folder: FolderId, lists: Lists, error: &LinksError) {
        let reason = error.to_string();
        let quiet = matches!(error, LinksError::Absent(_)) || self.told.get(&folder) == Some(&reason);
        if !quiet {
            let path = shown(&self.shared.folder(folder).path);
            trouble(&format!("link files of {path} are not up to date"), &reason);
        }
        if matches!(error, LinksError::Render(_)) {
            return;
        }
        self.told.insert(folder, reason);
        self.shared.links.put_back(folder, lists);
    }
}

/// What the hosts know of a folder's albums. Of an album on several hosts the first by the key of its memo.
fn albums_of(folder: &Path, memos: &[Memo]) -> HashMap<String, Album> {
    /// What is needed of the memo of a gallery.
    #[derive(Deserialize)]
    struct Known {
        folder: String,
        album: String,
        gallery: Option<Gallery>,
    }
    let mut albums = HashMap::new();
    for memo in memos {
        let Ok(Known { folder: of, album, gallery: Some(gallery) }) = serde_json::from_str(&memo.value) else {
            continue;
        };
        if of == folder.to_string_lossy() {
            let id = Some(gallery.id).filter(|id| !id.is_empty());
            let known = Album { name: Some(album.clone()), url: gallery.url, id, cover: None };
            albums.entry(album).or_insert(known);
        }
    }
    albums
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(name: &str) -> Group {
        Some(name.to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_written_every_few_seconds_and_a_quiet_list_soon() {
        let changes = Changes::default();
        assert_eq!(changes.due(), None);
        let first = Instant::now();
        changes.note_list(FolderId::test(0), None);
        assert_eq!(changes.due(), Some(first + QUIET));
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(400)).await;
            changes.note_list(FolderId::test(0), None);
            assert!(changes.due().is_some_and(|due| due <= first + AT_LEAST_EVERY));
        }
        assert_eq!(changes.take(), [(FolderId::test(0), Lists::These([None].into()))].into());
        assert_eq!((changes.due(), changes.take().len()), (None, 0));
    }

    #[test]
    fn lists_are_told_apart_up_to_a_bound_and_put_back_with_what_came_since() {
        let changes = Changes::default();
        changes.put_back(FolderId::test(1), Lists::These([list("a")].into()));
        changes.put_back(FolderId::test(1), Lists::These([list("b")].into()));
        assert_eq!(changes.take(), [(FolderId::test(1), Lists::These([list("a"), list("b")].into()))].into());
        changes.put_back(FolderId::test(1), Lists::All);
        changes.put_back(FolderId::test(1), Lists::These([list("b")].into()));
        assert_eq!(changes.take(), [(FolderId::test(1), Lists::All)].into());
    }

    #[test]
    fn the_id_of_a_gallery_comes_from_its_memo() {
        let memo = |value: &str| Memo { kind: ALBUM.into(), key: "k".into(), value: value.into() };
        let memos = [
            memo(
                r#"{"folder":"/d","album":"trip","host":"h","gallery":{"id":"7","secret":"s","url":"https://h.example/7"}}"#,
            ),
            memo(r#"{"folder":"/e","album":"other","host":"h","gallery":{"id":"8"}}"#),
            memo(r#"{"folder":"/d","album":"none","host":"h","gallery":null}"#),
            memo("not JSON"),
        ];
        let albums = albums_of(Path::new("/d"), &memos);
        assert_eq!(albums.len(), 1);
        let trip = &albums["trip"];
        assert_eq!((trip.id.as_deref(), trip.url.as_deref()), (Some("7"), Some("https://h.example/7")));
    }

    #[tokio::test]
    async fn a_thousand_albums_at_once_do_not_fill_the_memory() {
        let changes = Changes::default();
        for number in 0..1_000 {
            changes.note_list(FolderId::test(0), list(&number.to_string()));
        }
        assert_eq!(changes.take(), [(FolderId::test(0), Lists::All)].into());
    }
}
