//! Rows to values and back, and every statement that touches them.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Params, Result, Row, params};

use crate::clock::WallTime;
use crate::job::{ContentHash, Fingerprint, ImageFacts, ImageKind, Job, JobId, Stage};
use crate::ledger::{Census, Due, HostPause, Memo, RecordHead, Write, is_linkable, is_open};

/// The columns of a job, in the order in which [`job_of`] reads them.
const COLUMNS: &str = "id, folder, name, path, host, stage, dev, ino, len, mtime_ns, mime, width, height, hash, \
                       attempts, requeues, unknown_outcomes, queued_at, not_before, record, pending";

/// `OR FAIL` in these two: without it SQLite keeps a copy of every page a statement touches, to undo that statement alone;
/// here a failure undoes the whole transaction.
const PUT: &str = "INSERT OR FAIL INTO job VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, \
                   ?18, ?19, ?20, ?21, ?22, ?23) \
                   ON CONFLICT (id) DO UPDATE SET folder = ?2, name = ?3, path = ?4, host = ?5, stage = ?6, dev = ?7, \
                   ino = ?8, len = ?9, mtime_ns = ?10, mime = ?11, width = ?12, height = ?13, hash = ?14, \
                   attempts = ?15, requeues = ?16, unknown_outcomes = ?17, queued_at = ?18, not_before = ?19, \
                   record = ?20, pending = ?21, open = ?22, linkable = ?23";

/// Applies one write; gives the `seq` it carries, or 0.
pub(super) fn apply(conn: &Connection, write: &Write) -> Result<u64> {
    match write {
        Write::Put(job) => return move_on(conn, job),
        Write::Remove(id) => execute(conn, "DELETE FROM job WHERE id = ?1", [id.to_string()])?,
        Write::Pause(pause) => execute(
            conn,
            "INSERT OR REPLACE INTO pause VALUES (?1, ?2, ?3, ?4)",
            params![pause.host, pause.until.millis(), pause.since.millis(), pause.reason],
        )?,
        Write::Resume(host) => execute(conn, "DELETE FROM pause WHERE host = ?1", [host])?,
        Write::Seq(seq) => return Ok(*seq),
        Write::Keep(memo) => {
            execute(conn, "INSERT OR REPLACE INTO memo VALUES (?1, ?2, ?3)", params![memo.kind, memo.key, memo.value])?
        }
        Write::Drop { kind, key } => execute(conn, "DELETE FROM memo WHERE kind = ?1 AND key = ?2", [kind, key])?,
    }
    Ok(0)
}

/// What changes of a row while its job lives on, in the file that it was made for. The indexes over the rest are not
/// touched then: they are most of what a whole row costs.
macro_rules! move_on {
    ($also:literal, $where:literal) => {
        concat!(
            "UPDATE OR FAIL job SET stage = ?1, dev = ?2, ino = ?3, len = ?4, mtime_ns = ?5, attempts = ?6, requeues = ?7, ",
            "unknown_outcomes = ?8, not_before = ?9, record = ?10, pending = ?11, open = ?12, linkable = ?13",
            $also,
            " WHERE id = ?15 AND host = ?16 AND hash = ?17 AND folder = ?18 AND name = ?19 AND queued_at = ?20 AND mime = ?21 ",
            "AND width = ?22 AND height = ?23",
            $where
        )
    };
}
const MOVE_ON_IN_PLACE: &str = move_on!("", " AND path = ?14");
const MOVE_ON_ELSEWHERE: &str = move_on!(", path = ?14", "");

/// Writes `job`: only what has changed if its row is there and tells of the same file and host, else the whole row; gives
/// the `seq` of its record, or 0.
fn move_on(conn: &Connection, job: &Job) -> Result<u64> {
    let Some(image) = job.image else { return put(conn, job) };
    let head = RecordHead::of(job);
    let id = job.id.to_string();
    let values = params![
        job.stage.name(),
        job.fingerprint.dev.cast_signed(),
        job.fingerprint.ino.cast_signed(),
        job.fingerprint.len.cast_signed(),
        job.fingerprint.mtime_ns,
        job.attempts,
        job.requeues,
        job.unknown_outcomes,
        job.not_before.map(WallTime::millis),
        job.record,
        job.pending,
        is_open(job),
        is_linkable(job, &head),
        bytes(&job.path),
        id,
        job.host,
        image.hash.0,
        bytes(&job.folder),
        bytes(&job.name),
        job.queued_at.millis(),
        image.kind.mime(),
        image.width,
        image.height,
    ];
    for sql in [MOVE_ON_IN_PLACE, MOVE_ON_ELSEWHERE] {
        if conn.prepare_cached(sql)?.execute(values)? > 0 {
            return Ok(head.seq);
        }
    }
    put(conn, job)
}

