//! Albums: the images of a dropped sub-folder, and their gallery on hosts that have galleries.
//!
//! An album is the first folder below the drop folder: `trip/day1/x.jpg` belongs to `trip`. Its gallery on a host is made
//! once, before the first image is sent: the intent is in the ledger before the request, the gallery before the image. When
//! the album is quiet and each of its files has ended (uploaded, or given up; not those that rest) the gallery is finished,
//! and again when late files have come.
//!
//! **Limits.** Nobody can ask a host whether it made a gallery whose answer was lost. The images rest then, the next try makes
//! another gallery, and `album-doubtful` says so. A lost ledger forgets galleries: the manifest does not have what uploads
//! into them need.

use std::collections::{BTreeMap, HashMap};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex as AsyncMutex, Notify};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::shared::{FolderId, Note, Shared};
use crate::config::{Album, Folder};
use crate::host::Gallery;
use crate::job::{ErrorClass, Failure, Job, Links, Phase, Stage};
use crate::ledger::{Durability, LedgerError, Memo, Write};
use crate::record::Record;
use crate::render::order::natural;
use crate::schedule::HostId;
use crate::telemetry::{Event, Fields, emit, trouble};

/// The kind of the memos.
const KIND: &str = "album";

/// How long after its last outcome an album counts as quiet, besides the time that its files need to settle.
const QUIET: Duration = Duration::from_secs(2);

/// How long after a failed request about a gallery it is not asked for again: the other images of the album would all ask
/// at once. Shorter than the shortest rest of a file.
const AGAIN: Duration = Duration::from_secs(30);

/// How often an album is looked at whose files rest.
const RESTS: Duration = Duration::from_secs(60);

/// How long one finishing may take, logins and all.
const FINISH: Duration = Duration::from_secs(180);

/// How many jobs are read at a time.
const PAGE: usize = 512;

/// What is known of one gallery: the value of a memo.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Known {
    folder: String,
    album: String,
    host: String,
    /// Made, as far as anybody knows.
    gallery: Option<Gallery>,
    /// A request that makes it was begun and not answered.
    making: bool,
    /// It holds everything that the album had when it was finished last.
    finished: bool,
    /// How many images that were.
    images: usize,
}

/// The same with what is forgotten at a restart.
#[derive(Debug, Default)]
struct State {
    known: Known,
    failed: Option<(Instant, Failure)>,
}

/// An album of a drop folder: its first folder.
type Name = (FolderId, PathBuf);

/// An album in which something has happened.
#[derive(Clone, Copy, Debug)]
struct Stir {
    /// When it may be looked at.
    due: Instant,
    /// How often finishing it has failed since.
    failures: u32,
    /// Files of it rest.
    rests: bool,
}

/// All albums of one agent.
#[derive(Debug, Default)]
pub(super) struct Albums {
    /// By the key of their memos. The lock of one is held while its gallery is made, so that it is made once.
    states: Mutex<HashMap<String, Arc<AsyncMutex<State>>>>,
    urls: Mutex<HashMap<String, String>>,
    stirred: Mutex<BTreeMap<Name, Stir>>,
    wake: Notify,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The folder that is the album of a file of this name, relative to the drop folder.
fn folder_of(config: &Folder, name: &Path) -> Option<PathBuf> {
    let mut parts = name.components();
    let (Component::Normal(first), Some(_)) = (parts.next()?, parts.next()) else { return None };
    (config.album == Album::Subfolder).then(|| PathBuf::from(first))
}

fn key_of(folder: &Path, album: &Path, host: &str) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in [folder.as_os_str().as_encoded_bytes(), album.as_os_str().as_encoded_bytes(), host.as_bytes()] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().to_hex().to_string()
}

impl Albums {
    fn state(&self, key: &str) -> Arc<AsyncMutex<State>> {
        Arc::clone(lock(&self.states).entry(key.to_owned()).or_default())
    }

    /// Says in `record` to which album the file of this name belongs, and where its page is on each host that has the file.
    pub(super) fn name(&self, record: &mut Record, name: &Path, config: &Folder) {
        let Some(album) = folder_of(config, name) else { return };
        record.album = Some(album.to_string_lossy().into_owned());
        if !record.status.is_success() {
            return;
        }
        let urls = lock(&self.urls);
        let url = |host: &str| urls.get(&key_of(&config.path, &album, host)).cloned();
        record.album_url = url(&record.host);
        for mirror in record.mirrors.iter_mut().filter(|mirror| mirror.url.is_some()) {
            mirror.album_url = url(&mirror.host);
        }
    }

