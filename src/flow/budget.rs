//! How many uploads may begin in a stretch of time: `rate` with `burst`, and `quota`. Both hold over restarts: what is
//! spent can be written down as ages and lengths, which no clock step makes longer.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::config::{Quota, Rate};

/// A quota's period is counted in so many pieces: what has begun in a piece is forgotten only when all of the piece is a
/// period old, so that the quota is never exceeded, and what may begin again is known to within a fiftieth of the period.
const PIECES: u32 = 50;

/// How much more than what is spent is written down, as a part of the quota: so many uploads may begin before it must be
/// written again. They count as spent after a crash.
const AHEAD: u32 = 50;

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

    fn take(&mut self, now: Instant, count: u32) {
        let arrival = self.arrival.map_or(now, |arrival| arrival.max(now));
        self.arrival = Some(arrival + self.rate.every.saturating_mul(count));
    }
}

/// A sliding window: so many uploads in any stretch of `period`.
#[derive(Clone, Debug)]
struct Sliding {
    quota: Quota,
    /// When a piece began, and how many uploads began in it; oldest first.
    pieces: VecDeque<(Instant, u32)>,
}

impl Sliding {
    fn piece(&self) -> Duration {
        self.quota.period / PIECES
    }

    /// When the uploads of the piece that began at `began` do not count any more.
    fn expires(&self, began: Instant) -> Instant {
        began + self.quota.period + self.piece()
    }

    fn conforms_at(&self, now: Instant) -> Instant {
        let mut spent: u64 = self.pieces.iter().map(|(_, count)| u64::from(*count)).sum();
        let mut at = now;
        for (began, count) in &self.pieces {
            if spent < u64::from(self.quota.count) {
                break;
            }
            at = at.max(self.expires(*began));
            spent -= u64::from(*count);
        }
        at
    }

    fn take(&mut self, now: Instant, count: u32) {
        self.forget(now);
        match self.pieces.back_mut() {
            Some((began, spent)) if now.saturating_duration_since(*began) < self.quota.period / PIECES => {
                *spent += count
            }
            _ => self.pieces.push_back((now, count)),
        }
    }

    fn forget(&mut self, now: Instant) {
        while self.pieces.front().is_some_and(|(began, _)| self.expires(*began) <= now) {
            self.pieces.pop_front();
        }
    }
}

/// What may begin, and what has begun.
#[derive(Clone, Debug)]
pub struct Budget {
    rate: Option<Gcra>,
    quota: Option<Sliding>,
    /// Uploads begun that the last [`Spent`] did not count.
    unwritten: u32,
    written_at: Option<Instant>,
}

/// What was spent, in a form that survives a restart: ages, not moments.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// By how many milliseconds the rate is ahead of time.
    #[serde(default)]
    pub ahead_ms: u64,
    /// Age in milliseconds and number of the uploads that the quota counts, oldest first.
    #[serde(default)]
    pub begun: Vec<(u64, u32)>,
}

impl Budget {
    /// Nothing spent yet.
    #[must_use]
    pub fn new(rate: Option<Rate>, quota: Option<Quota>) -> Self {
        Self {
            rate: rate.map(|rate| Gcra { rate, arrival: None }),
            quota: quota.map(|quota| Sliding { quota, pieces: VecDeque::new() }),
            unwritten: 0,
            written_at: None,
        }
    }

    /// Takes over the limits of `other`; what was begun stays.
    pub fn limit_like(&mut self, other: &Self) {
        if self.rate.as_ref().map(|rate| rate.rate) != other.rate.as_ref().map(|rate| rate.rate) {
            self.rate.clone_from(&other.rate);
        }
        match (&mut self.quota, &other.quota) {
            (Some(ours), Some(theirs)) => ours.quota = theirs.quota,
            (ours, theirs) => ours.clone_from(theirs),
        }
    }

    /// When one more upload may begin: `now` or later.
    #[must_use]
    pub fn open_at(&self, now: Instant) -> Instant {
        let rate = self.rate.as_ref().map_or(now, |rate| rate.conforms_at(now));
        let quota = self.quota.as_ref().map_or(now, |quota| quota.conforms_at(now));
        rate.max(quota)
    }

    /// The quota is used up: until then.
    #[must_use]
    pub fn exhausted_until(&self, now: Instant) -> Option<Instant> {
        self.quota.as_ref().map(|quota| quota.conforms_at(now)).filter(|at| *at > now)
    }

    /// The quota, and how many uploads of it are left; `None` without one.
    #[must_use]
    pub fn left(&self, now: Instant) -> Option<(Quota, u32)> {
        let sliding = self.quota.as_ref()?;
        let counted = sliding.pieces.iter().filter(|(began, _)| sliding.expires(*began) > now);
        let spent = counted.fold(0_u32, |sum, (_, count)| sum.saturating_add(*count));
        Some((sliding.quota, sliding.quota.count.saturating_sub(spent)))
    }

