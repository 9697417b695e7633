//! How far an attempt is: written by the host, read by the agent and by the stall watch. Lock-free.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::rate::{Mark, Marks};
use crate::job::{FailureKind, Phase};

/// The live state of one attempt.
#[derive(Debug)]
pub struct Progress {
    began: Instant,
    phase: AtomicU8,
    sent: AtomicU64,
    total: AtomicU64,
    /// Bytes of the current request that the system took.
    written: AtomicU64,
    received: AtomicU64,
    /// Milliseconds after `began` at which a byte moved last, in either direction, or a new phase began.
    moved_at: AtomicU64,
    /// The same without what is received.
    sent_at: AtomicU64,
    /// Milliseconds after `began` at which the body began, and at which all of it was handed over (0: not yet).
    body_at: AtomicU64,
    all_sent_at: AtomicU64,
    /// See [`Progress::spent`].
    spent: OnceLock<Option<Duration>>,
    /// No request but the first may be sent.
    once: AtomicBool,
    /// See [`Progress::note_sleep`].
    slept: AtomicBool,
    /// See [`Progress::hold`].
    held: CancellationToken,
    /// What made the last try fail that is followed by another one.
    failed_try: watch::Sender<Option<FailureKind>>,
    /// Bytes of earlier bodies: logins, earlier tries.
    sent_before: AtomicU64,
    /// Tries of single requests after the first ones.
    retries: AtomicU64,
    marks: [AtomicMark; 2],
}

/// A [`Mark`] that others may read while the attempt writes it. A reader that comes in between sees a rate that is a
/// little off, once.
#[derive(Debug, Default)]
struct AtomicMark {
    at: AtomicU64,
    sent: AtomicU64,
}

impl AtomicMark {
    fn get(&self) -> Mark {
        Mark { at: self.at.load(Ordering::Relaxed), sent: self.sent.load(Ordering::Relaxed) }
    }

