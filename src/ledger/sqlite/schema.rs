//! The tables, and whether a database file is ours.

use rusqlite::Connection;

/// The version of [`TABLES`]; kept in `PRAGMA user_version` and again in a table, so that one flipped byte cannot pass
/// for a newer version.
pub(super) const VERSION: i64 = 2;

/// Marks the file as ours for `file(1)` and for [`examine`]: "pixc".
const APPLICATION_ID: i64 = 0x7069_7863;

/// Paths are raw bytes. `open` and `linkable` are derived from stage, pending and record when a row is written, so that
/// the partial indexes stay as small as the backlog. `census` counts those that are not open and is kept by triggers: with a
/// million finished jobs, counting is what `status` cannot afford. One index per question of the trait, none more:
/// `at_path`, `start`, `due`, `unfinished`, `jobs`, and the oldest of a census line.
const TABLES: &str = "
CREATE TABLE job (
  id TEXT PRIMARY KEY NOT NULL, folder BLOB NOT NULL, name BLOB NOT NULL, path BLOB NOT NULL, host TEXT NOT NULL,
  stage TEXT NOT NULL, dev INTEGER NOT NULL, ino INTEGER NOT NULL, len INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
  mime TEXT, width INTEGER, height INTEGER, hash BLOB, attempts INTEGER NOT NULL, requeues INTEGER NOT NULL,
  unknown_outcomes INTEGER NOT NULL, queued_at INTEGER NOT NULL, not_before INTEGER, record TEXT,
  pending INTEGER NOT NULL, open INTEGER NOT NULL, linkable INTEGER NOT NULL);
CREATE INDEX job_path ON job (path);
CREATE INDEX job_content ON job (host, hash) WHERE linkable = 1;
CREATE INDEX job_due ON job (host, not_before, id) 
  WHERE pending = 0 AND (stage = 'cooling' OR (stage = 'waiting' AND not_before IS NOT NULL));
CREATE INDEX job_open ON job (id) WHERE open = 1;
CREATE INDEX job_stage ON job (stage, id) WHERE open = 0;
CREATE INDEX job_oldest ON job (folder, host, stage, queued_at) WHERE open = 0 AND stage <> 'done';
CREATE TABLE census (
  folder BLOB NOT NULL, host TEXT NOT NULL, stage TEXT NOT NULL, count INTEGER NOT NULL,
  PRIMARY KEY (folder, host, stage)) WITHOUT ROWID;
CREATE TRIGGER job_in AFTER INSERT ON job WHEN new.open = 0 BEGIN
  INSERT INTO census VALUES (new.folder, new.host, new.stage, 1)
    ON CONFLICT DO UPDATE SET count = count + 1;
END;
CREATE TRIGGER job_off AFTER UPDATE OF open, folder, host, stage ON job
  WHEN old.open = 0 BEGIN
  UPDATE census SET count = count - 1 WHERE folder = old.folder AND host = old.host AND stage = old.stage;
END;
CREATE TRIGGER job_on AFTER UPDATE OF open, folder, host, stage ON job
  WHEN new.open = 0 BEGIN
  INSERT INTO census VALUES (new.folder, new.host, new.stage, 1)
    ON CONFLICT DO UPDATE SET count = count + 1;
END;
CREATE TRIGGER job_out AFTER DELETE ON job WHEN old.open = 0 BEGIN
  UPDATE census SET count = count - 1 WHERE folder = old.folder AND host = old.host AND stage = old.stage;
END;
CREATE TABLE pause (host TEXT PRIMARY KEY NOT NULL, until INTEGER NOT NULL, since INTEGER NOT NULL, reason TEXT NOT NULL);
CREATE TABLE memo (
  kind TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (kind, key)) WITHOUT ROWID;
CREATE TABLE meta (key TEXT PRIMARY KEY NOT NULL, value INTEGER NOT NULL);
";

/// What a database file turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing in it yet.
    Empty,
    /// A ledger of this version.
    Ours,
    /// A ledger of a later pixchute.
    Newer(i64),
    /// A sound database of some other program.
    Foreign,
    /// It was a ledger.
    Damaged(String),
}

/// Says what the open database is, by its marks and by its tables.
pub(super) fn examine(conn: &Connection) -> rusqlite::Result<Found> {
    let tables = tables_of(conn)?;
    let version = pragma(conn, "user_version")?;
    let application = pragma(conn, "application_id")?;
    if tables.is_empty() {
        return Ok(Found::Empty);
    }
    let ours = tables.iter().any(|sql| sql.starts_with("CREATE TABLE job ("));
    if application != APPLICATION_ID && !ours {
        return Ok(Found::Foreign);
    }
    let inside = conn.query_row("SELECT value FROM meta WHERE key = 'version'", [], |row| row.get::<_, i64>(0)).ok();
    if version > VERSION && inside == Some(version) {
        return Ok(Found::Newer(version));
    }
    let model = Connection::open_in_memory()?;
    create(&model)?;
    if version != VERSION || inside != Some(VERSION) || tables != tables_of(&model)? {
        return Ok(Found::Damaged("its tables are not those of a ledger".to_owned()));
    }
    Ok(Found::Ours)
}

/// Creates all tables, in one transaction.
pub(super) fn create(conn: &Connection) -> rusqlite::Result<()> {
    let transaction = conn.unchecked_transaction()?;
    transaction.execute_batch(TABLES)?;
    transaction.execute("INSERT INTO meta VALUES ('version', ?1), ('seq', 0), ('complete', 0)", [VERSION])?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.commit()
}

fn tables_of(conn: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = conn.prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name")?;
    statement.query_map([], |row| row.get(0))?.collect()
}

fn pragma(conn: &Connection, name: &str) -> rusqlite::Result<i64> {
    conn.pragma_query_value(None, name, |row| row.get(0))
}
