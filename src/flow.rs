//! How much one host may be given at a time: its window, its rate and quota, its rests, its circuit. Pure; the time is
//! passed in.
//!
//! * [`window`]: how many attempts may run at once, by feedback.
//! * [`budget`]: how many may begin in a stretch of time, as the user allows.
//! * [`circuit`]: whether the host is worth asking at all.
//! * [`uplink`]: whether one more body would get through in time.
//! * [`scale`]: how many workers there are for all hosts together.
//!
//! A host that comes back, from a rest or from an open circuit, is not met by the whole pool: its window starts at one.

pub mod budget;
pub mod circuit;
pub mod scale;
pub mod uplink;
pub mod window;

use std::time::Duration;

use tokio::time::Instant;

use crate::config::{FlowConfig, HostFlow, Pool};
pub use crate::config::{Quota, Rate};
use crate::job::JobId;
pub use budget::{Budget, Spent};
pub use circuit::{Cause, Circuit, Rules, Step, Trouble};
pub use scale::Scale;
pub use uplink::{PIECE, Uplink};
pub use window::{START_WINDOW, Sample, Window};

/// An attempt is never called late before it was idle for so long, however fast the host usually is: an answer may take
/// a moment longer than usual without anything being wrong.
pub const LATE_FLOOR: Duration = Duration::from_secs(1);

/// How many times its usual duration an attempt must be idle to be called late.
pub const LATE_FACTOR: u32 = 4;

/// What the user allows a host.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Uploads begun per second.
    pub rate: Option<Rate>,
    /// Uploads begun in any such time.
    pub quota: Option<Quota>,
    /// When its circuit opens.
    pub rules: Rules,
    /// How long one request, or one attempt if that is less, may take.
    pub time: Duration,
}

impl Limits {
    /// What the configuration says about a host.
    #[must_use]
    pub fn new(flow: &FlowConfig, pool: &Pool, rate: Option<Rate>, host: Option<&HostFlow>) -> Self {
        Self {
            rate,
            quota: host.and_then(|host| host.quota),
            rules: Rules::new(flow, host),
            time: {
                let request = host.and_then(|host| host.request_timeout).unwrap_or(pool.request_timeout);
                request.min(host.and_then(|host| host.file_timeout).unwrap_or(pool.file_timeout))
            },
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::new(&FlowConfig::default(), &Pool::default(), None, None)
    }
}

/// What an event has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Changes {
    /// The window has another size now.
    pub window: Option<usize>,
    /// The circuit has taken a step.
    pub circuit: Option<Step>,
}

/// The flow towards one host.
#[derive(Clone, Debug)]
pub struct Flow {
    window: Window,
    budget: Budget,
    circuit: Circuit,
    uplink: Uplink,
    resting_until: Option<Instant>,
    /// Moving average of how long a successful attempt takes; `None` until the first success.
    usual: Option<Duration>,
}

impl Flow {
    /// A host that was not used yet. `ceiling` is at least 1.
    #[must_use]
    pub fn new(ceiling: usize, limits: Limits) -> Self {
        Self {
            window: Window::new(ceiling),
            budget: Budget::new(limits.rate, limits.quota),
            circuit: Circuit::new(limits.rules),
            uplink: Uplink::new(limits.time),
            resting_until: None,
            usual: None,
        }
    }

    /// Takes over the limits of `other`; what this host has shown so far stays.
    pub fn limit_like(&mut self, other: &Self) {
        self.window.limit(other.window.ceiling());
        self.budget.limit_like(&other.budget);
        self.circuit.limit_like(&other.circuit);
        self.uplink.limit_like(&other.uplink);
    }

    /// The line to it.
    #[must_use]
    pub fn uplink(&self) -> &Uplink {
        &self.uplink
    }

    /// The line to it, to tell what has moved.
    pub fn uplink_mut(&mut self) -> &mut Uplink {
        &mut self.uplink
    }

    /// How many attempts may run at once now.
    #[must_use]
    pub fn window(&self) -> usize {
        self.window.size()
    }

    /// How far the window can open.
    #[must_use]
    pub fn ceiling(&self) -> usize {
        self.window.ceiling()
    }

    /// Its circuit.
    #[must_use]
    pub fn circuit(&self) -> &Circuit {
        &self.circuit
    }

