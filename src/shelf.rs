//! The shelf: the only code that creates, moves, links or removes a user's file.
//!
//! Legal states of a file (+ present, − absent, ? either):
//!
//! |    | in drop | in retry/ | ledger   | manifest                | meaning                                  | on start |
//! |----|---|---|----------|-------------------------|------------------------------------------|----------|
//! | S0 | + | − | −        | −                       | seen, or not even that                   | the scan finds it |
//! | S1 | + | − | waiting  | −                       | settled, queued                          | queue |
//! | S2 | ? | ? | started  | −                       | an upload may have happened              | queue again, counted as unknown outcome |
//! | S3 | ? | ? | uploaded | ?                       | answer known, bookkeeping unfinished     | finish: manifest if its last lines lack the job, sidecar, move |
//! | S4 | ? | ? | cooling  | + (`timeout`/`deferred`) | resting                                  | wait until due; finish the move if it is half done |
//! | S5 | − | − | done     | +                       | in done/, kept or deleted                | nothing |
//! | S6 | − | − | failed   | +                       | in failed/ with its reason               | nothing |
//!
//! The instant of each transition:
//! * S0 → S1, S1 → S2, S2 → S3, S2 → S4, S2 → S6, S4 → S1: the commit of the ledger row. The file is where it was.
//! * S3 → S5: the commit of `done`, after the line was synced to the manifest, and the file moved. Until then everything
//!   is done again after a crash, and every step may be: a line that is there is not written twice, a sidecar is replaced
//!   by its equal, and [`move_file`] finishes what it finds half done.
//! * The file changes place at the instant of one `rename` or `link`. Across file systems it is copied under a hidden
//!   name first; the link to its visible name is that instant, and the source is unlinked only when the copy and its
//!   folder are on disk. So at every instant there is at least one complete file with a visible name, and a moment
//!   before the last step there are two, with equal content.
//!
//! Nothing is ever overwritten, but for the files that [`write_atomic`] is told to replace.
//!
//! **Limits.** All calls block, for as long as the disk does. On a file system with neither hard links nor a rename that
//! refuses to overwrite, files cannot be moved: the error says so and the file stays. Owner, extended attributes and
//! access lists are lost when a file is moved across file systems; permissions and times are kept where possible.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::{File, FileTimes, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Access, CWD, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::job::{ContentHash, Fingerprint};
pub use link::{is_beyond_link, metadata, move_link, real};
pub use probe::{probe, probe_name};

/// The longest file name of the file systems in use, in bytes.
const NAME_MAX: usize = 255;

/// What a sidecar's name has more than its image's.
const SIDECAR_SUFFIX: &str = ".json";

/// Why a file was not moved, written or removed.
#[derive(Debug, thiserror::Error)]
pub enum ShelfError {
    /// The source does not exist: its owner took it away, or an earlier try moved it already.
    #[error("{} is gone", path.display())]
    Vanished {
        /// The source.
        path: PathBuf,
    },
    /// Another file has the target's name: take the next [`free_name`].
    #[error("{} exists already and is not overwritten", path.display())]
    Taken {
        /// The target.
        path: PathBuf,
    },
    /// The source was written to while it was copied; it stays where it is.
    #[error("{} changed while it was copied to another file system", path.display())]
    Changed {
        /// The source.
        path: PathBuf,
    },
    /// A name that leads somewhere else, or no regular file.
    #[error("{} is refused: {reason}", path.display())]
    Refused {
        /// What was refused.
        path: PathBuf,
        /// Why.
        reason: &'static str,
    },
    /// The system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    System {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl ShelfError {
    /// Whether the disk is full, or what the user may have of it: worth waiting for, and no fault of this file.
    #[must_use]
    pub fn is_full_disk(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, Self::System { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded))
    }
}

impl ShelfError {
    /// Whether the same may succeed a moment later without anybody's doing.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        use io::ErrorKind::{PermissionDenied, Unsupported};
        match self {
            Self::Vanished { .. } | Self::Taken { .. } | Self::Refused { .. } => false,
            Self::Changed { .. } => true,
            Self::System { source, .. } => !matches!(source.kind(), PermissionDenied | Unsupported),
        }
    }
}

/// Shorthand for `map_err`.
fn system<E: Into<io::Error>>(action: &'static str, path: &Path) -> impl FnOnce(E) -> ShelfError {
    move |error| ShelfError::System { action, path: path.to_owned(), source: error.into() }
}

