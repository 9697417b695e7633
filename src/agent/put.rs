//! One file, now, without a drop folder: inspected, sent, and told as a record. Beside a running agent it is safe: it
//! touches neither its ledger nor the file.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::Clock;
use crate::config::Config;
use crate::host::{Host, Progress};
use crate::inspect;
use crate::job::{ErrorClass, Failure, Fingerprint, Job, Outcome, Phase, Stage};
use crate::record::{Record, RecordError, Status};
use crate::upload::{self, Terms};

/// Larger files are refused: what a drop folder takes by default.
const MAX_BYTES: u64 = 100_000_000;

/// Sends the file at `path` (absolute) to `host`, once, with the tries of single requests that the host makes.
///
/// # Errors
/// Why the file cannot be read or is no picture: then there was nothing to send, and there is no record.
pub async fn put(config: &Config, host: &dyn Host, path: &Path, progress: Arc<Progress>) -> Result<Record, String> {
    let began = Instant::now();
    let (folder, name) = match (path.parent(), path.file_name()) {
        (Some(folder), Some(name)) => (folder.to_path_buf(), name.into()),
        _ => return Err("this is no file".to_owned()),
    };
    let looked_at = path.to_path_buf();
    let inspected = tokio::task::spawn_blocking(move || {
        let metadata = std::fs::metadata(&looked_at).map_err(|error| format!("cannot be read: {error}"))?;
        if !metadata.is_file() {
            return Err("this is no file".to_owned());
        }
        // A link is followed: the user named it.
        let target = std::fs::canonicalize(&looked_at).map_err(|error| format!("cannot be read: {error}"))?;
        let fingerprint = Fingerprint::of(&metadata);
        let inspected = inspect::inspect(&target, fingerprint, MAX_BYTES).map_err(|refused| refused.to_string())?;
        Ok((target, fingerprint, inspected.image))
    });
    let (target, fingerprint, image) = inspected.await.map_err(|_| "reading it was interrupted".to_owned())??;
    let job = Job {
        path: target,
        stage: Stage::Started,
        image: Some(image),
        attempts: 1,
        ..Job::new(folder, name, host.name().to_owned(), fingerprint, Clock::System.now())
    };
    let outcome = match host.limits().refuses(&image, fingerprint.len) {
        Some(refusal) => {
            let message = refusal.explain(job.name.display().to_string(), host.name());
            Outcome::Failed(Failure::new(ErrorClass::File, Phase::Inspect, message).advise(refusal.advice()))
        }
        None => {
            // What no folder may send to this host is not sent by hand either.
            let strip_metadata = config
                .folders
                .iter()
                .any(|folder| folder.strip_metadata && folder.hosts().any(|used| used == host.name()));
            let terms = Terms { progress, limit: config.pool.file_timeout.into(), strip_metadata };
            upload::attempt(host, &job, image, None, std::future::ready(Ok(None)), terms).await
        }
    };
    Ok(told(&job, outcome, began.elapsed()))
}

fn told(job: &Job, outcome: Outcome, took: Duration) -> Record {
    let failure = match outcome {
        Outcome::Uploaded(links) => {
            let record = Record::of(job, 0, Clock::System.now(), Status::Uploaded).with_links(links);
            return timed(record, took);
        }
        Outcome::Failed(failure) => failure,
        Outcome::Changed { .. } => {
            Failure::new(ErrorClass::File, Phase::Send, "the file changed while it was sent; no link is given")
        }
        Outcome::Vanished => Failure::new(ErrorClass::File, Phase::Inspect, "the file is gone"),
    };
    let mut record = Record::of(job, 0, Clock::System.now(), Status::Failed);
    record.error = Some(RecordError {
        class: failure.class,
        phase: failure.phase,
        message: failure.message,
        http_status: failure.http_status,
        response_head: failure.response_head,
        next_try_at: None,
        advice: failure.advice,
        unknown_outcomes: None,
    });
    timed(record, took)
}

fn timed(mut record: Record, took: Duration) -> Record {
    record.duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    record
}
