//! How many attempts one host bears at once: found out by feedback. Pure; the time is passed in.
//!
//! *Slow start*: the window doubles with every windowful of successes (1, 2, 4 …) until something gets worse or the ceiling
//! is reached. Then *steady*: after every round of successes the throughput (window ÷ mean duration) is read, and compared
//! with what smaller and larger windows gave. A larger window is kept unless it is worse, a smaller one only if it is
//! better; what was tried in vain is tried again later and later. Failures close the window by a quarter at once, and if
//! most attempts failed, it stays below what was too much for a while.
//!
//! Durations are compared with what files of that size usually take, so that a large file is not mistaken for a slow
//! host; and readings are compared with regard to how much they scatter, so that noise is not mistaken for news.

use std::time::Duration;

use tokio::time::Instant;

/// The window of a host that has not answered yet: enough to fill a fast host in a few round trips, and little enough
/// that several silent hosts cannot take the pool.
pub const START_WINDOW: usize = 3;

/// A reading is made of so many successes at least; a large window needs two windowfuls.
const ROUND: u32 = 16;

/// So many failures are needed to close the window, and this part of the round: fewer are chance.
const FAILURES: u32 = 4;
const FAILED_PART: u32 = 5;

/// How long what was in vain is not tried again, at first and at most.
const HOLD: Duration = Duration::from_secs(10);
const LONGEST_HOLD: Duration = Duration::from_secs(160);

/// A larger window that gives so much less than the smaller one is given up.
const WORSE: f64 = 0.9;

/// A smaller window that gives so much more is kept.
const BETTER: f64 = 1.05;

/// A reading so far below the best one means that something has changed.
const CHANGED: f64 = 0.8;

/// Files are told apart by the power of two of their size; 1 TiB and more are all the same.
const SIZES: usize = 41;

/// What files of a size usually take is the mean of the first so many.
const USUAL: u32 = 8;

/// A finished upload.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// When its attempt began.
    pub began: Instant,
    /// How long it took.
    pub took: Duration,
    /// The size of the file.
    pub bytes: u64,
    /// The window was full: otherwise its size says nothing.
    pub full: bool,
}

/// What one window size gives.
#[derive(Clone, Copy, Debug)]
struct Reading {
    size: usize,
    /// Throughput, in files of usual duration.
    score: f64,
    /// How much it may be wrong, as a part of it.
    error: f64,
}

impl Reading {
    /// Whether it is below `factor` times `other`, beyond what chance explains.
    fn is_below(&self, factor: f64, other: &Self) -> bool {
        let chance = 2.0 * self.error.hypot(other.error);
        self.score < other.score * factor.min(1.0 - chance)
    }

    /// Whether it is above `factor` times `other`, beyond what chance explains.
    fn is_above(&self, factor: f64, other: &Self) -> bool {
        let chance = 2.0 * self.error.hypot(other.error);
        self.score > other.score * factor.max(1.0 + chance)
    }
}

/// What is being tried.
#[derive(Clone, Copy, Debug)]
enum Trial {
    None,
    Larger(Reading),
    Smaller(Reading),
}

/// What happened since the window changed last or was read.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    successes: u32,
    failures: u32,
    sum: f64,
    squares: f64,
}

/// The window of one host.
#[derive(Clone, Debug)]
pub struct Window {
    ceiling: usize,
    size: usize,
    slow_start: bool,
    changed_at: Option<Instant>,
    round: Round,
    best: Option<Reading>,
    trial: Trial,
    /// Too much, for the time being.
    wall: usize,
    hold: Duration,
    larger_at: Option<Instant>,
    smaller_at: Option<Instant>,
    usual: Vec<(u32, Duration)>,
}

impl Window {
    /// The window of a host that was not used yet. `ceiling` is at least 1.
    #[must_use]
    pub fn new(ceiling: usize) -> Self {
        let ceiling = ceiling.max(1);
        Self {
            ceiling,
            size: START_WINDOW.min(ceiling),
            slow_start: true,
            changed_at: None,
            round: Round::default(),
            best: None,
            trial: Trial::None,
            wall: ceiling + 1,
            hold: HOLD,
            larger_at: None,
            smaller_at: None,
            usual: vec![(0, Duration::ZERO); SIZES],
        }
    }

    /// How many attempts may run at once.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// How far it can open.
    #[must_use]
    pub fn ceiling(&self) -> usize {
        self.ceiling
    }

    /// Another ceiling from now on.
    pub fn limit(&mut self, now: Instant, ceiling: usize) {
        self.ceiling = ceiling.max(1);
        self.wall = self.ceiling + 1;
        self.resize(now, self.size.min(self.ceiling));
    }

    /// Slow start from one: the host comes back from a rest.
    pub fn restart(&mut self, now: Instant) {
        self.slow_start = true;
        (self.best, self.trial) = (None, Trial::None);
        (self.larger_at, self.smaller_at, self.hold) = (None, None, HOLD);
        self.wall = self.ceiling + 1;
        self.resize(now, 1);
    }