    fn set(&self, mark: Mark) {
        self.at.store(mark.at, Ordering::Relaxed);
        self.sent.store(mark.sent, Ordering::Relaxed);
    }
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
            written: AtomicU64::new(0),
            received: AtomicU64::new(0),
            moved_at: AtomicU64::new(0),
            sent_at: AtomicU64::new(0),
            body_at: AtomicU64::new(0),
            all_sent_at: AtomicU64::new(0),
            spent: OnceLock::new(),
            once: AtomicBool::new(false),
            slept: AtomicBool::new(false),
            held: CancellationToken::new(),
            failed_try: watch::Sender::new(None),
            sent_before: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            marks: Default::default(),
        }
    }

    /// A new phase begins; counts as movement.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
        self.touch();
    }

    /// The system took `bytes` of a request.
    pub fn note_written(&self, bytes: u64) {
        self.written.fetch_add(bytes, Ordering::Relaxed);
        self.touch();
    }

    /// The system gave bytes of an answer.
    pub fn note_read(&self) {
        self.moved_at.store(self.now(), Ordering::Relaxed);
    }

    /// What the attempt is doing.
    #[must_use]
    pub fn phase(&self) -> Phase {
        const PHASES: [Phase; 8] = [
            Phase::Inspect,
            Phase::Wait,
            Phase::Connect,
            Phase::Tls,
            Phase::Send,
            Phase::Response,
            Phase::Parse,
            Phase::Record,
        ];
        let stored = self.phase.load(Ordering::Relaxed);
        PHASES.into_iter().find(|phase| *phase as u8 == stored).unwrap_or(Phase::Record)
    }

    /// A request with a body of `total` bytes begins: the counter of sent bytes starts again.
    pub fn start_body(&self, total: u64) {
        self.sent_before.fetch_add(self.sent.swap(0, Ordering::Relaxed), Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
        self.written.store(0, Ordering::Relaxed);
        self.body_at.store(self.now(), Ordering::Relaxed);
        self.all_sent_at.store(0, Ordering::Relaxed);
        let start = Mark { at: self.now(), sent: 0 };
        self.marks.iter().for_each(|mark| mark.set(start));
        self.enter(Phase::Send);
    }

    /// `bytes` more of the body were handed to the connection.
    pub fn add_sent(&self, bytes: u64) {
        let sent = self.sent.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.touch();
        if self.all_sent() {
            self.all_sent_at.store(self.now().max(1), Ordering::Relaxed);
        }
        if let Some(Marks(earlier, later)) = self.marks().next(Mark { at: self.now(), sent }) {
            self.marks[0].set(earlier);
            self.marks[1].set(later);
        }
    }

    /// A request is sent once more.
    pub fn count_retry(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// How many requests were sent once more.
    #[must_use]
    pub fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    /// `bytes` more of an answer arrived.
    pub fn add_received(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
        self.note_read();
    }

    /// This attempt shall show whether the host is well: a request that fails is not sent again.
    pub fn probe(&self) {
        self.once.store(true, Ordering::Relaxed);
    }

    /// The machine slept while this attempt was under way: its connections may be dead, and nobody is to blame for it.
    pub fn note_sleep(&self) {
        self.slept.store(true, Ordering::Relaxed);
    }

    /// Whether the machine slept while this attempt was under way.
    #[must_use]
    pub fn has_slept(&self) -> bool {
        self.slept.load(Ordering::Relaxed)
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

    /// Bytes of all bodies handed to connections so far, earlier tries included.
    #[must_use]
    pub fn sent_in_all(&self) -> u64 {
        self.sent_before.load(Ordering::Relaxed) + self.sent()
    }

    /// How many bytes of the current body move per second now; 0 when none do, or it is too early to tell.
    #[must_use]
    pub fn bytes_per_second(&self) -> u64 {
        if self.phase() != Phase::Send {
            return 0;
        }
        self.marks().rate(Mark { at: self.now(), sent: self.sent() })
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

    /// How many bytes of a file of `bytes` have still to go. A short file is handed over at once and may be a minute on its way
    /// all the same, so what the system took is what counts.
    #[must_use]
    pub fn left(&self, bytes: u64) -> u64 {
        let (total, sent) = (self.total(), self.sent());
        // Logins and forms are short, and files without their metadata are a little shorter.
        if total >= bytes / 2 {
            let written = self.written.load(Ordering::Relaxed);
            // Of what goes another way nothing is known but what was handed over.
            total - total.min(if written > 0 { written } else { sent })
        } else if self.sent_before.load(Ordering::Relaxed) >= bytes / 2 {
            0
        } else {
            bytes
        }
    }

    /// When all of the body had been handed over, if it has.
    #[must_use]
    pub fn all_sent_at(&self) -> Option<Instant> {
        let at = self.all_sent_at.load(Ordering::Relaxed);
        (at > 0).then(|| self.began + Duration::from_millis(at))
    }

    /// How long ago the current body began.
    #[must_use]
    pub fn body_age(&self) -> Duration {
        self.began.elapsed().saturating_sub(Duration::from_millis(self.body_at.load(Ordering::Relaxed)))
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

    /// How long nothing was sent. An attempt that only receives has no need of a worker: an answer is short, or it is one
    /// that never ends.
    #[must_use]
    pub fn idle_sending(&self) -> Duration {
        self.began.elapsed().saturating_sub(Duration::from_millis(self.sent_at.load(Ordering::Relaxed)))
    }

    /// How long the attempt runs.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.began.elapsed()
    }

    fn touch(&self) {
        let now = self.now();
        self.moved_at.store(now, Ordering::Relaxed);
        self.sent_at.store(now, Ordering::Relaxed);
    }

    /// Milliseconds since the attempt began.
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn marks(&self) -> Marks {
        Marks(self.marks[0].get(), self.marks[1].get())
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_a_file_is_what_the_system_has_not_taken() {
        let progress = Progress::new();
        assert_eq!(progress.left(1_000), 1_000, "nothing has begun");
        progress.start_body(50);
        progress.note_written(300);
        assert_eq!(progress.left(1_000), 1_000, "a login is not the file");
        progress.start_body(1_200);
        progress.add_sent(1_200);
        progress.note_written(500);
        assert_eq!(progress.left(1_000), 700, "handed over at once, and on its way");
        progress.note_written(900);
        assert_eq!(progress.left(1_000), 0, "what stands around it counts for nothing");
        progress.start_body(50);
        assert_eq!(progress.left(1_000), 0, "the form after it");
        progress.start_body(1_200);
        assert_eq!(progress.left(1_000), 1_200, "once more from the beginning");
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_body_starts_again_and_both_are_counted() {
        let progress = Progress::new();
        progress.start_body(300_000);
        for _ in 0..20 {
            tokio::time::advance(Duration::from_millis(100)).await;
            progress.add_sent(10_000);
        }
        assert_eq!((progress.sent(), progress.bytes_per_second()), (200_000, 100_000));
        progress.start_body(50_000);
        assert_eq!((progress.sent(), progress.bytes_per_second(), progress.sent_in_all()), (0, 0, 200_000));
        progress.add_sent(50_000);
        tokio::time::advance(Duration::from_millis(500)).await;
        assert_eq!((progress.bytes_per_second(), progress.sent_in_all()), (100_000, 250_000));
        progress.enter(Phase::Response);
        assert_eq!(progress.bytes_per_second(), 0, "nothing is being sent any more");
    }
}