/// Writes the whole row of `job`; gives the `seq` of its record, or 0.
pub(super) fn put(conn: &Connection, job: &Job) -> Result<u64> {
    let head = RecordHead::of(job);
    execute(
        conn,
        PUT,
        params![
            job.id.to_string(),
            bytes(&job.folder),
            bytes(&job.name),
            bytes(&job.path),
            job.host,
            job.stage.name(),
            job.fingerprint.dev.cast_signed(),
            job.fingerprint.ino.cast_signed(),
            job.fingerprint.len.cast_signed(),
            job.fingerprint.mtime_ns,
            job.image.map(|image| image.kind.mime()),
            job.image.map(|image| image.width),
            job.image.map(|image| image.height),
            job.image.map(|image| image.hash.0),
            job.attempts,
            job.requeues,
            job.unknown_outcomes,
            job.queued_at.millis(),
            job.not_before.map(WallTime::millis),
            job.record,
            job.pending,
            is_open(job),
            is_linkable(job, &head),
        ],
    )?;
    Ok(head.seq)
}

/// Remembers that `seq` is in use; never goes back.
pub(super) fn raise_seq(conn: &Connection, seq: u64) -> Result<()> {
    execute(conn, "UPDATE meta SET value = max(value, ?1) WHERE key = 'seq'", [seq.cast_signed()])
}

/// Remembers that everything the manifests know is in the ledger.
pub(super) fn set_complete(conn: &Connection) -> Result<()> {
    execute(conn, "UPDATE meta SET value = 1 WHERE key = 'complete'", [])
}

pub(super) fn is_complete(conn: &Connection) -> Result<bool> {
    conn.query_row("SELECT value FROM meta WHERE key = 'complete'", [], |row| row.get(0))
}

pub(super) fn last_seq(conn: &Connection) -> Result<u64> {
    conn.query_row("SELECT value FROM meta WHERE key = 'seq'", [], |row| row.get(0).map(i64::cast_unsigned))
}

/// Another job whose links `job` may repeat.
pub(super) fn same_content(conn: &Connection, job: &Job) -> Result<Option<Job>> {
    let Some(image) = job.image else { return Ok(None) };
    one(
        conn,
        "linkable = 1 AND host = ?1 AND hash = ?2 AND id <> ?3 ORDER BY id LIMIT 1",
        params![job.host, image.hash.0, job.id.to_string()],
    )
}

pub(super) fn at_path(conn: &Connection, path: &Path) -> Result<Option<Job>> {
    one(conn, "path = ?1 ORDER BY id DESC LIMIT 1", [bytes(path)])
}

pub(super) fn job(conn: &Connection, id: JobId) -> Result<Option<Job>> {
    one(conn, "id = ?1", [id.to_string()])
}

/// What `due` may give: in the words of the index `job_due`, or SQLite would not use it.
const CLAIMABLE: &str = "pending = 0 AND (stage = 'cooling' OR (stage = 'waiting' AND not_before IS NOT NULL))";

pub(super) fn due(conn: &Connection, host: &str, now: WallTime, limit: usize) -> Result<Due> {
    let mut statement =
        conn.prepare_cached(&select(&format!("host = ?1 AND {CLAIMABLE} ORDER BY not_before, id LIMIT ?2")))?;
    let mut rows = statement.query(params![host, count(limit).saturating_add(1)])?;
    let mut due = Due::default();
    while let Some(row) = rows.next()? {
        let job = job_of(row)?;
        // A row without a moment would otherwise rest for ever.
        if due.jobs.len() == limit || job.not_before > Some(now) {
            due.next = Some(job.not_before.unwrap_or(now));
            break;
        }
        due.jobs.push(job);
    }
    Ok(due)
}

pub(super) fn unfinished(conn: &Connection, after: Option<JobId>, limit: usize) -> Result<Vec<Job>> {
    let after = after.map_or_else(String::new, |id| id.to_string());
    many(conn, "open = 1 AND id > ?1 ORDER BY id LIMIT ?2", params![after, count(limit)])
}

