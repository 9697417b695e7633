//! The events of the log for those who listen to the running agent: the same names and fields, as JSON, whatever
//! `[log] level` says; and how often each has happened.
//!
//! Like the log there is one for the process. Nobody is waited for: the last [`KEPT`] events are kept for listeners, and
//! one who is slower than that is told how many were lost. Without a listener an event costs one atomic addition.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use serde::Serialize;
use tokio::sync::broadcast;

use super::event::{Entry, Event, Fields, TABLE, shown};
use crate::clock::{Clock, WallTime};
use crate::job::JobId;

/// How many events a listener may be behind: a burst of a thousand files, half a megabyte.
pub const KEPT: usize = 1_024;

/// One event as it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Its name.
    pub name: &'static str,
    /// The job that it is about.
    pub job: Option<JobId>,
    /// All of it, one object.
    pub json: String,
}

/// The end of a listener. A lagging one gets [`broadcast::error::RecvError::Lagged`] with the number of lost events.
pub type Listener = broadcast::Receiver<Arc<Told>>;

struct Live {
    sender: broadcast::Sender<Arc<Told>>,
    counts: [AtomicU64; TABLE.len()],
}

static LIVE: LazyLock<Live> =
    LazyLock::new(|| Live { sender: broadcast::Sender::new(KEPT), counts: std::array::from_fn(|_| AtomicU64::new(0)) });

/// Listens from now on.
#[must_use]
pub fn listen() -> Listener {
    LIVE.sender.subscribe()
}

/// How often this has happened since the process started.
#[must_use]
pub fn count(event: Event) -> u64 {
    LIVE.counts[event as usize].load(Ordering::Relaxed)
}

/// Tells everybody who listens.
pub(super) fn tell(event: Event, fields: &Fields<'_>, message: fmt::Arguments<'_>) {
    LIVE.counts[event as usize].fetch_add(1, Ordering::Relaxed);
    if LIVE.sender.receiver_count() == 0 {
        return;
    }
    let entry = event.entry();
    if let Some(json) = json(entry, fields, message, Clock::System.now()) {
        // The last listener may have left in this moment.
        let _ = LIVE.sender.send(Arc::new(Told { name: entry.name, job: fields.job, json }));
    }
}

/// An event in the words of the log's JSON lines.
#[derive(Serialize)]
struct Line<'a> {
    event: &'a str,
    at: WallTime,
    level: String,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<JobId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    worker_id: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    folder: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    http_status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue_depth: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_class: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_try_at: Option<WallTime>,
}

fn json(entry: &Entry, fields: &Fields<'_>, message: fmt::Arguments<'_>, at: WallTime) -> Option<String> {
    let line = Line {
        event: entry.name,
        at,
        level: entry.level.to_string().to_lowercase(),
        message: message.to_string(),
        job: fields.job,
        worker_id: fields.worker_id,
        service: fields.service,
        file: fields.file.map(shown),
        folder: fields.folder.map(shown),
        attempt: fields.attempt,
        bytes: fields.bytes,
        duration_ms: fields.duration.map(|duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)),
        http_status: fields.http_status,
        queue_depth: fields.queue_depth,
        error_class: fields.error_class.map(crate::job::ErrorClass::name),
        url: fields.url,
        next_try_at: fields.next_try_at,
    };
    serde_json::to_string(&line).ok()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::job::ErrorClass;

    #[test]
    fn an_event_has_the_names_of_the_log_in_lower_case() {
        let fields = Fields {
            worker_id: Some(3),
            service: Some("pixhost"),
            file: Some(Path::new("a\nb.png")),
            folder: Some(Path::new("/drop")),
            attempt: Some(2),
            bytes: Some(5),
            duration: Some(Duration::from_millis(812)),
            http_status: Some(503),
            error_class: Some(ErrorClass::BadResponse),
            next_try_at: Some(WallTime::from_millis(1_795_435_200_123)),
            ..Fields::default()
        };
        let at = WallTime::from_millis(1_795_435_200_000);
        let told = json(Event::JobDeferred.entry(), &fields, format_args!("it \"failed\""), at).expect("JSON");
        assert_eq!(
            told,
            r#"{"event":"job-deferred","at":"2026-11-23T12:00:00.000Z","level":"info","message":"it \"failed\"","#
                .to_owned()
                + r#""worker_id":3,"service":"pixhost","file":"a\\nb.png","folder":"/drop","attempt":2,"bytes":5,"#
                + r#""duration_ms":812,"http_status":503,"error_class":"bad_response","#
                + r#""next_try_at":"2026-11-23T12:00:00.123Z"}"#
        );
    }

    #[tokio::test]
    async fn a_listener_who_does_not_listen_loses_events_and_nobody_waits_for_him() {
        let mut slow = listen();
        let before = count(Event::WatchLimit);
        let own = 2 * KEPT as u64;
        for _ in 0..own {
            tell(Event::WatchLimit, &Fields::default(), format_args!("again"));
        }
        assert!(count(Event::WatchLimit) >= before + own);
        let lost = slow.recv().await;
        assert!(matches!(lost, Err(broadcast::error::RecvError::Lagged(lost)) if lost >= KEPT as u64), "{lost:?}");
        assert!(slow.recv().await.is_ok(), "and then goes on");
    }
}
