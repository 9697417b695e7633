//! What stands on the screen of `status --watch`. Pure: a status and a size in, lines out.

use std::time::Duration;

use super::line::{Line, Style, bar, fit, fit_end, right};
use crate::clock::WallTime;
use crate::control::human;
use crate::control::model::{AttemptStatus, FolderStatus, HostStatus, OutcomeStatus, Status};
use crate::job::Phase;

use crate::cli::out::safe;

/// An attempt that stands still for so long is said to be idle.
const IDLE: u64 = 2_000;

/// Columns of the bar at the usual width of 80; a wider screen gives it a third of what it has more.
const BAR: usize = 14;

/// What is known.
#[derive(Debug)]
pub(super) enum Known {
    /// How the agent is.
    Status(Box<Status>),
    /// There is none, for so long and for this reason.
    Nothing { since: Duration, reason: String },
}

/// At most `height` lines of at most `width` columns.
pub(super) fn view(known: &Known, width: usize, height: usize) -> Vec<Line> {
    let mut lines = match known {
        Known::Nothing { since, reason } => nothing(*since, reason),
        Known::Status(status) => screen(status, width, height),
    };
    lines.truncate(height);
    lines.into_iter().map(|line| line.cut(width)).collect()
}

fn nothing(since: Duration, reason: &str) -> Vec<Line> {
    vec![
        Line::of(Style::Bold, "pixchute").and(Style::Plain, " · ").and(Style::Warn, "no agent, waiting"),
        Line::default(),
        Line::of(Style::Dim, safe(reason)),
        Line::of(Style::Dim, format!("waiting for {}; q quits", human::age(since))),
    ]
}

/// A part of the screen below the head.
struct Section {
    head: Line,
    rows: Vec<Line>,
}

fn screen(status: &Status, width: usize, height: usize) -> Vec<Line> {
    let mut lines = head(status, width);
    let sections = [attempts(status, width), outcomes(status), hosts(status, width), folders(status, width)];
    let sections: Vec<Section> = sections.into_iter().filter(|section| !section.rows.is_empty()).collect();
    // Each section takes a blank line and its head.
    let room = height.saturating_sub(lines.len() + 2 * sections.len());
    let rows = shares(&sections.iter().map(|section| section.rows.len()).collect::<Vec<_>>(), room);
    // The outcomes stand last, because they move most.
    let mut parts: Vec<(Section, usize)> = sections.into_iter().zip(rows).collect();
    if let Some(at) = parts.iter().position(|(section, _)| section.head.0.iter().any(|(_, text)| text == "LAST")) {
        let last = parts.remove(at);
        parts.push(last);
    }
    for (section, rows) in parts.into_iter().filter(|(_, rows)| *rows > 0) {
        lines.push(Line::default());
        lines.push(section.head);
        lines.extend(some(section.rows, rows));
    }
    lines
}

/// So many rows; the last one says how many are missing.
fn some(mut rows: Vec<Line>, count: usize) -> Vec<Line> {
    if rows.len() > count {
        let missing = rows.len() - count + 1;
        rows.truncate(count.saturating_sub(1));
        rows.push(Line::of(Style::Dim, format!("   … and {missing} more")));
    }
    rows
}

/// Deals `room` rows out in turn, to each no more than it wants.
fn shares(wanted: &[usize], mut room: usize) -> Vec<usize> {
    let mut given = vec![0; wanted.len()];
    while room > 0 && given.iter().zip(wanted).any(|(given, wanted)| given < wanted) {
        for (given, wanted) in given.iter_mut().zip(wanted) {
            if *given < *wanted && room > 0 {
                *given += 1;
                room -= 1;
            }
        }
    }
    given
}

