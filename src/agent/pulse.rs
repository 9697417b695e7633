//! What the service manager is told while the agent runs: a line for people, and the word that it is alive.
//!
//! `WATCHDOG=1` is sent only after a round: the pool has answered, every drop folder's task has, the recorder has (or has
//! moved a file since it was asked), and both threads of the ledger have. If one of them stands still, nothing is sent, and
//! the service manager starts the agent anew. A disk that is full is no standstill: a new start would not mend it.
//!
//! While the agent starts and while it stops each round asks for more time, so that a large backlog or a long `drain` ends
//! in its own time and a standstill does not. Without a service manager there is no round at all.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::{oneshot, watch};
use tokio::time::{sleep, timeout};

use super::pool::Pool;
use super::shared::{Note, Shared};
use super::slots::FolderSlot;
use crate::ledger::{Durability, Memo, STANDSTILL, Write};
use crate::telemetry::trouble;

/// How often the line for people is written anew at most.
const STATUS_EVERY: Duration = Duration::from_secs(5);

/// The same while the agent starts or stops: then much changes, and people look.
const SOON: Duration = Duration::from_millis(500);

/// How many rounds there are in the time that the service manager waits: one may be late.
const ROUNDS: u32 = 3;

/// How much time is asked for at a time while the agent starts or stops: several rounds, and less than anybody waits in vain.
const MORE_TIME: Duration = Duration::from_secs(30);

/// How long the ledger may take to be rebuilt from manifests before the first round: hundreds of thousands of lines a minute
/// are read.
const REBUILDING: Duration = Duration::from_secs(600);

/// For tests: which part stands still after the first round; the ledger is told by a word. Not documented for users.
const FREEZE: &str = "PIXCHUTE_TEST_FREEZE";

/// Goes round until running attempts are cut.
pub(super) async fn keep(shared: Arc<Shared>) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    let watchdog = sd_notify::watchdog_enabled();
    let every = watchdog.map_or(STATUS_EVERY, |limit| (limit / ROUNDS).min(STATUS_EVERY));
    let rounds = go_round(&shared, every, watchdog.is_some());
    tokio::select! {
        () = rounds => {}
        () = shared.cut.cancelled() => {}
    }
}

async fn go_round(shared: &Shared, every: Duration, watchdog: bool) {
    let freeze = std::env::var(FREEZE).unwrap_or_default();
    let (mut number, mut told, mut late) = (0, String::new(), false);
    loop {
        let mut pause = every;
        number += 1;
        if number > 1 && freeze == "scheduler" {
            let _ = shared.notes.send(Note::Freeze).await;
        }
        let asked = if number > 1 && freeze == "watcher" { u64::MAX } else { number };
        let to_recorder = if number > 1 && freeze == "recorder" { u64::MAX } else { number };
        let stuck = number > 1 && freeze == "ledger";
        match round(shared, (asked, to_recorder), every, stuck).await {
            Ok(Said { line, between }) => {
                late = false;
                if watchdog {
                    tell(&[NotifyState::Watchdog]);
                }
                if between {
                    more_time(MORE_TIME);
                    pause = every.min(SOON);
                }
                if line != told {
                    tell(&[NotifyState::Status(&line)]);
                    told = line;
                }
            }
            Err(who) if !late => {
                late = true;
                trouble(
                    "the service manager is not told that all is well",
                    &format!("{who} made no round in {every:?}"),
                );
            }
            Err(_) => {}
        }
        sleep(pause).await;
    }
}

fn tell(states: &[NotifyState<'_>]) {
    // A service manager that is gone is no trouble of ours.
    let _ = sd_notify::notify(states);
}

fn more_time(time: Duration) {
    tell(&[NotifyState::ExtendTimeoutUsec(u32::try_from(time.as_micros()).unwrap_or(u32::MAX))]);
}

/// Before the first round: what an earlier life has left is taken up.
pub(super) fn starting(rebuild: bool) {
    more_time(if rebuild { REBUILDING } else { MORE_TIME });
}

/// Every folder that is there is watched and was scanned once; or what was read again applies, or is refused.
pub(super) fn ready(pool: &Pool) {
    tell(&[NotifyState::Ready, NotifyState::Status(&line(pool))]);
}

/// The configuration is being read again. The time tells newer service managers which `READY=1` belongs to it.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// No new uploads are begun.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
    more_time(MORE_TIME);
}

/// The last upload has ended: what is known is written down.
pub(super) fn closing() {
    more_time(MORE_TIME);
}

/// Signs of life of a task that has no folder: the recorder.
#[derive(Debug)]
pub(super) struct Vital {
    asked: watch::Sender<u64>,
    beat: watch::Sender<u64>,
    /// Steps of long work.
    steps: AtomicU64,
}

impl Default for Vital {
    fn default() -> Self {
        Self { asked: watch::Sender::new(0), beat: watch::Sender::new(0), steps: AtomicU64::new(0) }
    }
}