pub(super) fn jobs(conn: &Connection, stage: Option<Stage>, before: Option<JobId>, limit: usize) -> Result<Vec<Job>> {
    // "~" sorts behind every character of a ULID.
    let before = before.map_or_else(|| "~".to_owned(), |id| id.to_string());
    let Some(stage) = stage else {
        return many(conn, "id < ?1 ORDER BY id DESC LIMIT ?2", params![before, count(limit)]);
    };
    // In the words of the indexes: open jobs are few, and the finished ones are found by their stage.
    let mut found = Vec::new();
    for which in ["open = 0", "open = 1"] {
        let which = format!("{which} AND stage = ?3 AND id < ?1 ORDER BY id DESC LIMIT ?2");
        found.extend(many(conn, &which, params![before, count(limit), stage.name()])?);
    }
    found.sort_by_key(|job| std::cmp::Reverse(job.id));
    found.truncate(limit);
    Ok(found)
}

/// be read is the error.
pub(super) fn read_backlog(conn: &Connection) -> Result<()> {
    read(conn, "open = 1")?;
    read(conn, CLAIMABLE)?;
    census(conn)?;
    pauses(conn)?;
    last_seq(conn)?;
    Ok(())
}

/// Reads every row, the newest first.
pub(super) fn read_all(conn: &Connection) -> Result<()> {
    read(conn, "true ORDER BY id DESC")
}

fn read(conn: &Connection, which: &str) -> Result<()> {
    let mut statement = conn.prepare(&select(which))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        job_of(row)?;
    }
    Ok(())
}

pub(super) fn census(conn: &Connection) -> Result<Vec<Census>> {
    // The oldest of the done ones tells nothing, and would need an index over all of them.
    let mut statement = conn.prepare_cached(
        "SELECT folder, host, stage, count, CASE stage WHEN 'done' THEN NULL ELSE (SELECT min(queued_at) FROM job \
         WHERE open = 0 AND job.stage <> 'done' AND job.folder = census.folder AND job.host = census.host \
         AND job.stage = census.stage) END, \
         CASE stage WHEN 'cooling' THEN (SELECT not_before FROM job WHERE pending = 0 AND stage = 'cooling' \
         AND host = census.host AND folder = census.folder AND not_before IS NOT NULL \
         ORDER BY not_before LIMIT 1) END FROM census WHERE count > 0 \
         UNION ALL SELECT folder, host, stage, count(*), CASE stage WHEN 'done' THEN NULL ELSE min(queued_at) END, NULL \
         FROM job WHERE open = 1 GROUP BY folder, host, stage",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(Census {
            folder: path_of(row, 0)?,
            host: row.get(1)?,
            stage: stage_of(row, 2)?,
            count: row.get::<_, i64>(3)?.cast_unsigned(),
            oldest: row.get::<_, Option<i64>>(4)?.map(WallTime::from_millis),
            next_due: row.get::<_, Option<i64>>(5)?.map(WallTime::from_millis),
        })
    })?;
    let mut census: Vec<Census> = Vec::new();
    for entry in rows {
        let entry = entry?;
        let same = |other: &&mut Census| {
            (&other.folder, &other.host, other.stage) == (&entry.folder, &entry.host, entry.stage)
        };
        match census.iter_mut().find(same) {
            Some(known) => {
                known.count += entry.count;
                known.oldest = [known.oldest, entry.oldest].into_iter().flatten().min();
                known.next_due = [known.next_due, entry.next_due].into_iter().flatten().min();
            }
            None => census.push(entry),
        }
    }
    Ok(census)
}

/// Whether any file of a job lies strictly between these two paths, as bytes.
pub(super) fn any_between(conn: &Connection, from: &Path, to: &Path) -> Result<bool> {
    conn.prepare_cached("SELECT EXISTS (SELECT 1 FROM job WHERE path > ?1 AND path < ?2)")?
        .query_row([bytes(from), bytes(to)], |row| row.get(0))
}

pub(super) fn between(conn: &Connection, from: &Path, to: &Path, limit: usize) -> Result<Vec<Job>> {
    let which = "path > ?1 AND path < ?2 ORDER BY path, id LIMIT ?3";
    many(conn, which, params![bytes(from), bytes(to), count(limit)])
}

