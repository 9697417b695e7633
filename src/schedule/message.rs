//! What the scheduler is told, and what it says.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::flow::{Step, Trouble};
use crate::job::{ContentHash, JobId};

/// Which host: an index into the hosts that the scheduler was made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostId(pub usize);

/// Which of its hosts a job goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The first one that does not turn everything away at the moment; the others stand in for it.
    First,
    /// Of those that can take it now, the one that was given the fewest of this group.
    Even {
        /// Whose jobs are spread: those of one drop folder.
        group: usize,
    },
}

/// A job that may be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The job.
    pub job: JobId,
    /// Where it may go, in order; at least one host.
    pub hosts: Arc<[HostId]>,
    /// Which of them it goes to.
    pub choice: Choice,
    /// Its content, if twins of it shall wait for it.
    pub content: Option<ContentHash>,
    /// The size of its file.
    pub bytes: u64,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A job came into the queue.
    Ready(Ready),
    /// An attempt is over: its worker is free.
    Ended {
        /// The job.
        job: JobId,
        /// How it went, as far as the flow cares.
        end: End,
    },
    /// A request of an attempt failed; the attempt goes on.
    Trouble {
        /// The job.
        job: JobId,
        /// What the failure says about the host.
        trouble: Trouble,
    },
    /// The outcome of a job is on record: its twins may go on.
    Recorded(JobId),
    /// An attempt was looked at.
    Seen {
        /// The job.
        job: JobId,
        /// How long it has not moved a byte.
        idle: Duration,
        /// How many bytes of its file have still to go.
        left: u64,
    },
    /// A host rests until then.
    Rest {
        /// Which.
        host: HostId,
        /// Until when.
        until: Instant,
    },
    /// A host may be used again.
    Wake(HostId),
    /// Nothing new is started for this host until it is let go: the user says so.
    Hold {
        /// Which.
        host: HostId,
        /// Held, or let go.
        held: bool,
    },
    /// A job leaves the queue without an attempt.
    Withdraw(JobId),
    /// The machine was asleep until now.
    Resumed,
    /// Results can (not) be recorded: nothing is started while they cannot.
    Blocked(bool),
    /// Start nothing any more.
    Stop,
    /// Time has passed.
    Tick,
}

/// How an attempt went, as far as the flow cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The host took the file.
    Succeeded,
    /// The host failed.
    Failed(Trouble),
    /// The host has said something sensible that is not yes.
    Answered,
    /// Nothing can be said about the host.
    Other,
}

/// What shall be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Command {
    /// Begin an attempt of this job.
    Start {
        /// The job.
        job: JobId,
        /// The one of its hosts that it goes to.
        host: HostId,
        /// The slot it gets, 1..=workers.
        worker: usize,
        /// It is to show whether the host is well again: one request, no second try.
        probe: bool,
    },
    /// The queue has reached `queue_warn`.
    QueueFilling {
        /// Jobs in the queue.
        depth: usize,
    },
    /// The queue has fallen to half of `queue_warn`.
    QueueDrained {
        /// Jobs in the queue.
        depth: usize,
    },
    /// A window opened or closed.
    WindowChanged {
        /// Whose.
        host: HostId,
        /// How many attempts may run at once now.
        window: usize,
    },
    /// A circuit took a step.
    Circuit {
        /// Whose.
        host: HostId,
        /// Which.
        step: Step,
    },
    /// The pool has more or fewer workers.
    Workers {
        /// How many there are now.
        workers: usize,
    },
}