impl Vital {
    /// Where the task is asked.
    pub(super) fn began(&self) -> watch::Receiver<u64> {
        let mut asked = self.asked.subscribe();
        // It may have been asked before it began.
        asked.mark_changed();
        asked
    }

    /// The task answers; never again if a test wants so.
    pub(super) async fn answer(&self, asked: &mut watch::Receiver<u64>) {
        let number = *asked.borrow_and_update();
        if number == u64::MAX {
            std::future::pending::<()>().await;
        }
        self.beat.send_replace(number);
    }

    /// One file more was dealt with: a long batch on a slow disk is no standstill.
    pub(super) fn step(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    async fn is_alive(&self, number: u64, limit: Duration) -> bool {
        let (mut beat, before) = (self.beat.subscribe(), self.steps.load(Ordering::Relaxed));
        self.asked.send_replace(number);
        let answered = timeout(limit, beat.wait_for(|beat| *beat >= number)).await;
        matches!(answered, Ok(Ok(_))) || self.steps.load(Ordering::Relaxed) != before
    }
}

/// What the pool says about the agent.
#[derive(Debug)]
pub(super) struct Said {
    /// For people.
    pub(super) line: String,
    /// It starts or stops: the service manager has a limit for that.
    pub(super) between: bool,
}

/// The task of a drop folder begins: where it is asked for signs of life.
pub(super) fn began(slot: &FolderSlot) -> watch::Receiver<u64> {
    slot.beat.send_replace(0);
    let mut asked = slot.asked.subscribe();
    // It may have been asked before it began.
    asked.mark_changed();
    asked
}

/// A sign of life of a drop folder's task; none ever again if a test wants so.
pub(super) async fn answer(slot: &FolderSlot, asked: &mut watch::Receiver<u64>) {
    let number = *asked.borrow_and_update();
    if number == u64::MAX {
        std::future::pending::<()>().await;
    }
    slot.beat.send_replace(number);
}

/// The folder is not watched any more: nobody waits for its task.
pub(super) fn ended(slot: &FolderSlot) {
    slot.beat.send_replace(u64::MAX);
}

/// Asks everybody; the line for people, or who did not answer.
async fn round(
    shared: &Shared,
    (number, to_recorder): (u64, u64),
    limit: Duration,
    stuck: bool,
) -> Result<Said, String> {
    let pool = async {
        let (reply, answer) = oneshot::channel();
        shared.notes.send(Note::Pulse(reply)).await.ok()?;
        answer.await.ok()
    };
    let said = timeout(limit, pool).await.ok().flatten().ok_or("the scheduler")?;
    for (_, slot) in shared.folders() {
        let mut beat = slot.beat.subscribe();
        slot.asked.send_replace(number);
        let answered = timeout(limit, beat.wait_for(|beat| *beat >= number)).await;
        if !matches!(answered, Ok(Ok(_))) {
            return Err(format!("the watch of {}", slot.config().path.display()));
        }
    }
    // It waits for a ledger that cannot be written; that is told elsewhere.
    let is_blocked = || shared.blocked.borrow().is_some();
    if !shared.recorder.is_alive(to_recorder, limit).await && !is_blocked() {
        return Err("the recorder".to_owned());
    }
    let ledger = async {
        // An error is an answer too: a full disk is told elsewhere, and a new start would not mend it.
        let word = Memo { kind: STANDSTILL.to_owned(), key: String::new(), value: String::new() };
        let writes = if stuck { vec![Write::Keep(word)] } else { Vec::new() };
        let _ = shared.ledger.write(writes, Durability::Process).await;
        let _ = shared.ledger.pauses().await;
    };
    timeout(limit, ledger).await.map_err(|_| "the ledger".to_owned())?;
    Ok(said)
}

/// How the agent is.
pub(super) fn said(pool: &Pool) -> Said {
    Said { line: line(pool), between: pool.stopping || !pool.ready }
}

fn line(pool: &Pool) -> String {
    let (shared, busy) = (&pool.shared, pool.scheduler.busy());
    let state = match (pool.stopping, pool.ready) {
        (true, _) => "stopping: ".to_owned(),
        (false, false) => format!("starting, {} of {} folders scanned: ", pool.scanned(), shared.folders().len()),
        (false, true) => String::new(),
    };
    let workers = shared.config().pool.workers;
    let mut text = format!("{state}{busy} of {workers} workers busy, {} queued", pool.scheduler.depth());
    if let Some(reason) = shared.blocked.borrow().as_ref() {
        let _ = write!(text, "; nothing is sent: {reason}");
    }
    let resting: Vec<String> = pool.resting.keys().map(|host| shared.host(*host).name.clone()).collect();
    if !resting.is_empty() {
        let _ = write!(text, "; resting: {}", resting.join(", "));
    }
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(std::sync::atomic::Ordering::Relaxed);
    let counts = &shared.counts;
    let (uploaded, deferred, failed) = (count(&counts.uploaded), count(&counts.deferred), count(&counts.failed));
    let _ = write!(text, "; {uploaded} uploaded, {deferred} put off, {failed} failed");
    text
}
