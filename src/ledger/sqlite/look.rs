//! A look at a ledger that changes nothing, for `doctor`.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::schema::{self, Found};
use super::{BUSY_TIMEOUT, Trouble, check, files, judge};
use crate::ledger::LedgerError;

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// There is no ledger.
    Absent,
    /// No damage was found in the time that a start takes for looking.
    Whole,
    /// It is damaged.
    Damaged(String),
}

/// Looks at the ledger at `path` under its lock, so that no agent begins meanwhile. Blocking, for a few seconds at most.
///
/// # Errors
/// [`LedgerError::InUse`] when another process has it, [`LedgerError::Open`] when the system refuses, or the file belongs to
/// a newer pixchute or to another program.
pub fn look(path: &Path) -> Result<Look, LedgerError> {
    if !path.exists() {
        return Ok(Look::Absent);
    }
    let _lock = files::lock(path)?;
    if path.metadata().is_ok_and(|found| found.len() == 0) {
        let damaged = files::has_log(path);
        return Ok(if damaged { Look::Damaged("it is empty but its log is not".to_owned()) } else { Look::Whole });
    }
    match read(path) {
        Ok(()) => Ok(Look::Whole),
        Err(Trouble::Damaged(reason)) => Ok(Look::Damaged(reason)),
        Err(Trouble::Hopeless(error)) => Err(error),
    }
}

fn read(path: &Path) -> Result<(), Trouble> {
    let judged = |error| judge(path, &error);
    let refused = |reason: &str| {
        Trouble::Hopeless(LedgerError::Open { path: path.to_owned(), reason: reason.to_owned(), passing: false })
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags).map_err(judged)?;
    conn.busy_timeout(BUSY_TIMEOUT).map_err(judged)?;
    match schema::examine(&conn).map_err(judged)? {
        Found::Empty => Ok(()),
        Found::Ours => check(&conn).map_err(Trouble::Damaged),
        Found::Damaged(reason) => Err(Trouble::Damaged(reason)),
        Found::Newer(_) => Err(refused("it was written by a newer pixchute: update this one")),
        Found::Foreign => Err(refused("it is the database of another program: choose another file")),
    }
}
