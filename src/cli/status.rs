//! `pixchute status`: how the running agent is.

use std::fmt::Write as _;
use std::time::Duration;

use super::out::{Align, Out, Paint, Stop, safe, table};
use super::{Exit, Threads, health, wait, watch};
use crate::clock::WallTime;
use crate::control::client::Client;
use crate::control::human;
use crate::control::model::{AttemptStatus, FolderStatus, HostStatus, Status};

/// Settling files named per folder; the rest is counted.
const SETTLING_SHOWN: usize = 3;

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
pub(super) struct StatusArgs {
    /// The whole state as JSON, as `GET /v1/status` gives it
    #[arg(long)]
    json: bool,
    /// Over the whole screen and again and again, with the progress of each file; q quits
    #[arg(long, conflicts_with_all = ["json", "check"])]
    watch: bool,
    /// For scripts: exit code 1 and the reasons if something is wrong
    #[arg(long, conflicts_with = "json")]
    check: bool,
    /// With --check: how long a file may wait, rest or settle
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "1h", requires = "check")]
    max_age: Duration,
}

/// The status, and the page to steer from.
#[derive(serde::Deserialize)]
struct Shown {
    #[serde(flatten)]
    status: Status,
    #[serde(default)]
    page: Option<String>,
}

fn duration(text: &str) -> Result<Duration, String> {
    let expected = "expected a time such as 90s, 30m, 1h30m or 2d";
    let signed: jiff::SignedDuration = match text.strip_suffix('d').and_then(|days| days.parse::<i64>().ok()) {
        Some(days) => jiff::SignedDuration::from_hours(days.saturating_mul(24)),
        None => text.parse().map_err(|_| expected.to_owned())?,
    };
    Duration::try_from(signed).map_err(|_| expected.to_owned())
}

pub(super) fn run(args: &StatusArgs, client: &Client, out: &mut Out) -> Result<Exit, Stop> {
    if args.watch {
        let paint = out.paint;
        return wait(Threads::One, watch::run(client, out, |status| render(status, paint)));
    }
    if args.check {
        let status: Status = wait(Threads::One, async { Ok(client.get("/v1/status").await?) })?;
        let problems = health::problems(&status, args.max_age);
        if problems.is_empty() {
            out.print("ok\n")?;
            return Ok(Exit::Done);
        }
        out.print(&(problems.join("\n") + "\n"))?;
        return Ok(Exit::Failed);
    }
    if args.json {
        // Passed on as it is, so that a newer agent's fields are not lost.
        let status: serde_json::Value = wait(Threads::One, async { Ok(client.get("/v1/status").await?) })?;
        out.print(&format!("{status:#}\n"))?;
    } else {
        let shown: Shown = wait(Threads::One, async { Ok(client.get("/v1/status").await?) })?;
        out.print(&render(&shown.status, out.paint))?;
        if let Some(page) = &shown.page {
            out.print(&format!("\n{}  {}\n", out.paint.dim("live and to steer"), safe(page)))?;
        }
    }
    Ok(Exit::Done)
}

fn render(status: &Status, paint: Paint) -> String {
    let mut text = head(status, paint);
    if !status.folders.is_empty() {
        text.push('\n');
        text.push_str(&folders(status, paint));
    }
    if !status.hosts.is_empty() {
        text.push('\n');
        text.push_str(&hosts(status, paint));
    }
    if !status.attempts.is_empty() {
        text.push('\n');
        text.push_str(&attempts(&status.attempts, paint));
    }
    text
}

fn head(status: &Status, paint: Paint) -> String {
    let state = if status.state == "ready" { paint.good("ready") } else { paint.warn(&safe(&status.state)) };
    let up = human::age(status.now.since(status.started_at));
    let title = paint.bold(&format!("pixchute {}", safe(&status.version)));
    let mut text = format!("{title} · {state} for {up} · process {}\n", status.pid);
    if let Some(reason) = &status.blocked {
        let _ = writeln!(text, "{}", paint.bad(&format!("blocked  {}", safe(reason))));
    }
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{}  {}", paint.dim(&format!("{name:<7}")), safe(value));
    };
    if let Some(config) = &status.config {
        line("config", &config.to_string_lossy());
    }
    if let Some(gallery) = &status.gallery {
        line("gallery", gallery);
    }
    let pool = &status.pool;
    let mut said = format!("{} of {} workers busy", pool.busy, pool.workers);
    if pool.parked > 0 {
        let _ = write!(said, ", {} attempts parked", pool.parked);
    }
    let _ = write!(said, ", {} of {} queued", pool.queue_depth, pool.queue);
    if let Some(oldest) = pool.oldest_queued_at {
        let _ = write!(said, ", the oldest for {}", human::age(status.now.since(oldest)));
    }
    line("pool", &said);
    text
}

fn folders(status: &Status, paint: Paint) -> String {
    use Align::{Left, Right};
    const ALIGNS: [Align; 9] = [Left, Left, Left, Right, Right, Right, Right, Right, Left];
    let head = ["FOLDER", "HOST", "WATCH", "SETTLING", "OPEN", "COOLING", "FAILED", "DONE", "OLDEST"];
    let mut rows = vec![head.map(ToOwned::to_owned).to_vec()];
    rows.extend(status.folders.iter().map(|folder| folder_row(folder, status.now)));
    let mut text = table(&ALIGNS, &rows, paint);
    for folder in &status.folders {
        for note in folder_notes(folder, status.now) {
            let _ = writeln!(text, "  {}", paint.warn(&note));
        }
    }
    text
}