    /// An upload succeeded. Tells whether the window changed.
    pub fn succeeded(&mut self, now: Instant, sample: &Sample) -> bool {
        let ratio = self.ratio(sample);
        let before = self.size;
        if self.slow_start {
            self.round.successes += u32::from(sample.full);
            if self.round.successes as usize >= self.size {
                self.resize(now, (self.size * 2).min(self.ceiling));
                self.slow_start = self.size < self.ceiling;
            }
            return self.size != before;
        }
        // What began under another window says nothing about this one.
        if !sample.full || self.changed_at.is_some_and(|at| sample.began < at) {
            return false;
        }
        self.round.successes += 1;
        self.round.sum += ratio;
        self.round.squares += ratio * ratio;
        let enough = ROUND.max(u32::try_from(self.size * 2).unwrap_or(u32::MAX));
        if self.round.successes >= enough {
            self.judge(now);
        }
        self.size != before
    }

    /// An attempt failed in a way that passes. Tells whether the window changed.
    pub fn failed(&mut self, now: Instant, began: Instant) -> bool {
        if self.changed_at.is_some_and(|at| began < at) || self.size == 1 {
            return false;
        }
        self.round.failures += 1;
        let Round { successes, failures, .. } = self.round;
        let outcomes = (successes + failures).max(ROUND);
        if failures < FAILURES || failures * FAILED_PART < outcomes {
            return false;
        }
        self.slow_start = false;
        (self.best, self.trial) = (None, Trial::None);
        if failures >= successes {
            // Most of what this window allows fails: it is not opened so far again for a while.
            self.wall = self.size;
            self.larger_at = Some(now + self.hold);
            self.hold = (self.hold * 2).min(LONGEST_HOLD);
        }
        self.resize(now, (self.size * 3 / 4).max(1));
        true
    }

    /// Reads the round and decides what to try next.
    fn judge(&mut self, now: Instant) {
        let reading = self.read();
        match std::mem::replace(&mut self.trial, Trial::None) {
            Trial::Larger(smaller) if reading.is_below(WORSE, &smaller) => {
                self.give_up(now, smaller);
                self.larger_at = Some(now + self.hold);
            }
            Trial::Smaller(larger) if !reading.is_above(BETTER, &larger) => {
                self.give_up(now, larger);
                self.smaller_at = Some(now + self.hold);
            }
            // Less was more: even less may be even more.
            Trial::Smaller(_) => {
                self.larger_at = Some(now + self.hold);
                self.try_smaller(now, reading);
            }
            Trial::Larger(_) | Trial::None => self.go_on(now, reading),
        }
    }

    fn go_on(&mut self, now: Instant, reading: Reading) {
        let due = |at: Option<Instant>| at.is_none_or(|at| at <= now);
        let has_changed = self.best.is_some_and(|best| reading.is_below(CHANGED, &best));
        self.best = Some(reading);
        if due(self.larger_at) {
            self.wall = self.ceiling + 1;
        }
        if has_changed || (self.size == self.ceiling && due(self.smaller_at)) {
            self.try_smaller(now, reading);
        } else if self.size + 1 < self.wall && (due(self.larger_at) || self.wall <= self.ceiling) {
            self.trial = Trial::Larger(reading);
            let step = (self.size / 4).max(1);
            self.resize(now, (self.size + step).min(self.wall - 1));
        } else {
            self.round = Round::default();
        }
    }

    fn try_smaller(&mut self, now: Instant, reading: Reading) {
        self.best = Some(reading);
        if self.size == 1 {
            self.round = Round::default();
            return;
        }
        self.trial = Trial::Smaller(reading);
        self.resize(now, (self.size * 3 / 4).max(1));
    }

    /// The trial was in vain: back to what it was.
    fn give_up(&mut self, now: Instant, reading: Reading) {
        self.best = Some(reading);
        self.hold = (self.hold * 2).min(LONGEST_HOLD);
        self.resize(now, reading.size);
    }

    fn resize(&mut self, now: Instant, size: usize) {
        self.round = Round::default();
        if self.size != size {
            self.changed_at = Some(now);
        }
        self.size = size;
    }

    fn read(&self) -> Reading {
        let Round { successes, sum, squares, .. } = self.round;
        let count = f64::from(successes);
        let mean = (sum / count).max(f64::MIN_POSITIVE);
        let variance = (squares / count - mean * mean).max(0.0);
        let size = u32::try_from(self.size).map_or(f64::MAX, f64::from);
        Reading { size: self.size, score: size / mean, error: (variance / count).sqrt() / mean }
    }

    /// How long it took, in units of what files of this size usually take.
    fn ratio(&mut self, sample: &Sample) -> f64 {
        let class = (64 - sample.bytes.leading_zeros() as usize).min(SIZES - 1);
        let (count, sum) = &mut self.usual[class];
        if *count < USUAL {
            *count += 1;
            *sum += sample.took;
        }
        let usual = sum.as_secs_f64() / f64::from(*count);
        if usual > 0.0 { sample.took.as_secs_f64() / usual } else { 1.0 }
    }
}
