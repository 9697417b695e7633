//! The files of the ledger: the lock, setting a damaged database aside.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::clock::WallTime;
use crate::ledger::LedgerError;

/// What SQLite keeps beside the database.
const COMPANIONS: [&str; 3] = ["", "-wal", "-shm"];

/// How much of a lock file is read: a process id and nothing else is expected there.
const PID_LENGTH: u64 = 20;

/// Takes the lock `<db>.lock`, which is held until the file is dropped or the process ends, and writes our process id
/// into it. The file stays: removing it would let two agents lock two files of one name.
pub(super) fn lock(db: &Path) -> Result<File, LedgerError> {
    let path = beside(db, ".lock");
    let failed = |error: io::Error| LedgerError::Open {
        path: db.to_owned(),
        reason: format!("cannot lock {}: {error}", path.display()),
        passing: may_pass(&error),
    };
    let mut file = private().truncate(false).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let known = file.take(PID_LENGTH).read_to_string(&mut pid).is_ok() && pid.trim().parse::<u32>().is_ok();
            let pid = if known { pid.trim().to_owned() } else { "unknown".to_owned() };
            return Err(LedgerError::InUse { path: db.to_owned(), pid });
        }
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(failed)?;
    Ok(file)
}

/// Creates the database file if it is missing, readable for its owner only: it holds links that delete images.
/// Gives its length.
pub(super) fn touch(db: &Path) -> io::Result<u64> {
    private().truncate(false).open(db)?.metadata().map(|metadata| metadata.len())
}

/// Whether a write-ahead log with content lies beside the database.
pub(super) fn has_log(db: &Path) -> bool {
    beside(db, "-wal").metadata().is_ok_and(|metadata| metadata.len() > 0)
}

/// Renames the database and what belongs to it to `<db>.damaged-<UTC stamp>…`, under a name that nothing has.
#[expect(clippy::disallowed_methods, reason = "the ledger's own files, under its own lock: no user's file")]
pub(super) fn set_aside(db: &Path, now: WallTime) -> io::Result<PathBuf> {
    let stamp = Timestamp::from_millisecond(now.millis())
        .map_or_else(|_| now.millis().to_string(), |time| time.strftime("%Y%m%dT%H%M%SZ").to_string());
    let mut aside = beside(db, &format!(".damaged-{stamp}"));
    let mut number = 0;
    while COMPANIONS.iter().any(|suffix| beside(&aside, suffix).symlink_metadata().is_ok()) {
        number += 1;
        aside = beside(db, &format!(".damaged-{stamp}-{number}"));
    }
    for suffix in COMPANIONS {
        match std::fs::rename(beside(db, suffix), beside(&aside, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(aside)
}

/// Whether the system may do later what it refuses now.
pub(super) fn may_pass(error: &io::Error) -> bool {
    use io::ErrorKind::{IsADirectory, NotADirectory, NotFound, PermissionDenied, Unsupported};
    !matches!(error.kind(), IsADirectory | NotADirectory | NotFound | PermissionDenied | Unsupported)
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(0o600);
    options
}

/// Where the write-ahead log of the database `db` lies.
pub(super) fn log_of(db: &Path) -> PathBuf {
    beside(db, "-wal")
}

fn beside(db: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(db);
    name.push(suffix);
    PathBuf::from(name)
}