    /// One upload begins.
    pub fn take(&mut self, now: Instant) {
        self.spend(now, 1);
        self.unwritten = self.unwritten.saturating_add(1);
    }

    fn spend(&mut self, now: Instant, count: u32) {
        if let Some(rate) = &mut self.rate {
            rate.take(now, count);
        }
        if let Some(quota) = &mut self.quota {
            quota.take(now, count);
        }
    }

    /// How many uploads may begin between two writes.
    fn ahead(&self) -> u32 {
        let quota = self.quota.as_ref().map(|quota| (quota.quota.count / AHEAD).max(1));
        let rate = self.rate.as_ref().map(|rate| (1.0 / rate.rate.every.as_secs_f64()).ceil().clamp(1.0, 1e4) as u32);
        quota.into_iter().chain(rate).min().unwrap_or(1)
    }

    /// What has to be written down now, if anything: after so many uploads, or a second after the last time. It counts
    /// the next few as spent already, so that a crash cannot make more of them than are allowed.
    pub fn to_write(&mut self, now: Instant) -> Option<Spent> {
        let ahead = self.ahead();
        let due = match self.written_at {
            None => true,
            Some(at) => self.unwritten.saturating_mul(2) >= ahead || now.saturating_duration_since(at).as_secs() >= 1,
        };
        if (self.rate.is_none() && self.quota.is_none()) || self.unwritten == 0 || !due {
            return None;
        }
        let mut later = self.clone();
        later.spend(now, ahead);
        self.unwritten = 0;
        self.written_at = Some(now);
        Some(later.spent(now))
    }

    /// What is spent, exactly.
    #[must_use]
    pub fn spent(&self, now: Instant) -> Spent {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let arrival = self.rate.as_ref().and_then(|rate| rate.arrival);
        let pieces = self.quota.iter().flat_map(|quota| &quota.pieces);
        Spent {
            ahead_ms: arrival.map_or(0, |arrival| millis(arrival.saturating_duration_since(now))),
            begun: pieces.map(|(began, count)| (millis(now.saturating_duration_since(*began)), *count)).collect(),
        }
    }

