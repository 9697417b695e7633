//! The embedded `local` host: keeps images and thumbnails in the data folder; [`crate::control`] serves them.
//!
//! An image's address is its content: the same bytes always get the same URL, so an upload that is repeated after a
//! crash leaves no orphan. A file becomes visible only when it is complete, on disk and has the hash that inspection
//! found. Removes an image only when it is asked to delete it, and never reads a path that came from the network: a [`StoredName`] is all it takes.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::thumb::{Thumb, Thumbnailer};
use super::{Doing, Host, Limits, Progress, Sending, Source, Upload};
use crate::job::{ErrorClass, Failure, ImageFacts, ImageKind, Links, Phase};
use crate::shelf::{self, ShelfError};

/// Bytes copied between two looks at the cancel flag: some milliseconds on a slow disk, and eight copies at once hold
/// 8 MiB.
const CHUNK: usize = 1 << 20;

/// Hex digits of the content hash in an address: 128 bits, so that nobody can make two images that share one.
const ID_DIGITS: usize = 32;

/// The file name of a stored image or thumbnail: hash and type. The only form in which a name from outside is accepted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StoredName {
    id: String,
    kind: ImageKind,
}

/// A name that is none of a stored image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a stored image: expected {ID_DIGITS} lower-case hex digits, a dot and an image's extension")]
pub struct NotStored;

impl StoredName {
    /// The name of the image with these facts.
    #[must_use]
    pub fn of(facts: &ImageFacts) -> Self {
        let mut id = facts.hash.to_string();
        id.truncate(ID_DIGITS);
        Self { id, kind: facts.kind }
    }

    /// Its type.
    #[must_use]
    pub fn kind(&self) -> ImageKind {
        self.kind
    }

    fn with_kind(&self, kind: ImageKind) -> Self {
        Self { id: self.id.clone(), kind }
    }
}

impl fmt::Display for StoredName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.id, extension(self.kind))
    }
}

impl FromStr for StoredName {
    type Err = NotStored;

    fn from_str(text: &str) -> Result<Self, NotStored> {
        let (id, ending) = text.split_once('.').ok_or(NotStored)?;
        let is_hex = id.len() == ID_DIGITS && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let kind = ImageKind::ALL.into_iter().find(|kind| extension(*kind) == ending).ok_or(NotStored)?;
        if is_hex { Ok(Self { id: id.to_owned(), kind }) } else { Err(NotStored) }
    }
}

fn extension(kind: ImageKind) -> &'static str {
    match kind {
        ImageKind::Jpeg => "jpg",
        other => other.name(),
    }
}

/// How many locks share the names: two different images wait for each other once in so many times, which costs less than
/// a lock for each name.
const STRIPES: usize = 64;

/// The folder of the `local` host.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    thumbnailer: Thumbnailer,
    /// Held while a name is written: the shelf's temporary name belongs to the final one, so twins must take turns.
    stripes: Arc<[Mutex<()>; STRIPES]>,
}

impl Store {
    /// The store in this data folder, without touching the disk.
    #[must_use]
    pub fn at(data_dir: &Path) -> Self {
        let stripes = Arc::new(std::array::from_fn(|_| Mutex::new(())));
        Self { root: data_dir.join("local"), thumbnailer: Thumbnailer::default(), stripes }
    }

    /// The store in this data folder; its folders are made, so that trouble shows at once.
    ///
    /// # Errors
    /// What the system says about making them.
    pub fn open(data_dir: &Path) -> io::Result<Self> {
        let store = Self::at(data_dir);
        fs::create_dir_all(store.root.join("images"))?;
        fs::create_dir_all(store.root.join("thumbs"))?;
        Ok(store)
    }

    /// Where it keeps its files.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where this image is stored, if it is.
    #[must_use]
    pub fn image_path(&self, name: &StoredName) -> PathBuf {
        self.root.join("images").join(&name.id[..2]).join(name.to_string())
    }

    /// Where this thumbnail is stored, if it is.
    #[must_use]
    pub fn thumb_path(&self, name: &StoredName) -> PathBuf {
        self.root.join("thumbs").join(&name.id[..2]).join(name.to_string())
    }

    /// Removes an image and its thumbnail; that they are gone already is as good. Blocking.
    ///
    /// # Errors
    /// What the system says.
    pub fn remove(&self, name: &StoredName) -> Result<(), ShelfError> {
        let _turn = self.turn(name);
        shelf::remove(&self.image_path(name))?;
        [ImageKind::Jpeg, ImageKind::Png]
            .iter()
            .try_for_each(|kind| shelf::remove(&self.thumb_path(&name.with_kind(*kind))))
    }

    /// The turn of whoever writes `name`. Blocking, for as long as a twin is written.
    fn turn(&self, name: &StoredName) -> MutexGuard<'_, ()> {
        let stripe = name.id.bytes().fold(0, |sum, byte| sum * 31 % STRIPES + usize::from(byte)) % STRIPES;
        // There is nothing behind the lock that a panic could have left half done.
        self.stripes[stripe].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Copies the file into the store unless it is there already. Blocking; ends soon after `stop` is cancelled.
    fn put(&self, upload: &Pending, stop: &CancellationToken) -> Result<(), Failure> {
        let Pending { source, facts, progress } = upload;
        let name = StoredName::of(facts);
        let path = self.image_path(&name);
        let _turn = self.turn(&name);
        progress.start_body(source.len());
        if fs::metadata(&path).is_ok_and(|stored| stored.len() == source.len()) {
            progress.add_sent(source.len());
            return Ok(());
        }
        shelf::write_atomic_with(&path, true, |file| copy(upload, stop, file)).map_err(|error| {
            let message = format!("cannot store the image as {}: {error}", path.display());
            Failure::new(ErrorClass::Io, Phase::Send, message)
                .advise("check the free space and the permissions of the data folder")
        })
    }