/// Moves `from` to `to`, whose folders are created. Never overwrites. May be repeated after a crash: what is half done is
/// finished, so `to` may exist if it is the same file or a complete copy from another file system.
///
/// # Errors
/// [`ShelfError::Vanished`] without a source (when `to` exists, an earlier try has succeeded), [`ShelfError::Taken`] when
/// `to` is another file, [`ShelfError::Changed`], [`ShelfError::Refused`] for names with `..`, else what the system says;
/// in every case the source is untouched.
pub fn move_file(from: &Path, to: &Path) -> Result<(), ShelfError> {
    refuse_detours(from)?;
    refuse_detours(to)?;
    let mut renamed = rename_noreplace(from, to);
    if renamed == Err(Errno::NOENT) {
        // Before folders are made: where the source is gone its whole file system may be.
        look(from)?;
        create_dirs(parent(to))?;
        renamed = rename_noreplace(from, to);
    }
    match renamed {
        Ok(()) => Ok(()),
        Err(Errno::NOENT) => Err(ShelfError::Vanished { path: from.to_owned() }),
        Err(Errno::XDEV) => finish(from, to, &ACROSS),
        // EEXIST goes there too: it may be our own half-done move.
        Err(Errno::EXIST | Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => finish(from, to, &LINKED),
        Err(error) => Err(system("move", from)(error)),
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that moves files")]
fn rename_noreplace(from: &Path, to: &Path) -> rustix::io::Result<()> {
    rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)
}

/// A step of a move that no single system call can do. Each may be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Copies the source to a hidden name beside the target, and syncs it.
    Copy,
    /// Gives the copy its visible name.
    Publish,
    /// Gives the source a second name.
    Link,
    /// Makes the new name survive a power cut.
    SyncTarget,
    /// Removes the source.
    Unlink,
}

/// Within a file system that cannot rename without overwriting.
const LINKED: [Step; 3] = [Step::Link, Step::SyncTarget, Step::Unlink];

/// To another file system.
const ACROSS: [Step; 4] = [Step::Copy, Step::Publish, Step::SyncTarget, Step::Unlink];

/// Carries out `steps`, or what an earlier try has left of them.
fn finish(from: &Path, to: &Path, steps: &[Step]) -> Result<(), ShelfError> {
    let source = look(from)?;
    let Ok(target) = to.symlink_metadata() else {
        // A copy whose source could not be removed would be a second file.
        rustix::fs::access(parent(from), Access::WRITE_OK).map_err(system("move out of", parent(from)))?;
        return steps.iter().try_for_each(|step| carry_out(*step, from, to));
    };
    let same_inode = (source.dev(), source.ino()) == (target.dev(), target.ino());
    if same_inode && source.nlink() == 1 {
        // Both paths lead to the one name it has, through a linked folder: it is there, and must not be unlinked.
        return Ok(());
    }
    let ours = same_inode || (steps == ACROSS && equal_copy(from, &source, to, &target)?);
    if !ours {
        return Err(ShelfError::Taken { path: to.to_owned() });
    }
    remove(&hidden(to))?;
    [Step::SyncTarget, Step::Unlink].iter().try_for_each(|step| carry_out(*step, from, to))
}

fn carry_out(step: Step, from: &Path, to: &Path) -> Result<(), ShelfError> {
    match step {
        Step::Copy => copy(from, &hidden(to)),
        Step::Publish => match rename_noreplace(&hidden(to), to) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                link(&hidden(to), to).and_then(|()| remove(&hidden(to)))
            }
            Err(Errno::EXIST) => Err(ShelfError::Taken { path: to.to_owned() }),
            result => result.map_err(system("rename the copy to", to)),
        },
        Step::Link => link(from, to),
        Step::SyncTarget => sync_dir(parent(to)),
        Step::Unlink => remove(from),
    }
}

fn link(from: &Path, to: &Path) -> Result<(), ShelfError> {
    std::fs::hard_link(from, to).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => ShelfError::Taken { path: to.to_owned() },
        _ => system("link (and the file system cannot rename without overwriting)", to)(error),
    })
}

/// Whether the target is the copy that an earlier move made and could not finish.
fn equal_copy(from: &Path, source: &Metadata, to: &Path, target: &Metadata) -> Result<bool, ShelfError> {
    if !source.is_file() || !target.is_file() || source.len() != target.len() {
        return Ok(false);
    }
    Ok(hash_of(from).map_err(system("read", from))? == hash_of(to).map_err(system("read", to))?)
}

/// The hash of a regular file's content, as it is now.
///
/// # Errors
/// What the system says, or that it is no regular file.
pub fn hash_of(path: &Path) -> io::Result<ContentHash> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(open_regular(path)?)?;
    Ok(ContentHash(*hasher.finalize().as_bytes()))
}

/// Never waits for a writer of a pipe that took the file's name, never follows a link.
fn open_regular(path: &Path) -> io::Result<File> {
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("no regular file")) }
}

