use std::path::PathBuf;

use super::*;
use crate::control::model::{PoolStatus, QuotaStatus, SettlingStatus, StageCounts, StageTimes};
use crate::job::{JobId, Phase};

fn at(seconds: i64) -> WallTime {
    WallTime::from_millis(1_795_435_200_000 + seconds * 1000)
}

fn folder() -> FolderStatus {
    FolderStatus {
        path: PathBuf::from("/home/a/Drop"),
        host: "pixhost".into(),
        watch: "native".into(),
        watch_reason: None,
        settling: vec![SettlingStatus { file: "slow\x1b[2J.jpg".into(), since: at(-8), last_change: at(-1) }],
        settling_total: 1,
        unreadable: Vec::new(),
        counts: StageCounts { waiting: 2, started: 1, cooling: 4, done: 120, failed: 1, ..StageCounts::default() },
        oldest_open_at: Some(at(-300)),
        oldest_at: StageTimes { waiting: Some(at(-300)), cooling: Some(at(-200)), ..StageTimes::default() },
        last_success_at: Some(at(-5)),
        last_error: None,
        next_due_at: Some(at(100)),
        overflows: 0,
        manifest: PathBuf::from("/home/a/Drop/manifest.jsonl"),
        held_since: None,
    }
}

fn host() -> HostStatus {
    HostStatus {
        name: "pixhost".into(),
        state: "ready".to_owned(),
        running: 1,
        parked: 1,
        window: 4,
        max_parallel: 8,
        queued: 2,
        quota: None,
        paused_until: Some(at(180)),
        pause_reason: Some("429 Too Many Requests".into()),
        held_since: None,
        last_success_at: Some(at(-5)),
        last_error: Some("no answer".into()),
        next_due_at: None,
        unknown_outcomes: 2,
    }
}

fn status() -> Status {
    Status {
        version: "0.1.0".into(),
        pid: 123,
        state: "ready".into(),
        started_at: at(-7_200),
        now: at(0),
        config: None,
        gallery: Some("http://127.0.0.1:8421/".into()),
        blocked: None,
        pool: PoolStatus { workers: 8, busy: 1, parked: 1, queue: 100, queue_depth: 2, oldest_queued_at: Some(at(-9)) },
        folders: vec![folder()],
        hosts: vec![host()],
        attempts: vec![AttemptStatus {
            worker: Some(3),
            job: JobId::generate(),
            file: "trip/x.jpg".into(),
            folder: PathBuf::from("/home/a/Drop"),
            host: "pixhost".into(),
            phase: Phase::Send,
            sent: 50,
            total: 200,
            bytes_per_second: 10,
            left_ms: Some(15_000),
            since: at(-12),
            age_ms: 12_000,
            idle_ms: 900,
        }],
        recent: Vec::new(),
    }
}

#[test]
fn everything_that_matters_is_on_one_screen() {
    let expected = "\
pixchute 0.1.0 · ready for 2 h · process 123
gallery  http://127.0.0.1:8421/
pool     1 of 8 workers busy, 1 attempts parked, 2 of 100 queued, the oldest for 9 s

FOLDER        HOST     WATCH   SETTLING  OPEN  COOLING  FAILED  DONE  OLDEST
/home/a/Drop  pixhost  native         1     3        4       1   120  5 min
  /home/a/Drop: the oldest waiting 5 min, cooling 3 min; next try in 1 min
  /home/a/Drop: slow\\u{1b}[2J.jpg is settling for 8 s, last change 1 s ago

HOST     RUNNING  PARKED  WINDOW  QUEUED  LAST SUCCESS  STATE
pixhost        1       1     4/8       2  5 s ago       paused for 3 min: 429 Too Many Requests
  pixhost: no answer
  pixhost: 2 uploads broke off after the last byte and may exist twice there

WORKER  FILE        HOST     PHASE  SENT   FOR  IDLE
     3  trip/x.jpg  pixhost  send   25 %  12 s   0 s
";
    assert_eq!(render(&status(), Paint::default()), expected);
}

#[test]
fn what_is_left_of_a_quota_and_a_circuit_that_is_half_open_are_told() {
    let quota = Some(QuotaStatus { count: 1_000, period_seconds: 3_600, left: 12 });
    let well = HostStatus { quota, paused_until: None, pause_reason: None, ..host() };
    let shown = |host: HostStatus| render(&Status { hosts: vec![host], ..status() }, Paint::default());
    assert!(shown(well.clone()).contains("5 s ago       ok · 12 of 1000 an hour left\n"), "{}", shown(well));
    let half =
        HostStatus { state: "half-open".into(), next_due_at: Some(at(60)), quota: None, paused_until: None, ..host() };
    assert!(shown(half.clone()).contains("5 s ago       half-open\n"), "{}", shown(half));
}

#[test]
fn what_blocks_the_agent_stands_on_top() {
    let blocked = Status { blocked: Some("state dir full".into()), ..status() };
    assert_eq!(render(&blocked, Paint::default()).lines().nth(1), Some("blocked  state dir full"));
}

#[test]
fn an_attempt_without_a_body_has_no_percentage() {
    let mut status = status();
    status.attempts[0].total = 0;
    status.attempts[0].worker = None;
    let text = render(&status, Paint::default());
    assert!(text.contains("parked  trip/x.jpg  pixhost  send      -  12 s   0 s"), "{text}");
}
