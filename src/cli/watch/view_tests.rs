use std::path::PathBuf;

use super::*;
use crate::control::model::{PoolStatus, QuotaStatus, StageCounts, StageTimes};
use crate::job::JobId;

fn at(seconds: i64) -> WallTime {
    WallTime::from_millis(1_795_435_200_000 + seconds * 1000)
}

fn attempt(worker: Option<usize>, file: &str, phase: Phase, sent: u64, idle_ms: u64) -> AttemptStatus {
    AttemptStatus {
        worker,
        job: JobId::generate(),
        file: file.into(),
        folder: "/home/ada/Pictures/Drop".into(),
        host: "pixhost".into(),
        phase,
        sent,
        total: 9_000_000,
        bytes_per_second: if phase == Phase::Send { 1_250_000 } else { 0 },
        left_ms: (phase == Phase::Send).then_some(4_000),
        since: at(-3),
        age_ms: 3_000,
        idle_ms,
    }
}

fn outcome(status: &str, url: Option<&str>, error: Option<&str>, ago: i64) -> OutcomeStatus {
    OutcomeStatus {
        at: at(-ago),
        status: status.into(),
        job: JobId::generate(),
        file: "trip/IMG_1.jpg".into(),
        folder: "/home/ada/Pictures/Drop".into(),
        host: "pixhost".into(),
        url: url.map(Into::into),
        error: error.map(Into::into),
        bytes: 183_422,
        duration_ms: 812,
    }
}

fn status() -> Status {
    let folder = FolderStatus {
        path: PathBuf::from("/home/ada/Pictures/A folder with a long name/Drop"),
        host: "pixhost".into(),
        watch: "native".into(),
        watch_reason: None,
        settling: Vec::new(),
        settling_total: 1,
        unreadable: Vec::new(),
        counts: StageCounts { waiting: 2, started: 3, cooling: 4, done: 12_000, failed: 1, ..StageCounts::default() },
        oldest_open_at: Some(at(-300)),
        oldest_at: StageTimes::default(),
        last_success_at: None,
        last_error: None,
        next_due_at: Some(at(125)),
        overflows: 0,
        held_since: None,
        manifest: PathBuf::from("/x"),
    };
    let host = HostStatus {
        state: "ready".to_owned(),
        name: "pixhost".into(),
        running: 2,
        parked: 1,
        window: 4,
        max_parallel: 8,
        queued: 2,
        quota: Some(QuotaStatus { count: 1_000, period_seconds: 3_600, left: 12 }),
        paused_until: None,
        pause_reason: None,
        held_since: None,
        last_success_at: Some(at(-5)),
        last_error: None,
        next_due_at: None,
        unknown_outcomes: 0,
    };
    let resting = HostStatus {
        name: "imgbb".into(),
        paused_until: Some(at(90)),
        pause_reason: Some("429 Too Many Requests: come back later, please".into()),
        ..host.clone()
    };
    Status {
        version: "0.1.0".into(),
        pid: 123,
        state: "ready".into(),
        started_at: at(-7_200),
        now: at(0),
        config: None,
        gallery: Some("http://127.0.0.1:8421".into()),
        blocked: None,
        pool: PoolStatus { workers: 8, busy: 3, parked: 1, queue: 100, queue_depth: 2, oldest_queued_at: Some(at(-9)) },
        folders: vec![folder],
        hosts: vec![host, resting],
        attempts: vec![
            attempt(Some(1), "trip/IMG_0001.jpg", Phase::Send, 4_500_000, 5),
            attempt(Some(2), "a very long name of a picture \u{1b}[2J.jpg", Phase::Response, 9_000_000, 100),
            attempt(None, "写真.jpg", Phase::Response, 9_000_000, 12_000),
        ],
        recent: vec![
            outcome("uploaded", Some("https://pixhost.to/show/1/2.jpg"), None, 1),
            outcome("timeout", None, Some("timeout: no answer within 3m"), 70),
        ],
    }
}

fn shown(status: Status, width: usize, height: usize) -> String {
    let lines = view(&Known::Status(Box::new(status)), width, height);
    lines.iter().map(|line| line.text().trim_end().to_owned() + "\n").collect()
}

#[test]
fn a_terminal_of_the_usual_size_shows_all_of_it() {
    let expected = "\
pixchute 0.1.0 · ready for 2 h · process 123 · q quits
workers 3/8 ███       queue 2/100, oldest 9 s  1 stand still  1.2 MB/s
gallery http://127.0.0.1:8421

  # FILE                   HOST       PROGRESS                  SPEED      LEFT
  1 trip/IMG_0001.jpg      pixhost    ███████          50 %  1.2 MB/s       4 s
  2 …picture \\u{1b}[2J.jpg pixhost    awaits the answer
  - 写真.jpg               pixhost    awaits the answer               idle 12 s

HOST              WINDOW  QUEUED   LAST OK  STATE
pixhost         2/4 of 8       2       5 s  ok · 12 of 1000 an hour left
imgbb           2/4 of 8       2       5 s  rests for 1 min: 429 Too Many Reque…

FOLDER                     SETTLING  OPEN RESTING FAILED    DONE  OLDEST   NEXT
…der with a long name/Drop        1     5       4      1   12000   5 min  2 min

LAST
   1 s ago uploaded trip/IMG_1.jpg → https://pixhost.to/show/1/2.jpg
 1 min ago timeout  trip/IMG_1.jpg: timeout: no answer within 3m
";
    let text = shown(status(), 80, 24);
    assert_eq!(text, expected, "\n{text}");
}

#[test]
fn whatever_the_size_nothing_is_wider_or_longer() {
    use unicode_width::UnicodeWidthStr;
    let mut many = status();
    many.attempts = (0..40).map(|n| attempt(Some(n), "写真 of a trip.jpg", Phase::Send, 1, 0)).collect();
    many.recent = (0..20).map(|n| outcome("failed", None, Some("file: no picture"), n)).collect();
    for (width, height) in [(80, 24), (200, 60), (40, 10), (20, 5), (1, 1), (0, 0), (500, 200), (79, 3)] {
        let lines = view(&Known::Status(Box::new(many.clone())), width, height);
        assert!(lines.len() <= height, "{width}x{height}: {} lines", lines.len());
        assert!(lines.iter().all(|line| line.text().width() <= width), "{width}x{height}");
    }
    let text = shown(many, 80, 24);
    assert!(
        text.contains("… and ") && text.contains("LAST") && text.contains("FOLDER"),
        "each section has its part:\n{text}"
    );
}

#[test]
fn without_an_agent_it_says_so_and_waits() {
    let reason = "nobody answers on /run/x.sock".to_owned();
    let lines = view(&Known::Nothing { since: Duration::from_secs(70), reason }, 80, 24);
    let text: Vec<String> = lines.iter().map(Line::text).collect();
    assert_eq!(text[0], "pixchute · no agent, waiting");
    assert!(text[2].contains("/run/x.sock") && text[3].contains("1 min"), "{text:?}");
}

#[test]
fn rows_are_dealt_out_in_turn() {
    assert_eq!(shares(&[8, 1, 3], 100), [8, 1, 3]);
    assert_eq!(shares(&[8, 1, 3], 6), [3, 1, 2]);
    assert_eq!(shares(&[5, 5], 0), [0, 0]);
}