/// Copies `from` to `temporary`, which is complete and on disk afterwards.
fn copy(from: &Path, temporary: &Path) -> Result<(), ShelfError> {
    if !look(from)?.is_file() {
        return Err(ShelfError::Refused { path: from.to_owned(), reason: "only regular files can be copied" });
    }
    // What an interrupted copy has left.
    remove(temporary)?;
    let mut source = open_regular(from).map_err(system("open", from))?;
    let before = source.metadata().map_err(system("look at", from))?;
    let mut target =
        OpenOptions::new().write(true).create_new(true).open(temporary).map_err(system("create", temporary))?;
    let copied = io::copy(&mut source, &mut target).and_then(|length| {
        keep_attributes(&target, &before);
        target.sync_all().map(|()| length)
    });
    let length = copied.map_err(|error| discard(temporary, system("copy to", temporary)(error)))?;
    let now = look(from).map(|metadata| Fingerprint::of(&metadata));
    if length != before.len() || now.is_ok_and(|now| now != Fingerprint::of(&before)) {
        return Err(discard(temporary, ShelfError::Changed { path: from.to_owned() }));
    }
    Ok(())
}

/// Permissions and times as far as the system lets us: a copy without them is a good copy.
fn keep_attributes(target: &File, of: &Metadata) {
    let _best_effort = target.set_permissions(of.permissions());
    if let (Ok(accessed), Ok(modified)) = (of.accessed(), of.modified()) {
        let _best_effort = target.set_times(FileTimes::new().set_accessed(accessed).set_modified(modified));
    }
}

/// Removes what was begun; the error that led to it matters more than one of the removal.
fn discard(temporary: &Path, error: ShelfError) -> ShelfError {
    let _removed_next_time = remove(temporary);
    error
}

/// The first of `x.jpg`, `x-1.jpg`, `x-2.jpg`, … in `dir` for which neither the image nor its sidecar exists, and which is
/// not in `taken` (promised to others, not made yet). `name` may have folders. A moment later the name may be in use:
/// [`move_file`] notices.
///
/// # Errors
/// [`ShelfError::Refused`] for a name that leads out of `dir`.
pub fn free_name(dir: &Path, name: &Path, taken: &HashSet<PathBuf>) -> Result<PathBuf, ShelfError> {
    let inside = name.components().all(|component| matches!(component, Component::Normal(_)));
    let (Some(file_name), true) = (name.file_name(), inside) else {
        return Err(ShelfError::Refused { path: name.to_owned(), reason: "the name leads out of its folder" });
    };
    let first = dir.join(name);
    // A place that cannot be looked at counts as free: the move will say what is wrong with it.
    let is_free = |path: &Path| {
        !taken.contains(path) && path.symlink_metadata().is_err() && sidecar_path(path).symlink_metadata().is_err()
    };
    if is_free(&first) {
        return Ok(first);
    }
    let stem = Path::new(file_name).file_stem().unwrap_or(file_name);
    let mut numbered = (1_u64..).map(|number| {
        let mut ending = OsString::from(format!("-{number}"));
        if let Some(extension) = Path::new(file_name).extension() {
            ending.push(".");
            ending.push(extension);
        }
        first.with_file_name(fitting(stem, &ending))
    });
    Ok(numbered.find(|path| is_free(path)).expect("a folder has fewer than 2^64 files"))
}

/// Where the sidecar of `image` lies: `IMG.jpg.json`. A name too long for that is shortened and told apart by a hash.
#[must_use]
pub fn sidecar_path(image: &Path) -> PathBuf {
    let name = image.file_name().unwrap_or_default();
    let ending = if name.len() + SIDECAR_SUFFIX.len() <= NAME_MAX {
        SIDECAR_SUFFIX.to_owned()
    } else {
        format!("~{}{SIDECAR_SUFFIX}", short_hash(name))
    };
    image.with_file_name(fitting(name, OsStr::new(&ending)))
}

/// `stem` and `ending`, with the stem cut so that both together are a legal file name.
fn fitting(stem: &OsStr, ending: &OsStr) -> OsString {
    let stem = stem.as_bytes();
    let mut length = stem.len().min(NAME_MAX.saturating_sub(ending.len()));
    // Not in the middle of a UTF-8 character.
    while length < stem.len() && length > 0 && stem[length] & 0b1100_0000 == 0b1000_0000 {
        length -= 1;
    }
    OsString::from_vec([&stem[..length], ending.as_bytes()].concat())
}

fn short_hash(name: &OsStr) -> String {
    blake3::hash(name.as_bytes()).to_hex()[..16].to_owned()
}

/// The hidden name under which `path` is made. Always the same, so that a crash leaves at most one, which the next try
/// replaces; short, whatever the name; ignored by the watcher like all dot files.
fn hidden(path: &Path) -> PathBuf {
    path.with_file_name(format!(".pixchute-{}.part", short_hash(path.file_name().unwrap_or_default())))
}

