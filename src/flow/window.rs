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
const FAILURES: u32 = 5;
const FAILED_PART: u32 = 4;

/// How long what was in vain is not tried again, at first and at most.
const HOLD: Duration = Duration::from_secs(10);
const LONGEST_HOLD: Duration = Duration::from_secs(160);

/// A doubled window that gives less than so much of the smaller one ends slow start, once there are a few successes to tell.
const GAINS: f64 = 1.25;
const FEW: u32 = 6;

/// A trial is kept if it gives so much more. A larger window that gives the same is given up: it would be for nothing.
const BETTER: f64 = 1.03;

/// A trial that is neither better nor worse beyond chance goes on for so many rounds.
const PATIENCE: u32 = 4;

/// A reading so far below the one before means that something has changed.
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
    /// The same with a newer one of the same size.
    fn blend(&self, newer: &Self) -> Self {
        let mean = |old: f64, new: f64| old * 0.6 + new * 0.4;
        Self { score: mean(self.score, newer.score), error: mean(self.error, newer.error) * 0.8, ..*newer }
    }

    /// Whether it is more than `factor` times `other`, beyond what chance explains.
    fn is_above(&self, other: &Self, factor: f64) -> bool {
        let chance = 1.5 * self.error.hypot(other.error);
        self.score > other.score * factor * (1.0 + chance)
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
    /// Successes that open the window and make no reading.
    spare: u32,
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
    /// Was too much the last time.
    last_wall: usize,
    hold: Duration,
    larger_at: Option<Instant>,
    /// The next smaller window is tried in the smallest step.
    fine: bool,
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
            last_wall: usize::MAX,
            hold: HOLD,
            larger_at: None,
            fine: false,
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
    pub fn limit(&mut self, ceiling: usize) {
        if self.ceiling == ceiling.max(1) {
            return;
        }
        self.ceiling = ceiling.max(1);
        self.wall = self.ceiling + 1;
        self.size = self.size.min(self.ceiling);
        self.round = Round::default();
        (self.best, self.trial) = (None, Trial::None);
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
        let size = u32::try_from(self.size).unwrap_or(u32::MAX);
        if self.is_below_wall() {
            // Back to just below what was too much; what lies between was well before.
            self.round.spare += 1;
            if self.round.spare >= size {
                self.resize(now, self.size + 1);
            }
            return self.size != before;
        }
        // What began under another window says nothing about this one.
        if self.changed_at.is_some_and(|at| sample.began < at) {
            return false;
        }
        let round = &mut self.round;
        if sample.full {
            round.successes += 1;
            round.sum += ratio;
            round.squares += ratio * ratio;
        } else if self.slow_start {
            round.spare += 1;
        }
        if self.slow_start {
            if round.successes + round.spare >= size {
                self.double(now);
            }
        } else if round.successes >= self.enough() {
            self.judge(now);
        }
        self.size != before
    }

    /// Failures have closed it further than to just below where they began.
    fn is_below_wall(&self) -> bool {
        !self.slow_start && self.wall <= self.ceiling && self.size + 1 < self.wall && matches!(self.trial, Trial::None)
    }

    /// How many successes make a reading.
    fn enough(&self) -> u32 {
        ROUND.max(u32::try_from(self.size * 2).unwrap_or(u32::MAX))
    }

    /// Slow start goes on, unless the last doubling has brought nothing.
    fn double(&mut self, now: Instant) {
        let reading = (self.round.successes > 1).then(|| self.read());
        if let (Some(reading), Some(before)) = (reading, self.best)
            && self.round.successes >= FEW
            && reading.score < before.score * GAINS
        {
            self.slow_start = false;
            self.best = None;
            return self.resize(now, before.size);
        }
        self.best = reading;
        self.resize(now, (self.size * 2).min(self.ceiling));
        if self.size == self.ceiling {
            self.slow_start = false;
            self.best = None;
            self.smaller_at = Some(now + HOLD);
        }
    }

    /// An attempt failed in a way that passes. Tells whether the window changed.
    pub fn failed(&mut self, now: Instant, began: Instant) -> bool {
        if self.changed_at.is_some_and(|at| began < at) || self.size == 1 {
            return false;
        }
        self.round.failures += 1;
        let Round { successes, failures, spare, .. } = self.round;
        let outcomes = (successes + spare + failures).max(ROUND);
        if failures < FAILURES || failures * FAILED_PART < outcomes {
            return false;
        }
        self.slow_start = false;
        (self.best, self.trial) = (None, Trial::None);
        // It is not opened so far again for a while, and for longer if that was too much before.
        let again = self.size + 1 >= self.last_wall;
        self.hold = if again { (self.hold * 2).min(LONGEST_HOLD) } else { HOLD };
        (self.wall, self.last_wall) = (self.size, self.size);
        self.larger_at = Some(now + self.hold);
        self.resize(now, (self.size * 3 / 4).max(1));
        true
    }

    /// Reads the round and decides what to try next.
    fn judge(&mut self, now: Instant) {
        let reading = self.read();
        let last_word = self.round.successes >= self.enough() * PATIENCE;
        match self.trial {
            Trial::None => self.go_on(now, reading),
            Trial::Larger(before) | Trial::Smaller(before) => {
                let (better, worse) = (reading.is_above(&before, BETTER), before.is_above(&reading, 1.0 / BETTER));
                if better || (last_word && reading.score > before.score * BETTER) {
                    self.keep(now, reading);
                } else if worse || last_word {
                    self.give_up(now, before);
                }
            }
        }
    }

    /// The trial was worth it: what is good may become better still.
    fn keep(&mut self, now: Instant, reading: Reading) {
        match std::mem::replace(&mut self.trial, Trial::None) {
            Trial::Smaller(_) => {
                self.larger_at = Some(now + self.hold);
                self.try_smaller(now, reading);
            }
            Trial::Larger(_) | Trial::None => {
                self.smaller_at = Some(now + self.hold);
                self.best = None;
                self.go_on(now, reading);
            }
        }
    }

    /// The trial was in vain: back to what it was.
    fn give_up(&mut self, now: Instant, before: Reading) {
        let again = Some(now + self.hold);
        match std::mem::replace(&mut self.trial, Trial::None) {
            Trial::Larger(_) => self.larger_at = again,
            // A quarter less was too little: one less may be right.
            Trial::Smaller(_) if self.size + 1 < before.size => self.fine = true,
            Trial::Smaller(_) | Trial::None => (self.smaller_at, self.fine) = (again, false),
        }
        self.best = Some(before);
        self.hold = (self.hold * 2).min(LONGEST_HOLD);
        self.resize(now, before.size);
    }

    fn go_on(&mut self, now: Instant, reading: Reading) {
        let due = |at: Option<Instant>| at.is_none_or(|at| at <= now);
        if self.best.is_some_and(|best| best.is_above(&reading, 1.0 / CHANGED)) {
            // Something is different from before: what was in vain then may not be now.
            (self.hold, self.larger_at, self.smaller_at, self.best) = (HOLD, None, None, None);
            self.round = Round::default();
            return;
        }
        let reading = self.best.filter(|best| best.size == reading.size).map_or(reading, |best| best.blend(&reading));
        if due(self.larger_at) {
            self.wall = self.ceiling + 1;
        }
        if due(self.smaller_at) && self.size > 1 {
            self.try_smaller(now, reading);
        } else if self.size + 1 < self.wall && due(self.larger_at) {
            self.best = Some(reading);
            self.trial = Trial::Larger(reading);
            let step = (self.size / 4).max(1);
            self.resize(now, (self.size + step).min(self.wall - 1));
        } else {
            self.best = Some(reading);
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
        let size = if std::mem::take(&mut self.fine) { self.size - 1 } else { self.size * 3 / 4 };
        self.resize(now, size.max(1));
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
