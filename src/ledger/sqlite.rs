//! The ledger in SQLite.
//!
//! One thread writes and commits what has gathered as one transaction; a second one syncs what has been committed (group
//! commit: an fsync for each record would cost a factor of eight), so that an intent never waits for an fsync; a third
//! one reads on its own connection. In WAL mode a read that begins after a commit was answered sees it.
//!
//! A damaged database is never an obstacle and never deleted: it is set aside under a name with the time, and a fresh one
//! is made, which the caller fills from the manifests ([`crate::record::rebuild`]).
//!
//! **Limits.** The file must lie on a local disk: WAL needs shared memory, which network file systems do not have. In a
//! large ledger, damage that one second of looking does not find when it is opened is found only when it is met.

mod files;
mod look;
mod mailbox;
mod rows;
mod schema;
mod standstill;
mod writer;

#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode};
use tokio::sync::oneshot;

use super::{Answer, Census, Due, Durability, HostPause, Ledger, LedgerError, Memo, Write};
use crate::clock::{Clock, WallTime};
use crate::job::{ContentHash, Job, JobId, Stage};
use crate::panics::essential_work;
pub use look::{Look, look};
use mailbox::Mailbox;
use schema::Found;
use standstill::Standstill;
use writer::{Deed, Request, Syncer, UNSYNCED, Writer};

/// How long an existing ledger is looked through when it is opened: reading 1 s gets through some hundred thousand rows,
/// the open ones first, and keeps a start with millions of rows short.
const CHECK_TIME: Duration = Duration::from_secs(1);

/// How long a commit waits for a foreign process (`sqlite3`, a backup) that holds the database.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How many pages the write-ahead log gathers before they go to the database: 16 MB. A checkpoint costs two fsyncs; the
/// default of 1,000 pages costs them four times as often in a burst.
const CHECKPOINT_PAGES: i64 = 4_000;

/// How often is read what the disk does not give, before that counts as lost. Passing trouble is not damage.
const READS: usize = 4;

/// The time between two of these.
const BETWEEN_READS: Duration = Duration::from_millis(200);

/// What SQLite says of a page that the disk did not give.
const UNREAD: [&str; 2] = ["disk I/O error", "unable to get the page"];

/// Upper limit of the write-ahead log's file after a checkpoint; a burst may make it larger for a while.
const LOG_LIMIT: i64 = 64 << 20;

/// How many prepared statements each connection keeps: there are fewer than that.
const STATEMENTS: usize = 32;

/// A question, to be put to the reader's connection.
type Question = Box<dyn FnOnce(&Connection) + Send>;

/// The ledger in a database file. Dropping it waits until everything that was asked for is written, and takes the
/// write-ahead log in.
pub struct SqliteLedger {
    // Dropped in this order: the connection that closes last takes the log in, and the lock is given up after it.
    reader: Mailbox<Question>,
    writer: Mailbox<Request>,
    _lock: File,
}

/// A thread whose end is waited for.
struct Joined(Option<JoinHandle<()>>);

impl Drop for Joined {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            // It panicked: what it had to answer was dropped and is an error for those who wait.
            let _panicked = thread.join();
        }
    }
}

impl fmt::Debug for SqliteLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteLedger").finish_non_exhaustive()
    }
}

/// What [`SqliteLedger::open`] found.
#[derive(Debug)]
pub struct Opened {
    /// The ledger.
    pub ledger: SqliteLedger,
    /// It is new, or was never said to be [complete](Ledger::complete): the caller puts in what the manifests know
    /// before anything is sent.
    pub fresh: bool,
    /// Where the damaged ledger is that lay here before.
    pub set_aside: Option<PathBuf>,
}

/// Why a database file was not opened.
enum Trouble {
    Damaged(String),
    Hopeless(LedgerError),
}