/// Removes what a crash has left of a file that was being made as `path`.
///
/// # Errors
/// What the system says.
pub fn remove_begun(path: &Path) -> Result<(), ShelfError> {
    remove(&hidden(path))
}

/// Leaves what a crash leaves of a file that was being made as `path`.
#[cfg(test)]
pub(crate) fn begin(path: &Path, bytes: &[u8]) -> io::Result<()> {
    std::fs::write(hidden(path), bytes)
}

/// Writes `bytes` under a hidden name beside `path` and renames it over `path`: a reader sees the old content or the new
/// one. With `sync` it survives a power cut. Only for files of ours: what lies there is replaced.
///
/// # Errors
/// What the system says; `path` is as it was.
pub fn write_atomic(path: &Path, bytes: &[u8], sync: bool) -> Result<(), ShelfError> {
    write_atomic_with(path, sync, |file| file.write_all(bytes))
}

/// Like [`write_atomic`] for content that does not fit into memory: `fill` writes it. Folders are made as needed.
///
/// # Errors
/// What `fill` or the system says; `path` is as it was.
pub fn write_atomic_with(
    path: &Path,
    sync: bool,
    fill: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<(), ShelfError> {
    refuse_detours(path)?;
    let temporary = hidden(path);
    let written = create_temporary(&temporary)?;
    let written = Ok(written).and_then(|mut file| {
        fill(&mut file)?;
        if sync { file.sync_all() } else { Ok(()) }
    });
    written
        .map_err(system("write", &temporary))
        .and_then(|()| replace(&temporary, path))
        .map_err(|error| discard(&temporary, error))?;
    if sync { sync_dir(parent(path)) } else { Ok(()) }
}

/// Makes `path` a file with these bytes, whole or not at all, if nothing lies there. Folders are made as needed.
///
/// # Errors
/// [`ShelfError::Taken`] if something does, else what the system says.
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<(), ShelfError> {
    refuse_detours(path)?;
    let temporary = hidden(path);
    let written = create_temporary(&temporary)?.write_all(bytes);
    written
        .map_err(system("write", &temporary))
        .and_then(|()| carry_out(Step::Publish, &temporary, path))
        .map_err(|error| discard(&temporary, error))
}

/// Opens a new file under a hidden name; makes its folder, or removes what a crash has left there, only if it must.
fn create_temporary(temporary: &Path) -> Result<File, ShelfError> {
    let create = || OpenOptions::new().write(true).create_new(true).open(temporary);
    let created = match create() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create_dirs(parent(temporary))?;
            create()
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            remove(temporary)?;
            create()
        }
        created => created,
    };
    created.map_err(system("create", temporary))
}

#[expect(clippy::disallowed_methods, reason = "the one place that moves files")]
fn replace(temporary: &Path, path: &Path) -> Result<(), ShelfError> {
    std::fs::rename(temporary, path).map_err(system("replace", path))
}

/// Removes a file; that it is gone already is as good.
///
/// # Errors
/// What the system says.
#[expect(clippy::disallowed_methods, reason = "the one place that removes files")]
pub fn remove(path: &Path) -> Result<(), ShelfError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(system("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Makes the names in `dir` survive a power cut.
///
/// # Errors
/// What the system says; file systems that cannot sync a folder count as having done so.
pub fn sync_dir(dir: &Path) -> Result<(), ShelfError> {
    match File::open(dir).and_then(|folder| folder.sync_all()) {
        Err(error) if error.kind() != io::ErrorKind::InvalidInput => Err(system("sync the folder", dir)(error)),
        _ => Ok(()),
    }
}

/// Creates `dir` and the folders above it.
///
/// # Errors
/// What the system says.
pub fn create_dirs(dir: &Path) -> Result<(), ShelfError> {
    std::fs::create_dir_all(dir).map_err(system("create the folder", dir))
}

/// Whether files can be made in `dir`, or it can be made, as far as permissions and mounts tell. A yes may be wrong.
#[must_use]
pub fn may_write(dir: &Path) -> bool {
    let ask = |dir: &Path| rustix::fs::access(dir, Access::WRITE_OK | Access::EXEC_OK);
    let answer = dir.ancestors().map(ask).find(|answer| *answer != Err(Errno::NOENT));
    !matches!(answer, Some(Err(Errno::ACCESS | Errno::ROFS)))
}

fn refuse_detours(path: &Path) -> Result<(), ShelfError> {
    if path.components().any(|component| component == Component::ParentDir) {
        return Err(ShelfError::Refused { path: path.to_owned(), reason: "a path with `..` may lead anywhere" });
    }
    Ok(())
}

fn look(path: &Path) -> Result<Metadata, ShelfError> {
    path.symlink_metadata().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => ShelfError::Vanished { path: path.to_owned() },
        _ => system("look at", path)(error),
    })
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

mod link;
mod probe;
#[cfg(test)]
mod tests;
