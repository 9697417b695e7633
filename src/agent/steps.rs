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
use crate::schedule::{End, HostId};
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

impl Pool {
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