/// The job that brought `content` to the first of `hosts` that has it.
pub(super) fn known(conn: &Connection, content: ContentHash, hosts: &[String]) -> Result<Option<Job>> {
    for host in hosts {
        let which = "linkable = 1 AND host = ?1 AND hash = ?2 ORDER BY id LIMIT 1";
        if let Some(job) = one(conn, which, params![host, content.0])? {
            return Ok(Some(job));
        }
    }
    Ok(None)
}

pub(super) fn pauses(conn: &Connection) -> Result<Vec<HostPause>> {
    let mut statement = conn.prepare_cached("SELECT host, until, since, reason FROM pause ORDER BY host")?;
    let rows = statement.query_map([], |row| {
        Ok(HostPause {
            host: row.get(0)?,
            until: WallTime::from_millis(row.get(1)?),
            since: WallTime::from_millis(row.get(2)?),
            reason: row.get(3)?,
        })
    })?;
    rows.collect()
}

pub(super) fn memos(conn: &Connection, kind: &str) -> Result<Vec<Memo>> {
    let mut statement = conn.prepare_cached("SELECT kind, key, value FROM memo WHERE kind = ?1 ORDER BY key")?;
    let rows =
        statement.query_map([kind], |row| Ok(Memo { kind: row.get(0)?, key: row.get(1)?, value: row.get(2)? }))?;
    rows.collect()
}

fn execute(conn: &Connection, sql: &str, params: impl Params) -> Result<()> {
    conn.prepare_cached(sql)?.execute(params).map(drop)
}

fn select(which: &str) -> String {
    format!("SELECT {COLUMNS} FROM job WHERE {which}")
}

fn one(conn: &Connection, which: &str, params: impl Params) -> Result<Option<Job>> {
    conn.prepare_cached(&select(which))?.query_row(params, job_of).optional()
}

fn many(conn: &Connection, which: &str, params: impl Params) -> Result<Vec<Job>> {
    conn.prepare_cached(&select(which))?.query_map(params, job_of)?.collect()
}

fn job_of(row: &Row<'_>) -> Result<Job> {
    Ok(Job {
        id: parsed(row, 0)?,
        folder: path_of(row, 1)?,
        name: path_of(row, 2)?,
        path: path_of(row, 3)?,
        host: row.get(4)?,
        stage: stage_of(row, 5)?,
        fingerprint: Fingerprint {
            dev: row.get::<_, i64>(6)?.cast_unsigned(),
            ino: row.get::<_, i64>(7)?.cast_unsigned(),
            len: row.get::<_, i64>(8)?.cast_unsigned(),
            mtime_ns: row.get(9)?,
        },
        image: image_of(row)?,
        attempts: row.get(14)?,
        requeues: row.get(15)?,
        unknown_outcomes: row.get(16)?,
        queued_at: WallTime::from_millis(row.get(17)?),
        not_before: row.get::<_, Option<i64>>(18)?.map(WallTime::from_millis),
        record: row.get(19)?,
        pending: row.get(20)?,
    })
}

fn image_of(row: &Row<'_>) -> Result<Option<ImageFacts>> {
    let Some(mime) = row.get::<_, Option<String>>(10)? else { return Ok(None) };
    let kind = ImageKind::from_mime(&mime).ok_or_else(|| unreadable(10, format!("no image type: {mime:?}")))?;
    let (width, height, hash) = (row.get(11)?, row.get(12)?, ContentHash(row.get(13)?));
    Ok(Some(ImageFacts { kind, width, height, animated: false, hash }))
}

fn stage_of(row: &Row<'_>, column: usize) -> Result<Stage> {
    let name: String = row.get(column)?;
    Stage::from_name(&name).ok_or_else(|| unreadable(column, format!("no stage: {name:?}")))
}

fn path_of(row: &Row<'_>, column: usize) -> Result<PathBuf> {
    row.get(column).map(|bytes: Vec<u8>| PathBuf::from(OsString::from_vec(bytes)))
}

fn parsed(row: &Row<'_>, column: usize) -> Result<JobId> {
    let text: String = row.get(column)?;
    text.parse().map_err(|_| unreadable(column, format!("no job id: {text:?}")))
}

fn unreadable(column: usize, what: String) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, what.into())
}

fn bytes(path: &Path) -> &[u8] {
    OsStr::as_bytes(path.as_os_str())
}

fn count(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
