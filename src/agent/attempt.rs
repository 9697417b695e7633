//! The task of one attempt: intent, upload, result. It holds a worker until it ends.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::recorder::Finished;
use super::shared::{FolderId, Kept, Note, Rest, Shared};
use super::verdict::{self, End};
use crate::config::Dedupe;
use crate::host::Progress;
use crate::job::{Event as JobEvent, Failure, FailureKind, Job, Links, Outcome};
use crate::ledger::{Durability, HostPause, Write};
use crate::record::{Record, Status};
use crate::schedule::HostId;
use crate::telemetry::{Event, Fields, emit, shown, trouble};
use crate::upload;

/// What an attempt needs to know.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) job: Job,
    pub(super) folder: FolderId,
    pub(super) host: HostId,
    pub(super) worker: usize,
    pub(super) progress: Arc<Progress>,
    pub(super) content: Option<Kept>,
}

/// Where an attempt belongs.
struct Place {
    folder: FolderId,
    host: HostId,
    worker: usize,
}

/// Runs the attempt and tells the recorder and the pool how it ended.
pub(super) async fn run(shared: Arc<Shared>, attempt: Attempt) {
    let Attempt { mut job, folder, host, worker, progress, content } = attempt;
    let began = Instant::now();
    let end = match job.advance(JobEvent::Start) {
        Ok(()) => {
            job.attempts += 1;
            job.not_before = None;
            upload_or_link(&shared, &mut job, &Place { folder, host, worker }, &progress, content).await
        }
        Err(error) => {
            trouble("a job is not where it should be (a bug)", &error);
            End::Interrupted { all_sent: false }
        }
    };
    let mut end = end;
    if let End::Outcome(Outcome::Failed(failure)) = &mut end
        && failure.kind == FailureKind::Limited
    {
        failure.retry_after.get_or_insert_with(|| rate_limit_pause(&shared, host));
    }
    let succeeded = matches!(end, End::Outcome(Outcome::Uploaded(_)));
    let rest = match &end {
        End::Outcome(Outcome::Failed(failure)) => rest_of(&shared, failure),
        End::Outcome(Outcome::Uploaded(_)) => progress.spent().map(|until| spent(until, &shared, host)),
        _ => None,
    };
    if let Some(rest) = &rest {
        write_rest(&shared, host, rest).await;
    }
    if let End::Outcome(Outcome::Uploaded(links)) = &end {
        keep_answer(&shared, &job, links, began.elapsed()).await;
    }
    let id = job.id;
    let finished = Finished { job, folder, end, took: began.elapsed(), worker: Some(worker) };
    // The host's rest must be known before the worker is free, or one more request would slip through; and the result
    // must be on its way before the job leaves the pool's sight, or a twin would slip through.
    if let Some(results) = shared.results() {
        let _ = results.send(finished).await;
    }
    let _ = shared.notes.send(Note::Ended { job: id, succeeded, rest }).await;
}

async fn upload_or_link(
    shared: &Shared,
    job: &mut Job,
    &Place { folder, host, worker }: &Place,
    progress: &Arc<Progress>,
    content: Option<Kept>,
) -> End {
    let config = &shared.config.folders[folder.0];
    let link = config.dedupe != Dedupe::Upload;
    match intend(shared, job, link).await {
        Intent::Begun => {}
        Intent::Known(links) => return End::Known(links),
        Intent::Stopped => return End::Interrupted { all_sent: false },
    }
    emit(
        Event::JobStarted,
        &Fields {
            job: Some(job.id),
            worker_id: Some(worker),
            service: Some(&job.host),
            file: Some(&job.name),
            folder: Some(&job.folder),
            attempt: Some(job.attempts),
            bytes: Some(job.fingerprint.len),
            ..Fields::default()
        },
        format_args!("worker {worker} sends {} to {}, attempt {}", shown(&job.name), job.host, job.attempts),
    );
    let Some(image) = job.image else { return End::Interrupted { all_sent: false } };
    let (host, limit) = (&*shared.host(host).host, shared.config.pool.file_timeout);
    let bytes = content.as_ref().map(|kept| kept.content.clone());
    tokio::select! {
        outcome = upload::attempt(host, job, image, bytes, Arc::clone(progress), limit) => End::Outcome(outcome),
        () = shared.cut.cancelled() => End::Interrupted { all_sent: progress.all_sent() },
    }
}

/// What came of writing down that an attempt begins.
enum Intent {
    Begun,
    Known(Links),
    Stopped,
}

/// Writes the intent before the first byte. While the ledger cannot be written nothing is sent.
async fn intend(shared: &Shared, job: &Job, link: bool) -> Intent {
    loop {
        match shared.ledger.start(job.clone(), link).await {
            Ok(None) => {
                shared.ledger_is_well();
                return Intent::Begun;
            }
            Ok(Some(twin)) => {
                match twin.record.as_deref().and_then(|json| Record::parse(json.as_bytes()).ok()?.links()) {
                    Some(links) => return Intent::Known(links),
                    // A record without a link is none: send the file.
                    None => return Box::pin(intend(shared, job, false)).await,
                }
            }
            Err(error) => {
                shared.ledger_is_ill(&error.to_string());
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_secs(1)) => {}
                    () = shared.stopping.cancelled() => return Intent::Stopped,
                }
            }
        }
    }
}

/// Writes down what the host answered before the worker takes its next job: a crash from here on repeats no upload. No
/// fsync is waited for, and the record gets its number and place later; a `seq` of 0 marks it as unfinished.
async fn keep_answer(shared: &Shared, job: &Job, links: &Links, took: Duration) {
    let mut answered = job.clone();
    if let Err(error) = answered.advance(JobEvent::Succeed) {
        return trouble("a job is not where it should be (a bug)", &error);
    }
    let mut record = Record::of(&answered, 0, shared.clock.now(), Status::Uploaded).with_links(links.clone());
    record.duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    answered.record = Some(record.json());
    answered.pending = true;
    shared.write(vec![Write::Put(Box::new(answered))], Durability::Process).await;
}

/// How long a host rests that asks for it and does not say how long.
fn rate_limit_pause(shared: &Shared, host: HostId) -> Duration {
    let own = shared.config.hosts.get(&shared.host(host).name).and_then(|host| host.flow.rate_limit_pause);
    own.unwrap_or(shared.config.flow.rate_limit_pause)
}

/// Whether the host must rest after this failure.
fn rest_of(shared: &Shared, failure: &Failure) -> Option<Rest> {
    let length = verdict::rest_after(failure, &shared.config.cooldown.backoff)?;
    Some(Rest { length, reason: failure.message.clone() })
}

/// The rest of a host that took this image and has said that it will not take another one.
fn spent(until: Option<Duration>, shared: &Shared, host: HostId) -> Rest {
    let length = until.unwrap_or_else(|| rate_limit_pause(shared, host)).max(verdict::SHORTEST_REST);
    Rest { length, reason: format!("{} took the last image of its limit", shared.host(host).name) }
}

/// A rest is written down before its attempt ends, so that it survives a restart.
async fn write_rest(shared: &Shared, host: HostId, rest: &Rest) {
    let since = shared.clock.now();
    let until = since.after(rest.length);
    let pause = HostPause { host: shared.host(host).name.clone(), until, since, reason: rest.reason.clone() };
    shared.write(vec![Write::Pause(pause)], Durability::Process).await;
}
