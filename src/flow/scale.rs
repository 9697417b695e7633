//! How many workers the pool has: between `min_workers` and `max_workers`, by load. Pure; the time is passed in.

use std::time::Duration;

use tokio::time::Instant;

/// All workers must be busy, with more to do, for so long before there are more of them.
const GROW_AFTER: Duration = Duration::from_millis(500);

/// Workers must be idle for so long before there are fewer of them.
const SHRINK_AFTER: Duration = Duration::from_secs(30);

/// The number of workers.
#[derive(Clone, Debug)]
pub struct Scale {
    min: usize,
    max: usize,
    /// How many there were at first.
    start: usize,
    workers: usize,
    /// Since when all are busy and somebody waits who could start.
    short_since: Option<Instant>,
    /// Since when some are idle, and the most that were busy since then.
    idle_since: Option<(Instant, usize)>,
}

impl Scale {
    /// A pool that begins with `workers`; all three are at least 1 and in order.
    #[must_use]
    pub fn new(min: usize, workers: usize, max: usize) -> Self {
        let workers = workers.max(1);
        Self {
            min: min.clamp(1, workers),
            max: max.max(workers),
            start: workers,
            workers,
            short_since: None,
            idle_since: None,
        }
    }

    /// Takes over what `other` was made with. Tells whether that is something else.
    pub fn follow(&mut self, other: Self) -> bool {
        let is_other = (self.min, self.start, self.max) != (other.min, other.start, other.max);
        if is_other {
            *self = other;
        }
        is_other
    }

    /// How many there are.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// The most there can be.
    #[must_use]
    pub fn max(&self) -> usize {
        self.max
    }

    /// When [`Scale::observe`] should be asked again if nothing else happens.
    #[must_use]
    pub fn next_look(&self) -> Option<Instant> {
        let grow = self.short_since.filter(|_| self.workers < self.max).map(|since| since + GROW_AFTER);
        let shrink = self.idle_since.filter(|_| self.workers > self.min).map(|(since, _)| since + SHRINK_AFTER);
        [grow, shrink].into_iter().flatten().min()
    }

    /// `busy` workers are in use, and `wanted` says whether one more would be used at once. Tells whether the number
    /// changed.
    pub fn observe(&mut self, now: Instant, busy: usize, wanted: bool) -> bool {
        let before = self.workers;
        if busy >= self.workers {
            self.idle_since = None;
            match self.short_since {
                _ if !wanted => self.short_since = None,
                None => self.short_since = Some(now),
                Some(since) if now.saturating_duration_since(since) >= GROW_AFTER => {
                    self.workers = (self.workers + (self.workers / 2).max(1)).min(self.max);
                    self.short_since = Some(now);
                }
                Some(_) => {}
            }
        } else {
            self.short_since = None;
            let (since, most) = self.idle_since.map_or((now, busy), |(since, most)| (since, most.max(busy)));
            self.idle_since = Some((since, most));
            if now.saturating_duration_since(since) >= SHRINK_AFTER {
                self.workers = most.max(self.min).min(self.workers);
                self.idle_since = Some((now, busy));
            }
        }
        self.workers != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn workers_alone_is_a_fixed_number() {
        let now = Instant::now();
        let mut scale = Scale::new(8, 8, 8);
        for step in 0..200 {
            assert!(!scale.observe(now + ms(step * 500), if step < 100 { 8 } else { 0 }, step < 100));
        }
        assert_eq!((scale.workers(), scale.next_look()), (8, None));
    }

    #[test]
    fn it_grows_while_all_are_busy_and_shrinks_to_what_was_needed() {
        let mut now = Instant::now();
        let mut scale = Scale::new(2, 4, 32);
        let mut sizes = vec![4];
        for _ in 0..60 {
            if scale.observe(now, scale.workers(), true) {
                sizes.push(scale.workers());
            }
            now += ms(100);
        }
        assert_eq!(sizes, [4, 6, 9, 13, 19, 28, 32]);
        for _ in 0..600 {
            let _ = scale.observe(now, 5, false);
            now += ms(100);
        }
        assert_eq!(scale.workers(), 5);
        for _ in 0..700 {
            let _ = scale.observe(now, 0, false);
            now += ms(100);
        }
        assert_eq!(scale.workers(), 2);
    }

    #[test]
    fn nobody_is_hired_for_jobs_that_could_not_start() {
        let now = Instant::now();
        let mut scale = Scale::new(2, 4, 32);
        for step in 0..100 {
            assert!(!scale.observe(now + ms(step * 100), 4, false));
        }
    }
}
