//! How long to wait before the next try: pure arithmetic, the jitter is passed in.
//!
//! Used twice with different numbers: between the requests of one attempt (`[retry]`) and between the attempts of one
//! file (`[cooldown]`).

use std::time::Duration;

/// An exponential back-off: `first`, `first × factor`, … never above `max`.
#[derive(Clone, Debug, PartialEq)]
pub struct Backoff {
    first: Duration,
    factor: f64,
    max: Duration,
}

/// Why a back-off was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBackoff {
    /// The first delay is zero.
    #[error("the first delay must be longer than zero")]
    ZeroFirst,
    /// `max` is below `first`.
    #[error("the longest delay is shorter than the first one")]
    MaxBelowFirst,
    /// The factor is below one or not a number.
    #[error("the factor must be a number of at least 1.0")]
    BadFactor,
}

impl Backoff {
    /// Checks the three numbers once, so that [`Backoff::delay`] needs no error.
    ///
    /// # Errors
    /// When the first delay is zero, the longest is shorter than the first, or the factor is below one.
    pub fn try_new(first: Duration, factor: f64, max: Duration) -> Result<Self, InvalidBackoff> {
        if first.is_zero() {
            return Err(InvalidBackoff::ZeroFirst);
        }
        if max < first {
            return Err(InvalidBackoff::MaxBelowFirst);
        }
        if !factor.is_finite() || factor < 1.0 {
            return Err(InvalidBackoff::BadFactor);
        }
        Ok(Self { first, factor, max })
    }

    /// The delay after `failures` failures (0 counts as 1), with `jitter` in `0.0..=1.0` spreading it over ±10 %;
    /// 0.5 is the exact value. The result lies in `first × 0.9 ..= max`.
    #[must_use]
    pub fn delay(&self, failures: u32, jitter: f64) -> Duration {
        let exponent = i32::try_from(failures.saturating_sub(1)).unwrap_or(i32::MAX);
        let exact = self.first.as_secs_f64() * self.factor.powi(exponent);
        let spread = exact * (0.9 + 0.2 * jitter.clamp(0.0, 1.0));
        let capped = spread.min(self.max.as_secs_f64());
        Duration::from_secs_f64(capped)
    }

    /// The first delay.
    #[must_use]
    pub fn first(&self) -> Duration {
        self.first
    }

    /// The longest delay that [`Backoff::delay`] can give.
    #[must_use]
    pub fn max(&self) -> Duration {
        self.max
    }

    /// What each delay is multiplied by to get the next.
    #[must_use]
    pub fn factor(&self) -> f64 {
        self.factor
    }
}

/// The next delay of a decorrelated back-off: random between `min` and three times the `previous` one, never above `max`.
/// Spreads what would otherwise come back in lockstep, and grows. `jitter` in `0.0..=1.0`.
#[must_use]
pub fn decorrelated(previous: Duration, min: Duration, max: Duration, jitter: f64) -> Duration {
    let high = previous.saturating_mul(3).max(min).min(max.saturating_mul(3));
    let spread = high.saturating_sub(min).mul_f64(jitter.clamp(0.0, 1.0));
    min.saturating_add(spread).min(max.max(min))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seconds(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn doubles_from_first_to_max() {
        let backoff = Backoff::try_new(seconds(2), 2.0, seconds(30)).expect("valid");
        let delays: Vec<u64> = (0..7).map(|n| backoff.delay(n, 0.5).as_secs()).collect();
        assert_eq!(delays, [2, 2, 4, 8, 16, 30, 30]);
    }

    #[test]
    fn refuses_what_could_not_work() {
        assert_eq!(Backoff::try_new(seconds(0), 2.0, seconds(1)), Err(InvalidBackoff::ZeroFirst));
        assert_eq!(Backoff::try_new(seconds(2), 2.0, seconds(1)), Err(InvalidBackoff::MaxBelowFirst));
        assert_eq!(Backoff::try_new(seconds(1), 0.5, seconds(1)), Err(InvalidBackoff::BadFactor));
        assert_eq!(Backoff::try_new(seconds(1), f64::NAN, seconds(1)), Err(InvalidBackoff::BadFactor));
    }

    #[test]
    fn decorrelated_delays_grow_to_their_maximum_and_follow_the_jitter() {
        let (min, max) = (seconds(5), seconds(120));
        let mut previous = min;
        let mut delays = Vec::new();
        for _ in 0..6 {
            previous = decorrelated(previous, min, max, 0.5);
            delays.push(previous.as_secs());
        }
        assert_eq!(delays, [10, 17, 28, 45, 70, 108]);
        assert_eq!((decorrelated(max, min, max, 0.0), decorrelated(max, min, max, 1.0)), (min, max));
    }

    proptest! {
        #[test]
        fn stays_between_its_bounds_and_never_shrinks(failures in 0u32..=u32::MAX, jitter in 0.0f64..=1.0) {
            let backoff = Backoff::try_new(seconds(5), 2.0, seconds(21_600)).expect("valid");
            let delay = backoff.delay(failures, jitter);
            prop_assert!(delay >= Duration::from_millis(4_500) && delay <= seconds(21_600));
            prop_assert!(backoff.delay(failures.saturating_add(1), 0.5) >= backoff.delay(failures, 0.5));
        }
    }
}
