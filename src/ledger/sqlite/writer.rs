//! The one writer: everything that has gathered is one transaction.

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::oneshot;

use super::{error_of, rows};
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

/// Owns the connection that writes.
pub(super) struct Writer {
    conn: Connection,
    /// What the connection's commits survive now.
    durability: Durability,
}

impl Writer {
    pub(super) fn new(conn: Connection) -> rusqlite::Result<Self> {
        conn.pragma_update(None, "synchronous", "NORMAL")?;
        Ok(Self { conn, durability: Durability::Process })
    }

    /// Commits `batch` as a whole, or nothing of it, and answers each of its requests. A failure (disk full, read-only,
    /// …) leaves the connection usable: the next batch may succeed.
    pub(super) fn work(&mut self, batch: Vec<Request>) {
        match self.commit(&batch) {
            Ok(answers) => {
                for (request, answer) in batch.into_iter().zip(answers) {
                    let _nobody_waits = request.answer.send(Ok(answer));
                }
            }
            Err(error) => {
                let error = error_of(&error);
                for request in batch {
                    let _nobody_waits = request.answer.send(Err(error.clone()));
                }
            }
        }
    }

    fn commit(&mut self, batch: &[Request]) -> rusqlite::Result<Vec<Option<Job>>> {
        let needed = batch.iter().map(|request| request.durability).max().unwrap_or(Durability::Process);
        self.survive(needed)?;
        let transaction = self.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut seq = 0;
        let mut answers = Vec::with_capacity(batch.len());
        for request in batch {
            let (answer, used) = carry_out(&transaction, &request.deed)?;
            seq = seq.max(used);
            answers.push(answer);
        }
        if seq > 0 {
            rows::raise_seq(&transaction, seq)?;
        }
        transaction.commit()?;
        Ok(answers)
    }

    /// In WAL mode NORMAL commits without an fsync, FULL with one, which covers all earlier commits too.
    fn survive(&mut self, needed: Durability) -> rusqlite::Result<()> {
        if needed != self.durability {
            let level = match needed {
                Durability::Process => "NORMAL",
                Durability::Power => "FULL",
            };
            self.conn.pragma_update(None, "synchronous", level)?;
            self.durability = needed;
        }
        Ok(())
    }
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
    use super::*;
    use crate::ledger::conformance::some_job;
    use crate::ledger::sqlite::schema;

    fn put(writer: &mut Writer, count: usize) -> Result<(), LedgerError> {
        let writes = (0..count).map(|_| Write::Put(Box::new(some_job()))).collect();
        let (answer, mut answered) = oneshot::channel();
        writer.work(vec![Request { deed: Deed::Write(writes), durability: Durability::Power, answer }]);
        answered.try_recv().expect("every request is answered").map(drop)
    }

    #[test]
    fn r24_a_full_disk_fails_the_batch_and_the_next_one_succeeds_when_there_is_room() {
        let conn = Connection::open_in_memory().expect("memory");
        schema::create(&conn).expect("tables");
        let mut writer = Writer::new(conn).expect("pragmas");
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
    fn only_a_batch_that_must_survive_a_power_cut_costs_an_fsync() {
        let conn = Connection::open_in_memory().expect("memory");
        schema::create(&conn).expect("tables");
        let mut writer = Writer::new(conn).expect("pragmas");
        for (batch, level) in [
            (&[Durability::Process][..], 1),
            (&[Durability::Process, Durability::Power, Durability::Process][..], 2),
            (&[Durability::Process][..], 1),
        ] {
            let requests = batch.iter().map(|durability| {
                let (answer, _nobody) = oneshot::channel();
                Request { deed: Deed::Write(Vec::new()), durability: *durability, answer }
            });
            writer.work(requests.collect());
            let set: i64 = writer.conn.pragma_query_value(None, "synchronous", |row| row.get(0)).expect("pragma");
            assert_eq!(set, level, "{batch:?}");
        }
    }
}
