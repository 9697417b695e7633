//! The task of one attempt: intent, upload, result. It holds a worker until it ends.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::cancel;
use super::recorder::{Answered, Finished};
use super::rest;
use super::shared::{FolderId, Kept, Note, Shared};
use super::steps;
use super::verdict::End;
use crate::config::Dedupe;
use crate::host::{Allowance, Progress};
use crate::job::{Event as JobEvent, Job, Links, Outcome};
use crate::ledger::{Durability, Write};
use crate::record::{Record, Status};
use crate::schedule::{self, HostId};
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
    /// The user does not want it any more.
    pub(super) cancel: CancellationToken,
}

/// Where an attempt belongs.
struct Place {
    folder: FolderId,
    host: HostId,
    worker: usize,
}

/// Runs the attempt and tells the recorder and the pool how it ended.
pub(super) async fn run(shared: Arc<Shared>, attempt: Attempt) {
    let Attempt { mut job, folder, host, worker, progress, content, cancel } = attempt;
    let began = Instant::now();
    let mut end = match job.advance(JobEvent::Start) {
        Ok(()) => {
            job.attempts += 1;
            job.not_before = None;
            let place = Place { folder, host, worker };
            tokio::select! {
                biased;
                // Dropping the attempt closes its connections.
                () = cancel.cancelled() => None,
                end = upload_or_link(&shared, &mut job, &place, &progress, content) => Some(end),
            }
            .unwrap_or_else(|| cancelled(&mut job, &progress))
        }
        Err(error) => {
            trouble("a job is not where it should be (a bug)", &error);
            End::Interrupted { all_sent: false }
        }
    };
    steps::excused(&mut end, &progress);
    let said = match &end {
        // A connection that did not outlive the sleep of this machine says nothing about the host.
        End::Outcome(Outcome::Failed(_)) if progress.has_slept() => schedule::End::Other,
        End::Outcome(outcome) => steps::end_of(outcome),
        _ => schedule::End::Other,
    };
    let rest = rest::after(&mut end, &shared, host, &progress).await;
    let kept = match &end {
        End::Outcome(Outcome::Uploaded(links)) => keep_answer(&shared, &job, links, began.elapsed()),
        _ => None,
    };
    let id = job.id;
    let finished = Finished { job, folder, end, took: began.elapsed(), worker: Some(worker), kept };
    // The host's rest must be known before the worker is free, or one more request would slip through; and the result
    // must be on its way before the job leaves the pool's sight, or a twin would slip through.
    if let Some(results) = shared.results() {
        let _ = results.send(finished).await;
    }
    let _ = shared.notes.send(Note::Ended { job: id, end: said, rest }).await;
}

/// The end of an attempt that the user cut.
fn cancelled(job: &mut Job, progress: &Progress) -> End {
    let all_sent = progress.all_sent();
    job.unknown_outcomes += u32::from(all_sent);
    let mut failure = cancel::failure(progress.phase());
    failure.sent = progress.sent();
    if all_sent {
        failure.message.push_str(" after all bytes were sent: the image may be on the host");
    }
    End::Outcome(Outcome::Failed(failure))
}

async fn upload_or_link(
    shared: &Shared,
    job: &mut Job,
    &Place { folder, host, worker }: &Place,
    progress: &Arc<Progress>,
    content: Option<Kept>,
) -> End {
    let link = shared.folder(folder).dedupe != Dedupe::Upload;
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
    let limit = allowance(shared, host);
    let host = shared.host(host).host();
    let bytes = content.as_ref().map(|kept| kept.content.clone());
    let mut tries = progress.failed_tries();
    let attempt = upload::attempt(&*host, job, image, bytes, Arc::clone(progress), limit);
    let mut attempt = std::pin::pin!(attempt);
    loop {
        tokio::select! {
            outcome = &mut attempt => return End::Outcome(outcome),
            () = shared.cut.cancelled() => return End::Interrupted { all_sent: progress.all_sent() },
            Ok(()) = tries.changed() => {
                // Several attempts that fail and try again say together what each of them cannot know: the host is down.
                let kind = *tries.borrow_and_update();
                if let Some(kind) = kind {
                    let _ = shared.notes.send(Note::Trouble { job: job.id, trouble: steps::trouble_of(kind) }).await;
                }
            }
        }
    }
}

/// How long an attempt towards this host may take.
fn allowance(shared: &Shared, host: HostId) -> Allowance {
    let config = shared.config();
    let own = config.hosts.get(&shared.host(host).name).map(|host| &host.flow);
    let base = own.and_then(|own| own.file_timeout).unwrap_or(config.pool.file_timeout);
    Allowance { base, min_rate: own.and_then(|own| own.min_rate).unwrap_or(config.pool.min_rate) }
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

/// Writes down what the host answered, before the worker's next job: the ledger works in order, and an attempt waits for
/// its intent to be written, so a crash repeats at most the upload that each worker is busy with. No fsync is waited for, and
/// the record gets its number and place later; a `seq` of 0 marks it as unfinished.
fn keep_answer(shared: &Shared, job: &Job, links: &Links, took: Duration) -> Option<Answered> {
    let mut answered = job.clone();
    if let Err(error) = answered.advance(JobEvent::Succeed) {
        trouble("a job is not where it should be (a bug)", &error);
        return None;
    }
    let mut record = Record::of(&answered, 0, shared.clock.now(), Status::Uploaded).with_links(links.clone());
    record.duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    answered.record = Some(record.json());
    answered.pending = true;
    Some(Answered(shared.ledger.write(vec![Write::Put(Box::new(answered))], Durability::Process)))
}
