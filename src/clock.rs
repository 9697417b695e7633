//! Time: the only place that asks the machine what time it is.
//!
//! Two clocks, never mixed. *Monotonic* time (`tokio::time::Instant`) measures how long something takes: deadlines,
//! stalls, settle quiet time. It lives in memory. *Wall* time ([`WallTime`]) says when something shall happen even
//! after a restart: cooldowns, host pauses, record stamps. It lives in the ledger and the manifest, and whoever reads
//! a persisted wall time clamps it to the length that was configured, because the wall clock may jump.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::time::Instant;

/// A moment of wall time in whole milliseconds since 1970-01-01T00:00:00Z. Shown as RFC 3339 with milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime(i64);

impl WallTime {
    /// A wall time from milliseconds since the Unix epoch.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// The moment `delay` after this one, saturating.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(delay.as_millis()).unwrap_or(i64::MAX)))
    }

    /// How long this moment lies behind `earlier`; zero if it does not.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl From<std::time::SystemTime> for WallTime {
    /// A time that somebody else has told.
    fn from(time: std::time::SystemTime) -> Self {
        let since = time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Timestamp::from_millisecond(self.0) {
            Ok(stamp) => write!(f, "{stamp:.3}"),
            Err(_) => write!(f, "{} ms", self.0),
        }
    }
}

impl Serialize for WallTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for WallTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let stamp = Timestamp::deserialize(deserializer)?;
        Ok(Self(stamp.as_millisecond()))
    }
}

/// Where the agent gets wall time from. Monotonic time always comes from tokio, which tests can pause.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's clock.
    System,
    /// A wall clock that starts at a given moment and moves with tokio's (possibly paused) monotonic clock: for tests.
    Virtual {
        /// Wall time at `epoch`.
        start: WallTime,
        /// The monotonic moment that `start` belongs to.
        epoch: Instant,
    },
}

impl Clock {
    /// A clock for tests: `start` now, then driven by tokio's clock.
    #[must_use]
    pub fn starting_at(start: WallTime) -> Self {
        Self::Virtual { start, epoch: Instant::now() }
    }

    /// The wall time now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    pub fn now(&self) -> WallTime {
        match self {
            Self::System => std::time::SystemTime::now().into(),
            Self::Virtual { start, epoch } => start.after(epoch.elapsed()),
        }
    }
}

/// A duration as people write it, and as the configuration takes it: `3m`, `1h 30m`, `250ms`.
#[must_use]
pub fn human(duration: Duration) -> String {
    match jiff::SignedDuration::try_from(duration) {
        Ok(signed) => format!("{signed:#}"),
        Err(_) => format!("{duration:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_in_the_configuration() {
        let shown = [180_000, 5_400_000, 250, 90_000].map(|ms| human(Duration::from_millis(ms)));
        assert_eq!(shown, ["3m", "1h 30m", "250ms", "1m 30s"]);
    }

    #[test]
    fn wall_time_is_shown_and_read_as_rfc_3339_with_milliseconds() {
        let time = WallTime::from_millis(1_795_435_200_123);
        let json = serde_json::to_string(&time).expect("a string");
        assert_eq!(json, "\"2026-11-23T12:00:00.123Z\"");
        assert_eq!(serde_json::from_str::<WallTime>(&json).expect("reads back"), time);
    }

    #[test]
    fn since_never_goes_below_zero() {
        let (a, b) = (WallTime::from_millis(5), WallTime::from_millis(9));
        assert_eq!(b.since(a), Duration::from_millis(4));
        assert_eq!(a.since(b), Duration::ZERO);
    }
}