impl SqliteLedger {
    /// Opens the ledger at `path`, or creates it with its folder. Blocking, for at most a few seconds.
    ///
    /// # Errors
    /// [`LedgerError::InUse`] when another process has it, [`LedgerError::Open`] when the system refuses, or the file
    /// belongs to a newer pixchute or to another program.
    pub fn open(path: &Path) -> Result<Opened, LedgerError> {
        let refused = |reason: String| LedgerError::Open { path: path.to_owned(), reason, passing: false };
        let refused_now = |what: String, error: &std::io::Error| LedgerError::Open {
            path: path.to_owned(),
            reason: format!("{what}: {error}"),
            passing: files::may_pass(error),
        };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|error| refused_now(folder.display().to_string(), &error))?;
        }
        let lock = files::lock(path)?;
        let mut set_aside = None;
        let (writing, reading) = loop {
            match connect(path) {
                Ok(connections) => break connections,
                Err(Trouble::Damaged(_)) if set_aside.is_none() => {
                    let aside = files::set_aside(path, Clock::System.now())
                        .map_err(|error| refused_now("it is damaged and cannot be renamed".to_owned(), &error))?;
                    set_aside = Some(aside);
                }
                Err(Trouble::Damaged(reason)) => return Err(refused(reason)),
                Err(Trouble::Hopeless(error)) => return Err(error),
            }
        };
        let fresh = !rows::is_complete(&writing).map_err(|error| error_of(&error))?;
        let no_thread = |error: std::io::Error| refused_now("cannot start a thread".to_owned(), &error);
        let (sync, committed) = sync_channel(UNSYNCED);
        let syncer = Syncer::new(files::log_of(path));
        let syncer = std::thread::Builder::new()
            .name("ledger-sync".to_owned())
            .spawn(essential_work(move || syncer.run(&committed)));
        let syncer = Joined(Some(syncer.map_err(no_thread)?));
        let mut writer = Writer::new(writing, sync, syncer).map_err(|error| error_of(&error))?;
        let standstill = Standstill::of_test();
        let work = move |batch: Vec<Request>| {
            standstill.perhaps(&batch);
            essential_work(|| writer.work(batch))();
        };
        let writer = Mailbox::start("ledger-write", work).map_err(no_thread)?;
        let reader = Mailbox::start("ledger-read", move |batch: Vec<Question>| {
            // One transaction for all that has gathered: the cache is checked once. If it cannot begin, each question
            // is a transaction of its own and tells what is wrong.
            let together = reading.execute_batch("BEGIN").is_ok();
            essential_work(|| batch.into_iter().for_each(|question| question(&reading)))();
            if together {
                let _nothing_to_undo = reading.execute_batch("COMMIT");
            }
        })
        .map_err(no_thread)?;
        Ok(Opened { ledger: Self { reader, writer, _lock: lock }, fresh, set_aside })
    }

    fn ask(&self, deed: Deed, durability: Durability) -> Answer<Option<Job>> {
        let (answer, answered) = oneshot::channel();
        let sent = self.writer.send(Request { deed, durability, answer });
        answer_to(sent, answered)
    }

    fn read<T: Send + 'static>(
        &self,
        question: impl Fn(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Answer<T> {
        let (answer, answered) = oneshot::channel();
        let sent = self.reader.send(Box::new(move |conn| {
            let read = again_if_unread(|| question(conn), unread);
            let _nobody_waits = answer.send(read.map_err(|error| error_of(&error)));
        }));
        answer_to(sent, answered)
    }
}

impl Ledger for SqliteLedger {
    fn write(&self, writes: Vec<Write>, durability: Durability) -> Answer<()> {
        let done = self.ask(Deed::Write(writes), durability);
        Box::pin(async move { done.await.map(drop) })
    }

    fn start(&self, job: Job, link: bool) -> Answer<Option<Job>> {
        self.ask(Deed::Start { job: Box::new(job), link }, Durability::Process)
    }

    fn at_path(&self, path: PathBuf) -> Answer<Option<Job>> {
        self.read(move |conn| rows::at_path(conn, &path))
    }

    fn job(&self, id: JobId) -> Answer<Option<Job>> {
        self.read(move |conn| rows::job(conn, id))
    }

    fn due(&self, host: String, now: WallTime, limit: usize) -> Answer<Due> {
        self.read(move |conn| rows::due(conn, &host, now, limit))
    }

    fn unfinished(&self, after: Option<JobId>, limit: usize) -> Answer<Vec<Job>> {
        self.read(move |conn| rows::unfinished(conn, after, limit))
    }

    fn jobs(&self, stage: Option<Stage>, before: Option<JobId>, limit: usize) -> Answer<Vec<Job>> {
        self.read(move |conn| rows::jobs(conn, stage, before, limit))
    }

    fn census(&self) -> Answer<Vec<Census>> {
        self.read(rows::census)
    }

    fn any_between(&self, from: PathBuf, to: PathBuf) -> Answer<bool> {
        self.read(move |conn| rows::any_between(conn, &from, &to))
    }

    fn between(&self, from: PathBuf, to: PathBuf, limit: usize) -> Answer<Vec<Job>> {
        self.read(move |conn| rows::between(conn, &from, &to, limit))
    }

    fn known(&self, content: ContentHash, hosts: Vec<String>) -> Answer<Option<Job>> {
        self.read(move |conn| rows::known(conn, content, &hosts))
    }

    fn complete(&self) -> Answer<()> {
        let done = self.ask(Deed::Complete, Durability::Power);
        Box::pin(async move { done.await.map(drop) })
    }

    fn last_seq(&self) -> Answer<u64> {
        self.read(rows::last_seq)
    }

    fn pauses(&self) -> Answer<Vec<HostPause>> {
        self.read(rows::pauses)
    }

    fn memos(&self, kind: String) -> Answer<Vec<Memo>> {
        self.read(move |conn| rows::memos(conn, &kind))
    }
}

/// What the thread answers once the message is `sent`; without a thread, that the ledger is closed.
fn answer_to<T: Send + 'static>(
    sent: impl Future<Output = bool> + Send + 'static,
    answered: oneshot::Receiver<Result<T, LedgerError>>,
) -> Answer<T> {
    Box::pin(async move {
        if sent.await { answered.await.unwrap_or(Err(LedgerError::Closed)) } else { Err(LedgerError::Closed) }
    })
}

