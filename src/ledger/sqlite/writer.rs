//! The one writer: everything that has gathered is one transaction.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::{Joined, error_of, rows};
use crate::job::Job;
use crate::ledger::{Durability, LedgerError, Write};

/// What shall be changed.
pub(super) enum Deed {
    /// [`crate::ledger::Ledger::write`]
    Write(Vec<Write>),
    /// [`crate::ledger::Ledger::start`]
    Start { job: Box<Job>, link: bool },
    /// [`super::SqliteLedger::complete`]
    Complete,
}

/// One call that waits for its answer; a job is answered only to a `Start`.
pub(super) struct Request {
    pub(super) deed: Deed,
    pub(super) durability: Durability,
    pub(super) answer: oneshot::Sender<Result<Option<Job>, LedgerError>>,
}

/// Owns the connection that writes. Its commits survive the death of the process; what must survive a power cut is handed
/// on to the [`Syncer`], so that nobody who waits for an intent waits for an fsync.
pub(super) struct Writer {
    // Dropped in this order: the connection that closes last removes the log, which must not happen before the syncer has
    // synced what it was given.
    sync: SyncSender<Committed>,
    _syncer: Joined,
    conn: Connection,
}

/// What is committed and has to reach the disk before it is answered.
pub(super) struct Committed {
    answers: Vec<(oneshot::Sender<Answered>, Option<Job>)>,
}

type Answered = Result<Option<Job>, LedgerError>;

impl Writer {
    pub(super) fn new(conn: Connection, sync: SyncSender<Committed>, syncer: Joined) -> rusqlite::Result<Self> {
        conn.pragma_update(None, "synchronous", "NORMAL")?;
        Ok(Self { sync, _syncer: syncer, conn })
    }

    /// Carries out `batch` in its order, as one transaction. If that fails (disk full, read-only, …), each request is tried
    /// alone, so that none shares the fate of what happened to gather with it. The connection stays usable: the next batch
    /// may succeed.
    pub(super) fn work(&mut self, batch: Vec<Request>) {
        match self.commit(&batch) {
            Ok(answers) => self.answer(batch, answers),
            Err(error) if batch.len() <= 1 => refuse(batch, &error),
            Err(_) => {
                for request in batch {
                    let alone = [request];
                    match self.commit(&alone) {
                        Ok(answers) => self.answer(alone, answers),
                        Err(error) => refuse(alone, &error),
                    }
                }
            }
        }
    }

    fn answer(&self, group: impl IntoIterator<Item = Request>, committed: Vec<Option<Job>>) {
        let mut durable = Committed { answers: Vec::new() };
        for (request, answer) in group.into_iter().zip(committed) {
            match request.durability {
                Durability::Process => drop(request.answer.send(Ok(answer))),
                Durability::Power => durable.answers.push((request.answer, answer)),
            }
        }
        if !durable.answers.is_empty() {
            // Without a syncer the answers are dropped, and those who wait learn that the ledger is closed.
            let _closed = self.sync.send(durable);
        }
    }

    fn commit(&mut self, group: &[Request]) -> rusqlite::Result<Vec<Option<Job>>> {
        // As prepared statements: in small batches, parsing two words would be a tenth of the work.
        self.conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let answers = carry_out_all(&self.conn, group).and_then(|answers| {
            self.conn.prepare_cached("COMMIT")?.execute([])?;
            Ok(answers)
        });
        if answers.is_err() && !self.conn.is_autocommit() {
            // If that fails too, the next BEGIN will say so.
            let _undone = self.conn.execute_batch("ROLLBACK");
        }
        answers
    }
}

fn refuse(group: impl IntoIterator<Item = Request>, error: &rusqlite::Error) {
    let error = error_of(error);
    for request in group {
        let _nobody_waits = request.answer.send(Err(error.clone()));
    }
}

/// Makes commits survive a power cut: one fsync of the write-ahead log for all that has gathered. The log is all that
/// matters, since SQLite syncs it before it takes pages over into the database, and the database after that
/// (<https://sqlite.org/wal.html>, "synchronous=NORMAL").
pub(super) struct Syncer {
    log: PathBuf,
    open: Option<File>,
}

/// How many commits may wait for an fsync. When it is full the writer waits: the disk is slower than the network.
pub(super) const UNSYNCED: usize = 64;

impl Syncer {
    /// A syncer of the write-ahead log at `log`, which exists once something was written.
    pub(super) fn new(log: PathBuf) -> Self {
        Self { log, open: None }
    }