    /// Something has happened to a file of an album: it is looked at when it is quiet.
    pub(super) fn stir(&self, folder: FolderId, config: &Folder, name: &Path) {
        if let Some(album) = folder_of(config, name) {
            let stir = Stir { due: Instant::now() + QUIET + config.settle, failures: 0, rests: false };
            lock(&self.stirred).insert((folder, album), stir);
            self.wake.notify_one();
        }
    }

    /// Nothing is to be finished, except what could not be finished when it was tried, or waits for files that rest.
    pub(super) fn is_settled(&self) -> bool {
        lock(&self.stirred).values().all(|stir| stir.failures > 0 || stir.rests)
    }

    fn next_due(&self) -> Option<Instant> {
        lock(&self.stirred).values().map(|stir| stir.due).min()
    }

    fn due(&self) -> Vec<(Name, Stir)> {
        let now = Instant::now();
        lock(&self.stirred)
            .iter()
            .filter(|(_, stir)| stir.due <= now)
            .map(|(name, stir)| (name.clone(), *stir))
            .collect()
    }

    /// What came of looking at an album; nothing if more has happened to it meanwhile.
    fn looked_at(&self, name: &Name, seen: Stir, next: Option<Stir>) {
        let mut stirred = lock(&self.stirred);
        if stirred.get(name).is_some_and(|stir| stir.due == seen.due) {
            match next {
                Some(next) => stirred.insert(name.clone(), next),
                None => stirred.remove(name),
            };
        }
    }

    fn note_url(&self, key: &str, gallery: Option<&Gallery>) {
        if let Some(url) = gallery.and_then(|gallery| gallery.url.clone()) {
            lock(&self.urls).insert(key.to_owned(), url);
        }
    }
}

/// Takes up what an earlier life knew. Before anything is sent.
pub(super) async fn restore(shared: &Shared) -> Result<(), LedgerError> {
    for memo in shared.ledger.memos(KIND.to_owned()).await? {
        let Ok(known) = serde_json::from_str::<Known>(&memo.value) else { continue };
        shared.albums.note_url(&memo.key, known.gallery.as_ref());
        let folders = shared.folders();
        let folder = folders.iter().find(|(_, slot)| slot.config().path.to_string_lossy() == known.folder);
        if let Some((folder, slot)) = folder.filter(|_| !known.finished && known.gallery.is_some()) {
            shared.albums.stir(*folder, &slot.config(), &Path::new(&known.album).join("_"));
        }
        let state = State { known, failed: None };
        lock(&shared.albums.states).insert(memo.key, Arc::new(AsyncMutex::new(state)));
    }
    Ok(())
}

async fn keep_known(shared: &Shared, key: &str, known: &Known) {
    let value = serde_json::to_string(known).unwrap_or_default();
    let memo = Memo { kind: KIND.to_owned(), key: key.to_owned(), value };
    shared.write(vec![Write::Keep(memo)], Durability::Power).await;
}

/// The gallery that the file belongs to on this host, made if it is the first; `None` without an album, or without
/// galleries there. Ends at the latest at `deadline`.
///
/// # Errors
/// Why there is none: the file rests.
pub(super) async fn gallery(
    shared: Arc<Shared>,
    folder: FolderId,
    host: HostId,
    name: PathBuf,
    deadline: Instant,
) -> Result<Option<Gallery>, Failure> {
    let config = shared.folder(folder);
    let (slot, Some(album)) = (shared.host(host), folder_of(&config, &name)) else { return Ok(None) };
    if slot.host().galleries().is_none() {
        return Ok(None);
    }
    let late =
        || Failure::new(ErrorClass::Timeout, Phase::Wait, format!("{} did not make the gallery in time", slot.name));
    let asked = Arc::clone(&shared);
    // In a task of its own: an image that is cancelled must not leave half a gallery to the others.
    let making = shared.tracker.spawn(async move {
        tokio::select! {
            gallery = make_once(&asked, &config.path, &album, host, deadline) => Some(gallery),
            () = asked.cut.cancelled() => None,
        }
    });
    match timeout_at(deadline, making).await {
        Ok(Ok(Some(gallery))) => gallery.map(Some),
        _ => Err(late()),
    }
}