/// Opens the database for writing and for reading, creates its tables if there are none, looks through it if there are.
fn connect(path: &Path) -> Result<(Connection, Connection), Trouble> {
    let hopeless = |reason, passing| Trouble::Hopeless(LedgerError::Open { path: path.to_owned(), reason, passing });
    let refused = |reason: String| hopeless(reason, false);
    let judged = |error| judge(path, &error);
    let length = files::touch(path).map_err(|error| hopeless(error.to_string(), files::may_pass(&error)))?;
    if length == 0 && files::has_log(path) {
        return Err(Trouble::Damaged("the database is empty but its log is not".to_owned()));
    }
    let conn = open_connection(path).map_err(judged)?;
    let found = schema::examine(&conn).map_err(judged)?;
    match found {
        Found::Empty | Found::Ours => {}
        Found::Damaged(reason) => return Err(Trouble::Damaged(reason)),
        Found::Newer(version) => {
            let (ours, what) = (schema::VERSION, "it was written by a newer pixchute");
            return Err(refused(format!("{what} (version {version}, this one knows {ours}): update pixchute")));
        }
        Found::Foreign => return Err(refused("it is the database of another program: choose another file".to_owned())),
    }
    let mode: String = conn.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0)).map_err(judged)?;
    if mode != "wal" {
        return Err(refused("its file system cannot share memory: put the ledger on a local disk".to_owned()));
    }
    conn.pragma_update(None, "journal_size_limit", LOG_LIMIT).map_err(judged)?;
    conn.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES).map_err(judged)?;
    if found == Found::Empty {
        schema::create(&conn).map_err(judged)?;
    } else {
        again_if_unread(|| check(&conn), |reason| UNREAD.iter().any(|words| reason.contains(words)))
            .map_err(Trouble::Damaged)?;
    }
    let reading = open_connection(path).map_err(judged)?;
    reading.pragma_update(None, "query_only", true).map_err(judged)?;
    Ok((conn, reading))
}

/// Reads until it succeeds or fails for another reason than that the disk gave an error, [`READS`] times at most.
fn again_if_unread<T, E>(read: impl Fn() -> Result<T, E>, unread: impl Fn(&E) -> bool) -> Result<T, E> {
    for _ in 1..READS {
        match read() {
            Err(error) if unread(&error) => std::thread::sleep(BETWEEN_READS),
            result => return result,
        }
    }
    read()
}

fn unread(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::SystemIoFailure)
}

fn open_connection(path: &Path) -> rusqlite::Result<Connection> {
    let conn = Connection::open(path)?;
    conn.busy_timeout(BUSY_TIMEOUT)?;
    // Else SQLite plans a statement anew whenever a value is bound that a partial index might care about: measured, a third
    // of all its work here. No statement needs it: those of partial indexes say their conditions in words.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(conn)
}

/// Whether an error while opening is the fault of the file's content. That the file itself can be written to is known.
fn judge(path: &Path, error: &rusqlite::Error) -> Trouble {
    let hopeless =
        |passing| Trouble::Hopeless(LedgerError::Open { path: path.to_owned(), reason: error.to_string(), passing });
    match error.sqlite_error_code() {
        Some(
            ErrorCode::CannotOpen
            | ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::DiskFull
            | ErrorCode::OutOfMemory
            | ErrorCode::SystemIoFailure,
        ) => hopeless(true),
        Some(ErrorCode::FileLockingProtocolFailed | ErrorCode::PermissionDenied) => hopeless(false),
        _ => Trouble::Damaged(error.to_string()),
    }
}

/// Looks for damage for at most [`CHECK_TIME`]: first at what a start depends on, then at the structure of the file, then
/// at every row.
fn check(conn: &Connection) -> Result<(), String> {
    let interrupt = conn.get_interrupt_handle();
    let (finished, wait) = sync_channel::<()>(0);
    let looked = std::thread::scope(|scope| {
        scope.spawn(move || {
            if wait.recv_timeout(CHECK_TIME) == Err(RecvTimeoutError::Timeout) {
                interrupt.interrupt();
            }
        });
        let looked = rows::read_backlog(conn)
            .and_then(|()| conn.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0)))
            .and_then(|verdict| if verdict == "ok" { rows::read_all(conn).map(|()| verdict) } else { Ok(verdict) });
        drop(finished);
        looked
    });
    match looked {
        Ok(verdict) if verdict == "ok" => Ok(()),
        Ok(verdict) => Err(verdict),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// What an error of the running database means to the agent.
fn error_of(error: &rusqlite::Error) -> LedgerError {
    match error {
        rusqlite::Error::SqliteFailure(failure, _)
            if !matches!(failure.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) =>
        {
            LedgerError::Storage(error.to_string())
        }
        _ => LedgerError::Damaged(error.to_string()),
    }
}