    /// Works until the writer is gone.
    pub(super) fn run(mut self, committed: &Receiver<Committed>) {
        while let Ok(first) = committed.recv() {
            let mut answers = first.answers;
            while let Ok(more) = committed.try_recv() {
                answers.extend(more.answers);
            }
            let synced = self.sync();
            for (answer, job) in answers {
                let result = synced.as_ref().map(|()| job).map_err(|error| LedgerError::Storage(error.to_string()));
                let _nobody_waits = answer.send(result);
            }
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        let file = match &self.open {
            Some(file) => file,
            None => {
                // The log's name must survive too.
                File::open(self.log.parent().unwrap_or(&self.log))?.sync_all()?;
                self.open.insert(File::open(&self.log)?)
            }
        };
        let synced = file.sync_data();
        if synced.is_err() {
            self.open = None;
        }
        synced
    }
}

/// The answers, in the order of the requests.
fn carry_out_all(conn: &Connection, group: &[Request]) -> rusqlite::Result<Vec<Option<Job>>> {
    let mut seq = 0;
    let mut answers = Vec::with_capacity(group.len());
    for request in group {
        let (answer, used) = carry_out(conn, &request.deed)?;
        seq = seq.max(used);
        answers.push(answer);
    }
    if seq > 0 {
        rows::raise_seq(conn, seq)?;
    }
    Ok(answers)
}

/// The answer, and the highest `seq` that was written.
fn carry_out(conn: &Connection, deed: &Deed) -> rusqlite::Result<(Option<Job>, u64)> {
    match deed {
        Deed::Write(writes) => {
            let mut seq = 0;
            for write in writes {
                seq = seq.max(rows::apply(conn, write)?);
            }
            Ok((None, seq))
        }
        Deed::Start { job, link } => {
            if *link && let Some(known) = rows::same_content(conn, job)? {
                return Ok((Some(known), 0));
            }
            Ok((None, rows::put(conn, job)?))
        }
        Deed::Complete => {
            rows::set_complete(conn)?;
            Ok((None, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;
    use crate::ledger::conformance::some_job;
    use crate::ledger::sqlite::schema;

    /// A writer on a database in memory, and what it hands on to be synced.
    fn writer() -> (Writer, Receiver<Committed>) {
        let conn = Connection::open_in_memory().expect("memory");
        schema::create(&conn).expect("tables");
        let (sync, committed) = sync_channel(UNSYNCED);
        (Writer::new(conn, sync, Joined(None)).expect("pragmas"), committed)
    }

    fn put(writer: &mut Writer, count: usize, durability: Durability) -> oneshot::Receiver<Answered> {
        let writes = (0..count).map(|_| Write::Put(Box::new(some_job()))).collect();
        let (answer, answered) = oneshot::channel();
        writer.work(vec![Request { deed: Deed::Write(writes), durability, answer }]);
        answered
    }

    #[test]
    fn r24_a_full_disk_fails_the_batch_and_the_next_one_succeeds_when_there_is_room() {
        let (mut writer, _unsynced) = writer();
        let put = |writer: &mut Writer, count| put(writer, count, Durability::Process).try_recv().expect("answered");
        put(&mut writer, 1).expect("room for one");
        writer.conn.pragma_update(None, "max_page_count", 30).expect("pragma");
        let error = put(&mut writer, 1000).expect_err("no room for a thousand");
        assert!(matches!(&error, LedgerError::Storage(message) if message.contains("full")), "{error}");
        let rows: i64 = writer.conn.query_row("SELECT count(*) FROM job", [], |row| row.get(0)).expect("count");
        assert_eq!(rows, 1, "nothing of the failed batch is left");
        writer.conn.pragma_update(None, "max_page_count", 1_000_000).expect("pragma");
        put(&mut writer, 1000).expect("there is room again");
    }

    #[test]
    fn what_must_survive_a_power_cut_is_answered_after_an_fsync_and_nothing_else_waits_for_one() {
        let (mut writer, unsynced) = writer();
        put(&mut writer, 1, Durability::Process).try_recv().expect("answered at once").expect("written");
        let mut durable = put(&mut writer, 1, Durability::Power);
        assert!(durable.try_recv().is_err(), "not before it is on disk");
        drop(writer);
        let dir = tempfile::tempdir().expect("temp");
        let log = dir.path().join("wal");
        std::fs::write(&log, b"").expect("a log");
        Syncer::new(log).run(&unsynced);
        durable.try_recv().expect("answered").expect("synced");
    }

    #[test]
    fn r24_an_fsync_that_fails_is_told_to_those_who_wait_for_it() {
        let (mut writer, unsynced) = writer();
        let mut durable = put(&mut writer, 1, Durability::Power);
        drop(writer);
        let dir = tempfile::tempdir().expect("temp");
        Syncer::new(dir.path().join("missing")).run(&unsynced);
        assert!(matches!(durable.try_recv(), Ok(Err(LedgerError::Storage(_)))));
    }

    #[test]
    fn an_intent_does_not_share_the_fate_of_what_gathered_with_it() {
        let (mut writer, _unsynced) = writer();
        writer.conn.pragma_update(None, "max_page_count", 30).expect("pragma");
        let ((first, mut written), (second, mut started)) = (oneshot::channel(), oneshot::channel());
        let writes = (0..1000).map(|_| Write::Put(Box::new(some_job()))).collect();
        let deed = Deed::Start { job: Box::new(some_job()), link: false };
        writer.work(vec![
            Request { deed: Deed::Write(writes), durability: Durability::Process, answer: first },
            Request { deed, durability: Durability::Process, answer: second },
        ]);
        started.try_recv().expect("answered").expect("there is room for one");
        written.try_recv().expect("answered").expect_err("but not for a thousand");
    }
}
