//! What only the database can do wrong: locks, crashes, damage.

use std::fmt::Write as _;
use std::time::Duration;

use proptest::prelude::*;
use tempfile::TempDir;
use tokio::time::Instant;

use super::*;
use crate::job::{ContentHash, ImageFacts};
use crate::ledger::conformance::{every_promise, some_job};

/// R23: a start takes at most so long whatever the file looks like.
const START: Duration = Duration::from_secs(5);

fn open(folder: &TempDir) -> Opened {
    SqliteLedger::open(&folder.path().join("ledger.db")).expect("opens")
}

async fn put(ledger: &SqliteLedger, job: &Job) {
    ledger.write(vec![Write::Put(Box::new(job.clone()))], Durability::Process).await.expect("written");
}

/// A closed, complete ledger with `count` jobs: the file's bytes and one of the jobs.
async fn closed_ledger(folder: &TempDir, count: usize) -> (PathBuf, Job) {
    let opened = open(folder);
    opened.ledger.complete().await.expect("written");
    let jobs: Vec<Job> = (0..count).map(|_| some_job()).collect();
    let writes = jobs.iter().map(|job| Write::Put(Box::new(job.clone()))).collect();
    opened.ledger.write(writes, Durability::Power).await.expect("written");
    (folder.path().join("ledger.db"), jobs[0].clone())
}

#[tokio::test]
async fn the_sqlite_ledger_keeps_every_promise_of_the_trait() {
    let folder = TempDir::new().expect("temp");
    let mut number = 0;
    every_promise(|| {
        number += 1;
        SqliteLedger::open(&folder.path().join(format!("{number}.db"))).expect("opens").ledger
    })
    .await;
}

#[tokio::test]
async fn a_new_ledger_stays_fresh_until_it_is_said_to_be_complete() {
    let folder = TempDir::new().expect("temp");
    let opened = open(&folder);
    assert!(opened.fresh && opened.set_aside.is_none());
    drop(opened);
    let opened = open(&folder);
    assert!(opened.fresh, "a rebuild that was interrupted is done again");
    opened.ledger.complete().await.expect("written");
    drop(opened);
    assert!(!open(&folder).fresh);
}

#[tokio::test]
async fn what_was_asked_for_before_the_drop_is_there_after_it_and_the_log_is_taken_in() {
    let folder = TempDir::new().expect("temp");
    let job = some_job();
    let opened = open(&folder);
    let unpolled = opened.ledger.write(vec![Write::Put(Box::new(job.clone()))], Durability::Process);
    drop(opened);
    unpolled.await.expect("answered before the thread ended");
    assert!(!folder.path().join("ledger.db-wal").exists());
    assert_eq!(open(&folder).ledger.job(job.id).await.expect("read"), Some(job));
}

#[tokio::test]
async fn a_full_channel_makes_senders_wait_and_loses_nothing() {
    let folder = TempDir::new().expect("temp");
    let opened = open(&folder);
    let mut waiting = Vec::new();
    for _ in 0..5_000 {
        waiting.push(opened.ledger.write(vec![Write::Put(Box::new(some_job()))], Durability::Process));
    }
    for answer in waiting {
        answer.await.expect("written");
    }
    let census = opened.ledger.census().await.expect("read");
    assert_eq!(census[0].count, 5_000);
}

