//! `run --once`: when everything that can be done is done, and when to stop waiting for a disk.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::AgentError;
use super::pool::Pool;
use super::shared::Shared;
use super::slots::FolderSlot;
use super::status;
use crate::telemetry::shown;
use crate::watch::WatchState;

/// How long a file may stay unchanged and incomplete before it is not waited for any more. Longer than an image without end
/// marker needs to settle.
const INCOMPLETE: Duration = Duration::from_secs(75);

/// How often it is looked whether the start waits for the ledger.
const LOOK: Duration = Duration::from_millis(250);

/// How long a disk is waited for that is full, read-only or away, when nothing else is left to do: as long as an attempt
/// may take, which whoever runs this from a timetable has reckoned with. What is not recorded by then is known to the
/// ledger, or lies where it lay, and the next run goes on with it.
fn patience(shared: &Shared) -> Duration {
    shared.config().pool.file_timeout
}

/// What `--once` knows.
#[derive(Debug)]
pub(super) struct Once {
    wanted: bool,
    /// Since when nothing is left to do but what waits for a disk.
    stuck_since: Option<Instant>,
    /// What was not waited for, or not any longer.
    gave_up: Option<String>,
}

impl Once {
    pub(super) fn new(wanted: bool) -> Self {
        Self { wanted, stuck_since: None, gave_up: None }
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// What it was that was not waited for any longer.
    pub(super) fn gave_up(&mut self) -> Option<String> {
        self.gave_up.take()
    }
}

impl Pool {
    /// Whether a run that is to end by itself is to end now.
    pub(super) fn is_over(&mut self) -> bool {
        if !self.once.is_wanted() {
            return false;
        }
        if self.is_drained() {
            // Whoever runs this from a timetable must hear of it.
            self.once.gave_up = self.absent_folder();
            return true;
        }
        let Some(reason) = self.waits_for_a_disk() else {
            self.once.stuck_since = None;
            return false;
        };
        let since = *self.once.stuck_since.get_or_insert_with(Instant::now);
        let is_over = since.elapsed() >= patience(&self.shared);
        if is_over {
            self.once.gave_up = Some(reason);
        }
        is_over
    }

    /// Nothing is settling, queued, in flight or unrecorded, and nothing is due.
    fn is_drained(&self) -> bool {
        let now = self.shared.clock.now();
        self.all_scanned()
            && self.shared.hosts().iter().all(|(_, slot)| slot.claimed_once.load(Ordering::Relaxed))
            && self.shared.folders().iter().all(|(_, slot)| {
                self.is_held(slot) || status::nothing_settles(slot, now, INCOMPLETE)
            })
            // After the feeds: what they have handed over is counted here. What the user paused is not waited for.
            && self.shared.open.load(Ordering::SeqCst) == self.queued.len() as u64
            && self.running.is_empty()
            && self.shared.albums.is_settled()
            && self.queued.values().all(|queued| self.is_held(&self.shared.slot(queued.task.folder)))
    }

    /// A folder that is not there, if there is one: nobody knows what lies in it.
    fn absent_folder(&self) -> Option<String> {
        let folders = self.shared.folders();
        let absent = folders.iter().find(|(_, slot)| !self.is_held(slot) && is_absent(slot));
        absent.map(|(_, slot)| {
            format!("the drop folder {} is not there, so nothing was taken from it", shown(&slot.config().path))
        })
    }

    /// The trouble that all that is left to do waits for, if that is so.
    fn waits_for_a_disk(&self) -> Option<String> {
        if let Some(reason) = self.shared.blocked.borrow().as_ref() {
            // Whatever is in flight cannot be recorded.
            return Some(format!("the ledger {} cannot be written: {reason}", shown(&self.shared.config().ledger)));
        }
        let now = self.shared.clock.now();
        let folders = self.shared.folders();
        let trouble = folders.iter().find_map(|(_, slot)| trouble_of(slot))?;
        let nothing_else = self.running.is_empty()
            && self.queued.values().all(|queued| trouble_of(&self.shared.slot(queued.task.folder)).is_some())
            && folders.iter().all(|(id, slot)| {
                let idle = || self.was_scanned(*id) && status::nothing_settles(slot, now, INCOMPLETE);
                self.is_held(slot) || trouble_of(slot).is_some() || idle()
            });
        nothing_else.then_some(trouble)
    }
}

fn is_absent(slot: &FolderSlot) -> bool {
    matches!(slot.hints().status().watch, WatchState::Absent { .. })
}

/// What keeps the results of a folder from their places.
fn trouble_of(slot: &FolderSlot) -> Option<String> {
    let path = shown(&slot.config().path);
    if slot.away.load(Ordering::Relaxed) || is_absent(slot) {
        return Some(format!("the drop folder {path} is not there, and results wait for it"));
    }
    slot.blocked.borrow().as_ref().map(|reason| format!("results cannot be written to {path}: {reason}"))
}

/// Ends when the start has waited for the ledger for too long; never unless `wanted`.
pub(super) async fn start_is_stuck(shared: &Shared, wanted: bool) -> AgentError {
    if !wanted {
        return std::future::pending().await;
    }
    let mut since = None;
    loop {
        tokio::time::sleep(LOOK).await;
        let reason = shared.blocked.borrow().clone();
        since = reason.as_ref().map(|_| since.unwrap_or_else(Instant::now));
        if let (Some(reason), Some(since)) = (reason, since)
            && since.elapsed() >= patience(shared)
        {
            // Whoever waits on a thread of its own gives up.
            shared.cut.cancel();
            return AgentError::Blocked { reason };
        }
    }
}
