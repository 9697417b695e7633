//! The circuit of one host: whether it is worth asking at all. Pure; time and jitter are passed in.
//!
//! ```text
//!            so many failures in a row               the rest is over
//!   closed ───────────────────────────────▶ open ───────────────────────▶ half-open: one probe
//!     ▲                                       ▲                              │      │
//!     │                                       └──────────── it fails ────────┘      │
//!     └──────────────────────────────────────── it works, or the host answers ──────┘
//! ```
//!
//! Failures count when they are in a row (no success between them), close together, and of several files: one file that a
//! host cannot digest says nothing about the host. The rests grow by decorrelated jitter.

use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::decorrelated;
use crate::config::{FlowConfig, HostFlow};
use crate::job::JobId;

/// Failures must be spread over so long, unless there are very many: a host that turns away what is too much at this
/// moment is not down, and the window sees to it.
const SPREAD: Duration = Duration::from_secs(1);

/// So many times `circuit_failures` are very many: they count however fast they come.
const VERY_MANY: u32 = 3;

/// From the third failure in a row on, the next attempt waits: for so long, and twice as long after each further one, at
/// most [`SPREAD`]. So a host that is down is noticed after few requests, not after as many as fit into the time.
const PACE: Duration = Duration::from_millis(100);

/// Failures that lie further apart are not in a row.
const APART: Duration = Duration::from_secs(600);

/// The rests of a suspect host begin with the longest of an ordinary circuit and grow to so many times of it: what
/// answers "yes" and gives no link will not be well in a minute, and somebody has to look at it.
const SUSPECT_FACTOR: u32 = 30;

/// Why a circuit is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Passing failures in a row.
    Failures,
    /// Answers without a usable link in a row.
    Suspect,
}

/// What a failed request says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// A passing failure.
    Passing,
    /// An answer without a usable link.
    NoLink,
}

/// A step from one state to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The host rests.
    Opened {
        /// Why.
        cause: Cause,
        /// After so many failures; zero after a failed probe.
        failures: u32,
        /// So long.
        rest: Duration,
    },
    /// One file may be sent, to see.
    HalfOpened,
    /// The host is well again.
    Closed,
}

/// When a circuit opens, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    failures: u32,
    suspect_after: u32,
    min: Duration,
    max: Duration,
}

impl Rules {
    /// The rules of `[flow]`, with what a host's table says instead.
    #[must_use]
    pub fn new(flow: &FlowConfig, host: Option<&HostFlow>) -> Self {
        Self {
            failures: flow.circuit_failures,
            suspect_after: host.and_then(|host| host.suspect_after).unwrap_or(flow.suspect_after),
            min: flow.circuit_min,
            max: flow.circuit_max,
        }
    }

    fn limit(&self, trouble: Trouble) -> u32 {
        match trouble {
            Trouble::Passing => self.failures,
            Trouble::NoLink => self.suspect_after,
        }
    }

    fn bounds(&self, cause: Cause) -> (Duration, Duration) {
        match cause {
            Cause::Failures => (self.min, self.max),
            Cause::Suspect => (self.max, self.max.saturating_mul(SUSPECT_FACTOR)),
        }
    }
}

/// Failures in a row.
#[derive(Clone, Copy, Debug)]
struct Row {
    count: u32,
    first: Instant,
    last: Instant,
    /// The file of the first one, and whether there were others.
    job: JobId,
    several: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed,
    Open { cause: Cause, rest: Duration, until: Instant },
    HalfOpen { cause: Cause, rest: Duration, probe: Option<JobId> },
}

/// The circuit of one host.
#[derive(Clone, Debug)]
pub struct Circuit {
    rules: Rules,
    state: State,
    passing: Option<Row>,
    no_link: Option<Row>,
}