#[tokio::test]
async fn a_drop_with_a_full_channel_and_waiting_senders_ends() {
    let folder = TempDir::new().expect("temp");
    let opened = open(&folder);
    let waiting: Vec<_> =
        (0..5_000).map(|_| opened.ledger.write(vec![Write::Put(Box::new(some_job()))], Durability::Power)).collect();
    drop(opened);
    for answer in waiting {
        match answer.await {
            Ok(()) | Err(LedgerError::Closed) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn r22_a_killed_process_has_lost_nothing_that_was_answered() {
    let folder = TempDir::new().expect("temp");
    let opened = open(&folder);
    opened.ledger.complete().await.expect("written");
    let jobs: Vec<Job> = (0..300).map(|_| some_job()).collect();
    for job in &jobs {
        put(&opened.ledger, job).await;
    }
    let image = TempDir::new().expect("temp");
    for name in ["ledger.db", "ledger.db-wal"] {
        std::fs::copy(folder.path().join(name), image.path().join(name)).expect("copied while it is open");
    }
    let reopened = open(&image);
    assert!(!reopened.fresh && reopened.set_aside.is_none());
    for job in jobs {
        assert_eq!(reopened.ledger.job(job.id).await.expect("read"), Some(job));
    }
}

#[tokio::test]
async fn r31_a_second_agent_is_told_who_holds_the_ledger() {
    let folder = TempDir::new().expect("temp");
    let first = open(&folder);
    let path = folder.path().join("ledger.db");
    match SqliteLedger::open(&path).expect_err("it is held") {
        LedgerError::InUse { pid, path: named } => {
            assert_eq!(pid, std::process::id().to_string());
            assert_eq!(named, path);
        }
        other => panic!("{other}"),
    }
    drop(first);
    assert!(SqliteLedger::open(&path).is_ok(), "the lock is given back");
}

#[tokio::test]
async fn a_newer_or_foreign_database_is_refused_and_stays_where_it_is() {
    let folder = TempDir::new().expect("temp");
    let (path, _) = closed_ledger(&folder, 1).await;
    let conn = Connection::open(&path).expect("opens");
    conn.pragma_update(None, "user_version", 9).expect("pragma");
    conn.execute("UPDATE meta SET value = 9 WHERE key = 'version'", []).expect("update");
    drop(conn);
    let error = SqliteLedger::open(&path).expect_err("newer").to_string();
    assert!(error.contains("newer pixchute") && error.contains("version 9"), "{error}");

    let foreign = folder.path().join("foreign.db");
    Connection::open(&foreign).expect("opens").execute_batch("CREATE TABLE bookmarks (url)").expect("table");
    let error = SqliteLedger::open(&foreign).expect_err("foreign").to_string();
    assert!(error.contains("another program"), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).expect("list").count(), 4, "two databases, two locks");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_set_aside_and_never_overwritten() {
    let folder = TempDir::new().expect("temp");
    let path = folder.path().join("ledger.db");
    let mut seen = Vec::new();
    for round in 0..3 {
        let _ = std::fs::write(&path, format!("not a database, round {round} ").repeat(100));
        let opened = open(&folder);
        assert!(opened.fresh);
        let aside = opened.set_aside.expect("set aside");
        assert!(aside.to_string_lossy().contains("ledger.db.damaged-"), "{}", aside.display());
        seen.push(std::fs::read_to_string(aside).expect("kept").contains(&format!("round {round}")));
    }
    assert_eq!(seen, [true, true, true]);
}

#[tokio::test]
async fn missing_tables_and_unreadable_rows_are_damage() {
    for harm in [
        "DROP TABLE pause",
        "DROP TRIGGER job_on",
        "DROP INDEX job_due",
        "UPDATE job SET stage = 'lost'",
        "UPDATE job SET id = 'nonsense' WHERE rowid = 2",
        "UPDATE job SET hash = x'00'",
        "UPDATE job SET mime = 'text/html'",
        "UPDATE job SET attempts = -1",
        "PRAGMA user_version = 77",
        "DELETE FROM meta",
    ] {
        let folder = TempDir::new().expect("temp");
        let (path, job) = closed_ledger(&folder, 3).await;
        Connection::open(&path).expect("opens").execute_batch(harm).expect(harm);
        let opened = open(&folder);
        assert!(opened.fresh && opened.set_aside.is_some(), "{harm}");
        put(&opened.ledger, &job).await;
    }
}

/// Opens a damaged copy and uses it: whatever was harmed, the agent can go on.
async fn must_start(bytes: &[u8], log: Option<&[u8]>, what: &str) {
    let folder = TempDir::new().expect("temp");
    std::fs::write(folder.path().join("ledger.db"), bytes).expect("written");
    if let Some(log) = log {
        std::fs::write(folder.path().join("ledger.db-wal"), log).expect("written");
    }
    let began = Instant::now();
    let opened = SqliteLedger::open(&folder.path().join("ledger.db")).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(began.elapsed() < START, "{what}");
    if opened.set_aside.is_some() {
        assert!(opened.fresh, "{what}");
        put(&opened.ledger, &some_job()).await;
    }
    opened.ledger.unfinished(None, 10).await.unwrap_or_else(|error| panic!("{what}: {error}"));
}

#[tokio::test]
async fn r23_a_ledger_cut_off_anywhere_starts() {
    let folder = TempDir::new().expect("temp");
    let (path, _) = closed_ledger(&folder, 20).await;
    let bytes = std::fs::read(path).expect("read");
    for length in (0..bytes.len()).step_by(bytes.len() / 40) {
        must_start(&bytes[..length], None, &format!("cut at {length}")).await;
    }
}

#[tokio::test]
async fn r23_a_ledger_with_a_flipped_byte_anywhere_starts() {
    let folder = TempDir::new().expect("temp");
    let (path, _) = closed_ledger(&folder, 20).await;
    let bytes = std::fs::read(path).expect("read");
    let header = 0..100;
    let spread = (100..bytes.len()).step_by(bytes.len() / 150);
    for position in header.chain(spread) {
        let mut harmed = bytes.clone();
        harmed[position] ^= 0xff;
        must_start(&harmed, None, &format!("flipped at {position}")).await;
    }
}

#[tokio::test]
async fn r23_a_damaged_log_starts() {
    let folder = TempDir::new().expect("temp");
    let opened = open(&folder);
    opened.ledger.complete().await.expect("written");
    for _ in 0..20 {
        put(&opened.ledger, &some_job()).await;
    }
    let bytes = std::fs::read(folder.path().join("ledger.db")).expect("read");
    let log = std::fs::read(folder.path().join("ledger.db-wal")).expect("read");
    for position in (0..log.len()).step_by(log.len() / 40) {
        must_start(&bytes, Some(&log[..position]), &format!("log cut at {position}")).await;
        let mut harmed = log.clone();
        harmed[position] ^= 0x10;
        must_start(&bytes, Some(&harmed), &format!("log flipped at {position}")).await;
    }
    must_start(&[], Some(&log), "log without its database").await;
}

#[tokio::test]
async fn the_database_is_readable_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let folder = TempDir::new().expect("temp");
    let opened = open(&folder);
    put(&opened.ledger, &some_job()).await;
    for name in ["ledger.db", "ledger.db-wal", "ledger.db.lock"] {
        let mode = folder.path().join(name).metadata().expect(name).permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name}");
    }
}

/// One random change: which of a few jobs, and what it is then.
fn some_write() -> impl Strategy<Value = (usize, Option<Job>)> {
    let stage = (0..Stage::ALL.len()).prop_map(|index| Stage::ALL[index]);
    let status = proptest::option::of(prop_oneof![Just("uploaded"), Just("timeout")]);
    let place = (0..2_u8, 0..2_u8, 0..3_u8);
    let times = (proptest::option::of(0..9_i64), 0..9_i64);
    (0..6_usize, any::<bool>(), stage, any::<bool>(), status, place, times).prop_map(
        |(which, put, stage, pending, status, (folder, host, content), (not_before, queued_at))| {
            let job = put.then(|| Job {
                folder: PathBuf::from(format!("/{folder}")),
                host: host.to_string(),
                path: PathBuf::from(format!("/{folder}/{content}")),
                stage,
                pending,
                image: some_job().image.map(|image| ImageFacts { hash: ContentHash([content; 32]), ..image }),
                not_before: not_before.map(WallTime::from_millis),
                queued_at: WallTime::from_millis(queued_at),
                record: status.map(|status| format!(r#"{{"seq":{queued_at},"status":"{status}"}}"#)),
                ..some_job()
            });
            (which, job)
        },
    )
}

/// Every answer that a ledger can give about the jobs of [`some_write`].
async fn every_answer(ledger: &dyn Ledger, ids: &[JobId]) -> String {
    let mut census = ledger.census().await.expect("read");
    census.sort_by(|a, b| (&a.folder, &a.host, a.stage.name()).cmp(&(&b.folder, &b.host, b.stage.name())));
    let mut all = format!("{census:?} {:?}", ledger.last_seq().await.expect("read"));
    for host in ["0", "1"] {
        for limit in [1, 2, 9] {
            let due = ledger.due(host.to_owned(), WallTime::from_millis(5), limit).await.expect("read");
            write!(all, "{due:?}").expect("a string");
        }
    }
    for id in ids {
        write!(all, "{:?}", ledger.unfinished(Some(*id), 3).await.expect("read")).expect("a string");
        for stage in Stage::ALL {
            write!(all, "{:?}", ledger.jobs(Some(stage), Some(*id), 3).await.expect("read")).expect("a string");
        }
    }
    for (folder, content) in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)] {
        let path = PathBuf::from(format!("/{folder}/{content}"));
        write!(all, "{:?}", ledger.at_path(path).await.expect("read")).expect("a string");
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn after_any_changes_both_ledgers_give_the_same_answers(changes in proptest::collection::vec(some_write(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
        runtime.block_on(async {
            let folder = TempDir::new().expect("temp");
            let (real, model) = (open(&folder).ledger, crate::ledger::MemoryLedger::new());
            let ids: Vec<JobId> = (0..6).map(|_| JobId::generate()).collect();
            for (which, job) in changes {
                let id = ids[which];
                let change = job.map_or(Write::Remove(id), |job| Write::Put(Box::new(Job { id, ..job })));
                real.write(vec![change.clone()], Durability::Process).await.expect("written");
                model.write(vec![change], Durability::Process).await.expect("written");
            }
            assert_eq!(every_answer(&real, &ids).await, every_answer(&model, &ids).await);
        });
    }
}
