//! `GET /metrics`: the state of the agent and what it has counted, for Prometheus. The names are listed in the README and
//! used by `config/alerts.yml` and `config/grafana.json`; they do not change.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State as Extract;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::api::{ApiError, ask};
use super::events::Live;
use super::exposition::{CONTENT_TYPE, Page};
use super::model::{FolderStatus, HostStatus, Status};
use super::server::State;
use super::{Request, process};
use crate::clock::WallTime;
use crate::telemetry::event::{Event, TABLE};
use crate::telemetry::live;
use crate::telemetry::tally::{self, Tally};

/// The words that an outcome can have.
const STATUSES: [&str; 5] = ["uploaded", "linked", "timeout", "deferred", "failed"];

pub(super) async fn metrics(
    Extract(state): Extract<State>,
    Extension(live): Extension<Arc<Live>>,
) -> Result<Response, ApiError> {
    let status = ask(&state, Request::Status).await?;
    let counted = Counted {
        tallies: tally::all(),
        events: TABLE.map(|entry| (entry.name, live::count(entry.event))).to_vec(),
        requeues: live::count(Event::JobRequeued),
        readers: live.readers(),
        process: process::look(),
    };
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], render(&status, &counted)).into_response())
}

/// What is not in the status.
pub(super) struct Counted {
    pub(super) tallies: BTreeMap<String, Tally>,
    pub(super) events: Vec<(&'static str, u64)>,
    pub(super) requeues: u64,
    pub(super) readers: usize,
    pub(super) process: process::Process,
}

/// The page. Pure.
pub(super) fn render(status: &Status, counted: &Counted) -> String {
    let mut page = Page::default();
    about_agent(&mut page, status, counted);
    about_pool(&mut page, status);
    about_outcomes(&mut page, status, &counted.tallies);
    about_hosts(&mut page, status);
    about_folders(&mut page, status);
    about_events(&mut page, counted);
    page.finish()
}

fn about_agent(page: &mut Page, status: &Status, counted: &Counted) {
    page.gauge("pixchute_build_info", "Always 1; the version is in the label.")
        .sample(&[("version", &status.version)], 1);
    page.gauge("pixchute_start_time_seconds", "When the agent started, in seconds since 1970.")
        .sample(&[], seconds_of(status.started_at));
    page.gauge("pixchute_ready", "1 when every folder was scanned once and the agent is not stopping.")
        .sample(&[], u8::from(status.state == "ready"));
    page.gauge("pixchute_blocked", "1 while nothing is sent because results cannot be recorded.")
        .sample(&[], u8::from(status.blocked.is_some()));
    let lost = crate::telemetry::lost_lines();
    page.counter("pixchute_log_lines_lost_total", "Lines of the log that nobody took.").sample(&[], lost);
    page.gauge("pixchute_event_readers", "Readers of GET /v1/events.").sample(&[], counted.readers);
    if let Some(bytes) = counted.process.resident_bytes {
        page.gauge("process_resident_memory_bytes", "Resident memory.").sample(&[], bytes);
    }
    if let Some(open) = counted.process.open_files {
        page.gauge("process_open_fds", "Open file descriptors.").sample(&[], open);
    }
}

fn about_pool(page: &mut Page, status: &Status) {
    let pool = &status.pool;
    page.gauge("pixchute_workers", "Workers of the pool.").sample(&[], pool.workers);
    page.gauge("pixchute_workers_busy", "Workers in use.").sample(&[], pool.busy);
    page.gauge("pixchute_workers_busy_ratio", "Workers in use, as a share of all.")
        .sample(&[], ratio(pool.busy, pool.workers));
    page.gauge("pixchute_attempts_parked", "Attempts that stand still and gave their worker to others.")
        .sample(&[], pool.parked);
    page.gauge("pixchute_queue_depth", "Files in memory that wait for a worker.").sample(&[], pool.queue_depth);
    page.gauge("pixchute_queue_capacity", "Files that may wait in memory; all others wait on disk.")
        .sample(&[], pool.queue);
    page.gauge("pixchute_queue_oldest_age_seconds", "How long the oldest file in the queue is known; 0 without one.")
        .sample(&[], age(status.now, pool.oldest_queued_at));
}

fn about_outcomes(page: &mut Page, status: &Status, tallies: &BTreeMap<String, Tally>) {
    // Hosts without an outcome yet have zeros: a counter that appears with 1 has no rate.
    let unused = Tally::default();
    let mut hosts: BTreeMap<&str, &Tally> = status.hosts.iter().map(|host| (host.name.as_str(), &unused)).collect();
    hosts.extend(tallies.iter().map(|(host, tally)| (host.as_str(), tally)));
    let mut uploads = page.counter("pixchute_uploads_total", "Outcomes of files, by host and word of the manifest.");
    for (host, tally) in &hosts {
        for word in STATUSES {
            uploads.sample(&[("host", host), ("status", word)], tally.outcomes.get(word).copied().unwrap_or(0));
        }
    }
    let mut errors = page.counter("pixchute_errors_total", "Failed attempts, by host and class of the error.");
    for (host, tally) in &hosts {
        for (class, count) in &tally.errors {
            errors.sample(&[("host", host), ("class", class)], count);
        }
    }
    let mut durations =
        page.histogram("pixchute_upload_duration_seconds", "How long attempts took, by host and outcome.");
    for (host, tally) in &hosts {
        for (word, histogram) in &tally.durations {
            durations.spread(&[("host", host), ("status", word)], histogram);
        }
    }
    let mut sizes = page.histogram("pixchute_upload_size_bytes", "How large uploaded files were.");
    hosts.iter().for_each(|(host, tally)| sizes.spread(&[("host", host)], &tally.sizes));
    let mut sent = page.counter("pixchute_sent_bytes_total", "Bytes of bodies sent, repeated ones included.");
    hosts.iter().for_each(|(host, tally)| sent.sample(&[("host", host)], tally.sent_bytes));
    let mut retries = page.counter("pixchute_request_retries_total", "Requests sent once more within an attempt.");
    hosts.iter().for_each(|(host, tally)| retries.sample(&[("host", host)], tally.retries));
    let mut timeouts = page.gauge(
        "pixchute_recent_timeout_ratio",
        "Time-outs as a share of the last 100 outcomes of a host; 0 before the first one.",
    );
    for (host, tally) in &hosts {
        timeouts.sample(&[("host", host)], tally.timeout_ratio().unwrap_or(0.0));
    }
}

fn about_hosts(page: &mut Page, status: &Status) {
    let mut gauge = |name, help: &str, value: &dyn Fn(&HostStatus) -> f64| {
        let mut family = page.gauge(name, help);
        for host in &status.hosts {
            family.sample(&[("host", &host.name)], value(host));
        }
    };
    gauge("pixchute_host_running", "Attempts that make progress.", &|host| number(host.running));
    gauge("pixchute_host_parked", "Attempts that stand still.", &|host| number(host.parked));
    gauge("pixchute_host_queued", "Files in memory that wait for this host.", &|host| number(host.queued));
    gauge("pixchute_host_window", "How many attempts may run at once now.", &|host| number(host.window));
    gauge("pixchute_host_window_max", "How far the window can open.", &|host| number(host.max_parallel));
    gauge("pixchute_host_pause_seconds", "How long the host still rests; 0 when it does not.", &|host| {
        host.paused_until.map_or(0.0, |until| until.since(status.now).as_secs_f64())
    });
    gauge("pixchute_host_held", "1 while the host is paused by hand.", &|host| number(host.held_since.iter().count()));
    gauge("pixchute_host_last_success_timestamp_seconds", "When an upload succeeded last; 0 before.", &|host| {
        host.last_success_at.map_or(0.0, seconds_of)
    });
    gauge("pixchute_host_next_retry_seconds", "When the next resting file is due; 0 without one.", &|host| {
        host.next_due_at.map_or(0.0, |due| due.since(status.now).as_secs_f64())
    });
    let mut left =
        page.gauge("pixchute_host_quota_left", "How many uploads of its quota may begin now, of hosts that have one.");
    for host in &status.hosts {
        if let Some(quota) = host.quota {
            left.sample(&[("host", &host.name)], quota.left);
        }
    }
    let mut circuits =
        page.gauge("pixchute_host_circuit_open", "1 while the host gets nothing, or one file at a time.");
    for host in &status.hosts {
        let open = matches!(host.state.as_str(), "circuit-open" | "half-open" | "suspect");
        circuits.sample(&[("host", &host.name), ("state", &host.state)], u8::from(open));
    }
    let mut unknown = page.counter(
        "pixchute_unknown_outcomes_total",
        "Attempts that broke off after the last byte: the image may be on the host twice.",
    );
    for host in &status.hosts {
        unknown.sample(&[("host", &host.name)], host.unknown_outcomes);
    }
}

fn about_folders(page: &mut Page, status: &Status) {
    let mut jobs = page.gauge("pixchute_jobs", "Files by drop folder and state.");
    for (folder, path) in paths(status) {
        let counts = &folder.counts;
        for (state, count) in [
            ("waiting", counts.waiting),
            ("started", counts.started),
            ("uploaded", counts.uploaded),
            ("cooling", counts.cooling),
            ("done", counts.done),
            ("failed", counts.failed),
        ] {
            jobs.sample(&[("folder", &path), ("state", state)], count);
        }
    }
    let mut oldest = page
        .gauge("pixchute_oldest_job_age_seconds", "How long the oldest file in this state is known; 0 without one.");
    for (folder, path) in paths(status) {
        let times = &folder.oldest_at;
        for (state, at) in [
            ("waiting", times.waiting),
            ("started", times.started),
            ("uploaded", times.uploaded),
            ("cooling", times.cooling),
            ("failed", times.failed),
        ] {
            oldest.sample(&[("folder", &path), ("state", state)], age(status.now, at));
        }
    }
    let mut settling = page.gauge("pixchute_settling_files", "Files whose end has not been seen.");
    paths(status).for_each(|(folder, path)| settling.sample(&[("folder", &path)], folder.settling_total));
    let mut absent = page.gauge("pixchute_folder_absent", "1 while the drop folder is not there.");
    paths(status).for_each(|(folder, path)| absent.sample(&[("folder", &path)], u8::from(folder.watch == "absent")));
    let mut held = page.gauge("pixchute_folder_held", "1 while the drop folder is paused by hand.");
    paths(status).for_each(|(folder, path)| {
        held.sample(&[("folder", &path)], u8::from(folder.held_since.is_some()));
    });
    let mut overflows =
        page.counter("pixchute_watch_overflows_total", "How often more happened than could be reported.");
    paths(status).for_each(|(folder, path)| overflows.sample(&[("folder", &path)], folder.overflows));
}

fn about_events(page: &mut Page, counted: &Counted) {
    page.counter("pixchute_requeues_total", "Rests that were over, so that a file was tried again.")
        .sample(&[], counted.requeues);
    let mut events = page.counter("pixchute_events_total", "Events of the log, by name.");
    for (event, count) in &counted.events {
        events.sample(&[("event", event)], count);
    }
}

fn paths(status: &Status) -> impl Iterator<Item = (&FolderStatus, String)> {
    status.folders.iter().map(|folder| (folder, folder.path.to_string_lossy().into_owned()))
}

fn age(now: WallTime, since: Option<WallTime>) -> f64 {
    since.map_or(0.0, |since| now.since(since).as_secs_f64())
}

fn seconds_of(at: WallTime) -> f64 {
    at.since(WallTime::from_millis(0)).as_secs_f64()
}

fn number(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}

fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { number(part) / number(whole) }
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