    /// Takes up what an earlier run had spent `ago`; zero if the clock was set back since.
    pub fn take_up(&mut self, now: Instant, spent: &Spent, ago: Duration) {
        if let Some(rate) = &mut self.rate {
            // Never longer than a full bucket is away, whatever was written.
            let most = rate.rate.every.saturating_mul(rate.rate.burst.saturating_add(10_000));
            let ahead = Duration::from_millis(spent.ahead_ms).min(most).saturating_sub(ago);
            rate.arrival = (!ahead.is_zero()).then(|| now + ahead);
        }
        if let Some(quota) = &mut self.quota {
            quota.pieces.clear();
            let longest = quota.quota.period + quota.piece();
            for (age, count) in &spent.begun {
                let age = Duration::from_millis(*age).saturating_add(ago);
                if age < longest
                    && let Some(began) = now.checked_sub(age)
                {
                    quota.pieces.push_back((began, *count));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn quota(count: u32, seconds: u64) -> Option<Quota> {
        Some(Quota { count, period: Duration::from_secs(seconds) })
    }

    /// A moment that lies late enough for ages to be subtracted from it.
    fn start() -> Instant {
        Instant::now() + Duration::from_secs(1_000_000)
    }

    /// Begins whatever may begin, looking every `step`, until `end`.
    fn drain(budget: &mut Budget, from: Instant, end: Instant, step: Duration) -> Vec<Instant> {
        let (mut now, mut begun) = (from, Vec::new());
        while now < end {
            while budget.open_at(now) <= now {
                budget.take(now);
                begun.push(now);
            }
            now += step;
        }
        begun
    }

    fn most_in(begun: &[Instant], period: Duration) -> usize {
        begun
            .iter()
            .map(|from| begun.iter().filter(|at| **at >= *from && **at - *from < period).count())
            .max()
            .unwrap_or(0)
    }

    #[test]
    fn r17_a_quota_holds_in_any_hour_and_is_used_up() {
        let now = start();
        let mut budget = Budget::new(None, quota(100, 3_600));
        let begun = drain(&mut budget, now, now + Duration::from_secs(4 * 3_600), Duration::from_secs(20));
        assert_eq!(most_in(&begun, Duration::from_secs(3_600)), 100);
        assert!(begun.len() >= 390, "hardly less than is allowed: {}", begun.len());
    }

    #[test]
    fn r17_what_is_left_of_a_quota_is_known() {
        let now = start();
        let mut budget = Budget::new(None, quota(3, 3_600));
        assert_eq!(budget.left(now).map(|(_, left)| left), Some(3));
        (0..2).for_each(|_| budget.take(now));
        assert_eq!(budget.left(now).map(|(_, left)| left), Some(1));
        budget.take(now + Duration::from_secs(1_800));
        assert_eq!(budget.left(now + Duration::from_secs(1_800)).map(|(_, left)| left), Some(0));
        assert!(budget.exhausted_until(now + Duration::from_secs(1_800)).is_some());
        // The first two do not count any more, though nothing has begun since.
        assert_eq!(budget.left(now + Duration::from_secs(3_700)).map(|(_, left)| left), Some(2));
        assert_eq!(Budget::new(None, None).left(now), None);
    }

    #[test]
    fn r17_a_quota_holds_over_restarts_and_clock_steps() {
        let mut now = start();
        let mut kept = Spent::default();
        let mut begun = Vec::new();
        for (ago, stepped) in [(60, 0), (300, 0), (1, 0), (600, 600), (30, 0), (900, 0), (5, 0)] {
            now += Duration::from_secs(ago);
            let mut budget = Budget::new(None, quota(100, 3_600));
            // A clock that was set back tells that no time has passed.
            budget.take_up(now, &kept, Duration::from_secs(ago - stepped));
            // Up to thirty begin, then the agent is killed: only what was written is left.
            let before = now;
            for _ in 0..30 {
                if budget.open_at(now) <= now {
                    budget.take(now);
                    begun.push(now);
                    if let Some(spent) = budget.to_write(now) {
                        kept = spent;
                    }
                }
                now += ms(10);
            }
            assert!(now - before < Duration::from_secs(1));
        }
        let most = most_in(&begun, Duration::from_secs(3_600));
        assert!((90..=100).contains(&most), "at most the quota, and hardly less: {most}");
    }

    #[test]
    fn r17_a_rate_holds_over_a_restart() {
        let now = start();
        let rate = Some(Rate { every: Duration::from_secs(72), burst: 5 });
        let mut budget = Budget::new(rate, None);
        assert_eq!(drain(&mut budget, now, now + ms(1), ms(1)).len(), 5);
        let kept = budget.spent(now);
        let mut after = Budget::new(rate, None);
        after.take_up(now + Duration::from_secs(10), &kept, Duration::from_secs(10));
        assert_eq!(after.open_at(now + Duration::from_secs(10)), now + Duration::from_secs(72));
        // The clock was set back by a year meanwhile: as if no time had passed, and no longer.
        let mut after = Budget::new(rate, None);
        after.take_up(now, &kept, Duration::ZERO);
        assert_eq!(after.open_at(now), now + Duration::from_secs(72));
    }

    #[test]
    fn writes_are_few() {
        let now = start();
        let mut budget = Budget::new(None, quota(1_000, 3_600));
        let mut writes = 0;
        for index in 0..1_000 {
            budget.take(now + ms(index));
            writes += u32::from(budget.to_write(now + ms(index)).is_some());
        }
        assert!((90..=110).contains(&writes), "one for ten uploads at the most: {writes}");
        assert!(Budget::new(None, None).to_write(now).is_none());
    }

    proptest! {
        /// In any stretch of time no more than `burst + elapsed / every` uploads begin.
        #[test]
        fn the_rate_is_never_exceeded(every in 1u64..500, burst in 1u32..6, gaps in prop::collection::vec(0u64..300, 1..80)) {
            let rate = Rate { every: ms(every), burst };
            let mut budget = Budget::new(Some(rate), None);
            let start = Instant::now();
            let mut now = start;
            let mut begun = Vec::new();
            for gap in gaps {
                now += ms(gap);
                if budget.open_at(now) <= now {
                    budget.take(now);
                    begun.push(now);
                }
            }
            for (index, from) in begun.iter().enumerate() {
                for (count, to) in begun[index..].iter().enumerate() {
                    let allowed = u128::from(burst) + (*to - *from).as_millis() / u128::from(every);
                    prop_assert!(count as u128 <= allowed);
                }
            }
        }

        /// Whatever stands in the ledger, a host is never closed for longer than its period.
        #[test]
        fn nothing_written_closes_a_host_for_ever(begun in prop::collection::vec((any::<u64>(), 0u32..2_000), 0..80), ahead_ms in any::<u64>()) {
            let now = start();
            let mut budget = Budget::new(Some(Rate { every: ms(500), burst: 5 }), quota(100, 3_600));
            budget.take_up(now, &Spent { ahead_ms, begun }, Duration::ZERO);
            prop_assert!(budget.open_at(now) <= now + Duration::from_secs(3_600 + 3_600));
        }
    }
}