async fn make_once(
    shared: &Shared,
    folder: &Path,
    album: &Path,
    host: HostId,
    deadline: Instant,
) -> Result<Gallery, Failure> {
    let slot = shared.host(host);
    let key = key_of(folder, album, &slot.name);
    let state = shared.albums.state(&key);
    let mut state = state.lock().await;
    if let Some(gallery) = state.known.gallery.clone() {
        if state.known.finished {
            state.known.finished = false;
            keep_known(shared, &key, &state.known).await;
        }
        return Ok(gallery);
    }
    if let Some((_, failure)) = state.failed.as_ref().filter(|(at, _)| at.elapsed() < AGAIN) {
        return Err(failure.clone());
    }
    let name = album.to_string_lossy().into_owned();
    let fields = Fields { service: Some(&slot.name), folder: Some(folder), ..Fields::default() };
    if state.known.making {
        emit(
            Event::AlbumDoubtful,
            &fields,
            format_args!("{} may have a gallery {name:?} already: its answer was lost; another one is made", slot.name),
        );
    }
    let (folder, host_name) = (folder.to_string_lossy().into_owned(), slot.name.clone());
    state.known = Known { folder, album: name.clone(), host: host_name, making: true, ..Known::default() };
    keep_known(shared, &key, &state.known).await;
    let host = slot.host();
    let Some(galleries) = host.galleries() else {
        return Err(Failure::new(ErrorClass::BadResponse, Phase::Wait, format!("{} has no galleries", slot.name)));
    };
    match timeout_at(deadline, galleries.create(&name, deadline)).await {
        Ok(Ok(gallery)) => {
            state.known.making = false;
            state.known.gallery = Some(gallery.clone());
            keep_known(shared, &key, &state.known).await;
            shared.albums.note_url(&key, Some(&gallery));
            let fields = Fields { url: gallery.url.as_deref(), ..fields };
            emit(Event::AlbumOpened, &fields, format_args!("{} has a gallery {name:?} now", slot.name));
            Ok(gallery)
        }
        outcome => {
            let late = || Failure::new(ErrorClass::Timeout, Phase::Response, "no answer in time");
            let mut failure = outcome.map_or_else(|_| late(), |made| made.err().unwrap_or_else(late));
            state.known.making = may_have_happened(&failure);
            if !state.known.making {
                keep_known(shared, &key, &state.known).await;
            }
            failure.message = format!("the gallery {name:?} could not be made: {}", failure.message);
            if failure.class == ErrorClass::File {
                // It says nothing about the image.
                failure.class = ErrorClass::BadResponse;
            }
            state.failed = Some((Instant::now(), failure.clone()));
            Err(failure)
        }
    }
}

/// Whether a request that failed so may have been carried out all the same: not if the host answered, and not if nothing
/// was handed to a connection.
fn may_have_happened(failure: &Failure) -> bool {
    failure.http_status.is_none() && matches!(failure.phase, Phase::Response | Phase::Parse)
}

/// The task that finishes galleries. Ends when `end` is cancelled; what is unfinished then is taken up at the next start.
pub(super) async fn keep(shared: Arc<Shared>, end: CancellationToken) {
    loop {
        let due = shared.albums.next_due();
        tokio::select! {
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            () = shared.albums.wake.notified() => continue,
            () = end.cancelled() => return,
        }
        for (name, stir) in shared.albums.due() {
            let next = tokio::select! {
                next = look_at(&shared, &name, stir) => next,
                () = end.cancelled() => return,
            };
            shared.albums.looked_at(&name, stir, next);
        }
        // `--once` waits for this.
        let _ = shared.notes.send(Note::Checkpoint).await;
    }
}

/// Finishes the galleries of an album if it is quiet; when to look again.
async fn look_at(shared: &Shared, (folder, album): &Name, stir: Stir) -> Option<Stir> {
    let config = shared.folder(*folder);
    let jobs = match quiet_jobs(shared, *folder, &config, album).await {
        Ok(Quiet::Yes(jobs)) => jobs,
        Ok(Quiet::Busy) => return Some(Stir { due: Instant::now() + QUIET + config.settle, rests: false, ..stir }),
        // The outcome of what rests stirs it again; but files can also be taken away.
        Ok(Quiet::Rests) => return Some(Stir { due: Instant::now() + RESTS, rests: true, ..stir }),
        Err(error) => {
            trouble("the ledger cannot be read", &error);
            return Some(Stir { due: Instant::now() + AGAIN, ..stir });
        }
    };
    let mut failed = false;
    for host in shared.slot(*folder).hosts().iter() {
        failed |= !finish(shared, &config, album, *host, &jobs).await;
    }
    if !config.render.is_empty() {
        // Its page may be known only now.
        shared.links.note_list(*folder, Some(album.to_string_lossy().into_owned()));
    }
    failed.then(|| {
        let failures = stir.failures + 1;
        Stir { due: Instant::now() + shared.config().cooldown.backoff.delay(failures, 0.5), failures, rests: false }
    })
}