fn head(status: &Status, width: usize) -> Vec<Line> {
    let ready = status.state == "ready";
    let up = human::age(status.now.since(status.started_at));
    let title = Line::of(Style::Bold, format!("pixchute {}", safe(&status.version)))
        .and(Style::Plain, " · ")
        .and(if ready { Style::Good } else { Style::Warn }, safe(&status.state))
        .and(Style::Dim, format!(" for {up} · process {} · q quits", status.pid));
    let pool = &status.pool;
    let speed: u64 = status.attempts.iter().map(|attempt| attempt.bytes_per_second).sum();
    let share = |part: usize| u64::try_from(part).unwrap_or(0);
    let mut line = Line::of(Style::Plain, format!("workers {}/{} ", pool.busy, pool.workers))
        .and(Style::Good, bar(share(pool.busy), share(pool.workers), 8))
        .and(Style::Plain, format!("  queue {}/{}", pool.queue_depth, pool.queue));
    if let Some(oldest) = pool.oldest_queued_at {
        line = line.and(Style::Plain, format!(", oldest {}", human::age(status.now.since(oldest))));
    }
    if pool.parked > 0 {
        line = line.and(Style::Warn, format!("  {} stand still", pool.parked));
    }
    line = line.and(Style::Plain, format!("  {}/s", human::size(speed)));
    let mut lines = vec![title, line];
    if let Some(reason) = &status.blocked {
        lines.push(Line::of(Style::Bad, format!("nothing is sent: {}", safe(reason))));
    }
    if let Some(gallery) = status.gallery.as_ref().filter(|_| width >= 60) {
        lines.push(Line::of(Style::Dim, format!("gallery {}", safe(gallery))));
    }
    lines
}

fn attempts(status: &Status, width: usize) -> Section {
    let wide = width.saturating_sub(80);
    let (bar_width, host_width) = (BAR + wide / 3, 10);
    let name_width = width.saturating_sub(bar_width + host_width + 4 + 3 + 7 + 10 + 10);
    let columns = Columns { name: name_width.max(8), host: host_width, bar: bar_width };
    let head = format!(
        "{:>3} {} {} {} {}{}",
        "#",
        fit("FILE", columns.name),
        fit("HOST", columns.host),
        fit("PROGRESS", columns.bar + 7),
        right("SPEED", 9),
        right("LEFT", 10)
    );
    let mut rows: Vec<Line> = status.attempts.iter().map(|attempt| attempt_row(attempt, &columns)).collect();
    if rows.is_empty() {
        rows.push(Line::of(Style::Dim, "    nothing is being sent"));
    }
    Section { head: Line::of(Style::Dim, head), rows }
}

struct Columns {
    name: usize,
    host: usize,
    bar: usize,
}

fn attempt_row(attempt: &AttemptStatus, columns: &Columns) -> Line {
    let worker = attempt.worker.map_or("-".to_owned(), |worker| worker.to_string());
    let line = Line::of(Style::Dim, format!("{worker:>3} "))
        .and(Style::Plain, format!("{} ", fit_end(&safe(&attempt.file), columns.name)))
        .and(Style::Plain, format!("{} ", fit(&safe(&attempt.host), columns.host)));
    let idle = attempt.idle_ms >= IDLE;
    let last = if idle {
        format!("idle {}", human::age(Duration::from_millis(attempt.idle_ms)))
    } else {
        attempt.left_ms.map_or(String::new(), |left| human::age(Duration::from_millis(left)))
    };
    let (style, progress) = match attempt.phase {
        Phase::Send if attempt.total > 0 => {
            let percent = attempt.sent.saturating_mul(100) / attempt.total;
            let full = bar(attempt.sent, attempt.total, columns.bar);
            (Style::Good, format!("{full} {percent:>4} %"))
        }
        phase => (Style::Dim, fit(doing(phase), columns.bar + 7)),
    };
    let speed = match attempt.bytes_per_second {
        0 => String::new(),
        _ if idle => String::new(),
        speed => format!("{}/s", human::size(speed)),
    };
    line.and(style, fit(&progress, columns.bar + 7))
        .and(Style::Plain, format!(" {}", right(&speed, 9)))
        .and(if idle { Style::Warn } else { Style::Plain }, right(&last, 10))
}

fn doing(phase: Phase) -> &'static str {
    match phase {
        Phase::Inspect => "reads the file",
        Phase::Wait => "waits its turn",
        Phase::Connect => "connects",
        Phase::Tls => "encrypting",
        Phase::Send => "sends",
        Phase::Response => "awaits the answer",
        Phase::Parse => "reads the answer",
        Phase::Record => "is recorded",
    }
}

