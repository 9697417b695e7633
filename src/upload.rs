//! One attempt, told top to bottom: open, still the same file?, send before the deadline, still the same file?, outcome.
//!
//! The deadline is hard: when it passes, the host's future is dropped, and dropping it closes its sockets and the file.
//! Nothing runs on. Whatever happens is an [`Outcome`]; a panic in a host is that file's failure.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::time::{Instant, timeout_at};

use crate::clock::human;
use crate::host::{self, Allowance, Gallery, Host, NotStripped, Progress, Source, Upload, wire_name};
use crate::job::{ErrorClass, Failure, ImageFacts, Job, Links, Outcome, Phase};

/// What an attempt has to keep to.
#[derive(Debug)]
pub struct Terms {
    /// Where it tells how far it is.
    pub progress: Arc<Progress>,
    /// How long it may take.
    pub limit: Allowance,
    /// The image is sent without metadata.
    pub strip_metadata: bool,
}

/// What to do about an image that `strip_metadata` keeps from being sent.
pub const STRIP_ADVICE: &str = "nothing of it was sent, because `strip_metadata` is set for this folder: save it as JPEG, PNG or \
     WebP, or use a folder without that setting";

/// How long a file that was touched may take to be read again: what takes longer counts as changed.
const READ_AGAIN: Duration = Duration::from_secs(10);

/// Sends `job`'s file to `host` once. Ends when the time that the terms allow is over, counted from now. `content` is what
/// inspection read, if it was kept; then the caller sees to it that the file is still the same afterwards. `gallery` is
/// awaited first: the one that the image belongs to.
pub async fn attempt(
    host: &dyn Host,
    job: &Job,
    image: ImageFacts,
    content: Option<Bytes>,
    gallery: impl Future<Output = Result<Option<Gallery>, Failure>>,
    Terms { progress, limit, strip_metadata }: Terms,
) -> Outcome {
    let (began, file_timeout) = (Instant::now(), limit.base);
    let deadline = began + file_timeout;
    let gallery = match timeout_at(deadline, gallery).await {
        Ok(Ok(gallery)) => gallery,
        Ok(Err(failure)) => return Outcome::Failed(failure),
        Err(_) => return Outcome::Failed(deadline_passed(&progress, file_timeout)),
    };
    let opened = match content {
        Some(content) => Source::in_memory(content, wire_name(&job.name), image.kind),
        None => match timeout_at(deadline, open(job, image)).await {
            Ok(Ok(source)) => source,
            Ok(Err(outcome)) => return outcome,
            Err(_) => return Outcome::Failed(deadline_passed(&progress, file_timeout)),
        },
    };
    let opened = Arc::new(opened);
    let image_on_disk = image;
    let (source, image) = match strip_metadata {
        false => (Arc::clone(&opened), image),
        true => match timeout_at(deadline, clean(Arc::clone(&opened), image)).await {
            Ok(Ok(cleaned)) => cleaned,
            Ok(Err(failure)) => return Outcome::Failed(failure),
            Err(_) => return Outcome::Failed(deadline_passed(&progress, file_timeout)),
        },
    };
    let upload = Upload {
        job: job.id,
        source,
        image,
        progress: Arc::clone(&progress),
        doubtful: job.unknown_outcomes > 0,
        deadline,
        gallery,
    };
    let sending = AssertUnwindSafe(async { host.upload(&upload).await }).catch_unwind();
    let result = tokio::select! {
        biased;
        result = sending => result.unwrap_or_else(|_panic| Err(panicked(&progress))),
        () = limit.over(began, &progress) => Err(deadline_passed(&progress, file_timeout)),
    };
    // A file that was written to while it was sent is half old and half new on the host, whatever the host answered; and
    // a file that became shorter made the attempt fail for no fault of the host.
    let changed = has_changed(&opened, job, image_on_disk).await;
    let result = result.map(|links| Links { stripped: strip_metadata, ..links });
    match result {
        Ok(links) if changed => Outcome::Changed { links: Some(links) },
        Err(_) if changed => Outcome::Changed { links: None },
        Ok(links) => Outcome::Uploaded(links),
        Err(failure) => Outcome::Failed(failure),
    }
}

