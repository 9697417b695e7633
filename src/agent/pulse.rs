//! What the service manager is told while the agent runs: a line for people, and the word that it is alive.
//!
//! `WATCHDOG=1` is sent only after a round: the pool has answered, every drop folder's task has, and both threads of the
//! ledger have. If one of them stands still, nothing is sent, and the service manager starts the agent anew. A system call
//! that hangs on a dead network share is none of these: a new start would not mend it.
//!
//! Without a service manager there is no round at all.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::{oneshot, watch};
use tokio::time::{sleep, timeout};

use super::pool::Pool;
use super::shared::{FolderSlot, Note, Shared};
use crate::ledger::Durability;
use crate::telemetry::trouble;

/// How often the line for people is written anew at most.
const STATUS_EVERY: Duration = Duration::from_secs(5);

/// How many rounds there are in the time that the service manager waits: one may be late.
const ROUNDS: u32 = 3;

/// For tests: which part stands still after the first round. Not documented for users.
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
        number += 1;
        if number > 1 && freeze == "scheduler" {
            let _ = shared.notes.send(Note::Freeze).await;
        }
        let asked = if number > 1 && freeze == "watcher" { u64::MAX } else { number };
        let stuck = number > 1 && freeze == "ledger";
        match round(shared, asked, every, stuck).await {
            Ok(line) => {
                late = false;
                if watchdog {
                    tell(&[NotifyState::Watchdog]);
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
        sleep(every).await;
    }
}

fn tell(states: &[NotifyState<'_>]) {
    // A service manager that is gone is no trouble of ours.
    let _ = sd_notify::notify(states);
}

/// The task of a drop folder begins: where it is asked for signs of life.
pub(super) fn began(slot: &FolderSlot) -> watch::Receiver<u64> {
    slot.beat.send_replace(0);
    slot.asked.subscribe()
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
async fn round(shared: &Shared, number: u64, limit: Duration, stuck: bool) -> Result<String, String> {
    let pool = async {
        let (reply, answer) = oneshot::channel();
        shared.notes.send(Note::Pulse(reply)).await.ok()?;
        answer.await.ok()
    };
    let line = timeout(limit, pool).await.ok().flatten().ok_or("the scheduler")?;
    for (_, slot) in shared.folders() {
        let mut beat = slot.beat.subscribe();
        slot.asked.send_replace(number);
        let answered = timeout(limit, beat.wait_for(|beat| *beat >= number)).await;
        if !matches!(answered, Ok(Ok(_))) {
            return Err(format!("the watch of {}", slot.config().path.display()));
        }
    }
    let ledger = async {
        if stuck {
            std::future::pending::<()>().await;
        }
        // An error is an answer too: a full disk is told elsewhere, and a new start would not mend it.
        let _ = shared.ledger.write(Vec::new(), Durability::Process).await;
        let _ = shared.ledger.pauses().await;
    };
    timeout(limit, ledger).await.map_err(|_| "the ledger".to_owned())?;
    Ok(line)
}

/// How the agent is, in one line.
pub(super) fn line(pool: &Pool) -> String {
    let (shared, busy) = (&pool.shared, pool.scheduler.busy());
    let mut text =
        format!("{busy} of {} workers busy, {} queued", shared.config().pool.workers, pool.scheduler.depth());
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
