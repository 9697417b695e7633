//! What the flow towards a host tells the log and the ledger: steps of circuits, and what was begun against a quota.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::pool::Pool;
use crate::clock::{WallTime, human};
use crate::flow::{Cause, Spent, Step, Trouble};
use crate::host::Progress;
use crate::job::{ErrorClass, Failure, FailureKind, Outcome};
use crate::ledger::{Durability, Memo, Write};
use crate::schedule::{End, HostId, Input};
use crate::telemetry::{Event, Fields, emit, trouble};

/// The kind of the memos about open circuits; the key is the host.
pub(super) const CIRCUITS: &str = "circuit";

/// The kind of the memos about rates and quotas; the key is the host.
pub(super) const BUDGETS: &str = "budget";

/// An open circuit, as the ledger keeps it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct OpenCircuit {
    suspect: bool,
    since: WallTime,
    until: WallTime,
    rest_ms: u64,
}

/// What was begun, as the ledger keeps it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Begun {
    at: WallTime,
    spent: Spent,
}

/// What the end of an attempt says about its host.
pub(super) fn end_of(outcome: &Outcome) -> End {
    match outcome {
        Outcome::Uploaded(_) => End::Succeeded,
        Outcome::Failed(failure) => end_of_failure(failure),
        Outcome::Changed { .. } | Outcome::Vanished => End::Other,
    }
}

fn end_of_failure(failure: &Failure) -> End {
    match failure.kind {
        FailureKind::Transient | FailureKind::Unknown => End::Failed(Trouble::Passing),
        FailureKind::BadResponse => End::Failed(Trouble::NoLink),
        FailureKind::Limited | FailureKind::Account => End::Answered,
        FailureKind::File if failure.class == ErrorClass::File && failure.http_status.is_some() => End::Answered,
        FailureKind::File | FailureKind::Ours => End::Other,
    }
}

/// What a failed try says that is followed by another one.
pub(super) fn trouble_of(kind: FailureKind) -> Trouble {
    if kind == FailureKind::BadResponse { Trouble::NoLink } else { Trouble::Passing }
}

/// Wall time must be so far ahead of monotonic time, which stands still in a sleep, to say that the machine has slept.
const SLEPT: Duration = Duration::from_secs(10);

/// How long the machine has slept since `before`: both clocks then and now. A wall clock that is set forward looks the
/// same, and what follows from it does no harm.
pub(super) fn slept(before: (Instant, WallTime), now: (Instant, WallTime)) -> Option<Duration> {
    let awake = now.0.saturating_duration_since(before.0);
    let slept = now.1.since(before.1).saturating_sub(awake);
    Some(slept).filter(|slept| *slept >= SLEPT)
}

/// What a failure means for which nobody is to blame: the machine slept in the middle of the attempt.
pub(super) fn excused(end: &mut super::verdict::End, progress: &Progress) {
    if let super::verdict::End::Outcome(Outcome::Failed(failure)) = end
        && progress.has_slept()
        && matches!(failure.kind, FailureKind::Transient | FailureKind::Unknown)
    {
        failure.offline = true;
        failure.timed_out = false;
        failure.message = format!("the machine slept while this was sent; then: {}", failure.message);
    }
}

impl Pool {
    /// Notices that the machine has slept.
    pub(super) fn notice_sleep(&mut self) {
        let now = (Instant::now(), self.shared.clock.now());
        let before = std::mem::replace(&mut self.clocks, now);
        if slept(before, now).is_some() {
            self.running.values().for_each(|running| running.progress.note_sleep());
            self.handle(Input::Resumed);
            self.shared.wake_claimers();
        }
    }

    /// Takes up what an earlier run has written down about the flow: none of it makes a rest longer than it was.
    pub(super) fn flow_as_before(&mut self, circuits: Vec<Memo>, budgets: Vec<Memo>) {
        let (now, wall) = (Instant::now(), self.shared.clock.now());
        for memo in circuits {
            let (Some(host), Some(open)) = (self.shared.host_named(&memo.key), read::<OpenCircuit>(&memo)) else {
                continue;
            };
            let left = open.until.since(wall).min(open.until.since(open.since));
            let cause = if open.suspect { Cause::Suspect } else { Cause::Failures };
            self.scheduler.flow(host).take_up_circuit(now, cause, Duration::from_millis(open.rest_ms), left);
        }
        for memo in budgets {
            let (Some(host), Some(begun)) = (self.shared.host_named(&memo.key), read::<Begun>(&memo)) else { continue };
            self.scheduler.flow(host).take_up_budget(now, &begun.spent, wall.since(begun.at));
        }
    }

    /// An attempt towards `host` has begun: what that has used up is written down from time to time.
    pub(super) fn note_begun(&mut self, host: HostId) {
        if let Some(spent) = self.scheduler.to_write(Instant::now(), host) {
            let memo = self.begun(host, spent);
            self.write_soon(Write::Keep(memo));
        }
    }

    /// What was begun towards hosts with a rate or a quota, exactly: for a stop in good order.
    pub(super) fn all_begun(&mut self) -> Vec<Write> {
        let now = Instant::now();
        let hosts: Vec<HostId> = self.shared.hosts().into_iter().map(|(host, _)| host).collect();
        let spent = |pool: &mut Self, host| pool.scheduler.flow(host).budget().spent(now);
        let mut writes = Vec::new();
        for host in hosts {
            let spent = spent(self, host);
            if spent != Spent::default() {
                writes.push(Write::Keep(self.begun(host, spent)));
            }
        }
        writes
    }