    /// What it may begin.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Whether the host has answered well since the start or its last rest.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.usual.is_some()
    }

    /// Whether the circuit lets an attempt begin.
    #[must_use]
    pub fn admits(&self) -> bool {
        self.circuit.admits()
    }

    /// When the next attempt may begin as far as rests, rate, quota and an open circuit go: `now` or later.
    #[must_use]
    pub fn open_at(&self, now: Instant) -> Instant {
        let circuit = self.circuit.open_until().or(self.circuit.paced_until());
        let ends = [self.resting_until, circuit, Some(self.budget.open_at(now))];
        ends.into_iter().flatten().fold(now, Instant::max)
    }

    /// Until when the host rests because it asked for it, if it does.
    #[must_use]
    pub fn resting_until(&self, now: Instant) -> Option<Instant> {
        self.resting_until.filter(|until| *until > now)
    }

    /// Whether the host takes nothing at the moment, however long one waits for a place in its window: another host of the
    /// folder stands in for it.
    #[must_use]
    pub fn turns_away(&self, now: Instant) -> bool {
        self.resting_until(now).is_some() || !self.admits() || self.budget.exhausted_until(now).is_some()
    }

    /// An attempt of `job` begins. Tells whether it is a probe.
    pub fn begin(&mut self, now: Instant, job: JobId) -> bool {
        self.budget.take(now);
        self.circuit.begin(job);
        self.circuit.is_half_open()
    }

    /// An attempt succeeded.
    pub fn succeed(&mut self, now: Instant, sample: &Sample) -> Changes {
        self.usual = Some(self.usual.map_or(sample.took, |usual| (usual * 7 + sample.took) / 8));
        let mut changes = self.answered();
        // The probe was answered: from here on the window decides, beginning with one.
        if changes.circuit.is_none() && self.window.succeeded(now, sample) {
            changes.window = Some(self.window.size());
        }
        changes
    }

    /// A request for `job`, whose attempt began at `began`, failed. `jitter` in `0.0..=1.0` spreads the rest.
    pub fn fail(&mut self, now: Instant, job: JobId, began: Instant, trouble: Trouble, jitter: f64) -> Changes {
        let circuit = self.circuit.failed(now, job, trouble, jitter);
        let window = match circuit {
            Some(Step::Opened { .. }) => {
                self.usual = None;
                self.window.restart(now);
                None
            }
            _ => (trouble == Trouble::Passing && self.window.failed(now, began)).then(|| self.window.size()),
        };
        Changes { window, circuit }
    }

    /// The host has said something sensible, if not yes: it is there.
    pub fn answered(&mut self) -> Changes {
        Changes { window: None, circuit: self.circuit.answered() }
    }

    /// An attempt is over and says nothing about the host.
    pub fn ended(&mut self, job: JobId) {
        self.circuit.ended(job);
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant) -> Option<Step> {
        self.circuit.tick(now)
    }

    /// The host rests until `until`; a shorter rest never replaces a longer one. Then the window starts small again.
    pub fn rest(&mut self, now: Instant, until: Instant) {
        self.resting_until = Some(self.resting_until.map_or(until, |old| old.max(until)));
        self.window.restart(now);
        self.usual = None;
    }

    /// The rest is over, by time or because the user says so.
    pub fn wake(&mut self) -> Option<Step> {
        self.resting_until = None;
        self.circuit.wake()
    }

    /// The machine has slept: the host is met slowly, and a moment later than others. The pause is no rest, and nobody is
    /// told of it.
    pub fn resume(&mut self, now: Instant, pause: Duration) {
        self.resting_until = Some(self.resting_until.map_or(now + pause, |old| old.max(now + pause)));
        self.window.restart(now);
    }

    /// What has to be written down about what was begun, if anything.
    pub fn to_write(&mut self, now: Instant) -> Option<Spent> {
        self.budget.to_write(now)
    }

    /// Takes up what an earlier run had begun, `ago`.
    pub fn take_up_budget(&mut self, now: Instant, spent: &Spent, ago: Duration) {
        self.budget.take_up(now, spent, ago);
    }

    /// Takes up an open circuit of an earlier run.
    pub fn take_up_circuit(&mut self, now: Instant, cause: Cause, rest: Duration, left: Duration) {
        self.circuit.take_up(now, cause, rest, left);
        self.window.restart(now);
    }

    /// How long an attempt may be idle before it stops counting against the window.
    #[must_use]
    pub fn late_after(&self) -> Duration {
        self.usual.map_or(LATE_FLOOR, |usual| usual.saturating_mul(LATE_FACTOR).max(LATE_FLOOR))
    }
}

#[cfg(test)]
mod tests;
