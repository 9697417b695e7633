//! What `status` and the metrics show of outcomes: counted where they are recorded.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::shared::Shared;
use super::slots::FolderSlot;
use crate::clock::WallTime;
use crate::control::model::{ErrorStatus, OutcomeStatus, RECENT};
use crate::job::{ErrorClass, Failure, Job};
use crate::record::Record;
use crate::telemetry::{shown, tally};

/// The last outcomes of all folders.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<VecDeque<OutcomeStatus>>);

impl Recent {
    /// Newest first.
    pub(super) fn list(&self) -> Vec<OutcomeStatus> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    pub(super) fn add(&self, job: &Job, record: &Record, failure: Option<&Failure>) {
        let outcome = OutcomeStatus {
            at: record.at,
            status: record.status.name().to_owned(),
            job: job.id,
            file: shown(&job.name),
            folder: job.folder.clone(),
            host: job.host.clone(),
            url: record.url.clone(),
            error: failure.map(said),
            bytes: record.bytes,
            duration_ms: record.duration_ms,
        };
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        recent.truncate(RECENT - 1);
        recent.push_front(outcome);
    }
}

/// What was last with one drop folder, since the start.
#[derive(Debug, Default)]
pub(super) struct Last {
    success: Mutex<Option<WallTime>>,
    error: Mutex<Option<ErrorStatus>>,
    pub(super) overflows: AtomicU64,
}

impl Last {
    pub(super) fn note(&self, at: WallTime, failure: Option<&Failure>) {
        match failure {
            None => *self.success.lock().unwrap_or_else(PoisonError::into_inner) = Some(at),
            Some(failure) if failure.class == ErrorClass::Cancelled => {}
            Some(failure) => {
                let error = ErrorStatus { at, message: said(failure) };
                *self.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            }
        }
    }

    pub(super) fn success(&self) -> Option<WallTime> {
        *self.success.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn error(&self) -> Option<ErrorStatus> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn overflows(&self) -> u64 {
        self.overflows.load(Ordering::Relaxed)
    }
}

/// An outcome is on record.
pub(super) fn recorded(shared: &Shared, slot: &FolderSlot, job: &Job, record: &Record, failure: Option<&Failure>) {
    shared.recent.add(job, record, failure);
    slot.last.note(record.at, failure);
    tally::outcome(
        &job.host,
        &tally::Outcome {
            status: record.status.name(),
            class: failure.map(|failure| failure.class),
            bytes: record.bytes,
            took: Duration::from_millis(record.duration_ms),
            timed_out: failure.is_some_and(|failure| failure.timed_out),
        },
    );
}

fn said(failure: &Failure) -> String {
    format!("{}: {}", failure.class.name(), failure.message)
}