/// Whether the open file is not what was inspected any more. One that was only touched is read again: a `touch` is no
/// reason to send it twice (R9).
async fn has_changed(opened: &Arc<Source>, job: &Job, image: ImageFacts) -> bool {
    let Ok(now) = opened.fingerprint() else { return true };
    let Some(now) = now.filter(|now| *now != job.fingerprint) else { return false };
    if !now.is_touched(&job.fingerprint) {
        return true;
    }
    let opened = Arc::clone(opened);
    let same =
        move || opened.hash().is_ok_and(|hash| hash == image.hash) && opened.fingerprint().ok() == Some(Some(now));
    let read = tokio::time::timeout(READ_AGAIN, tokio::task::spawn_blocking(same)).await;
    !matches!(read, Ok(Ok(true)))
}

/// Opens the file, if it is still the one that was inspected.
async fn open(job: &Job, image: ImageFacts) -> Result<Source, Outcome> {
    let (path, name) = (job.path.clone(), wire_name(&job.name));
    let opened = tokio::task::spawn_blocking(move || Source::open(&path, name, image.kind)).await;
    match opened {
        Ok(Ok((source, fingerprint))) if fingerprint == job.fingerprint => Ok(source),
        Ok(Ok(_)) => Err(Outcome::Changed { links: None }),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => Err(Outcome::Vanished),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => Err(Outcome::Changed { links: None }),
        Ok(Err(error)) => Err(Outcome::Failed(
            Failure::new(ErrorClass::Io, Phase::Inspect, format!("cannot read the file: {error}"))
                .advise("check that the user pixchute runs as may read it"),
        )),
        Err(_) => {
            Err(Outcome::Failed(Failure::new(ErrorClass::Io, Phase::Inspect, "reading the file was interrupted")))
        }
    }
}

/// What is sent of a file whose metadata shall not be, and the facts about that: its hash is another.
async fn clean(source: Arc<Source>, image: ImageFacts) -> Result<(Arc<Source>, ImageFacts), Failure> {
    let cleaned = tokio::task::spawn_blocking(move || {
        let source = host::strip(&source)?;
        let hash = source.hash()?;
        Ok::<_, NotStripped>((Arc::new(source), ImageFacts { hash, ..image }))
    });
    match cleaned.await {
        Ok(Ok(cleaned)) => Ok(cleaned),
        Ok(Err(error @ NotStripped::Io(_))) => Err(Failure::new(ErrorClass::Io, Phase::Inspect, error.to_string())),
        Ok(Err(error)) => Err(Failure::new(ErrorClass::File, Phase::Inspect, error.to_string()).advise(STRIP_ADVICE)),
        Err(_) => Err(Failure::new(ErrorClass::Io, Phase::Inspect, "removing the metadata was interrupted")),
    }
}

/// The failure of an attempt that was cut at its deadline. After the last byte nobody knows whether the host has it.
fn deadline_passed(progress: &Progress, file_timeout: Duration) -> Failure {
    let phase = progress.phase();
    let limit = human(file_timeout);
    let answer_lost = progress.all_sent() && matches!(phase, Phase::Send | Phase::Response);
    let mut failure = if answer_lost {
        let message = format!(
            "no complete answer within file_timeout = {limit} after all {} bytes were sent: the image may be on the host",
            progress.total()
        );
        Failure::new(ErrorClass::UnknownOutcome, Phase::Response, message)
    } else {
        let message = format!(
            "not finished within file_timeout = {limit}; the attempt was in phase {} with {} of {} bytes sent",
            phase.name(),
            progress.sent(),
            progress.total()
        );
        Failure::new(ErrorClass::Timeout, phase, message)
    };
    failure.timed_out = true;
    failure.sent = progress.sent();
    failure
}

fn panicked(progress: &Progress) -> Failure {
    let class = if progress.all_sent() { ErrorClass::UnknownOutcome } else { ErrorClass::Io };
    Failure::new(class, progress.phase(), "pixchute failed inside this attempt (a bug): the log has the details")
        .advise("please report it with the lines that the log shows at this time")
}

#[cfg(test)]
mod tests;
