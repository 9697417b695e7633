//! `GET /v1/events`: what happens in the agent, as server-sent events (WHATWG HTML §9.2).
//!
//! | event | data |
//! |---|---|
//! | a name of the log, `job-uploaded` | the fields of the log in lower case, and `event`, `at`, `level`, `message` |
//! | `progress` | an attempt as in `GET /v1/status`, at most four times a second for each, only if it has moved |
//! | `lagged` | `{"event":"lagged","events":n,"progress":n}`: so many were lost because the reader was too slow |
//!
//! A line `: still here` comes every [`HEARTBEAT`]. The agent waits for no reader: events and progress wait in bounded
//! stores, apart from each other, so that progress is what a slow reader loses first. Nobody is asked for progress while
//! nobody reads.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::http::header::{self, HeaderValue};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Serialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, broadcast, oneshot};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::api::{ANSWER_DEADLINE, ApiError};
use super::model::AttemptStatus;
use super::{Handle, Request};
use crate::job::{JobId, Phase};
use crate::telemetry::live::{self, Listener, Told};

/// How often progress is looked at: as often as a bar needs to look smooth.
pub const TICK: Duration = Duration::from_millis(250);

/// How often a silent stream says that it is alive: proxies and clients give up after half a minute or more.
pub const HEARTBEAT: Duration = Duration::from_secs(15);

/// Readers at the same time: every reader is told everything, and the other connections are for questions.
pub const MAX_READERS: usize = 16;

/// Progress that may wait for a reader: two seconds of a pool of the usual size. What is older than that is of no use.
const PROGRESS_KEPT: usize = 64;

/// How many ended jobs a reader's stream remembers, so that no progress is told after the end.
const ENDED_KEPT: usize = 256;

/// The events after which an attempt is over.
const ENDS: [&str; 5] = ["job-uploaded", "job-timeout", "job-deferred", "job-failed", "job-cancelled"];

/// What the streams share.
#[derive(Debug)]
pub(super) struct Live {
    progress: broadcast::Sender<Arc<Told>>,
    reader_came: Notify,
    end: CancellationToken,
}

impl Live {
    /// Streams end with `end`.
    pub(super) fn new(end: CancellationToken) -> Arc<Self> {
        Arc::new(Self { progress: broadcast::Sender::new(PROGRESS_KEPT), reader_came: Notify::new(), end })
    }

    /// How many streams are open.
    pub(super) fn readers(&self) -> usize {
        self.progress.receiver_count()
    }

    fn is_read(&self) -> bool {
        self.readers() > 0
    }

    async fn until_read(&self) {
        while !self.is_read() {
            self.reader_came.notified().await;
        }
    }
}

/// Answers with the stream.
pub(super) async fn events(Extension(live): Extension<Arc<Live>>) -> Result<Response, ApiError> {
    if live.readers() >= MAX_READERS {
        return Err(ApiError::busy(format!("{MAX_READERS} readers follow the events already; end one of them")));
    }
    let reader = Reader {
        log: live::listen(),
        progress: live.progress.subscribe(),
        ended: VecDeque::new(),
        end: live.end.clone(),
        greeted: false,
    };
    live.reader_came.notify_one();
    let body = stream::unfold(reader, async |mut reader| {
        let text = reader.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(text)), reader))
    });
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((headers, Body::from_stream(body)).into_response())
}

/// One reader's stream.
struct Reader {
    log: Listener,
    progress: broadcast::Receiver<Arc<Told>>,
    ended: VecDeque<JobId>,
    end: CancellationToken,
    greeted: bool,
}

impl Reader {
    /// The next piece of the stream; `None` at its end. What has happened is told before the end.
    async fn next(&mut self) -> Option<String> {
        if !std::mem::replace(&mut self.greeted, true) {
            // Sent at once, so that the reader knows that it is connected. `retry`: how soon a browser comes back.
            return Some("retry: 2000\n: connected\n\n".to_owned());
        }
        loop {
            tokio::select! {
                biased;
                told = self.log.recv() => match told {
                    Ok(told) => {
                        self.remember(&told);
                        return Some(framed(&told));
                    }
                    Err(RecvError::Lagged(lost)) => return Some(lagged(lost, 0)),
                    Err(RecvError::Closed) => return None,
                },
                told = self.progress.recv() => match told {
                    Ok(told) if told.job.is_some_and(|job| self.ended.contains(&job)) => {}
                    Ok(told) => return Some(framed(&told)),
                    Err(RecvError::Lagged(lost)) => return Some(lagged(0, lost)),
                    Err(RecvError::Closed) => return None,
                },
                () = self.end.cancelled() => return None,
                () = sleep(HEARTBEAT) => return Some(": still here\n\n".to_owned()),
            }
        }
    }

    /// Progress may be told a moment after the end of its attempt: it is left out.
    fn remember(&mut self, told: &Told) {
        let Some(job) = told.job else { return };
        if told.name == "job-started" {
            self.ended.retain(|ended| *ended != job);
        } else if ENDS.contains(&told.name) {
            if self.ended.len() >= ENDED_KEPT {
                self.ended.pop_front();
            }
            self.ended.push_back(job);
        }
    }
}

/// JSON has no line feeds, so one line of data is enough.
fn framed(told: &Told) -> String {
    format!("event: {}\ndata: {}\n\n", told.name, told.json)
}

fn lagged(events: u64, progress: u64) -> String {
    format!("event: lagged\ndata: {{\"event\":\"lagged\",\"events\":{events},\"progress\":{progress}}}\n\n")
}