    fn begun(&self, host: HostId, spent: Spent) -> Memo {
        let begun = Begun { at: self.shared.clock.now(), spent };
        Memo { kind: BUDGETS.to_owned(), key: self.shared.host(host).name.clone(), value: text(&begun) }
    }

    /// A circuit took a step.
    pub(super) fn circuit(&mut self, host: HostId, step: Step) {
        let slot = self.shared.host(host);
        let name = slot.name.as_str();
        let fields = Fields { service: Some(name), ..Fields::default() };
        match step {
            Step::Opened { cause, failures, rest } => {
                self.no_more_tries(host);
                let since = self.shared.clock.now();
                let until = since.after(rest);
                let last = slot.last_error.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
                let why = match (failures, cause) {
                    (0, _) => "the probe failed".to_owned(),
                    (_, Cause::Failures) => format!("{failures} requests in a row failed"),
                    (_, Cause::Suspect) => format!("{failures} answers in a row had no usable link"),
                };
                let fields = Fields { next_try_at: Some(until), ..fields };
                let last = last.map_or_else(String::new, |last| format!("; last: {last}"));
                let rest_text = human(Duration::from_secs(rest.as_secs().max(1)));
                if cause == Cause::Suspect {
                    emit(
                        Event::HostPaused,
                        &fields,
                        format_args!(
                            "{name} is suspect and rests for {rest_text}, then one file is tried: {why}{last}"
                        ),
                    );
                } else {
                    emit(
                        Event::CircuitOpen,
                        &fields,
                        format_args!("{name} gets nothing for {rest_text}, then one file is tried: {why}{last}"),
                    );
                }
                let rest_ms = u64::try_from(rest.as_millis()).unwrap_or(u64::MAX);
                let open = OpenCircuit { suspect: cause == Cause::Suspect, since, until, rest_ms };
                self.write_soon(Write::Keep(Memo { kind: CIRCUITS.into(), key: name.into(), value: text(&open) }));
            }
            Step::HalfOpened => {
                emit(Event::CircuitHalfOpen, &fields, format_args!("{name} gets one file, to see whether it is well"));
            }
            Step::Closed => {
                emit(Event::CircuitClosed, &fields, format_args!("{name} answers again"));
                self.write_soon(Write::Drop { kind: CIRCUITS.into(), key: name.into() });
            }
        }
    }

    /// What waits for a second try towards `host` does not get one: it ends with the failure that it has.
    pub(super) fn no_more_tries(&self, host: HostId) {
        let theirs = self.running.values().filter(|running| running.host == host);
        theirs.map(|running| &running.progress).for_each(|progress: &Arc<Progress>| progress.hold());
    }

    /// Hands over the write at once, so that two of them stay in order, and waits for it elsewhere.
    fn write_soon(&self, write: Write) {
        let written = self.shared.ledger.write(vec![write.clone()], Durability::Process);
        let shared = Arc::clone(&self.shared);
        self.shared.tracker.spawn(async move {
            if written.await.is_err() {
                shared.write(vec![write], Durability::Process).await;
            }
        });
    }
}

fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plain numbers and times have a text")
}

/// What a memo says; one that cannot be read is as good as none.
fn read<T: for<'de> Deserialize<'de>>(memo: &Memo) -> Option<T> {
    serde_json::from_str(&memo.value)
        .inspect_err(|error| trouble(&format!("what the ledger keeps about {} cannot be read", memo.key), error))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::super::verdict::End as JobEnd;
    use super::*;
    use crate::job::{Disposition, Phase};

    #[test]
    fn r28_eight_hours_of_sleep_are_noticed_and_waiting_is_not_taken_for_sleep() {
        let (start, wall) = (Instant::now(), WallTime::from_millis(1_000_000));
        let hours = |hours: u64| Duration::from_secs(hours * 3_600);
        let then = |awake, by_the_wall| (start + awake, wall.after(by_the_wall));
        assert_eq!(slept((start, wall), then(hours(0), hours(8))), Some(hours(8)));
        assert_eq!(slept((start, wall), then(hours(1), hours(8))), Some(hours(7)));
        assert_eq!(slept((start, wall), then(hours(8), hours(8))), None);
        let back = (start + hours(1), WallTime::from_millis(0));
        assert_eq!(slept((start, wall), back), None, "the wall clock was set back");
    }

    #[test]
    fn r28_what_breaks_because_of_a_sleep_is_no_time_out_and_uses_up_nothing() {
        let failure = Failure::new(ErrorClass::Stall, Phase::Send, "moved no byte for 30s");
        let progress = Progress::new();
        let mut end = JobEnd::Outcome(Outcome::Failed(failure.clone()));
        excused(&mut end, &progress);
        assert_eq!(end, JobEnd::Outcome(Outcome::Failed(failure)), "nobody slept");
        progress.note_sleep();
        excused(&mut end, &progress);
        let JobEnd::Outcome(Outcome::Failed(failure)) = end else { panic!("{end:?}") };
        assert_eq!((failure.timed_out, failure.disposition()), (false, Disposition::AwaitNetwork));
    }
}
