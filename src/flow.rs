//! How much one host may be given at a time: its window, its rate, its rests. Pure; the time is passed in.
//!
//! The window is the number of attempts that may run at once (Postfix's per-destination concurrency). It starts small,
//! opens by one with every success up to the ceiling, and starts small again after a rest, so that a host that comes
//! back is not met by the whole pool at once.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::Rate;

/// The window of a host that has not answered yet: enough to fill a fast host in a few round trips, and little enough
/// that several silent hosts cannot take the pool.
pub const START_WINDOW: usize = 3;

/// An attempt is never called late before it was idle for so long, however fast the host usually is: an answer may take
/// a moment longer than usual without anything being wrong.
pub const LATE_FLOOR: Duration = Duration::from_secs(1);

/// How many times its usual duration an attempt must be idle to be called late.
pub const LATE_FACTOR: u32 = 4;

/// The flow towards one host.
#[derive(Clone, Debug)]
pub struct Flow {
    ceiling: usize,
    window: usize,
    rate: Option<Gcra>,
    resting_until: Option<Instant>,
    /// Moving average of how long a successful attempt takes; `None` until the first success.
    usual: Option<Duration>,
}

/// The generic cell rate algorithm (ITU-T I.371): a token bucket kept as one moment, the theoretical arrival time.
#[derive(Clone, Debug)]
struct Gcra {
    rate: Rate,
    arrival: Option<Instant>,
}

impl Gcra {
    /// The first moment at which one more upload conforms.
    fn conforms_at(&self, now: Instant) -> Instant {
        let tolerance = self.rate.every.saturating_mul(self.rate.burst.saturating_sub(1));
        self.arrival.and_then(|arrival| arrival.checked_sub(tolerance)).map_or(now, |at| at.max(now))
    }

    fn take(&mut self, now: Instant) {
        let arrival = self.arrival.map_or(now, |arrival| arrival.max(now));
        self.arrival = Some(arrival + self.rate.every);
    }
}

impl Flow {
    /// A host that was not used yet. `ceiling` is at least 1.
    #[must_use]
    pub fn new(ceiling: usize, rate: Option<Rate>) -> Self {
        let ceiling = ceiling.max(1);
        Self {
            ceiling,
            window: START_WINDOW.min(ceiling),
            rate: rate.map(|rate| Gcra { rate, arrival: None }),
            resting_until: None,
            usual: None,
        }
    }

    /// Takes over the limits of `other`; what this host has shown so far stays.
    pub fn limit_like(&mut self, other: &Self) {
        self.ceiling = other.ceiling;
        self.window = self.window.min(self.ceiling);
        if self.rate.as_ref().map(|rate| rate.rate) != other.rate.as_ref().map(|rate| rate.rate) {
            self.rate.clone_from(&other.rate);
        }
    }

    /// How many attempts may run at once now.
    #[must_use]
    pub fn window(&self) -> usize {
        self.window
    }

    /// How far the window can open.
    #[must_use]
    pub fn ceiling(&self) -> usize {
        self.ceiling
    }

    /// Whether the host has answered well since the start or its last rest.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.usual.is_some()
    }

    /// When the next attempt may begin as far as rest and rate go: `now` or later.
    #[must_use]
    pub fn open_at(&self, now: Instant) -> Instant {
        let rested = self.resting_until.map_or(now, |until| until.max(now));
        self.rate.as_ref().map_or(rested, |rate| rate.conforms_at(now).max(rested))
    }

    /// Until when the host rests, if it does.
    #[must_use]
    pub fn resting_until(&self, now: Instant) -> Option<Instant> {
        self.resting_until.filter(|until| *until > now)
    }

    /// Whether the host takes nothing at the moment, however long one waits for a place in its window: another host of the
    /// folder stands in for it.
    #[must_use]
    pub fn turns_away(&self, now: Instant) -> bool {
        self.resting_until(now).is_some()
    }

    /// An attempt begins.
    pub fn begin(&mut self, now: Instant) {
        if let Some(rate) = &mut self.rate {
            rate.take(now);
        }
    }

    /// An attempt succeeded after `took`. Tells whether the window changed.
    pub fn succeed(&mut self, took: Duration) -> bool {
        self.usual = Some(self.usual.map_or(took, |usual| (usual * 7 + took) / 8));
        let before = self.window;
        self.window = (self.window + 1).min(self.ceiling);
        self.window != before
    }

    /// The host rests until `until`; a shorter rest never replaces a longer one. The window starts small again.
    pub fn rest(&mut self, until: Instant) {
        self.resting_until = Some(self.resting_until.map_or(until, |old| old.max(until)));
        self.window = START_WINDOW.min(self.ceiling);
        self.usual = None;
    }

    /// The rest is over, by time or because the user says so.
    pub fn wake(&mut self) {
        self.resting_until = None;
    }

    /// How long an attempt may be idle before it stops counting against the window.
    #[must_use]
    pub fn late_after(&self) -> Duration {
        self.usual.map_or(LATE_FLOOR, |usual| usual.saturating_mul(LATE_FACTOR).max(LATE_FLOOR))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn the_window_opens_by_one_per_success_and_stops_at_the_ceiling() {
        let mut flow = Flow::new(5, None);
        assert_eq!((flow.window(), flow.is_proven()), (3, false));
        assert!(flow.succeed(ms(20)));
        assert!(flow.succeed(ms(20)));
        assert!(!flow.succeed(ms(20)), "the ceiling holds");
        assert_eq!((flow.window(), flow.is_proven()), (5, true));
    }

    #[test]
    fn a_rest_closes_the_host_and_starts_the_window_small_again() {
        let now = Instant::now();
        let mut flow = Flow::new(8, None);
        for _ in 0..8 {
            flow.succeed(ms(20));
        }
        flow.rest(now + ms(500));
        flow.rest(now + ms(300));
        assert_eq!(flow.open_at(now), now + ms(500), "the longer rest holds");
        assert_eq!((flow.window(), flow.is_proven()), (START_WINDOW, false));
        assert_eq!(flow.resting_until(now + ms(500)), None, "over when it is over");
        assert_eq!(flow.open_at(now + ms(600)), now + ms(600));
    }

    #[test]
    fn late_follows_the_usual_duration_but_has_a_floor() {
        let mut flow = Flow::new(8, None);
        assert_eq!(flow.late_after(), LATE_FLOOR);
        flow.succeed(ms(20));
        assert_eq!(flow.late_after(), LATE_FLOOR);
        flow.rest(Instant::now());
        flow.succeed(ms(900));
        assert_eq!(flow.late_after(), ms(3_600));
    }

    proptest! {
        /// In any stretch of time no more than `burst + elapsed / every` uploads begin.
        #[test]
        fn the_rate_is_never_exceeded(every in 1u64..500, burst in 1u32..6, gaps in prop::collection::vec(0u64..300, 1..80)) {
            let rate = Rate { every: ms(every), burst };
            let mut flow = Flow::new(8, Some(rate));
            let start = Instant::now();
            let mut now = start;
            let mut begun: u32 = 0;
            for gap in gaps {
                now += ms(gap);
                if flow.open_at(now) <= now {
                    flow.begin(now);
                    begun += 1;
                }
                let elapsed = u32::try_from((now - start).as_millis() / u128::from(every)).expect("small");
                prop_assert!(begun <= burst + elapsed);
            }
        }
    }
}