impl Circuit {
    /// A closed circuit.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self { rules, state: State::Closed, passing: None, no_link: None }
    }

    /// Whether an attempt may begin as far as the circuit goes.
    #[must_use]
    pub fn admits(&self) -> bool {
        matches!(self.state, State::Closed | State::HalfOpen { probe: None, .. })
    }

    /// The next attempt is a probe, or one is under way.
    #[must_use]
    pub fn is_half_open(&self) -> bool {
        matches!(self.state, State::HalfOpen { .. })
    }

    /// Why it is not closed.
    #[must_use]
    pub fn cause(&self) -> Option<Cause> {
        match self.state {
            State::Closed => None,
            State::Open { cause, .. } | State::HalfOpen { cause, .. } => Some(cause),
        }
    }

    /// Until when it is open.
    #[must_use]
    pub fn open_until(&self) -> Option<Instant> {
        match self.state {
            State::Open { until, .. } => Some(until),
            State::Closed | State::HalfOpen { .. } => None,
        }
    }

    /// Until when nothing begins because the last requests have failed.
    #[must_use]
    pub fn paced_until(&self) -> Option<Instant> {
        let row = self.passing.filter(|row| row.count >= 3)?;
        let wait = PACE.saturating_mul(1 << (row.count - 3).min(8));
        Some(row.last + wait.min(SPREAD))
    }

    /// The rest that it is in or comes from.
    #[must_use]
    pub fn rest(&self) -> Option<Duration> {
        match self.state {
            State::Closed => None,
            State::Open { rest, .. } | State::HalfOpen { rest, .. } => Some(rest),
        }
    }

    /// An attempt of `job` begins.
    pub fn begin(&mut self, job: JobId) {
        if let State::HalfOpen { probe, .. } = &mut self.state {
            *probe = Some(job);
        }
    }

    /// Time has passed.
    #[must_use]
    pub fn tick(&mut self, now: Instant) -> Option<Step> {
        match self.state {
            State::Open { cause, rest, until } if until <= now => {
                self.state = State::HalfOpen { cause, rest, probe: None };
                Some(Step::HalfOpened)
            }
            _ => None,
        }
    }

    /// An upload succeeded, or the host has said something sensible: it is well.
    #[must_use]
    pub fn answered(&mut self) -> Option<Step> {
        (self.passing, self.no_link) = (None, None);
        let was_closed = matches!(self.state, State::Closed);
        self.state = State::Closed;
        (!was_closed).then_some(Step::Closed)
    }

    /// The attempt of `job` is over and has said nothing about the host.
    pub fn ended(&mut self, job: JobId) {
        if let State::HalfOpen { probe, .. } = &mut self.state
            && *probe == Some(job)
        {
            *probe = None;
        }
    }

    /// A request for `job` failed.
    #[must_use]
    pub fn failed(&mut self, now: Instant, job: JobId, trouble: Trouble, jitter: f64) -> Option<Step> {
        match self.state {
            // What began before it opened is no news.
            State::Open { .. } => None,
            State::HalfOpen { cause, rest, probe } if probe == Some(job) => {
                let cause = if trouble == Trouble::NoLink { Cause::Suspect } else { cause };
                let (min, max) = self.rules.bounds(cause);
                Some(self.open(now, cause, decorrelated(rest, min, max, jitter), 0))
            }
            State::HalfOpen { .. } => None,
            State::Closed => {
                let limit = self.rules.limit(trouble);
                let row = match trouble {
                    Trouble::Passing => &mut self.passing,
                    Trouble::NoLink => &mut self.no_link,
                };
                let known = row.filter(|row| now.saturating_duration_since(row.last) < APART);
                let mut longer = known.unwrap_or(Row { count: 0, first: now, last: now, job, several: false });
                longer.count = longer.count.saturating_add(1);
                longer.last = now;
                longer.several |= longer.job != job;
                *row = Some(longer);
                let spread = longer.last.saturating_duration_since(longer.first) >= SPREAD;
                let many = longer.count >= limit.saturating_mul(VERY_MANY);
                let opens = longer.several && longer.count >= limit && (spread || many || trouble == Trouble::NoLink);
                let cause = if trouble == Trouble::NoLink { Cause::Suspect } else { Cause::Failures };
                let (min, max) = self.rules.bounds(cause);
                opens.then(|| self.open(now, cause, decorrelated(min, min, max, jitter), longer.count))
            }
        }
    }

    fn open(&mut self, now: Instant, cause: Cause, rest: Duration, failures: u32) -> Step {
        (self.passing, self.no_link) = (None, None);
        self.state = State::Open { cause, rest, until: now + rest };
        Step::Opened { cause, failures, rest }
    }

    /// Takes up an open circuit of an earlier run; `left` of its `rest` are not over.
    pub fn take_up(&mut self, now: Instant, cause: Cause, rest: Duration, left: Duration) {
        let (_, max) = self.rules.bounds(cause);
        let rest = rest.min(max);
        self.state = State::Open { cause, rest, until: now + left.min(rest) };
    }

    /// The user wants to see whether it is well.
    #[must_use]
    pub fn wake(&mut self) -> Option<Step> {
        match self.state {
            State::Open { cause, rest, .. } => {
                self.state = State::HalfOpen { cause, rest, probe: None };
                Some(Step::HalfOpened)
            }
            State::Closed | State::HalfOpen { .. } => None,
        }
    }

    /// Takes over the rules of `other`; the state stays.
    pub fn limit_like(&mut self, other: &Self) {
        self.rules = other.rules;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    fn circuit() -> Circuit {
        Circuit::new(Rules::new(&FlowConfig::default(), None))
    }

    /// Fails for a new file every `gap` until a step is taken; how many it took.
    fn fail_until_step(circuit: &mut Circuit, now: &mut Instant, gap: Duration, trouble: Trouble) -> (u32, Step) {
        for count in 1..1_000 {
            if let Some(step) = circuit.failed(*now, JobId::generate(), trouble, 0.5) {
                return (count, step);
            }
            *now += gap;
        }
        panic!("never opens")
    }

    #[test]
    fn r18_it_opens_probes_and_closes() {
        let mut now = Instant::now();
        let mut circuit = circuit();
        let (count, step) = fail_until_step(&mut circuit, &mut now, seconds(1), Trouble::Passing);
        assert_eq!((count, step), (5, Step::Opened { cause: Cause::Failures, failures: 5, rest: seconds(10) }));
        assert!(!circuit.admits());
        assert_eq!(circuit.failed(now, JobId::generate(), Trouble::Passing, 0.5), None, "no news");
        assert_eq!(circuit.tick(now + seconds(9)), None);
        assert_eq!(circuit.tick(now + seconds(10)), Some(Step::HalfOpened));
        let probe = JobId::generate();
        assert!(circuit.admits());
        circuit.begin(probe);
        assert!(!circuit.admits(), "one probe");
        assert_eq!(circuit.failed(now, JobId::generate(), Trouble::Passing, 0.5), None, "an attempt of before");
        let step = circuit.failed(now, probe, Trouble::Passing, 1.0);
        assert_eq!(step, Some(Step::Opened { cause: Cause::Failures, failures: 0, rest: seconds(30) }));
        assert_eq!(circuit.tick(now + seconds(30)), Some(Step::HalfOpened));
        circuit.begin(probe);
        assert_eq!(circuit.answered(), Some(Step::Closed));
        assert!(circuit.admits() && circuit.answered().is_none());
    }

    #[test]
    fn one_success_between_keeps_it_closed() {
        let mut now = Instant::now();
        let mut circuit = circuit();
        for index in 1..100 {
            assert_eq!(circuit.failed(now, JobId::generate(), Trouble::Passing, 0.5), None);
            now += seconds(1);
            if index % 4 == 0 {
                assert_eq!(circuit.answered(), None);
            }
        }
    }

    #[test]
    fn one_file_alone_never_opens_it_nor_do_failures_far_apart() {
        let mut now = Instant::now();
        let mut circuit = circuit();
        let job = JobId::generate();
        for _ in 0..100 {
            assert_eq!(circuit.failed(now, job, Trouble::Passing, 0.5), None);
            now += seconds(1);
        }
        for _ in 0..100 {
            now += APART;
            assert_eq!(circuit.failed(now, JobId::generate(), Trouble::Passing, 0.5), None);
        }
    }

    #[test]
    fn after_three_failures_the_next_attempts_wait_longer_and_longer() {
        let now = Instant::now();
        let mut circuit = circuit();
        let waits: Vec<Option<u128>> = (0..7)
            .map(|_| {
                let _ = circuit.failed(now, JobId::generate(), Trouble::Passing, 0.5);
                circuit.paced_until().map(|until| (until - now).as_millis())
            })
            .collect();
        assert_eq!(waits, [None, None, Some(100), Some(200), Some(400), Some(800), Some(1_000)]);
        let _ = circuit.answered();
        assert_eq!(circuit.paced_until(), None);
    }

    #[test]
    fn failures_at_the_same_moment_count_only_if_they_are_very_many() {
        let mut now = Instant::now();
        let (count, _) = fail_until_step(&mut circuit(), &mut now, Duration::ZERO, Trouble::Passing);
        assert_eq!(count, 15);
    }

    #[test]
    fn r16_five_answers_without_a_link_make_it_suspect_for_longer() {
        let mut now = Instant::now();
        let mut circuit = circuit();
        let (count, step) = fail_until_step(&mut circuit, &mut now, Duration::ZERO, Trouble::NoLink);
        assert_eq!((count, step), (5, Step::Opened { cause: Cause::Suspect, failures: 5, rest: seconds(240) }));
        assert_eq!(circuit.cause(), Some(Cause::Suspect));
    }

    #[test]
    fn a_probe_that_says_nothing_makes_room_for_another() {
        let now = Instant::now();
        let mut circuit = circuit();
        circuit.take_up(now, Cause::Failures, seconds(60), seconds(5));
        assert_eq!(circuit.open_until(), Some(now + seconds(5)));
        assert_eq!(circuit.wake(), Some(Step::HalfOpened));
        let probe = JobId::generate();
        circuit.begin(probe);
        circuit.ended(JobId::generate());
        assert!(!circuit.admits());
        circuit.ended(probe);
        assert!(circuit.admits());
    }

    #[test]
    fn r28_what_was_written_down_never_makes_a_rest_longer_than_the_rules_allow() {
        let now = Instant::now();
        let mut circuit = circuit();
        circuit.take_up(now, Cause::Failures, seconds(1_000_000), seconds(1_000_000));
        assert_eq!(circuit.open_until(), Some(now + seconds(120)));
    }
}