fn hosts(status: &Status, width: usize) -> Section {
    let head = format!("{} {:>9} {:>7} {:>9}  STATE", fit("HOST", 14), "WINDOW", "QUEUED", "LAST OK");
    let rows = status.hosts.iter().map(|host| host_row(host, status.now, width)).collect();
    Section { head: Line::of(Style::Dim, head), rows }
}

fn host_row(host: &HostStatus, now: WallTime, width: usize) -> Line {
    let window = format!("{}/{} of {}", host.running, host.window, host.max_parallel);
    let last = host.last_success_at.map_or("-".to_owned(), |at| human::age(now.since(at)));
    let (style, state) = host_state(host, now);
    let state = state + &human::quota_left(host.quota);
    Line::of(
        Style::Plain,
        format!("{} {} {:>7} {:>9}  ", fit(&safe(&host.name), 14), right(&window, 9), host.queued, last),
    )
    .and(style, fit(&state, width.saturating_sub(44)).trim_end().to_owned())
}

fn host_state(host: &HostStatus, now: WallTime) -> (Style, String) {
    let reason = host.pause_reason.as_deref().map(|reason| format!(": {}", safe(reason))).unwrap_or_default();
    match (host.held_since, host.paused_until) {
        (Some(since), _) => (Style::Warn, format!("paused by you {} ago", human::age(now.since(since)))),
        (None, Some(until)) => (Style::Warn, format!("rests for {}{reason}", human::age(until.since(now)))),
        (None, None) => match human::condition(host, now) {
            (true, said) => (Style::Warn, said),
            (false, said) if said == "ok" => (Style::Good, said),
            (false, said) => (Style::Plain, said),
        },
    }
}

fn folders(status: &Status, width: usize) -> Section {
    let name = width.saturating_sub(54).max(12);
    let head = format!(
        "{} {:>8} {:>5} {:>7} {:>6} {:>7} {:>7} {:>6}",
        fit("FOLDER", name),
        "SETTLING",
        "OPEN",
        "RESTING",
        "FAILED",
        "DONE",
        "OLDEST",
        "NEXT"
    );
    let rows = status.folders.iter().map(|folder| folder_row(folder, status.now, name)).collect();
    Section { head: Line::of(Style::Dim, head), rows }
}

fn folder_row(folder: &FolderStatus, now: WallTime, name: usize) -> Line {
    let counts = &folder.counts;
    let path = safe(&folder.path.to_string_lossy());
    let style = match (folder.held_since, folder.watch.as_str()) {
        (Some(_), _) | (_, "absent") => Style::Warn,
        _ => Style::Plain,
    };
    let oldest = folder.oldest_open_at.map_or("-".to_owned(), |oldest| human::age(now.since(oldest)));
    let next = folder.next_due_at.map_or("-".to_owned(), |due| human::age(due.since(now)));
    let open = counts.waiting + counts.started + counts.uploaded;
    Line::of(style, format!("{} {:>8} {open:>5} {:>7} ", fit_end(&path, name), folder.settling_total, counts.cooling))
        .and(if counts.failed > 0 { Style::Bad } else { Style::Plain }, format!("{:>6}", counts.failed))
        .and(Style::Plain, format!(" {:>7} {} {}", counts.done, right(&oldest, 7), right(&next, 6)))
}

fn outcomes(status: &Status) -> Section {
    let rows = status.recent.iter().map(|outcome| outcome_row(outcome, status.now)).collect();
    Section { head: Line::of(Style::Dim, "LAST"), rows }
}

fn outcome_row(outcome: &OutcomeStatus, now: WallTime) -> Line {
    let style = match outcome.status.as_str() {
        "uploaded" | "linked" => Style::Good,
        "failed" => Style::Bad,
        _ => Style::Warn,
    };
    let ago = format!("{} ago", human::age(now.since(outcome.at)));
    let said = match (&outcome.url, &outcome.error) {
        (Some(url), _) => format!("{} → {}", safe(&outcome.file), safe(url)),
        (None, Some(error)) => format!("{}: {}", safe(&outcome.file), safe(error)),
        (None, None) => safe(&outcome.file),
    };
    Line::of(Style::Dim, right(&ago, 10)).and(style, format!(" {:<8} ", outcome.status)).and(Style::Plain, said)
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