/// Whether an album is quiet.
enum Quiet {
    /// Each of its files has ended: those that a host has.
    Yes(Vec<Job>),
    /// One is on its way.
    Busy,
    /// One rests.
    Rests,
}

async fn quiet_jobs(shared: &Shared, folder: FolderId, config: &Folder, album: &Path) -> Result<Quiet, LedgerError> {
    let places = [config.path.join(album), config.retry.join(album), config.done.join(album)];
    let slot = shared.slot(folder);
    let feed = slot.hints().status();
    let settling = feed.settling.iter().any(|file| file.name.starts_with(album));
    if settling || feed.settling_total > feed.settling.len() {
        return Ok(Quiet::Busy);
    }
    if slot.busy.any(|path| places.iter().any(|place| path.starts_with(place))) {
        return Ok(Quiet::Busy);
    }
    let mut all = Vec::new();
    for place in places {
        let end = |last: &str| {
            let mut bytes = place.as_os_str().to_owned();
            bytes.push(last);
            PathBuf::from(bytes)
        };
        let (mut from, to) = (end("/"), end("0"));
        loop {
            let jobs = shared.ledger.between(from, to.clone(), PAGE).await?;
            let (Some(last), count) = (jobs.last(), jobs.len()) else { break };
            from = last.path.clone();
            if jobs.iter().any(|job| job.pending || !matches!(job.stage, Stage::Done | Stage::Failed)) {
                return Ok(Quiet::Rests);
            }
            all.extend(jobs.into_iter().filter(|job| job.stage == Stage::Done));
            if count < PAGE {
                break;
            }
        }
    }
    all.sort_by(|one, other| natural(&one.name.to_string_lossy(), &other.name.to_string_lossy()));
    Ok(Quiet::Yes(all))
}

/// Finishes the album's gallery on one host, if it has one that is not; whether that went well.
async fn finish(shared: &Shared, config: &Folder, album: &Path, host: HostId, jobs: &[Job]) -> bool {
    let slot = shared.host(host);
    let key = key_of(&config.path, album, &slot.name);
    let state = shared.albums.state(&key);
    let mut state = state.lock().await;
    let Some(gallery) = state.known.gallery.clone() else { return true };
    let links = |job: &Job| Record::parse(job.record.as_deref()?.as_bytes()).ok()?.links_on(&slot.name);
    let images: Vec<Links> = jobs.iter().filter_map(links).collect();
    if images.is_empty() || (state.known.finished && state.known.images == images.len()) {
        return true;
    }
    let current = slot.host();
    let Some(galleries) = current.galleries() else { return true };
    let deadline = Instant::now() + FINISH;
    let fields = Fields { service: Some(&slot.name), folder: Some(&config.path), ..Fields::default() };
    let name = album.to_string_lossy();
    let outcome = timeout(FINISH, galleries.finish(&gallery, &images, deadline)).await;
    match outcome {
        Ok(Ok(gallery)) => {
            let fields = Fields { url: gallery.url.as_deref(), ..fields };
            let count = images.len();
            let page = gallery.url.as_deref().map(|url| format!(" → {url}")).unwrap_or_default();
            emit(
                Event::AlbumFinished,
                &fields,
                format_args!("the gallery {name:?} on {} has {count} images{page}", slot.name),
            );
            shared.albums.note_url(&key, Some(&gallery));
            state.known.gallery = Some(gallery);
            (state.known.finished, state.known.images) = (true, count);
            keep_known(shared, &key, &state.known).await;
            true
        }
        Ok(Err(failure)) => {
            trouble(&format!("the gallery {name:?} on {} is not finished yet", slot.name), &failure.message);
            false
        }
        Err(_) => {
            trouble(&format!("the gallery {name:?} on {} is not finished yet", slot.name), &"no answer in time");
            false
        }
    }
}
