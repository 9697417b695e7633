//! What is drawn once for an attempt: its moment and its randomness. Every try of a request sends the same.

use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};
use ulid::Ulid;

use crate::clock::WallTime;

/// The moment and the randomness of one attempt.
#[derive(Clone, Debug)]
pub struct Draw {
    seed: [u8; 16],
    now: WallTime,
    zone: TimeZone,
}

impl Draw {
    /// A fresh one for an attempt that begins `now`, with the machine's time zone.
    #[must_use]
    pub fn new(now: WallTime) -> Self {
        // 160 bits from the system's source of randomness: whoever sees what was drawn cannot tell the rest.
        let mut hasher = blake3::Hasher::new();
        for _ in 0..2 {
            hasher.update(&Ulid::generate().random().to_le_bytes());
        }
        let mut seed = [0; 16];
        hasher.finalize_xof().fill(&mut seed);
        Self { seed, now, zone: TimeZone::system() }
    }

    /// One that is always the same, in UTC: for tests and previews.
    #[must_use]
    pub fn fixed(seed: [u8; 16], now: WallTime) -> Self {
        Self { seed, now, zone: TimeZone::UTC }
    }

    /// The random number that belongs to `place`: always the same one.
    #[must_use]
    pub fn number(&self, place: u64) -> u64 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.seed).update(&place.to_le_bytes());
        let mut bytes = [0; 8];
        hasher.finalize_xof().fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// A random position in a list of `len` at least one, that belongs to `place`.
    #[must_use]
    pub fn index(&self, place: u64, len: usize) -> usize {
        let len = u64::try_from(len.max(1)).unwrap_or(1);
        usize::try_from(self.number(place) % len).unwrap_or(0)
    }

    /// The moment in local time.
    #[must_use]
    pub fn local_time(&self) -> ZonedDateTime {
        Timestamp::from_millisecond(self.now.millis()).unwrap_or_default().to_zoned_datetime(self.zone.clone())
    }
}

impl Default for Draw {
    fn default() -> Self {
        Self::fixed([0; 16], WallTime::from_millis(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_draws_each_place_once() {
        let draw = Draw::new(WallTime::from_millis(0));
        let again = draw.clone();
        assert_eq!(draw.number(7), again.number(7));
        assert_ne!(draw.number(7), draw.number(8));
        assert_ne!(draw.number(7), Draw::new(WallTime::from_millis(0)).number(7), "another attempt, another draw");
        assert!((0..100).all(|place| draw.index(place, 3) < 3) && draw.index(1, 0) == 0);
    }
}