    /// The thumbnail of a stored image: made at the first call; `None` when it has none.
    async fn thumb(&self, facts: &ImageFacts) -> Option<StoredName> {
        let name = StoredName::of(facts);
        let known = [ImageKind::Jpeg, ImageKind::Png].map(|kind| name.with_kind(kind));
        if let Some(there) = known.into_iter().find(|thumb| self.thumb_path(thumb).exists()) {
            return Some(there);
        }
        let thumb = self.thumbnailer.of_file(&self.image_path(&name), facts).await?;
        self.keep_thumb(facts, thumb).await
    }

    /// Stores the thumbnail of an image, whether that is stored itself or not.
    async fn keep_thumb(&self, facts: &ImageFacts, Thumb { bytes, kind, .. }: Thumb) -> Option<StoredName> {
        let name = StoredName::of(facts).with_kind(kind);
        let store = self.clone();
        let write = tokio::task::spawn_blocking(move || {
            let _turn = store.turn(&name);
            shelf::write_atomic(&store.thumb_path(&name), &bytes, true).ok().map(|()| name)
        });
        write.await.ok().flatten()
    }
}

/// What [`Store::put`] needs of an upload, owned: it runs in a thread.
struct Pending {
    source: Arc<Source>,
    facts: ImageFacts,
    progress: Arc<Progress>,
}

/// Copies the source, and makes sure that what was copied is what was inspected.
fn copy(upload: &Pending, stop: &CancellationToken, file: &mut File) -> io::Result<()> {
    let len = upload.source.len();
    let mut hasher = blake3::Hasher::new();
    let mut offset = 0;
    while offset < len {
        if stop.is_cancelled() {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "the attempt was ended"));
        }
        let size = usize::try_from(len - offset).unwrap_or(CHUNK).min(CHUNK);
        let chunk = upload.source.read(offset, size)?;
        hasher.update(&chunk);
        file.write_all(&chunk)?;
        offset += chunk.len() as u64;
        upload.progress.add_sent(chunk.len() as u64);
    }
    if hasher.finalize().as_bytes() != &upload.facts.hash.0 {
        return Err(io::Error::other("the file was changed after it was inspected"));
    }
    Ok(())
}

/// A store and the address at which it is served.
#[derive(Clone, Debug)]
pub struct Site {
    /// Where the files lie.
    pub store: Store,
    /// Where they are served: `http://127.0.0.1:8421`, without a slash at the end; empty for a server on a Unix socket.
    pub base_url: String,
}

impl Site {
    /// Stores the thumbnail of an image that lies elsewhere; its link.
    pub(super) async fn keep_thumb(&self, facts: &ImageFacts, thumb: Thumb) -> Option<String> {
        let name = self.store.keep_thumb(facts, thumb).await?;
        Some(format!("{}/t/{name}", self.base_url))
    }
}

/// The `local` host.
#[derive(Debug)]
pub struct LocalHost {
    name: String,
    site: Site,
    limits: Limits,
}

impl LocalHost {
    /// The `local` host under the name of its `[host.NAME]` table.
    #[must_use]
    pub fn new(name: String, site: Site) -> Self {
        Self { name, site, limits: Limits::default() }
    }

    async fn store(&self, upload: &Upload) -> Result<Links, Failure> {
        let stop = CancellationToken::new();
        // Dropping the attempt drops the guard, and the copy stops at its next chunk.
        let _guard = stop.clone().drop_guard();
        let pending =
            Pending { source: Arc::clone(&upload.source), facts: upload.image, progress: Arc::clone(&upload.progress) };
        let store = self.site.store.clone();
        let copying = tokio::task::spawn_blocking(move || store.put(&pending, &stop));
        copying.await.unwrap_or_else(|error| {
            Err(Failure::new(ErrorClass::Io, Phase::Send, format!("storing the image broke off: {error}")))
        })?;
        upload.progress.enter(Phase::Response);
        let base = &self.site.base_url;
        let image = format!("{base}/i/{}", StoredName::of(&upload.image));
        let thumb = self.site.store.thumb(&upload.image).await.map(|name| format!("{base}/t/{name}"));
        Ok(Links { url: image.clone(), thumb, image: Some(image), ..Links::default() })
    }
}

impl Host for LocalHost {
    fn name(&self) -> &str {
        &self.name
    }

    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn upload<'a>(&'a self, upload: &'a Upload) -> Sending<'a> {
        Box::pin(self.store(upload))
    }

    /// By the name in the link: the address may have been another one when it was made.
    fn delete<'a>(&'a self, uploaded: &'a Links, _deadline: Instant) -> Option<Doing<'a>> {
        let name: StoredName = uploaded.url.rsplit_once("/i/")?.1.parse().ok()?;
        let store = self.site.store.clone();
        Some(Box::pin(async move {
            let removed = tokio::task::spawn_blocking(move || store.remove(&name)).await;
            let failed = |message: String| Failure::new(ErrorClass::Io, Phase::Record, message);
            match removed {
                Ok(removed) => removed.map_err(|error| failed(error.to_string())),
                Err(panic) => Err(failed(panic.to_string())),
            }
        }))
    }
}