fn folder_row(folder: &FolderStatus, now: WallTime) -> Vec<String> {
    let counts = &folder.counts;
    vec![
        safe(&folder.path.to_string_lossy()),
        safe(&folder.host),
        safe(&folder.watch),
        folder.settling_total.to_string(),
        (counts.waiting + counts.started + counts.uploaded).to_string(),
        counts.cooling.to_string(),
        counts.failed.to_string(),
        counts.done.to_string(),
        folder.oldest_open_at.map_or("-".to_owned(), |oldest| human::age(now.since(oldest))),
    ]
}

fn folder_notes(folder: &FolderStatus, now: WallTime) -> Vec<String> {
    let path = safe(&folder.path.to_string_lossy());
    let mut notes = Vec::new();
    if let Some(since) = folder.held_since {
        notes.push(format!("{path}: paused by you {} ago; `pixchute resume` goes on", human::age(now.since(since))));
    }
    if let Some(reason) = &folder.watch_reason {
        notes.push(format!("{path}: {} because {}", safe(&folder.watch), safe(reason)));
    }
    let times = &folder.oldest_at;
    let oldest = [
        ("waiting", times.waiting),
        ("started", times.started),
        ("uploaded", times.uploaded),
        ("cooling", times.cooling),
        ("failed", times.failed),
    ];
    let ages: Vec<String> = oldest
        .into_iter()
        .filter_map(|(state, at)| at.map(|at| format!("{state} {}", human::age(now.since(at)))))
        .collect();
    if !ages.is_empty() {
        let next = folder.next_due_at.map(|due| format!("; next try in {}", human::age(due.since(now))));
        notes.push(format!("{path}: the oldest {}{}", ages.join(", "), next.unwrap_or_default()));
    }
    if let Some(error) = &folder.last_error {
        notes.push(format!("{path}: last error {} ago: {}", human::age(now.since(error.at)), safe(&error.message)));
    }
    if !folder.unreadable.is_empty() {
        let names: Vec<String> = folder.unreadable.iter().map(|name| safe(name)).collect();
        notes.push(format!("{path}: cannot be read, check the permissions: {}", names.join(", ")));
    }
    for file in folder.settling.iter().take(SETTLING_SHOWN) {
        let (since, change) = (human::age(now.since(file.since)), human::age(now.since(file.last_change)));
        notes.push(format!("{path}: {} is settling for {since}, last change {change} ago", safe(&file.file)));
    }
    notes
}

fn hosts(status: &Status, paint: Paint) -> String {
    use Align::{Left, Right};
    const ALIGNS: [Align; 7] = [Left, Right, Right, Right, Right, Left, Left];
    let head = ["HOST", "RUNNING", "PARKED", "WINDOW", "QUEUED", "LAST SUCCESS", "STATE"];
    let mut rows = vec![head.map(ToOwned::to_owned).to_vec()];
    rows.extend(status.hosts.iter().map(|host| host_row(host, status.now)));
    let mut text = table(&ALIGNS, &rows, paint);
    for host in &status.hosts {
        if let Some(error) = &host.last_error {
            let _ = writeln!(text, "  {}", paint.warn(&format!("{}: {}", safe(&host.name), safe(error))));
        }
        if host.unknown_outcomes > 0 {
            let note = format!(
                "{}: {} uploads broke off after the last byte and may exist twice there",
                safe(&host.name),
                host.unknown_outcomes
            );
            let _ = writeln!(text, "  {}", paint.warn(&note));
        }
    }
    text
}

fn host_row(host: &HostStatus, now: WallTime) -> Vec<String> {
    let state = match (host.held_since, host.paused_until, &host.pause_reason) {
        (Some(since), ..) => format!("paused by you {} ago", human::age(now.since(since))),
        (None, Some(until), reason) => {
            let reason = reason.as_deref().map(|reason| format!(": {}", safe(reason))).unwrap_or_default();
            format!("paused for {}{reason}", human::age(until.since(now)))
        }
        (None, None, _) => human::condition(host, now).1,
    };
    let state = state + &human::quota_left(host.quota);
    vec![
        safe(&host.name),
        host.running.to_string(),
        host.parked.to_string(),
        format!("{}/{}", host.window, host.max_parallel),
        host.queued.to_string(),
        host.last_success_at.map_or("-".to_owned(), |at| format!("{} ago", human::age(now.since(at)))),
        state,
    ]
}

fn attempts(attempts: &[AttemptStatus], paint: Paint) -> String {
    use Align::{Left, Right};
    const ALIGNS: [Align; 7] = [Right, Left, Left, Left, Right, Right, Right];
    let head = ["WORKER", "FILE", "HOST", "PHASE", "SENT", "FOR", "IDLE"];
    let mut rows = vec![head.map(ToOwned::to_owned).to_vec()];
    let millis = std::time::Duration::from_millis;
    rows.extend(attempts.iter().map(|attempt| {
        vec![
            attempt.worker.map_or("parked".to_owned(), |worker| worker.to_string()),
            safe(&attempt.file),
            safe(&attempt.host),
            attempt.phase.name().to_owned(),
            attempt
                .sent
                .saturating_mul(100)
                .checked_div(attempt.total)
                .map_or("-".to_owned(), |part| format!("{part} %")),
            human::age(millis(attempt.age_ms)),
            human::age(millis(attempt.idle_ms)),
        ]
    }));
    table(&ALIGNS, &rows, paint)
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