/// Asks the agent for progress while somebody reads, and tells it. Never ends.
pub(super) async fn watch_progress(live: &Live, handle: &Handle) {
    loop {
        live.until_read().await;
        let mut log = live::listen();
        let mut before = HashMap::new();
        while live.is_read() {
            let tick = Instant::now() + TICK;
            let attempts = ask(handle).await;
            let idle = attempts.is_empty();
            for told in moved(&mut before, attempts) {
                // The last reader may have left.
                let _ = live.progress.send(Arc::new(told));
            }
            if idle {
                // Until an attempt begins, or now and then to see whether anybody still reads.
                let _ = timeout(HEARTBEAT, until_started(&mut log)).await;
            } else {
                tokio::time::sleep_until(tick).await;
                log = log.resubscribe();
            }
        }
    }
}

async fn until_started(log: &mut Listener) {
    while let Ok(told) = log.recv().await {
        if told.name == "job-started" {
            return;
        }
    }
}

async fn ask(handle: &Handle) -> Vec<AttemptStatus> {
    let (reply, answer) = oneshot::channel();
    let exchange = async {
        handle.send(Request::Attempts(reply)).await.ok()?;
        answer.await.ok()
    };
    timeout(ANSWER_DEADLINE, exchange).await.ok().flatten().unwrap_or_default()
}

/// A line of progress.
#[derive(Serialize)]
struct Line<'a> {
    event: &'a str,
    #[serde(flatten)]
    attempt: &'a AttemptStatus,
}

/// Those that have moved since they were told last.
fn moved(before: &mut HashMap<JobId, (Phase, u64)>, attempts: Vec<AttemptStatus>) -> Vec<Told> {
    before.retain(|job, _| attempts.iter().any(|attempt| attempt.job == *job));
    let told = attempts.into_iter().filter_map(|attempt| {
        let now = (attempt.phase, attempt.sent);
        if before.insert(attempt.job, now) == Some(now) {
            return None;
        }
        let json = serde_json::to_string(&Line { event: "progress", attempt: &attempt }).ok()?;
        Some(Told { name: "progress", job: Some(attempt.job), json })
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::WallTime;

    fn attempt(job: JobId, phase: Phase, sent: u64) -> AttemptStatus {
        AttemptStatus {
            worker: Some(1),
            job,
            file: "x.jpg".into(),
            folder: "/drop".into(),
            host: "h".into(),
            phase,
            sent,
            total: 100,
            bytes_per_second: 50,
            left_ms: Some(1_000),
            since: WallTime::from_millis(0),
            age_ms: 5,
            idle_ms: 1,
        }
    }

    #[test]
    fn progress_is_told_when_something_has_moved() {
        let (one, two) = (JobId::generate(), JobId::generate());
        let mut before = HashMap::new();
        let mut jobs = |attempts| moved(&mut before, attempts).into_iter().map(|told| told.job).collect::<Vec<_>>();
        let first = attempt(one, Phase::Send, 10);
        assert_eq!(jobs(vec![first.clone(), attempt(two, Phase::Wait, 0)]), [Some(one), Some(two)]);
        assert_eq!(jobs(vec![first.clone(), attempt(two, Phase::Send, 0)]), [Some(two)], "a new phase is movement");
        assert_eq!(jobs(vec![first.clone()]), [], "the same again");
        assert_eq!(jobs(vec![attempt(two, Phase::Send, 0), first]), [Some(two)], "one that came back is told anew");
    }

    #[test]
    fn a_line_of_progress_is_an_attempt_of_the_status() {
        let job = JobId::generate();
        let told = moved(&mut HashMap::new(), vec![attempt(job, Phase::Send, 10)]).remove(0);
        assert_eq!(
            told.json,
            format!(
                "{{\"event\":\"progress\",\"worker\":1,\"job\":\"{job}\",\"file\":\"x.jpg\",\"folder\":\"/drop\",\
                 \"host\":\"h\",\"phase\":\"send\",\"sent\":10,\"total\":100,\"bytes_per_second\":50,\
                 \"left_ms\":1000,\"since\":\"1970-01-01T00:00:00.000Z\",\"age_ms\":5,\"idle_ms\":1}}"
            )
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_loses_progress_and_is_told() {
        let live = Live::new(CancellationToken::new());
        let mut reader = Reader {
            log: live::listen(),
            progress: live.progress.subscribe(),
            ended: VecDeque::new(),
            end: live.end.clone(),
            greeted: true,
        };
        let job = JobId::generate();
        let told = |n| Told { name: "progress", job: Some(job), json: format!("{{\"n\":{n}}}") };
        for n in 0..PROGRESS_KEPT + 10 {
            live.progress.send(Arc::new(told(n))).expect("a reader");
        }
        // Other tests of this process may have told something by way of the log.
        let mut next = async || loop {
            let text = reader.next().await.expect("goes on");
            if text.contains("lagged") || text.contains("progress") {
                return text;
            }
        };
        assert_eq!(next().await, "event: lagged\ndata: {\"event\":\"lagged\",\"events\":0,\"progress\":10}\n\n");
        assert_eq!(next().await, "event: progress\ndata: {\"n\":10}\n\n");
        let ended = Told { name: "job-uploaded", job: Some(job), json: String::new() };
        reader.remember(&ended);
        live.end.cancel();
        while let Some(text) = reader.next().await {
            assert!(!text.contains("progress"), "told after the end: {text}");
        }
    }
}
