//! The task of one attempt: intent, upload, result. It holds a worker until it ends.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::recorder::{Answered, Finished};
use super::rest;
use super::shared::{Note, Shared, Task};
use super::steps;
use super::targets::{Next, Over};
use super::verdict::End;
use super::{albums, cancel};
use crate::config::{Dedupe, Folder};
use crate::host::{Allowance, Progress};
use crate::job::{ErrorClass, Event as JobEvent, Failure, Job, Links, Outcome};
use crate::ledger::{Durability, LedgerError, Write};
use crate::record::{Mirror, Record, Status};
use crate::schedule::{self, HostId};
use crate::telemetry::{Event, Fields, emit, shown, tally, trouble};
use crate::upload::{self, Terms};

/// What an attempt needs to know.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) task: Box<Task>,
    pub(super) host: HostId,
    pub(super) worker: usize,
    pub(super) progress: Arc<Progress>,
    /// The user does not want it any more.
    pub(super) cancel: CancellationToken,
}

/// Runs the attempt and tells the recorder and the pool how it ended.
pub(super) async fn run(shared: Arc<Shared>, attempt: Attempt) {
    let Attempt { mut task, host, worker, progress, cancel } = attempt;
    let began = Instant::now();
    let id = task.job.id;
    task.job.host.clone_from(&shared.host(host).name);
    let mut end = match task.job.advance(JobEvent::Start) {
        Ok(()) => {
            task.job.attempts += 1;
            task.job.not_before = None;
            let end = tokio::select! {
                biased;
                // Dropping the attempt closes its connections.
                () = cancel.cancelled() => None,
                end = upload_or_link(&shared, &mut task, host, worker, &progress) => Some(end),
            };
            end.unwrap_or_else(|| cancelled(&mut task.job, &progress))
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
    let succeeded = matches!(end, End::Outcome(Outcome::Uploaded(_)));
    let failure = match &end {
        End::Outcome(Outcome::Failed(failure)) => Some(failure.clone()),
        _ => None,
    };
    tally::attempt(&shared.host(host).name, progress.sent_in_all(), progress.retries());
    // The links may be those of another host.
    let at = task.trip.host_named(&task.job.host).unwrap_or(host);
    let last_round = task.job.requeues >= shared.config().cooldown.requeues;
    let next = task.trip.after(at, end, last_round, |host| shared.host(host).away());
    let next = match next {
        Next::On if cancel.is_cancelled() => {
            let end = cancelled(&mut task.job, &Progress::new());
            Next::Over(Box::new(Over { host: at, end }))
        }
        next => next,
    };
    let again = match next {
        Next::On => go_on(&shared, task, failure.as_ref(), succeeded).await,
        Next::Over(over) => {
            note_other_failure(&shared, &mut task.job, &over, failure.as_ref());
            end_here(&shared, task, *over, worker, began).await;
            None
        }
    };
    let _ = shared.notes.send(Note::Ended { job: id, end: said, rest, again }).await;
}

/// The file goes to its next host: written down, so that none of its hosts gets it twice whatever happens.
async fn go_on(shared: &Shared, mut task: Box<Task>, failure: Option<&Failure>, succeeded: bool) -> Option<Box<Task>> {
    let Task { job, trip, .. } = &mut *task;
    if let Err(error) = job.advance(JobEvent::GiveBack) {
        trouble("a job is not where it should be (a bug)", &error);
        return None;
    }
    if let Some(failure) = failure {
        job.unknown_outcomes += u32::from(failure.class == ErrorClass::UnknownOutcome);
        log_passed_on(job, failure);
    }
    if succeeded || failure.is_some() {
        shared.note_outcome(job, failure);
    }
    keep_progress(shared, job, trip.mirrors()).await;
    Some(task)
}

/// The record tells one failure; that of this attempt, at another host, counts all the same.
fn note_other_failure(shared: &Shared, job: &mut Job, over: &Over, failure: Option<&Failure>) {
    let Some(failure) = failure.filter(|_| shared.host(over.host).name != job.host) else { return };
    job.unknown_outcomes += u32::from(failure.class == ErrorClass::UnknownOutcome);
    shared.note_outcome(job, Some(failure));
}

/// Writes down where a file stands between two hosts.
async fn keep_progress(shared: &Shared, job: &mut Job, mirrors: Vec<Mirror>) {
    if !mirrors.is_empty() {
        let mut record = Record::of(job, 0, shared.clock.now(), Status::Deferred);
        record.mirrors = mirrors;
        job.record = Some(record.json());
    }
    shared.write(vec![Write::Put(Box::new(job.clone()))], Durability::Process).await;
}

fn log_passed_on(job: &Job, failure: &Failure) {
    emit(
        Event::JobDeferred,
        &Fields {
            attempt: Some(job.attempts),
            http_status: failure.http_status,
            error_class: Some(failure.class),
            ..Fields::of(job)
        },
        format_args!(
            "{} was not uploaded to {}: {} (phase {}); its next host is tried",
            shown(&job.name),
            job.host,
            failure.message,
            failure.phase.name()
        ),
    );
}

/// The file's life in memory ends: the rest is the recorder's.
async fn end_here(shared: &Shared, task: Box<Task>, over: Over, worker: usize, began: Instant) {
    let Task { mut job, folder, trip, .. } = *task;
    let mirrors = trip.mirrors();
    job.host.clone_from(&shared.host(over.host).name);
    let took = began.elapsed();
    let kept = match &over.end {
        End::Outcome(Outcome::Uploaded(links)) => {
            keep_answer(shared, &job, &shared.folder(folder), links, &mirrors, took)
        }
        End::Outcome(Outcome::Failed(_)) if !mirrors.is_empty() => {
            keep_progress(shared, &mut job, mirrors.clone()).await;
            None
        }
        _ => None,
    };
    let finished = Finished { job, folder, end: over.end, took, worker: Some(worker), kept, mirrors };
    // The host's rest must be known before the worker is free, or one more request would slip through; and the result
    // must be on its way before the job leaves the pool's sight, or a twin would slip through.
    if let Some(results) = shared.results() {
        let _ = results.send(finished).await;
    }
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
    shared: &Arc<Shared>,
    task: &mut Task,
    host: HostId,
    worker: usize,
    progress: &Arc<Progress>,
) -> End {
    let strip = shared.folder(task.folder).strip_metadata;
    match intend(shared, task, host, strip).await {
        Intent::Begun => {}
        Intent::Known(links) => return End::Known(links),
        Intent::Stopped => return End::Interrupted { all_sent: false },
    }
    let job = &task.job;
    emit(
        Event::JobStarted,
        &Fields {
            worker_id: Some(worker),
            attempt: Some(job.attempts),
            bytes: Some(job.fingerprint.len),
            ..Fields::of(job)
        },
        format_args!("worker {worker} sends {} to {}, attempt {}", shown(&job.name), job.host, job.attempts),
    );
    let Some(image) = job.image else { return End::Interrupted { all_sent: false } };
    let limit = allowance(shared, host);
    let gallery = albums::gallery(Arc::clone(shared), task.folder, host, job.name.clone(), Instant::now() + limit.base);
    let host = shared.host(host).host();
    let bytes = task.content.as_ref().map(|kept| kept.content.clone());
    let mut tries = progress.failed_tries();
    let terms = Terms { progress: Arc::clone(progress), limit, strip_metadata: strip };
    let attempt = upload::attempt(&*host, job, image, bytes, gallery, terms);
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

/// Writes the intent before the first byte, unless links of the same content will do: then the job's host is the one that
/// has it. While the ledger cannot be written nothing is sent.
async fn intend(shared: &Shared, task: &mut Task, host: HostId, strip: bool) -> Intent {
    let mut link = shared.folder(task.folder).dedupe != Dedupe::Upload;
    loop {
        let known = if link { known_elsewhere(shared, task, host).await } else { Ok(None) };
        let begun = match known {
            Ok(Some(twin)) => Ok(Some(twin)),
            Ok(None) => shared.ledger.start(task.job.clone(), link).await,
            Err(error) => Err(error),
        };
        match begun {
            Ok(None) => {
                shared.ledger_is_well();
                return Intent::Begun;
            }
            Ok(Some(twin)) => {
                let record = twin.record.as_deref().and_then(|json| Record::parse(json.as_bytes()).ok());
                // What was sent with its metadata is another image than what shall be sent without.
                let record = record.filter(|record| record.stripped == strip);
                let links = record.and_then(|record| {
                    let here = task.trip.link(&record, host);
                    let links = if here { record.links_on(&task.job.host) } else { record.links() };
                    links.filter(|_| here || !task.trip.mirrors_all()).map(|links| (links, here))
                });
                if let Some((links, here)) = links {
                    if !here {
                        task.job.host = twin.host;
                    }
                    return Intent::Known(links);
                }
                // A record without a link is none, or not of this host: send the file.
                link = false;
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

/// A file with the same content that a host of several has. With one host the ledger looks for it by itself.
async fn known_elsewhere(shared: &Shared, task: &Task, host: HostId) -> Result<Option<Job>, LedgerError> {
    match task.job.image.filter(|_| task.trip.has_choice()) {
        Some(image) => shared.ledger.known(image.hash, task.trip.link_names(host)).await,
        None => Ok(None),
    }
}

/// Writes down what the host answered, before the worker's next job: the ledger works in order, and an attempt waits for
/// its intent to be written, so a crash repeats at most the upload that each worker is busy with. No fsync is waited for, and
/// the record gets its number and place later; a `seq` of 0 marks it as unfinished.
fn keep_answer(
    shared: &Shared,
    job: &Job,
    config: &Folder,
    links: &Links,
    mirrors: &[Mirror],
    took: Duration,
) -> Option<Answered> {
    let mut answered = job.clone();
    if let Err(error) = answered.advance(JobEvent::Succeed) {
        trouble("a job is not where it should be (a bug)", &error);
        return None;
    }
    let mut record = Record::of(&answered, 0, shared.clock.now(), Status::Uploaded).with_links(links.clone());
    record.duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    record.mirrors = mirrors.to_vec();
    shared.albums.name(&mut record, &job.name, config);
    answered.record = Some(record.json());
    answered.pending = true;
    Some(Answered(shared.ledger.write(vec![Write::Put(Box::new(answered))], Durability::Process)))
}
