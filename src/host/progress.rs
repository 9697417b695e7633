//! How far an attempt is: written by the host, read by the agent and by the stall watch. Lock-free.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::job::{FailureKind, Phase};

/// The live state of one attempt.
#[derive(Debug)]
pub struct Progress {
    began: Instant,
    phase: AtomicU8,
    sent: AtomicU64,
    total: AtomicU64,
    received: AtomicU64,
    /// Milliseconds after `began` at which a byte moved last, or a new phase began.
    moved_at: AtomicU64,
    /// See [`Progress::spent`].
    spent: OnceLock<Option<Duration>>,
    /// No request but the first may be sent.
    once: AtomicBool,
    /// See [`Progress::hold`].
    held: CancellationToken,
    /// What made the last try fail that is followed by another one.
    failed_try: watch::Sender<Option<FailureKind>>,
}

impl Progress {
    /// A fresh attempt, nothing sent yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            began: Instant::now(),
            phase: AtomicU8::new(Phase::Inspect as u8),
            sent: AtomicU64::new(0),
            total: AtomicU64::new(0),
            received: AtomicU64::new(0),
            moved_at: AtomicU64::new(0),
            spent: OnceLock::new(),
            once: AtomicBool::new(false),
            held: CancellationToken::new(),
            failed_try: watch::Sender::new(None),
        }
    }

    /// A new phase begins; counts as movement.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
        self.touch();
    }

    /// What the attempt is doing.
    #[must_use]
    pub fn phase(&self) -> Phase {
        const PHASES: [Phase; 7] =
            [Phase::Inspect, Phase::Wait, Phase::Connect, Phase::Send, Phase::Response, Phase::Parse, Phase::Record];
        let stored = self.phase.load(Ordering::Relaxed);
        PHASES.into_iter().find(|phase| *phase as u8 == stored).unwrap_or(Phase::Record)
    }

    /// A request with a body of `total` bytes begins: the counter of sent bytes starts again.
    pub fn start_body(&self, total: u64) {
        self.sent.store(0, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
        self.enter(Phase::Send);
    }

    /// `bytes` more of the body were handed to the connection.
    pub fn add_sent(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
        self.touch();
    }

    /// `bytes` more of an answer arrived.
    pub fn add_received(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
        self.touch();
    }

    /// This attempt shall show whether the host is well: a request that fails is not sent again.
    pub fn probe(&self) {
        self.once.store(true, Ordering::Relaxed);
    }

    /// The host gets nothing more for now: no request is sent again, and none that leads up to sending the file.
    pub fn hold(&self) {
        self.held.cancel();
    }

    /// Whether the host gets nothing more for now.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.held.is_cancelled()
    }

    /// Waits until the host gets nothing more.
    pub async fn held(&self) {
        self.held.cancelled().await;
    }

    /// Whether a request that failed may be sent again.
    #[must_use]
    pub fn may_try_again(&self) -> bool {
        !self.once.load(Ordering::Relaxed) && !self.is_held()
    }

    /// A request failed and will be sent again.
    pub fn note_failed_try(&self, kind: FailureKind) {
        self.failed_try.send_replace(Some(kind));
    }

    /// Hears of requests that failed and will be sent again.
    #[must_use]
    pub fn failed_tries(&self) -> watch::Receiver<Option<FailureKind>> {
        self.failed_try.subscribe()
    }

    /// The host says, beside a good answer, that nothing is left of its limit; until when, if it says that too.
    pub fn note_spent(&self, until: Option<Duration>) {
        let _ = self.spent.set(until);
    }

    /// Whether the host has said that nothing is left of its limit, and how long that lasts if it has said that too.
    #[must_use]
    pub fn spent(&self) -> Option<Option<Duration>> {
        self.spent.get().copied()
    }

    /// Bytes of the current body handed to the connection so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Length of the current body.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Every byte of a body was handed over: from here on a lost answer is an unknown outcome.
    #[must_use]
    pub fn all_sent(&self) -> bool {
        self.total() > 0 && self.sent() >= self.total()
    }

    /// Bytes of answers received so far.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// How long nothing has moved.
    #[must_use]
    pub fn idle(&self) -> Duration {
        self.began.elapsed().saturating_sub(Duration::from_millis(self.moved_at.load(Ordering::Relaxed)))
    }

    /// How long the attempt runs.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.began.elapsed()
    }

    fn touch(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved_at.store(now, Ordering::Relaxed);
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}
