//! How long something may take: a fixed time, and for a body that keeps moving the time that its size needs on top.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::Progress;

/// A body that has not moved for so long, or for a quarter of the fixed time, does not keep moving.
const STEADY: Duration = Duration::from_secs(10);

/// How long an answer is waited for after a body that was given more time.
const ANSWER: Duration = Duration::from_secs(30);

/// How often it is looked whether a body still keeps moving.
const LOOK: Duration = Duration::from_secs(1);

/// The most that is given on top, however large the file is.
const MOST: Duration = Duration::from_secs(6 * 3600);

/// A timer that comes so late was not waited for: this process was stopped, or got no processor.
const LATE: Duration = Duration::from_secs(1);

/// What arrived meanwhile is looked at within this time.
const AWAKE_AGAIN: Duration = Duration::from_secs(3);

/// How often one wait is made longer for that.
const TIMES: u32 = 5;

/// Whether this process stood still (`SIGSTOP`, a debugger, a frozen container) when a time was over. An answer may have
/// arrived meanwhile, and nobody is to blame for it that it was not looked at.
#[derive(Debug, Default)]
pub(super) struct StoodStill {
    times: u32,
}

impl StoodStill {
    /// How much longer to wait after a timer that should have come at `until`, if it came too late to mean anything.
    pub(super) fn since(&mut self, until: Instant) -> Option<Duration> {
        if self.times == TIMES || until.elapsed() < LATE {
            return None;
        }
        self.times += 1;
        Some(AWAKE_AGAIN)
    }
}

/// The time that a request or an attempt has: `base`, and as long as a body moves at `min_rate` bytes a second at least,
/// the time that it needs at this rate on top. What does not move gets nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// The fixed time.
    pub base: Duration,
    /// Bytes per second; 0: nothing is given on top.
    pub min_rate: u64,
}

impl From<Duration> for Allowance {
    fn from(base: Duration) -> Self {
        Self { base, min_rate: 0 }
    }
}

impl Allowance {
    /// Returns when the time of what began at `began` is over.
    pub async fn over(self, began: Instant, progress: &Progress) {
        let mut until = began + self.base;
        let mut stood_still = StoodStill::default();
        loop {
            sleep_until(until).await;
            if let Some(grace) = stood_still.since(until) {
                until = Instant::now() + grace.min(self.base);
                continue;
            }
            match self.longer(began, Instant::now(), progress) {
                Some(later) => until = later,
                None => return,
            }
        }
    }

    /// Until when it may go on although the fixed time is over.
    fn longer(self, began: Instant, now: Instant, progress: &Progress) -> Option<Instant> {
        let (total, sent) = (progress.total(), progress.sent());
        if self.min_rate == 0 || total == 0 {
            return None;
        }
        let extra = Duration::from_secs_f64(total as f64 / self.min_rate as f64).min(MOST);
        let latest = began + self.base + extra;
        if progress.all_sent() {
            let sent_at = progress.all_sent_at()?;
            let answer_by = (sent_at + ANSWER.min(self.base)).min(latest);
            return Some(answer_by).filter(|by| sent_at > began + self.base && *by > now);
        }
        let moving = progress.body_age().as_secs_f64();
        let keeps_up = progress.idle() < STEADY.min(self.base / 4) && sent as f64 >= self.min_rate as f64 * moving;
        Some((now + LOOK).min(latest)).filter(|_| keeps_up && now < latest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{advance, timeout};

    /// Sends `total` bytes in steps of a second at `rate`, up to `stop`; how long it may go on.
    async fn allowed(total: u64, rate: u64, stop: u64) -> Duration {
        let progress = Progress::new();
        let began = Instant::now();
        progress.start_body(total);
        let allowance = Allowance { base: Duration::from_secs(120), min_rate: 64 << 10 };
        let over = allowance.over(began, &progress);
        let mut over = std::pin::pin!(over);
        loop {
            if timeout(Duration::from_secs(1), &mut over).await.is_ok() {
                return began.elapsed();
            }
            let left = total.min(stop) - progress.sent();
            if left > 0 {
                progress.add_sent(rate.min(left));
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn r14_a_body_that_keeps_moving_gets_the_time_that_it_needs() {
        let seconds = |allowed: Duration| allowed.as_secs();
        let mib = |n: u64| n << 20;
        // 30 MiB at 100 KiB a second: 307 s, and then the answer is waited for.
        assert_eq!(seconds(allowed(mib(30), 100 << 10, u64::MAX).await), 308 + 30);
        // Slower than the rate: no more than the fixed time.
        assert_eq!(seconds(allowed(mib(30), 50 << 10, u64::MAX).await), 120);
        // Fast, and done before the fixed time is over: no more than that.
        assert_eq!(seconds(allowed(mib(10), 1 << 20, u64::MAX).await), 120);
        // It stops at 20 MiB, after 205 s.
        let stopped = seconds(allowed(mib(30), 100 << 10, mib(20)).await);
        assert!((205..=216).contains(&stopped), "{stopped}");
        // Never more than the size needs at this rate: 20 MiB take 320 s.
        advance(Duration::from_secs(1)).await;
        assert!(seconds(allowed(mib(20), 65 << 10, u64::MAX).await) <= 120 + 320);
    }
}
